/* SPDX-License-Identifier: Apache-2.0
 *
 * Damage to .cwb files: to their bytes, or to what the bytes mean.
 */
#ifndef MUTATE_H
#define MUTATE_H

#include <stddef.h>
#include <stdint.h>

enum { MAX_FILE = 1 << 16 };

/* Damages the file of `size` bytes at `data`, which has room for MAX_FILE; returns its new size. `random` is the state
 * of the generator, not 0. The same state gives the same damage. */
size_t damage(uint8_t *data, size_t size, uint32_t *random);

/* The same with a knowledge of the format: records and their fields are changed, moved, left out; then CRCs and
 * sizes are made right again, or nearly always. */
size_t forge(uint8_t *data, size_t size, uint32_t *random);

/* Makes the CRCs of header, directory and payloads right, as far as the structure allows. */
void seal(uint8_t *data, size_t size);

#endif
