/* SPDX-License-Identifier: Apache-2.0
 *
 * Exponents: those of a tensor's rows, which stand in front of what its coder reads.
 */
#ifndef CWB_EXPONENTS_H
#define CWB_EXPONENTS_H

#include "bytes.h"

enum { CENTRE_BITS = 5, MOST_EXPONENT = 31 };

/* Exponents being read, again and again. */
typedef struct {
    bit_cursor bits;
    uint8_t centre;
    uint32_t left; /* of them, until they begin again */
} row_cursor;

/* Does the tensor have exponents, and may it? */
static int has_exponents(const cwb_tensor *tensor)
{
    return HAS_EXPONENTS && tensor->stepped;
}

/* Rows of a tensor: the runs of its trellis; without one, the elements of equal index on axis 0. */
COLD static uint32_t rows_of(const cwb_tensor *tensor)
{
    cursor c;

    if (tensor->run > 0 || tensor->rank == 0) {
        return divide(tensor->count, tensor->run > 0 ? tensor->run : 1);
    }
    c.p = tensor->shape;
    c.end = c.p + 5; /* a varint is no longer */
    c.failed = 0;
    return take_varint(&c);
}

/* What follows the last exponent, read as one, is not looked at: `bits` says if any of them failed. */
COLD static uint8_t next_exponent(row_cursor *rows, const cwb_tensor *tensor)
{
    uint8_t code = 0, exponent;

    if (rows->left == 0) {
        rows->bits = bits_of(tensor->payload, tensor->payload + tensor->payload_size);
        rows->centre = take_bits(&rows->bits, CENTRE_BITS);
        rows->left = rows_of(tensor);
    }
    rows->left--;
    while (code <= 2 * MOST_EXPONENT && take_bits(&rows->bits, 1)) {
        code++;
    }
    exponent = (uint8_t)(code & 1 ? rows->centre + (code + 1) / 2 : rows->centre - code / 2);
    if (exponent > MOST_EXPONENT) {
        rows->bits.c.failed = 1;
    }
    return exponent;
}

/* Reads all exponents of a tensor to `out`, if it is not null; where they end, or null if they break a rule. */
COLD static const uint8_t *read_exponents(const cwb_tensor *tensor, int8_t *out)
{
    row_cursor rows;

    rows.left = 0;
    do {
        uint8_t exponent = next_exponent(&rows, tensor);

        if (rows.bits.c.failed) {
            return NULL;
        }
        if (out != NULL) {
            *out++ = (int8_t)exponent;
        }
    } while (rows.left > 0);
    return rows.bits.byte != 0 ? NULL : rows.bits.c.p;
}

#ifndef CWB_NO_EXPONENTS
cwb_error cwb_exponents(const cwb_tensor *tensor, int8_t *out, size_t capacity)
{
    uint32_t rows;

    if (tensor == NULL || out == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (tensor->kind == CWB_RAW) {
        return CWB_ERR_KIND;
    }
    rows = rows_of(tensor);
    if (capacity < rows) {
        return CWB_ERR_SPACE;
    }
    if (tensor->stepped) {
        return read_exponents(tensor, out) == NULL ? CWB_ERR_GRID : CWB_OK;
    }
    while (rows > 0) {
        out[--rows] = 0;
    }
    return CWB_OK;
}
#endif

#endif
