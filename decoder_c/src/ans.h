/* SPDX-License-Identifier: Apache-2.0
 *
 * The ANS coder: it reads a table of frequencies into scratch memory, then a symbol with each look-up.
 *
 * Scratch memory holds the tables, one or two of them, as ENTRY numbers for each symbol: the first slot that it owns,
 * the value it stands for, and its term of the trellis' state. One more ends each table. Before them stand hints: for
 * each of HINTS equal parts of a table's slots, where the entry of the symbol that owns its first slot begins; those of
 * the second table follow those of the first. The state is kept in units of HINTS: so its lowest bit, the grid, chooses
 * the table.
 */
#ifndef CWB_ANS_H
#define CWB_ANS_H

#include "bytes.h"
#include "trellis.h"

enum {
    SLOTS = 4096,
    HINTS = CWB_ANS_HINTS,
    OCTAVES = 12, /* that the levels of a table span */
    ENTRY = 3     /* numbers of a symbol in scratch memory */
};

/* Reads a level for each symbol, 0 if it does not occur, into the first numbers of `entries`; returns their number per octave as a
 * power of 2. */
static uint8_t read_levels(bit_cursor *bits, uint16_t range, uint16_t *entries)
{
    uint8_t resolution = take_bits(bits, 2), rice = take_bits(bits, 2);
    int16_t last = 1, most = (int16_t)(OCTAVES << resolution);
    uint16_t *level = entries, *mirror = entries + 2 * ENTRY * range;
    uint16_t i;

    for (i = 0; i <= 2 * range && !bits->c.failed; i++) {
        uint16_t value = 0;
        int16_t half;

        if (i > range) {
            last = (int16_t)*mirror;
        } else if (last != 0) {
            last++;
        }
        while (value <= 2 * (uint16_t)most + 2 && take_bits(bits, 1)) { /* a prediction is at most `most` + 1 */
            value++;
        }
        value = (uint16_t)(value << rice | take_bits(bits, rice));
        half = (int16_t)((value + 1) / 2);
        last = (int16_t)(value & 1 ? last + half : last - half);
        if (last < 0 || last > most) {
            bits->c.failed = 1;
            last = 0;
        }
        *level = (uint16_t)last;
        level += ENTRY;
        mirror -= ENTRY;
    }
    if (resolution > 2 || (entries[0] == 0 && last == 0) || bits->byte != 0) {
        bits->c.failed = 1;
    }
    return resolution;
}

/* 16 times 2 to the power of (level - 1) / 2^resolution; 0 for level 0. */
static uint32_t weight_of(uint16_t level, uint8_t resolution)
{
    static const uint8_t mantissas[4] = {16, 19, 23, 27};

    if (level == 0) {
        return 0;
    }
    level--;
    return (uint32_t)mantissas[(level << (2 - resolution)) & 3] << (level >> resolution);
}

/* Turns levels into the first slots of symbols; the table ends with the entry at `end`. */
static void read_frequencies(uint16_t *entries, uint16_t *end, uint8_t resolution)
{
    uint32_t total = 0, spare = SLOTS;
    uint16_t left = SLOTS, slot = 0;
    uint16_t *entry, *largest = entries;

    for (entry = entries; entry != end; entry += ENTRY) {
        total += weight_of(*entry, resolution);
        spare -= *entry != 0;
    }
    for (entry = entries; entry != end; entry += ENTRY) {
        if (*entry != 0) {
            *entry = (uint16_t)(1 + divide(weight_of(*entry, resolution) * spare, total));
        }
        if (*entry > *largest) {
            largest = entry;
        }
        left = (uint16_t)(left - *entry);
    }
    *largest = (uint16_t)(*largest + left);
    for (entry = entries; entry != end; entry += ENTRY) {
        uint16_t frequency = *entry;

        *entry = slot;
        slot = (uint16_t)(slot + frequency);
    }
    *end = slot;
}

static cwb_error begin_ans(cwb_stream *stream)
{
    uint8_t tables = on_trellis(stream) ? 2 : 1, grid, resolution = 0;
    uint16_t *hint = stream->scratch, *entry = hint + HINTS * tables;
    uint16_t range = stream->reach;

    for (grid = 0; grid < tables; grid++) {
        uint16_t *end = entry + ENTRY * (2 * range + 1);
        uint16_t slot = 0;
        int32_t index;

        entry[0] = 1; /* the only level of a single symbol */
        if (range > 0) {
            bit_cursor bits = bits_of(stream->next, stream->end);

            resolution = read_levels(&bits, range, entry);
            if (bits.c.failed) {
                return CWB_ERR_TABLE;
            }
            stream->next = bits.c.p;
        }
        read_frequencies(entry, end, resolution);
        for (index = -(int32_t)range; index <= range; index++) {
            int32_t value = index, term = 0;

            if (tables > 1) {
                value = 2 * index - (grid & (index > 0)) + (grid & (index < 0));
                term = (index & 1) * (int32_t)odd_index(stream) ^ grid * (int32_t)odd_grid(stream);
            }
            entry[1] = (uint16_t)value;
            entry[2] = (uint16_t)(term * HINTS);
            entry += ENTRY;
            for (; slot < entry[0]; slot = (uint16_t)(slot + SLOTS / HINTS)) {
                *hint++ = (uint16_t)(entry - ENTRY - stream->scratch);
            }
        }
        entry += ENTRY;
    }
    if (stream->next != stream->end) {
        if ((stream->end - stream->next) % 2 != 0) { /* the first word may be a byte */
            stream->state = *stream->next++;
        } else {
            stream->state = load_u16(stream->next);
            stream->next += 2;
        }
        if (stream->state == 0) {
            return CWB_ERR_STREAM;
        }
        if (stream->next != stream->end) {
            stream->state = stream->state << 16 | load_u16(stream->next);
            stream->next += 2;
        }
    }
    return CWB_OK;
}

COLD static void read_ans(cwb_stream *stream, int16_t *out, size_t count)
{
    const uint16_t *scratch = stream->scratch;
    const uint8_t *next = stream->next;
    uint32_t state = stream->state, past = stream->past;

    do {
        uint32_t rest = state / SLOTS, slot, hint = past & HINTS;
        const uint16_t *entry;

        AFRESH(rest);
        slot = state - rest * SLOTS;
        AFRESH(slot);
        hint += slot / (SLOTS / HINTS);
        AFRESH(hint);
        entry = scratch + scratch[hint];

        while (entry[ENTRY] <= slot) {
            entry += ENTRY;
        }
        state = rest * (uint32_t)(entry[ENTRY] - entry[0]) + (slot - entry[0]);
        if (UNLIKELY(state <= 0xFFFF) && next != stream->end) {
            state = state << 16 | load_u16(next);
            next += 2;
        }
        *out++ = (int16_t)entry[1];
        past = past >> 1 ^ entry[2];
    } while (--count > 0);
    stream->next = next;
    stream->state = state;
    stream->past = past;
}

#endif
