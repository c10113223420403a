/* SPDX-License-Identifier: Apache-2.0
 *
 * deltas base.cwb delta.cwb: decodes a delta in every way, and writes the values of its coded tensors to stdout, as
 * little-endian int16, one after the other. The last line on stderr is the first error, a number, 0 if there was none.
 * deltas base.cwb delta.cwb N: does so with N damaged copies of the delta, whose header's CRC is set right, and of the
 * base, and writes nothing: sanitizers watch.
 *
 * Files, scratch and output are malloced at their exact size, files at an odd address.
 */
#include "cwb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition)                                                     \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            exit(99);                                                          \
        }                                                                      \
    } while (0)

typedef struct {
    unsigned char *memory;
    unsigned char *data;
    size_t size;
} buffer;

static FILE *out; /* null: nothing is written, and damage is expected */

static void *allocate(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);

    REQUIRE(memory != NULL);
    return memory;
}

static buffer copy_of(const unsigned char *data, size_t size)
{
    buffer made;

    made.memory = allocate(size + 1);
    made.data = made.memory + 1;
    made.size = size;
    memcpy(made.data, data, size);
    return made;
}

static buffer read_file(const char *path)
{
    static unsigned char data[1 << 20];
    FILE *in = fopen(path, "rb");
    size_t size;

    REQUIRE(in != NULL);
    size = fread(data, 1, sizeof data, in);
    fclose(in);
    return copy_of(data, size);
}

static cwb_error stream(const cwb_changed *tensor, uint16_t *scratch, size_t bytes, int16_t *symbols, size_t piece)
{
    cwb_delta_stream reader;
    uint32_t left = tensor->tensor.count;
    cwb_error error = cwb_delta_begin(tensor, scratch, bytes, &reader);

    while (error == CWB_OK && left > 0) {
        size_t now = left < piece ? left : piece;

        error = cwb_delta_read_i16(&reader, symbols, now);
        symbols += now;
        left -= (uint32_t)now;
    }
    if (error == CWB_OK) {
        REQUIRE(cwb_delta_read_i16(&reader, symbols, 1) == CWB_ERR_ARGUMENT);
        REQUIRE(cwb_delta_read_i8(&reader, (int8_t *)symbols, 1) == CWB_ERR_ARGUMENT);
        error = cwb_delta_end(&reader);
    }
    return error;
}

static cwb_error stream_i8(const cwb_changed *tensor, uint16_t *scratch, size_t bytes, int8_t *symbols, size_t piece)
{
    cwb_delta_stream reader;
    uint32_t left = tensor->tensor.count;
    cwb_error error = cwb_delta_begin(tensor, scratch, bytes, &reader);

    while (error == CWB_OK && left > 0) {
        size_t now = left < piece ? left : piece;

        error = cwb_delta_read_i8(&reader, symbols, now);
        symbols += now;
        left -= (uint32_t)now;
    }
    return error == CWB_OK ? cwb_delta_end(&reader) : error;
}

/* A coded tensor in every way; all agree, but for CRCs, which streams do not check. */
static cwb_error decode(const cwb_changed *tensor)
{
    uint32_t count = tensor->tensor.count, i;
    size_t bytes = cwb_delta_scratch_size(tensor);
    uint16_t *scratch = allocate(bytes);
    int16_t *symbols = allocate(count * sizeof *symbols), *streamed = allocate(count * sizeof *streamed);
    int8_t *narrow = allocate(count);
    int fits = 1;
    cwb_error error = cwb_delta_decode_i16(tensor, scratch, bytes, symbols, count), other;

    REQUIRE(cwb_delta_check(tensor, scratch, bytes) == error);
    REQUIRE(cwb_delta_decode_i16(tensor, scratch, bytes, symbols, count - 1) == CWB_ERR_SPACE);
    REQUIRE(cwb_delta_decode_i16(tensor, scratch, bytes - 1, symbols, count) == CWB_ERR_SPACE);
    REQUIRE(cwb_delta_decode_i16(tensor, scratch, bytes, NULL, count) == CWB_ERR_ARGUMENT);
    other = stream(tensor, scratch, bytes, streamed, 1 + count % 37);
    REQUIRE(other == error || (error == CWB_ERR_PAYLOAD_CRC && other == CWB_OK));
    for (i = 0; error == CWB_OK && i < count; i++) {
        REQUIRE(symbols[i] == streamed[i]);
        REQUIRE(symbols[i] <= CWB_MAX_SYMBOL && symbols[i] >= -CWB_MAX_SYMBOL);
        fits = fits && symbols[i] <= 127 && symbols[i] >= -128;
    }
    other = cwb_delta_decode_i8(tensor, scratch, bytes, narrow, count);
    if (error == CWB_OK) {
        REQUIRE(other == (fits ? CWB_OK : CWB_ERR_RANGE));
        REQUIRE(stream_i8(tensor, scratch, bytes, narrow, 5) == (fits ? CWB_OK : CWB_ERR_RANGE));
        for (i = 0; fits && i < count; i++) {
            REQUIRE(narrow[i] == symbols[i]);
        }
    } else {
        REQUIRE(other != CWB_OK);
    }
#ifndef CWB_NO_FLOAT
    {
        float *values = allocate(count * sizeof *values);
        int8_t *exponents = allocate(count);

        if (cwb_exponents(&tensor->tensor, exponents, count) != CWB_OK) {
            REQUIRE(error != CWB_OK);
        }
        REQUIRE(cwb_delta_decode_f32(tensor, scratch, bytes, values, count) == error);
        for (i = 0; error == CWB_OK && i < count; i++) {
            int exponent = exponents[tensor->tensor.run > 0 ? i / tensor->tensor.run : 0];

            REQUIRE(values[i] == cwb_step(&tensor->tensor) / (float)((uint32_t)1 << exponent) * (float)symbols[i]);
        }
        free(values);
        free(exponents);
    }
#endif
    for (i = 0; out != NULL && error == CWB_OK && i < count; i++) {
        fputc((uint16_t)symbols[i] & 0xFF, out);
        fputc((uint16_t)symbols[i] >> 8, out);
    }
    free(scratch);
    free(symbols);
    free(streamed);
    free(narrow);
    return error;
}

static cwb_error decode_all(const buffer *base_bytes, const buffer *delta_bytes)
{
    cwb_file base, same;
    cwb_delta delta;
    cwb_changed tensor;
    uint32_t i;
    cwb_error error = cwb_open(&base, base_bytes->data, base_bytes->size), first = CWB_OK;

    if (error == CWB_OK) {
        error = cwb_delta_open(&delta, delta_bytes->data, delta_bytes->size, &base);
    }
    if (error != CWB_OK) {
        return error;
    }
    REQUIRE(cwb_open(&same, delta_bytes->data, delta_bytes->size) == CWB_ERR_VERSION);
    REQUIRE(cwb_delta_open(&delta, base_bytes->data, base_bytes->size, &base) == CWB_ERR_BASE);
    REQUIRE(cwb_delta_open(&delta, delta_bytes->data, delta_bytes->size, &base) == CWB_OK);
    REQUIRE(cwb_delta_open(&delta, delta_bytes->data, delta_bytes->size, NULL) == CWB_ERR_ARGUMENT);
    for (i = 0; i < base.tensors; i++) {
        REQUIRE(cwb_delta_tensor_at(&delta, i, &tensor) == CWB_OK);
        if (tensor.tensor.kind == CWB_RAW) {
            uint16_t unused;
            int16_t symbol;

            REQUIRE(cwb_delta_scratch_size(&tensor) == 0);
            REQUIRE(cwb_delta_decode_i16(&tensor, &unused, 0, &symbol, 1) == CWB_ERR_KIND);
            error = cwb_delta_check(&tensor, NULL, 0);
        } else {
            error = decode(&tensor);
        }
        first = first == CWB_OK ? error : first;
    }
    REQUIRE(cwb_delta_tensor_at(&delta, i, &tensor) == CWB_ERR_NOT_FOUND);
#ifndef CWB_NO_NAMES
    for (i = 0; i < base.tensors; i++) {
        const char *name;
        size_t length;
        cwb_changed by_name;

        if (cwb_name(&base, i, &name, &length) == CWB_OK) {
            REQUIRE(cwb_delta_find(&delta, name, length, &by_name) == CWB_OK);
            REQUIRE(cwb_delta_tensor_at(&delta, i, &tensor) == CWB_OK);
            REQUIRE(by_name.tensor.payload == tensor.tensor.payload && by_name.is_changed == tensor.is_changed);
        }
    }
    REQUIRE(cwb_delta_find(&delta, "?", 1, &tensor) != CWB_OK);
#endif
    return first;
}

static void damage(const buffer *base, const buffer *delta, long times)
{
    uint32_t state = 1;
    long i;

    for (i = 0; i < times; i++) {
        buffer files[2];
        unsigned char *data;
        size_t place;
        uint32_t crc = UINT32_C(0xFFFFFFFF);
        size_t directory, at;

        files[0] = copy_of(base->data, base->size);
        files[1] = copy_of(delta->data, delta->size);
        state = state * UINT32_C(1664525) + UINT32_C(1013904223);
        place = state >> 8;
        data = files[i % 4 != 0].data;
        place %= files[i % 4 != 0].size;
        data[place] ^= (unsigned char)(1u << (state >> 4 & 7));
        data = files[1].data; /* the base keeps its CRC, by which it is known */
        directory = data[8] | (size_t)data[9] << 8;
        for (at = 0; at < 20 + directory && at < files[1].size; at++) {
            int bit;

            at = at == 16 ? 20 : at;
            crc ^= data[at];
            for (bit = 0; bit < 8; bit++) {
                crc = (crc >> 1) ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
            }
        }
        crc = ~crc;
        for (at = 0; at < 4; at++) {
            data[16 + at] = (unsigned char)(crc >> 8 * at & 0xFF);
        }
        (void)decode_all(&files[0], &files[1]);
        free(files[0].memory);
        free(files[1].memory);
    }
}

int main(int argc, char **argv)
{
    buffer base, delta;

    REQUIRE(argc == 3 || argc == 4);
    base = read_file(argv[1]);
    delta = read_file(argv[2]);
    if (argc == 4) {
        damage(&base, &delta, atol(argv[3]));
    } else {
        out = stdout;
        fprintf(stderr, "%d\n", (int)decode_all(&base, &delta));
    }
    free(base.memory);
    free(delta.memory);
    return 0;
}
