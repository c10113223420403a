/* SPDX-License-Identifier: Apache-2.0
 *
 * The CRCs of cwb.c by the function that the ROM of every ESP32 has: compile cwb.c with -DCWB_CRC32=crc_esp32.
 */
#include <stddef.h>
#include <stdint.h>

#include "esp_rom_crc.h"

uint32_t crc_esp32(uint32_t crc, const uint8_t *data, size_t size);

uint32_t crc_esp32(uint32_t crc, const uint8_t *data, size_t size)
{
    return esp_rom_crc32_le(crc, data, (uint32_t)size);
}
