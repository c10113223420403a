/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes and CRC: loads that need no alignment, division, the CRC-32, and a cursor that never leaves its bytes.
 */
#ifndef CWB_BYTES_H
#define CWB_BYTES_H

#include "build.h"

#define FOREVER UINT32_C(0xFFFFFFFF) /* more than there can be of anything */

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | ((uint32_t)p[1] << 8));
}

static uint32_t load_u32(const uint8_t *p)
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

/* CRC-32 of ISO-HDLC of what had the CRC `crc` (0: nothing) and `size` more bytes. */
#ifdef CWB_CRC32
uint32_t CWB_CRC32(uint32_t crc, const uint8_t *data, size_t size);
#elif !defined CWB_NO_CRC
#define CWB_CRC32 crc_of
COLD static uint32_t crc_of(uint32_t crc, const uint8_t *data, size_t size)
{
    static const uint32_t table[16] = { /* four bits at a time */
        UINT32_C(0x00000000), UINT32_C(0x1DB71064), UINT32_C(0x3B6E20C8), UINT32_C(0x26D930AC),
        UINT32_C(0x76DC4190), UINT32_C(0x6B6B51F4), UINT32_C(0x4DB26158), UINT32_C(0x5005713C),
        UINT32_C(0xEDB88320), UINT32_C(0xF00F9344), UINT32_C(0xD6D6A3E8), UINT32_C(0xCB61B38C),
        UINT32_C(0x9B64C2B0), UINT32_C(0x86D3D2D4), UINT32_C(0xA00AE278), UINT32_C(0xBDBDF21C)};

    crc = ~crc;
    while (size-- > 0) {
        crc ^= *data++;
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}
#endif

/* Do `size` bytes have this CRC? Without CRCs the answer is yes. */
static int has_crc(const uint8_t *data, uint32_t size, uint32_t crc)
{
#ifdef CWB_NO_CRC
    (void)data;
    (void)size;
    (void)crc;
    return 1;
#else
    return CWB_CRC32(0, data, (size_t)size) == crc;
#endif
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
