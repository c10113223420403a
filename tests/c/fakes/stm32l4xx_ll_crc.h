/* SPDX-License-Identifier: Apache-2.0
 *
 * A model of the CRC unit of an STM32 behind the functions of ST's LL driver, as the reference manual of the L4 (RM0351) tells.
 */
#include <stdint.h>

typedef struct {
    uint32_t data, initial, polynomial;
    int reverse_in, reverse_out;
} CRC_TypeDef;

enum { LL_CRC_POLYLENGTH_32B = 0, LL_CRC_INDATA_REVERSE_BYTE = 1, LL_CRC_OUTDATA_REVERSE_BIT = 1 };

static CRC_TypeDef unit;
#define CRC (&unit)

static uint32_t reversed(uint32_t value, int bits)
{
    uint32_t result = 0;

    while (bits-- > 0) {
        result = result << 1 | (value & 1);
        value >>= 1;
    }
    return result;
}

static uint32_t __RBIT(uint32_t value)
{
    return reversed(value, 32);
}

static void LL_CRC_SetPolynomialSize(CRC_TypeDef *crc, uint32_t size)
{
    (void)crc;
    (void)size;
}

static void LL_CRC_SetPolynomialCoef(CRC_TypeDef *crc, uint32_t polynomial)
{
    crc->polynomial = polynomial;
}

static void LL_CRC_SetInputDataReverseMode(CRC_TypeDef *crc, uint32_t mode)
{
    crc->reverse_in = mode == LL_CRC_INDATA_REVERSE_BYTE;
}

static void LL_CRC_SetOutputDataReverseMode(CRC_TypeDef *crc, uint32_t mode)
{
    crc->reverse_out = mode == LL_CRC_OUTDATA_REVERSE_BIT;
}

static void LL_CRC_SetInitialData(CRC_TypeDef *crc, uint32_t initial)
{
    crc->initial = initial;
}

static void LL_CRC_ResetCRCCalculationUnit(CRC_TypeDef *crc)
{
    crc->data = crc->initial;
}

static void LL_CRC_FeedData8(CRC_TypeDef *crc, uint8_t byte)
{
    int bit;

    crc->data ^= (crc->reverse_in ? reversed(byte, 8) : byte) << 24;
    for (bit = 0; bit < 8; bit++) {
        crc->data = crc->data << 1 ^ (crc->data >> 31 ? crc->polynomial : 0);
    }
}

static uint32_t LL_CRC_ReadData32(const CRC_TypeDef *crc)
{
    return crc->reverse_out ? reversed(crc->data, 32) : crc->data;
}
