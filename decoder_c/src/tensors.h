/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole tensors: a tensor decoded in one call, with everything checked that can be.
 */
#ifndef CWB_TENSORS_H
#define CWB_TENSORS_H

#include "crc.h"
#include "streams.h"

#ifndef CWB_NO_FLOAT
typedef union {
    uint32_t bits;
    float value;
} float_bits;

float cwb_step(const cwb_tensor *tensor)
{
    float_bits step;

    step.bits = tensor->step_bits;
    return step.value;
}

/* Divides the elements of a sound tensor, which were decoded with its step, by the powers of two of their rows: this is exact. */
COLD static void divide_rows(const cwb_tensor *tensor, float *out)
{
    row_cursor rows;
    float_bits factor;
    uint32_t i, row_left = 0;

    rows.left = 0;
    factor.bits = 0;
    for (i = 0; i < tensor->count; i++) {
        if (row_left == 0) {
            factor.bits = (uint32_t)(127 - next_exponent(&rows, tensor)) << 23;
            row_left = tensor->run > 0 ? tensor->run : 1;
        }
        row_left--;
        out[i] *= factor.value;
    }
}
#endif

typedef enum { NOWHERE, TO_I8, TO_I16, TO_F32 } target;

/* Takes so many symbols from `tile` to `out`, behind those done. */
static cwb_error deliver(const cwb_tensor *tensor, const int16_t *tile, uint32_t count, void *out, uint32_t done, target to)
{
    uint32_t i;

    if (to == TO_I8) {
        for (i = 0; i < count; i++) {
            if (tile[i] > INT8_MAX || tile[i] < INT8_MIN) {
                return CWB_ERR_RANGE;
            }
            ((int8_t *)out)[done + i] = (int8_t)tile[i];
        }
    }
#ifndef CWB_NO_FLOAT
    if (to == TO_F32) {
        for (i = 0; i < count; i++) {
            ((float *)out)[done + i] = cwb_step(tensor) * (float)tile[i];
        }
    }
#else
    (void)tensor;
#endif
    return CWB_OK;
}

/* The CRC of what had the CRC `crc` and one to TILE symbols behind it. */
#ifndef CWB_NO_CRC
static uint32_t crc_of_symbols(uint32_t crc, const int16_t *symbols, uint32_t count)
{
#if LITTLE_ENDIAN_BYTES
    return CWB_CRC32(crc, (const uint8_t *)symbols, (size_t)(2 * count));
#else
    uint8_t bytes[2 * TILE];
    uint32_t i = 0;

    do {
        bytes[2 * i] = (uint8_t)((uint16_t)symbols[i] & 0xFF);
        bytes[2 * i + 1] = (uint8_t)((uint16_t)symbols[i] >> 8);
    } while (++i < count);
    return CWB_CRC32(crc, bytes, (size_t)(2 * count));
#endif
}
#endif

/* Decodes a coded tensor to `out`, which has room for all of it, and checks whatever can be checked. */
static cwb_error decode(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, void *out, target to)
{
    int16_t tile[TILE];
    cwb_stream stream;
    uint32_t done, now;
    cwb_error error;
#ifndef CWB_NO_CRC
    uint32_t crc = CWB_CRC32(0, tensor->payload, (size_t)tensor->payload_size);
#endif

    error = cwb_begin(tensor, scratch, scratch_bytes, &stream);
    for (done = 0; error == CWB_OK && done < tensor->count; done += now) {
        int16_t *symbols = tile;

        if (to == TO_I16) {
            symbols = (int16_t *)out + done;
        }
        now = tensor->count - done < TILE ? tensor->count - done : TILE;
        if (cwb_read_i16(&stream, symbols, (size_t)now) != CWB_OK) {
            break; /* it never is: cwb_end would say so */
        }
#ifndef CWB_NO_CRC
        crc = crc_of_symbols(crc, symbols, now);
#endif
        error = deliver(tensor, symbols, now, out, done, to);
    }
    if (error == CWB_OK) {
        error = cwb_end(&stream);
    }
#ifndef CWB_NO_CRC
    if (error == CWB_OK && crc != tensor->crc) {
        error = CWB_ERR_PAYLOAD_CRC;
    }
#endif
    return error;
}

static cwb_error decode_to(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, void *out,
                           size_t capacity, target to)
{
    if (tensor == NULL || out == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (!can_decode(tensor)) {
        return CWB_ERR_KIND;
    }
    if (to == TO_I8 && tensor->largest > INT8_MAX + 1) {
        return CWB_ERR_RANGE;
    }
    if (capacity < tensor->count || scratch_bytes < cwb_scratch_size(tensor)) {
        return CWB_ERR_SPACE;
    }
    return decode(tensor, scratch, scratch_bytes, out, to);
}

cwb_error cwb_check(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes)
{
    if (tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (tensor->kind == CWB_RAW) {
        return has_crc(tensor->payload, tensor->payload_size, tensor->crc) ? CWB_OK : CWB_ERR_PAYLOAD_CRC;
    }
    if (scratch_bytes < cwb_scratch_size(tensor)) {
        return CWB_ERR_SPACE;
    }
    return decode(tensor, scratch, scratch_bytes, NULL, NOWHERE);
}

cwb_error cwb_decode_i16(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, int16_t *out,
                         size_t capacity)
{
    return decode_to(tensor, scratch, scratch_bytes, out, capacity, TO_I16);
}

cwb_error cwb_decode_i8(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, int8_t *out,
                        size_t capacity)
{
    return decode_to(tensor, scratch, scratch_bytes, out, capacity, TO_I8);
}

#ifndef CWB_NO_FLOAT
cwb_error cwb_decode_f32(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, float *out,
                         size_t capacity)
{
    cwb_error error = decode_to(tensor, scratch, scratch_bytes, out, capacity, TO_F32);

    if (error == CWB_OK && has_exponents(tensor)) {
        divide_rows(tensor, out);
    }
    return error;
}
#endif

#endif
