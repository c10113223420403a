/* SPDX-License-Identifier: Apache-2.0
 *
 * What the ROM of an ESP32 computes: like zlib's crc32, it goes on from the CRC before, and begins with 0.
 */
#include <stdint.h>

static uint32_t esp_rom_crc32_le(uint32_t crc, const uint8_t *data, uint32_t size)
{
    int bit;

    crc = ~crc;
    while (size-- > 0) {
        crc ^= *data++;
        for (bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
        }
    }
    return ~crc;
}
