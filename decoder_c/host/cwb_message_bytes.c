/* SPDX-License-Identifier: Apache-2.0
 *
 * The other half of cwb_messages.h: looks fields up, lays messages out and writes them. Fields stand behind their message, so sizes are
 * known from the last field to the first, and places from the first to the last.
 */
#include "cwb_messages.h"
#include "cwb_schema.h"

#include <string.h>

enum { VARINT, FIXED64, DELIMITED, FIXED32 = 5 };

#define UNPLACED SIZE_MAX

uint32_t cwb_put_varint(uint8_t *out, uint64_t value)
{
    uint32_t size = 0;

    while (value > 127) {
        out[size++] = (uint8_t)(value | 128);
        value >>= 7;
    }
    out[size++] = (uint8_t)value;
    return size;
}

/* Reads the next number of a field, in its type, and moves *p behind it. */
static uint64_t next_number(const cwb_field *field, const uint8_t **p)
{
    uint32_t type = field->type & 15, size = type == DOUBLE ? 8 : 4, shift;
    uint64_t value = 0;

    if (type == FLOAT || type == DOUBLE) {
        for (shift = 0; shift < 8 * size; shift += 8) {
            value |= (uint64_t)*(*p)++ << shift;
        }
        return value;
    }
    for (shift = 0;; shift += 7) {
        value |= (uint64_t)(**p & 127) << shift;
        if (*(*p)++ < 128) {
            break;
        }
    }
    return type == INT64 ? value : (uint64_t)(int64_t)(int32_t)(uint32_t)value;
}

uint32_t cwb_tree_find(const cwb_tree *tree, uint32_t message, uint8_t number, uint32_t after)
{
    const cwb_field *parent = &tree->fields[message];
    uint32_t i = after > 0 ? after + 1 : parent->first;

    for (; i < parent->first + parent->count; i++) {
        if (tree->fields[i].number == number) {
            return i;
        }
    }
    return 0;
}

int cwb_tree_is(const cwb_tree *tree, uint32_t message, uint8_t number, const char *text)
{
    uint32_t place = cwb_tree_find(tree, message, number, 0);
    size_t size = place > 0 ? tree->fields[place].size : 0;

    return size == strlen(text) && (size == 0 || memcmp(tree->fields[place].data, text, size) == 0);
}

uint32_t cwb_tree_numbers(const cwb_tree *tree, uint32_t message, uint8_t number, int64_t *out, uint32_t room)
{
    uint32_t place, count = 0;

    for (place = 0; (place = cwb_tree_find(tree, message, number, place)) > 0;) {
        const cwb_field *field = &tree->fields[place];
        const uint8_t *p = field->data;

        while (p != field->data + field->size) {
            int64_t value = (int64_t)next_number(field, &p);

            if (count < room) {
                out[count] = value;
            }
            count++;
        }
    }
    return count;
}

/* Bytes are written, if `out` is not null, and counted. */
typedef struct {
    uint8_t *out;
    uint64_t at;
} sink;

static void put_varint(sink *s, uint64_t value)
{
    uint8_t bytes[10];
    uint32_t size = cwb_put_varint(bytes, value);

    if (s->out != NULL) {
        memcpy(s->out + s->at, bytes, size);
    }
    s->at += size;
}

static void put_tag(sink *s, uint8_t number, uint32_t wire)
{
    put_varint(s, (uint64_t)number << 3 | wire);
}

/* Skips what is null: another writes it. */
static void put_bytes(sink *s, const uint8_t *data, size_t size)
{
    if (s->out != NULL && data != NULL && size > 0) {
        memcpy(s->out + s->at, data, size);
    }
    s->at += size;
}

/* Puts the numbers of a field, each behind its tag unless they are packed. */
static void put_numbers(sink *s, const cwb_field *field, int packed)
{
    uint32_t type = field->type & 15, wire = type == FLOAT ? FIXED32 : type == DOUBLE ? FIXED64 : VARINT;
    const uint8_t *p = field->data;

    while (p != field->data + field->size) {
        const uint8_t *start = p;
        uint64_t value = next_number(field, &p);

        if (!packed) {
            put_tag(s, field->number, wire);
        }
        if (wire == VARINT) {
            put_varint(s, value);
        } else {
            put_bytes(s, start, (size_t)(p - start));
        }
    }
}

/* Puts all packed fields of a number as one. */
static void put_packed(sink *s, const cwb_tree *tree, uint32_t message, uint8_t number)
{
    sink counted = {NULL, 0};
    uint32_t i;

    for (i = 0; (i = cwb_tree_find(tree, message, number, i)) > 0;) {
        put_numbers(&counted, &tree->fields[i], 1);
    }
    if (counted.at > 0) {
        put_tag(s, number, DELIMITED);
        put_varint(s, counted.at);
        for (i = 0; (i = cwb_tree_find(tree, message, number, i)) > 0;) {
            put_numbers(s, &tree->fields[i], 1);
        }
    }
}

/* Puts the content of a message, without that of messages in it; `placed` are the tree's fields if they are to get their places. */
static void put_message(sink *s, const cwb_tree *tree, uint32_t message, cwb_field *placed)
{
    const schema_field *entry = schema + tree->starts[tree->fields[message].kind];
    const schema_field *end = schema + sizeof schema / sizeof schema[0];
    uint32_t first = tree->fields[message].first, last = first + tree->fields[message].count, numbers = 0, i;

    for (i = first; i < last; i++) {
        numbers |= UINT32_C(1) << (tree->fields[i].number & 31);
    }
    for (; entry < end && entry->message == tree->fields[message].kind; entry++) {
        if (!(numbers >> entry->number & 1)) {
            continue;
        }
        if (entry->type & PACKED) {
            put_packed(s, tree, message, entry->number);
            continue;
        }
        for (i = 0; (i = cwb_tree_find(tree, message, entry->number, i)) > 0;) {
            const cwb_field *field = &tree->fields[i];

            if ((entry->type & 15) < STRING) {
                put_numbers(s, field, 0);
                continue;
            }
            put_tag(s, field->number, DELIMITED);
            put_varint(s, field->size);
            if (placed != NULL) {
                placed[i].place = (size_t)s->at;
            }
            put_bytes(s, field->kind == CWB_NO_MESSAGE ? field->data : NULL, field->size);
        }
    }
    for (i = 0; (i = cwb_tree_find(tree, message, CWB_UNKNOWN, i)) > 0;) {
        put_bytes(s, tree->fields[i].data, tree->fields[i].size);
    }
}

static int is_message(const cwb_field *field)
{
    return field->kind != CWB_NO_MESSAGE && field->number != CWB_DROPPED;
}

size_t cwb_tree_lay_out(cwb_tree *tree, size_t most)
{
    uint32_t i;

    for (i = tree->count; i-- > 0;) {
        sink s = {NULL, 0};

        tree->fields[i].place = UNPLACED;
        if (is_message(&tree->fields[i])) {
            put_message(&s, tree, i, NULL);
            if (s.at > most) {
                return 0;
            }
            tree->fields[i].size = (size_t)s.at;
        }
    }
    tree->fields[0].place = 0;
    for (i = 0; i < tree->count; i++) {
        sink s = {NULL, tree->fields[i].place};

        if (is_message(&tree->fields[i]) && tree->fields[i].place != UNPLACED) {
            put_message(&s, tree, i, tree->fields);
        }
    }
    return tree->fields[0].size;
}

void cwb_tree_write(const cwb_tree *tree, uint8_t *out)
{
    uint32_t i;

    for (i = 0; i < tree->count; i++) {
        sink s = {out, tree->fields[i].place};

        if (is_message(&tree->fields[i]) && tree->fields[i].place != UNPLACED) {
            put_message(&s, tree, i, NULL);
        }
    }
}
