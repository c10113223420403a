/* SPDX-License-Identifier: Apache-2.0 */
#include "exercise.h"

#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition)                \
    do {                                  \
        if (!(condition)) {               \
            broken(__LINE__, #condition); \
        }                                 \
    } while (0)

/* For the test that a fault is noticed: bytes by which scratch memory is too small. */
#ifndef SHORT_SCRATCH
#define SHORT_SCRATCH(seed) 0
#endif

/* ---- what a run has seen -------------------------------------------------------------------------------------- */

/* Fowler-Noll-Vo, 64 bits. */
static void mix(item *seen, const void *data, size_t size)
{
    const uint8_t *p = data;

    while (size-- > 0) {
        seen->digest = (seen->digest ^ *p++) * UINT64_C(0x100000001B3);
    }
}

static void mix_number(item *seen, uint32_t number)
{
    mix(seen, &number, sizeof number);
}

static item *begin_item(outcome *out)
{
    item *made = &out->items[out->count < MAX_ITEMS ? out->count++ : MAX_ITEMS - 1];

    made->error = CWB_OK;
    made->digest = UINT64_C(0xCBF29CE484222325);
    return made;
}

static uint32_t draw(uint32_t *seed, uint32_t bound)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % bound;
}

/* Memory of the exact size, at the alignment that the decoder asks for, so at the end of a block. */
static void *exactly(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);

    if (memory == NULL) {
        abort();
    }
    return memory;
}

/* ---- how much work a call may be ------------------------------------------------------------------------------ */

static uint64_t walk_cost(const cwb_file *file)
{
    return 500 + 60 * (uint64_t)file->size;
}

static uint64_t begin_cost(const cwb_tensor *tensor)
{
    uint64_t exponents = tensor->stepped ? 200 * (uint64_t)tensor->payload_size : 0;

    return 8000 + 1400 * (2 * (uint64_t)tensor->largest + 1) + exponents; /* tables */
}

/* A symbol of an ANS tensor is searched for among 2 L + 1 at worst, an adaptive one takes 12 + 11 + 11 + 7 + 1 bits at most. */
static uint64_t read_cost(const cwb_tensor *tensor, uint64_t count)
{
    return 200 + count * (500 + 4 * (uint64_t)tensor->largest);
}

static uint64_t decode_cost(const cwb_tensor *tensor)
{
    uint64_t exponents = tensor->stepped ? 600 * (uint64_t)tensor->count : 0; /* a row may have one element */

    return begin_cost(tensor) + read_cost(tensor, tensor->count) + 8 * (uint64_t)tensor->payload_size + exponents;
}

/* ---- the functions -------------------------------------------------------------------------------------------- */

static int inside(const uint8_t *p, size_t size, const uint8_t *data, size_t all)
{
    return p >= data && p <= data + all && size <= (size_t)(data + all - p);
}

static void in_range(const cwb_tensor *tensor, const int16_t *symbols, size_t count)
{
    while (count-- > 0) {
        REQUIRE(*symbols >= -(int32_t)tensor->largest && *symbols <= (int32_t)tensor->largest);
        symbols++;
    }
}

static int fits_i8(const cwb_tensor *tensor)
{
    return tensor->largest <= 127;
}

/* Reads `count` symbols in pieces of random sizes; the answer of cwb_begin, or of cwb_end if these are all. */
static cwb_error pieces(const cwb_tensor *tensor, uint16_t *scratch, size_t room, uint32_t seed, int16_t *out,
                        uint32_t count)
{
    int8_t narrow[64];
    int16_t none;
    uint32_t done, now, i;
    cwb_stream stream;
    cwb_error error;

    allow(begin_cost(tensor));
    error = cwb_begin(tensor, scratch, room, &stream);
    if (error != CWB_OK) {
        REQUIRE(error == CWB_ERR_TABLE || error == CWB_ERR_STREAM || (error == CWB_ERR_GRID && tensor->stepped));
        return error;
    }
    for (done = 0; done < count; done += now) {
        now = 1 + draw(&seed, 64);
        now = now < count - done ? now : count - done;
        allow(read_cost(tensor, now) + 1000);
        REQUIRE(cwb_end(&stream) == CWB_ERR_ARGUMENT);
        if (draw(&seed, 2) > 0 && fits_i8(tensor)) {
            REQUIRE(cwb_read_i8(&stream, narrow, now) == CWB_OK);
            for (i = 0; i < now; i++) {
                out[done + i] = narrow[i];
            }
        } else {
            REQUIRE(tensor->largest <= 128 || cwb_read_i8(&stream, narrow, now) == CWB_ERR_RANGE);
            REQUIRE(cwb_read_i16(&stream, out + done, now) == CWB_OK);
        }
        in_range(tensor, out + done, now);
    }
    allow(1000);
    if (count < tensor->count) {
        return CWB_OK;
    }
    REQUIRE(cwb_read_i16(&stream, &none, 1) == CWB_ERR_ARGUMENT);
    error = cwb_end(&stream);
    REQUIRE(error == CWB_OK || error == CWB_ERR_STREAM);
    return error;
}

/* Decodes over the tensor's own payload. A hostile margin may be too small: then the symbols are wrong, but in bounds. */
static cwb_error in_place(const cwb_file *file, uint32_t index, const cwb_tensor *tensor, uint16_t *scratch,
                          size_t scratch_size, item *seen)
{
    uint32_t margin = 0, i;
    uint8_t *buffer;
    size_t room;
    cwb_tensor copy = *tensor;
    cwb_error error;

    allow((uint64_t)(file->records - file->tensors + 4) * walk_cost(file));
    error = cwb_margin(file, index, &margin);
    REQUIRE(error == CWB_OK || error == CWB_ERR_NOT_FOUND || error == CWB_ERR_PAYLOAD_CRC || error == CWB_ERR_LAYOUT);
    room = (size_t)tensor->count + margin;
    REQUIRE(error != CWB_OK || (margin <= tensor->payload_size && room >= tensor->payload_size));
    if (error != CWB_OK || !fits_i8(tensor)) {
        return error == CWB_ERR_NOT_FOUND ? CWB_OK : error;
    }
    buffer = exactly(room);
    memcpy(buffer + room - tensor->payload_size, tensor->payload, tensor->payload_size);
    copy.payload = buffer + room - tensor->payload_size;
    allow(decode_cost(tensor));
    error = cwb_decode_i8(&copy, scratch, scratch_size, (int8_t *)buffer, tensor->count);
    for (i = 0; i < tensor->count && error == CWB_OK; i++) {
        REQUIRE((int8_t)buffer[i] >= -(int32_t)tensor->largest && (int8_t)buffer[i] <= (int32_t)tensor->largest);
    }
    mix(seen, buffer, error == CWB_OK ? tensor->count : 0);
    free(buffer);
    return error;
}

static size_t row_count(const cwb_tensor *tensor)
{
    uint32_t dims[CWB_MAX_RANK];

    cwb_shape(tensor, dims);
    return tensor->run > 0 ? tensor->count / tensor->run : tensor->rank > 0 ? dims[0] : 1;
}

/* The exponents of a sound tensor. */
static int8_t *exponents(const cwb_tensor *tensor)
{
    size_t rows = row_count(tensor);
    int8_t *out = exactly(rows);

    allow(begin_cost(tensor) + 10 * (uint64_t)rows);
    REQUIRE(cwb_exponents(tensor, out, rows - 1) == CWB_ERR_SPACE);
    REQUIRE(cwb_exponents(tensor, out, rows) == CWB_OK);
    return out;
}

/* Every way to decode a tensor as a whole. They must agree. */
static cwb_error whole(const cwb_tensor *tensor, uint16_t *scratch, size_t room, uint32_t seed, item *seen)
{
    size_t count = tensor->count, length, i;
    int16_t *symbols = exactly(2 * count), *again = exactly(2 * count);
    int8_t *narrow = exactly(count), *rows, row;
    float *values = exactly(4 * count), largest, step, value;
    cwb_error error, other;

    allow(decode_cost(tensor));
    error = cwb_check(tensor, scratch, room);
    allow(decode_cost(tensor));
    REQUIRE(cwb_decode_i16(tensor, scratch, room, symbols, count) == error);
    allow(decode_cost(tensor));
    REQUIRE(cwb_decode_f32(tensor, scratch, room, values, count) == error);
    allow(decode_cost(tensor));
    other = cwb_decode_i8(tensor, scratch, room, narrow, count);
    REQUIRE(other == CWB_ERR_RANGE ? tensor->largest >= 128 : other == error && tensor->largest <= 128);
    allow(1000);
    REQUIRE(cwb_decode_i16(tensor, scratch, room, symbols, count - 1) == CWB_ERR_SPACE);
    REQUIRE(cwb_decode_f32(tensor, scratch, room - 1, values, count) == CWB_ERR_SPACE);
    REQUIRE(cwb_check(tensor, scratch, room - 1) == CWB_ERR_SPACE);
    other = pieces(tensor, scratch, room, seed, again, tensor->count);
    if (error == CWB_OK) {
        REQUIRE(other == CWB_OK);
        rows = exponents(tensor);
        length = row_count(tensor);
        largest = cwb_step(tensor);
        for (i = 0; i < count; i++) {
            row = rows[tensor->run > 0 ? i / tensor->run : i % length];
            REQUIRE(row >= 0 && row <= (tensor->stepped ? 31 : 0));
            step = largest / (float)(UINT32_C(1) << row);
            value = step * (float)symbols[i];
            REQUIRE(again[i] == symbols[i] && memcmp(&value, &values[i], 4) == 0);
            REQUIRE(!fits_i8(tensor) || narrow[i] == symbols[i]);
        }
        mix(seen, symbols, 2 * count);
        mix(seen, values, 4 * count);
        free(rows);
    }
    free(symbols);
    free(again);
    free(narrow);
    free(values);
    return error;
}

static void raw(const cwb_tensor *tensor, item *seen)
{
    int16_t symbol;
    uint16_t scratch[1];
    cwb_stream stream;

    cwb_error error;

    allow(500 + 8 * (uint64_t)tensor->payload_size);
    error = cwb_check(tensor, NULL, 0);
    seen->error = seen->error == CWB_OK ? error : seen->error;
    REQUIRE(cwb_begin(tensor, scratch, sizeof scratch, &stream) == CWB_ERR_KIND);
    REQUIRE(cwb_decode_i16(tensor, scratch, sizeof scratch, &symbol, 1) == CWB_ERR_KIND);
    mix(seen, tensor->payload, tensor->payload_size);
}

static void tensor_item(const cwb_file *file, uint32_t index, uint32_t seed, item *seen)
{
    const uint8_t *data = file->data;
    uint32_t dims[CWB_MAX_RANK], axis;
    uint64_t product = 1;
    uint16_t *scratch;
    size_t room;
    cwb_tensor tensor, found;
    const char *name = NULL;
    size_t length = 0;
    cwb_error error;

    allow(2 * walk_cost(file));
    REQUIRE(cwb_tensor_at(file, index, &tensor) == CWB_OK);
    REQUIRE(inside(tensor.payload, tensor.payload_size, data, file->size));
    REQUIRE(inside(tensor.shape, tensor.rank, data, file->size) && tensor.rank <= CWB_MAX_RANK);
    cwb_shape(&tensor, dims);
    for (axis = 0; axis < CWB_MAX_RANK; axis++) {
        product *= axis < tensor.rank ? dims[axis] : 1;
        REQUIRE(axis < tensor.rank || dims[axis] == 0);
    }
    REQUIRE(product == tensor.count);
    mix(seen, dims, sizeof dims);
    mix_number(seen, tensor.step_bits);
    mix_number(seen, tensor.crc);
    mix_number(seen, tensor.run);
    mix_number(seen, (uint32_t)tensor.kind | (uint32_t)tensor.type << 8 | (uint32_t)tensor.order << 16);
    mix_number(seen, tensor.largest | (uint32_t)tensor.stepped << 16);
    allow(8 * walk_cost(file));
    error = cwb_name(file, index, &name, &length);
    REQUIRE(error == CWB_OK || error == CWB_ERR_NAME || error == CWB_ERR_NOT_FOUND || error == CWB_ERR_PAYLOAD_CRC);
    if (error == CWB_OK) { /* where two tensors share a name, the first one is found */
        REQUIRE(inside((const uint8_t *)name, length, data, file->size) && length > 0);
        REQUIRE(cwb_find(file, name, length, &found) == CWB_OK && found.shape <= tensor.shape);
        mix(seen, name, length);
    } else if (error != CWB_ERR_NOT_FOUND) {
        seen->error = error;
    }
    room = cwb_scratch_size(&tensor);
    if (tensor.kind == CWB_RAW) {
        REQUIRE(room == 0);
        raw(&tensor, seen);
        return;
    }
    REQUIRE(room > 0 && room <= CWB_MAX_SCRATCH && tensor.count > 0 && tensor.largest <= CWB_MAX_SYMBOL);
    scratch = exactly(room - SHORT_SCRATCH(seed));
    if (tensor.count <= MAX_DECODED) {
        error = whole(&tensor, scratch, room, seed, seen);
        seen->error = seen->error == CWB_OK ? error : seen->error;
        error = in_place(file, index, &tensor, scratch, room, seen);
        seen->error = seen->error == CWB_OK ? error : seen->error;
    } else {
        int16_t *some = exactly(2 * MAX_DECODED);

        (void)pieces(&tensor, scratch, room, seed, some, MAX_DECODED);
        free(some);
    }
    free(scratch);
}

static void multiplier(uint32_t seed)
{
    uint32_t bits[3], i;
    int32_t factor = 0, shift = 0;
    cwb_error error;

    for (i = 0; i < 3; i++) {
        bits[i] = draw(&seed, 1 << 16) << 16 | draw(&seed, 1 << 16);
    }
    allow(2000);
    error = cwb_multiplier(bits[0], bits[1], bits[2], &factor, &shift);
    REQUIRE(error == CWB_OK || error == CWB_ERR_ARGUMENT || error == CWB_ERR_RANGE);
    REQUIRE(error != CWB_OK || (factor == 0 && shift == 0) || (factor >= 1 << 30 && shift >= -31 && shift <= 30));
}

void exercise(const uint8_t *data, size_t size, uint32_t seed, outcome *out)
{
    static const uint8_t kinds[] = {CWB_GRAPH, CWB_METADATA, CWB_NAMES, CWB_MARGINS, 100};
    cwb_file file;
    cwb_tensor tensor;
    item *seen;
    uint32_t i;

    out->count = 0;
    seen = begin_item(out);
    multiplier(seed);
    allow(2000 + 60 * (uint64_t)size);
    seen->error = cwb_open(&file, data, size);
    if (seen->error != CWB_OK) {
        REQUIRE(seen->error > CWB_ERR_TABLE && cwb_strerror(seen->error)[0] != '\0');
        return;
    }
    REQUIRE(file.size == size && file.tensors <= file.records && file.records <= CWB_MAX_RECORDS);
    mix_number(seen, file.tensors);
    mix_number(seen, file.records);
    allow(20 * walk_cost(&file));
    REQUIRE(cwb_tensor_at(&file, file.tensors + draw(&seed, 9), &tensor) == CWB_ERR_NOT_FOUND);
    REQUIRE(cwb_find(&file, "\xff not a name", 13, &tensor) < CWB_OK);
    for (i = 0; i < file.tensors && i < MAX_ITEMS - 1 - sizeof kinds; i++) {
        tensor_item(&file, i, seed + i, begin_item(out));
    }
    for (i = 0; i < sizeof kinds; i++) {
        const uint8_t *payload = NULL;
        uint32_t length = 0;

        seen = begin_item(out);
        allow(500 + (uint64_t)(file.records - file.tensors + 1) * walk_cost(&file));
        seen->error = cwb_section(&file, (cwb_kind)kinds[i], &payload, &length);
        if (seen->error == CWB_ERR_NOT_FOUND) {
            seen->error = CWB_OK;
        } else {
            REQUIRE(seen->error == CWB_OK || seen->error == CWB_ERR_PAYLOAD_CRC);
            REQUIRE(inside(payload, length, data, size));
            mix(seen, payload, length);
        }
    }
}
