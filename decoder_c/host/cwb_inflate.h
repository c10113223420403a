/* SPDX-License-Identifier: Apache-2.0
 *
 * Deflate streams (RFC 1951): how files of version 1 pack their sections, and how the library holds its own texts.
 */
#ifndef CWB_INFLATE_H
#define CWB_INFLATE_H

#include <stddef.h>
#include <stdint.h>

/* Inflates a stream that ends where its `code_size` bytes end. The content may refer to the `before` bytes in front of it, at most
 * 32768 back; it is written to `out`, behind them, unless `out` is null: then it is only measured. Returns 0 if the stream is
 * damaged or holds more than `most` bytes, else 1, and its content's bytes in *size. */
int cwb_inflate(uint8_t *out, size_t before, size_t most, const uint8_t *code, size_t code_size, size_t *size);

#endif
