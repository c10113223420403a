/* SPDX-License-Identifier: Apache-2.0
 *
 * Sections: the payloads that belong to no tensor, and what is read of them here, names and margins.
 */
#ifndef CWB_SECTIONS_H
#define CWB_SECTIONS_H

#include "directory.h"

enum { MAX_NAME = 1024 };

cwb_error cwb_section(const cwb_file *file, cwb_kind kind, const uint8_t **data, uint32_t *size)
{
    cwb_tensor record;
    cursor c;
    uint32_t left;

    if (file == NULL || data == NULL || size == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    c = directory_of(file, &record);
    for (left = file->records; left > 0; left--) {
        (void)read_record(&c, &record);
        /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): cwb_open has read all records */
        if (record.kind == (uint8_t)kind && record.kind >= CWB_GRAPH) {
            *data = record.payload;
            *size = record.payload_size;
            return has_crc(record.payload, record.payload_size, record.crc) ? CWB_OK : CWB_ERR_PAYLOAD_CRC;
        }
    }
    return CWB_ERR_NOT_FOUND;
}

/* Begins to read a section. */
static cwb_error open_section(const cwb_file *file, cwb_kind kind, cursor *c)
{
    uint32_t size = 0;
    cwb_error error = cwb_section(file, kind, &c->p, &size);

    if (error == CWB_OK) {
        c->end = c->p + size;
        c->failed = 0;
    }
    return error;
}

#ifndef CWB_NO_NAMES
/* Looks through the names for that of tensor `*index`, if `*name` is null, or for the first that is `*name`; sets what it was
 * not given. All names are checked. */
static cwb_error find_name(const cwb_file *file, uint32_t *index, const char **name, size_t *length)
{
    cursor c;
    uint32_t i, found = FOREVER;
    const char *wanted = *name;
    cwb_error error = open_section(file, CWB_NAMES, &c);

    for (i = 0; error == CWB_OK && i < file->tensors; i++) {
        uint32_t size = take_varint(&c), j = 0;
        const uint8_t *other = take(&c, size);

        if (size - 1 >= MAX_NAME || c.failed) { /* a failure reads as 0 */
            error = CWB_ERR_NAME;
        } else if (found == FOREVER) {
            while (wanted != NULL && j < size && size == *length && other[j] == (uint8_t)wanted[j]) {
                j++;
            }
            if (wanted == NULL ? i == *index : j == size) {
                found = i;
                *name = (const char *)other;
                *length = (size_t)size;
            }
        }
    }
    if (error != CWB_OK) {
        return error;
    }
    *index = found;
    return c.p != c.end ? CWB_ERR_NAME : found == FOREVER ? CWB_ERR_NOT_FOUND : CWB_OK;
}

cwb_error cwb_name(const cwb_file *file, uint32_t index, const char **name, size_t *length)
{
    if (file == NULL || name == NULL || length == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    *name = NULL;
    return find_name(file, &index, name, length);
}

cwb_error cwb_find(const cwb_file *file, const char *name, size_t name_length, cwb_tensor *tensor)
{
    uint32_t index = 0;
    cwb_error error;

    if (file == NULL || name == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = find_name(file, &index, &name, &name_length);
    return error == CWB_OK ? cwb_tensor_at(file, index, tensor) : error;
}
#endif

cwb_error cwb_margin(const cwb_file *file, uint32_t index, uint32_t *margin)
{
    uint8_t found = 0, fits = 1;
    cursor c, records;
    cwb_tensor tensor;
    uint32_t i;
    cwb_error error;

    if (margin == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = open_section(file, CWB_MARGINS, &c);
    if (error != CWB_OK) {
        return error;
    }
    records = directory_of(file, &tensor);
    for (i = 0; i < file->tensors; i++) {
        (void)read_record(&records, &tensor);
        if (tensor.kind != CWB_RAW) {
            uint32_t value = take_varint(&c);

            if (i == index) { /* the buffer must have room for the payload, and need not have more beyond the symbols */
                *margin = value;
                found = 1;
                /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): cwb_open has read this record */
                fits = value <= tensor.payload_size && tensor.payload_size - value <= tensor.count;
            }
        }
    }
    return c.failed || c.p != c.end || !fits ? CWB_ERR_LAYOUT : found ? CWB_OK : CWB_ERR_NOT_FOUND;
}

#endif
