/* SPDX-License-Identifier: Apache-2.0
 *
 * See cwb_inflate.h. What a stream means does not depend on what stands in its content, so that a stream can be measured before there
 * is memory for it.
 */
#include "cwb_inflate.h"

#include <string.h>

enum { LITERALS = 288, DISTANCES = 32, LENGTHS = 19, LONGEST = 15, END = 256, LITERALS_USED = 286, DISTANCES_USED = 30 };

/* How many symbols have each length, and the symbols by length. */
typedef struct {
    uint16_t counts[LONGEST + 1];
    uint16_t symbols[LITERALS];
} code_table;

typedef struct {
    const uint8_t *next, *end;
    uint32_t bits, held; /* bits that were read and not yet used: the lowest comes first */
    int failed;
    uint8_t *out;
    size_t written, before, most;
} stream;

/* The next `count` bits, at most 16, as a number; zeros behind the end of the stream. */
static uint32_t take(stream *s, uint32_t count)
{
    uint32_t value;

    while (s->held < count) {
        if (s->next == s->end) {
            s->failed = 1;
            return 0;
        }
        s->bits |= (uint32_t)*s->next++ << s->held;
        s->held += 8;
    }
    value = s->bits & ((UINT32_C(1) << count) - 1);
    s->bits >>= count;
    s->held -= count;
    return value;
}

/* Makes the code whose symbols have these lengths, 0 for those that it lacks. A code may be incomplete only where one bit is its
 * longest, and only if `may_lack` is set. Returns whether it is a code. */
static int make_table(code_table *table, const uint8_t *lengths, uint32_t symbols, int may_lack)
{
    uint16_t places[LONGEST + 2];
    uint32_t longest = 0, i;
    int32_t left = 1;

    memset(table->counts, 0, sizeof table->counts);
    for (i = 0; i < symbols; i++) {
        table->counts[lengths[i]]++;
        longest = lengths[i] > longest ? lengths[i] : longest;
    }
    table->counts[0] = 0;
    places[1] = 0;
    for (i = 1; i <= LONGEST; i++) {
        left = 2 * left - table->counts[i];
        if (left < 0) {
            return 0;
        }
        places[i + 1] = (uint16_t)(places[i] + table->counts[i]);
    }
    for (i = 0; i < symbols; i++) {
        if (lengths[i] > 0) {
            table->symbols[places[lengths[i]]++] = (uint16_t)i;
        }
    }
    return left == 0 || longest == 0 || (may_lack && longest == 1);
}

/* The next symbol; LITERALS if there is none. `value` counts from the first code of each length. */
static uint32_t next_symbol(stream *s, const code_table *table)
{
    uint32_t value = 0, place = 0, length;

    for (length = 1; length <= LONGEST; length++) {
        value = 2 * value + take(s, 1);
        if (value < table->counts[length]) {
            return table->symbols[place + value];
        }
        value -= table->counts[length];
        place += table->counts[length];
    }
    s->failed = 1;
    return LITERALS;
}

static void put(stream *s, uint8_t byte)
{
    if (s->written == s->most) {
        s->failed = 1;
        return;
    }
    if (s->out != NULL) {
        s->out[s->written] = byte;
    }
    s->written++;
}

/* Repeats `length` bytes from `distance` bytes back. */
static void repeat(stream *s, uint32_t length, uint32_t distance)
{
    if (distance > s->before + s->written || length > s->most - s->written) {
        s->failed = 1;
        return;
    }
    if (s->out != NULL) {
        uint8_t *to = s->out + s->written;
        uint32_t i;

        for (i = 0; i < length; i++, to++) { /* bytes may repeat what was just written */
            *to = *(to - distance);
        }
    }
    s->written += length;
}

/* Lengths come in groups of 4 with one more extra bit each, distances in groups of 2. */
static uint32_t length_of(stream *s, uint32_t symbol)
{
    uint32_t number = symbol - END - 1, extra = number < 8 ? 0 : number / 4 - 1;

    if (number == LITERALS_USED - END - 2) {
        return 258;
    }
    return 3 + (number < 8 ? number : (4 + number % 4) << extra) + take(s, extra);
}

static uint32_t distance_of(stream *s, uint32_t symbol)
{
    uint32_t extra = symbol < 4 ? 0 : symbol / 2 - 1;

    return 1 + (symbol < 4 ? symbol : (2 + symbol % 2) << extra) + take(s, extra);
}

static void read_block(stream *s, const code_table *literals, const code_table *distances)
{
    while (!s->failed) {
        uint32_t symbol = next_symbol(s, literals), length;

        if (symbol < END) {
            put(s, (uint8_t)symbol);
        } else if (symbol == END) {
            return;
        } else if (symbol >= LITERALS_USED) {
            s->failed = 1;
        } else {
            length = length_of(s, symbol);
            symbol = next_symbol(s, distances);
            if (symbol >= DISTANCES_USED) {
                s->failed = 1;
            } else {
                uint32_t distance = distance_of(s, symbol);

                if (!s->failed) {
                    repeat(s, length, distance);
                }
            }
        }
    }
}

static void read_stored(stream *s)
{
    uint32_t size, inverse;

    s->bits = s->held = 0; /* never more than the rest of a byte */
    size = take(s, 16);
    inverse = take(s, 16);
    if ((size ^ inverse) != 0xFFFF || size > (size_t)(s->end - s->next)) {
        s->failed = 1;
    }
    for (; size > 0 && !s->failed; size--) {
        put(s, *s->next++);
    }
}

/* The lengths of the codes' symbols that stand in front of a block, as `lengths`; returns how many are those of literals. */
static uint32_t read_lengths(stream *s, uint8_t *lengths, uint32_t *total)
{
    static const uint8_t order[LENGTHS] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t own[LENGTHS] = {0};
    uint32_t literals = 257 + take(s, 5), count = literals + 1 + take(s, 5), given = 4 + take(s, 4), i;
    code_table table;

    for (i = 0; i < given; i++) {
        own[order[i]] = (uint8_t)take(s, 3);
    }
    *total = count;
    if (literals > LITERALS_USED || count - literals > DISTANCES_USED || !make_table(&table, own, LENGTHS, 0)) {
        s->failed = 1;
        return literals;
    }
    for (i = 0; i < count && !s->failed;) {
        uint32_t symbol = next_symbol(s, &table), times = 1;
        uint8_t length = (uint8_t)symbol;

        if (symbol >= 16) {
            length = symbol == 16 && i > 0 ? lengths[i - 1] : 0;
            times = symbol == 18 ? 11 + take(s, 7) : 3 + take(s, symbol == 16 ? 2 : 3);
            s->failed |= (symbol == 16 && i == 0) || times > count - i;
        }
        for (; times > 0 && !s->failed; times--) {
            lengths[i++] = length;
        }
    }
    return literals;
}

static void read_coded(stream *s, int fixed)
{
    uint8_t lengths[LITERALS + DISTANCES] = {0};
    code_table literals, distances;
    uint32_t first = LITERALS, total = LITERALS + DISTANCES, i;

    if (fixed) {
        for (i = 0; i < total; i++) {
            lengths[i] = (uint8_t)(i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : i < LITERALS ? 8 : 5);
        }
    } else {
        first = read_lengths(s, lengths, &total);
    }
    if (s->failed || lengths[END] == 0 || !make_table(&literals, lengths, first, 1) ||
        !make_table(&distances, lengths + first, total - first, 1)) {
        s->failed = 1;
        return;
    }
    read_block(s, &literals, &distances);
}

int cwb_inflate(uint8_t *out, size_t before, size_t most, const uint8_t *code, size_t code_size, size_t *size)
{
    stream s;
    uint32_t last = 0;

    s.next = code;
    s.end = code + code_size;
    s.bits = s.held = 0;
    s.failed = 0;
    s.out = out;
    s.written = 0;
    s.before = before;
    s.most = most;
    while (!last && !s.failed) {
        uint32_t kind;

        last = take(&s, 1);
        kind = take(&s, 2);
        if (kind == 0) {
            read_stored(&s);
        } else if (kind < 3) {
            read_coded(&s, kind == 1);
        } else {
            s.failed = 1;
        }
    }
    *size = s.written;
    return !s.failed && s.next == s.end;
}
