/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoder of adaptive payloads; host only, see cwb_encode.c.
 */
#ifndef CWB_ENCODE_H
#define CWB_ENCODE_H

#include <stddef.h>
#include <stdint.h>

/* Codes `count` symbols of -32768 .. 32767 into an adaptive payload that begins with `header`. Returns its size in
 * bytes; if that exceeds `capacity`, `out` holds nothing of use and the call is to be repeated with room for it. */
size_t cwb_encode_adaptive(const int16_t *symbols, size_t count, uint8_t header, uint8_t *out, size_t capacity);

#endif
