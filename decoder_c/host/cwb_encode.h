/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoders; host only, see cwb_encode.c.
 */
#ifndef CWB_ENCODE_H
#define CWB_ENCODE_H

#include <stddef.h>
#include <stdint.h>

/* Codes `count` symbols, given by their index in the table of `symbols` frequencies that sum to 4096, or in two such
 * tables one after the other. The words are
 * written to the end of `out`, whose `capacity` must be at least 2 count + 4; returns their size in bytes. Every index
 * must be below `symbols` and its frequency not 0. */
size_t cwb_encode_ans(const uint16_t *indices, size_t count, const uint16_t *frequencies, uint16_t symbols,
                      uint8_t *out, size_t capacity);

/* Codes `count` symbols of -reach .. reach into an adaptive payload that begins with the low two bytes of `header`,
 * the higher one first, and, where their low four bits are 0, the third, whose low four bits then are not. If they are indices on a
 * trellis, `grids` says for each of them which grid it is on, 0 or 1, and `run` how many there are between two restarts; of changes, `grids` says which elements of the
 * base are not 0, and `run` is 0; else they are null and 0. From the magnitude `far_from` on, 2 or, of changes, 1, the next symbol has
 * another context. Returns its size in bytes; if that exceeds `capacity`, `out` holds nothing of use and the call is to be repeated
 * with room for it. */
size_t cwb_encode_adaptive(const int16_t *symbols, const uint8_t *grids, size_t count, uint32_t run, uint32_t reach,
                           uint32_t far_from, uint32_t header, uint8_t *out, size_t capacity);

#endif
