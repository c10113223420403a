/* SPDX-License-Identifier: Apache-2.0
 *
 * See cwb_messages.h. Messages are read breadth first, so that all pieces of one are known before its fields are read, its fields
 * stand side by side, and nothing calls itself.
 */
#include "cwb_messages.h"

#include "cwb_onnx.h"
#include "cwb_schema.h"

#include <stdlib.h>
#include <string.h>

enum { VARINT, FIXED64, DELIMITED, FIXED32 = 5, DEEPEST = 100, NUMBERS = 27, NAME = 1, GRAPH_NAME = 2 };

#define MANY_FIELDS UINT32_C(0x2000000) /* of 40 bytes, so that they fit 32-bit memory */
#define LARGE_BLOCK 4096

struct cwb_block {
    cwb_block *next;
    size_t used, room; /* bytes behind this struct */
    int64_t memory[]; /* as aligned as anything that is taken from it */
};

void *cwb_tree_take(cwb_tree *tree, size_t size)
{
    cwb_block *block = tree->blocks;

    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size = (size + 7) & ~(size_t)7;
    if (block == NULL || size > block->room - block->used) {
        size_t room = size > LARGE_BLOCK ? size : LARGE_BLOCK;

        block = malloc(sizeof *block + room);
        if (block == NULL) {
            return NULL;
        }
        block->used = 0;
        block->room = room;
        block->next = tree->blocks;
        tree->blocks = block;
    }
    block->used += size;
    return (uint8_t *)block->memory + block->used - size;
}

const char *cwb_tree_copy(cwb_tree *tree, const uint8_t *text, size_t size)
{
    char *copy = cwb_tree_take(tree, size + 1);

    if (copy != NULL) {
        memcpy(copy, text, size);
        copy[size] = 0;
    }
    return copy;
}

void cwb_tree_free(cwb_tree *tree)
{
    while (tree->blocks != NULL) {
        cwb_block *block = tree->blocks;

        tree->blocks = block->next;
        free(block);
    }
    free(tree->fields);
}

static const schema_field *look_up(const cwb_tree *tree, uint8_t kind, uint32_t number)
{
    const schema_field *entry = schema + tree->starts[kind], *end = schema + sizeof schema / sizeof schema[0];

    for (; entry < end && entry->message == kind && entry->number <= number; entry++) {
        if (entry->number == number) {
            return entry;
        }
    }
    return NULL;
}

/* A varint of at most `longest` bytes; where it ends, or null. */
static const uint8_t *read_varint(const uint8_t *p, const uint8_t *end, uint32_t longest, uint64_t *value)
{
    uint32_t i;

    *value = 0;
    for (i = 0; i < longest && p != end; i++) {
        uint64_t byte = *p++;

        *value |= (byte & 127) << 7 * i;
        if (byte < 128) {
            return p; /* bits beyond 64 are lost, as in protobuf */
        }
    }
    return NULL;
}

/* Makes room for a field; its place, or 0 if memory is short. */
static uint32_t append(cwb_tree *tree)
{
    if (tree->count == tree->room) {
        uint32_t room = tree->room == 0 ? 256 : 2 * tree->room;
        cwb_field *fields = room > MANY_FIELDS ? NULL : malloc(room * sizeof *fields);

        if (fields == NULL) {
            return 0;
        }
        if (tree->count > 0) {
            memcpy(fields, tree->fields, tree->count * sizeof *fields);
        }
        free(tree->fields);
        tree->fields = fields;
        tree->room = room;
    }
    memset(&tree->fields[tree->count], 0, sizeof *tree->fields);
    return tree->count++;
}

uint32_t cwb_tree_add(cwb_tree *tree, uint32_t message, uint8_t number, const void *data, size_t size)
{
    const schema_field *entry = number == CWB_UNKNOWN ? NULL : look_up(tree, tree->fields[message].kind, number);
    uint32_t place = append(tree);

    if (place > 0) {
        cwb_field *field = &tree->fields[place], *parent = &tree->fields[message];

        field->data = data;
        field->size = size;
        field->number = number;
        field->type = entry != NULL ? entry->type : 0;
        field->kind = entry != NULL && (entry->type & 15) == MESSAGE ? entry->kind : CWB_NO_MESSAGE;
        field->depth = (uint8_t)(parent->depth + 1);
        parent->first = parent->count == 0 ? place : parent->first;
        parent->count++;
    }
    return place;
}

/* The fields of a message, as they are being read. */
typedef struct {
    uint32_t heads[NUMBERS], tails[NUMBERS]; /* of fields that there may be one of: it, and its last piece */
    uint64_t left;                           /* fields that may follow */
} reading;

/* Takes fields out of the model, as another one of their oneof, or of that of their message, has replaced them. */
static void replace(cwb_tree *tree, uint32_t first, uint32_t count)
{
    uint32_t i;

    for (i = first; i < first + count; i++) {
        cwb_field *field = &tree->fields[i];

        field->number = field->kind != CWB_NO_MESSAGE && field->number != CWB_DROPPED ? CWB_REPLACED : CWB_DROPPED;
    }
}

/* Replaces what a message has of this field, or adds to it; `head` is what it has. */
static int read_again(cwb_tree *tree, uint32_t message, reading *r, uint8_t number, const uint8_t *data, size_t size)
{
    cwb_field *head = &tree->fields[r->heads[number]];
    uint32_t piece;

    if (head->kind == CWB_NO_MESSAGE) {
        head->data = data;
        head->size = size;
        return CWB_OK;
    }
    piece = cwb_tree_add(tree, message, number, data, size);
    if (piece == 0) {
        return CWB_ONNX_ERR_MEMORY;
    }
    tree->fields[piece].number = CWB_DROPPED;
    tree->fields[r->tails[number]].more = piece;
    r->tails[number] = piece;
    return CWB_OK;
}

/* Adds a field of ONNX to the message that is being read. */
static int read_known(cwb_tree *tree, uint32_t message, reading *r, const schema_field *entry, const uint8_t *data, size_t size)
{
    uint32_t place, other;

    if (!(entry->type & MANY) && r->heads[entry->number] > 0) {
        return read_again(tree, message, r, entry->number, data, size);
    }
    for (other = 1; entry->type & EITHER && other < NUMBERS; other++) {
        if (r->heads[other] > 0 && tree->fields[r->heads[other]].type & EITHER) {
            replace(tree, r->heads[other], 1);
            r->heads[other] = 0;
        }
    }
    place = cwb_tree_add(tree, message, entry->number, data, size);
    if (place == 0) {
        return CWB_ONNX_ERR_MEMORY;
    }
    if (!(entry->type & MANY)) {
        r->heads[entry->number] = r->tails[entry->number] = place;
    }
    return tree->fields[place].kind != CWB_NO_MESSAGE && tree->fields[place].depth > DEEPEST ? CWB_ONNX_ERR_MODEL : CWB_OK;
}

/* Can bytes with this wire type be a field of ONNX? 1, 0 if it then is unknown, or an error. */
static int fits(const schema_field *entry, uint32_t wire, const uint8_t *data, size_t size)
{
    static const uint8_t wires[] = {VARINT, VARINT, VARINT, VARINT, FIXED32, FIXED64, DELIMITED, DELIMITED, DELIMITED};
    uint32_t type;
    const uint8_t *p = data;
    uint64_t value;

    if (entry == NULL) {
        return 0;
    }
    type = entry->type & 15;
    if ((type == LOCATIONS || type == ATTRIBUTE_TYPES) && wire == VARINT) { /* enums have no other numbers */
        (void)read_varint(data, data + size, 10, &value);
        return (value & UINT32_MAX) <= (type == LOCATIONS ? 1 : 14);
    }
    if (wire == wires[type] || wire != DELIMITED || !(entry->type & MANY)) {
        return wire == wires[type];
    }
    if (type == FLOAT || type == DOUBLE) {
        return size % (type == FLOAT ? 4 : 8) == 0 ? 1 : CWB_ONNX_ERR_MODEL;
    }
    while (p != NULL && p != data + size) {
        p = read_varint(p, data + size, 10, &value);
    }
    return p != NULL ? 1 : CWB_ONNX_ERR_MODEL;
}

/* Reads a field; where it ends, or null and an error. */
static const uint8_t *read_field(cwb_tree *tree, uint32_t message, reading *r, const uint8_t *start, const uint8_t *end, int *error)
{
    uint64_t tag, size;
    const uint8_t *p = read_varint(start, end, 5, &tag), *data = p;
    const schema_field *entry;
    int fit;

    *error = CWB_ONNX_ERR_MODEL;
    if (p == NULL || tag >> 32 != 0 || tag >> 3 == 0) {
        return NULL;
    }
    if ((tag & 7) == VARINT) {
        p = read_varint(p, end, 10, &size);
        size = p != NULL ? (uint64_t)(p - data) : 0;
    } else if ((tag & 7) == DELIMITED) {
        p = data = read_varint(p, end, 5, &size);
    } else if ((tag & 7) == FIXED32 || (tag & 7) == FIXED64) {
        size = (tag & 7) == FIXED32 ? 4 : 8;
    } else {
        return NULL; /* groups, which ONNX does not have */
    }
    if (p == NULL || size > (uint64_t)(end - data)) {
        return NULL;
    }
    p = data + size;
    entry = tag >> 3 < NUMBERS ? look_up(tree, tree->fields[message].kind, (uint32_t)(tag >> 3)) : NULL;
    fit = fits(entry, tag & 7, data, (size_t)size);
    if (fit < 0) {
        return NULL;
    }
    if (!fit) {
        *error = cwb_tree_add(tree, message, CWB_UNKNOWN, start, (size_t)(p - start)) > 0 ? CWB_OK : CWB_ONNX_ERR_MEMORY;
    } else {
        *error = read_known(tree, message, r, entry, data, (size_t)size);
    }
    if (r->left-- == 0) {
        *error = CWB_ONNX_ERR_LIMIT;
    }
    return *error == CWB_OK ? p : NULL;
}

/* Gives a message a text that it should have, if that is absent or empty. */
static int complete(cwb_tree *tree, uint32_t message, const reading *r, uint8_t number, const char *text)
{
    uint32_t place = r->heads[number];

    if (place == 0) {
        return cwb_tree_add(tree, message, number, text, strlen(text)) > 0 ? CWB_OK : CWB_ONNX_ERR_MEMORY;
    }
    if (tree->fields[place].size == 0) {
        tree->fields[place].data = (const uint8_t *)text;
        tree->fields[place].size = strlen(text);
    }
    return CWB_OK;
}

static int read_message(cwb_tree *tree, uint32_t message, uint64_t *left)
{
    reading r;
    uint32_t piece = message, name;
    uint8_t kind = tree->fields[message].kind;
    int error = CWB_OK;

    memset(&r, 0, sizeof r);
    r.left = *left;
    do {
        const uint8_t *p = tree->fields[piece].data, *end = p + tree->fields[piece].size;

        while (p != end) {
            p = read_field(tree, message, &r, p, end, &error);
            if (p == NULL) {
                return error;
            }
        }
        piece = tree->fields[piece].more;
    } while (piece > 0);
    *left = r.left;
    if (kind == CWB_MODEL) {
        return complete(tree, message, &r, CWB_PRODUCER, "");
    }
    if (kind == CWB_GRAPH_PROTO) {
        return complete(tree, message, &r, GRAPH_NAME, "graph");
    }
    if (kind == CWB_VALUE_INFO && r.heads[NAME] == 0) {
        name = cwb_tree_add(tree, message, NAME, "", 0);
        if (name == 0) {
            return CWB_ONNX_ERR_MEMORY;
        }
        tree->fields[name].number = CWB_DROPPED;
    }
    return CWB_OK;
}

int cwb_tree_read(cwb_tree *tree, const uint8_t *data, size_t size, uint64_t most)
{
    uint32_t i;
    int error = CWB_OK;

    for (i = sizeof schema / sizeof schema[0]; i-- > 0;) {
        tree->starts[schema[i].message] = (uint8_t)i;
    }
    (void)append(tree);
    if (tree->count == 0) {
        return CWB_ONNX_ERR_MEMORY;
    }
    tree->fields[0].data = data;
    tree->fields[0].size = size;
    tree->fields[0].number = 1;
    tree->fields[0].kind = CWB_MODEL;
    for (i = 0; i < tree->count && error == CWB_OK; i++) {
        if (tree->fields[i].kind != CWB_NO_MESSAGE && tree->fields[i].number != CWB_DROPPED) {
            error = read_message(tree, i, &most);
            if (error == CWB_OK && tree->fields[i].number == CWB_REPLACED) {
                replace(tree, tree->fields[i].first, tree->fields[i].count);
            }
        }
    }
    return error;
}
