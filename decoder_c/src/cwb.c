/* SPDX-License-Identifier: Apache-2.0
 *
 * The decoder of .cwb files. docs/format.md says what the bytes mean; cwb.h says what the functions do.
 *
 * int may have 16 bits: shifts and products are done in uint32_t or uint64_t. Bytes are loaded one at a time, so
 * neither alignment nor the machine's byte order matters.
 */
#include "cwb.h"

#if CHAR_BIT != 8
#error "cwb needs 8-bit bytes"
#endif

enum {
    HEADER_SIZE = 32,
    MAX_NAME = 1024,
    TABLE_SUM = 4096,
    TABLE_BITS = 12,
    PRECISION = 24,
    BINS = 14,           /* adaptive: magnitudes below this are coded in unary, the rest escapes */
    CONTEXTS = 4,
    SIGN = CONTEXTS * BINS,
    ESCAPE = SIGN + 1, /* the unary part of an escape's Exp-Golomb code */
    MAX_ESCAPE_BITS = 15,
    PROBABILITIES = ESCAPE + MAX_ESCAPE_BITS,
    FIRST_COUNT = 6
};

#define MAX_COUNT UINT32_C(0x7FFFFFFF)
#define CRC_INIT UINT32_C(0xFFFFFFFF)

/* ---- bytes ---------------------------------------------------------------------------------------------------- */

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | ((uint32_t)p[1] << 8));
}

static uint32_t load_u32(const uint8_t *p)
{
    return load_u16(p) | ((uint32_t)load_u16(p + 2) << 16);
}

/* CRC-32 of ISO-HDLC, four bits at a time. Begins with CRC_INIT; the result is inverted by the caller. */
static uint32_t crc_byte(uint32_t crc, uint8_t byte)
{
    static const uint32_t table[16] = {
        UINT32_C(0x00000000), UINT32_C(0x1DB71064), UINT32_C(0x3B6E20C8), UINT32_C(0x26D930AC),
        UINT32_C(0x76DC4190), UINT32_C(0x6B6B51F4), UINT32_C(0x4DB26158), UINT32_C(0x5005713C),
        UINT32_C(0xEDB88320), UINT32_C(0xF00F9344), UINT32_C(0xD6D6A3E8), UINT32_C(0xCB61B38C),
        UINT32_C(0x9B64C2B0), UINT32_C(0x86D3D2D4), UINT32_C(0xA00AE278), UINT32_C(0xBDBDF21C)};

    crc ^= byte;
    crc = (crc >> 4) ^ table[crc & 15];
    return (crc >> 4) ^ table[crc & 15];
}

static uint32_t crc_of(const uint8_t *data, uint32_t size)
{
    uint32_t crc = CRC_INIT;

    while (size-- > 0) {
        crc = crc_byte(crc, *data++);
    }
    return (uint32_t)~crc;
}

static int same_bytes(const uint8_t *a, const uint8_t *b, uint32_t size)
{
    while (size-- > 0) {
        if (*a++ != *b++) {
            return 0;
        }
    }
    return 1;
}

/* Well-formed UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF) without NUL? */
static int is_name(const uint8_t *p, uint32_t size)
{
    while (size > 0) {
        uint8_t lead = *p++;
        uint8_t low = 0x80, high = 0xBF; /* what the second byte may be */
        uint8_t more;                    /* how many bytes follow the first */

        size--;
        if (lead < 0x80) {
            if (lead == 0) {
                return 0;
            }
            continue;
        }
        if (lead < 0xC2 || lead > 0xF4) {
            return 0;
        }
        more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
        if (lead == 0xE0) {
            low = 0xA0;
        } else if (lead == 0xED) {
            high = 0x9F;
        } else if (lead == 0xF0) {
            low = 0x90;
        } else if (lead == 0xF4) {
            high = 0x8F;
        }
        if (size < more) {
            return 0;
        }
        size -= more;
        while (more-- > 0) {
            if (*p < low || *p > high) {
                return 0;
            }
            p++;
            low = 0x80;
            high = 0xBF;
        }
    }
    return 1;
}

/* ---- directory ------------------------------------------------------------------------------------------------ */

/* Bytes being read. Nothing is ever read at or behind `end`: `failed` is set instead, and zeros come out. */
typedef struct {
    const uint8_t *p;
    const uint8_t *end;
    uint8_t failed;
} cursor;

static const uint8_t *take(cursor *c, uint32_t size)
{
    static const uint8_t zeros[4] = {0, 0, 0, 0};
    const uint8_t *p = c->p;

    if ((size_t)(c->end - p) < size) {
        c->failed = 1;
        return zeros;
    }
    c->p += size;
    return p;
}

/* LEB128, at most 32 bits, in its shortest form. */
static uint32_t take_varint(cursor *c)
{
    uint32_t value = 0;
    uint8_t shift, byte;

    for (shift = 0; shift < 35; shift = (uint8_t)(shift + 7)) {
        byte = *take(c, 1);
        if (shift == 28 && byte > 0x0F) {
            break;
        }
        value |= (uint32_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            if (shift > 0 && byte == 0) {
                break;
            }
            return value;
        }
    }
    c->failed = 1;
    return 0;
}

static int is_coded(uint8_t kind)
{
    return kind == CWB_ANS || kind == CWB_ADAPTIVE;
}

static int is_section(uint8_t kind)
{
    return kind >= CWB_GRAPH;
}

/* CWB_OK, or CWB_ERR_SHAPE: the product of the dimensions that are not 0 has a limit, and raw payloads their size. */
static cwb_error check_shape(const cwb_tensor *tensor)
{
    uint32_t product = 1;
    uint8_t axis, empty = 0, overflow = 0;
    uint8_t element;

    for (axis = 0; axis < tensor->rank; axis++) {
        uint32_t dim = tensor->dims[axis];

        if (dim == 0) {
            empty = 1;
        } else if (product > MAX_COUNT / dim) {
            overflow = 1;
        } else {
            product *= dim;
        }
    }
    if (overflow || (empty && is_coded(tensor->kind))) {
        return CWB_ERR_SHAPE;
    }
    if (tensor->kind == CWB_RAW) {
        element = tensor->type == CWB_FLOAT64 ? 8 : tensor->type == CWB_FLOAT32 ? 4 : 2;
        if (tensor->payload_size % element != 0 || tensor->payload_size / element != tensor->count) {
            return CWB_ERR_SHAPE;
        }
    }
    return CWB_OK;
}

/* Reads the fields of a coded tensor behind its dimensions. */
static cwb_error read_grid(cursor *c, cwb_tensor *tensor)
{
    uint32_t zigzag, more;
    int32_t lo;

    tensor->step_bits = load_u32(take(c, 4));
    zigzag = take_varint(c);
    more = take_varint(c); /* K - 1 */
    tensor->decoded_crc = load_u32(take(c, 4));
    if (c->failed) {
        return CWB_ERR_DIRECTORY;
    }
    /* step: positive and finite, so between the smallest and the largest such float in the order of their bits. */
    if (tensor->step_bits < 1 || tensor->step_bits > UINT32_C(0x7F7FFFFF) || more >= CWB_MAX_SYMBOLS ||
        zigzag > UINT32_C(0xFFFF)) {
        return CWB_ERR_GRID;
    }
    lo = (int32_t)(zigzag >> 1);
    if (zigzag & 1) {
        lo = -lo - 1;
    }
    if (lo + (int32_t)more > 32767) {
        return CWB_ERR_GRID;
    }
    tensor->lo = (int16_t)lo;
    tensor->symbols = (uint16_t)(more + 1);
    return CWB_OK;
}

/* Reads one record and checks its limits. Of a section only kind, size and CRC of the payload are set. */
static cwb_error read_record(cursor *c, cwb_tensor *tensor)
{
    static const uint8_t types[4] = {CWB_FLOAT32, CWB_FLOAT16, CWB_FLOAT64, CWB_BFLOAT16};
    uint8_t form, axis;
    cwb_error error;

    tensor->kind = *take(c, 1);
    if (c->failed) {
        return CWB_ERR_DIRECTORY;
    }
    if (tensor->kind > CWB_ADAPTIVE && (tensor->kind < CWB_GRAPH || tensor->kind > CWB_PACKED_NAMES)) {
        return CWB_ERR_VERSION;
    }
    tensor->payload_size = take_varint(c);
    tensor->payload_crc = load_u32(take(c, 4));
    if (c->failed || is_section(tensor->kind)) {
        return c->failed ? CWB_ERR_DIRECTORY : CWB_OK;
    }

    form = *take(c, 1);
    if (c->failed) {
        return CWB_ERR_DIRECTORY;
    }
    if (form >> 4 > 3 || (form >> 4 != 0 && tensor->kind != CWB_RAW)) {
        return CWB_ERR_ELEMENT_TYPE;
    }
    tensor->type = types[form >> 4];
    tensor->rank = form & 15;
    if (tensor->rank > CWB_MAX_RANK) {
        return CWB_ERR_SHAPE;
    }
    tensor->count = 1;
    for (axis = 0; axis < CWB_MAX_RANK; axis++) {
        tensor->dims[axis] = axis < tensor->rank ? take_varint(c) : 0;
        if (axis < tensor->rank) {
            tensor->count *= tensor->dims[axis]; /* check_shape looks after overflow */
        }
    }
    if (c->failed) {
        return CWB_ERR_DIRECTORY;
    }
    error = check_shape(tensor);
    if (error != CWB_OK) {
        return error;
    }
    tensor->step_bits = 0;
    tensor->lo = 0;
    tensor->symbols = 0;
    tensor->decoded_crc = tensor->payload_crc;
    return is_coded(tensor->kind) ? read_grid(c, tensor) : CWB_OK;
}

static cursor directory_of(const cwb_file *file)
{
    cursor c;

    c.p = file->data + HEADER_SIZE;
    c.end = c.p + file->directory;
    c.failed = 0;
    return c;
}

/* The name of tensor `index`, which exists, in a file whose names were checked; *length is 0 if it has none. */
static const uint8_t *name_at(const cwb_file *file, uint32_t index, uint32_t *length)
{
    cursor c;

    *length = 0;
    if (file->names == NULL) {
        return file->data;
    }
    c.p = file->names;
    c.end = file->data + file->size;
    c.failed = 0;
    for (;;) {
        const uint8_t *name;

        *length = take_varint(&c);
        name = take(&c, *length);
        if (index-- == 0) {
            return name;
        }
    }
}

/* Does one of the first `count` tensors bear the name of `length` bytes? If so *index tells which. */
static int find_name(const cwb_file *file, uint32_t count, const uint8_t *name, uint32_t length, uint32_t *index)
{
    cursor c;
    uint32_t i;

    if (file->names == NULL) {
        return 0;
    }
    c.p = file->names;
    c.end = file->data + file->size;
    c.failed = 0;
    for (i = 0; i < count; i++) {
        uint32_t other_length = take_varint(&c);
        const uint8_t *other = take(&c, other_length);

        if (other_length == length && same_bytes(other, name, length)) {
            *index = i;
            return 1;
        }
    }
    return 0;
}

/* Checks that `size` bytes of names are well-formed, different, and as many as there are tensors. */
static cwb_error check_names(const cwb_file *file, uint32_t size)
{
    cursor c;
    uint32_t i, unused;

    c.p = file->names;
    c.end = c.p + size;
    c.failed = 0;
    for (i = 0; i < file->tensors; i++) {
        uint32_t length = take_varint(&c);
        const uint8_t *name;

        if (length < 1 || length > MAX_NAME) {
            return CWB_ERR_NAME;
        }
        name = take(&c, length);
        if (c.failed || !is_name(name, length) || find_name(file, i, name, length, &unused)) {
            return CWB_ERR_NAME;
        }
    }
    return c.p == c.end ? CWB_OK : CWB_ERR_NAME;
}

static cwb_error check_directory(cwb_file *file)
{
    cursor c = directory_of(file);
    const uint8_t *payload = c.end;
    uint32_t payloads_left = file->size - HEADER_SIZE - file->directory;
    uint32_t i, names_size = 0;
    uint8_t seen = 0; /* a bit for each kind of section */

    file->tensors = 0;
    file->names = NULL;
    for (i = 0; i < file->records; i++) {
        cwb_tensor record;
        cwb_error error = read_record(&c, &record);

        if (error != CWB_OK) {
            return error;
        }
        if (is_section(record.kind)) {
            uint8_t bit = (uint8_t)(1 << (record.kind - CWB_GRAPH));

            if (seen & bit) {
                return CWB_ERR_DIRECTORY;
            }
            seen |= bit;
        } else {
            if (seen != 0) {
                return CWB_ERR_DIRECTORY;
            }
            file->tensors++;
        }
        if (record.payload_size > payloads_left) {
            return CWB_ERR_LAYOUT;
        }
        if (record.kind == CWB_NAMES) {
            if (crc_of(payload, record.payload_size) != record.payload_crc) {
                return CWB_ERR_PAYLOAD_CRC;
            }
            file->names = payload;
            names_size = record.payload_size;
        }
        payload += record.payload_size;
        payloads_left -= record.payload_size;
    }
    if (c.p != c.end || (seen & 12) == 12) { /* names both plain and packed */
        return CWB_ERR_DIRECTORY;
    }
    if (payloads_left != 0) {
        return CWB_ERR_LAYOUT;
    }
    return file->names == NULL ? CWB_OK : check_names(file, names_size);
}

cwb_error cwb_open(cwb_file *file, const void *data, size_t size)
{
    static const uint8_t magic[8] = {0x89, 0x43, 0x57, 0x42, 0x0D, 0x0A, 0x1A, 0x0A};
    const uint8_t *bytes = (const uint8_t *)data;

    if (file == NULL || (data == NULL && size > 0)) {
        return CWB_ERR_ARGUMENT;
    }
    if (!same_bytes(bytes, magic, size < sizeof magic ? (uint32_t)size : (uint32_t)sizeof magic)) {
        return CWB_ERR_MAGIC;
    }
    if (size < HEADER_SIZE) {
        return CWB_ERR_TRUNCATED;
    }
    if (crc_of(bytes, 28) != load_u32(bytes + 28)) {
        return CWB_ERR_HEADER_CRC;
    }
    if (load_u16(bytes + 8) != CWB_FORMAT_VERSION || load_u16(bytes + 10) != 0) {
        return CWB_ERR_VERSION;
    }
    file->data = bytes;
    file->records = load_u32(bytes + 12);
    file->directory = load_u32(bytes + 16);
    file->size = load_u32(bytes + 20);
    if (file->records > CWB_MAX_RECORDS) {
        return CWB_ERR_DIRECTORY;
    }
    if (size < file->size) {
        return CWB_ERR_TRUNCATED;
    }
    if (size > file->size) {
        return CWB_ERR_TRAILING;
    }
    if (file->directory > file->size - HEADER_SIZE) {
        return CWB_ERR_LAYOUT;
    }
    if (crc_of(bytes + HEADER_SIZE, file->directory) != load_u32(bytes + 24)) {
        return CWB_ERR_DIRECTORY_CRC;
    }
    return check_directory(file);
}

/* Reads record number `index`, which exists, and sets its payload. */
static void record_at(const cwb_file *file, uint32_t index, cwb_tensor *record)
{
    cursor c = directory_of(file);
    const uint8_t *payload = c.end;

    for (;;) {
        (void)read_record(&c, record);
        if (index-- == 0) {
            break;
        }
        payload += record->payload_size;
    }
    record->payload = payload;
}

cwb_error cwb_tensor_at(const cwb_file *file, uint32_t index, cwb_tensor *tensor)
{
    uint32_t length;

    if (file == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (index >= file->tensors) {
        return CWB_ERR_NOT_FOUND;
    }
    record_at(file, index, tensor);
    tensor->name = (const char *)name_at(file, index, &length);
    tensor->name_length = (uint16_t)length;
    return CWB_OK;
}

cwb_error cwb_find(const cwb_file *file, const char *name, size_t name_length, cwb_tensor *tensor)
{
    uint32_t index;

    if (file == NULL || name == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (name_length > MAX_NAME ||
        !find_name(file, file->tensors, (const uint8_t *)name, (uint32_t)name_length, &index)) {
        return CWB_ERR_NOT_FOUND;
    }
    return cwb_tensor_at(file, index, tensor);
}

cwb_error cwb_section(const cwb_file *file, cwb_kind kind, const uint8_t **data, uint32_t *size)
{
    uint32_t index;

    if (file == NULL || data == NULL || size == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    for (index = file->tensors; index < file->records; index++) {
        cwb_tensor record;

        record_at(file, index, &record);
        if (record.kind == (uint8_t)kind) {
            if (crc_of(record.payload, record.payload_size) != record.payload_crc) {
                return CWB_ERR_PAYLOAD_CRC;
            }
            *data = record.payload;
            *size = record.payload_size;
            return CWB_OK;
        }
    }
    return CWB_ERR_NOT_FOUND;
}

/* ---- symbols -------------------------------------------------------------------------------------------------- */

size_t cwb_scratch_size(const cwb_tensor *tensor)
{
    if (tensor == NULL || !is_coded(tensor->kind)) {
        return 0;
    }
    return tensor->kind == CWB_ANS ? CWB_SCRATCH_BYTES(tensor->symbols) : CWB_SCRATCH_ADAPTIVE;
}

/* ANS */

/* Turns the frequencies at the beginning of the payload into F_0 .. F_K; *used is how many bytes they take. */
static cwb_error read_table(const cwb_tensor *tensor, uint16_t *cumulative, uint32_t *used)
{
    const uint8_t *p = tensor->payload;
    uint32_t left = tensor->payload_size;
    uint16_t sum = 0, frequency = 0;
    uint16_t i;

    for (i = 0; i < tensor->symbols; i++) {
        if (left < 1) {
            return CWB_ERR_TABLE;
        }
        frequency = *p++;
        left--;
        if (frequency & 0x80) {
            if (left < 1 || *p == 0 || *p > 0x7F) {
                return CWB_ERR_TABLE;
            }
            frequency = (uint16_t)((frequency & 0x7F) | ((uint16_t)*p++ << 7));
            left--;
        }
        if (frequency > TABLE_SUM - sum || (i == 0 && frequency == 0)) {
            return CWB_ERR_TABLE;
        }
        cumulative[i] = sum;
        sum = (uint16_t)(sum + frequency);
    }
    cumulative[i] = sum;
    *used = tensor->payload_size - left;
    return sum == TABLE_SUM && frequency != 0 ? CWB_OK : CWB_ERR_TABLE;
}

/* L_i = floor(F_i (2^24 - K) / 4096) + i. Since F_i <= 4096 and K <= 4096, the same is 4096 F_i minus the quotient
 * F_i K / 4096 rounded up, plus i; and that needs no more than 32 bits. */
static uint32_t left_edge(const cwb_stream *stream, uint16_t i)
{
    uint32_t f = stream->scratch[i];

    return (f << TABLE_BITS) - ((f * stream->symbols + (TABLE_SUM - 1)) >> TABLE_BITS) + i;
}

static void refill_ans(cwb_stream *stream)
{
    stream->state = (stream->state << 32) | load_u32(stream->next);
    stream->next += 4;
    stream->left -= 4;
}

static int wants_word(const cwb_stream *stream)
{
    return stream->left > 0 && (stream->state >> 32) == 0;
}

static cwb_error begin_ans(const cwb_tensor *tensor, cwb_stream *stream)
{
    uint32_t table_size;
    cwb_error error = read_table(tensor, stream->scratch, &table_size);

    if (error != CWB_OK) {
        return error;
    }
    stream->next += table_size;
    stream->left -= table_size;
    if (stream->left % 4 != 0 || (stream->left > 0 && (tensor->symbols == 1 || load_u32(stream->next) == 0))) {
        return CWB_ERR_STREAM;
    }
    while (wants_word(stream)) {
        refill_ans(stream);
    }
    return CWB_OK;
}

static int16_t next_ans(cwb_stream *stream)
{
    uint32_t slot = (uint32_t)stream->state & ((UINT32_C(1) << PRECISION) - 1);
    uint16_t i = 0, above = stream->symbols; /* L_i <= slot < L_above */
    uint32_t left = 0, right = UINT32_C(1) << PRECISION;

    while (above - i > 1) {
        uint16_t middle = (uint16_t)((i + above) / 2);
        uint32_t edge = left_edge(stream, middle);

        if (slot < edge) {
            above = middle;
            right = edge;
        } else {
            i = middle;
            left = edge;
        }
    }
    stream->state = (stream->state >> PRECISION) * (right - left) + (slot - left);
    if (wants_word(stream)) {
        refill_ans(stream);
    }
    return (int16_t)((int32_t)stream->lo + i);
}

/* Adaptive binary range coder */

static void shift_in(cwb_stream *stream)
{
    uint8_t byte = 0; /* trailing zero bytes are left out of the payload */

    if (stream->left > 0) {
        byte = *stream->next++;
        stream->left--;
    }
    stream->state = (uint32_t)((uint32_t)stream->state << 8) | byte;
}

static cwb_error begin_adaptive(cwb_stream *stream)
{
    uint8_t *counts = (uint8_t *)(stream->scratch + PROBABILITIES);
    uint8_t header, i;

    if (stream->left < 1 || (stream->left > 1 && stream->next[stream->left - 1] == 0)) {
        return CWB_ERR_STREAM;
    }
    header = *stream->next++;
    stream->left--;
    stream->contexts = header >> 7;
    for (i = 0; i < PROBABILITIES; i++) {
        uint8_t bin = i % BINS;
        uint32_t zero = (2 * (uint32_t)(header >> 3 & 15) + 1) << 11;
        uint32_t more = (2 * (uint32_t)(header & 7) + 1) << 12;
        uint32_t less = (uint32_t)bin << 10;

        stream->scratch[i] = (uint16_t)(i >= SIGN ? 0x8000 : bin == 0 ? zero : more < less + 2048 ? 2048 : more - less);
        counts[i] = FIRST_COUNT;
    }
    stream->range = UINT32_C(0xFFFFFFFF);
    stream->previous = 0;
    stream->before = 0;
    stream->damaged = 0;
    for (i = 0; i < 4; i++) {
        shift_in(stream);
    }
    return CWB_OK;
}

/* Splits the range: 1 if the code lies in the lower part, of width `bound`. */
static int take_bit(cwb_stream *stream, uint32_t bound)
{
    int bit = (uint32_t)stream->state < bound;

    if (bit) {
        stream->range = bound;
    } else {
        stream->state = (uint32_t)stream->state - bound;
        stream->range -= bound;
    }
    while (stream->range < UINT32_C(0x1000000)) {
        stream->range <<= 8;
        shift_in(stream);
    }
    return bit;
}

/* A bit whose probability of being 1, in units of 2^-16, adapts: by 1/8 at first, ever slower, down to 1/128. */
static int adaptive_bit(cwb_stream *stream, uint8_t index)
{
    uint16_t *p = stream->scratch + index;
    uint8_t *count = (uint8_t *)(stream->scratch + PROBABILITIES) + index;
    uint8_t rate = *count < 10 ? 3 : *count < 22 ? 4 : *count < 44 ? 5 : *count < 89 ? 6 : 7;
    int bit = take_bit(stream, (stream->range >> 12) * (uint32_t)(*p >> 4));

    *p = (uint16_t)(bit ? *p + ((UINT32_C(0x10000) - *p) >> rate) : *p - (uint32_t)(*p >> rate));
    if (*count < 89) {
        ++*count;
    }
    return bit;
}

/* The excess over BINS: an Exp-Golomb code whose unary part adapts and whose other bits are equiprobable. */
static uint32_t escape(cwb_stream *stream)
{
    uint32_t value = 1;
    uint8_t bits = 0;

    while (bits < MAX_ESCAPE_BITS && adaptive_bit(stream, (uint8_t)(ESCAPE + bits))) {
        bits++;
    }
    while (bits-- > 0) {
        value = value << 1 | (uint32_t)take_bit(stream, stream->range >> 1);
    }
    return value - 1;
}

static int16_t next_adaptive(cwb_stream *stream)
{
    uint32_t nearby = 2 * (uint32_t)stream->previous + stream->before;
    uint8_t first = 0; /* bin of this context */
    uint32_t magnitude = 0;
    int32_t symbol;

    if (stream->contexts) {
        first = (uint8_t)(nearby == 0 ? 0 : nearby <= 3 ? BINS : nearby <= 8 ? 2 * BINS : 3 * BINS);
    }
    while (magnitude < BINS && adaptive_bit(stream, (uint8_t)(first + magnitude))) {
        magnitude++;
    }
    if (magnitude == BINS) {
        magnitude += escape(stream);
    }
    symbol = (int32_t)magnitude;
    if (magnitude > 0 && !adaptive_bit(stream, SIGN)) {
        symbol = -symbol;
    }
    if (symbol < stream->lo || symbol > (int32_t)stream->lo + stream->symbols - 1) {
        stream->damaged = 1;
        symbol = stream->lo;
    }
    stream->before = stream->previous;
    stream->previous = (uint16_t)(symbol < 0 ? -symbol : symbol);
    return (int16_t)symbol;
}

/* Either coder */

cwb_error cwb_begin(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, cwb_stream *stream)
{
    if (tensor == NULL || stream == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (!is_coded(tensor->kind)) {
        return CWB_ERR_KIND;
    }
    if (scratch == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (scratch_bytes < cwb_scratch_size(tensor)) {
        return CWB_ERR_SPACE;
    }
    stream->state = 0;
    stream->next = tensor->payload;
    stream->left = tensor->payload_size;
    stream->scratch = scratch;
    stream->symbols_left = tensor->count;
    stream->symbols = tensor->symbols;
    stream->lo = tensor->lo;
    stream->kind = tensor->kind;
    return tensor->kind == CWB_ANS ? begin_ans(tensor, stream) : begin_adaptive(stream);
}

static int16_t next_symbol(cwb_stream *stream)
{
    stream->symbols_left--;
    return stream->kind == CWB_ANS ? next_ans(stream) : next_adaptive(stream);
}

cwb_error cwb_read_i16(cwb_stream *stream, int16_t *out, size_t count)
{
    if (stream == NULL || (out == NULL && count > 0) || count > stream->symbols_left) {
        return CWB_ERR_ARGUMENT;
    }
    while (count-- > 0) {
        *out++ = next_symbol(stream);
    }
    return CWB_OK;
}

cwb_error cwb_end(const cwb_stream *stream)
{
    int complete;

    if (stream == NULL || stream->symbols_left > 0) {
        return CWB_ERR_ARGUMENT;
    }
    complete = stream->kind == CWB_ANS ? stream->state == 0 : !stream->damaged;
    return complete && stream->left == 0 ? CWB_OK : CWB_ERR_STREAM;
}

/* ---- whole tensors -------------------------------------------------------------------------------------------- */

#ifndef CWB_NO_FLOAT

typedef char cwb_float_must_have_32_bits[sizeof(float) == 4 ? 1 : -1];

typedef union {
    uint32_t bits;
    float value;
} float_bits;

float cwb_step(const cwb_tensor *tensor)
{
    float_bits step;

    step.bits = tensor->step_bits;
    return step.value;
}

#endif

typedef enum { NOWHERE, TO_I8, TO_I16, TO_F32 } target;

/* Decodes a coded tensor to `out`, which has room for all of it, and checks whatever can be checked. */
static cwb_error decode(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, void *out, target to)
{
    cwb_stream stream;
    uint32_t i;
    cwb_error error;
#ifndef CWB_NO_FLOAT
    float step = cwb_step(tensor);
    uint32_t crc = CRC_INIT;
#endif

    if (scratch_bytes < cwb_scratch_size(tensor)) {
        return CWB_ERR_SPACE;
    }
    if (crc_of(tensor->payload, tensor->payload_size) != tensor->payload_crc) {
        return CWB_ERR_PAYLOAD_CRC;
    }
    error = cwb_begin(tensor, scratch, scratch_bytes, &stream);
    if (error != CWB_OK) {
        return error;
    }
    for (i = 0; i < tensor->count; i++) {
        int16_t symbol = next_symbol(&stream);
#ifndef CWB_NO_FLOAT
        float_bits element;

        element.value = step * (float)symbol;
        crc = crc_byte(crc, (uint8_t)(element.bits & 0xFF));
        crc = crc_byte(crc, (uint8_t)((element.bits >> 8) & 0xFF));
        crc = crc_byte(crc, (uint8_t)((element.bits >> 16) & 0xFF));
        crc = crc_byte(crc, (uint8_t)(element.bits >> 24));
        if (to == TO_F32) {
            ((float *)out)[i] = element.value;
        }
#endif
        if (to == TO_I16) {
            ((int16_t *)out)[i] = symbol;
        } else if (to == TO_I8) {
            ((int8_t *)out)[i] = (int8_t)symbol;
        }
    }
    error = cwb_end(&stream);
#ifndef CWB_NO_FLOAT
    if (error == CWB_OK && (uint32_t)~crc != tensor->decoded_crc) {
        error = CWB_ERR_DECODED_CRC;
    }
#endif
    return error;
}

static cwb_error decode_to(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, void *out,
                           size_t capacity, target to)
{
    if (tensor == NULL || out == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (!is_coded(tensor->kind)) {
        return CWB_ERR_KIND;
    }
    if (to == TO_I8 && (tensor->lo < -128 || (int32_t)tensor->lo + tensor->symbols - 1 > 127)) {
        return CWB_ERR_RANGE;
    }
    if (capacity < tensor->count) {
        return CWB_ERR_SPACE;
    }
    return decode(tensor, scratch, scratch_bytes, out, to);
}

cwb_error cwb_check(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes)
{
    if (tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (!is_coded(tensor->kind)) {
        return crc_of(tensor->payload, tensor->payload_size) == tensor->payload_crc ? CWB_OK : CWB_ERR_PAYLOAD_CRC;
    }
    return decode(tensor, scratch, scratch_bytes, NULL, NOWHERE);
}

cwb_error cwb_decode_i16(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, int16_t *out,
                         size_t capacity)
{
    return decode_to(tensor, scratch, scratch_bytes, out, capacity, TO_I16);
}

cwb_error cwb_decode_i8(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, int8_t *out,
                        size_t capacity)
{
    return decode_to(tensor, scratch, scratch_bytes, out, capacity, TO_I8);
}

#ifndef CWB_NO_FLOAT
cwb_error cwb_decode_f32(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, float *out,
                         size_t capacity)
{
    return decode_to(tensor, scratch, scratch_bytes, out, capacity, TO_F32);
}
#endif

const char *cwb_strerror(cwb_error error)
{
    switch (error) {
    case CWB_OK:
        return "no error";
    case CWB_ERR_MAGIC:
        return "not a .cwb file";
    case CWB_ERR_VERSION:
        return "written in a newer version of the format";
    case CWB_ERR_TRUNCATED:
        return "the file is shorter than its header says";
    case CWB_ERR_TRAILING:
        return "the file is longer than its header says";
    case CWB_ERR_HEADER_CRC:
        return "the header is damaged (CRC)";
    case CWB_ERR_DIRECTORY_CRC:
        return "the directory is damaged (CRC)";
    case CWB_ERR_DIRECTORY:
        return "the directory's records do not fit or are out of order";
    case CWB_ERR_LAYOUT:
        return "directory and payloads do not fill the file";
    case CWB_ERR_ELEMENT_TYPE:
        return "element type not allowed";
    case CWB_ERR_SHAPE:
        return "rank, dimensions or size of a tensor not allowed";
    case CWB_ERR_NAME:
        return "name of a tensor not allowed or not unique";
    case CWB_ERR_GRID:
        return "step or symbol range of a tensor not allowed";
    case CWB_ERR_PAYLOAD_CRC:
        return "the payload is damaged (CRC)";
    case CWB_ERR_TABLE:
        return "the frequency table is invalid";
    case CWB_ERR_STREAM:
        return "the coded stream is damaged";
    case CWB_ERR_DECODED_CRC:
        return "the decoded values are wrong (CRC)";
    case CWB_ERR_RANGE:
        return "symbols do not fit int8";
    case CWB_ERR_SPACE:
        return "scratch or output memory too small";
    case CWB_ERR_ARGUMENT:
        return "invalid argument";
    case CWB_ERR_NOT_FOUND:
        return "no such tensor or section";
    case CWB_ERR_KIND:
        return "a raw tensor has no symbols";
    }
    return "unknown error";
}
