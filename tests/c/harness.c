/* SPDX-License-Identifier: Apache-2.0
 *
 * Drives the decoder for test_decoder_c.py. Files are held in malloced memory of their exact size and at an odd
 * address, scratch and output likewise, so that the sanitizers see every byte that is read or written out of place.
 */
#include "cwb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition)                                                     \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            exit(99);                                                          \
        }                                                                      \
    } while (0)

typedef struct {
    unsigned char *memory;
    unsigned char *data;
    size_t size;
} buffer;

static void *allocate(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);

    REQUIRE(memory != NULL);
    return memory;
}

static buffer make_buffer(size_t size)
{
    buffer made;

    made.memory = allocate(size + 1);
    made.data = made.memory + 1;
    made.size = size;
    return made;
}

static buffer copy_of(const unsigned char *data, size_t size)
{
    buffer made = make_buffer(size);

    memcpy(made.data, data, size);
    return made;
}

static buffer read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    buffer made;
    long size;

    REQUIRE(file != NULL);
    REQUIRE(fseek(file, 0, SEEK_END) == 0);
    size = ftell(file);
    rewind(file);
    made = make_buffer((size_t)size);
    REQUIRE(fread(made.data, 1, made.size, file) == made.size);
    fclose(file);
    return made;
}

/* Bit by bit, unlike the decoder's. */
static uint32_t crc32_more(uint32_t crc, const unsigned char *data, size_t size)
{
    int bit;

    crc = ~crc;
    while (size-- > 0) {
        crc ^= *data++;
        for (bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0);
        }
    }
    return ~crc;
}

static uint32_t crc32_of(const unsigned char *data, size_t size)
{
    return crc32_more(0, data, size);
}

#ifdef CWB_CRC32
uint32_t CWB_CRC32(uint32_t crc, const uint8_t *data, size_t size)
{
    return crc32_more(crc, data, size);
}
#endif

static void put_u32(unsigned char *p, uint32_t value)
{
    int i;

    for (i = 0; i < 4; i++) {
        p[i] = (unsigned char)(value >> (8 * i));
    }
}

static uint32_t get_u32(const unsigned char *p)
{
    return p[0] | ((uint32_t)p[1] << 8) | ((uint32_t)p[2] << 16) | ((uint32_t)p[3] << 24);
}

/* The first error of a complete check of the file. */
static cwb_error check_all(const unsigned char *data, size_t size)
{
    static const cwb_kind sections[2] = {CWB_GRAPH, CWB_METADATA};
#ifndef CWB_NO_NAMES
    const char *name;
    size_t length;
#endif
    cwb_file file;
    cwb_error error = cwb_open(&file, data, size);
    uint32_t i;

    for (i = 0; i < 2 && error == CWB_OK; i++) {
        const uint8_t *payload;
        uint32_t payload_size;

        error = cwb_section(&file, sections[i], &payload, &payload_size);
        if (error == CWB_ERR_NOT_FOUND) {
            error = CWB_OK;
        }
    }
    for (i = 0; error == CWB_OK && i < file.tensors; i++) {
        cwb_tensor tensor;
        uint16_t *scratch;

        REQUIRE(cwb_tensor_at(&file, i, &tensor) == CWB_OK);
#ifndef CWB_NO_NAMES
        error = cwb_name(&file, i, &name, &length);
        if (error != CWB_OK && error != CWB_ERR_NOT_FOUND) {
            return error;
        }
#endif
        scratch = allocate(cwb_scratch_size(&tensor));
        error = cwb_check(&tensor, scratch, cwb_scratch_size(&tensor));
        free(scratch);
    }
    return error;
}

/* status FILE...: the first error of each, one number per line */
static void status(int count, char **paths)
{
    while (count-- > 0) {
        buffer file = read_file(*paths++);

        printf("%d\n", (int)check_all(file.data, file.size));
        free(file.memory);
    }
}

/* Do the symbols fit int8? */
static int fits_i8(const cwb_tensor *tensor, const int16_t *symbols)
{
    uint32_t i;

    for (i = 0; i < tensor->count; i++) {
        if (symbols[i] > 127 || symbols[i] < -128) {
            return 0;
        }
    }
    return tensor->largest <= 128;
}

static size_t least_scratch(const cwb_tensor *tensor)
{
    return tensor->run > 0 ? CWB_SCRATCH_TRELLIS(tensor->largest) : CWB_SCRATCH_ANS(tensor->largest);
}

/* Reads k symbols at a time, as int16 and, where they fit, as int8 in every other read. */
static void stream(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_size, const int16_t *whole, size_t k)
{
    int16_t *out = allocate(k * sizeof *out);
    int8_t *narrow = allocate(k);
    cwb_stream ans;
    size_t done = 0, i;
    int turn = 0, fits = fits_i8(tensor, whole);

    REQUIRE(cwb_begin(tensor, scratch, scratch_size, &ans) == CWB_OK);
    while (done < tensor->count) {
        size_t now = tensor->count - done < k ? tensor->count - done : k;

        REQUIRE(cwb_end(&ans) == CWB_ERR_ARGUMENT);
        if (turn++ % 2 == 1 && fits) {
            REQUIRE(cwb_read_i8(&ans, narrow, now) == CWB_OK);
            for (i = 0; i < now; i++) {
                REQUIRE(narrow[i] == whole[done + i]);
            }
        } else {
            REQUIRE(tensor->largest <= 128 || cwb_read_i8(&ans, narrow, now) == CWB_ERR_RANGE);
            REQUIRE(cwb_read_i16(&ans, out, now) == CWB_OK);
            REQUIRE(memcmp(out, whole + done, now * sizeof *out) == 0);
        }
        done += now;
    }
    REQUIRE(cwb_read_i16(&ans, out, 0) == CWB_OK);
    REQUIRE(cwb_read_i16(&ans, out, 1) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_read_i8(&ans, narrow, 1) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_end(&ans) == CWB_OK);
    free(narrow);
    free(out);
    if (tensor->largest == 128 && !fits) { /* -128 would be all right, so only reading tells */
        narrow = allocate(tensor->count);
        REQUIRE(cwb_begin(tensor, scratch, scratch_size, &ans) == CWB_OK);
        REQUIRE(cwb_read_i8(&ans, narrow, tensor->count) == CWB_ERR_RANGE);
        free(narrow);
    }
}

/* A tensor whose coder was left out. */
static void refuse(const cwb_tensor *tensor)
{
    cwb_stream ans;
    uint16_t scratch[1];
    int16_t symbols[1];
    int8_t narrow[1];

    REQUIRE(cwb_scratch_size(tensor) == 0);
    REQUIRE(cwb_check(tensor, scratch, sizeof scratch) == CWB_ERR_KIND);
    REQUIRE(cwb_begin(tensor, scratch, sizeof scratch, &ans) == CWB_ERR_KIND);
    REQUIRE(cwb_decode_i16(tensor, scratch, sizeof scratch, symbols, 1) == CWB_ERR_KIND);
    REQUIRE(cwb_decode_i8(tensor, scratch, sizeof scratch, narrow, 1) == CWB_ERR_KIND);
}

static int left_out(const cwb_tensor *tensor)
{
#ifdef CWB_NO_ANS
    if (tensor->kind == CWB_ANS) {
        return 1;
    }
#endif
#ifdef CWB_NO_ADAPTIVE
    if (tensor->kind == CWB_ADAPTIVE) {
        return 1;
    }
#endif
#ifdef CWB_NO_TRELLIS
    if (tensor->run > 0) {
        return 1;
    }
#endif
#ifdef CWB_NO_EXPONENTS
    if (tensor->stepped) {
        return 1;
    }
#endif
    (void)tensor;
    return 0;
}

#ifndef CWB_NO_EXPONENTS
/* The number of rows of a tensor. */
static size_t rows_of(const cwb_tensor *tensor)
{
    uint32_t dims[CWB_MAX_RANK];

    cwb_shape(tensor, dims);
    return tensor->run > 0 ? tensor->count / tensor->run : tensor->rank > 0 ? dims[0] : 1;
}
#endif

/* The exponent of each element; all 0 if there are none. */
static int8_t *exponents(const cwb_tensor *tensor)
{
    int8_t *out = allocate(tensor->count);
    size_t i;
#ifdef CWB_NO_EXPONENTS
    for (i = 0; i < tensor->count; i++) {
        out[i] = 0;
    }
#else
    size_t rows = rows_of(tensor);
    int8_t *found = allocate(rows);

    REQUIRE(cwb_exponents(tensor, found, rows - 1) == CWB_ERR_SPACE);
    REQUIRE(cwb_exponents(tensor, found, rows) == CWB_OK);
    for (i = 0; i < tensor->count; i++) {
        out[i] = found[tensor->run > 0 ? i / tensor->run : i % rows];
        REQUIRE(tensor->stepped || out[i] == 0);
    }
    free(found);
#endif
    return out;
}

static void dump_ans(const cwb_tensor *tensor, FILE *out)
{
    size_t scratch_size = cwb_scratch_size(tensor), n = tensor->count;
    uint16_t *scratch = allocate(scratch_size);
    int16_t *symbols = allocate(n * sizeof *symbols);
    int8_t *narrow = allocate(n);
    int fits;
    cwb_stream ans;
    size_t i;
#ifndef CWB_NO_FLOAT
    float *floats = allocate(n * sizeof *floats);
#endif
    int8_t *rows = exponents(tensor);

    REQUIRE(scratch_size == (tensor->kind == CWB_ANS ? least_scratch(tensor) : CWB_SCRATCH_ADAPTIVE));
    REQUIRE(cwb_check(tensor, scratch, scratch_size - 1) == CWB_ERR_SPACE);
    REQUIRE(cwb_check(tensor, NULL, 0) == CWB_ERR_SPACE);
    REQUIRE(cwb_begin(tensor, scratch, scratch_size - 1, &ans) == CWB_ERR_SPACE);
    REQUIRE(cwb_begin(tensor, NULL, scratch_size, &ans) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_decode_i16(tensor, scratch, scratch_size - 1, symbols, n) == CWB_ERR_SPACE);
    REQUIRE(cwb_decode_i16(tensor, scratch, scratch_size, symbols, n - 1) == CWB_ERR_SPACE);
    REQUIRE(cwb_decode_i16(tensor, scratch, scratch_size, NULL, n) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_decode_i16(tensor, scratch, scratch_size, symbols, n) == CWB_OK);
    fits = fits_i8(tensor, symbols);
    REQUIRE(cwb_check(tensor, scratch, scratch_size) == CWB_OK);

    stream(tensor, scratch, scratch_size, symbols, 1);
    stream(tensor, scratch, scratch_size, symbols, 2);
    stream(tensor, scratch, scratch_size, symbols, 7);
    stream(tensor, scratch, scratch_size, symbols, n);

    REQUIRE(cwb_decode_i8(tensor, scratch, scratch_size, narrow, n) == (fits ? CWB_OK : CWB_ERR_RANGE));
    for (i = 0; i < n; i++) {
        unsigned char bytes[2];

        REQUIRE(!fits || narrow[i] == symbols[i]);
        bytes[0] = (unsigned char)((uint16_t)symbols[i] & 0xFF);
        bytes[1] = (unsigned char)((uint16_t)symbols[i] >> 8);
        REQUIRE(fwrite(bytes, 1, 2, out) == 2);
    }
#ifndef CWB_NO_FLOAT
    REQUIRE(cwb_decode_f32(tensor, scratch, scratch_size, floats, n - 1) == CWB_ERR_SPACE);
    REQUIRE(cwb_decode_f32(tensor, scratch, scratch_size, floats, n) == CWB_OK);
    for (i = 0; i < n; i++) {
        union {
            float value;
            uint32_t bits;
        } element;
        unsigned char bytes[4];

        element.value = floats[i];
        put_u32(bytes, element.bits);
        REQUIRE(element.value == cwb_step(tensor) / (float)(UINT32_C(1) << rows[i]) * (float)symbols[i]);
        REQUIRE(fwrite(bytes, 1, 4, out) == 4);
    }
    free(floats);
#endif
    free(rows);
    free(narrow);
    free(symbols);
    free(scratch);
}

/* dump FILE OUT: one line per tensor on stdout; symbols (and floats), or raw payloads, in OUT */
static void dump(const char *path, const char *out_path)
{
    buffer data = read_file(path);
    FILE *out = fopen(out_path, "wb");
    cwb_file file;
    cwb_tensor tensor;
    uint32_t i, dims[CWB_MAX_RANK];
    int axis;
#ifndef CWB_NO_NAMES
    cwb_tensor found;
    const char *name = "";
    size_t length = 0;
    const uint8_t *names;
    uint32_t bytes;
    int named;
#endif

    REQUIRE(out != NULL);
    REQUIRE(cwb_open(&file, data.data, data.size) == CWB_OK);
    REQUIRE(cwb_tensor_at(&file, file.tensors, &tensor) == CWB_ERR_NOT_FOUND);
#ifndef CWB_NO_NAMES
    REQUIRE(cwb_find(&file, "no such name", 12, &tensor) == CWB_ERR_NOT_FOUND);
    REQUIRE(cwb_find(&file, "", 0, &tensor) == CWB_ERR_NOT_FOUND);
    named = cwb_section(&file, CWB_NAMES, &names, &bytes) == CWB_OK;
#endif
    for (i = 0; i < file.tensors; i++) {
        REQUIRE(cwb_tensor_at(&file, i, &tensor) == CWB_OK);
#ifndef CWB_NO_NAMES
        REQUIRE(cwb_name(&file, i, &name, &length) == (named ? CWB_OK : CWB_ERR_NOT_FOUND));
        REQUIRE(!named || cwb_find(&file, name, length, &found) == CWB_OK);
        found = named ? found : tensor;
        REQUIRE(found.shape == tensor.shape && found.payload == tensor.payload && found.count == tensor.count);
#endif
        printf("%d %d %lu %d %lu %08lx", tensor.kind, tensor.type, (unsigned long)tensor.count, tensor.largest,
               (unsigned long)tensor.step_bits, (unsigned long)tensor.crc);
        cwb_shape(&tensor, dims);
        for (axis = 0; axis < CWB_MAX_RANK; axis++) {
            REQUIRE(axis < tensor.rank || dims[axis] == 0);
            if (axis < tensor.rank) {
                printf(" %lu", (unsigned long)dims[axis]);
            }
        }
#ifndef CWB_NO_NAMES
        printf(" %.*s\n", (int)length, name);
#else
        printf(" \n");
#endif
        if (left_out(&tensor)) {
            refuse(&tensor);
        } else if (tensor.kind != CWB_RAW) {
            dump_ans(&tensor, out);
        } else {
            int16_t unused16;
            int8_t unused8;
            uint16_t scratch = 0;
            cwb_stream ans;

            REQUIRE(cwb_scratch_size(&tensor) == 0);
            REQUIRE(cwb_check(&tensor, NULL, 0) == CWB_OK);
            REQUIRE(cwb_begin(&tensor, &scratch, sizeof scratch, &ans) == CWB_ERR_KIND);
            REQUIRE(cwb_decode_i16(&tensor, &scratch, sizeof scratch, &unused16, 1) == CWB_ERR_KIND);
            REQUIRE(cwb_decode_i8(&tensor, &scratch, sizeof scratch, &unused8, 1) == CWB_ERR_KIND);
            REQUIRE(fwrite(tensor.payload, 1, tensor.payload_size, out) == tensor.payload_size);
        }
    }
    REQUIRE(fclose(out) == 0);
    free(data.memory);
}

/* cuts FILE: every shorter length, and one byte more, must be refused; prints how many were tried */
static void cuts(const char *path)
{
    buffer file = read_file(path), longer = make_buffer(file.size + 1);
    size_t size;

    REQUIRE(check_all(file.data, file.size) == CWB_OK);
    for (size = 0; size < file.size; size++) {
        buffer cut = copy_of(file.data, size);

        REQUIRE(check_all(cut.data, cut.size) == CWB_ERR_TRUNCATED);
        free(cut.memory);
    }
    memcpy(longer.data, file.data, file.size);
    longer.data[file.size] = 0;
    REQUIRE(check_all(longer.data, longer.size) == CWB_ERR_TRAILING);
    printf("%lu\n", (unsigned long)size + 1);
    free(longer.memory);
    free(file.memory);
}

/* flips FILE: every single flipped bit must be refused; prints how many were tried */
static void flips(const char *path)
{
    buffer file = read_file(path);
    size_t bit;

    for (bit = 0; bit < 8 * file.size; bit++) {
        unsigned char mask = (unsigned char)(1u << (bit % 8));
        cwb_error error;

        file.data[bit / 8] ^= mask;
        error = check_all(file.data, file.size);
        if (error >= CWB_OK) {
            fprintf(stderr, "byte %lu bit %lu: not noticed\n", (unsigned long)(bit / 8), (unsigned long)(bit % 8));
            exit(99);
        }
        file.data[bit / 8] ^= mask;
    }
    REQUIRE(check_all(file.data, file.size) == CWB_OK);
    printf("%lu\n", (unsigned long)bit);
    free(file.memory);
}

/* Decodes what it can of a tensor whose payload may be damaged. Symbols must stay in their range. */
static void try_stream(const cwb_tensor *tensor)
{
    uint16_t *scratch = allocate(cwb_scratch_size(tensor));
    uint32_t left = tensor->count < 2000 ? tensor->count : 2000;
    cwb_stream ans;

    if (cwb_begin(tensor, scratch, cwb_scratch_size(tensor), &ans) == CWB_OK) {
        while (left-- > 0) {
            int16_t symbol;

            REQUIRE(cwb_read_i16(&ans, &symbol, 1) == CWB_OK);
            REQUIRE(symbol >= -(int)tensor->largest && symbol <= (int)tensor->largest);
        }
        cwb_end(&ans);
    }
    free(scratch);
}

/* fuzz FILE SEED ROUNDS: random damage with the CRCs of header and directory made right again; prints how many of the
 * damaged files still open */
static void fuzz(const char *path, uint32_t seed, long rounds)
{
    buffer file = read_file(path);
    uint32_t random = seed;
    long opened = 0;

#define RANDOM(bound) (random = random * 1664525u + 1013904223u, (random >> 8) % (uint32_t)(bound))
    while (rounds-- > 0) {
        buffer copy = copy_of(file.data, file.size);
        uint32_t damages = 1 + RANDOM(3), i;
        uint32_t directory;
        cwb_file opened_file;

        while (damages-- > 0) {
            uint32_t place = 6 + RANDOM(copy.size - 6);

            copy.data[place] = RANDOM(2) ? (unsigned char)RANDOM(256) : (unsigned char)(copy.data[place] + 1);
        }
        directory = get_u32(copy.data + 8);
        if (directory <= copy.size - 20) {
            put_u32(copy.data + 16, crc32_more(crc32_of(copy.data, 16), copy.data + 20, directory));
        }
        if (cwb_open(&opened_file, copy.data, copy.size) == CWB_OK) {
            opened++;
            for (i = 0; i < opened_file.tensors; i++) {
                cwb_tensor tensor;

                REQUIRE(cwb_tensor_at(&opened_file, i, &tensor) == CWB_OK);
                REQUIRE(tensor.payload >= copy.data + 20 && tensor.payload <= copy.data + copy.size);
                REQUIRE(tensor.payload_size <= (size_t)(copy.data + copy.size - tensor.payload));
                if (tensor.kind != CWB_RAW && !left_out(&tensor)) {
                    try_stream(&tensor);
                }
            }
        }
        free(copy.memory);
    }
    printf("%ld\n", opened);
    free(file.memory);
}

/* misuse FILE: null pointers and the like, on a file that is fine */
static void misuse(const char *path)
{
    buffer data = read_file(path);
    const uint8_t *payload;
    uint32_t size;
    cwb_file file;
    cwb_tensor tensor;
    cwb_stream ans;
    int code;

    REQUIRE(cwb_open(NULL, data.data, data.size) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_open(&file, NULL, 1) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_open(&file, NULL, 0) == CWB_ERR_TRUNCATED);
    REQUIRE(cwb_open(&file, data.data, data.size) == CWB_OK);
    REQUIRE(cwb_tensor_at(NULL, 0, &tensor) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_tensor_at(&file, 0, NULL) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_tensor_at(&file, 0xFFFFFFFFu, &tensor) == CWB_ERR_NOT_FOUND);
#ifndef CWB_NO_NAMES
    REQUIRE(cwb_find(&file, NULL, 1, &tensor) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_find(&file, "x", (size_t)-1, &tensor) == CWB_ERR_NOT_FOUND);
    REQUIRE(cwb_find(&file, "r", 1, &tensor) == CWB_OK);
    if ((size_t)-1 > 0xFFFFFFFFu) {
        REQUIRE(cwb_find(&file, "r", (size_t)-1 - 0xFFFFFFFFu + 1, &tensor) == CWB_ERR_NOT_FOUND);
    }
#endif
    REQUIRE(cwb_section(&file, CWB_RAW, &payload, &size) == CWB_ERR_NOT_FOUND);
    REQUIRE(cwb_section(&file, CWB_GRAPH, NULL, &size) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_section(&file, CWB_GRAPH, &payload, &size) == CWB_OK);
    REQUIRE(size == 5 && memcmp(payload, "graph", 5) == 0);
    REQUIRE(cwb_section(&file, CWB_METADATA, &payload, &size) == CWB_OK);
    REQUIRE(size == 0 && payload < data.data + data.size);
    REQUIRE(cwb_check(NULL, NULL, 0) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_begin(NULL, NULL, 0, &ans) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_read_i16(NULL, NULL, 0) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_read_i8(NULL, NULL, 0) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_end(NULL) == CWB_ERR_ARGUMENT);
    REQUIRE(cwb_scratch_size(NULL) == 0);
    for (code = 0; code >= -30; code--) {
        REQUIRE(cwb_strerror((cwb_error)code)[0] != '\0');
        REQUIRE((code >= CWB_ERR_BASE) == (strcmp(cwb_strerror((cwb_error)code), "unknown error") != 0));
    }
    free(data.memory);
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";

    if (strcmp(command, "status") == 0) {
        status(argc - 2, argv + 2);
    } else if (strcmp(command, "dump") == 0 && argc == 4) {
        dump(argv[2], argv[3]);
    } else if (strcmp(command, "cuts") == 0 && argc == 3) {
        cuts(argv[2]);
    } else if (strcmp(command, "flips") == 0 && argc == 3) {
        flips(argv[2]);
    } else if (strcmp(command, "fuzz") == 0 && argc == 5) {
        fuzz(argv[2], (uint32_t)strtoul(argv[3], NULL, 10), strtol(argv[4], NULL, 10));
    } else if (strcmp(command, "misuse") == 0 && argc == 3) {
        misuse(argv[2]);
    } else {
        fprintf(stderr, "unknown command\n");
        return 2;
    }
    return 0;
}
