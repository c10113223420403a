/* SPDX-License-Identifier: Apache-2.0
 *
 * See cwb_members.h.
 */
#include "cwb_members.h"

#include "cwb_onnx.h"
#include "cwb_sections.h"
#include "cwb_strings.h"

#include <string.h>

enum { LONGEST_NAME = 1024, FILE_HEADER = 20 };

/* Reads the next tensor through a window on the file, whose directory begins with its record: so each record is read once, while
 * cwb_tensor_at begins with the first. */
static void next_tensor(cwb_file *window, const uint8_t **payload, cwb_tensor *stored)
{
    const uint8_t *end;
    uint32_t varints, size;

    (void)cwb_tensor_at(window, 0, stored);
    stored->payload = *payload;
    *payload += stored->payload_size;
    end = stored->shape;
    for (varints = stored->rank + (stored->kind != CWB_RAW ? 1U : 0U); varints > 0; varints--) {
        if (varints == 1 && stored->kind != CWB_RAW) { /* the step stands before the last number */
            end += *end == 0 ? 5 : 1;
        }
        while (*end++ > 127) {
        }
    }
    size = (uint32_t)(end - window->data) - FILE_HEADER;
    window->data += size;
    window->directory -= size;
}

int cwb_read_members(cwb_tree *tree, const cwb_delta *files, int is_delta, cwb_members *members)
{
    cwb_file window = files->file;
    const uint8_t *payload = window.data + FILE_HEADER + window.directory;
    uint64_t elements = 0;
    size_t i, axis;

    members->count = files->base.tensors;
    members->list = cwb_tree_take(tree, members->count * sizeof(cwb_member));
    for (i = 0; members->list != NULL && i < members->count; i++) {
        cwb_member *t = &members->list[i];
        cwb_tensor *stored = &t->stored.tensor;
        uint32_t shape[CWB_MAX_RANK];
        int64_t *dims;

        memset(t, 0, sizeof *t);
        if (is_delta) {
            (void)cwb_delta_tensor_at(files, (uint32_t)i, &t->stored);
        } else {
            next_tensor(&window, &payload, stored);
        }
        elements += stored->kind == CWB_RAW ? 0 : stored->count;
        cwb_shape(stored, shape);
        dims = cwb_tree_take(tree, CWB_MAX_RANK * sizeof *dims);
        if (dims == NULL) {
            return CWB_ONNX_ERR_MEMORY;
        }
        for (axis = 0; axis < stored->rank; axis++) {
            dims[axis] = shape[axis];
        }
        t->info.dims = dims;
        t->info.rank = stored->rank;
        t->info.type = stored->type;
        t->info.apart = t->info.is_read = 1;
        if (UINT64_C(4) * stored->count > SIZE_MAX / 2) {
            return CWB_ONNX_ERR_LARGE;
        }
        t->info.size = stored->kind == CWB_RAW ? stored->payload_size : 4 * (size_t)stored->count;
    }
    if (members->list == NULL) {
        return CWB_ONNX_ERR_MEMORY;
    }
    return elements > (UINT64_C(1) << 27) + (UINT64_C(1) << 15) * files->base.size ? CWB_ONNX_ERR_LIMIT : CWB_OK;
}

int cwb_name_members(cwb_tree *tree, const cwb_members *members, const uint8_t **p, const uint8_t *end)
{
    cwb_texts names = {cwb_tree_take(tree, members->count * sizeof(cwb_text)), members->count};
    size_t i, k;

    if (names.texts == NULL) {
        return CWB_ONNX_ERR_MEMORY;
    }
    for (i = 0; i < members->count; i++) {
        uint64_t size;

        *p = cwb_read_varint(*p, end, &size);
        if (*p == NULL || size == 0 || size > LONGEST_NAME || size > (size_t)(end - *p) || !cwb_is_utf8(*p, (size_t)size)) {
            return CWB_ERR_NAME;
        }
        for (k = 0; k < size; k++) {
            if ((*p)[k] == 0) {
                return CWB_ERR_NAME;
            }
        }
        members->list[i].info.name = cwb_tree_copy(tree, *p, (size_t)size);
        members->list[i].info.name_length = (size_t)size;
        if (members->list[i].info.name == NULL) {
            return CWB_ONNX_ERR_MEMORY;
        }
        names.texts[i].data = *p;
        names.texts[i].size = (size_t)size;
        names.texts[i].order = (uint32_t)i;
        *p += size;
    }
    cwb_sort_texts(&names);
    for (i = 1; i < members->count; i++) {
        if (cwb_equal_texts(&names.texts[i - 1], &names.texts[i])) {
            return CWB_ERR_NAME;
        }
    }
    return CWB_OK;
}

size_t cwb_put_digits(char *out, uint64_t number)
{
    size_t size = 1, i;
    uint64_t rest;

    for (rest = number; rest > 9; rest /= 10) {
        size++;
    }
    for (i = size; i > 0; number /= 10) {
        out[--i] = (char)('0' + number % 10);
    }
    return size;
}

int cwb_number_members(cwb_tree *tree, const cwb_members *members)
{
    size_t i;

    for (i = 0; i < members->count; i++) {
        char *name = cwb_tree_take(tree, 24);

        if (name == NULL) {
            return CWB_ONNX_ERR_MEMORY;
        }
        name[0] = '#';
        members->list[i].info.name = name;
        members->list[i].info.name_length = 1 + cwb_put_digits(name + 1, i);
        name[members->list[i].info.name_length] = 0;
    }
    return CWB_OK;
}
