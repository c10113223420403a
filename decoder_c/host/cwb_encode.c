/* SPDX-License-Identifier: Apache-2.0
 *
 * The encoders, mirror images of the decoders in cwb.c. Compiled into the wheel's shared library only. docs/format.md
 * is the specification; cerwu_onnx/entropy/ans.py and adaptive.py are the same in Python.
 */
#include "cwb_encode.h"

enum { BINS = 7, CONTEXTS = 4, FIRST_RATE = 4, ROW_BEGINS = 3 };

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
    uint64_t low; /* bits 32 and above: a carry into the bytes already out */
    uint32_t range;
    uint8_t *out; /* the header, then the code */
    size_t capacity;
    size_t size;  /* so far, whether or not they fit */
    size_t start; /* of the code */
    uint16_t p[CONTEXTS][BINS];
    uint16_t positive[12]; /* probabilities, by the signs of neighbours */
    uint32_t top;          /* magnitudes at most, without their low bits */
    uint32_t signs;        /* of the elements before, two bits each, and ROW_BEGINS before each row */
    uint8_t rate, shift, sign;
    uint8_t width, rows, rows_left; /* of rows whose signs depend on each other; 0 if they do not */
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

    while (i-- > c->start && ++c->out[i] == 0) {
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
    while (c->range <= 0xFFFFFF) {
        put_byte(c, (uint8_t)(c->low >> 24 & 0xFF));
        c->low = c->low << 8 & UINT32_C(0xFFFFFFFF);
        c->range <<= 8;
    }
}

/* What is left of a probability in units of 2^-16 after a bit. */
static uint16_t learnt(const coder *c, uint16_t p, int bit)
{
    return (uint16_t)(p - (uint32_t)(p >> c->rate) + (bit ? (UINT32_C(0x10000) >> c->rate) - 1 : 0));
}

/* A decision whose probability of a 1 is given in units of 2^-16. */
static void decide(coder *c, uint32_t bit, uint32_t p)
{
    normalise(c);
    split(c, bit != 0, (c->range >> 16) * p);
}

static void put_escape(coder *c, uint32_t excess)
{
    uint32_t bits = 0, i;

    excess++;
    while (excess >> (bits + 1) != 0) {
        bits++;
    }
    for (i = 0; i <= bits; i++) {
        decide(c, i < bits, 0x8000);
    }
    while (bits-- > 0) {
        decide(c, excess >> bits & 1, 0x8000);
    }
}

/* The sign of an element, 0 without one, whose neighbours' signs are its context. */
static void put_near_sign(coder *c, int32_t symbol)
{
    uint32_t above = c->signs >> 2 * c->width & 3;
    uint16_t *p;

    if (above == ROW_BEGINS) {
        c->signs <<= 2;
        if (--c->rows_left == 0) {
            c->rows_left = c->rows;
            c->signs = 0;
        }
        c->signs |= ROW_BEGINS;
        above = c->signs >> 2 * c->width & 3;
    }
    p = &c->positive[4 * above + (c->signs & 3)];
    c->signs <<= 2;
    if (symbol != 0) {
        split(c, symbol > 0, (c->range >> 8) * (*p >> 8 | 1));
        *p = learnt(c, *p, symbol > 0);
        c->signs |= symbol > 0 ? 1 : 2;
    }
}

static void put_symbol(coder *c, int32_t symbol, uint16_t *p)
{
    uint32_t magnitude = (uint32_t)(symbol < 0 ? -symbol : symbol), high = magnitude >> c->shift, low = c->shift, bin;

    for (bin = 0; bin < BINS && bin < c->top && bin <= high; bin++) {
        uint32_t bit = bin < high;

        decide(c, bit, p[bin]);
        p[bin] = learnt(c, p[bin], bit != 0);
    }
    if (high >= bin) { /* behind the last of them: no decision, but refills as before one */
        decide(c, 0, 0);
    }
    if (high >= BINS) {
        put_escape(c, high - BINS);
    }
    while (low-- > 0) {
        decide(c, magnitude >> low & 1, 0x8000);
    }
    if (c->width > 0) {
        put_near_sign(c, symbol);
    } else if (magnitude > 0) {
        split(c, symbol > 0, (c->range >> 5) * c->sign);
    }
}

/* Writes the number in [low, low + range) that ends in most zero bytes, and drops them. */
static void finish(coder *c)
{
    uint64_t last = c->low + c->range - 1;
    int zeros;

    for (zeros = 32;; zeros -= 8) {
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
        put_byte(c, (uint8_t)(c->low >> zeros & 0xFF));
    }
    while (c->size <= c->capacity && c->size > c->start && c->out[c->size - 1] == 0) {
        c->size--;
    }
}

size_t cwb_encode_adaptive(const int16_t *symbols, const uint8_t *grids, size_t count, uint32_t run, uint32_t reach,
                           uint32_t far_from, uint32_t header, uint8_t *out, size_t capacity)
{
    static const int8_t sum[12] = {0, 1, -1, 0, 1, 2, 0, 1, -1, 0, -2, -1};
    coder c;
    uint32_t context, bin, left = run, some = (2 * (header >> 10 & 15) + 1) << 11, more = (2 * (header >> 7 & 7) + 1) << 12;
    uint8_t last_rate = header >> 14 & 1 ? 8 : 6, far = 0;
    size_t i;

    c.low = 0;
    c.range = UINT32_C(0xFFFFFFFF);
    c.out = out;
    c.capacity = capacity;
    c.size = 0;
    c.rate = FIRST_RATE;
    c.shift = header >> 4 & 7;
    c.sign = (uint8_t)(2 * (header & 15) + 1);
    c.top = reach >> c.shift;
    c.signs = ROW_BEGINS;
    c.width = (header & 15) == 0 ? header >> 16 & 15 : 0;
    c.rows = c.rows_left = header >> 20 & 15;
    for (i = 0; i < 12; i++) {
        c.positive[i] = (uint16_t)(0x8000 + 6144 * sum[i]);
    }
    for (bin = 0; bin < BINS; bin++) {
        for (context = 0; context < CONTEXTS; context++) {
            c.p[context][bin] = (uint16_t)some;
        }
        more -= more >> 4;
        some = more;
    }
    put_byte(&c, (uint8_t)(header >> 8 & 0xFF));
    put_byte(&c, (uint8_t)(header & 0xFF));
    if (c.width > 0) {
        put_byte(&c, (uint8_t)(header >> 16 & 0xFF));
    }
    c.start = c.size;
    for (i = 0; i < count; i++) {
        int32_t magnitude = symbols[i] < 0 ? -symbols[i] : symbols[i];

        if (c.rate < last_rate && i == (size_t)2 << c.rate) {
            c.rate++;
        }
        put_symbol(&c, symbols[i], c.p[(grids != NULL ? grids[i] : 0) + 2 * far]);
        far = (header >> 15 & 1) && (uint32_t)magnitude >> c.shift >= far_from;
        if (run > 0 && --left == 0) {
            left = run;
            far = 0;
        }
    }
    finish(&c);
    return c.size;
}
