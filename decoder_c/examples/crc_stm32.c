/* SPDX-License-Identifier: Apache-2.0
 *
 * The CRCs of cwb.c on the CRC unit of an STM32, by ST's LL drivers: compile cwb.c with -DCWB_CRC32=crc_stm32.
 *
 * The unit must have a programmable polynomial and initial value, as those of F0, F3, F7, G0, G4, H7, L0, L4, L5, U5 and WB have.
 * Those of F1, F2, F4 and L1 have neither: stay with tables there (CWB_CRC_SLICES). Switch the unit's clock on first (CRCEN).
 */
#include <stddef.h>
#include <stdint.h>

#include "stm32l4xx_ll_crc.h" /* of your family */

uint32_t crc_stm32(uint32_t crc, const uint8_t *data, size_t size);

uint32_t crc_stm32(uint32_t crc, const uint8_t *data, size_t size)
{
    LL_CRC_SetPolynomialSize(CRC, LL_CRC_POLYLENGTH_32B);
    LL_CRC_SetPolynomialCoef(CRC, 0x04C11DB7);
    LL_CRC_SetInputDataReverseMode(CRC, LL_CRC_INDATA_REVERSE_BYTE);  /* the lowest bit of each byte goes first */
    LL_CRC_SetOutputDataReverseMode(CRC, LL_CRC_OUTDATA_REVERSE_BIT); /* and comes out lowest */
    LL_CRC_SetInitialData(CRC, __RBIT(~crc));                         /* goes on where `crc` ended; the unit does not reverse this */
    LL_CRC_ResetCRCCalculationUnit(CRC);
    while (size-- > 0) {
        LL_CRC_FeedData8(CRC, *data++);
    }
    return ~LL_CRC_ReadData32(CRC);
}
