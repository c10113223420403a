/* SPDX-License-Identifier: Apache-2.0
 *
 * crc_examples FILE: CRC-32s of its bytes by the examples for STM32 and ESP32, fed in pieces of 0, 1, 2 and so on bytes.
 */
#include <stdio.h>

#include "../../decoder_c/examples/crc_esp32.c"
#include "../../decoder_c/examples/crc_stm32.c"

int main(int count, char **paths)
{
    static uint8_t data[1 << 16];
    FILE *file = count == 2 ? fopen(paths[1], "rb") : NULL;
    size_t size, done = 0, piece = 0;
    uint32_t stm32 = 0, esp32 = 0;

    if (file == NULL) {
        return 1;
    }
    size = fread(data, 1, sizeof data, file);
    fclose(file);
    while (done < size) {
        size_t now = piece < size - done ? piece : size - done;

        stm32 = crc_stm32(stm32, data + done, now);
        esp32 = crc_esp32(esp32, data + done, now);
        done += now;
        piece++;
    }
    printf("%u %u\n", stm32, esp32);
    return 0;
}
