/* SPDX-License-Identifier: Apache-2.0
 *
 * See cwb_graph.h.
 */
#include "cwb_graph.h"

#include "cwb_references.h"

#include <string.h>

enum { GRAPH = 7, INITIALIZERS = 5, NODES = 1 };                                  /* fields of ModelProto and GraphProto */
enum { OUTPUT = 2, OPERATOR = 4, ATTRIBUTES = 5, DOMAIN = 7 };                    /* of NodeProto */
enum { ATTRIBUTE_NAME = 1, ATTRIBUTE_TENSOR = 5 };                                /* of AttributeProto */
enum { DIMS = 1, DATA_TYPE = 2, INT64_DATA = 7, NAME = 8, RAW_DATA = 9, EXTERNAL_DATA = 13, LOCATION = 14 }; /* of TensorProto */
enum { KEY = 1, VALUE = 2, ENTRIES = 3, UINT8 = 2 };                              /* of StringStringEntryProto; others */

static int is_external(const cwb_tree *tree, uint32_t tensor)
{
    int64_t location = 0;

    (void)cwb_tree_numbers(tree, tensor, LOCATION, &location, 1);
    return location == 1;
}

static int is_placeholder(const cwb_tree *tree, uint32_t tensor)
{
    return is_external(tree, tensor) && cwb_tree_find(tree, tensor, EXTERNAL_DATA, 0) == 0;
}

/* The tensor in the value of a Constant node, or 0. */
static uint32_t value_of(const cwb_tree *tree, uint32_t node)
{
    uint32_t attribute;

    if (!cwb_tree_is(tree, node, OPERATOR, "Constant") ||
        !(cwb_tree_is(tree, node, DOMAIN, "") || cwb_tree_is(tree, node, DOMAIN, "ai.onnx"))) {
        return 0;
    }
    for (attribute = 0; (attribute = cwb_tree_find(tree, node, ATTRIBUTES, attribute)) > 0;) {
        uint32_t tensor = cwb_tree_find(tree, attribute, ATTRIBUTE_TENSOR, 0);

        if (tensor > 0 && cwb_tree_is(tree, attribute, ATTRIBUTE_NAME, "value")) {
            return tensor;
        }
    }
    return 0;
}

/* Reads from a placeholder what becomes of a tensor's values. */
static int read_target(cwb_tree *tree, uint32_t place, cwb_member *member)
{
    const cwb_tensor *stored = &member->stored.tensor;
    cwb_target *target = &member->target;
    uint32_t offsets, rank, i;
    int64_t number = 0, *dims;
    uint64_t elements = stored->count, left = stored->count / 2;
    int is_float;

    (void)cwb_tree_numbers(tree, place, DATA_TYPE, &number, 1);
    if (number == 0) {
        return CWB_OK; /* as it is stored */
    }
    target->type = (int32_t)number;
    offsets = cwb_tree_numbers(tree, place, INT64_DATA, &target->offset, 1);
    rank = cwb_tree_numbers(tree, place, DIMS, NULL, 0);
    target->halves = rank > 0;
    is_float = target->type == CWB_FLOAT32 || target->type == CWB_FLOAT16 || target->type == CWB_FLOAT64 || target->type == CWB_BFLOAT16;
    if (stored->type != CWB_FLOAT32 || offsets > 1 || cwb_element_bytes(target, 8) == 0 ||
        (is_float ? rank > 0 || target->offset != 0 : stored->count == 0)) {
        return CWB_ONNX_ERR_TENSORS;
    }
    if (rank > 0) { /* of bytes, whose halves are the values */
        dims = cwb_tree_take(tree, rank * sizeof *dims);
        if (dims == NULL) {
            return CWB_ONNX_ERR_MEMORY;
        }
        (void)cwb_tree_numbers(tree, place, DIMS, dims, rank);
        for (i = 0; i < rank; i++) {
            if (dims[i] < 1 || left % (uint64_t)dims[i] != 0) {
                return CWB_ONNX_ERR_TENSORS;
            }
            left /= (uint64_t)dims[i];
        }
        if (left != 1 || elements % 2 != 0 || target->type != UINT8) {
            return CWB_ONNX_ERR_TENSORS;
        }
        member->info.dims = dims;
        member->info.rank = rank;
    }
    member->info.type = target->type;
    if (cwb_element_bytes(target, elements) > SIZE_MAX / 2) {
        return CWB_ONNX_ERR_LARGE;
    }
    member->info.size = (size_t)cwb_element_bytes(target, elements);
    return CWB_OK;
}

/* Adds a field of numbers to a message. */
static uint32_t add_numbers(cwb_tree *tree, uint32_t message, uint8_t number, const int64_t *values, uint32_t count)
{
    uint8_t *bytes = cwb_tree_take(tree, (size_t)10 * count);
    uint32_t size = 0, i;

    for (i = 0; bytes != NULL && i < count; i++) {
        size += cwb_put_varint(bytes + size, (uint64_t)values[i]);
    }
    return bytes != NULL ? cwb_tree_add(tree, message, number, bytes, size) : 0;
}

static uint32_t add_entry(cwb_tree *tree, uint32_t entry, const char *key)
{
    uint32_t first = cwb_tree_add(tree, entry, KEY, key, strlen(key));

    return first > 0 ? cwb_tree_add(tree, entry, VALUE, "", 0) : 0;
}

/* Turns a placeholder into a tensor, with the fields of one whose elements are inside, and of one whose elements are apart. */
static int fill(cwb_tree *tree, uint32_t place, cwb_member *member)
{
    static const char *const keys[ENTRIES] = {"location", "offset", "length"};
    int64_t type, external = 1;
    uint32_t i;
    int error = read_target(tree, place, member), whole;

    member->place = place;
    if (error != CWB_OK) {
        return error;
    }
    type = member->info.type;
    tree->fields[place].count = 0;
    whole = add_numbers(tree, place, DIMS, member->info.dims, member->info.rank) > 0 && add_numbers(tree, place, DATA_TYPE, &type, 1) > 0 &&
            cwb_tree_add(tree, place, NAME, member->info.name, member->is_initializer ? member->info.name_length : 0) > 0;
    member->raw = whole ? cwb_tree_add(tree, place, RAW_DATA, NULL, member->info.size) : 0;
    for (i = 0; member->raw > 0 && i < ENTRIES; i++) {
        member->external = cwb_tree_add(tree, place, EXTERNAL_DATA, NULL, 0);
        whole = whole && member->external > 0;
    }
    whole = whole && member->raw > 0 && add_numbers(tree, place, LOCATION, &external, 1) > 0;
    member->external -= whole ? ENTRIES - 1 : 0;
    for (i = 0; whole && i < ENTRIES; i++) {
        whole = add_entry(tree, member->external + i, keys[i]) > 0;
    }
    return whole && cwb_graph_put(tree, member, NULL, 0) ? CWB_OK : CWB_ONNX_ERR_MEMORY;
}

int cwb_graph_put(cwb_tree *tree, cwb_member *member, const char *location, size_t offset)
{
    cwb_field *fields = tree->fields;
    uint32_t i;

    member->info.apart = location != NULL;
    fields[member->raw].number = location != NULL ? CWB_DROPPED : RAW_DATA;
    fields[member->external + ENTRIES].number = location != NULL ? LOCATION : CWB_DROPPED;
    for (i = 0; i < ENTRIES; i++) {
        fields[member->external + i].number = location != NULL ? EXTERNAL_DATA : CWB_DROPPED;
        if (location != NULL) {
            cwb_field *value = &fields[fields[member->external + i].first + 1];
            char *digits = cwb_tree_take(tree, 20);

            if (digits == NULL) {
                return 0;
            }
            value->data = (const uint8_t *)(i == 0 ? location : digits);
            value->size = i == 0 ? strlen(location) : cwb_put_digits(digits, i == 1 ? offset : member->info.size);
        }
    }
    return 1;
}

/* Fills the placeholders, and lists Constant nodes whose tensors have names; the constants are as many as members, at most. */
static int fill_all(cwb_tree *tree, const cwb_members *members, cwb_constant *constants, size_t *constant_count)
{
    static const uint8_t numbers[] = {INITIALIZERS, NODES};
    uint32_t graph = cwb_tree_find(tree, 0, GRAPH, 0), place, k, i;
    size_t given = 0, external = 0;
    int error = CWB_OK;

    for (i = 0; i < tree->count; i++) {
        external += tree->fields[i].kind == CWB_TENSOR_PROTO && tree->fields[i].number != CWB_DROPPED && is_external(tree, i);
    }
    for (k = 0; k < 2 && graph > 0; k++) {
        for (i = 0; error == CWB_OK && (i = cwb_tree_find(tree, graph, numbers[k], i)) > 0;) {
            place = k == 0 ? i : value_of(tree, i);
            if (place == 0 || !is_placeholder(tree, place)) {
                continue;
            }
            if (given == members->count) {
                return CWB_ONNX_ERR_TENSORS;
            }
            members->list[given].is_initializer = k == 0;
            error = fill(tree, place, &members->list[given]);
            if (k > 0) {
                constants[*constant_count].node = i;
                constants[*constant_count].name.data = (const uint8_t *)members->list[given].info.name;
                constants[*constant_count].name.size = members->list[given].info.name_length;
                constants[*constant_count].name.order = 0;
                (*constant_count)++;
            }
            given++;
        }
    }
    return error != CWB_OK ? error : given != members->count ? CWB_ONNX_ERR_TENSORS : external != given ? CWB_ONNX_ERR_OUTSIDE : CWB_OK;
}

int cwb_graph_read(cwb_tree *tree, const uint8_t *data, size_t size, uint32_t section, const cwb_members *members)
{
    size_t constant_count = 0, i;
    cwb_texts strings;
    cwb_constant *constants;
    cwb_field *producer;
    int error = cwb_tree_read(tree, data, size, (UINT64_C(1) << 17) + UINT64_C(32) * section);

    if (error != CWB_OK) {
        return error;
    }
    error = cwb_strings_of(tree, &strings);
    if (error != CWB_OK) {
        return error;
    }
    constants = cwb_tree_take(tree, members->count * sizeof *constants);
    error = constants != NULL ? fill_all(tree, members, constants, &constant_count) : CWB_ONNX_ERR_MEMORY;
    if (error != CWB_OK) {
        return error;
    }
    error = cwb_restore_names(tree, constants, constant_count, &strings, (UINT64_C(1) << 20) + UINT64_C(1024) * section);
    producer = &tree->fields[cwb_tree_find(tree, 0, CWB_PRODUCER, 0)];
    producer->data = (const uint8_t *)"cerwu-onnx";
    producer->size = strlen("cerwu-onnx");
    for (i = 0; i < members->count && error == CWB_OK; i++) {
        members->list[i].info.is_read = !members->list[i].is_initializer || tree->fields[members->list[i].place].more;
    }
    return error;
}
