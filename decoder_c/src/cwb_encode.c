/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoder of adaptive payloads, the mirror image of decoder_c/src/cwb.c. Compiled into the wheel's shared library
 * only. docs/format.md, "Adaptive payload", is the specification; cerwu_onnx/entropy/adaptive.py is the same in Python.
 */
#include "cwb_encode.h"

enum {
    BINS = 14,
    CONTEXTS = 4,
    SIGN = CONTEXTS * BINS,
    ESCAPE = SIGN + 1,
    MAX_ESCAPE_BITS = 15,
    PROBABILITIES = ESCAPE + MAX_ESCAPE_BITS,
    FIRST_COUNT = 6
};

typedef struct {
    uint64_t low; /* bits 32 and above: a carry into the bytes already out */
    uint32_t range;
    uint8_t *out;
    size_t capacity;
    size_t size; /* bytes so far, whether or not they fit */
    uint16_t p[PROBABILITIES];
    uint8_t count[PROBABILITIES];
} coder;

static void put_byte(coder *c, uint8_t byte)
{
    if (c->size < c->capacity) {
        c->out[c->size] = byte;
    }
    c->size++;
}

/* Adds the carry to the bytes written so far. */
static void propagate(coder *c)
{
    size_t i = c->size < c->capacity ? c->size : c->capacity;

    while (i-- > 1 && ++c->out[i] == 0) {
    }
    c->low &= UINT32_C(0xFFFFFFFF);
}

static void put_bit(coder *c, int bit, uint32_t bound)
{
    if (bit) {
        c->range = bound;
    } else {
        c->low += bound;
        c->range -= bound;
        if (c->low >> 32 != 0) {
            propagate(c);
        }
    }
    while (c->range < UINT32_C(0x1000000)) {
        put_byte(c, (uint8_t)(c->low >> 24));
        c->low = (uint32_t)(c->low << 8);
        c->range <<= 8;
    }
}

static void put_adaptive(coder *c, int bit, int index)
{
    uint16_t p = c->p[index];
    uint8_t count = c->count[index];
    int rate = count < 10 ? 3 : count < 22 ? 4 : count < 44 ? 5 : count < 89 ? 6 : 7;

    put_bit(c, bit, (c->range >> 12) * (uint32_t)(p >> 4));
    c->p[index] = (uint16_t)(bit ? p + ((UINT32_C(0x10000) - p) >> rate) : p - (uint32_t)(p >> rate));
    if (count < 89) {
        c->count[index]++;
    }
}

static void put_escape(coder *c, uint32_t excess)
{
    uint32_t value = excess + 1;
    int bits = 0;

    while (value >> (bits + 1) != 0) {
        put_adaptive(c, 1, ESCAPE + bits++);
    }
    if (bits < MAX_ESCAPE_BITS) {
        put_adaptive(c, 0, ESCAPE + bits);
    }
    while (bits-- > 0) {
        put_bit(c, (int)(value >> bits & 1), c->range >> 1);
    }
}

static void put_symbol(coder *c, int32_t symbol, int first)
{
    uint32_t magnitude = (uint32_t)(symbol < 0 ? -symbol : symbol);
    uint32_t bin;

    for (bin = 0; bin < BINS; bin++) {
        put_adaptive(c, magnitude > bin, first + (int)bin);
        if (magnitude <= bin) {
            break;
        }
    }
    if (magnitude >= BINS) {
        put_escape(c, magnitude - BINS);
    }
    if (magnitude > 0) {
        put_adaptive(c, symbol > 0, SIGN);
    }
}

/* Writes the number in [low, low + range) that ends in most zero bytes, and drops them. */
static void finish(coder *c)
{
    uint64_t last = c->low + c->range - 1;
    int zeros;

    for (zeros = 24;; zeros -= 8) {
        uint64_t mask = ((uint64_t)1 << zeros) - 1;
        uint64_t value = (c->low + mask) & ~mask;

        if (value <= last) {
            c->low = value;
            break;
        }
    }
    if (c->low >> 32 != 0) {
        propagate(c);
    }
    for (zeros = 24; zeros >= 0; zeros -= 8) {
        put_byte(c, (uint8_t)(c->low >> zeros));
    }
    while (c->size <= c->capacity && c->size > 1 && c->out[c->size - 1] == 0) {
        c->size--;
    }
}

size_t cwb_encode_adaptive(const int16_t *symbols, size_t count, uint8_t header, uint8_t *out, size_t capacity)
{
    coder c;
    uint32_t previous = 0, before = 0;
    size_t i;
    int index;

    c.low = 0;
    c.range = UINT32_C(0xFFFFFFFF);
    c.out = out;
    c.capacity = capacity;
    c.size = 0;
    for (index = 0; index < PROBABILITIES; index++) {
        uint32_t bin = (uint32_t)(index % BINS);
        uint32_t more = (2 * (uint32_t)(header & 7) + 1) << 12;

        c.p[index] = (uint16_t)(index >= SIGN               ? 0x8000
                                : bin == 0                  ? (2 * (uint32_t)(header >> 3 & 15) + 1) << 11
                                : more < (bin << 10) + 2048 ? 2048
                                                            : more - (bin << 10));
        c.count[index] = FIRST_COUNT;
    }
    put_byte(&c, header);
    for (i = 0; i < count; i++) {
        uint32_t nearby = 2 * previous + before;
        int first = (header & 0x80) == 0 ? 0 : nearby == 0 ? 0 : nearby <= 3 ? BINS : nearby <= 8 ? 2 * BINS : 3 * BINS;

        put_symbol(&c, symbols[i], first);
        before = previous;
        previous = (uint32_t)(symbols[i] < 0 ? -(int32_t)symbols[i] : symbols[i]);
    }
    finish(&c);
    return c.size;
}
