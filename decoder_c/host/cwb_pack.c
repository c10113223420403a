/* SPDX-License-Identifier: Apache-2.0
 *
 * Packed sections, as docs/packed_sections.md explains them; cerwu_onnx/container/prediction.py does the same.
 */
#include "cwb_pack.h"

#include <string.h>

#define SLOT_BITS 18
#define PLACE_BITS 14
#define CONTEXTS 8
#define MATCHES 2
#define LONGEST 31
#define INPUTS (CONTEXTS + MATCHES + 1)
#define LEVELS 32
#define LIMIT 3071
#define MOST_SEEN 127
#define FIELDS 32

enum { TAG, VARINT, LENGTH, STRING }; /* modes */

enum { NAMES, MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, VALUE, TYPE, TENSOR_TYPE, SHAPE, DIMENSION, OPSET, ENTRY, FUNCTION,
       KINDS };

/* The fields that hold messages: of which message, which field, which message. */
static const uint8_t messages[][3] = {
    {MODEL, 7, GRAPH},       {MODEL, 8, OPSET},      {MODEL, 14, ENTRY},     {MODEL, 25, FUNCTION},
    {GRAPH, 1, NODE},        {GRAPH, 5, TENSOR},     {GRAPH, 11, VALUE},     {GRAPH, 12, VALUE},
    {GRAPH, 13, VALUE},      {NODE, 5, ATTRIBUTE},   {ATTRIBUTE, 5, TENSOR}, {ATTRIBUTE, 6, GRAPH},
    {ATTRIBUTE, 10, TENSOR}, {ATTRIBUTE, 11, GRAPH}, {VALUE, 2, TYPE},       {TYPE, 1, TENSOR_TYPE},
    {TENSOR_TYPE, 2, SHAPE}, {SHAPE, 1, DIMENSION},  {FUNCTION, 7, NODE},    {FUNCTION, 9, OPSET},
    {FUNCTION, 11, ATTRIBUTE},
};

static const uint8_t shortest[MATCHES] = {12, 3};

typedef struct {
    size_t end;
    uint32_t kind, tags; /* tags: hash of the fields so far */
} level;

struct cwb_pack_model {
    /* What is learnt */
    uint16_t slots[1 << SLOT_BITS]; /* check and state */
    uint16_t chances[CONTEXTS][256], trusts[MATCHES][LONGEST + 1];
    uint8_t seen[CONTEXTS][256];
    int32_t weights[2][256][INPUTS];
    uint32_t places[MATCHES][1 << PLACE_BITS];
    size_t begins[KINDS][FIELDS]; /* of the last string in each field */
    /* Tables */
    uint8_t next[2][256];
    uint16_t squashed[LIMIT + 1], rates[MOST_SEEN + 1];
    int16_t stretched[4096];
    /* Where it is in the text */
    size_t position;
    uint64_t history; /* the last eight bytes */
    level levels[LEVELS];
    uint32_t depth, mode, field, value, shift, left, count, before, word;
    size_t above, matches[MATCHES];
    uint32_t lengths[MATCHES];
    /* The next bit */
    uint32_t node, part, shift_left, hashes[CONTEXTS], set[2], mixed[2], expected[MATCHES];
    uint16_t *used[CONTEXTS];
    int32_t inputs[INPUTS];
};

size_t cwb_pack_model_bytes(void)
{
    return sizeof(cwb_pack_model);
}

static uint32_t hash(uint32_t a, uint32_t b)
{
    uint32_t h = (a ^ b * UINT32_C(0x9E3779B1)) * UINT32_C(0x85EBCA6B) + UINT32_C(0x2F0B4C47);

    return h ^ h >> 15;
}

static uint32_t squash(const cwb_pack_model *m, int32_t x)
{
    return x < 0 ? 65536U - m->squashed[-x] : m->squashed[x];
}

static uint16_t learnt(uint32_t p, uint32_t bit, uint32_t rate)
{
    return (uint16_t)(bit ? p + ((65535 - p) * rate >> 16) : p - (p * rate >> 16));
}

static void make_tables(cwb_pack_model *m)
{
    uint32_t odds = UINT32_C(1) << 24, i, k, bit;
    int32_t x = -LIMIT;

    for (i = 0; i <= LIMIT; i++) {
        m->squashed[i] = (uint16_t)((UINT64_C(1) << 40) / ((UINT32_C(1) << 24) + odds));
        odds -= odds >> 8;
    }
    for (i = 0; i < 4096; i++) {
        while (x < LIMIT && squash(m, x) < 16 * i + 8) {
            x++;
        }
        m->stretched[i] = (int16_t)x;
    }
    for (i = 0; i <= MOST_SEEN; i++) {
        m->rates[i] = (uint16_t)(131072 / (2 * i + 3));
    }
    for (i = 0; i < 256; i++) {
        uint32_t counts[2];

        counts[0] = i >> 4;
        counts[1] = i & 15;
        for (k = 0; k < CONTEXTS; k++) {
            m->chances[k][i] = (uint16_t)((2 * counts[1] + 1) * 32768 / (counts[0] + counts[1] + 1));
        }
        for (bit = 0; bit < 2; bit++) {
            uint32_t same = counts[bit] < 15 ? counts[bit] + 1 : 15, other = counts[1 - bit];

            other = other > 1 ? other / 4 + 1 : other;
            m->next[bit][i] = (uint8_t)(bit ? other << 4 | same : same << 4 | other);
        }
        for (k = 0; k < INPUTS; k++) {
            m->weights[0][i][k] = m->weights[1][i][k] = 8192;
        }
    }
    for (i = 0; i <= LONGEST; i++) {
        m->trusts[0][i] = m->trusts[1][i] = (uint16_t)(65536 - 65536 / (i + 2));
    }
}

/* Bytes left in the string or, outside of strings, in the message. */
static size_t bytes_left(const cwb_pack_model *m)
{
    size_t end = m->levels[m->depth].end;

    return m->mode == STRING ? m->left : end > m->position ? end - m->position : 0;
}

static void begin(cwb_pack_model *m, uint32_t mode)
{
    m->mode = mode;
    m->value = m->shift = m->count = m->before = 0;
}

static void begin_string(cwb_pack_model *m, uint32_t size)
{
    uint32_t kind = m->levels[m->depth].kind;
    size_t *begins = &m->begins[kind][m->field % FIELDS];

    if (size == 0) {
        begin(m, kind == NAMES ? LENGTH : TAG);
        return;
    }
    begin(m, STRING);
    m->left = m->value = m->before = size;
    m->above = *begins;
    *begins = m->position;
}

static void end_tag(cwb_pack_model *m)
{
    uint32_t wire = m->value & 7, *tags = &m->levels[m->depth].tags;

    m->field = m->value >> 3;
    *tags = hash(*tags, m->field);
    if (wire == 1 || wire == 5) {
        begin_string(m, wire == 1 ? 8 : 4);
    } else {
        begin(m, wire == 0 ? VARINT : wire == 2 ? LENGTH : TAG);
    }
}

static void end_length(cwb_pack_model *m)
{
    size_t left = bytes_left(m), i;
    uint32_t size = left < m->value ? (uint32_t)left : m->value, kind = m->levels[m->depth].kind;

    for (i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        if (messages[i][0] == kind && messages[i][1] == m->field && m->depth + 1 < LEVELS) {
            level *inner = &m->levels[++m->depth];

            inner->end = m->position + size;
            inner->kind = messages[i][2];
            inner->tags = 0;
            begin(m, TAG);
            return;
        }
    }
    begin_string(m, size);
}

/* Goes on by a byte in the names or the protobuf messages. */
static void follow(cwb_pack_model *m, uint32_t byte)
{
    uint32_t *kind = &m->levels[m->depth].kind;

    m->before = hash(m->before, byte + 1);
    m->count++;
    if (m->mode == STRING) {
        m->left--;
        if (*kind == NAMES && m->count == 1 && m->value == 8 && byte < 32) { /* no name: the model's first field */
            *kind = MODEL;
            m->left = 0;
        }
        if (m->left == 0) {
            begin(m, *kind == NAMES ? LENGTH : TAG);
        }
    } else {
        if (m->shift < 32) {
            m->value |= (byte & 127) << m->shift;
            m->shift += 7;
        }
        if (byte < 128 && m->mode == TAG) {
            end_tag(m);
        } else if (byte < 128 && m->mode == LENGTH) {
            end_length(m);
        } else if (byte < 128) {
            begin(m, TAG);
        }
    }
    while (m->mode == TAG && m->depth > 0 && m->position >= m->levels[m->depth].end) {
        m->depth--;
    }
}

static void find_matches(cwb_pack_model *m, const uint8_t *text)
{
    const uint8_t *end = text + m->position;
    uint32_t i, k;

    for (k = 0; k < MATCHES; k++) {
        uint32_t h = 0, *place;

        if (m->lengths[k] > 0) {
            m->matches[k]++;
            m->lengths[k] = m->lengths[k] < LONGEST ? m->lengths[k] + 1 : LONGEST;
        }
        if (m->position < shortest[k]) {
            continue;
        }
        for (i = 1; i <= shortest[k]; i++) {
            h = hash(h, *(end - i));
        }
        place = &m->places[k][h >> (32 - PLACE_BITS)];
        if (m->lengths[k] == 0) {
            for (i = 0; i < LONGEST && i < *place && text[*place - 1 - i] == *(end - 1 - i); i++) {
            }
            if (i >= shortest[k]) {
                m->matches[k] = *place;
                m->lengths[k] = i;
            }
        }
        *place = (uint32_t)m->position;
    }
}

static void begin_byte(cwb_pack_model *m, const uint8_t *text)
{
    const level *top = &m->levels[m->depth];
    uint32_t state = m->mode | top->kind << 2, element = state | (m->mode == TAG ? 0 : m->field % FIELDS) << 6;
    uint32_t four = m->history & UINT32_MAX, one = four & 255, c[CONTEXTS], i;
    uint32_t left = hash(element, bytes_left(m) < 255 ? (uint32_t)bytes_left(m) : 255);

    c[0] = four & 0xFFFF;
    c[1] = hash(element, m->word);
    c[2] = hash(left, one);
    c[3] = hash(four & 0xF8F8F8F8, m->history >> 32 & 0xF8F8);
    c[4] = hash(left, m->before);
    c[5] = hash(hash(element, m->depth > 0 ? m->levels[m->depth - 1].tags : 0), top->tags);
    c[6] = hash(hash(element, m->mode == STRING ? text[m->above + m->count] : 0), one);
    c[7] = hash(hash(element, m->count & 3), four >> 24);
    for (i = 0; i < CONTEXTS; i++) {
        m->hashes[i] = hash(c[i], i);
    }
    m->set[0] = state;
    m->node = m->part = 1;
    m->shift_left = 7;
}

/* The slot of a context: of two, the one with its check; else the one that has seen less begins anew. */
static uint16_t *find_slot(uint16_t *slots, uint32_t h, uint32_t part)
{
    uint32_t check = h & 255, place = h >> (32 - SLOT_BITS) ^ part;
    uint16_t *slot = &slots[place], *other = &slots[place ^ 16];

    if (*slot >> 8 == check) {
        return slot;
    }
    if (*other >> 8 == check || (*other >> 4 & 15) + (*other & 15) < (*slot >> 4 & 15) + (*slot & 15)) {
        slot = other;
    }
    if (*slot >> 8 != check) {
        *slot = (uint16_t)(check << 8);
    }
    return slot;
}

/* The probability that the next bit is 1, in units of 2^-16. */
static uint32_t predict(cwb_pack_model *m, const uint8_t *text)
{
    uint32_t i, k;
    int32_t sum = 0;

    for (i = 0; i < CONTEXTS; i++) {
        uint32_t state;

        m->used[i] = find_slot(m->slots, m->hashes[i], m->part);
        state = *m->used[i] & 255;
        m->inputs[i] = m->stretched[m->chances[i][state] >> 4] * (state > 0);
    }
    for (k = 0; k < MATCHES; k++) {
        uint32_t following = m->lengths[k] > 0 ? text[m->matches[k]] | 256U : 0;
        int32_t x = 0;

        if (following >> (m->shift_left + 1) == m->node) {
            x = m->stretched[m->trusts[k][m->lengths[k]] >> 4];
            m->expected[k] = following >> m->shift_left & 1;
        } else {
            m->lengths[k] = 0;
        }
        m->inputs[CONTEXTS + k] = m->expected[k] ? x : -x;
    }
    m->inputs[INPUTS - 1] = 256;
    m->set[1] = m->node;
    for (k = 0; k < 2; k++) {
        const int32_t *weights = m->weights[k][m->set[k]];
        int64_t dot = 0;

        for (i = 0; i < INPUTS; i++) {
            dot += (int64_t)weights[i] * m->inputs[i];
        }
        dot /= 65536;
        dot = dot > LIMIT ? LIMIT : dot < -LIMIT ? -LIMIT : dot;
        m->mixed[k] = squash(m, (int32_t)dot);
        sum += (int32_t)dot;
    }
    return squash(m, sum / 2);
}

static void update(cwb_pack_model *m, const uint8_t *text, uint32_t bit)
{
    uint32_t i, k;

    for (i = 0; i < CONTEXTS; i++) {
        uint32_t state = *m->used[i] & 255, seen = m->seen[i][state];

        m->chances[i][state] = learnt(m->chances[i][state], bit, m->rates[seen]);
        m->seen[i][state] = (uint8_t)(seen < MOST_SEEN ? seen + 1 : MOST_SEEN);
        *m->used[i] = (uint16_t)((*m->used[i] & 0xFF00) | m->next[bit][state]);
    }
    for (k = 0; k < 2; k++) {
        int32_t error = (int32_t)(bit << 16) - (int32_t)m->mixed[k], *weights = m->weights[k][m->set[k]];

        for (i = 0; i < INPUTS && (error > 10 || error < -10); i++) { /* less would change nothing */
            weights[i] += m->inputs[i] * error / 32768;
        }
    }
    for (k = 0; k < MATCHES; k++) {
        if (m->lengths[k] > 0) {
            uint16_t *trust = &m->trusts[k][m->lengths[k]];
            uint32_t right = m->expected[k] == bit;

            *trust = learnt(*trust, right, 1024);
            m->lengths[k] = right ? m->lengths[k] : 0;
        }
    }
    m->node = m->node << 1 | bit;
    m->part = m->part << 1 | bit;
    m->shift_left--;
    if (m->node >= 256) {
        uint32_t byte = m->node & 255, letter = (byte | 32) - 'a';

        m->position++;
        m->history = m->history << 8 | byte;
        m->word = letter < 26 ? hash(m->word, byte) : 0;
        follow(m, byte);
        find_matches(m, text);
        begin_byte(m, text);
    } else if (m->part >= 16) {
        for (i = 0; i < CONTEXTS; i++) {
            m->hashes[i] = hash(m->hashes[i], m->node);
        }
        m->part = 1;
    }
}

/* Begins to read or write `size` bytes; returns where they end. */
static size_t begin_text(cwb_pack_model *m, const uint8_t *text, size_t size)
{
    m->depth = m->field = m->word = m->lengths[0] = m->lengths[1] = 0;
    m->levels[0].kind = NAMES;
    m->levels[0].tags = 0;
    m->levels[0].end = m->position + size;
    begin(m, LENGTH);
    begin_byte(m, text);
    return m->levels[0].end;
}

void cwb_pack_prime(cwb_pack_model *m, const uint8_t *text, size_t primer_size)
{
    memset(m, 0, sizeof *m);
    make_tables(m);
    while (primer_size - m->position >= 2) {
        uint32_t low = text[m->position], high = text[m->position + 1], size = high << 8 | low;
        size_t end;

        m->position += 2;
        m->history = m->history << 16 | low << 8 | high;
        end = begin_text(m, text, size < primer_size - m->position ? size : primer_size - m->position);
        while (m->position < end) {
            uint32_t bit = text[m->position] >> m->shift_left & 1;

            predict(m, text);
            update(m, text, bit);
        }
    }
}

static uint32_t split(uint32_t low, uint32_t high, uint32_t p)
{
    return low + (uint32_t)((uint64_t)(high - low) * p >> 16);
}

static size_t put(uint8_t *out, size_t capacity, size_t at, uint32_t byte)
{
    if (at < capacity) {
        out[at] = (uint8_t)byte;
    }
    return at + 1;
}

size_t cwb_pack(cwb_pack_model *m, const uint8_t *text, size_t size, uint8_t *out, size_t capacity)
{
    uint32_t low = 0, high = UINT32_MAX;
    size_t end = begin_text(m, text, size), written = 0, used = 0; /* used: up to the last byte that is not 0 */

    while (m->position < end) {
        uint32_t bit = text[m->position] >> m->shift_left & 1, middle = split(low, high, predict(m, text));

        low = bit ? low : middle + 1;
        high = bit ? middle : high;
        update(m, text, bit);
        for (; low >> 24 == high >> 24; low <<= 8, high = high << 8 | 255) {
            written = put(out, capacity, written, low >> 24);
            used = low >> 24 ? written : used;
        }
    }
    return low > 0 ? put(out, capacity, written, (low >> 24) + 1) : used;
}

int cwb_unpack(cwb_pack_model *m, uint8_t *text, size_t size, const uint8_t *code, size_t code_size)
{
    uint32_t low = 0, high = UINT32_MAX, number = 0;
    size_t end = begin_text(m, text, size), next;

    for (next = 0; next < 4; next++) {
        number = number << 8 | (next < code_size ? code[next] : 0);
    }
    while (m->position < end) {
        uint32_t middle = split(low, high, predict(m, text)), bit = number <= middle;

        low = bit ? low : middle + 1;
        high = bit ? middle : high;
        if (m->node >= 128) {
            text[m->position] = (uint8_t)(m->node << 1 | bit);
        }
        update(m, text, bit);
        for (; low >> 24 == high >> 24; low <<= 8, high = high << 8 | 255) {
            number = number << 8 | (next < code_size ? code[next] : 0);
            next++;
        }
    }
    return next >= code_size && (code_size == 0 || code[code_size - 1] != 0) &&
           number == (low > 0 ? ((low >> 24) + 1) << 24 : 0);
}
