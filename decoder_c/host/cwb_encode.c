/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoders, mirror images of the decoders in cwb.c. Compiled into the wheel's shared library only. docs/format.md
 * is the specification; cerwu_onnx/entropy/ans.py and adaptive.py are the same in Python.
 */
#include "cwb_encode.h"

enum { BINS = 12, CONTEXTS = 4, ESCAPE = CONTEXTS * BINS, MAX_ESCAPE_BITS = 15, FIRST_RATE = 4, FAR = 2 };

/* ANS */

size_t cwb_encode_ans(const uint16_t *indices, size_t count, const uint16_t *frequencies, uint16_t symbols,
                      uint8_t *out, size_t capacity)
{
    uint16_t left[4097];
    uint32_t state = 0;
    size_t place = capacity;
    uint16_t i;

    left[0] = 0;
    for (i = 0; i < symbols; i++) {
        left[i + 1] = (uint16_t)((left[i] + frequencies[i]) % 4096);
    }
    while (count-- > 0) {
        uint32_t width = frequencies[indices[count]];

        if (state >> 20 >= width) {
            out[--place] = (uint8_t)(state >> 8 & 0xFF);
            out[--place] = (uint8_t)(state & 0xFF);
            state >>= 16;
        }
        /* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a symbol that occurs has a frequency */
        state = (state / width << 12) + state % width + left[indices[count]];
    }
    if (state > 0xFFFF) {
        out[--place] = (uint8_t)(state >> 8 & 0xFF);
        out[--place] = (uint8_t)(state & 0xFF);
        state >>= 16;
    }
    if (state > 0xFF) {
        out[--place] = (uint8_t)(state >> 8);
    }
    if (state > 0) {
        out[--place] = (uint8_t)(state & 0xFF);
    }
    return capacity - place;
}

/* Adaptive */

typedef struct {
    uint64_t low; /* bits 32 and above: a carry into the digits already out */
    uint32_t range;
    uint16_t *out; /* the header, then digits */
    size_t capacity;
    size_t size; /* so far, whether or not they fit */
    uint16_t p[ESCAPE + MAX_ESCAPE_BITS];
    uint8_t rate;
} coder;

static void put_digit(coder *c, uint16_t digit)
{
    if (c->size < c->capacity) {
        c->out[c->size] = digit;
    }
    c->size++;
}

/* Adds the carry to the digits written so far. */
static void propagate(coder *c)
{
    size_t i = c->size < c->capacity ? c->size : c->capacity;

    while (i-- > 1 && ++c->out[i] == 0) {
    }
    c->low &= UINT32_C(0xFFFFFFFF);
}

static void split(coder *c, int bit, uint32_t bound)
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
}

static void normalise(coder *c)
{
    if (c->range <= 0xFFFF) {
        put_digit(c, (uint16_t)(c->low >> 16 & 0xFFFF));
        c->low = c->low << 16 & UINT32_C(0xFFFFFFFF);
        c->range <<= 16;
    }
}

static void put_adaptive(coder *c, int bit, uint32_t index)
{
    uint32_t p = c->p[index];

    split(c, bit, (c->range >> 12) * (p >> 4));
    c->p[index] = (uint16_t)(p - (p >> c->rate) + (bit ? (UINT32_C(0x10000) >> c->rate) - 1 : 0));
}

static void put_escape(coder *c, uint32_t excess)
{
    uint32_t value = excess + 1, bits = 0, length;

    while (value >> (bits + 1) != 0) {
        bits++;
    }
    for (length = 0; length <= bits && length < MAX_ESCAPE_BITS; length++) {
        put_adaptive(c, length < bits, ESCAPE + length);
        normalise(c);
    }
    while (bits-- > 0) {
        split(c, (int)(value >> bits & 1), c->range >> 1);
        normalise(c);
    }
}

static void put_symbol(coder *c, int32_t symbol, uint32_t first, uint32_t sign)
{
    uint32_t magnitude = (uint32_t)(symbol < 0 ? -symbol : symbol);
    uint32_t bin;

    for (bin = 0; bin < BINS && bin < magnitude; bin++) {
        put_adaptive(c, 1, first + bin);
        normalise(c);
    }
    if (bin < BINS) {
        put_adaptive(c, 0, first + bin);
    } else {
        put_escape(c, magnitude - BINS);
    }
    if (magnitude > 0) {
        split(c, symbol > 0, (c->range >> 5) * sign);
    }
    normalise(c);
}

/* Writes the number in [low, low + range) that ends in most zero digits, and drops them. */
static void finish(coder *c)
{
    uint64_t last = c->low + c->range - 1;
    int zeros;

    for (zeros = 32;; zeros -= 16) {
        uint64_t mask = ((uint64_t)1 << zeros) - 1; /* NOLINT(clang-analyzer-core.BitwiseShift): at 0 it has ended */
        uint64_t value = (c->low + mask) & ~mask;

        if (value <= last) {
            c->low = value;
            break;
        }
    }
    if (c->low >> 32 != 0) {
        propagate(c);
    }
    put_digit(c, (uint16_t)(c->low >> 16));
    put_digit(c, (uint16_t)(c->low & 0xFFFF));
    while (c->size <= c->capacity && c->size > 1 && c->out[c->size - 1] == 0) {
        c->size--;
    }
}

size_t cwb_encode_adaptive(const int16_t *symbols, const uint8_t *grids, size_t count, uint16_t header, uint16_t *out,
                           size_t capacity)
{
    coder c;
    uint32_t history = 0, index;
    uint32_t contexts = header >> 15, sign = 2 * (uint32_t)(header & 15) + 1;
    uint8_t last_rate = (uint8_t)(FIRST_RATE + 1 + (header >> 13 & 3));
    size_t i;

    c.low = 0;
    c.range = UINT32_C(0xFFFFFFFF);
    c.out = out;
    c.capacity = capacity;
    c.size = 0;
    c.rate = FIRST_RATE;
    for (index = 0; index < ESCAPE; index++) {
        uint32_t bin = index % BINS;
        uint32_t some = (2 * (uint32_t)(header >> 8 & 31) + 1) << 10;
        uint32_t more = (2 * (uint32_t)(header >> 4 & 15) + 1) << 11;

        c.p[index] = (uint16_t)(bin == 0 ? some : more < (bin << 10) + 2048 ? 2048 : more - (bin << 10));
    }
    for (; index < ESCAPE + MAX_ESCAPE_BITS; index++) {
        c.p[index] = 0x8000;
    }
    put_digit(&c, header);
    for (i = 0; i < count; i++) {
        uint32_t magnitude = (uint32_t)(symbols[i] < 0 ? -(int32_t)symbols[i] : symbols[i]);
        uint32_t grid = grids != NULL ? grids[i] : 0, context = 0;

        if (grids != NULL) {
            context = 2 * grid + (contexts & (history >= FAR));
        } else if (contexts) {
            context = history + 3 < 4 * CONTEXTS ? (history + 3) >> 2 : CONTEXTS - 1;
        }
        if (c.rate < last_rate && i == (size_t)2 << c.rate) {
            c.rate++;
        }
        put_symbol(&c, symbols[i], BINS * context, sign);
        history = (history >> 1) + 2 * magnitude - (magnitude > 0 ? grid : 0);
    }
    finish(&c);
    return c.size;
}
