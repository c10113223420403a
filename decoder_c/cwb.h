/* SPDX-License-Identifier: Apache-2.0
 *
 * Written by `make amalgamate` from decoder_c/src/: make changes there.
 *
 * cwb: reads .cwb files (docs/format.md, version 2, and version 1) where they lie, in flash or in memory.
 *
 * The library is this header and cwb.c. It allocates nothing, keeps no state of its own, calls no function of
 * the C library and never reads outside the buffers it is given, whatever the file holds. Functions may run in
 * several threads or interrupts at once as long as each has its own cwb_stream and scratch memory.
 *
 * Usual order: cwb_open once; cwb_tensor_at or cwb_find per tensor; then either
 *   - cwb_decode_i16, cwb_decode_i8 or cwb_decode_f32: the whole tensor, verified; or
 *   - cwb_check once (say, at boot), then cwb_begin, cwb_read_i16 or cwb_read_i8 as often as wanted, cwb_end: piece by piece.
 *
 * Every element of a coded tensor is step * q: the float32 step of the tensor times a decoded integer, its symbol. Of a
 * tensor on a trellis (tensor.run > 0), symbols are the values that the coded indices stand for: nothing else differs.
 * The rows of a tensor may have steps of their own (tensor.stepped): see cwb_exponents.
 *
 * Build options, to be defined for cwb.c and for every file that includes this header:
 *   CWB_NO_ANS, CWB_NO_ADAPTIVE  leave out a coder; its tensors give CWB_ERR_KIND
 *   CWB_NO_V1  leave out version 1 of the format; its files give CWB_ERR_VERSION
 *   CWB_NO_TRELLIS  leave out trellis coded tensors; they give CWB_ERR_KIND
 *   CWB_NO_EXPONENTS  leave out tensors whose rows have steps of their own; they give CWB_ERR_KIND. No cwb_exponents
 *   CWB_NO_FLOAT  no float arithmetic: no cwb_decode_f32, no cwb_step
 *   CWB_NO_NAMES  no cwb_find, no cwb_name
 *   CWB_SMALL     leave out the adaptive coder's fast loops: less code, and up to three times as long
 *   CWB_CRC_SLICES  1 or 4: faster CRCs, by tables of 1 or 4 KB in place of 64 bytes
 *   CWB_CRC32     the name of a function of yours, uint32_t name(uint32_t crc, const uint8_t *data, size_t size), that
 *                 computes CRCs in place of a small and slow one: on a CRC unit, say. It returns the CRC-32 (zip, PNG) of
 *                 all bytes whose first ones had the CRC `crc`, 0 if there were none
 *   CWB_NO_CRC    no CRC is computed: damage is only noticed where it breaks a rule of the format, and wrong weights
 *                 may come out of a damaged payload; never a bad access. For storage that has its own checks
 */
#ifndef CWB_H
#define CWB_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CWB_VERSION "0.2.0"  /* of this library */
#define CWB_FORMAT_VERSION 2 /* the newest of the files it reads: others than 1 and 2 are refused */

#define CWB_MAX_RANK 7
#define CWB_MAX_SYMBOL 2047 /* magnitude of a symbol */
#define CWB_MAX_RECORDS UINT32_C(16384)

/* Bytes of scratch memory that decoding takes: an ANS tensor whose largest symbol is given, the same on a trellis, an adaptive
 * tensor. No tensor takes more than CWB_MAX_SCRATCH; cwb_scratch_size tells what one takes. */
#define CWB_ANS_HINTS 128
#define CWB_SCRATCH_ANS(largest) ((6 * ((size_t)(largest) + 1) + CWB_ANS_HINTS) * sizeof(uint16_t))
#define CWB_SCRATCH_TRELLIS(largest) ((6 * ((size_t)(largest) + 2) + 2 * CWB_ANS_HINTS) * sizeof(uint16_t))
#define CWB_SCRATCH_ADAPTIVE ((size_t)152)
#define CWB_MAX_SCRATCH CWB_SCRATCH_TRELLIS(CWB_MAX_SYMBOL)

typedef enum {
    CWB_OK = 0,
    /* The file is not what this library can read. */
    CWB_ERR_MAGIC = -1,     /* not a .cwb file */
    CWB_ERR_VERSION = -2,   /* format version or kind of section unknown: made by a newer writer; or a delta: cwb_delta_open */
    CWB_ERR_TRUNCATED = -3, /* shorter than its header says, or than a header */
    CWB_ERR_TRAILING = -4,  /* longer than its header says */
    /* The file is damaged or was not made by a correct writer. */
    CWB_ERR_HEADER_CRC = -5,  /* of header and directory */
    CWB_ERR_DIRECTORY = -6,   /* too many records, or they do not fill the directory, or stand in the wrong order */
    CWB_ERR_LAYOUT = -7,      /* directory or payloads do not fill the file exactly */
    CWB_ERR_SHAPE = -8,       /* dimensions or size of a tensor */
    CWB_ERR_NAME = -9,        /* a name empty or too long, or not one per tensor */
    CWB_ERR_GRID = -10,       /* step, exponents or largest symbol of a tensor */
    CWB_ERR_PAYLOAD_CRC = -11, /* of a payload and the symbols decoded from it */
    CWB_ERR_TABLE = -12,      /* frequency table of an ANS payload */
    CWB_ERR_STREAM = -13,     /* the coded stream does not end where the tensor does, or leaves its range */
    /* The file is fine, the call is not. */
    CWB_ERR_RANGE = -14,     /* the tensor's symbols do not fit int8 */
    CWB_ERR_SPACE = -15,     /* scratch or output memory too small */
    CWB_ERR_ARGUMENT = -16,  /* null pointer, more symbols read than there are, or end before all were read */
    CWB_ERR_NOT_FOUND = -17, /* no such index, name or section */
    CWB_ERR_KIND = -18,      /* a raw tensor has no symbols to decode: use its payload; or what it needs was left out */
    CWB_ERR_BASE = -19       /* cwb_delta_open only: the file is no delta, or was made for another base */
} cwb_error;

/* One line of English for any value, constant, never null. */
const char *cwb_strerror(cwb_error error);

/* Kinds of tensors, then of sections. Those of sections from 64 on are ancillary: cwb_open skips the ones it does not know, and
 * cwb_section finds any. */
typedef enum {
    CWB_RAW = 0,
    CWB_ANS = 1,
    CWB_ADAPTIVE = 2,
    CWB_GRAPH = 32,
    CWB_METADATA = 33,
    CWB_NAMES = 34,
    CWB_MARGINS = 64 /* see cwb_margin */
} cwb_kind;

/* The order of a coded tensor's symbols, and of all that is decoded from it: row-major, or row-major after one axis has
 * been moved to the end. So OIHW weights come out as OHWI or IHWO, matrices and stacks of matrices transposed. */
typedef enum { CWB_ROW_MAJOR = 0, CWB_AXIS1_LAST = 1, CWB_AXIS0_LAST = 2, CWB_LAST_TWO_SWAPPED = 3 } cwb_order;

/* Numbered as ONNX TensorProto.DataType. */
typedef enum { CWB_FLOAT32 = 1, CWB_FLOAT16 = 10, CWB_FLOAT64 = 11, CWB_BFLOAT16 = 16 } cwb_type;

/* An open file. It points into the caller's bytes, which must stay where they are, unchanged. */
typedef struct {
    const uint8_t *data;
    uint32_t size;      /* bytes */
    uint32_t directory; /* bytes */
    uint16_t records;   /* tensors and sections */
    uint16_t tensors;
    uint8_t version;    /* of the format */
} cwb_file;

/* A tensor's entry in the directory. Pointers point into the file. */
typedef struct {
    uint8_t kind;           /* cwb_kind: CWB_RAW, CWB_ANS or CWB_ADAPTIVE */
    uint8_t type;           /* cwb_type of the decoded elements */
    uint8_t order;          /* cwb_order of the decoded elements; raw: CWB_ROW_MAJOR */
    uint8_t rank;
    uint8_t version;        /* of the format of the file */
    uint8_t stepped;        /* coded: do its rows have steps of their own? cwb_exponents reads them */
    uint16_t largest;       /* coded: no symbol is larger than this, or less than minus this; raw: 0 */
    const uint8_t *payload; /* raw tensors: the elements, little-endian, row-major, of any alignment */
    uint32_t payload_size;  /* bytes */
    uint32_t crc;           /* CRC-32 of the payload; coded: of the payload and of the symbols as little-endian int16 behind it */
    const uint8_t *shape;   /* the dimensions as they stand in the directory: cwb_shape reads them */
    uint32_t count;         /* elements: the product of the dimensions */
    uint32_t step_bits;     /* coded: the IEEE 754 bits of the float32 step; stepped: of a row whose exponent is 0 */
    uint32_t run;           /* coded: elements between two restarts of the trellis; 0 if it is on none */
} cwb_tensor;

/* Opens the `size` bytes at `data`, of any alignment, without copying them. Checks the header, the directory
 * and their CRC, once; payloads are checked when they are decoded. Time: one pass over the directory. On error *file must not be used. */
cwb_error cwb_open(cwb_file *file, const void *data, size_t size);

/* Tensor number `index` (0 <= index < file->tensors), in the order of the directory, or CWB_ERR_NOT_FOUND. */
cwb_error cwb_tensor_at(const cwb_file *file, uint32_t index, cwb_tensor *tensor);

/* The dimensions of a tensor: the first tensor->rank are set, the others are 0. */
void cwb_shape(const cwb_tensor *tensor, uint32_t dims[CWB_MAX_RANK]);

#ifndef CWB_NO_NAMES
/* The first tensor of that name (`name_length` bytes, no NUL needed), or CWB_ERR_NOT_FOUND, as in any file without a section of
 * names: there use the index. Checks the whole section: CWB_ERR_NAME, CWB_ERR_PAYLOAD_CRC. */
cwb_error cwb_find(const cwb_file *file, const char *name, size_t name_length, cwb_tensor *tensor);

/* The name of tensor number `index`: bytes in the file, UTF-8 if its writer kept to the format, NOT terminated by a NUL. Errors
 * as above. */
cwb_error cwb_name(const cwb_file *file, uint32_t index, const char **name, size_t *name_length);
#endif

/* The payload of a section (CWB_GRAPH ...), its CRC checked: CWB_ERR_NOT_FOUND, CWB_ERR_PAYLOAD_CRC. */
cwb_error cwb_section(const cwb_file *file, cwb_kind kind, const uint8_t **data, uint32_t *size);

/* For decoding tensor number `index` in place, to int8. A copy of its payload stands at the end of a buffer of
 * tensor.count + *margin bytes, tensor.payload is made to point to that copy, and symbols are written from the start of
 * the buffer: by cwb_decode_i8, or by cwb_read_i8 in pieces of any size. No byte is then overwritten before it is read.
 * (The margin is exact for pieces of one symbol.) CWB_ERR_NOT_FOUND if the file has no margins or the tensor is raw;
 * CWB_ERR_PAYLOAD_CRC, CWB_ERR_LAYOUT if the margins are damaged, or the buffer would not hold the payload. */
cwb_error cwb_margin(const cwb_file *file, uint32_t index, uint32_t *margin);

/* Bytes of scratch memory that decoding this tensor takes; 0 for a raw tensor. */
size_t cwb_scratch_size(const cwb_tensor *tensor);

/* Checks a tensor completely without writing it anywhere. Raw: the payload's CRC (scratch may be null).
 * Coded: the model, the end of the stream, and the CRC of payload and symbols. */
cwb_error cwb_check(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes);

/* Decode the whole of a coded tensor: `tensor->count` elements in the tensor's order, and everything cwb_check checks.
 * `capacity` is the room at `out` in elements. If the result is not CWB_OK, `out` may hold garbage: do not use it.
 *   CWB_ERR_KIND   the tensor is raw, or its coder was left out
 *   CWB_ERR_SPACE  scratch_bytes < cwb_scratch_size(tensor) or capacity < tensor->count; nothing was written
 *   CWB_ERR_RANGE  cwb_decode_i8 only: a symbol is 128 or more; nothing was written if tensor->largest is more than 128
 *   CWB_ERR_PAYLOAD_CRC, _TABLE, _STREAM  the file is damaged */
cwb_error cwb_decode_i16(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, int16_t *out,
                         size_t capacity);
cwb_error cwb_decode_i8(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, int8_t *out,
                        size_t capacity);
#ifndef CWB_NO_FLOAT
cwb_error cwb_decode_f32(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, float *out,
                         size_t capacity);

/* The step of a coded tensor; stepped: of a row whose exponent is 0. */
float cwb_step(const cwb_tensor *tensor);
#endif

#ifndef CWB_NO_EXPONENTS
/* The exponents of the rows of a coded tensor, 0 to 31, all 0 unless tensor.stepped: the step of a row is step * 2^-exponent,
 * and its bits are tensor.step_bits - ((uint32_t)exponent << 23). Rows are the runs of the trellis, count / run of them, in
 * decoded order; on none (run = 0), row i is what has the index i on axis 0. They stand in the payload, which decoding in
 * place overwrites. CWB_ERR_KIND, CWB_ERR_SPACE if there are more than `capacity`, CWB_ERR_GRID if they are damaged. */
cwb_error cwb_exponents(const cwb_tensor *tensor, int8_t *out, size_t capacity);
#endif

/* A tensor being decoded piece by piece. All members are private. (Bytes first: Thumb has short instructions for near ones.) */
typedef struct {
    uint8_t kind;
    uint8_t plain;     /* on no trellis */
    uint8_t version;   /* of the format: it says which trellis */
    uint8_t rate;      /* adaptive: of learning, a shift */
    uint8_t left;      /* adaptive: the sign of the last element */
    uint8_t rows;      /* adaptive: of those whose signs depend on each other, until a new block begins */
    uint8_t rows_left;
    uint16_t header;    /* adaptive: of the payload */
    uint16_t reach;     /* no magnitude that is coded is larger */
    uint16_t rate_left; /* adaptive: symbols until learning slows down */
    const uint8_t *next; /* bytes of the payload not yet read */
    const uint8_t *end;
    uint16_t *scratch;
    uint32_t state; /* ANS: its state; adaptive: the code register */
    uint32_t range; /* adaptive */
    uint32_t past;  /* state of the trellis, and the context */
    uint32_t signs; /* adaptive: of the elements before; or the probability that a symbol is positive, of 32 */
    uint32_t unit;  /* adaptive: of the last element in `signs`; 0 if signs do not depend on those of neighbours */
    uint32_t symbols_left;
    uint32_t run; /* of a trellis, and what is left of it */
    uint32_t run_left;
} cwb_stream;

/* Starts decoding a coded tensor: CWB_ERR_KIND, _SPACE, _TABLE, _STREAM. The scratch memory belongs to *stream until
 * cwb_end; nothing needs to be released if decoding is given up. No CRC is checked: call cwb_check beforehand. A
 * damaged payload then gives wrong symbols, all of them within the tensor's range, but never a bad access. */
cwb_error cwb_begin(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, cwb_stream *stream);

/* Writes the next `count` symbols to `out`. CWB_ERR_ARGUMENT if fewer are left; then nothing was written. */
cwb_error cwb_read_i16(cwb_stream *stream, int16_t *out, size_t count);

/* The same to int8. CWB_ERR_RANGE if a symbol is 128 or more; if the tensor's largest is more than 128, nothing was read. */
cwb_error cwb_read_i8(cwb_stream *stream, int8_t *out, size_t count);

/* Tells whether the stream ended where the tensor did. CWB_ERR_ARGUMENT if symbols were left unread,
 * CWB_ERR_STREAM if the payload is damaged. */
cwb_error cwb_end(const cwb_stream *stream);

/* Deltas: files that say how the tensors of another file, their base, change. Both are read side by side, where they lie. Of what
 * stands above, these functions do the same, over both files; names and tensors are those of the base, in its order. */

/* An open delta. All members are private. */
typedef struct {
    cwb_file file;
    cwb_file base;
} cwb_delta;

/* A tensor of a delta: `tensor` tells its shape, order, type and step, and those of a raw one are its payload; but if `is_changed`,
 * its symbols are the sums of those of `tensor`, which is the base's, and of changes, and may exceed tensor.largest. */
typedef struct {
    cwb_tensor tensor;
    cwb_tensor changes; /* private */
    uint8_t is_changed;
} cwb_changed;

/* Opens a delta over its base, an open file. Errors are those of cwb_open, and CWB_ERR_BASE if it is none, or has another base. */
cwb_error cwb_delta_open(cwb_delta *delta, const void *data, size_t size, const cwb_file *base);

/* Tensor number `index`, or CWB_ERR_NOT_FOUND. */
cwb_error cwb_delta_tensor_at(const cwb_delta *delta, uint32_t index, cwb_changed *tensor);
#ifndef CWB_NO_NAMES
cwb_error cwb_delta_find(const cwb_delta *delta, const char *name, size_t name_length, cwb_changed *tensor);
#endif

/* As the functions without `delta_`. CWB_MAX_SCRATCH + CWB_SCRATCH_ADAPTIVE is enough for all tensors. That a symbol does not fit int8
 * is known only when it is read. cwb_delta_check tells damage of the base too. */
size_t cwb_delta_scratch_size(const cwb_changed *tensor);
cwb_error cwb_delta_check(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes);
cwb_error cwb_delta_decode_i16(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, int16_t *out,
                               size_t capacity);
cwb_error cwb_delta_decode_i8(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, int8_t *out,
                              size_t capacity);
#ifndef CWB_NO_FLOAT
cwb_error cwb_delta_decode_f32(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, float *out,
                               size_t capacity);
#endif

/* A tensor of a delta being decoded piece by piece. All members are private. */
typedef struct {
    cwb_stream symbols;
    cwb_stream changes;
    uint8_t is_changed;
    uint8_t last; /* was the last change far from 0? */
} cwb_delta_stream;

cwb_error cwb_delta_begin(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, cwb_delta_stream *stream);
cwb_error cwb_delta_read_i16(cwb_delta_stream *stream, int16_t *out, size_t count);
cwb_error cwb_delta_read_i8(cwb_delta_stream *stream, int8_t *out, size_t count);
cwb_error cwb_delta_end(const cwb_delta_stream *stream);

/* How an int8 kernel scales its sums: input scale * step / output scale, given as the IEEE 754 bits of float32 numbers
 * (tensor.step_bits is one), is *multiplier * 2^(*shift - 31) with 2^30 <= *multiplier < 2^31, as CMSIS-NN and TensorFlow
 * Lite Micro take it. Rounded to nearest, halves up; 0 and 0 for scales below 2^-32. No float arithmetic.
 * CWB_ERR_ARGUMENT if one of them is not positive and finite, CWB_ERR_RANGE if the scale is 2^30 or more. */
cwb_error cwb_multiplier(uint32_t step_bits, uint32_t input_bits, uint32_t output_bits, int32_t *multiplier,
                         int32_t *shift);

#ifdef __cplusplus
}
#endif

#endif
