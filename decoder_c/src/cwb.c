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
#if defined CWB_NO_ANS && defined CWB_NO_ADAPTIVE
#error "one of the two coders must stay"
#endif

/* What was left out is never reached, and compilers drop it. */
#ifdef CWB_NO_ANS
#define HAS_ANS 0
#else
#define HAS_ANS 1
#endif
#ifdef CWB_NO_ADAPTIVE
#define HAS_ADAPTIVE 0
#else
#define HAS_ADAPTIVE 1
#endif
#ifdef CWB_NO_TRELLIS
#define HAS_TRELLIS 0
#else
#define HAS_TRELLIS 1
#endif

enum {
    HEADER_SIZE = 32,
    MAX_NAME = 1024,
    TILE = 32, /* symbols decoded at a time where they do not go straight to the caller */
    /* ANS */
    SLOTS = 4096,
    HINTS = CWB_ANS_HINTS,
    OCTAVES = 12, /* that the levels of a table span */
    /* adaptive */
    BINS = 12, /* magnitudes below this are coded in unary, the rest escapes */
    CONTEXTS = 4,
    MAX_ESCAPE_BITS = 15,
    FIRST_RATE = 4,
    /* a trellis */
    TRELLIS = 4,   /* in the variant of a coded tensor, besides its order */
    ODD_INDEX = 5, /* added to the state after an odd index */
    ODD_GRID = 9,  /* added to the state after an element on the odd grid */
    STATE_BITS = 5, /* of `past`, one of them spare; the rest is the sum of the last magnitudes */
    FAR = 2        /* the weighted sum of the last magnitudes from which on an adaptive tensor uses the second context */
};

/* COLD keeps what is rarely called out of the loops that call it; INLINE makes one loop of each of its callers; AFRESH
 * makes no code, but what follows is computed then, not ahead and kept where registers are few. */
#ifdef __GNUC__
#define COLD __attribute__((noinline))
#define INLINE inline __attribute__((always_inline))
#define UNLIKELY(condition) __builtin_expect(condition, 0)
#else
#define COLD
#define INLINE inline
#define UNLIKELY(condition) (condition)
#endif
#if defined __GNUC__ && INT_MAX > 0x7FFF
#define AFRESH(variable) __asm__("" : "+r"(variable))
#else
#define AFRESH(variable) ((void)(variable))
#endif

#define MAX_COUNT UINT32_C(0x7FFFFFFF)
#define FOREVER UINT32_C(0xFFFFFFFF) /* more symbols than there can be */

/* ---- bytes ---------------------------------------------------------------------------------------------------- */

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | ((uint32_t)p[1] << 8));
}

static uint32_t load_u32(const uint8_t *p)
{
    return load_u16(p) | ((uint32_t)load_u16(p + 2) << 16);
}

/* Long division: the compiler's own takes ten times the room where there is no instruction for it. divisor > 0. */
COLD static uint32_t divide(uint32_t number, uint32_t divisor)
{
    uint32_t quotient = 0;
    uint8_t shift = 32;

    while (shift-- > 0) {
        if (number >> shift >= divisor) {
            number -= divisor << shift;
            quotient |= UINT32_C(1) << shift;
        }
    }
    return quotient;
}

/* CRC-32 of ISO-HDLC of what had the CRC `crc` (0: nothing) and `size` more bytes. */
#ifdef CWB_CRC32
uint32_t CWB_CRC32(uint32_t crc, const uint8_t *data, size_t size);
#elif !defined CWB_NO_CRC
#define CWB_CRC32 crc_of
COLD static uint32_t crc_of(uint32_t crc, const uint8_t *data, size_t size)
{
    static const uint32_t table[16] = { /* four bits at a time */
        UINT32_C(0x00000000), UINT32_C(0x1DB71064), UINT32_C(0x3B6E20C8), UINT32_C(0x26D930AC),
        UINT32_C(0x76DC4190), UINT32_C(0x6B6B51F4), UINT32_C(0x4DB26158), UINT32_C(0x5005713C),
        UINT32_C(0xEDB88320), UINT32_C(0xF00F9344), UINT32_C(0xD6D6A3E8), UINT32_C(0xCB61B38C),
        UINT32_C(0x9B64C2B0), UINT32_C(0x86D3D2D4), UINT32_C(0xA00AE278), UINT32_C(0xBDBDF21C)};

    crc = ~crc;
    while (size-- > 0) {
        crc ^= *data++;
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}
#endif

/* Do `size` bytes have this CRC? Without CRCs the answer is yes. */
static int has_crc(const uint8_t *data, uint32_t size, uint32_t crc)
{
#ifdef CWB_NO_CRC
    (void)data;
    (void)size;
    (void)crc;
    return 1;
#else
    return CWB_CRC32(0, data, (size_t)size) == crc;
#endif
}

static cwb_error check_payload(const cwb_tensor *record)
{
    return has_crc(record->payload, record->payload_size, record->payload_crc) ? CWB_OK : CWB_ERR_PAYLOAD_CRC;
}

/* ---- directory ------------------------------------------------------------------------------------------------ */

/* Bytes being read. Nothing is ever read at or behind `end`: `failed` is set instead, and zeros come out. */
typedef struct {
    const uint8_t *p;
    const uint8_t *end;
    uint8_t failed;
} cursor;

COLD static const uint8_t *take(cursor *c, uint32_t size)
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

COLD static uint32_t take_u32(cursor *c)
{
    return load_u32(take(c, 4));
}

/* LEB128, at most 32 bits, in its shortest form. */
COLD static uint32_t take_varint(cursor *c)
{
    uint32_t value = 0;
    uint8_t shift = 0, byte;

    do {
        byte = *take(c, 1);
        if ((shift == 28 && byte > 0x0F) || (shift > 0 && byte == 0)) {
            c->failed = 1;
            return 0;
        }
        value |= (uint32_t)(byte & 0x7F) << shift;
        shift = (uint8_t)(shift + 7);
    } while (byte >= 0x80);
    return value;
}

static int is_section(uint8_t kind)
{
    return kind >= CWB_GRAPH;
}

/* Is it neither defined nor one that may be skipped? */
static int is_unknown(uint8_t kind)
{
    return (kind > CWB_ADAPTIVE && kind < CWB_GRAPH) || (kind > CWB_PACKED_NAMES && kind < CWB_MARGINS) || kind == 255;
}

/* Reads the dimensions and sets the number of elements. Their number and the product of those that are not 0 have limits;
 * are they kept? */
static int read_shape(cursor *c, cwb_tensor *tensor)
{
    uint32_t product = 1;
    uint8_t axis, empty = 0;

    if (tensor->rank > CWB_MAX_RANK) {
        return 0;
    }
    tensor->shape = c->p;
    for (axis = 0; axis < tensor->rank; axis++) {
        uint32_t dim = take_varint(c);

        if (dim == 0) {
            empty = 1;
        } else if (dim > divide(MAX_COUNT, product)) {
            return 0;
        } else {
            product *= dim;
        }
    }
    tensor->count = empty ? 0 : product;
    return 1;
}

/* Reads the fields of a coded tensor behind its dimensions. Are they within their limits? */
static int read_grid(cursor *c, cwb_tensor *tensor, uint8_t trellis)
{
    uint32_t lo, more, bound = UINT32_C(32768) >> trellis;

    tensor->step_bits = take_u32(c);
    lo = take_varint(c);
    lo = lo >> 1 ^ (0 - (lo & 1));
    more = take_varint(c); /* K - 1 */
    tensor->lo = (int16_t)lo;
    tensor->symbols = (uint16_t)(more + 1);
    if (trellis) {
        tensor->run = take_varint(c);
        if (tensor->run == 0 || divide(tensor->count, tensor->run) * tensor->run != tensor->count) {
            return 0;
        }
    }
    tensor->decoded_crc = take_u32(c);
    /* more: the most is an eighth of the bound. Step: positive and finite, so between the smallest and the largest such float in
     * the order of their bits. */
    if (tensor->step_bits - 1 >= UINT32_C(0x7F7FFFFF) || more >= bound / 8) {
        return 0;
    }
    return lo + bound < 2 * bound - more;
}

/* Reads the fields of a tensor behind its payload's CRC. */
static cwb_error read_tensor(cursor *c, cwb_tensor *tensor)
{
    static const uint8_t least_rank[4] = {0, 3, 2, 3};
    static const uint8_t types[4] = {CWB_FLOAT32, CWB_FLOAT16, CWB_FLOAT64, CWB_BFLOAT16};
    static const uint8_t items[4] = {2, 1, 3, 1}; /* log2 of the bytes of an element */
    uint8_t form = *take(c, 1), variant = form >> 4 & 3, item;

    tensor->step_bits = 0;
    tensor->run = 0;
    tensor->lo = 0;
    tensor->symbols = 0;
    tensor->decoded_crc = tensor->payload_crc;
    tensor->rank = form & 15;
    tensor->order = 0;
    tensor->type = CWB_FLOAT32;
    if (tensor->kind != CWB_RAW) {
        if (form >= 0x20 * TRELLIS) {
            return CWB_ERR_ELEMENT_TYPE;
        }
        tensor->order = variant;
        if (tensor->rank < least_rank[variant] || !read_shape(c, tensor) || tensor->count == 0) {
            return CWB_ERR_SHAPE;
        }
        return read_grid(c, tensor, form >> 6) ? CWB_OK : CWB_ERR_GRID;
    }
    if (form >= 0x40) {
        return CWB_ERR_ELEMENT_TYPE;
    }
    tensor->type = types[variant];
    item = items[variant];
    if (!read_shape(c, tensor) || tensor->payload_size != tensor->count << item || tensor->count >> (32 - item) != 0) {
        return CWB_ERR_SHAPE;
    }
    return CWB_OK;
}

/* Reads the record whose payload begins at tensor->payload + tensor->payload_size, and checks its limits. Of a section only
 * kind, payload, and its size and CRC are set. */
COLD static cwb_error read_record(cursor *c, cwb_tensor *tensor)
{
    cwb_error error = CWB_OK;

    tensor->payload += tensor->payload_size;
    tensor->kind = *take(c, 1);
    if (is_unknown(tensor->kind)) {
        return CWB_ERR_VERSION;
    }
    tensor->payload_size = take_varint(c);
    tensor->payload_crc = take_u32(c);
    if (!is_section(tensor->kind)) {
        error = read_tensor(c, tensor);
    }
    return c->failed ? CWB_ERR_DIRECTORY : error;
}

/* Begins to read records. */
static cursor directory_of(const cwb_file *file, cwb_tensor *record)
{
    cursor c;

    c.p = file->data + HEADER_SIZE;
    c.end = c.p + file->directory;
    c.failed = 0;
    record->payload = c.end;
    record->payload_size = 0;
    return c;
}

#ifndef CWB_NO_NAMES
static cursor names_of(const cwb_file *file)
{
    cursor c;

    c.p = file->names;
    c.end = c.p + file->names_size;
    c.failed = 0;
    return c;
}

/* Are the names as many as the tensors, of lengths allowed, and do they fill their section? */
static int check_names(const cwb_file *file)
{
    cursor c = names_of(file);
    uint32_t left;

    for (left = file->tensors; left > 0; left--) {
        uint32_t length = take_varint(&c);

        if (length - 1 >= MAX_NAME) { /* a failure reads as 0 */
            return 0;
        }
        (void)take(&c, length);
    }
    return !c.failed && c.p == c.end;
}
#endif

static cwb_error check_directory(cwb_file *file)
{
    cwb_tensor record;
    cursor c = directory_of(file, &record);
    uint32_t left, tensors = 0;
    uint8_t kind, last = 0; /* of a section; 0 for a tensor */

#ifndef CWB_NO_NAMES
    file->names = NULL;
#endif
    for (left = file->records; left > 0; left--) {
        cwb_error error = read_record(&c, &record);

        if (error != CWB_OK) {
            return error;
        }
        kind = is_section(record.kind) ? record.kind : 0;
        if ((last != 0 && kind <= last) || (kind == CWB_PACKED_NAMES && last == CWB_NAMES)) {
            return CWB_ERR_DIRECTORY;
        }
        last = kind;
        tensors += kind == 0;
        if (record.payload_size > (size_t)(file->data + file->size - record.payload)) {
            return CWB_ERR_LAYOUT;
        }
#ifndef CWB_NO_NAMES
        if (record.kind == CWB_NAMES) {
            file->names = record.payload;
            file->names_size = record.payload_size;
            if (check_payload(&record) != CWB_OK) {
                return CWB_ERR_PAYLOAD_CRC;
            }
        }
#endif
    }
    file->tensors = tensors;
    if (c.p != c.end) {
        return CWB_ERR_DIRECTORY;
    }
    if (record.payload + record.payload_size != file->data + file->size) {
        return CWB_ERR_LAYOUT;
    }
#ifndef CWB_NO_NAMES
    if (file->names != NULL && !check_names(file)) {
        return CWB_ERR_NAME;
    }
#endif
    return CWB_OK;
}

cwb_error cwb_open(cwb_file *file, const void *data, size_t size)
{
    static const uint8_t magic[8] = {0x89, 0x43, 0x57, 0x42, 0x0D, 0x0A, 0x1A, 0x0A};
    const uint8_t *bytes = (const uint8_t *)data;
    uint32_t fields[6]; /* of the header, behind the magic */
    uint8_t i;

    if (file == NULL || (data == NULL && size > 0)) {
        return CWB_ERR_ARGUMENT;
    }
    for (i = 0; i < HEADER_SIZE; i++) {
        if (i >= size) {
            return CWB_ERR_TRUNCATED;
        }
        if (i < sizeof magic && bytes[i] != magic[i]) {
            return CWB_ERR_MAGIC;
        }
    }
    for (i = 0; i < 6; i++) {
        fields[i] = load_u32(bytes + 8 + 4 * i);
    }
    if (!has_crc(bytes, 28, fields[5])) {
        return CWB_ERR_HEADER_CRC;
    }
    if (fields[0] != CWB_FORMAT_VERSION) { /* and the flags behind it are 0 */
        return CWB_ERR_VERSION;
    }
    file->data = bytes;
    file->records = fields[1];
    file->directory = fields[2];
    file->size = fields[3];
    if (file->records > CWB_MAX_RECORDS) {
        return CWB_ERR_DIRECTORY;
    }
    if (size != file->size) {
        return size < file->size ? CWB_ERR_TRUNCATED : CWB_ERR_TRAILING;
    }
    if (file->directory > file->size - HEADER_SIZE) {
        return CWB_ERR_LAYOUT;
    }
    if (!has_crc(bytes + HEADER_SIZE, file->directory, fields[4])) {
        return CWB_ERR_DIRECTORY_CRC;
    }
    return check_directory(file);
}

/* Reads record number `index`, which exists, and sets its payload. */
static void record_at(const cwb_file *file, uint32_t index, cwb_tensor *record)
{
    cursor c = directory_of(file, record);

    do {
        (void)read_record(&c, record);
    } while (index-- > 0);
}

cwb_error cwb_tensor_at(const cwb_file *file, uint32_t index, cwb_tensor *tensor)
{
    if (file == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (index >= file->tensors) {
        return CWB_ERR_NOT_FOUND;
    }
    record_at(file, index, tensor);
#ifndef CWB_NO_NAMES
    tensor->name = (const char *)file->data;
    tensor->name_length = 0;
    if (file->names != NULL) {
        cursor c = names_of(file);

        do {
            tensor->name_length = (uint16_t)take_varint(&c);
            tensor->name = (const char *)take(&c, tensor->name_length);
        } while (index-- > 0);
    }
#endif
    return CWB_OK;
}

void cwb_shape(const cwb_tensor *tensor, uint32_t dims[CWB_MAX_RANK])
{
    cursor c;
    uint8_t axis;

    c.p = tensor->shape;
    c.end = tensor->payload; /* somewhere behind them: opening the file has checked that they are there */
    c.failed = 0;
    for (axis = 0; axis < CWB_MAX_RANK; axis++) {
        dims[axis] = axis < tensor->rank ? take_varint(&c) : 0;
    }
}

#ifndef CWB_NO_NAMES
cwb_error cwb_find(const cwb_file *file, const char *name, size_t name_length, cwb_tensor *tensor)
{
    cursor c;
    uint32_t index;

    if (file == NULL || name == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (file->names == NULL) {
        return CWB_ERR_NOT_FOUND;
    }
    c = names_of(file);
    for (index = 0; index < file->tensors; index++) {
        uint32_t length = take_varint(&c), i = 0;
        const uint8_t *other = take(&c, length);

        while (i < length && length == name_length && other[i] == (uint8_t)name[i]) {
            i++;
        }
        if (i == length) { /* which is not 0 */
            return cwb_tensor_at(file, index, tensor);
        }
    }
    return CWB_ERR_NOT_FOUND;
}
#endif

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
            *data = record.payload;
            *size = record.payload_size;
            return check_payload(&record);
        }
    }
    return CWB_ERR_NOT_FOUND;
}

cwb_error cwb_margin(const cwb_file *file, uint32_t index, uint32_t *margin)
{
    const uint8_t *data;
    uint32_t size, i;
    uint8_t found = 0, fits = 1;
    cursor c, records;
    cwb_tensor tensor;
    cwb_error error;

    if (margin == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = cwb_section(file, CWB_MARGINS, &data, &size);
    if (error != CWB_OK) {
        return error;
    }
    c.p = data;
    c.end = data + size;
    c.failed = 0;
    records = directory_of(file, &tensor);
    for (i = 0; i < file->tensors; i++) {
        (void)read_record(&records, &tensor);
        if (tensor.kind != CWB_RAW) {
            uint32_t value = take_varint(&c);

            if (i == index) { /* the buffer must have room for the payload, and need not have more beyond the symbols */
                *margin = value;
                found = 1;
                /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): cwb_open has read this record */
                fits = value <= tensor.payload_size && tensor.payload_size - value <= tensor.count;
            }
        }
    }
    return c.failed || c.p != c.end || !fits ? CWB_ERR_LAYOUT : found ? CWB_OK : CWB_ERR_NOT_FOUND;
}

/* ---- symbols -------------------------------------------------------------------------------------------------- */

static int can_decode(const cwb_tensor *tensor)
{
    return ((HAS_ANS && tensor->kind == CWB_ANS) || (HAS_ADAPTIVE && tensor->kind == CWB_ADAPTIVE)) &&
           (HAS_TRELLIS || tensor->run == 0);
}

size_t cwb_scratch_size(const cwb_tensor *tensor)
{
    if (tensor == NULL || !can_decode(tensor)) {
        return 0;
    }
    if (HAS_ADAPTIVE && tensor->kind == CWB_ADAPTIVE) {
        return CWB_SCRATCH_ADAPTIVE;
    }
    return HAS_TRELLIS && tensor->run > 0 ? CWB_SCRATCH_TRELLIS(tensor->symbols) : CWB_SCRATCH_BYTES(tensor->symbols);
}

/* Is the stream on a trellis? */
static int on_trellis(const cwb_stream *stream)
{
    return HAS_TRELLIS && stream->run > 0;
}

/* ANS: scratch memory holds the slot edges F_0 .. F_K, and before them, for each of HINTS equal parts of the slots, where
 * the symbol that owns its first one begins: the place of that edge in scratch memory. On a trellis: the hints of both
 * tables, the edges of both, as many values of the symbols to their right, and as many terms for the state. */

/* Bits of the table, lowest first. */
typedef struct {
    cursor c;
    uint8_t byte;
    uint8_t left; /* bits of it not taken yet */
} bit_cursor;

static uint8_t take_bits(bit_cursor *bits, uint8_t count)
{
    uint8_t i, value = 0;

    for (i = 0; i < count; i++) {
        if (bits->left == 0) {
            bits->byte = *take(&bits->c, 1);
            bits->left = 8;
        }
        value = (uint8_t)(value | (bits->byte & 1) << i);
        bits->byte >>= 1;
        bits->left--;
    }
    return value;
}

/* Reads a level for each symbol, 0 if it does not occur; returns their number per octave as a power of 2. */
static uint8_t read_levels(bit_cursor *bits, int16_t lo, uint16_t symbols, uint16_t *levels)
{
    uint8_t resolution = take_bits(bits, 2), rice = take_bits(bits, 2);
    int16_t last = 1, most = (int16_t)(OCTAVES << resolution);
    uint16_t i;

    for (i = 0; i < symbols && !bits->c.failed; i++) {
        int32_t symbol = (int32_t)lo + i;
        uint16_t value = 0;
        int16_t half;

        if (symbol > 0 && -symbol >= lo) {
            last = (int16_t)levels[-symbol - lo];
        } else if (last != 0) {
            last = (int16_t)(symbol <= 0 ? last + 1 : last - 1);
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
        levels[i] = (uint16_t)last;
    }
    if (resolution > 2 || levels[0] == 0 || last == 0 || bits->byte != 0) {
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

/* Turns levels into slot edges. */
static void read_frequencies(uint16_t *edges, uint16_t symbols, uint8_t resolution)
{
    uint32_t total = 0, spare = SLOTS;
    uint16_t i, largest = 0, sum = 0;

    for (i = 0; i < symbols; i++) {
        total += weight_of(edges[i], resolution);
        spare -= edges[i] != 0;
    }
    for (i = 0; i < symbols; i++) {
        if (edges[i] != 0) {
            edges[i] = (uint16_t)(1 + divide(weight_of(edges[i], resolution) * spare, total));
        }
        if (edges[i] > edges[largest]) {
            largest = i;
        }
        sum = (uint16_t)(sum + edges[i]);
    }
    edges[largest] = (uint16_t)(edges[largest] + SLOTS - sum);
    for (i = 0, sum = 0; i < symbols; i++) {
        uint16_t frequency = edges[i];

        edges[i] = sum;
        sum = (uint16_t)(sum + frequency);
    }
    edges[i] = sum;
}

/* Reads a table to scratch memory: its hints and edges, at places given. 0 if it is invalid. */
static int read_table(cwb_stream *stream, uint16_t hint, uint16_t edge)
{
    uint16_t *edges = stream->scratch + edge;
    uint16_t slot;
    uint8_t resolution = 0;

    edges[0] = 1; /* the only level of a single symbol */
    if (stream->symbols > 1) {
        bit_cursor bits;

        bits.c.p = stream->next;
        bits.c.end = stream->end;
        bits.c.failed = 0;
        bits.byte = 0;
        bits.left = 0;
        resolution = read_levels(&bits, stream->lo, stream->symbols, edges);
        if (bits.c.failed) {
            return 0;
        }
        stream->next = bits.c.p;
    }
    read_frequencies(edges, stream->symbols, resolution);
    for (slot = 0; slot < SLOTS; slot = (uint16_t)(slot + SLOTS / HINTS)) {
        while (stream->scratch[edge + 1] <= slot) {
            edge++;
        }
        stream->scratch[hint++] = edge;
    }
    return 1;
}

static cwb_error begin_ans(cwb_stream *stream)
{
    uint16_t span = (uint16_t)(stream->symbols + 1), i;
    uint8_t tables = on_trellis(stream) ? 2 : 1, grid;

    for (grid = 0; grid < tables; grid++) {
        uint16_t edge = (uint16_t)(HINTS * tables + span * grid);

        if (!read_table(stream, (uint16_t)(HINTS * grid), edge)) {
            return CWB_ERR_TABLE;
        }
        for (i = 0; tables > 1 && i < stream->symbols; i++) {
            int32_t index = stream->lo + (int32_t)i;
            uint16_t *value = stream->scratch + edge + 2 * span + i;

            value[0] = (uint16_t)(2 * index - (grid & (index > 0)) + (grid & (index < 0)));
            value[2 * span] = (uint16_t)((index & 1) * ODD_INDEX ^ grid * ODD_GRID);
        }
    }
    stream->state = 0;
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

static INLINE void read_ans(cwb_stream *stream, int16_t *out, size_t count, int trellis)
{
    const uint16_t *scratch = stream->scratch;
    const uint8_t *next = stream->next;
    const uint8_t *end = stream->end;
    uint32_t state = stream->state, lo = (uint32_t)(stream->lo - HINTS); /* less the first edge's place */
    uint32_t past = stream->past, span = 2 * ((uint32_t)stream->symbols + 1);

    do {
        uint32_t slot = state % SLOTS;
        const uint16_t *edge = scratch + scratch[(trellis ? (past & 1) * HINTS : 0) + slot / (SLOTS / HINTS)];

        while (edge[1] <= slot) {
            edge++;
        }
        state = (state / SLOTS) * (uint32_t)(edge[1] - edge[0]) + (slot - edge[0]);
        if (UNLIKELY(state <= 0xFFFF) && next != end) {
            state = state << 16 | load_u16(next);
            next += 2;
        }
        if (trellis) {
            *out++ = (int16_t)edge[span];
            past = past >> 1 ^ edge[2 * span];
        } else {
            *out++ = (int16_t)(lo + (uint32_t)(edge - scratch));
        }
    } while (--count > 0);
    stream->next = next;
    stream->state = state;
    stream->past = past;
}

COLD static void read_ans_plain(cwb_stream *stream, int16_t *out, size_t count)
{
    read_ans(stream, out, count, 0);
}

COLD static void read_ans_trellis(cwb_stream *stream, int16_t *out, size_t count)
{
    read_ans(stream, out, count, 1);
}

/* Adaptive binary range coder. Scratch memory holds the probabilities of a 1, in units of 2^-16: for each context its
 * bins and a 0, which ends a run of ones, then those of the escape code. */

/* The code with the next digit behind it. Trailing digits of 0 are left out of the payload. */
static uint32_t shift_in(cwb_stream *stream, uint32_t code)
{
    code <<= 16;
    if (stream->next != stream->end) {
        code |= load_u16(stream->next);
        stream->next += 2;
    }
    return code;
}

COLD static void normalise(cwb_stream *stream)
{
    if (stream->range <= 0xFFFF) {
        stream->range <<= 16;
        stream->state = shift_in(stream, stream->state);
    }
}

static cwb_error begin_adaptive(cwb_stream *stream)
{
    size_t size = (size_t)(stream->end - stream->next);
    uint16_t *p = stream->scratch;
    uint16_t header;
    int32_t least = 1 - (int32_t)stream->lo, above = stream->lo + (int32_t)stream->symbols;
    uint8_t context, bin;

    if (size < 2 || size % 2 != 0 || (size > 2 && load_u16(stream->end - 2) == 0)) {
        return CWB_ERR_STREAM;
    }
    header = load_u16(stream->next);
    stream->next += 2;
    for (context = 0; context < CONTEXTS; context++) {
        uint32_t more = (2 * (uint32_t)(header >> 4 & 15) + 1) << 11;

        *p++ = (uint16_t)((2 * (header >> 8 & 31) + 1) << 10);
        for (bin = 1; bin < BINS; bin++) {
            more = more < 3072 ? 2048 : more - 1024;
            *p++ = (uint16_t)more;
        }
        *p++ = 0;
    }
    for (bin = 0; bin < MAX_ESCAPE_BITS; bin++) {
        *p++ = 0x8000;
    }
    stream->contexts = (uint8_t)(header >> 15);
    stream->sign = (uint8_t)(2 * (header & 15) + 1);
    stream->rate = FIRST_RATE;
    stream->last_rate = (uint8_t)(FIRST_RATE + 1 + (header >> 13 & 3));
    stream->rate_left = UINT32_C(2) << FIRST_RATE;
    least = least < above ? least : above;
    stream->limit = (uint8_t)(least < 0 ? 0 : least < BINS ? least : BINS);
    stream->range = 0; /* as yet: two digits come in */
    stream->state = 0;
    normalise(stream);
    normalise(stream);
    stream->range = UINT32_C(0xFFFFFFFF);
    return CWB_OK;
}

/* Splits the range: 1 if the code lies in the lower part, of width `bound`. */
COLD static uint8_t split(cwb_stream *stream, uint32_t bound)
{
    if (stream->state < bound) {
        stream->range = bound;
        return 1;
    }
    stream->state -= bound;
    stream->range -= bound;
    return 0;
}

/* The excess over BINS: an Exp-Golomb code whose unary part adapts and whose other bits are equiprobable. */
static uint32_t escape(cwb_stream *stream)
{
    uint16_t *p = stream->scratch + CONTEXTS * (BINS + 1);
    uint32_t value = 1;
    uint8_t bits = 0, more = 1;

    while (more && bits < MAX_ESCAPE_BITS) {
        more = split(stream, (stream->range >> 12) * (uint32_t)(*p >> 4));
        *p = (uint16_t)(*p - (uint32_t)(*p >> stream->rate) + (more ? (UINT32_C(0x10000) >> stream->rate) - 1 : 0));
        p++;
        bits = (uint8_t)(bits + more);
        normalise(stream);
    }
    while (bits-- > 0) {
        value = value << 1 | split(stream, stream->range >> 1);
        normalise(stream);
    }
    return value - 1;
}

/* The symbol whose bins said `magnitude`, where that does not prove it to be within its limits. */
COLD static int16_t far_symbol(cwb_stream *stream, uint32_t magnitude)
{
    int32_t symbol;

    if (magnitude == BINS) {
        magnitude += escape(stream);
    }
    symbol = (int32_t)magnitude;
    if (magnitude > 0 && !split(stream, (stream->range >> 5) * stream->sign)) {
        symbol = -symbol;
    }
    if ((uint32_t)(symbol - stream->lo) >= stream->symbols) {
        stream->damaged = 1; /* and from now on all symbols are replaced */
        stream->limit = 0;
        symbol = stream->lo;
    }
    return (int16_t)symbol;
}

/* Symbols of one run, between two changes of the learning rate. */
static INLINE void read_adaptive(cwb_stream *stream, int16_t *out, size_t count, int trellis)
{
    uint32_t code = stream->state, range = stream->range, past = stream->past;
    uint32_t rate = stream->rate, gain = (UINT32_C(0x10000) >> rate) - 1;
    uint32_t far = stream->contexts ? FAR << STATE_BITS : UINT32_C(0xFFFFFFFF);

    do {
        uint32_t bound, p, magnitude, value, sum = 0;
        uint16_t *first = stream->scratch, *bin;

        if (trellis) {
            if (past & 1) {
                first += (BINS + 1) * (CONTEXTS / 2);
            }
            AFRESH(first);
            if (past >= far) {
                first += BINS + 1;
            }
            AFRESH(first);
        } else if (stream->contexts) {
            uint32_t context = (past + 3) >> 2;

            first += (BINS + 1) * (context < CONTEXTS ? context : CONTEXTS - 1);
        }
        bin = first;
        for (;;) {
            p = *bin;
            bound = (range >> 12) * (p >> 4);
            p -= p >> rate;
            if (code >= bound) {
                break;
            }
            *bin++ = (uint16_t)(p + gain);
            range = bound;
            if (UNLIKELY(range <= 0xFFFF)) {
                range <<= 16;
                code = shift_in(stream, code);
            }
        }
        *bin = (uint16_t)p;
        code -= bound;
        range -= bound;
        magnitude = (uint32_t)(bin - first);
        if (trellis) {
            AFRESH(magnitude);
            AFRESH(past);
        }
        value = 0;
        if (magnitude > 0) {
            uint32_t negative = 0;

            if (UNLIKELY(magnitude >= stream->limit)) {
                int16_t symbol;

                stream->state = code;
                stream->range = range;
                symbol = far_symbol(stream, magnitude);
                code = stream->state;
                range = stream->range;
                negative = symbol < 0;
                magnitude = (uint32_t)(symbol < 0 ? -(int32_t)symbol : symbol);
            } else {
                bound = (range >> 5) * stream->sign;
                if (code < bound) {
                    range = bound;
                } else {
                    code -= bound;
                    range -= bound;
                    negative = 1;
                }
            }
            value = trellis ? 2 * magnitude - (past & 1) : magnitude;
            sum = trellis ? value << STATE_BITS : 2 * value;
            if (negative) {
                value = 0 - value;
            }
        }
        if (trellis) { /* the bit above the state, left of the sum, makes the upper bit of ODD_GRID */
            uint32_t grid = past & 1;

            past = ((past & ~UINT32_C(16)) | grid << 4) >> 1 ^ grid ^ (magnitude & 1) * ODD_INDEX;
        } else {
            past >>= 1;
        }
        past += sum;
        if (UNLIKELY(range <= 0xFFFF)) {
            range <<= 16;
            code = shift_in(stream, code);
        }
        *out++ = (int16_t)value;
    } while (--count > 0);
    stream->state = code;
    stream->range = range;
    stream->past = past;
}

COLD static void read_adaptive_plain(cwb_stream *stream, int16_t *out, size_t count)
{
    read_adaptive(stream, out, count, 0);
}

COLD static void read_adaptive_trellis(cwb_stream *stream, int16_t *out, size_t count)
{
    read_adaptive(stream, out, count, 1);
}

static void read_unchanging_adaptive(cwb_stream *stream, int16_t *out, size_t count)
{
    size_t i;

    if (on_trellis(stream)) {
        read_adaptive_trellis(stream, out, count);
    } else {
        read_adaptive_plain(stream, out, count);
    }
    for (i = 0; stream->limit == 0 && i < count; i++) {
        stream->damaged |= out[i] == 0; /* the only symbol that was not checked */
        if (stream->damaged) {
            out[i] = (int16_t)(on_trellis(stream) ? 2 * stream->lo : stream->lo);
        }
    }
}

/* Both */

cwb_error cwb_begin(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, cwb_stream *stream)
{
    if (tensor == NULL || stream == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (!can_decode(tensor)) {
        return CWB_ERR_KIND;
    }
    if (scratch_bytes < cwb_scratch_size(tensor)) {
        return CWB_ERR_SPACE;
    }
    if (scratch == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    stream->next = tensor->payload;
    stream->end = tensor->payload + tensor->payload_size;
    stream->scratch = scratch;
    stream->symbols_left = tensor->count;
    stream->run = tensor->run;
    stream->run_left = on_trellis(stream) ? tensor->run : FOREVER;
    stream->rate_left = FOREVER;
    stream->past = 0;
    stream->damaged = 0;
    stream->symbols = tensor->symbols;
    stream->lo = tensor->lo;
    stream->kind = tensor->kind;
    return HAS_ANS && tensor->kind == CWB_ANS ? begin_ans(stream) : begin_adaptive(stream);
}

/* At least one symbol, all of one run, between two changes of the learning rate. */
static void read_unchanging(cwb_stream *stream, int16_t *out, size_t count)
{
    if (HAS_ADAPTIVE && (!HAS_ANS || stream->kind == CWB_ADAPTIVE)) {
        read_unchanging_adaptive(stream, out, count);
    } else if (on_trellis(stream)) {
        read_ans_trellis(stream, out, count);
    } else {
        read_ans_plain(stream, out, count);
    }
}

cwb_error cwb_read_i16(cwb_stream *stream, int16_t *out, size_t count)
{
    if (stream == NULL || (out == NULL && count > 0) || count > stream->symbols_left) {
        return CWB_ERR_ARGUMENT;
    }
    stream->symbols_left -= (uint32_t)count;
    while (count > 0) {
        size_t now = count;

        if (HAS_TRELLIS && now > stream->run_left) {
            now = (size_t)stream->run_left;
        }
        if (HAS_ADAPTIVE && now > stream->rate_left) {
            now = (size_t)stream->rate_left;
        }
        read_unchanging(stream, out, now);
        out += now;
        count -= now;
        if (HAS_TRELLIS) {
            stream->run_left -= (uint32_t)now;
            if (stream->run_left == 0) {
                stream->run_left = stream->run;
                stream->past &= ~(uint32_t)15;
            }
        }
        if (HAS_ADAPTIVE) {
            stream->rate_left -= (uint32_t)now;
            if (stream->rate_left == 0) { /* learning slows down after 32, 64, 128, 256 symbols */
                stream->rate++;
                stream->rate_left = stream->rate < stream->last_rate ? UINT32_C(1) << stream->rate : FOREVER;
            }
        }
    }
    return CWB_OK;
}

/* Do values from lo on, so many in number, fit int8? Twice as large ones, on a trellis? */
static int fits_i8(int32_t lo, uint16_t symbols, int trellis)
{
    int32_t hi = lo + symbols - 1;

    return trellis ? lo >= -64 && hi <= 63 : lo >= -128 && hi <= 127;
}

cwb_error cwb_read_i8(cwb_stream *stream, int8_t *out, size_t count)
{
    int16_t tile[TILE];

    if (stream == NULL || (out == NULL && count > 0) || count > stream->symbols_left) {
        return CWB_ERR_ARGUMENT;
    }
    if (!fits_i8(stream->lo, stream->symbols, on_trellis(stream))) {
        return CWB_ERR_RANGE;
    }
    while (count > 0) {
        size_t now = count < TILE ? count : TILE;
        size_t i;

        (void)cwb_read_i16(stream, tile, now);
        for (i = 0; i < now; i++) {
            *out++ = (int8_t)tile[i];
        }
        count -= now;
    }
    return CWB_OK;
}

cwb_error cwb_end(const cwb_stream *stream)
{
    if (stream == NULL || stream->symbols_left > 0) {
        return CWB_ERR_ARGUMENT;
    }
    if (stream->next != stream->end || (HAS_ANS && stream->kind == CWB_ANS && stream->state != 0) ||
        (HAS_ADAPTIVE && stream->damaged)) {
        return CWB_ERR_STREAM;
    }
    return CWB_OK;
}

/* ---- whole tensors -------------------------------------------------------------------------------------------- */

#ifndef CWB_NO_FLOAT
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
    int16_t tile[TILE];
    cwb_stream stream;
    uint32_t done, now, i;
    cwb_error error;
#ifndef CWB_NO_FLOAT
    float step = cwb_step(tensor);
#ifndef CWB_NO_CRC
    uint8_t bytes[4 * TILE];
    uint32_t crc = 0;
#endif
#endif

    error = check_payload(tensor);
    if (error == CWB_OK) {
        error = cwb_begin(tensor, scratch, scratch_bytes, &stream);
    }
    if (error != CWB_OK) {
        return error;
    }
    for (done = 0; done < tensor->count; done += now) {
        now = tensor->count - done < TILE ? tensor->count - done : TILE;
        (void)cwb_read_i16(&stream, tile, (size_t)now);
        for (i = 0; i < now; i++) {
            int16_t symbol = tile[i]; /* NOLINT(clang-analyzer-core.uninitialized.Assign): now symbols are left */
#ifndef CWB_NO_FLOAT
            float_bits element;

            element.value = step * (float)symbol;
#ifndef CWB_NO_CRC
            bytes[4 * i] = (uint8_t)(element.bits & 0xFF);
            bytes[4 * i + 1] = (uint8_t)(element.bits >> 8 & 0xFF);
            bytes[4 * i + 2] = (uint8_t)(element.bits >> 16 & 0xFF);
            bytes[4 * i + 3] = (uint8_t)(element.bits >> 24);
#endif
            if (to == TO_F32) {
                ((float *)out)[done + i] = element.value;
            }
#endif
            if (to == TO_I16) {
                ((int16_t *)out)[done + i] = symbol;
            } else if (to == TO_I8) {
                ((int8_t *)out)[done + i] = (int8_t)symbol;
            }
        }
#if !defined CWB_NO_FLOAT && !defined CWB_NO_CRC
        crc = CWB_CRC32(crc, bytes, (size_t)(4 * now));
#endif
    }
    error = cwb_end(&stream);
#if !defined CWB_NO_FLOAT && !defined CWB_NO_CRC
    if (error == CWB_OK && crc != tensor->decoded_crc) {
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
    if (!can_decode(tensor)) {
        return CWB_ERR_KIND;
    }
    if (to == TO_I8 && !fits_i8(tensor->lo, tensor->symbols, tensor->run > 0)) {
        return CWB_ERR_RANGE;
    }
    if (capacity < tensor->count || scratch_bytes < cwb_scratch_size(tensor)) {
        return CWB_ERR_SPACE;
    }
    return decode(tensor, scratch, scratch_bytes, out, to);
}

cwb_error cwb_check(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes)
{
    if (tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (tensor->kind == CWB_RAW) {
        return check_payload(tensor);
    }
    if (scratch_bytes < cwb_scratch_size(tensor)) {
        return CWB_ERR_SPACE;
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

/* ---- int8 kernels --------------------------------------------------------------------------------------------- */

/* Splits a float32 into mantissa * 2^*exponent with 2^23 <= mantissa < 2^24; 0 if it is not positive and finite. */
static uint32_t split_float(uint32_t bits, int32_t *exponent)
{
    uint32_t mantissa = bits & UINT32_C(0x7FFFFF);

    if (bits < 1 || bits > UINT32_C(0x7F7FFFFF)) {
        return 0;
    }
    *exponent = (int32_t)(bits >> 23) - 150;
    if (bits >> 23 > 0) {
        return mantissa | UINT32_C(0x800000);
    }
    *exponent = -149; /* subnormal */
    while (mantissa < UINT32_C(0x800000)) {
        mantissa <<= 1;
        --*exponent;
    }
    return mantissa;
}

cwb_error cwb_multiplier(uint32_t step_bits, uint32_t input_bits, uint32_t output_bits, int32_t *multiplier,
                         int32_t *shift)
{
    int32_t step_exponent = 0, input_exponent = 0, output_exponent = 0, exponent;
    uint32_t step = split_float(step_bits, &step_exponent);
    uint32_t input = split_float(input_bits, &input_exponent);
    uint32_t output = split_float(output_bits, &output_exponent);
    uint64_t quotient;
    uint8_t extra = 1; /* bits of the quotient beyond 31 */

    if (step == 0 || input == 0 || output == 0 || multiplier == NULL || shift == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    quotient = ((uint64_t)step * input << 9) / output; /* 2^31 <= quotient < 2^34 */
    while (quotient >> extra >= UINT32_C(0x80000000)) {
        extra++;
    }
    quotient = (quotient + ((uint32_t)1 << (extra - 1))) >> extra;
    exponent = step_exponent + input_exponent - output_exponent - 9 + extra + 31;
    if (quotient == UINT32_C(0x80000000)) {
        quotient >>= 1;
        exponent++;
    }
    if (exponent > 30) {
        return CWB_ERR_RANGE;
    }
    *multiplier = exponent < -31 ? 0 : (int32_t)quotient;
    *shift = exponent < -31 ? 0 : exponent;
    return CWB_OK;
}

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
        return "names of tensors not allowed, or not one for each";
    case CWB_ERR_GRID:
        return "step, symbol range or run of a tensor not allowed";
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
        return "a raw tensor has no symbols, or its coder was left out";
    }
    return "unknown error";
}
