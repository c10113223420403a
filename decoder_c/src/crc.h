/* SPDX-License-Identifier: Apache-2.0
 *
 * The CRC-32 of ISO-HDLC, which zip and PNG have too: of the caller's, or by tables of 64 bytes, 1 KB or 4 KB.
 */
#ifndef CWB_CRC_H
#define CWB_CRC_H

#include "bytes.h"

#ifdef CWB_CRC32
uint32_t CWB_CRC32(uint32_t crc, const uint8_t *data, size_t size);
#elif !defined CWB_NO_CRC
#define CWB_CRC32 crc_of

#ifndef CWB_CRC_SLICES
#define CWB_CRC_SLICES 0
#elif CWB_CRC_SLICES != 1 && CWB_CRC_SLICES != 4
#error "CWB_CRC_SLICES is 1 or 4"
#endif

/* What a byte does to the CRC is the sum, without carries, of what its bits do. Table k is of bytes that k more bytes follow. */
#define BIT(byte, bit, crc) ((byte) >> (bit) & 1 ? UINT32_C(crc) : 0)
#define SUM(b, c0, c1, c2, c3, c4, c5, c6, c7) \
    (BIT(b, 0, c0) ^ BIT(b, 1, c1) ^ BIT(b, 2, c2) ^ BIT(b, 3, c3) ^ BIT(b, 4, c4) ^ BIT(b, 5, c5) ^ BIT(b, 6, c6) ^ BIT(b, 7, c7))
#define SLICE0(b) SUM(b, 0x77073096, 0xEE0E612C, 0x076DC419, 0x0EDB8832, 0x1DB71064, 0x3B6E20C8, 0x76DC4190, 0xEDB88320)
#define SLICE1(b) SUM(b, 0x191B3141, 0x32366282, 0x646CC504, 0xC8D98A08, 0x4AC21251, 0x958424A2, 0xF0794F05, 0x3B83984B)
#define SLICE2(b) SUM(b, 0x01C26A37, 0x0384D46E, 0x0709A8DC, 0x0E1351B8, 0x1C26A370, 0x384D46E0, 0x709A8DC0, 0xE1351B80)
#define SLICE3(b) SUM(b, 0xB8BC6765, 0xAA09C88B, 0x8F629757, 0xC5B428EF, 0x5019579F, 0xA032AF3E, 0x9B14583D, 0xED59B63B)
#define FOUR(slice, b, step) slice(b), slice((b) + (step)), slice((b) + 2 * (step)), slice((b) + 3 * (step))
#define SIXTEEN(slice, b, step) \
    FOUR(slice, b, step), FOUR(slice, (b) + 4 * (step), step), FOUR(slice, (b) + 8 * (step), step), FOUR(slice, (b) + 12 * (step), step)
#define SIXTY_FOUR(slice, b) SIXTEEN(slice, b, 1), SIXTEEN(slice, (b) + 16, 1), SIXTEEN(slice, (b) + 32, 1), SIXTEEN(slice, (b) + 48, 1)
#define ALL_BYTES(slice) SIXTY_FOUR(slice, 0), SIXTY_FOUR(slice, 64), SIXTY_FOUR(slice, 128), SIXTY_FOUR(slice, 192)

/* CRC-32 of what had the CRC `crc` (0: nothing) and `size` more bytes. */
COLD static uint32_t crc_of(uint32_t crc, const uint8_t *data, size_t size)
{
#if CWB_CRC_SLICES == 0
    static const uint32_t table[16] = {SIXTEEN(SLICE0, 0, 16)}; /* four bits at a time */

    crc = ~crc;
    while (size-- > 0) {
        crc ^= *data++;
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
#else
    static const uint32_t table[CWB_CRC_SLICES][256] = {
        {ALL_BYTES(SLICE0)},
#if CWB_CRC_SLICES == 4
        {ALL_BYTES(SLICE1)}, {ALL_BYTES(SLICE2)}, {ALL_BYTES(SLICE3)},
#endif
    };

    crc = ~crc;
#if CWB_CRC_SLICES == 4
    for (; size >= 4; size -= 4) {
        crc ^= load_u16(data) | (uint32_t)load_u16(data + 2) << 16;
        crc = table[3][crc & 0xFF] ^ table[2][crc >> 8 & 0xFF] ^ table[1][crc >> 16 & 0xFF] ^ table[0][crc >> 24];
        data += 4;
    }
#endif
    while (size-- > 0) {
        crc = (crc >> 8) ^ table[0][(crc ^ *data++) & 0xFF];
    }
#endif
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

#endif
