/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes: loads that need no alignment, division, and a cursor that never leaves its bytes.
 */
#ifndef CWB_BYTES_H
#define CWB_BYTES_H

#include "build.h"

#define FOREVER UINT32_C(0xFFFFFFFF) /* more than there can be of anything */

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | ((uint32_t)p[1] << 8));
}

UNALIGNED_OR_COLD static uint32_t load_u32(const uint8_t *p)
{
    return load_u16(p) | ((uint32_t)load_u16(p + 2) << 16);
}

/* Long division: the compiler's own takes ten times the room where there is no instruction for it. divisor > 0. */
COLD static uint32_t divide(uint32_t number, uint32_t divisor)
{
    uint32_t quotient = 0;
    uint8_t shift = 32;

    while (shift-- > 0) {
        if (number >> shift >= divisor) {
            number -= divisor << shift;
            quotient |= UINT32_C(1) << shift;
        }
    }
    return quotient;
}

/* Bytes being read. Nothing is ever read at or behind `end`: `failed` is set instead, and zeros come out. */
typedef struct {
    const uint8_t *p;
    const uint8_t *end;
    uint8_t failed;
} cursor;

COLD static const uint8_t *take(cursor *c, uint32_t size)
{
    static const uint8_t zeros[4] = {0, 0, 0, 0};
    const uint8_t *p = c->p;

    if ((size_t)(c->end - p) < size) {
        c->failed = 1;
        return zeros;
    }
    c->p += size;
    return p;
}

COLD static uint32_t take_u32(cursor *c)
{
    return load_u32(take(c, 4));
}

/* LEB128, at most 32 bits, in its shortest form. */
COLD static uint32_t take_varint(cursor *c)
{
    uint32_t value = 0;
    uint8_t shift = 0, byte;

    do {
        byte = *take(c, 1);
        if ((shift == 28 && byte > 0x0F) || (shift > 0 && byte == 0)) {
            c->failed = 1;
            return 0;
        }
        value |= (uint32_t)(byte & 0x7F) << shift;
        shift = (uint8_t)(shift + 7);
    } while (byte >= 0x80);
    return value;
}

/* Bits being read, lowest first. */
typedef struct {
    cursor c;
    uint8_t byte;
    uint8_t left; /* bits of it not taken yet */
} bit_cursor;

static uint8_t take_bits(bit_cursor *bits, uint8_t count)
{
    uint8_t i, value = 0;

    for (i = 0; i < count; i++) {
        if (bits->left == 0) {
            bits->byte = *take(&bits->c, 1);
            bits->left = 8;
        }
        value = (uint8_t)(value | (bits->byte & 1) << i);
        bits->byte >>= 1;
        bits->left--;
    }
    return value;
}

static bit_cursor bits_of(const uint8_t *p, const uint8_t *end)
{
    bit_cursor bits;

    bits.c.p = p;
    bits.c.end = end;
    bits.c.failed = 0;
    bits.byte = 0;
    bits.left = 0;
    return bits;
}

#endif
