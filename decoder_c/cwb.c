/* SPDX-License-Identifier: Apache-2.0
 *
 * Written by `make amalgamate` from decoder_c/src/: make changes there.
 *
 * The decoder of .cwb files. docs/format.md says what the bytes mean; cwb.h says what the functions do.
 *
 * Its kernels are compiled as one file: so the compiler sees all of them at once, and firmware has one file to copy.
 *
 * int may have 16 bits: shifts and products are done in uint32_t or uint64_t. Bytes are loaded one at a time, so
 * neither alignment nor the machine's byte order matters.
 */
#include "cwb.h"

/* ---- build -------------------------------------------------------------------------------------------------------
 *
 * Build options as constants, and what compilers are told about functions and variables.
 */

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
#ifdef CWB_NO_V1
#define HAS_V1 0
#else
#define HAS_V1 1
#endif
#ifdef CWB_NO_EXPONENTS
#define HAS_EXPONENTS 0
#else
#define HAS_EXPONENTS 1
#endif
#ifdef CWB_NO_TRELLIS
#define HAS_TRELLIS 0
#else
#define HAS_TRELLIS 1
#endif

#ifdef CWB_SMALL
#define SMALL 1
#else
#define SMALL 0
#endif

/* Do 16-bit numbers lie in memory as the format has them? */
#if defined __BYTE_ORDER__ && defined __ORDER_LITTLE_ENDIAN__
#define LITTLE_ENDIAN_BYTES (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
#else
#define LITTLE_ENDIAN_BYTES 0
#endif

/* UNALIGNED_OR_COLD is COLD unless one instruction loads four bytes at any address.
 * COLD keeps what is rarely called out of the loops that call it; INLINE makes one loop of each of its callers; AFRESH makes no
 * code, but what follows is computed from the variable as it is then, which spares registers and moves between them. */
#ifdef __GNUC__
#define COLD __attribute__((noinline))
#define INLINE inline __attribute__((always_inline))
#define UNLIKELY(condition) __builtin_expect(condition, 0)
#else
#define COLD
#define INLINE inline
#define UNLIKELY(condition) (condition)
#endif
#ifdef __ARM_FEATURE_UNALIGNED
#define UNALIGNED_OR_COLD
#else
#define UNALIGNED_OR_COLD COLD
#endif
#if defined __GNUC__ && INT_MAX > 0x7FFF
#define AFRESH(variable) __asm__("" : "+r"(variable))
#else
#define AFRESH(variable) ((void)(variable))
#endif

/* ---- bytes -------------------------------------------------------------------------------------------------------
 *
 * Bytes: loads that need no alignment, division, and a cursor that never leaves its bytes.
 */

#define FOREVER UINT32_C(0xFFFFFFFF) /* more than there can be of anything */

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | ((uint32_t)p[1] << 8));
}

UNALIGNED_OR_COLD static uint32_t load_u32(const uint8_t *p)
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

/* Bits being read, lowest first. */
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

static bit_cursor bits_of(const uint8_t *p, const uint8_t *end)
{
    bit_cursor bits;

    bits.c.p = p;
    bits.c.end = end;
    bits.c.failed = 0;
    bits.byte = 0;
    bits.left = 0;
    return bits;
}

/* ---- crc ---------------------------------------------------------------------------------------------------------
 *
 * The CRC-32 of ISO-HDLC, which zip and PNG have too: of the caller's, or by tables of 64 bytes, 1 KB or 4 KB.
 */

#ifdef CWB_CRC32
uint32_t CWB_CRC32(uint32_t crc, const uint8_t *data, size_t size);
#elif !defined CWB_NO_CRC
#define CWB_CRC32 crc_of

#ifndef CWB_CRC_SLICES
#define CWB_CRC_SLICES 0
#elif CWB_CRC_SLICES != 1 && CWB_CRC_SLICES != 4
#error "CWB_CRC_SLICES is 1 or 4"
#endif

/* What a byte does to the CRC is the sum, without carries, of what its bits do. Table k is of bytes that k more bytes follow. */
#define BIT(byte, bit, crc) ((byte) >> (bit) & 1 ? UINT32_C(crc) : 0)
#define SUM(b, c0, c1, c2, c3, c4, c5, c6, c7) \
    (BIT(b, 0, c0) ^ BIT(b, 1, c1) ^ BIT(b, 2, c2) ^ BIT(b, 3, c3) ^ BIT(b, 4, c4) ^ BIT(b, 5, c5) ^ BIT(b, 6, c6) ^ BIT(b, 7, c7))
#define SLICE0(b) SUM(b, 0x77073096, 0xEE0E612C, 0x076DC419, 0x0EDB8832, 0x1DB71064, 0x3B6E20C8, 0x76DC4190, 0xEDB88320)
#define SLICE1(b) SUM(b, 0x191B3141, 0x32366282, 0x646CC504, 0xC8D98A08, 0x4AC21251, 0x958424A2, 0xF0794F05, 0x3B83984B)
#define SLICE2(b) SUM(b, 0x01C26A37, 0x0384D46E, 0x0709A8DC, 0x0E1351B8, 0x1C26A370, 0x384D46E0, 0x709A8DC0, 0xE1351B80)
#define SLICE3(b) SUM(b, 0xB8BC6765, 0xAA09C88B, 0x8F629757, 0xC5B428EF, 0x5019579F, 0xA032AF3E, 0x9B14583D, 0xED59B63B)
#define FOUR(slice, b, step) slice(b), slice((b) + (step)), slice((b) + 2 * (step)), slice((b) + 3 * (step))
#define SIXTEEN(slice, b, step) \
    FOUR(slice, b, step), FOUR(slice, (b) + 4 * (step), step), FOUR(slice, (b) + 8 * (step), step), FOUR(slice, (b) + 12 * (step), step)
#define SIXTY_FOUR(slice, b) SIXTEEN(slice, b, 1), SIXTEEN(slice, (b) + 16, 1), SIXTEEN(slice, (b) + 32, 1), SIXTEEN(slice, (b) + 48, 1)
#define ALL_BYTES(slice) SIXTY_FOUR(slice, 0), SIXTY_FOUR(slice, 64), SIXTY_FOUR(slice, 128), SIXTY_FOUR(slice, 192)

/* CRC-32 of what had the CRC `crc` (0: nothing) and `size` more bytes. */
COLD static uint32_t crc_of(uint32_t crc, const uint8_t *data, size_t size)
{
#if CWB_CRC_SLICES == 0
    static const uint32_t table[16] = {SIXTEEN(SLICE0, 0, 16)}; /* four bits at a time */

    crc = ~crc;
    while (size-- > 0) {
        crc ^= *data++;
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
#else
    static const uint32_t table[CWB_CRC_SLICES][256] = {
        {ALL_BYTES(SLICE0)},
#if CWB_CRC_SLICES == 4
        {ALL_BYTES(SLICE1)}, {ALL_BYTES(SLICE2)}, {ALL_BYTES(SLICE3)},
#endif
    };

    crc = ~crc;
#if CWB_CRC_SLICES == 4
    for (; size >= 4; size -= 4) {
        crc ^= load_u16(data) | (uint32_t)load_u16(data + 2) << 16;
        crc = table[3][crc & 0xFF] ^ table[2][crc >> 8 & 0xFF] ^ table[1][crc >> 16 & 0xFF] ^ table[0][crc >> 24];
        data += 4;
    }
#endif
    while (size-- > 0) {
        crc = (crc >> 8) ^ table[0][(crc ^ *data++) & 0xFF];
    }
#endif
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

/* ---- directory ---------------------------------------------------------------------------------------------------
 *
 * The directory: header and records of a file, which cwb_open checks once and cwb_tensor_at reads again.
 */

enum {
    HEADER_SIZE = 20,
    HEADER_CRC = 16, /* where its CRC stands */
    /* the first byte of a record: from here on a coded tensor, whose coder and form are */
    CODED = 128,
    CODER = 64,
    FIRST_TRELLIS = 3,
    /* the byte in front of the record of a tensor with exponents, and the first form that may have them */
    EXPONENTS = 62,
    FIRST_STEPPED = 2
};

#define MAGIC UINT32_C(0x42574389) /* 0x89 and "CWB" */
#define MAX_COUNT UINT32_C(0x7FFFFFFF)

/* Steps as the bits of floats. A short one has three bits of mantissa, and five of the exponent, from 2^-25 on. The others are
 * 2^-126 to 2^117: products with symbols are normal numbers. */
#define SHORT_STEP UINT32_C(0x33000000)
#define LEAST_STEP UINT32_C(0x00800000)
#define STEPS (UINT32_C(0x7A000000) - LEAST_STEP)
#define LEAST_STEPPED UINT32_C(0x10000000) /* 2^-95, so that the step of a row is normal */

/* Reads the dimensions: are their product, of those that are not 0, and the run of a trellis within limits? The run follows from
 * the form of a coded tensor: it is the last axis as stored, or all of them but the first. */
static int read_shape(cursor *c, cwb_tensor *tensor, uint8_t form)
{
    uint32_t product = 1, first = 1, last = 1, before = 1; /* before: the dimension before the last */
    uint8_t axis, empty = 0;

    tensor->shape = c->p;
    for (axis = 0; axis < tensor->rank; axis++) {
        before = last;
        last = take_varint(c);
        if (axis == 0) {
            first = last;
        }
        if (last == 0) {
            empty = 1;
        } else if (last > divide(MAX_COUNT, product)) {
            return 0;
        } else {
            product *= last;
        }
    }
    tensor->count = empty ? 0 : product;
    tensor->run = form < FIRST_TRELLIS    ? 0
                  : form == FIRST_TRELLIS ? last
                  : form == 6             ? first
                  : form == 7             ? before
                                          : divide(product, first);
    return 1;
}

/* Reads the fields of a coded tensor behind its CRC. */
static cwb_error read_coded(cursor *c, cwb_tensor *tensor, uint8_t form)
{
    static const uint8_t least_rank[8] = {0, 3, 2, 1, 1, 3, 2, 3};
    uint32_t largest, step;
    uint8_t trellis = form >= FIRST_TRELLIS;

    if (tensor->rank < least_rank[form] || !read_shape(c, tensor, form) || tensor->count == 0) {
        return CWB_ERR_SHAPE;
    }
    step = *take(c, 1);
    step = step > 0 ? (step << 20) + SHORT_STEP : take_u32(c);
    largest = take_varint(c);
    tensor->order = form == FIRST_TRELLIS ? 0 : form & 3;
    tensor->step_bits = step;
    tensor->largest = (uint16_t)(largest << trellis);
    if (largest > UINT32_C(2047) >> trellis || step - LEAST_STEP >= STEPS || (tensor->stepped && step < LEAST_STEPPED)) {
        return CWB_ERR_GRID;
    }
    return CWB_OK;
}

/* Reads the fields of a raw tensor behind its CRC. */
static cwb_error read_raw(cursor *c, cwb_tensor *tensor, uint8_t type)
{
    static const uint8_t types[4] = {CWB_FLOAT32, CWB_FLOAT16, CWB_FLOAT64, CWB_BFLOAT16};
    static const uint8_t items[4] = {2, 1, 3, 1}; /* log2 of the bytes of an element */
    uint8_t item = items[type];

    tensor->type = types[type];
    if (!read_shape(c, tensor, 0) || tensor->payload_size != tensor->count << item || tensor->count >> (32 - item) != 0) {
        return CWB_ERR_SHAPE;
    }
    return CWB_OK;
}

/* Reads the record whose payload begins at record->payload + record->payload_size, and checks its limits. Of a section only
 * kind, payload, its size and CRC mean something. */
COLD static cwb_error read_record(cursor *c, cwb_tensor *record)
{
    cwb_error error = CWB_OK;
    uint8_t head = *take(c, 1);

    record->stepped = head == EXPONENTS && record->version > 1;
    if (record->stepped) {
        head = *take(c, 1);
        if (head < CODED || (head >> 3 & 7) < FIRST_STEPPED) {
            return CWB_ERR_DIRECTORY;
        }
    }
    record->payload += record->payload_size;
    record->payload_size = take_varint(c);
    record->crc = take_u32(c);
    record->kind = head;
    record->type = CWB_FLOAT32;
    record->order = 0;
    record->rank = head & 7;
    record->largest = 0;
    if (head >= CODED) {
        record->kind = head & CODER ? CWB_ADAPTIVE : CWB_ANS;
        error = read_coded(c, record, head >> 3 & 7);
    } else if (head < CWB_GRAPH) {
        record->kind = CWB_RAW;
        error = read_raw(c, record, head >> 3);
    } else if (head > CWB_NAMES && head < CWB_MARGINS) {
        error = CWB_ERR_VERSION;
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
    record->version = file->version;
    return c;
}

static cwb_error check_directory(cwb_file *file)
{
    cwb_tensor record;
    cursor c = directory_of(file, &record);
    const uint8_t *end = file->data + file->size;
    uint32_t left;
    uint8_t last = 0; /* kind of the last section */

    file->tensors = 0;
    for (left = file->records; left > 0; left--) {
        cwb_error error = read_record(&c, &record);

        if (error != CWB_OK) {
            return error;
        }
        if (record.kind >= CWB_GRAPH ? record.kind <= last : last > 0) {
            return CWB_ERR_DIRECTORY;
        }
        if (record.kind >= CWB_GRAPH) {
            last = record.kind;
        } else {
            file->tensors++;
        }
        if (record.payload_size > (size_t)(end - record.payload)) {
            return CWB_ERR_LAYOUT;
        }
    }
    if (c.p != c.end) {
        return CWB_ERR_DIRECTORY;
    }
    return record.payload + record.payload_size == end ? CWB_OK : CWB_ERR_LAYOUT;
}

cwb_error cwb_open(cwb_file *file, const void *data, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)data;

    if (file == NULL || (data == NULL && size > 0)) {
        return CWB_ERR_ARGUMENT;
    }
    if (size < HEADER_SIZE) {
        return CWB_ERR_TRUNCATED;
    }
    if (load_u32(bytes) != MAGIC) {
        return CWB_ERR_MAGIC;
    }
    file->data = bytes;
    file->records = load_u16(bytes + 6);
    file->directory = load_u32(bytes + 8);
    file->size = load_u32(bytes + 12);
    file->version = bytes[4];
    if (bytes[5] != 0 || file->version > CWB_FORMAT_VERSION || file->version < 2 - HAS_V1) {
        return CWB_ERR_VERSION;
    }
    if (size != file->size) {
        return size < file->size ? CWB_ERR_TRUNCATED : CWB_ERR_TRAILING;
    }
    if (file->directory > file->size - HEADER_SIZE) {
        return CWB_ERR_LAYOUT;
    }
#ifndef CWB_NO_CRC
    if (CWB_CRC32(CWB_CRC32(0, bytes, HEADER_CRC), bytes + HEADER_SIZE, (size_t)file->directory) !=
        load_u32(bytes + HEADER_CRC)) {
        return CWB_ERR_HEADER_CRC;
    }
#endif
    if (file->records > CWB_MAX_RECORDS) {
        return CWB_ERR_DIRECTORY;
    }
    return check_directory(file);
}

cwb_error cwb_tensor_at(const cwb_file *file, uint32_t index, cwb_tensor *tensor)
{
    cursor c;

    if (file == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (index >= file->tensors) {
        return CWB_ERR_NOT_FOUND;
    }
    c = directory_of(file, tensor);
    do {
        (void)read_record(&c, tensor);
    } while (index-- > 0);
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

/* ---- sections ----------------------------------------------------------------------------------------------------
 *
 * Sections: the payloads that belong to no tensor, and what is read of them here, names and margins.
 */

enum { MAX_NAME = 1024 };

cwb_error cwb_section(const cwb_file *file, cwb_kind kind, const uint8_t **data, uint32_t *size)
{
    cwb_tensor record;
    cursor c;
    uint32_t left;

    if (file == NULL || data == NULL || size == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    c = directory_of(file, &record);
    for (left = file->records; left > 0; left--) {
        (void)read_record(&c, &record);
        /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): cwb_open has read all records */
        if (record.kind == (uint8_t)kind && record.kind >= CWB_GRAPH) {
            *data = record.payload;
            *size = record.payload_size;
            return has_crc(record.payload, record.payload_size, record.crc) ? CWB_OK : CWB_ERR_PAYLOAD_CRC;
        }
    }
    return CWB_ERR_NOT_FOUND;
}

/* Begins to read a section. */
static cwb_error open_section(const cwb_file *file, cwb_kind kind, cursor *c)
{
    uint32_t size = 0;
    cwb_error error = cwb_section(file, kind, &c->p, &size);

    if (error == CWB_OK) {
        c->end = c->p + size;
        c->failed = 0;
    }
    return error;
}

#ifndef CWB_NO_NAMES
/* Looks through the names for that of tensor `*index`, if `*name` is null, or for the first that is `*name`; sets what it was
 * not given. All names are checked. */
static cwb_error find_name(const cwb_file *file, uint32_t *index, const char **name, size_t *length)
{
    cursor c;
    uint32_t i, found = FOREVER;
    const char *wanted = *name;
    cwb_error error = open_section(file, CWB_NAMES, &c);

    for (i = 0; error == CWB_OK && i < file->tensors; i++) {
        uint32_t size = take_varint(&c), j = 0;
        const uint8_t *other = take(&c, size);

        if (size - 1 >= MAX_NAME || c.failed) { /* a failure reads as 0 */
            error = CWB_ERR_NAME;
        } else if (found == FOREVER) {
            while (wanted != NULL && j < size && size == *length && other[j] == (uint8_t)wanted[j]) {
                j++;
            }
            if (wanted == NULL ? i == *index : j == size) {
                found = i;
                *name = (const char *)other;
                *length = (size_t)size;
            }
        }
    }
    if (error != CWB_OK) {
        return error;
    }
    *index = found;
    return c.p != c.end ? CWB_ERR_NAME : found == FOREVER ? CWB_ERR_NOT_FOUND : CWB_OK;
}

cwb_error cwb_name(const cwb_file *file, uint32_t index, const char **name, size_t *length)
{
    if (file == NULL || name == NULL || length == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    *name = NULL;
    return find_name(file, &index, name, length);
}

cwb_error cwb_find(const cwb_file *file, const char *name, size_t name_length, cwb_tensor *tensor)
{
    uint32_t index = 0;
    cwb_error error;

    if (file == NULL || name == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = find_name(file, &index, &name, &name_length);
    return error == CWB_OK ? cwb_tensor_at(file, index, tensor) : error;
}
#endif

cwb_error cwb_margin(const cwb_file *file, uint32_t index, uint32_t *margin)
{
    uint8_t found = 0, fits = 1;
    cursor c, records;
    cwb_tensor tensor;
    uint32_t i;
    cwb_error error;

    if (margin == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = open_section(file, CWB_MARGINS, &c);
    if (error != CWB_OK) {
        return error;
    }
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

/* ---- trellis -----------------------------------------------------------------------------------------------------
 *
 * The trellis: how an element changes the state, whose lowest bit chooses the grid of the next element.
 *
 * With each element the state moves down by one bit and is changed by a term. Both coders keep these terms beside the
 * symbols in scratch memory, so their loops are the same with a trellis and without.
 */

/* Is the stream on a trellis? */
static int on_trellis(const cwb_stream *stream)
{
    return HAS_TRELLIS && !stream->plain;
}

static int is_v1(const cwb_stream *stream)
{
    return HAS_V1 && stream->version == 1;
}

/* The term of an odd index. */
static uint32_t odd_index(const cwb_stream *stream)
{
    return is_v1(stream) ? 5 : 10;
}

/* The term of an element on the odd grid. */
static uint32_t odd_grid(const cwb_stream *stream)
{
    return is_v1(stream) ? 9 : 33;
}

/* ---- ans ---------------------------------------------------------------------------------------------------------
 *
 * The ANS coder: it reads a table of frequencies into scratch memory, then a symbol with each look-up.
 *
 * Scratch memory holds the tables, one or two of them, as ENTRY numbers for each symbol: the first slot that it owns,
 * the value it stands for, and its term of the trellis' state. One more ends each table. Before them stand hints: for
 * each of HINTS equal parts of a table's slots, where the entry of the symbol that owns its first slot begins; those of
 * the second table follow those of the first. The state is kept in units of HINTS: so its lowest bit, the grid, chooses
 * the table.
 */

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

/* ---- exponents ---------------------------------------------------------------------------------------------------
 *
 * Exponents: those of a tensor's rows, which stand in front of what its coder reads.
 */

enum { CENTRE_BITS = 5, MOST_EXPONENT = 31 };

/* Exponents being read, again and again. */
typedef struct {
    bit_cursor bits;
    uint8_t centre;
    uint32_t left; /* of them, until they begin again */
} row_cursor;

/* Does the tensor have exponents, and may it? */
static int has_exponents(const cwb_tensor *tensor)
{
    return HAS_EXPONENTS && tensor->stepped;
}

/* Rows of a tensor: the runs of its trellis; without one, the elements of equal index on axis 0. */
COLD static uint32_t rows_of(const cwb_tensor *tensor)
{
    cursor c;

    if (tensor->run > 0 || tensor->rank == 0) {
        return divide(tensor->count, tensor->run > 0 ? tensor->run : 1);
    }
    c.p = tensor->shape;
    c.end = c.p + 5; /* a varint is no longer */
    c.failed = 0;
    return take_varint(&c);
}

/* What follows the last exponent, read as one, is not looked at: `bits` says if any of them failed. */
COLD static uint8_t next_exponent(row_cursor *rows, const cwb_tensor *tensor)
{
    uint8_t code = 0, exponent;

    if (rows->left == 0) {
        rows->bits = bits_of(tensor->payload, tensor->payload + tensor->payload_size);
        rows->centre = take_bits(&rows->bits, CENTRE_BITS);
        rows->left = rows_of(tensor);
    }
    rows->left--;
    while (code <= 2 * MOST_EXPONENT && take_bits(&rows->bits, 1)) {
        code++;
    }
    exponent = (uint8_t)(code & 1 ? rows->centre + (code + 1) / 2 : rows->centre - code / 2);
    if (exponent > MOST_EXPONENT) {
        rows->bits.c.failed = 1;
    }
    return exponent;
}

/* Reads all exponents of a tensor to `out`, if it is not null; where they end, or null if they break a rule. */
COLD static const uint8_t *read_exponents(const cwb_tensor *tensor, int8_t *out)
{
    row_cursor rows;

    rows.left = 0;
    do {
        uint8_t exponent = next_exponent(&rows, tensor);

        if (rows.bits.c.failed) {
            return NULL;
        }
        if (out != NULL) {
            *out++ = (int8_t)exponent;
        }
    } while (rows.left > 0);
    return rows.bits.byte != 0 ? NULL : rows.bits.c.p;
}

#ifndef CWB_NO_EXPONENTS
cwb_error cwb_exponents(const cwb_tensor *tensor, int8_t *out, size_t capacity)
{
    uint32_t rows;

    if (tensor == NULL || out == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (tensor->kind == CWB_RAW) {
        return CWB_ERR_KIND;
    }
    rows = rows_of(tensor);
    if (capacity < rows) {
        return CWB_ERR_SPACE;
    }
    if (tensor->stepped) {
        return read_exponents(tensor, out) == NULL ? CWB_ERR_GRID : CWB_OK;
    }
    while (rows > 0) {
        out[--rows] = 0;
    }
    return CWB_OK;
}
#endif

/* ---- adaptive ----------------------------------------------------------------------------------------------------
 *
 * The adaptive coder: it reads a symbol as binary decisions, whose probabilities it learns as it goes.
 *
 * Scratch memory holds, for each context, the probabilities of a 1 in units of 2^-16, with a 0 where there is never a 1,
 * and the terms; behind the contexts the probabilities that a symbol is positive, for each pair of neighbours.
 */

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

/* ---- adaptive_fast -----------------------------------------------------------------------------------------------
 *
 * The adaptive coder's fast loops. They take more room than the one of adaptive.h, which CWB_SMALL chooses.
 */

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

/* ---- streams -----------------------------------------------------------------------------------------------------
 *
 * Streams: a coded tensor read piece by piece, by whichever coder it takes.
 */

enum { TILE = 32 }; /* symbols decoded at a time where they do not go straight to the caller */

static int can_decode(const cwb_tensor *tensor)
{
    return ((HAS_ANS && tensor->kind == CWB_ANS) || (HAS_ADAPTIVE && tensor->kind == CWB_ADAPTIVE)) &&
           (HAS_TRELLIS || tensor->run == 0) && (HAS_EXPONENTS || !tensor->stepped);
}

size_t cwb_scratch_size(const cwb_tensor *tensor)
{
    if (tensor == NULL || !can_decode(tensor)) {
        return 0;
    }
    if (HAS_ADAPTIVE && tensor->kind == CWB_ADAPTIVE) {
        return CWB_SCRATCH_ADAPTIVE;
    }
    return HAS_TRELLIS && tensor->run > 0 ? CWB_SCRATCH_TRELLIS(tensor->largest) : CWB_SCRATCH_ANS(tensor->largest);
}

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
    stream->next = has_exponents(tensor) ? read_exponents(tensor, NULL) : tensor->payload;
    if (stream->next == NULL) {
        return CWB_ERR_GRID;
    }
    stream->end = tensor->payload + tensor->payload_size;
    stream->scratch = scratch;
    stream->symbols_left = tensor->count;
    stream->run = stream->run_left = tensor->run;
    stream->plain = tensor->run == 0;
    stream->version = tensor->version;
    if (stream->plain) {
        stream->run_left = FOREVER;
    }
    stream->state = 0;
    stream->past = 0;
    if (HAS_ADAPTIVE) {
        stream->rate = FIRST_RATE;
        stream->rate_left = 2 << FIRST_RATE;
        stream->header = 0;
        stream->unit = 0;
        stream->left = 0;
    }
    stream->reach = (uint16_t)(tensor->largest >> (1 - stream->plain));
    stream->kind = tensor->kind;
    return HAS_ANS && (!HAS_ADAPTIVE || tensor->kind == CWB_ANS) ? begin_ans(stream) : begin_adaptive(stream);
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
            now = stream->rate_left;
        }
        if (HAS_ANS && (!HAS_ADAPTIVE || stream->kind == CWB_ANS)) {
            read_ans(stream, out, now);
        } else {
            read_adaptive(stream, out, now);
        }
        out += now;
        count -= now;
        if (HAS_TRELLIS) {
            stream->run_left -= (uint32_t)now;
            if (stream->run_left == 0) {
                stream->run_left = stream->run;
                stream->past = 0;
            }
        }
        if (HAS_ADAPTIVE) {
            stream->rate_left = (uint16_t)(stream->rate_left - now);
            if (stream->rate_left == 0) { /* learning slows down after 32, 64, 128, 256 symbols */
                stream->rate_left = 0xFFFF;
                if (stream->rate < last_rate(stream)) {
                    stream->rate++;
                    stream->rate_left = (uint16_t)(1 << stream->rate);
                }
            }
        }
    }
    return CWB_OK;
}

cwb_error cwb_read_i8(cwb_stream *stream, int8_t *out, size_t count)
{
    int16_t tile[TILE];

    if (stream == NULL || (out == NULL && count > 0) || count > stream->symbols_left) {
        return CWB_ERR_ARGUMENT;
    }
    if (stream->reach > (INT8_MAX + 1) >> (1 - stream->plain)) {
        return CWB_ERR_RANGE;
    }
    while (count > 0) {
        size_t now = count < TILE ? count : TILE;
        size_t i;

        (void)cwb_read_i16(stream, tile, now);
        for (i = 0; i < now; i++) {
            /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): now symbols are left */
            if (tile[i] > INT8_MAX) {
                return CWB_ERR_RANGE;
            }
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
        (HAS_ADAPTIVE && stream->kind == DAMAGED)) {
        return CWB_ERR_STREAM;
    }
    return CWB_OK;
}

/* ---- tensors -----------------------------------------------------------------------------------------------------
 *
 * Whole tensors: a tensor decoded in one call, with everything checked that can be.
 */

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

/* Divides the elements of a sound tensor, which were decoded with its step, by the powers of two of their rows: this is exact. */
COLD static void divide_rows(const cwb_tensor *tensor, float *out)
{
    row_cursor rows;
    float_bits factor;
    uint32_t i, row_left = 0;

    rows.left = 0;
    factor.bits = 0;
    for (i = 0; i < tensor->count; i++) {
        if (row_left == 0) {
            factor.bits = (uint32_t)(127 - next_exponent(&rows, tensor)) << 23;
            row_left = tensor->run > 0 ? tensor->run : 1;
        }
        row_left--;
        out[i] *= factor.value;
    }
}
#endif

typedef enum { NOWHERE, TO_I8, TO_I16, TO_F32 } target;

/* Takes so many symbols from `tile` to `out`, behind those done. */
static cwb_error deliver(const cwb_tensor *tensor, const int16_t *tile, uint32_t count, void *out, uint32_t done, target to)
{
    uint32_t i;

    if (to == TO_I8) {
        for (i = 0; i < count; i++) {
            if (tile[i] > INT8_MAX || tile[i] < INT8_MIN) {
                return CWB_ERR_RANGE;
            }
            ((int8_t *)out)[done + i] = (int8_t)tile[i];
        }
    }
#ifndef CWB_NO_FLOAT
    if (to == TO_F32) {
        for (i = 0; i < count; i++) {
            ((float *)out)[done + i] = cwb_step(tensor) * (float)tile[i];
        }
    }
#else
    (void)tensor;
#endif
    return CWB_OK;
}

/* The CRC of what had the CRC `crc` and one to TILE symbols behind it. */
#ifndef CWB_NO_CRC
static uint32_t crc_of_symbols(uint32_t crc, const int16_t *symbols, uint32_t count)
{
#if LITTLE_ENDIAN_BYTES
    return CWB_CRC32(crc, (const uint8_t *)symbols, (size_t)(2 * count));
#else
    uint8_t bytes[2 * TILE];
    uint32_t i = 0;

    do {
        bytes[2 * i] = (uint8_t)((uint16_t)symbols[i] & 0xFF);
        bytes[2 * i + 1] = (uint8_t)((uint16_t)symbols[i] >> 8);
    } while (++i < count);
    return CWB_CRC32(crc, bytes, (size_t)(2 * count));
#endif
}
#endif

/* Decodes a coded tensor to `out`, which has room for all of it, and checks whatever can be checked. */
static cwb_error decode(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, void *out, target to)
{
    int16_t tile[TILE];
    cwb_stream stream;
    uint32_t done, now;
    cwb_error error;
#ifndef CWB_NO_CRC
    uint32_t crc = CWB_CRC32(0, tensor->payload, (size_t)tensor->payload_size);
#endif

    error = cwb_begin(tensor, scratch, scratch_bytes, &stream);
    for (done = 0; error == CWB_OK && done < tensor->count; done += now) {
        int16_t *symbols = tile;

        if (to == TO_I16) {
            symbols = (int16_t *)out + done;
        }
        now = tensor->count - done < TILE ? tensor->count - done : TILE;
        if (cwb_read_i16(&stream, symbols, (size_t)now) != CWB_OK) {
            break; /* it never is: cwb_end would say so */
        }
#ifndef CWB_NO_CRC
        crc = crc_of_symbols(crc, symbols, now);
#endif
        error = deliver(tensor, symbols, now, out, done, to);
    }
    if (error == CWB_OK) {
        error = cwb_end(&stream);
    }
#ifndef CWB_NO_CRC
    if (error == CWB_OK && crc != tensor->crc) {
        error = CWB_ERR_PAYLOAD_CRC;
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
    if (to == TO_I8 && tensor->largest > INT8_MAX + 1) {
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
        return has_crc(tensor->payload, tensor->payload_size, tensor->crc) ? CWB_OK : CWB_ERR_PAYLOAD_CRC;
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
    cwb_error error = decode_to(tensor, scratch, scratch_bytes, out, capacity, TO_F32);

    if (error == CWB_OK && has_exponents(tensor)) {
        divide_rows(tensor, out);
    }
    return error;
}
#endif

/* ---- changes -----------------------------------------------------------------------------------------------------
 *
 * Deltas: files that say how the tensors of another file, their base, change. Two streams are read side by side.
 *
 * Nothing in the other kernels calls this one, so linkers drop it where firmware does not.
 */

enum {
    BASE = 35, /* heads of records that only deltas have */
    UNCHANGED = 60,
    CHANGED = 61
};

/* Reads the next record of a delta; records->payload and ->payload_size say where that of the last one ended. Of unchanged and
 * changed tensors only head (in `kind`), payload, its size, CRC and `largest` are set. */
static cwb_error read_delta_record(cursor *c, cwb_tensor *record)
{
    uint8_t head = c->p != c->end ? *c->p : 0;

    if (head != BASE && head != UNCHANGED && head != CHANGED) {
        return read_record(c, record);
    }
    c->p++;
    record->payload += record->payload_size;
    record->payload_size = 0;
    record->kind = head;
    record->largest = 0;
    if (head != UNCHANGED) {
        record->payload_size = take_varint(c);
        record->crc = take_u32(c);
    }
    if (head == CHANGED) {
        uint32_t largest = take_varint(c);

        if (largest > CWB_MAX_SYMBOL) {
            return CWB_ERR_GRID;
        }
        record->largest = (uint16_t)largest;
    }
    return c->failed ? CWB_ERR_DIRECTORY : CWB_OK;
}

static int is_section(const cwb_tensor *record)
{
    return record->kind >= CWB_GRAPH && record->kind != UNCHANGED && record->kind != CHANGED;
}

/* Can the delta's record take the place of the base's tensor? */
static int takes_place(const cwb_tensor *record, const cwb_tensor *base)
{
    uint32_t dims[CWB_MAX_RANK], base_dims[CWB_MAX_RANK];
    uint8_t axis;

    if (record->kind == UNCHANGED) {
        return 1;
    }
    if (record->kind == CHANGED) {
        return base->kind != CWB_RAW;
    }
    if (record->rank != base->rank || record->type != base->type) {
        return 0;
    }
    cwb_shape(record, dims);
    cwb_shape(base, base_dims);
    for (axis = 0; axis < CWB_MAX_RANK; axis++) {
        if (dims[axis] != base_dims[axis]) {
            return 0;
        }
    }
    return 1;
}

/* Does this section of a delta name the base? It tells the size of its tensors' records and payloads, and the CRC of the records. */
static int names_base(const cwb_tensor *section, const cwb_file *base)
{
    cwb_tensor record;
    cursor c = directory_of(base, &record);
    const uint8_t *payloads = record.payload, *records = c.p;
    uint32_t left;

    for (left = base->tensors; left > 0; left--) {
        (void)read_record(&c, &record);
    }
    return load_u32(section->payload) == (uint32_t)(c.p - records) + (uint32_t)(record.payload + record.payload_size - payloads) &&
           has_crc(records, (uint32_t)(c.p - records), load_u32(section->payload + 4));
}

cwb_error cwb_delta_open(cwb_delta *delta, const void *data, size_t size, const cwb_file *base)
{
    cwb_tensor record, other;
    cursor c, others;
    const uint8_t *end;
    uint32_t left, tensors = 0;
    uint8_t last = 0; /* kind of the last section */
    int fits = 1, named = 0, matches = 0;
    cwb_error error;

    if (delta == NULL || base == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    /* cwb_open knows no delta's records: it stops at the first of them, when it has checked all before the directory */
    error = cwb_open(&delta->file, data, size);
    if (error == CWB_OK) {
        return CWB_ERR_BASE;
    }
    if (error != CWB_ERR_VERSION || load_u16((const uint8_t *)data + 4) != CWB_FORMAT_VERSION) {
        return error;
    }
    delta->base = *base;
    end = delta->file.data + delta->file.size;
    c = directory_of(&delta->file, &record);
    others = directory_of(base, &other);
    for (left = delta->file.records; left > 0; left--) {
        error = read_delta_record(&c, &record);
        if (error != CWB_OK) {
            return error;
        }
        if (record.payload_size > (size_t)(end - record.payload)) {
            return CWB_ERR_LAYOUT;
        }
        if (!is_section(&record)) {
            if (last > 0) {
                return CWB_ERR_DIRECTORY;
            }
            if (++tensors <= base->tensors) {
                (void)read_record(&others, &other);
                fits = fits && takes_place(&record, &other);
            }
        } else if (record.kind <= last || record.kind == CWB_GRAPH || record.kind == CWB_NAMES) {
            return CWB_ERR_DIRECTORY;
        } else {
            last = record.kind;
            if (record.kind == BASE) {
                if (record.payload_size != 8 || !has_crc(record.payload, 8, record.crc)) {
                    return CWB_ERR_PAYLOAD_CRC;
                }
                named = 1;
                matches = names_base(&record, base);
            }
        }
    }
    if (c.p != c.end || !named) {
        return CWB_ERR_DIRECTORY;
    }
    if (record.payload + record.payload_size != end) {
        return CWB_ERR_LAYOUT;
    }
    if (!matches) {
        return CWB_ERR_BASE;
    }
    return tensors == base->tensors && fits ? CWB_OK : CWB_ERR_SHAPE;
}

cwb_error cwb_delta_tensor_at(const cwb_delta *delta, uint32_t index, cwb_changed *tensor)
{
    cwb_tensor *record, *base;
    cursor c, others;

    if (delta == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (index >= delta->base.tensors) {
        return CWB_ERR_NOT_FOUND;
    }
    record = &tensor->changes;
    base = &tensor->tensor;
    c = directory_of(&delta->file, record);
    others = directory_of(&delta->base, base);
    do {
        (void)read_delta_record(&c, record);
        (void)read_record(&others, base);
    } while (index-- > 0);
    tensor->is_changed = record->kind == CHANGED;
    if (tensor->is_changed) {
        record->kind = CWB_ADAPTIVE;
        record->count = base->count;
        record->run = 0;
        record->stepped = 0;
    } else if (record->kind != UNCHANGED) {
        *base = *record;
    }
    return CWB_OK;
}

#ifndef CWB_NO_NAMES
cwb_error cwb_delta_find(const cwb_delta *delta, const char *name, size_t name_length, cwb_changed *tensor)
{
    uint32_t index = 0;
    cwb_error error;

    if (delta == NULL || name == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = find_name(&delta->base, &index, &name, &name_length);
    return error == CWB_OK ? cwb_delta_tensor_at(delta, index, tensor) : error;
}
#endif

size_t cwb_delta_scratch_size(const cwb_changed *tensor)
{
    size_t size = tensor == NULL ? 0 : cwb_scratch_size(&tensor->tensor);

    return size > 0 && tensor->is_changed ? size + CWB_SCRATCH_ADAPTIVE : size;
}

cwb_error cwb_delta_begin(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, cwb_delta_stream *stream)
{
    size_t size;
    uint16_t *own;
    uint8_t i;
    cwb_error error;

    if (tensor == NULL || stream == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    size = cwb_delta_scratch_size(tensor);
    if (size > 0 && scratch_bytes < size) {
        return CWB_ERR_SPACE;
    }
    error = cwb_begin(&tensor->tensor, scratch, scratch_bytes, &stream->symbols);
    stream->is_changed = tensor->is_changed;
    stream->last = 0;
    if (error != CWB_OK || !tensor->is_changed) {
        return error;
    }
    own = scratch + (size - CWB_SCRATCH_ADAPTIVE) / 2;
    error = cwb_begin(&tensor->changes, own, CWB_SCRATCH_ADAPTIVE, &stream->changes);
    for (i = 0; error == CWB_OK && i < 2 * CONTEXT; i++) { /* no trellis: the terms are those of the first two contexts */
        own[2 * CONTEXT + i] = own[i];
    }
    return error;
}

cwb_error cwb_delta_read_i16(cwb_delta_stream *stream, int16_t *out, size_t count)
{
    cwb_stream *changes;
    cwb_error error;

    if (stream == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = cwb_read_i16(&stream->symbols, out, count);
    if (error != CWB_OK || !stream->is_changed) {
        return error;
    }
    changes = &stream->changes;
    for (; count > 0; count--, out++) {
        int16_t change = 0;
        int32_t value = *out;

        changes->past = (uint32_t)(value != 0) << STATE | (uint32_t)stream->last << FAR_BIT;
        (void)cwb_read_i16(changes, &change, 1);
        stream->last = (uint8_t)(changes->header >> 15 & ((change < 0 ? -change : change) >> (changes->header >> 4 & 7) != 0));
        value += change;
        if (value > CWB_MAX_SYMBOL || value < -CWB_MAX_SYMBOL) {
            changes->kind = DAMAGED;
            value = 0;
        }
        *out = (int16_t)value;
    }
    return CWB_OK;
}

cwb_error cwb_delta_read_i8(cwb_delta_stream *stream, int8_t *out, size_t count)
{
    int16_t tile[TILE];

    if (stream == NULL || (out == NULL && count > 0) || count > stream->symbols.symbols_left) {
        return CWB_ERR_ARGUMENT;
    }
    while (count > 0) {
        size_t now = count < TILE ? count : TILE;
        size_t i;

        (void)cwb_delta_read_i16(stream, tile, now);
        for (i = 0; i < now; i++) {
            /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): now symbols are left */
            if (tile[i] > INT8_MAX || tile[i] < INT8_MIN) {
                return CWB_ERR_RANGE;
            }
            *out++ = (int8_t)tile[i];
        }
        count -= now;
    }
    return CWB_OK;
}

cwb_error cwb_delta_end(const cwb_delta_stream *stream)
{
    cwb_error error;

    if (stream == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = cwb_end(&stream->symbols);
    return error == CWB_OK && stream->is_changed ? cwb_end(&stream->changes) : error;
}

/* Decodes a changed tensor to `out`, which has room for all of it, and checks whatever can be checked. */
static cwb_error decode_changed(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, void *out, target to)
{
    int16_t tile[TILE];
    cwb_delta_stream stream;
    uint32_t done, now;
    cwb_error error = cwb_delta_begin(tensor, scratch, scratch_bytes, &stream);
#ifndef CWB_NO_CRC
    uint32_t crc;
#endif

    if (error != CWB_OK) {
        return error;
    }
#ifndef CWB_NO_CRC
    crc = CWB_CRC32(0, tensor->changes.payload, (size_t)tensor->changes.payload_size);
    if (has_exponents(&tensor->tensor)) { /* cwb_delta_begin has read them */
        crc = CWB_CRC32(crc, tensor->tensor.payload, (size_t)(read_exponents(&tensor->tensor, NULL) - tensor->tensor.payload));
    }
#endif
    for (done = 0; error == CWB_OK && done < tensor->tensor.count; done += now) {
        int16_t *symbols = tile;

        if (to == TO_I16) {
            symbols = (int16_t *)out + done;
        }
        now = tensor->tensor.count - done < TILE ? tensor->tensor.count - done : TILE;
        (void)cwb_delta_read_i16(&stream, symbols, (size_t)now);
#ifndef CWB_NO_CRC
        crc = crc_of_symbols(crc, symbols, now);
#endif
        error = deliver(&tensor->tensor, symbols, now, out, done, to);
    }
    if (error == CWB_OK) {
        error = cwb_delta_end(&stream);
    }
#ifndef CWB_NO_CRC
    if (error == CWB_OK && crc != tensor->changes.crc) {
        error = CWB_ERR_PAYLOAD_CRC;
    }
#endif
    return error;
}

static cwb_error decode_changed_to(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, void *out,
                                   size_t capacity, target to)
{
    if (tensor == NULL || out == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (!tensor->is_changed) {
        return decode_to(&tensor->tensor, scratch, scratch_bytes, out, capacity, to);
    }
    return capacity < tensor->tensor.count ? CWB_ERR_SPACE : decode_changed(tensor, scratch, scratch_bytes, out, to);
}

cwb_error cwb_delta_check(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes)
{
    if (tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    return tensor->is_changed ? decode_changed(tensor, scratch, scratch_bytes, NULL, NOWHERE)
                              : cwb_check(&tensor->tensor, scratch, scratch_bytes);
}

cwb_error cwb_delta_decode_i16(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, int16_t *out,
                               size_t capacity)
{
    return decode_changed_to(tensor, scratch, scratch_bytes, out, capacity, TO_I16);
}

cwb_error cwb_delta_decode_i8(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, int8_t *out,
                              size_t capacity)
{
    return decode_changed_to(tensor, scratch, scratch_bytes, out, capacity, TO_I8);
}

#ifndef CWB_NO_FLOAT
cwb_error cwb_delta_decode_f32(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, float *out,
                               size_t capacity)
{
    cwb_error error = decode_changed_to(tensor, scratch, scratch_bytes, out, capacity, TO_F32);

    if (error == CWB_OK && has_exponents(&tensor->tensor)) {
        divide_rows(&tensor->tensor, out);
    }
    return error;
}
#endif

/* ---- multiplier --------------------------------------------------------------------------------------------------
 *
 * The multiplier and the shift by which an int8 kernel scales its sums, without float arithmetic.
 */

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

/* ---- errors ------------------------------------------------------------------------------------------------------
 *
 * The error codes in words.
 */

const char *cwb_strerror(cwb_error error)
{
    switch (error) {
    case CWB_OK:
        return "no error";
    case CWB_ERR_MAGIC:
        return "not a .cwb file";
    case CWB_ERR_VERSION:
        return "written in a newer version of the format, or a delta";
    case CWB_ERR_TRUNCATED:
        return "the file is shorter than its header says";
    case CWB_ERR_TRAILING:
        return "the file is longer than its header says";
    case CWB_ERR_HEADER_CRC:
        return "the header or the directory is damaged (CRC)";
    case CWB_ERR_DIRECTORY:
        return "the directory's records do not fit or are out of order";
    case CWB_ERR_LAYOUT:
        return "directory and payloads do not fill the file";
    case CWB_ERR_SHAPE:
        return "dimensions or size of a tensor not allowed";
    case CWB_ERR_NAME:
        return "names of tensors not allowed, or not one for each";
    case CWB_ERR_GRID:
        return "step, exponents or largest symbol of a tensor not allowed";
    case CWB_ERR_PAYLOAD_CRC:
        return "the payload is damaged (CRC)";
    case CWB_ERR_TABLE:
        return "the frequency table is invalid";
    case CWB_ERR_STREAM:
        return "the coded stream is damaged";
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
    case CWB_ERR_BASE:
        return "no delta, or a delta for another base";
    }
    return "unknown error";
}
