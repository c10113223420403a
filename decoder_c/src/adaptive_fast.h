/* SPDX-License-Identifier: Apache-2.0
 *
 * The adaptive coder's fast loops. They take more room than the one of adaptive.h, which CWB_SMALL chooses.
 */
#ifndef CWB_ADAPTIVE_FAST_H
#define CWB_ADAPTIVE_FAST_H

#include "adaptive.h"

/* The coder's numbers while a loop holds them in registers. */
typedef struct {
    uint32_t code, range, rate, gain;
} registers;

/* decide and learn, by the probability at `bin`. */
static INLINE int decide_fast(cwb_stream *stream, registers *r, uint16_t *bin)
{
    uint32_t bound, p, top = r->range >> 16;

    AFRESH(top);
    if (UNLIKELY(top <= 0xFF)) {
        do {
            r->range <<= 8;
            AFRESH(r->range);
            r->code <<= 8;
            if (stream->next != stream->end) {
                r->code |= *stream->next++;
            }
            top = r->range >> 16;
            AFRESH(top);
        } while (top <= 0xFF);
    }
    p = *bin;
    bound = top * p;
    p -= p >> r->rate;
    if (r->code < bound) {
        *bin = (uint16_t)(p + r->gain);
        r->range = bound;
        return 1;
    }
    *bin = (uint16_t)p;
    r->code -= bound;
    r->range -= bound;
    return 0;
}

/* read_small with all that changes in registers; compilers make a loop for each choice of the last three arguments. `near`: signs
 * depend on those of neighbours; `left` then says where the probabilities of the last sign begin, in bytes. `wide`: magnitudes may
 * have low bits. */
static INLINE void read_fast(cwb_stream *stream, int16_t *out, size_t count, uint32_t rate, int near, int wide)
{
    uint32_t past = stream->past, signs = stream->signs, unit = stream->unit, left = 2 * (SIGNS + (uint32_t)stream->left);
    uint8_t *scratch = (uint8_t *)stream->scratch;
    const int16_t *end = out + count;
    registers r;

    r.code = stream->state;
    r.range = stream->range;
    r.rate = rate;
    r.gain = UINT32_C(0xFFFF) >> rate;
    do {
        uint16_t *bin = (uint16_t *)(scratch + (past & (3 << FAR_BIT)));
        uint32_t bound, term, value;
        int more;

        if (near && UNLIKELY(signs >> 30 == ROW_BEGINS)) {
            left = 2 * (SIGNS + ROW_BEGINS);
            signs = next_row(stream, signs, unit);
        }
        more = wide || decide_fast(stream, &r, bin);
        if (more) {
            bin += !wide;
            while (decide_fast(stream, &r, bin)) {
                bin++;
            }
        }
        term = bin[TERMS];
        past = past >> 1 ^ term;
        value = more ? term & INCOMPLETE : 0;
        if (UNLIKELY(value == INCOMPLETE)) {
            stream->state = r.code;
            stream->range = r.range;
            stream->past = past;
            value = far_value(stream, bin);
            r.code = stream->state;
            r.range = stream->range;
            past = stream->past;
        }
        if (wide ? value == 0 : !more) {
            if (near) {
                signs <<= 2;
                left = 2 * SIGNS;
            }
        } else if (near) {
            uint16_t *sign = (uint16_t *)(scratch + ((signs >> 30 << 3) + left));
            uint32_t p = *sign;

            bound = (r.range >> 8) * (p >> 8 | 1);
            p -= p >> rate;
            signs = (signs << 2) + unit;
            left = 2 * (SIGNS + 1);
            if (r.code < bound) {
                r.range = bound;
                p += r.gain;
            } else {
                r.code -= bound;
                r.range -= bound;
                value = 0 - value;
                signs += unit;
                left = 2 * (SIGNS + 2);
            }
            *sign = (uint16_t)p;
        } else {
            bound = (r.range >> 5) * signs;
            if (r.code < bound) {
                r.range = bound;
            } else {
                r.code -= bound;
                r.range -= bound;
                value = 0 - value;
            }
        }
        *out++ = (int16_t)value;
    } while (out != end);
    stream->state = r.code;
    stream->range = r.range;
    stream->past = past;
    if (near) {
        stream->signs = signs;
        stream->left = (uint8_t)(left / 2 - SIGNS);
    }
}

/* Do constant rates pay for loops of their own? In WebAssembly four of them gain 4 %, for 2.8 KB. */
#ifdef __wasm__
#define ONE_LOOP 1
#else
#define ONE_LOOP 0
#endif

/* A loop for all tensors, and for those without low bits loops for the two last rates, without neighbours' signs and with them. */
COLD static void read_any(cwb_stream *stream, int16_t *out, size_t count)
{
    read_fast(stream, out, count, stream->rate, stream->unit > 0, 1);
}

COLD static void read_far_6(cwb_stream *stream, int16_t *out, size_t count)
{
    read_fast(stream, out, count, 6, 0, 0);
}

COLD static void read_far_8(cwb_stream *stream, int16_t *out, size_t count)
{
    read_fast(stream, out, count, 8, 0, 0);
}

COLD static void read_near_6(cwb_stream *stream, int16_t *out, size_t count)
{
    read_fast(stream, out, count, 6, 1, 0);
}

COLD static void read_near_8(cwb_stream *stream, int16_t *out, size_t count)
{
    read_fast(stream, out, count, 8, 1, 0);
}

static void read_adaptive(cwb_stream *stream, int16_t *out, size_t count)
{
    if (SMALL) {
        read_small(stream, out, count);
    } else if (ONE_LOOP || (stream->header & LOW_BITS) != 0 || stream->rate < last_rate(stream)) {
        read_any(stream, out, count);
    } else if (stream->unit > 0) {
        if (stream->rate == 6) {
            read_near_6(stream, out, count);
        } else {
            read_near_8(stream, out, count);
        }
    } else if (stream->rate == 6) {
        read_far_6(stream, out, count);
    } else {
        read_far_8(stream, out, count);
    }
}

#endif
