/* SPDX-License-Identifier: Apache-2.0
 *
 * See cwb_references.h. A reference is made independent of its place first: an identity, which is the number of a name in the list
 * or that of an initializer. Then lost names are invented, and all identities replaced.
 */
#include "cwb_references.h"

#include "cwb_onnx.h"

#include <string.h>

enum { INPUT = 1, OUTPUT, OPERATOR = 4, ATTRIBUTE, DOMAIN = 7 };                           /* fields of NodeProto */
enum { BODY = 6, BODIES = 11 };                                                           /* of AttributeProto */
enum { NODES = 1, INITIALIZERS = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };                /* of GraphProto */
enum { GRAPH = 7, FUNCTIONS = 25 };                                                       /* of ModelProto */
enum { FUNCTION_INPUT = 4, FUNCTION_OUTPUT, FUNCTION_NODES = 7, FUNCTION_DEFAULTS = 11 }; /* of FunctionProto */
enum { VALUE_NAME = 1, TENSOR_NAME = 8, DIGITS = 9, OPERATOR_CHARACTERS = 32 };

/* Identities, as they stand in cwb_field.more: 1 + the number of a name in the list, or one of these, or 0 for what is no reference. */
#define INITIALIZER UINT32_C(0x80000000) /* and its number */
#define LITERAL UINT32_MAX

typedef enum { IDENTIFY, INVENT, REPLACE } pass_kind;

typedef struct {
    cwb_tree *tree;
    pass_kind pass;
    uint32_t known; /* names in the list */
    int64_t last;   /* number of the initializer that was meant last, or -1 */
    cwb_texts initializers, names, taken;
    const cwb_texts *strings;
    uint64_t left; /* bytes of names that may follow */
    int error;
} resolver;

static void fail(resolver *r, int error)
{
    r->error = r->error == CWB_OK ? error : r->error;
}

/* A number of at most nine digits, of which there may be none: then it is `missing`. -1 if it is something else. */
static int64_t number_in(const uint8_t *data, size_t size, int64_t missing)
{
    int64_t value = 0;
    size_t i;

    for (i = 0; i < size; i++) {
        if (i == DIGITS || data[i] < '0' || data[i] > '9') {
            return -1;
        }
        value = 10 * value + data[i] - '0';
    }
    return size > 0 ? value : missing;
}

/* The number of a name of the list, 0 for a new one; -1 if it is in another form than the shortest. */
static int64_t plain_number(const cwb_field *field)
{
    return field->data[0] == '0' && field->size > 1 ? -1 : number_in(field->data, field->size, -1);
}

static uint32_t identify(resolver *r, const cwb_field *field)
{
    int64_t number;

    if (field->data[0] == '\'') {
        return LITERAL;
    }
    if (field->data[0] == '+' || field->data[0] == '-') {
        number = number_in(field->data + 1, field->size - 1, 1);
        r->last += field->data[0] == '+' ? number : -number;
        if (number >= 0 && r->last >= 0 && r->last < (int64_t)r->initializers.count) {
            return INITIALIZER | (uint32_t)r->last;
        }
    } else {
        number = plain_number(field);
        if (number >= 0 && number <= r->known) {
            r->known += number == 0;
            return r->known - (uint32_t)(number > 0 ? number : 1) + 1;
        }
    }
    fail(r, CWB_ONNX_ERR_REFERENCE);
    return LITERAL;
}

static void invent(resolver *r, uint32_t number, const uint8_t *beginning, size_t size)
{
    if (!cwb_invent(r->tree, &r->taken, r->strings, number, beginning, size, &r->names.texts[number])) {
        fail(r, CWB_ONNX_ERR_MEMORY);
    }
}

/* Invents a name for a node's output, unless it has one. */
static void invent_output(resolver *r, uint32_t node, const cwb_field *field)
{
    uint32_t place = cwb_tree_find(r->tree, node, OPERATOR, 0);
    int64_t number = field->more == 0 ? plain_number(field) : field->more < INITIALIZER ? (int64_t)field->more - 1 : -1;
    size_t size = 0, characters;

    if (number < 0 || number >= (int64_t)r->names.count || r->names.texts[number].data != NULL) {
        return;
    }
    for (characters = 0; place > 0 && characters < OPERATOR_CHARACTERS && size < r->tree->fields[place].size; characters++) {
        size += cwb_character(r->tree->fields[place].data + size, r->tree->fields[place].size - size);
    }
    invent(r, (uint32_t)number, place > 0 ? r->tree->fields[place].data : (const uint8_t *)"", size);
}

static void replace(resolver *r, cwb_field *field)
{
    if (field->more == LITERAL) {
        field->data++;
        field->size--;
    } else {
        const cwb_text *name;

        if (field->more < INITIALIZER && r->names.texts[field->more - 1].data == NULL) {
            invent(r, field->more - 1, (const uint8_t *)"input", 5);
        }
        name = field->more < INITIALIZER ? &r->names.texts[field->more - 1] : &r->initializers.texts[field->more - INITIALIZER];
        if (field->more >= INITIALIZER) {
            r->tree->fields[name->order].more = 1;
        }
        field->data = name->data;
        field->size = name->size;
    }
    if (field->size > r->left) {
        fail(r, CWB_ONNX_ERR_LIMIT);
        return;
    }
    r->left -= field->size;
}

/* Does for one name what the pass does; an empty one means that there is no value. */
static void visit_name(resolver *r, uint32_t node, uint32_t place)
{
    cwb_field *field = &r->tree->fields[place];

    if (field->size == 0 || r->error != CWB_OK) {
        return;
    }
    if (r->pass == IDENTIFY) {
        field->more = identify(r, field);
    } else if (r->pass == INVENT) {
        invent_output(r, node, field);
    } else {
        replace(r, field);
    }
}

static void visit_names(resolver *r, uint32_t message, uint8_t number)
{
    uint32_t i;

    for (i = 0; (i = cwb_tree_find(r->tree, message, number, i)) > 0;) {
        visit_name(r, message, i);
    }
}

/* The inputs or outputs of a body. Values without a name get an empty one. */
static void visit_values(resolver *r, uint32_t body, uint8_t number)
{
    uint32_t i;

    for (i = 0; r->pass != INVENT && (i = cwb_tree_find(r->tree, body, number, i)) > 0;) {
        const cwb_field *value = &r->tree->fields[i];
        uint32_t name = cwb_tree_find(r->tree, i, VALUE_NAME, 0);

        if (name == 0) {
            r->tree->fields[value->first + value->count - 1].number = VALUE_NAME;
        } else {
            visit_name(r, i, name);
        }
    }
}

static void visit_nodes(resolver *r, uint32_t message, uint8_t number);

/* The bodies of a node or a function; these nest as messages do, of which there are few levels. */
static void visit_bodies(resolver *r, uint32_t message, uint8_t attributes, int by_position)
{
    static const uint8_t numbers[] = {BODY, BODIES};
    uint32_t attribute, body, k;

    for (attribute = 0; (attribute = cwb_tree_find(r->tree, message, attributes, attribute)) > 0;) {
        for (k = 0; k < 2; k++) {
            for (body = 0; (body = cwb_tree_find(r->tree, attribute, numbers[k], body)) > 0;) {
                if (by_position) {
                    visit_values(r, body, GRAPH_INPUT);
                }
                visit_nodes(r, body, NODES);
                if (by_position) {
                    visit_values(r, body, GRAPH_OUTPUT);
                }
            }
        }
    }
}

static void visit_nodes(resolver *r, uint32_t message, uint8_t number)
{
    uint32_t i;

    for (i = 0; (i = cwb_tree_find(r->tree, message, number, i)) > 0;) {
        int by_position = cwb_tree_is(r->tree, i, DOMAIN, "") || cwb_tree_is(r->tree, i, DOMAIN, "ai.onnx");

        visit_names(r, i, r->pass == INVENT ? OUTPUT : INPUT);
        visit_bodies(r, i, ATTRIBUTE, by_position);
        if (r->pass != INVENT) {
            visit_names(r, i, OUTPUT);
        }
    }
}

static void run(resolver *r, uint32_t graph, pass_kind pass)
{
    uint32_t i;

    r->pass = pass;
    if (graph > 0) {
        visit_nodes(r, graph, NODES);
    }
    for (i = 0; (i = cwb_tree_find(r->tree, 0, FUNCTIONS, i)) > 0;) {
        if (pass != INVENT) {
            visit_names(r, i, FUNCTION_INPUT);
        }
        visit_nodes(r, i, FUNCTION_NODES);
        if (pass == INVENT) { /* their names are no references */
            visit_bodies(r, i, FUNCTION_DEFAULTS, 0);
        } else {
            visit_names(r, i, FUNCTION_OUTPUT);
        }
    }
}

/* Appends the names of a graph's values or tensors, if the list has room; else counts them. The order of tensors is their place. */
static void collect(const cwb_tree *tree, uint32_t graph, uint8_t number, uint8_t name, cwb_texts *to)
{
    uint32_t i;

    for (i = 0; graph > 0 && (i = cwb_tree_find(tree, graph, number, i)) > 0; to->count++) {
        if (to->texts != NULL) {
            uint32_t place = cwb_tree_find(tree, i, name, 0);
            cwb_text *text = &to->texts[to->count];

            text->data = place > 0 ? tree->fields[place].data : (const uint8_t *)"";
            text->size = place > 0 ? tree->fields[place].size : 0;
            text->order = number == INITIALIZERS ? i : (uint32_t)to->count;
        }
    }
}

/* Keeps the first of equal names of the list, in their order; initializers that have such a name are read. */
static int drop_repeated(cwb_tree *tree, cwb_texts *of, const cwb_texts *initializers)
{
    cwb_texts sorted = {cwb_tree_take(tree, of->count * sizeof *of->texts), of->count};
    size_t i, kept = 0;

    if (sorted.texts == NULL) {
        return 0;
    }
    if (of->count > 0) {
        memcpy(sorted.texts, of->texts, of->count * sizeof *of->texts);
    }
    cwb_sort_texts(&sorted);
    for (i = 0; i < initializers->count; i++) {
        tree->fields[initializers->texts[i].order].more = (uint32_t)cwb_has_text(&sorted, &initializers->texts[i]);
    }
    for (i = 1; i < of->count; i++) {
        if (cwb_equal_texts(&sorted.texts[i - 1], &sorted.texts[i])) {
            of->texts[sorted.texts[i].order].data = NULL;
        }
    }
    for (i = 0; i < of->count; i++) {
        if (of->texts[i].data != NULL) {
            of->texts[kept++] = of->texts[i];
        }
    }
    of->count = kept;
    return 1;
}

/* The names that are known before the first node: outputs, then inputs of the main graph, each once; and those of initializers. */
static int collect_known(cwb_tree *tree, uint32_t graph, cwb_texts *ends, cwb_texts *initializers)
{
    collect(tree, graph, GRAPH_OUTPUT, VALUE_NAME, ends);
    collect(tree, graph, GRAPH_INPUT, VALUE_NAME, ends);
    collect(tree, graph, INITIALIZERS, TENSOR_NAME, initializers);
    ends->texts = cwb_tree_take(tree, ends->count * sizeof *ends->texts);
    initializers->texts = cwb_tree_take(tree, initializers->count * sizeof *initializers->texts);
    if (ends->texts == NULL || initializers->texts == NULL) {
        return 0;
    }
    ends->count = initializers->count = 0;
    collect(tree, graph, GRAPH_OUTPUT, VALUE_NAME, ends);
    collect(tree, graph, GRAPH_INPUT, VALUE_NAME, ends);
    collect(tree, graph, INITIALIZERS, TENSOR_NAME, initializers);
    return drop_repeated(tree, ends, initializers);
}

/* Gives the list its names as far as they are known, and sorts all known names. */
static int begin_names(resolver *r, const cwb_texts *ends, const cwb_constant *constants, size_t constant_count)
{
    size_t known = ends->count + r->initializers.count, i;

    r->names.count = r->known;
    r->names.texts = cwb_tree_take(r->tree, r->known * sizeof *r->names.texts);
    r->taken.count = known + constant_count;
    r->taken.texts = cwb_tree_take(r->tree, r->taken.count * sizeof *r->taken.texts);
    if (r->names.texts == NULL || r->taken.texts == NULL) {
        return 0;
    }
    memset(r->names.texts, 0, r->names.count * sizeof *r->names.texts);
    for (i = 0; i < known; i++) {
        r->taken.texts[i] = i < ends->count ? ends->texts[i] : r->initializers.texts[i - ends->count];
        if (i < ends->count) {
            r->names.texts[i] = ends->texts[i];
        }
    }
    for (i = 0; i < constant_count; i++) {
        uint32_t output = cwb_tree_find(r->tree, constants[i].node, OUTPUT, 0);
        uint32_t identity = output > 0 ? r->tree->fields[output].more : 0;

        r->taken.texts[known + i] = constants[i].name;
        if (identity > 0 && identity < INITIALIZER && r->names.texts[identity - 1].data == NULL) {
            r->names.texts[identity - 1] = constants[i].name;
        }
    }
    cwb_sort_texts(&r->taken);
    return 1;
}

int cwb_restore_names(cwb_tree *tree, const cwb_constant *constants, size_t constant_count, const cwb_texts *strings,
                      uint64_t most)
{
    resolver r;
    cwb_texts ends = {NULL, 0};
    uint32_t graph = cwb_tree_find(tree, 0, GRAPH, 0);

    memset(&r, 0, sizeof r);
    r.tree = tree;
    r.last = -1;
    r.strings = strings;
    r.left = most;
    if (!collect_known(tree, graph, &ends, &r.initializers)) {
        return CWB_ONNX_ERR_MEMORY;
    }
    r.known = (uint32_t)ends.count;
    run(&r, graph, IDENTIFY);
    if (r.error == CWB_OK && !begin_names(&r, &ends, constants, constant_count)) {
        return CWB_ONNX_ERR_MEMORY;
    }
    run(&r, graph, INVENT);
    run(&r, graph, REPLACE);
    return r.error;
}
