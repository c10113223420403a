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
    INCOMPLETE = 8,  /* of terms only: the magnitude is not complete */
    EXCESS = 7       /* of terms only: what twice the magnitude exceeds the value by */
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

/* A decision whose probability of a 1, in units of 2^-16, is given: does the code lie in the lower part of the range? */
COLD static uint8_t decide(cwb_stream *stream, uint32_t p)
{
    uint32_t bound;

    while (stream->range <= 0xFFFFFF) {
        refill(stream);
    }
    bound = (stream->range >> 16) * p;
    if (stream->state < bound) {
        stream->range = bound;
        return 1;
    }
    stream->state -= bound;
    stream->range -= bound;
    return 0;
}

/* Where learning begins, and the terms, by the payload's header. */
COLD static void begin_contexts(const cwb_stream *stream)
{
    uint16_t *p = stream->scratch;
    uint32_t header = stream->header;
    uint32_t some = (2 * (header >> 10 & 15) + 1) << 11, more = (2 * (header >> 7 & 7) + 1) << 12;
    /* how terms on the odd grid differ: the bit of the grid itself moves away */
    uint32_t on_odd_grid = (odd_grid(stream) << STATE) + (1 << (STATE - 1)) + 1;
    uint16_t top = (uint16_t)(stream->reach >> (header >> 4 & 7));
    uint8_t bin;

    for (bin = 0; bin <= BINS; bin++, p++) {
        uint32_t term = on_trellis(stream) ? bin % 2 * (odd_index(stream) << STATE) : bin;

        if (bin >= top || bin == BINS) {
            some = 0;
        }
        if (bin == BINS || (header & LOW_BITS) != 0) {
            term |= INCOMPLETE;
        }
        if (bin >= FAR) {
            term |= header >> 15 << FAR_BIT;
        }
        p[0] = p[CONTEXT] = p[2 * CONTEXT] = p[3 * CONTEXT] = (uint16_t)some;
        p[TERMS] = p[CONTEXT + TERMS] = (uint16_t)term;
        p[2 * CONTEXT + TERMS] = p[3 * CONTEXT + TERMS] = (uint16_t)(term ^ on_odd_grid);
        more -= more >> 4;
        some = more;
    }
}

static cwb_error begin_adaptive(cwb_stream *stream)
{
    static const uint8_t positive[12] = {16, 19, 13, 16, 19, 22, 16, 19, 13, 16, 10, 13}; /* by neighbours; of 32 */
    uint32_t i;

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
        stream->width = (uint8_t)(2 * (stream->state & 15));
        if (stream->width == 0) {
            return CWB_ERR_STREAM;
        }
        stream->rows = stream->rows_left = stream->state >> 4 & 15;
        stream->signs = ROW_BEGINS;
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

/* What the bins gave as the magnitude `high` escapes, or lacks its low bits: the value, without its sign, plus the term's EXCESS. */
COLD static uint32_t far_value(cwb_stream *stream, uint32_t high)
{
    uint32_t magnitude = high;
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
        return magnitude + high;
    }
    stream->past ^= ((magnitude ^ high) & 1) * (odd_index(stream) << STATE);
    return 2 * magnitude;
}

/* Symbols of one run, between two changes of the learning rate. FAR_BIT and the grid say in `past` where the context begins, in
 * bytes. `near`: signs depend on those of neighbours. They stand in `signs`, two bits each, the last one lowest: 1 positive,
 * 2 negative, and ROW_BEGINS before each row, so that the one above stands `width` bits higher. */
static INLINE void read_adaptive(cwb_stream *stream, int16_t *out, size_t count, int near)
{
    uint32_t code = stream->state, range = stream->range, past = stream->past, signs = near ? stream->signs : 0;
    uint32_t rate = stream->rate, gain = UINT32_C(0xFFFF) >> rate;
    uint16_t *scratch = stream->scratch;

    do {
        uint32_t bound, p, top, term, value;
        uint16_t *first = (uint16_t *)((uint8_t *)(near ? stream->scratch : scratch) + (past & (3 << FAR_BIT))), *bin;

        AFRESH(first);
        bin = first;
        for (;;) {
            top = range >> 16;
            AFRESH(top);
            if (UNLIKELY(top <= 0xFF)) {
                do {
                    range <<= 8;
                    AFRESH(range);
                    code <<= 8;
                    if (stream->next != stream->end) {
                        code |= *stream->next++;
                    }
                } while (range <= 0xFFFFFF);
                top = range >> 16;
            }
            p = *bin;
            bound = top * p;
            p -= p >> rate;
            if (code >= bound) {
                break;
            }
            *bin++ = (uint16_t)(p + gain);
            range = bound;
        }
        *bin = (uint16_t)p;
        code -= bound;
        range -= bound;
        term = bin[TERMS];
        value = 2 * (uint32_t)(bin - first);
        past = past >> 1 ^ term;
        if (UNLIKELY(term & INCOMPLETE)) {
            stream->state = code;
            stream->range = range;
            stream->past = past;
            value = far_value(stream, value / 2);
            code = stream->state;
            range = stream->range;
            past = stream->past;
        }
        if (near) {
            uint32_t above = signs >> stream->width & 3;

            if (UNLIKELY(above == ROW_BEGINS)) { /* a row is complete */
                signs <<= 2;
                if (--stream->rows_left == 0) {
                    stream->rows_left = stream->rows;
                    signs = 0;
                }
                signs += ROW_BEGINS;
                above = signs >> stream->width & 3;
            }
            above = 4 * above + (signs & 3);
            signs <<= 2;
            if (value > 0) {
                uint16_t *sign = stream->scratch + SIGNS + above;

                p = *sign;
                bound = (range >> 8) * (p >> 8 | 1);
                p -= p >> rate;
                value -= term & EXCESS;
                if (code < bound) {
                    range = bound;
                    p += gain;
                    signs |= 1;
                } else {
                    code -= bound;
                    range -= bound;
                    value = 0 - value;
                    signs |= 2;
                }
                *sign = (uint16_t)p;
            }
        } else if (value > 0) {
            value -= term & EXCESS;
            bound = (range >> 5) * stream->signs;
            if (code < bound) {
                range = bound;
            } else {
                code -= bound;
                range -= bound;
                value = 0 - value;
            }
        }
        *out++ = (int16_t)value;
    } while (--count > 0);
    stream->state = code;
    stream->range = range;
    stream->past = past;
    if (near) {
        stream->signs = signs;
    }
}

COLD static void read_adaptive_far(cwb_stream *stream, int16_t *out, size_t count)
{
    read_adaptive(stream, out, count, 0);
}

COLD static void read_adaptive_near(cwb_stream *stream, int16_t *out, size_t count)
{
    read_adaptive(stream, out, count, 1);
}

#endif
