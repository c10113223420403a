/* SPDX-License-Identifier: Apache-2.0
 *
 * The multiplier and the shift by which an int8 kernel scales its sums, without float arithmetic.
 */
#ifndef CWB_MULTIPLIER_H
#define CWB_MULTIPLIER_H

#include "cwb.h"

/* Splits a float32 into mantissa * 2^*exponent with 2^23 <= mantissa < 2^24; 0 if it is not positive and finite. */
static uint32_t split_float(uint32_t bits, int32_t *exponent)
{
    uint32_t mantissa = bits & UINT32_C(0x7FFFFF);

    if (bits < 1 || bits > UINT32_C(0x7F7FFFFF)) {
        return 0;
    }
    *exponent = (int32_t)(bits >> 23) - 150;
    if (bits >> 23 > 0) {
        return mantissa | UINT32_C(0x800000);
    }
    *exponent = -149; /* subnormal */
    while (mantissa < UINT32_C(0x800000)) {
        mantissa <<= 1;
        --*exponent;
    }
    return mantissa;
}

cwb_error cwb_multiplier(uint32_t step_bits, uint32_t input_bits, uint32_t output_bits, int32_t *multiplier,
                         int32_t *shift)
{
    int32_t step_exponent = 0, input_exponent = 0, output_exponent = 0, exponent;
    uint32_t step = split_float(step_bits, &step_exponent);
    uint32_t input = split_float(input_bits, &input_exponent);
    uint32_t output = split_float(output_bits, &output_exponent);
    uint64_t quotient;
    uint8_t extra = 1; /* bits of the quotient beyond 31 */

    if (step == 0 || input == 0 || output == 0 || multiplier == NULL || shift == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    quotient = ((uint64_t)step * input << 9) / output; /* 2^31 <= quotient < 2^34 */
    while (quotient >> extra >= UINT32_C(0x80000000)) {
        extra++;
    }
    quotient = (quotient + ((uint32_t)1 << (extra - 1))) >> extra;
    exponent = step_exponent + input_exponent - output_exponent - 9 + extra + 31;
    if (quotient == UINT32_C(0x80000000)) {
        quotient >>= 1;
        exponent++;
    }
    if (exponent > 30) {
        return CWB_ERR_RANGE;
    }
    *multiplier = exponent < -31 ? 0 : (int32_t)quotient;
    *shift = exponent < -31 ? 0 : exponent;
    return CWB_OK;
}

#endif
