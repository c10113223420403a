/* SPDX-License-Identifier: Apache-2.0 */
#include "mutate.h"

#include "exercise.h"

#include <string.h>

enum { HEADER = 20, MAX_RECORDS = 48, MAX_FIELDS = 16 };

/* ---- numbers -------------------------------------------------------------------------------------------------- */

static uint32_t draw(uint32_t *random, uint32_t bound) /* xorshift (Marsaglia 2003) */
{
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    return *random % bound;
}

/* One that sits at some edge, or next to it, or any other. */
static uint32_t edge_number(uint32_t *random, uint32_t old)
{
    static const uint32_t edges[] = {0, 1, 2, 8, 127, 128, 255, 4095, 4096, 16384, 32767, 65535, 0x7FFFFF, 0x800000,
                                     0x1FFFFFFF, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};

    switch (draw(random, 4)) {
    case 0:
        return old + draw(random, 5) - 2;
    case 1:
        return old ^ (uint32_t)1 << draw(random, 32);
    case 2:
        return draw(random, 256);
    default:
        return edges[draw(random, sizeof edges / sizeof *edges)] + draw(random, 3) - 1;
    }
}

static uint32_t get_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_u32(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    p[2] = (uint8_t)(value >> 16);
    p[3] = (uint8_t)(value >> 24);
}

/* CRC-32 of bytes that follow others whose CRC-32 is given. */
static uint32_t crc32_more(uint32_t crc, const uint8_t *data, size_t size)
{
    static uint32_t table[256];
    uint32_t i, bit;

    crc = ~crc;
    for (i = 0; table[255] == 0 && i < 256; i++) {
        table[i] = i;
        for (bit = 0; bit < 8; bit++) {
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320 : 0);
        }
    }
    while (size-- > 0) {
        crc = crc >> 8 ^ table[(crc ^ *data++) & 255];
    }
    return ~crc;
}

static uint32_t crc32_of(const uint8_t *data, size_t size)
{
    return crc32_more(0, data, size);
}

/* ---- records -------------------------------------------------------------------------------------------------- */

typedef enum { BYTE, VARINT, WORD } width;

typedef struct {
    width width;
    uint32_t value;
} field;

/* fields: kind, size of the payload, CRC, and what follows by kind. */
typedef struct {
    field fields[MAX_FIELDS];
    uint32_t field_count;
    uint32_t head; /* which field is the head: 1 if the tensor has exponents, else 0; size and CRC follow */
    const uint8_t *payload;
    uint32_t payload_size;
    uint32_t crc_at; /* where the CRC stands in the file */
} record;

typedef struct {
    record records[MAX_RECORDS];
    uint32_t count;
} content;

/* Reads a field at *at, before `end`; 0 if it is not there. */
static int read_field(const uint8_t *data, size_t end, size_t *at, width width, record *to)
{
    uint32_t value = 0, shift = 0;

    if (to->field_count == MAX_FIELDS || end - *at < (width == WORD ? 4u : 1u)) {
        return 0;
    }
    if (width == WORD) {
        value = get_u32(data + *at);
        *at += 4;
    } else if (width == BYTE) {
        value = data[(*at)++];
    } else {
        do {
            if (*at == end || shift > 28) {
                return 0;
            }
            value |= (uint32_t)(data[*at] & 127) << shift;
            shift += 7;
        } while (data[(*at)++] > 127);
    }
    to->fields[to->field_count].width = width;
    to->fields[to->field_count++].value = value;
    return 1;
}

static int read_record(const uint8_t *data, size_t end, size_t *at, record *to)
{
    uint32_t head, i;

    to->field_count = 0;
    do { /* before a tensor with exponents stands one byte more */
        if (!read_field(data, end, at, BYTE, to)) {
            return 0;
        }
        to->head = to->field_count - 1;
        head = to->fields[to->head].value;
    } while (head == 62 && to->head == 0);
    if (!read_field(data, end, at, VARINT, to)) {
        return 0;
    }
    to->payload_size = to->fields[to->head + 1].value;
    to->crc_at = (uint32_t)*at;
    if (!read_field(data, end, at, WORD, to)) {
        return 0;
    }
    for (i = 0; (head < 32 || head >= 128) && i < (head & 7); i++) {
        if (!read_field(data, end, at, VARINT, to)) {
            return 0;
        }
    }
    if (head >= 128) { /* the step, short or long, and the largest symbol */
        if (!read_field(data, end, at, BYTE, to) ||
            (to->fields[to->field_count - 1].value == 0 && !read_field(data, end, at, WORD, to))) {
            return 0;
        }
        return read_field(data, end, at, VARINT, to);
    }
    return 1;
}

/* The records up to the first that is not whole. */
static void parse(const uint8_t *data, size_t size, content *found)
{
    size_t at = HEADER, end, payloads;

    found->count = 0;
    if (size < HEADER || get_u32(data + 8) > size - HEADER) {
        return;
    }
    end = payloads = HEADER + get_u32(data + 8);
    while (found->count < MAX_RECORDS) {
        record *next = &found->records[found->count];

        if (!read_record(data, end, &at, next) || next->payload_size > size - payloads) {
            return;
        }
        next->payload = data + payloads;
        payloads += next->payload_size;
        found->count++;
    }
}

/* The file that holds these records; 0 if there is not so much room. Its CRCs remain to be set. */
static size_t assemble(const content *from, const uint8_t *header, uint8_t *out)
{
    size_t at = HEADER;
    uint32_t i, j;

    memcpy(out, header, HEADER);
    for (i = 0; i < from->count; i++) {
        for (j = 0; j < from->records[i].field_count && at < MAX_FILE - 16; j++) {
            uint32_t value = from->records[i].fields[j].value;

            if (from->records[i].fields[j].width == WORD) {
                put_u32(out + at, value);
                at += 4;
                continue;
            }
            for (; from->records[i].fields[j].width == VARINT && value > 127; value >>= 7) {
                out[at++] = (uint8_t)(value | 128);
            }
            out[at++] = (uint8_t)value;
        }
    }
    out[6] = (uint8_t)from->count;
    out[7] = 0;
    put_u32(out + 8, (uint32_t)(at - HEADER));
    for (i = 0; i < from->count; i++) {
        if (from->records[i].payload_size > MAX_FILE - at) {
            return 0;
        }
        memcpy(out + at, from->records[i].payload, from->records[i].payload_size);
        at += from->records[i].payload_size;
    }
    put_u32(out + 12, (uint32_t)at);
    return at;
}

static void seal_header(uint8_t *data, size_t size)
{
    uint32_t directory = get_u32(data + 8);

    if (directory <= size - HEADER) {
        put_u32(data + 16, crc32_more(crc32_of(data, 16), data + HEADER, directory));
    }
}

/* CRC of a coded tensor: of its payload and of what the decoder makes of it, as far as that goes. */
static uint32_t crc_of_symbols(const cwb_tensor *tensor)
{
    static uint16_t scratch[CWB_MAX_SCRATCH / sizeof(uint16_t)];
    uint32_t crc = crc32_of(tensor->payload, tensor->payload_size), left = tensor->count;
    cwb_stream stream;
    int16_t symbol;

    if (left > MAX_DECODED || cwb_begin(tensor, scratch, sizeof scratch, &stream) != CWB_OK) {
        return crc;
    }
    while (left-- > 0 && cwb_read_i16(&stream, &symbol, 1) == CWB_OK) {
        uint8_t bytes[2];

        bytes[0] = (uint8_t)((uint16_t)symbol & 255);
        bytes[1] = (uint8_t)((uint16_t)symbol >> 8);
        crc = crc32_more(crc, bytes, 2);
    }
    return crc;
}

void seal(uint8_t *data, size_t size)
{
    static content found;
    cwb_file file;
    cwb_tensor tensor;
    uint32_t i;

    if (size < HEADER) {
        return;
    }
    parse(data, size, &found);
    for (i = 0; i < found.count; i++) {
        put_u32(data + found.records[i].crc_at, crc32_of(found.records[i].payload, found.records[i].payload_size));
    }
    seal_header(data, size);
    allow(UINT32_C(1) << 31);
    if (cwb_open(&file, data, size) == CWB_OK) {
        for (i = 0; i < found.count && i < file.tensors; i++) {
            if (cwb_tensor_at(&file, i, &tensor) == CWB_OK && tensor.kind != CWB_RAW) {
                put_u32(data + found.records[i].crc_at, crc_of_symbols(&tensor));
            }
        }
        seal_header(data, size);
    }
}

/* ---- damage --------------------------------------------------------------------------------------------------- */

/* Bytes from `from` take the place of `cut` bytes at `at`. */
static size_t splice(uint8_t *data, size_t size, size_t at, size_t cut, const uint8_t *from, size_t more)
{
    if (size - cut > MAX_FILE - more) {
        return size;
    }
    memmove(data + at + more, data + at + cut, size - at - cut);
    memcpy(data + at, from, more);
    return size - cut + more;
}

/* One accident to bytes; `data` has room for MAX_FILE. */
static size_t hurt(uint8_t *data, size_t size, uint32_t *random)
{
    uint8_t some[64];
    uint32_t at, length, other, i;

    if (size == 0) {
        return 0;
    }
    at = draw(random, (uint32_t)size);
    length = 1 + draw(random, sizeof some);
    length = length < size - at ? length : (uint32_t)size - at;
    for (i = 0; i < sizeof some; i++) {
        some[i] = (uint8_t)draw(random, 256);
    }
    switch (draw(random, 12)) {
    case 0: /* a part is gone, */
        return splice(data, size, at, length, some, 0);
    case 1: /* or there is more, */
        return splice(data, size, at, 0, some, length);
    case 2: /* or it ends early */
        return draw(random, 4) == 0 ? at : size;
    case 3: /* noise, a flash page erased or zeroed */
        memset(data + at, draw(random, 2) ? 0xFF : 0, length);
        return size;
    case 4:
        memcpy(data + at, some, length);
        return size;
    case 5: /* a part of the file stands at the wrong place, */
        memcpy(some, data + at, length);
        memmove(data + draw(random, (uint32_t)(size - length) + 1), some, length);
        return size;
    case 6: /* or two parts have changed places */
        other = draw(random, (uint32_t)(size - length) + 1);
        memcpy(some, data + at, length);
        memmove(data + at, data + other, length);
        memmove(data + other, some, length);
        return size;
    case 7:
        if (size - at >= 4) {
            put_u32(data + at, edge_number(random, get_u32(data + at)));
        }
        return size;
    case 8:
        data[at] = (uint8_t)edge_number(random, data[at]);
        return size;
    default:
        data[at] ^= (uint8_t)(1u << draw(random, 8));
        return size;
    }
}

size_t damage(uint8_t *data, size_t size, uint32_t *random)
{
    uint32_t times = 1 + draw(random, 3);

    while (times-- > 0) {
        size = hurt(data, size, random);
    }
    return size;
}

/* Another payload for the record; `room` has MAX_FILE bytes. */
static void hurt_payload(record *of, const content *all, uint8_t *room, uint32_t *random)
{
    const record *other = &all->records[draw(random, all->count)];

    if (draw(random, 8) == 0) {
        of->payload = other->payload;
        of->payload_size = other->payload_size;
    } else {
        memcpy(room, of->payload, of->payload_size);
        of->payload_size = (uint32_t)(of->payload_size == 0 ? splice(room, 0, 0, 0, (const uint8_t *)"\1\2\3", 3)
                                                            : damage(room, of->payload_size, random));
        of->payload = room;
    }
    of->fields[of->head + 1].value = of->payload_size;
}

/* One change to the records. */
static void hurt_records(content *all, uint8_t *room, uint32_t *random)
{
    uint32_t i = draw(random, all->count), j = draw(random, all->count), last;
    record *one = &all->records[i], copy = *one;
    field *changed;

    switch (draw(random, 8)) {
    case 0: /* swapped */
        *one = all->records[j];
        all->records[j] = copy;
        return;
    case 1: /* twice */
        if (all->count < MAX_RECORDS) {
            all->records[all->count++] = copy;
        }
        return;
    case 2: /* gone */
        if (all->count > 1) {
            all->count--;
            memmove(one, one + 1, (all->count - i) * sizeof *one);
        }
        return;
    case 3: /* the fields of one, the payload of another */
        one->payload = all->records[j].payload;
        one->payload_size = one->fields[one->head + 1].value = all->records[j].payload_size;
        return;
    case 4:
    case 5:
        hurt_payload(one, all, room, random);
        return;
    default: /* any field but the CRC */
        last = one->field_count - one->head;
        changed = &one->fields[one->head + (draw(random, last) == 0 ? 0 : last > 3 ? 3 + draw(random, last - 3) : 1)];
        changed->value = edge_number(random, changed->value);
        if (changed->width == BYTE) {
            changed->value &= 255;
        }
        if (changed == &one->fields[one->head + 3] && draw(random, 2) == 0) { /* another coder, form or rank */
            one->fields[one->head].value = (one->fields[one->head].value ^ 1u << draw(random, 8)) & 255;
        }
        return;
    }
}

size_t forge(uint8_t *data, size_t size, uint32_t *random)
{
    static uint8_t out[MAX_FILE + 64], rooms[3][MAX_FILE];
    static content all;
    uint32_t times = 1 + draw(random, 3);
    size_t made;

    parse(data, size, &all);
    if (all.count > 0 && draw(random, 4) > 0) {
        while (times-- > 0) {
            hurt_records(&all, rooms[times], random);
        }
        made = assemble(&all, data, out);
        if (made > 0) {
            memcpy(data, out, made);
            size = made;
        }
    } else { /* its bytes, the header's first fields apart */
        while (times-- > 0 && size > HEADER) {
            size = HEADER + hurt(data + HEADER, size - HEADER, random);
        }
        if (draw(random, 8) > 0) {
            put_u32(data + 12, (uint32_t)size);
        }
    }
    if (draw(random, 16) == 0 && size >= HEADER) {
        uint32_t at = 4 + 4 * draw(random, 4);

        put_u32(data + at, edge_number(random, get_u32(data + at)));
    }
    if (draw(random, 64) > 0) {
        seal(data, size);
    }
    return size;
}
