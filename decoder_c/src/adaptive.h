/* SPDX-License-Identifier: Apache-2.0
 *
 * The adaptive coder: it reads a symbol as binary decisions, whose probabilities it learns as it goes.
 *
 * Scratch memory holds, for each context, the probabilities of a 1 in units of 2^-16, with a 0 where there is never a 1,
 * and the terms; behind the contexts the probabilities that a symbol is positive, for each pair of neighbours.
 */
#ifndef CWB_ADAPTIVE_H
#define CWB_ADAPTIVE_H

#include "bytes.h"
#include "trellis.h"

enum {
    BINS = 7,        /* magnitudes below this are coded in unary, the rest escapes */
    CONTEXTS = 4,
    CONTEXT = 16,    /* numbers of a context in scratch memory */
    TERMS = 8,       /* where the terms of its bins begin, behind their probabilities */
    SIGNS = CONTEXT * CONTEXTS, /* where the probabilities of signs begin, behind the contexts */
    MAX_ESCAPE_BITS = 11,
    FIRST_RATE = 4,
    FAR = 2,         /* the last magnitude from which on a tensor with contexts uses the second one */
    ROW_BEGINS = 3,  /* among the signs of neighbours */
    DAMAGED = 3,     /* the kind of a stream in which a magnitude was out of reach */
    /* in the payload's header */
    LOW_BITS = 0x70, /* how many are coded as they are */
    SLOW = 0x4000,   /* the last learning rate is 8, not 6 */
    /* in a stream's `past`: it moves down by one bit with each element, and is then changed by a term */
    STATE = 6,       /* where the trellis' state stands; its lowest bit is the grid */
    FAR_BIT = 5,     /* was the last magnitude FAR? */
    INCOMPLETE = 15  /* of terms only: the value without its sign, or this, if it is not complete */
};

#define HALF UINT32_C(0x8000) /* the probability of an equiprobable bit, in units of 2^-16 */

/* Shifts one more byte in. Trailing zeros are left out of the payload. */
COLD static void refill(cwb_stream *stream)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): begin_adaptive sets it behind the bytes it begins with */
    stream->range <<= 8;
    stream->state <<= 8;
    if (stream->next != stream->end) {
        stream->state |= *stream->next++;
    }
}

/* Does the code lie in the part of the range below `bound`? */
COLD static uint8_t take_bit(cwb_stream *stream, uint32_t bound)
{
    if (stream->state < bound) {
        stream->range = bound;
        return 1;
    }
    stream->state -= bound;
    stream->range -= bound;
    return 0;
}

/* A decision whose probability of a 1, in units of 2^-16, is given. */
COLD static uint8_t decide(cwb_stream *stream, uint32_t p)
{
    while (stream->range <= 0xFFFFFF) {
        refill(stream);
    }
    return take_bit(stream, (stream->range >> 16) * p);
}

/* Moves a probability towards what was decided by it. */
COLD static uint8_t learn(const cwb_stream *stream, uint16_t *bin, uint8_t bit)
{
    uint32_t p = *bin;

    p -= p >> stream->rate;
    if (bit) {
        p += UINT32_C(0xFFFF) >> stream->rate;
    }
    *bin = (uint16_t)p;
    return bit;
}

/* Where learning begins, and the terms, by the payload's header. */
COLD static void begin_contexts(const cwb_stream *stream)
{
    uint16_t *p = stream->scratch;
    uint32_t header = stream->header;
    uint32_t some = (2 * (header >> 10 & 15) + 1) << 11, more = (2 * (header >> 7 & 7) + 1) << 12;
    /* how the states of terms on the odd grid differ: the bit of the grid itself moves away */
    uint32_t moved = (odd_grid(stream) << STATE) + (1 << (STATE - 1));
    uint16_t top = (uint16_t)(stream->reach >> (header >> 4 & 7));
    uint8_t bin;

    for (bin = 0; bin <= BINS; bin++, p++) {
        uint32_t term = on_trellis(stream) ? 2 * bin + bin % 2 * (odd_index(stream) << STATE) : bin, on_odd;

        if (bin >= top || bin == BINS) {
            some = 0;
        }
        if (bin >= FAR) {
            term |= header >> 15 << FAR_BIT;
        }
        on_odd = (term - (bin > 0)) ^ moved;
        if (bin == BINS || (header & LOW_BITS) != 0) {
            term |= INCOMPLETE;
            on_odd |= INCOMPLETE;
        }
        p[0] = p[CONTEXT] = p[2 * CONTEXT] = p[3 * CONTEXT] = (uint16_t)some;
        p[TERMS] = p[CONTEXT + TERMS] = (uint16_t)term;
        p[2 * CONTEXT + TERMS] = p[3 * CONTEXT + TERMS] = (uint16_t)on_odd;
        more -= more >> 4;
        some = more;
    }
}

static cwb_error begin_adaptive(cwb_stream *stream)
{
    static const uint8_t positive[12] = {16, 19, 13, 16, 19, 22, 16, 19, 13, 16, 10, 13}; /* by neighbours; of 32 */
    uint32_t i, width;

    if (stream->next != stream->end && stream->end[-1] == 0) {
        return CWB_ERR_STREAM;
    }
    refill(stream);
    refill(stream);
    stream->header = (uint16_t)stream->state;
    begin_contexts(stream);
    stream->signs = 2 * (stream->state & 15) + 1;
    if (stream->signs == 1) { /* signs depend on those of neighbours */
        refill(stream);
        width = stream->state & 15;
        if (width == 0) {
            return CWB_ERR_STREAM;
        }
        stream->unit = UINT32_C(1) << (30 - 2 * width);
        stream->rows = stream->rows_left = stream->state >> 4 & 15;
        stream->left = ROW_BEGINS;
        stream->signs = ROW_BEGINS * stream->unit;
        for (i = 0; i < 12; i++) {
            stream->scratch[SIGNS + i] = (uint16_t)((uint32_t)positive[i] << 11);
        }
    }
    for (i = 0; i < 4; i++) {
        refill(stream);
    }
    stream->range = UINT32_C(0xFFFFFFFF);
    return CWB_OK;
}

/* So many equiprobable bits behind those of `value`. */
COLD static uint32_t plain_bits(cwb_stream *stream, uint32_t value, uint32_t count)
{
    while (count-- > 0) {
        value = value << 1 | decide(stream, HALF);
    }
    return value;
}

/* What the bins up to `bin` gave as the high part of a magnitude escapes, or lacks its low bits: the value, without its sign. */
COLD static uint32_t far_value(cwb_stream *stream, const uint16_t *bin)
{
    uint32_t place = (uint32_t)(bin - stream->scratch), high = place % CONTEXT, magnitude = high;
    uint32_t bits = 0;

    if (high == BINS) { /* Exp-Golomb code */
        while (bits < MAX_ESCAPE_BITS && decide(stream, HALF)) {
            bits++;
        }
        magnitude = plain_bits(stream, 1, bits) + BINS - 1;
    }
    magnitude = plain_bits(stream, magnitude, stream->header >> 4 & 7);
    if (magnitude > stream->reach) {
        stream->kind = DAMAGED;
        magnitude = stream->reach;
    }
    if (stream->plain) {
        return magnitude;
    }
    stream->past ^= ((magnitude ^ high) & 1) * (odd_index(stream) << STATE);
    return 2 * magnitude - (magnitude > 0 && place >= 2 * CONTEXT);
}

/* A row of those whose signs depend on each other is complete: what `signs` becomes. */
static INLINE uint32_t next_row(cwb_stream *stream, uint32_t signs, uint32_t unit)
{
    signs = (signs << 2) + ROW_BEGINS * unit;
    if (--stream->rows_left == 0) {
        stream->rows_left = stream->rows;
        signs = ROW_BEGINS * unit;
    }
    return signs;
}

/* Symbols of one run, between two changes of the learning rate. FAR_BIT and the grid say in `past` where the context begins, in
 * bytes. Where signs depend on those of neighbours, they stand in `signs`, two bits each: 1 positive, 2 negative, and ROW_BEGINS
 * before each row. That of the neighbour above is highest, that of the last element, which `left` repeats, in units of `unit`. */
COLD static void read_small(cwb_stream *stream, int16_t *out, size_t count)
{
    while (count-- > 0) {
        uint16_t *bin = stream->scratch + (stream->past & (3 << FAR_BIT)) / 2;
        uint32_t value;

        while (learn(stream, bin, decide(stream, *bin))) {
            bin++;
        }
        stream->past = stream->past >> 1 ^ bin[TERMS];
        value = bin[TERMS] & INCOMPLETE;
        if (value == INCOMPLETE) {
            value = far_value(stream, bin);
        }
        if (stream->unit > 0) {
            uint32_t above = stream->signs >> 30;

            if (above == ROW_BEGINS) {
                stream->signs = next_row(stream, stream->signs, stream->unit);
                stream->left = ROW_BEGINS;
                above = stream->signs >> 30;
            }
            bin = stream->scratch + SIGNS + 4 * above + stream->left;
            stream->left = 0;
            if (value > 0) {
                stream->left = (uint8_t)(2 - learn(stream, bin, take_bit(stream, (stream->range >> 8) * (*bin >> 8 | 1))));
            }
            stream->signs = (stream->signs << 2) + stream->left * stream->unit;
            if (stream->left == 2) {
                value = 0 - value;
            }
        } else if (value > 0 && !take_bit(stream, (stream->range >> 5) * stream->signs)) {
            value = 0 - value;
        }
        *out++ = (int16_t)value;
    }
}

static uint8_t last_rate(const cwb_stream *stream)
{
    return stream->header & SLOW ? 8 : 6;
}

#endif
