/* SPDX-License-Identifier: Apache-2.0
 *
 * The directory: header and records of a file, which cwb_open checks once and cwb_tensor_at reads again.
 */
#ifndef CWB_DIRECTORY_H
#define CWB_DIRECTORY_H

#include "crc.h"

enum {
    HEADER_SIZE = 20,
    HEADER_CRC = 16, /* where its CRC stands */
    /* the first byte of a record: from here on a coded tensor, whose coder and form are */
    CODED = 128,
    CODER = 64,
    FIRST_TRELLIS = 3,
    /* the byte in front of the record of a tensor with exponents, and the first form that may have them */
    EXPONENTS = 62,
    FIRST_STEPPED = 2
};

#define MAGIC UINT32_C(0x42574389) /* 0x89 and "CWB" */
#define MAX_COUNT UINT32_C(0x7FFFFFFF)

/* Steps as the bits of floats. A short one has three bits of mantissa, and five of the exponent, from 2^-25 on. The others are
 * 2^-126 to 2^117: products with symbols are normal numbers. */
#define SHORT_STEP UINT32_C(0x33000000)
#define LEAST_STEP UINT32_C(0x00800000)
#define STEPS (UINT32_C(0x7A000000) - LEAST_STEP)
#define LEAST_STEPPED UINT32_C(0x10000000) /* 2^-95, so that the step of a row is normal */

/* Reads the dimensions: are their product, of those that are not 0, and the run of a trellis within limits? The run follows from
 * the form of a coded tensor: it is the last axis as stored, or all of them but the first. */
static int read_shape(cursor *c, cwb_tensor *tensor, uint8_t form)
{
    uint32_t product = 1, first = 1, last = 1, before = 1; /* before: the dimension before the last */
    uint8_t axis, empty = 0;

    tensor->shape = c->p;
    for (axis = 0; axis < tensor->rank; axis++) {
        before = last;
        last = take_varint(c);
        if (axis == 0) {
            first = last;
        }
        if (last == 0) {
            empty = 1;
        } else if (last > divide(MAX_COUNT, product)) {
            return 0;
        } else {
            product *= last;
        }
    }
    tensor->count = empty ? 0 : product;
    tensor->run = form < FIRST_TRELLIS    ? 0
                  : form == FIRST_TRELLIS ? last
                  : form == 6             ? first
                  : form == 7             ? before
                                          : divide(product, first);
    return 1;
}

/* Reads the fields of a coded tensor behind its CRC. */
static cwb_error read_coded(cursor *c, cwb_tensor *tensor, uint8_t form)
{
    static const uint8_t least_rank[8] = {0, 3, 2, 1, 1, 3, 2, 3};
    uint32_t largest, step;
    uint8_t trellis = form >= FIRST_TRELLIS;

    if (tensor->rank < least_rank[form] || !read_shape(c, tensor, form) || tensor->count == 0) {
        return CWB_ERR_SHAPE;
    }
    step = *take(c, 1);
    step = step > 0 ? (step << 20) + SHORT_STEP : take_u32(c);
    largest = take_varint(c);
    tensor->order = form == FIRST_TRELLIS ? 0 : form & 3;
    tensor->step_bits = step;
    tensor->largest = (uint16_t)(largest << trellis);
    if (largest > UINT32_C(2047) >> trellis || step - LEAST_STEP >= STEPS || (tensor->stepped && step < LEAST_STEPPED)) {
        return CWB_ERR_GRID;
    }
    return CWB_OK;
}

/* Reads the fields of a raw tensor behind its CRC. */
static cwb_error read_raw(cursor *c, cwb_tensor *tensor, uint8_t type)
{
    static const uint8_t types[4] = {CWB_FLOAT32, CWB_FLOAT16, CWB_FLOAT64, CWB_BFLOAT16};
    static const uint8_t items[4] = {2, 1, 3, 1}; /* log2 of the bytes of an element */
    uint8_t item = items[type];

    tensor->type = types[type];
    if (!read_shape(c, tensor, 0) || tensor->payload_size != tensor->count << item || tensor->count >> (32 - item) != 0) {
        return CWB_ERR_SHAPE;
    }
    return CWB_OK;
}

/* Reads the record whose payload begins at record->payload + record->payload_size, and checks its limits. Of a section only
 * kind, payload, its size and CRC mean something. */
COLD static cwb_error read_record(cursor *c, cwb_tensor *record)
{
    cwb_error error = CWB_OK;
    uint8_t head = *take(c, 1);

    record->stepped = head == EXPONENTS && record->version > 1;
    if (record->stepped) {
        head = *take(c, 1);
        if (head < CODED || (head >> 3 & 7) < FIRST_STEPPED) {
            return CWB_ERR_DIRECTORY;
        }
    }
    record->payload += record->payload_size;
    record->payload_size = take_varint(c);
    record->crc = take_u32(c);
    record->kind = head;
    record->type = CWB_FLOAT32;
    record->order = 0;
    record->rank = head & 7;
    record->largest = 0;
    if (head >= CODED) {
        record->kind = head & CODER ? CWB_ADAPTIVE : CWB_ANS;
        error = read_coded(c, record, head >> 3 & 7);
    } else if (head < CWB_GRAPH) {
        record->kind = CWB_RAW;
        error = read_raw(c, record, head >> 3);
    } else if (head > CWB_NAMES && head < CWB_MARGINS) {
        error = CWB_ERR_VERSION;
    }
    return c->failed ? CWB_ERR_DIRECTORY : error;
}

/* Begins to read records. */
static cursor directory_of(const cwb_file *file, cwb_tensor *record)
{
    cursor c;

    c.p = file->data + HEADER_SIZE;
    c.end = c.p + file->directory;
    c.failed = 0;
    record->payload = c.end;
    record->payload_size = 0;
    record->version = file->version;
    return c;
}

static cwb_error check_directory(cwb_file *file)
{
    cwb_tensor record;
    cursor c = directory_of(file, &record);
    const uint8_t *end = file->data + file->size;
    uint32_t left;
    uint8_t last = 0; /* kind of the last section */

    file->tensors = 0;
    for (left = file->records; left > 0; left--) {
        cwb_error error = read_record(&c, &record);

        if (error != CWB_OK) {
            return error;
        }
        if (record.kind >= CWB_GRAPH ? record.kind <= last : last > 0) {
            return CWB_ERR_DIRECTORY;
        }
        if (record.kind >= CWB_GRAPH) {
            last = record.kind;
        } else {
            file->tensors++;
        }
        if (record.payload_size > (size_t)(end - record.payload)) {
            return CWB_ERR_LAYOUT;
        }
    }
    if (c.p != c.end) {
        return CWB_ERR_DIRECTORY;
    }
    return record.payload + record.payload_size == end ? CWB_OK : CWB_ERR_LAYOUT;
}

cwb_error cwb_open(cwb_file *file, const void *data, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)data;

    if (file == NULL || (data == NULL && size > 0)) {
        return CWB_ERR_ARGUMENT;
    }
    if (size < HEADER_SIZE) {
        return CWB_ERR_TRUNCATED;
    }
    if (load_u32(bytes) != MAGIC) {
        return CWB_ERR_MAGIC;
    }
    file->data = bytes;
    file->records = load_u16(bytes + 6);
    file->directory = load_u32(bytes + 8);
    file->size = load_u32(bytes + 12);
    file->version = bytes[4];
    if (bytes[5] != 0 || file->version > CWB_FORMAT_VERSION || file->version < 2 - HAS_V1) {
        return CWB_ERR_VERSION;
    }
    if (size != file->size) {
        return size < file->size ? CWB_ERR_TRUNCATED : CWB_ERR_TRAILING;
    }
    if (file->directory > file->size - HEADER_SIZE) {
        return CWB_ERR_LAYOUT;
    }
#ifndef CWB_NO_CRC
    if (CWB_CRC32(CWB_CRC32(0, bytes, HEADER_CRC), bytes + HEADER_SIZE, (size_t)file->directory) !=
        load_u32(bytes + HEADER_CRC)) {
        return CWB_ERR_HEADER_CRC;
    }
#endif
    if (file->records > CWB_MAX_RECORDS) {
        return CWB_ERR_DIRECTORY;
    }
    return check_directory(file);
}

cwb_error cwb_tensor_at(const cwb_file *file, uint32_t index, cwb_tensor *tensor)
{
    cursor c;

    if (file == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (index >= file->tensors) {
        return CWB_ERR_NOT_FOUND;
    }
    c = directory_of(file, tensor);
    do {
        (void)read_record(&c, tensor);
    } while (index-- > 0);
    return CWB_OK;
}

void cwb_shape(const cwb_tensor *tensor, uint32_t dims[CWB_MAX_RANK])
{
    cursor c;
    uint8_t axis;

    c.p = tensor->shape;
    c.end = tensor->payload; /* somewhere behind them: opening the file has checked that they are there */
    c.failed = 0;
    for (axis = 0; axis < CWB_MAX_RANK; axis++) {
        dims[axis] = axis < tensor->rank ? take_varint(&c) : 0;
    }
}

#endif
