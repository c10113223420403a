/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls every function of cwb.h on bytes of any content, and requires what cwb.h promises of each.
 */
#ifndef EXERCISE_H
#define EXERCISE_H

#include "cwb.h"

enum {
    MAX_ITEMS = 128,      /* the directory, tensors, sections: those beyond are not looked at */
    MAX_DECODED = 1 << 14 /* elements of a tensor that is decoded as a whole; of larger ones only the first */
};

/* One thing that a file holds: what the decoder said of it, and a hash of all that came out of it. */
typedef struct {
    cwb_error error;
    uint64_t digest;
} item;

typedef struct {
    uint32_t count;
    item items[MAX_ITEMS]; /* the directory; each tensor; the sections */
} outcome;

/* The bytes must stand in a block of memory of their exact size, for the sanitizers. `seed` chooses sizes of pieces,
 * indices that do not exist, and the like. */
void exercise(const uint8_t *data, size_t size, uint32_t seed, outcome *out);

/* Given by the program. A promise of cwb.h was broken: does not return. */
void broken(int line, const char *promise);

/* Given by the program. The next call of the decoder may execute so many basic blocks. */
void allow(uint64_t blocks);

#endif
