/* SPDX-License-Identifier: Apache-2.0
 *
 * For a bounded model checker: cwb_multiplier, of any three numbers, keeps to cwb.h, overflows nowhere and ends.
 */
#include "cwb.h"

unsigned int nondet_uint(void);
void __ESBMC_assert(_Bool condition, const char *promise);

int main(void)
{
    int32_t multiplier = 0, shift = 0;
    cwb_error error = cwb_multiplier(nondet_uint(), nondet_uint(), nondet_uint(), &multiplier, &shift);

    __ESBMC_assert(error == CWB_OK || error == CWB_ERR_ARGUMENT || error == CWB_ERR_RANGE, "errors");
    if (error == CWB_OK && (multiplier != 0 || shift != 0)) {
        __ESBMC_assert(multiplier >= LEAST && shift >= -31 && shift <= 30, "range");
    }
    return 0;
}
