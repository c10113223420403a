/* SPDX-License-Identifier: Apache-2.0
 *
 * See cwb_strings.h.
 */
#include "cwb_strings.h"

#include "cwb_onnx.h"
#include "cwb_schema.h"

#include <string.h>

static int compare(const cwb_text *a, const cwb_text *b)
{
    size_t common = a->size < b->size ? a->size : b->size;
    int order = common > 0 ? memcmp(a->data, b->data, common) : 0;

    return order != 0 ? order : a->size < b->size ? -1 : a->size > b->size;
}

static int is_before(const cwb_text *a, const cwb_text *b)
{
    int order = compare(a, b);

    return order != 0 ? order < 0 : a->order < b->order;
}

/* A heap sort. */
void cwb_sort_texts(const cwb_texts *of)
{
    cwb_text *texts = of->texts;
    size_t unsorted = of->count / 2, end = of->count;

    while (end > 1) {
        size_t root, child;
        cwb_text moved;

        if (unsorted > 0) {
            moved = texts[--unsorted];
        } else {
            moved = texts[--end];
            texts[end] = texts[0];
        }
        root = unsorted;
        for (child = 2 * root + 1; child < end; child = 2 * root + 1) {
            if (child + 1 < end && is_before(&texts[child], &texts[child + 1])) {
                child++;
            }
            if (!is_before(&moved, &texts[child])) {
                break;
            }
            texts[root] = texts[child];
            root = child;
        }
        texts[root] = moved;
    }
}

int cwb_equal_texts(const cwb_text *a, const cwb_text *b)
{
    return compare(a, b) == 0;
}

int cwb_has_text(const cwb_texts *sorted, const cwb_text *text)
{
    size_t low = 0, count = sorted->count;

    while (count > low) {
        size_t middle = low + (count - low) / 2;
        int order = compare(&sorted->texts[middle], text);

        if (order == 0) {
            return 1;
        }
        low = order < 0 ? middle + 1 : low;
        count = order < 0 ? count : middle;
    }
    return 0;
}

size_t cwb_character(const uint8_t *data, size_t size)
{
    size_t length = data[0] < 0x80 ? 1 : data[0] < 0xC2 ? 0 : data[0] < 0xE0 ? 2 : data[0] < 0xF0 ? 3 : data[0] < 0xF5 ? 4 : 0, i;

    for (i = 1; i < length; i++) {
        if (i >= size || data[i] >> 6 != 2) {
            return 0;
        }
    }
    if ((data[0] == 0xE0 && data[1] < 0xA0) || (data[0] == 0xED && data[1] > 0x9F) || (data[0] == 0xF0 && data[1] < 0x90) ||
        (data[0] == 0xF4 && data[1] > 0x8F)) {
        return 0;
    }
    return length;
}

int cwb_is_utf8(const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t length = cwb_character(data, size);

        if (length == 0) {
            return 0;
        }
        data += length;
        size -= length;
    }
    return 1;
}

static int is_text(const cwb_field *field)
{
    return field->number != CWB_DROPPED && ((field->type & 15) == STRING || field->type & TEXT);
}

static int has_underscore(const cwb_field *field)
{
    size_t i = 0;

    while (i < field->size && field->data[i] != '_') {
        i++;
    }
    return i < field->size;
}

/* Are all strings UTF-8? `found` counts those with an underscore. */
static int check_strings(const cwb_tree *tree, size_t *found)
{
    uint32_t i;

    *found = 0;
    for (i = 0; i < tree->count; i++) {
        const cwb_field *field = &tree->fields[i];

        if (is_text(field)) {
            if (!(field->type & TEXT) && !cwb_is_utf8(field->data, field->size)) {
                return 0;
            }
            *found += (size_t)has_underscore(field);
        }
    }
    return 1;
}

int cwb_strings_of(cwb_tree *tree, cwb_texts *strings)
{
    cwb_text *next;
    uint32_t i;

    if (!check_strings(tree, &strings->count)) {
        return CWB_ONNX_ERR_MODEL;
    }
    strings->count *= 2;
    strings->texts = next = cwb_tree_take(tree, strings->count * sizeof *next);
    if (next == NULL) {
        return CWB_ONNX_ERR_MEMORY;
    }
    for (i = 0; i < tree->count; i++) {
        const cwb_field *field = &tree->fields[i];

        if (is_text(field) && has_underscore(field)) {
            size_t first = cwb_character(field->data, field->size);

            next->data = field->data;
            next->size = field->size;
            next++->order = 0;
            first = first > 0 ? first : 1; /* bytes that are no text */
            next->data = field->data + first;
            next->size = field->size - first;
            next++->order = 0;
        }
    }
    cwb_sort_texts(strings);
    return CWB_OK;
}

int cwb_invent(cwb_tree *tree, const cwb_texts *taken, const cwb_texts *strings, uint32_t number, const uint8_t *beginning, size_t size,
               cwb_text *name)
{
    size_t digits = 1, room, i;
    uint32_t rest;
    uint8_t *text;

    for (rest = number; rest > 9; rest /= 10) {
        digits++;
    }
    name->size = size + 1 + digits;
    room = name->size + 8;
    text = cwb_tree_take(tree, room);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, beginning, size);
    text[size] = '_';
    for (rest = number, i = size + digits; i > size; rest /= 10) {
        text[i--] = (uint8_t)('0' + rest % 10);
    }
    name->data = text;
    while (cwb_has_text(taken, name) || cwb_has_text(strings, name)) {
        if (name->size == room) {
            uint8_t *more = cwb_tree_take(tree, 2 * room);

            if (more == NULL) {
                return 0;
            }
            memcpy(more, text, room);
            name->data = text = more;
            room *= 2;
        }
        text[name->size++] = '_';
    }
    return 1;
}
