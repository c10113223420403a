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
void cwb_sort_texts(cwb_text *texts, size_t count)
{
    size_t unsorted = count / 2, end = count;

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

int cwb_has_text(const cwb_text *texts, size_t count, const cwb_text *text)
{
    size_t low = 0;

    while (count > low) {
        size_t middle = low + (count - low) / 2;
        int order = compare(&texts[middle], text);

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

const cwb_text *cwb_strings_of(cwb_tree *tree, size_t *count, int *error)
{
    cwb_text *texts, *next;
    uint32_t i;

    *error = CWB_ONNX_ERR_MODEL;
    if (!check_strings(tree, count)) {
        return NULL;
    }
    *error = CWB_ONNX_ERR_MEMORY;
    *count *= 2;
    texts = next = cwb_tree_take(tree, *count * sizeof *texts);
    if (texts == NULL) {
        return NULL;
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
    cwb_sort_texts(texts, *count);
    *error = CWB_OK;
    return texts;
}
