/* SPDX-License-Identifier: Apache-2.0
 *
 * See cwb_crc.h: eight bytes at a time. tables[k][b] is what the byte b does to the register when k more bytes follow it.
 */
#include "cwb_crc.h"

#include "cwb_crc_tables.h"

uint32_t cwb_fast_crc32(uint32_t crc, const uint8_t *data, size_t size)
{
    crc = ~crc;
    for (; size >= 8; size -= 8, data += 8) {
        crc ^= data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
        crc = tables[7][crc & 0xFF] ^ tables[6][crc >> 8 & 0xFF] ^ tables[5][crc >> 16 & 0xFF] ^ tables[4][crc >> 24] ^
              tables[3][data[4]] ^ tables[2][data[5]] ^ tables[1][data[6]] ^ tables[0][data[7]];
    }
    while (size-- > 0) {
        crc = (crc >> 8) ^ tables[0][(crc ^ *data++) & 0xFF];
    }
    return ~crc;
}
