/* SPDX-License-Identifier: Apache-2.0
 *
 * Build options as constants, and what compilers are told about functions and variables.
 */
#ifndef CWB_BUILD_H
#define CWB_BUILD_H

#include "cwb.h"

#if CHAR_BIT != 8
#error "cwb needs 8-bit bytes"
#endif
#if defined CWB_NO_ANS && defined CWB_NO_ADAPTIVE
#error "one of the two coders must stay"
#endif

/* What was left out is never reached, and compilers drop it. */
#ifdef CWB_NO_ANS
#define HAS_ANS 0
#else
#define HAS_ANS 1
#endif
#ifdef CWB_NO_ADAPTIVE
#define HAS_ADAPTIVE 0
#else
#define HAS_ADAPTIVE 1
#endif
#ifdef CWB_NO_V1
#define HAS_V1 0
#else
#define HAS_V1 1
#endif
#ifdef CWB_NO_EXPONENTS
#define HAS_EXPONENTS 0
#else
#define HAS_EXPONENTS 1
#endif
#ifdef CWB_NO_TRELLIS
#define HAS_TRELLIS 0
#else
#define HAS_TRELLIS 1
#endif

#ifdef CWB_SMALL
#define SMALL 1
#else
#define SMALL 0
#endif

/* Do 16-bit numbers lie in memory as the format has them? */
#if defined __BYTE_ORDER__ && defined __ORDER_LITTLE_ENDIAN__
#define LITTLE_ENDIAN_BYTES (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
#else
#define LITTLE_ENDIAN_BYTES 0
#endif

/* UNALIGNED_OR_COLD is COLD unless one instruction loads four bytes at any address.
 * COLD keeps what is rarely called out of the loops that call it; INLINE makes one loop of each of its callers; AFRESH makes no
 * code, but what follows is computed from the variable as it is then, which spares registers and moves between them. */
#ifdef __GNUC__
#define COLD __attribute__((noinline))
#define INLINE inline __attribute__((always_inline))
#define UNLIKELY(condition) __builtin_expect(condition, 0)
#else
#define COLD
#define INLINE inline
#define UNLIKELY(condition) (condition)
#endif
#ifdef __ARM_FEATURE_UNALIGNED
#define UNALIGNED_OR_COLD
#else
#define UNALIGNED_OR_COLD COLD
#endif
#if defined __GNUC__ && INT_MAX > 0x7FFF
#define AFRESH(variable) __asm__("" : "+r"(variable))
#else
#define AFRESH(variable) ((void)(variable))
#endif

#endif
