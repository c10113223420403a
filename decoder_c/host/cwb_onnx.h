/* SPDX-License-Identifier: Apache-2.0
 *
 * cwb_onnx: turns a whole .cwb file into what a runtime loads: the bytes of an ONNX model, or a graph with its weights apart.
 *
 * For hosts: browsers, phones, desktops. The library is cwb_onnx.c, the other cwb_onnx_*.c, cwb_pack.c and cwb.c. Of the C library
 * it calls malloc, free, memcpy, memset, memcmp and strlen only. It trusts nothing in the file: memory is bounded by the limits of
 * docs/format.md, and each failure is a code with a text. What comes out is what the Python package writes, byte for byte.
 *
 * A whole model, its tensors decoded one after the other:
 *
 *     cwb_onnx *model;
 *     int error = cwb_onnx_open(&model, file, size, NULL, 0);
 *     if (error == CWB_OK) {
 *         size_t room = cwb_onnx_size(model);
 *         void *bytes = malloc(room);
 *         error = bytes == NULL ? CWB_ONNX_ERR_MEMORY : cwb_onnx_bytes(model, bytes, room);
 *         cwb_onnx_close(model);
 *     }
 *
 * The same in parallel: cwb_onnx_frame writes all but the elements of tensors, and cwb_onnx_decode those of one tensor, at the
 * offset where they belong: any number of threads may decode at once.
 *
 * The weights apart: cwb_onnx_apart, then cwb_onnx_bytes for the graph, and cwb_onnx_decode for each tensor that is apart.
 */
#ifndef CWB_ONNX_H
#define CWB_ONNX_H

#include "cwb.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Beside those of cwb_error. */
enum {
    CWB_ONNX_ERR_MEMORY = -64,    /* malloc gave none */
    CWB_ONNX_ERR_PACKED = -65,    /* the graph section cannot be unpacked */
    CWB_ONNX_ERR_MODEL = -66,     /* the graph section is not an ONNX model, or a string in it is not UTF-8 */
    CWB_ONNX_ERR_TENSORS = -67,   /* the graph section does not fit the tensors */
    CWB_ONNX_ERR_REFERENCE = -68, /* the graph section refers to a name that it does not have */
    CWB_ONNX_ERR_OUTSIDE = -69,   /* the graph section refers to data outside the file */
    CWB_ONNX_ERR_LIMIT = -70,     /* the file would become larger than the format allows */
    CWB_ONNX_ERR_NO_GRAPH = -71,  /* the file holds weights only */
    CWB_ONNX_ERR_LARGE = -72      /* the model exceeds protobuf's limit of 2 GB, or the memory's: put tensors apart */
};

/* One line of English for what any function below returns, constant, never null. */
const char *cwb_onnx_strerror(int error);

/* An open file. */
typedef struct cwb_onnx cwb_onnx;

/* Pointers stay as they are until cwb_onnx_close. */
typedef struct {
    const char *name;    /* UTF-8; a NUL follows, which name_length does not count */
    const int64_t *dims; /* `rank` of them */
    size_t name_length;
    size_t size;         /* bytes of the elements as ONNX's raw_data holds them: little-endian, row-major */
    size_t offset;       /* where they belong: in the model's bytes, or in the data if they are apart */
    uint32_t rank;
    int32_t type;        /* TensorProto.DataType of ONNX: 1 float32, 10 float16, ... */
    int apart;           /* 1 if the elements are not in the model's bytes */
    int is_read;         /* 1 if a node reads the tensor, or it is an output of the graph */
} cwb_onnx_tensor;

/* Opens the `size` bytes at `file`, which must stay where they are, unchanged, until cwb_onnx_close. `base` is the file that a
 * delta changes, else null; it must stay too. Checks all but the tensors' payloads, which cwb_onnx_decode checks, and what the metadata
 * say, which nothing here needs. On error *model is null. */
int cwb_onnx_open(cwb_onnx **model, const void *file, size_t size, const void *base, size_t base_size);

/* Null is fine. */
void cwb_onnx_close(cwb_onnx *model);

/* 1 if the file has a graph; 0 if it holds weights only, or named arrays: then all tensors are apart, at the offset 0, coded ones
 * are float32, and there are no model's bytes (CWB_ONNX_ERR_NO_GRAPH). */
int cwb_onnx_has_graph(const cwb_onnx *model);

/* Tensors of the file, in its order, and one of them: CWB_ERR_NOT_FOUND beyond the last. Small tensors that are stored with the
 * graph are not among them. */
size_t cwb_onnx_tensors(const cwb_onnx *model);
int cwb_onnx_tensor_at(const cwb_onnx *model, size_t index, cwb_onnx_tensor *tensor);

/* Puts initializers of at least `least` bytes apart, as ONNX's external data: the graph then says that they are in the file named
 * `location`, a NUL-terminated text in UTF-8, one after the other at offsets that are multiples of 4096. (Constants in nodes stay
 * in the graph.) Null puts all of them inside, as they are after cwb_onnx_open. Not while other threads use the model. */
int cwb_onnx_apart(cwb_onnx *model, const char *location, size_t least);

/* Bytes of the model, without what is apart; 0 if it has none or exceeds the limit of CWB_ONNX_ERR_LARGE. */
size_t cwb_onnx_size(const cwb_onnx *model);

/* Bytes of the data: where the last tensor ends that is apart. */
size_t cwb_onnx_data_size(const cwb_onnx *model);

/* Writes the model's bytes: without the elements of tensors, whose places are left as they are, or with those that are not apart.
 * CWB_ERR_SPACE if `capacity` is below cwb_onnx_size, else as cwb_onnx_decode. On error `out` may hold garbage. */
int cwb_onnx_frame(const cwb_onnx *model, void *out, size_t capacity);
int cwb_onnx_bytes(const cwb_onnx *model, void *out, size_t capacity);

/* Decodes the elements of tensor number `index` to `out`, of any alignment, and makes all checks of the format.
 * CWB_ERR_NOT_FOUND beyond the last tensor, CWB_ERR_SPACE if `capacity` is below the tensor's size, CWB_ONNX_ERR_MEMORY,
 * CWB_ONNX_ERR_TENSORS if they do not fit the type that the graph gives them, CWB_ERR_PAYLOAD_CRC, _TABLE, _STREAM. */
int cwb_onnx_decode(const cwb_onnx *model, size_t index, void *out, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif
