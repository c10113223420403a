/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions that cerwu_onnx/native.py calls through ctypes. Compiled into the wheel's shared library only; firmware
 * does without. They are flat (integers and pointers), so that no struct is described twice: an open file is an
 * opaque block of memory of cwb_host_file_bytes() bytes, owned by the caller.
 */
#include "cwb.h"
#include "cwb_columns.h"
#include "cwb_crc.h"
#include "cwb_encode.h"
#include "cwb_onnx.h"
#include "cwb_pack.h"
#include "cwb_search.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define EXPORT __attribute__((visibility("default")))
#else
#define EXPORT
#endif

/* Raised whenever a function below changes. native.py refuses a library with another number. */
#define CWB_HOST_ABI 14

EXPORT uint32_t cwb_host_abi(void);
EXPORT uint32_t cwb_host_crc32(uint32_t crc, const uint8_t *data, size_t size);
EXPORT uint32_t cwb_host_format_version(void);
EXPORT const char *cwb_host_version(void);
EXPORT const char *cwb_host_strerror(int32_t error);
EXPORT size_t cwb_host_file_bytes(void);
EXPORT int32_t cwb_host_open(void *file, const void *data, size_t size, const void *base);
EXPORT uint32_t cwb_host_tensors(const void *file);
EXPORT int32_t cwb_host_tensor(const void *file, uint32_t index, uint32_t info[3]);
EXPORT int32_t cwb_host_name(const void *file, uint32_t index, const char **name, size_t *length);
EXPORT int32_t cwb_host_check_tensor(const void *file, uint32_t index);
EXPORT int32_t cwb_host_margin(const void *file, uint32_t index, uint32_t *margin);
EXPORT int32_t cwb_host_check_section(const void *file, int32_t kind);
EXPORT int32_t cwb_host_decode_f32(const void *file, uint32_t index, float *out, size_t capacity);
EXPORT int32_t cwb_host_onnx_open(void **model, const void *file, size_t size, const void *base, size_t base_size);
EXPORT void cwb_host_onnx_close(void *model);
EXPORT const char *cwb_host_onnx_strerror(int32_t error);
EXPORT size_t cwb_host_onnx_tensors(const void *model);
EXPORT int32_t cwb_host_onnx_tensor(const void *model, size_t index, uint64_t info[7], const char **name,
                                    const int64_t **dims);
EXPORT int32_t cwb_host_onnx_apart(void *model, const char *location, size_t least);
EXPORT size_t cwb_host_onnx_size(const void *model);
EXPORT int32_t cwb_host_onnx_frame(const void *model, void *out, size_t capacity);
EXPORT int32_t cwb_host_onnx_decode_list(const void *model, const uint32_t *indices, uint32_t count, void *const *out);
EXPORT int32_t cwb_host_decode_list(const void *file, const uint32_t *indices, uint32_t count, float *const *out,
                                    const size_t *capacities);
EXPORT int32_t cwb_host_decode_i16(const void *file, uint32_t index, int16_t *out, size_t capacity);
EXPORT size_t cwb_host_encode_ans(const uint16_t *indices, size_t count, const uint16_t *frequencies, uint32_t symbols,
                                  uint8_t *out, size_t capacity);
EXPORT size_t cwb_host_encode_adaptive(const int16_t *symbols, const uint8_t *grids, size_t count, uint32_t run,
                                       uint32_t reach, uint32_t far_from, uint32_t header, uint8_t *out, size_t capacity);
EXPORT size_t cwb_host_pack_model_bytes(void);
EXPORT void cwb_host_pack_prime(void *model, const uint8_t *text, size_t primer_size);
EXPORT size_t cwb_host_pack(void *model, const uint8_t *text, size_t size, uint8_t *out, size_t capacity);
EXPORT int32_t cwb_host_unpack(void *model, uint8_t *text, size_t size, const uint8_t *code, size_t code_size);
EXPORT void cwb_host_search(double *w, size_t rows, size_t columns, size_t block, const float *feedback, const float *weight,
                            const double *row_feedback, const float *price, const float *bits, size_t magnitudes,
                            const uint8_t *states, double *scratch, double *values);
EXPORT void cwb_host_columns(const float *x, size_t channels, const size_t *windows, const size_t *parts, size_t count,
                             float *out);

uint32_t cwb_host_crc32(uint32_t crc, const uint8_t *data, size_t size)
{
    return cwb_fast_crc32(crc, data, size);
}

uint32_t cwb_host_abi(void)
{
    return CWB_HOST_ABI;
}

uint32_t cwb_host_format_version(void)
{
    return CWB_FORMAT_VERSION;
}

const char *cwb_host_version(void)
{
    return CWB_VERSION;
}

const char *cwb_host_strerror(int32_t error)
{
    return cwb_strerror((cwb_error)error);
}

/* An open file: a delta, or a file of its own, which is then in the place of the base. */
typedef struct {
    cwb_delta delta;
    int is_delta;
} host_file;

/* Room for decoding any tensor. */
typedef uint16_t host_scratch[(CWB_MAX_SCRATCH + CWB_SCRATCH_ADAPTIVE) / sizeof(uint16_t)];

size_t cwb_host_file_bytes(void)
{
    return sizeof(host_file);
}

/* `base`: that of a delta, an open file; else null. */
int32_t cwb_host_open(void *file, const void *data, size_t size, const void *base)
{
    host_file *host = (host_file *)file;

    host->is_delta = base != NULL;
    return host->is_delta ? cwb_delta_open(&host->delta, data, size, &((const host_file *)base)->delta.base)
                          : cwb_open(&host->delta.base, data, size);
}

uint32_t cwb_host_tensors(const void *file)
{
    return ((const host_file *)file)->delta.base.tensors;
}

static cwb_error tensor_at(const void *file, uint32_t index, cwb_changed *tensor)
{
    const host_file *host = (const host_file *)file;

    tensor->is_changed = 0;
    return host->is_delta ? cwb_delta_tensor_at(&host->delta, index, tensor)
                          : cwb_tensor_at(&host->delta.base, index, &tensor->tensor);
}

/* info: kind, element type, number of elements. */
int32_t cwb_host_tensor(const void *file, uint32_t index, uint32_t info[3])
{
    cwb_changed found;
    cwb_error error = tensor_at(file, index, &found);

    if (error == CWB_OK) {
        info[0] = found.tensor.kind;
        info[1] = found.tensor.type;
        info[2] = found.tensor.count;
    }
    return error;
}

/* Of a delta, that of its base. Of length 0 if the file has no section of names. */
int32_t cwb_host_name(const void *file, uint32_t index, const char **name, size_t *length)
{
    cwb_error error = cwb_name(&((const host_file *)file)->delta.base, index, name, length);

    if (error == CWB_ERR_NOT_FOUND) {
        *length = 0;
        error = CWB_OK;
    }
    return error;
}

int32_t cwb_host_check_tensor(const void *file, uint32_t index)
{
    host_scratch scratch;
    cwb_changed tensor;
    cwb_error error = tensor_at(file, index, &tensor);

    return error == CWB_OK ? cwb_delta_check(&tensor, scratch, sizeof scratch) : error;
}

/* Of a file that is no delta: the least by which a buffer must exceed `count` bytes for decoding in place (docs/format.md, "Margins"), found by
 * decoding symbol by symbol. */
int32_t cwb_host_margin(const void *file, uint32_t index, uint32_t *margin)
{
    host_scratch scratch;
    cwb_tensor tensor;
    cwb_stream stream;
    uint64_t need;
    uint32_t i;
    cwb_error error = cwb_tensor_at(&((const host_file *)file)->delta.base, index, &tensor);

    if (error == CWB_OK) {
        error = cwb_begin(&tensor, scratch, sizeof scratch, &stream);
    }
    if (error != CWB_OK) {
        return error;
    }
    need = tensor.count > tensor.payload_size ? tensor.count : tensor.payload_size;
    for (i = 0; error == CWB_OK && i < tensor.count; i++) {
        int16_t symbol;
        uint32_t unread;

        error = cwb_read_i16(&stream, &symbol, 1);
        unread = (uint32_t)(stream.end - stream.next);
        if (unread > 0 && (uint64_t)i + 1 + unread > need) {
            need = (uint64_t)i + 1 + unread;
        }
    }
    if (error == CWB_OK) {
        error = cwb_end(&stream);
        *margin = (uint32_t)(need - tensor.count);
    }
    return error;
}

/* An absent section is fine. Of a delta, those of its base are checked. */
int32_t cwb_host_check_section(const void *file, int32_t kind)
{
    const uint8_t *data;
    uint32_t size;
    cwb_error error = cwb_section(&((const host_file *)file)->delta.base, (cwb_kind)kind, &data, &size);

    return error == CWB_ERR_NOT_FOUND ? CWB_OK : error;
}

int32_t cwb_host_decode_f32(const void *file, uint32_t index, float *out, size_t capacity)
{
    host_scratch scratch;
    cwb_changed tensor;
    cwb_error error = tensor_at(file, index, &tensor);

    return error == CWB_OK ? cwb_delta_decode_f32(&tensor, scratch, sizeof scratch, out, capacity) : error;
}

int32_t cwb_host_onnx_open(void **model, const void *file, size_t size, const void *base, size_t base_size)
{
    return cwb_onnx_open((cwb_onnx **)model, file, size, base, base_size);
}

void cwb_host_onnx_close(void *model)
{
    cwb_onnx_close((cwb_onnx *)model);
}

const char *cwb_host_onnx_strerror(int32_t error)
{
    return cwb_onnx_strerror(error);
}

size_t cwb_host_onnx_tensors(const void *model)
{
    return cwb_onnx_tensors((const cwb_onnx *)model);
}

/* info: size, offset, type, whether the elements are apart, whether a node reads them, rank, length of the name. */
int32_t cwb_host_onnx_tensor(const void *model, size_t index, uint64_t info[7], const char **name, const int64_t **dims)
{
    cwb_onnx_tensor tensor;
    int32_t error = cwb_onnx_tensor_at((const cwb_onnx *)model, index, &tensor);

    if (error == CWB_OK) {
        info[0] = tensor.size;
        info[1] = tensor.offset;
        info[2] = (uint64_t)tensor.type;
        info[3] = (uint64_t)tensor.apart;
        info[4] = (uint64_t)tensor.is_read;
        info[5] = tensor.rank;
        info[6] = tensor.name_length;
        *name = tensor.name;
        *dims = tensor.dims;
    }
    return error;
}

int32_t cwb_host_onnx_apart(void *model, const char *location, size_t least)
{
    return cwb_onnx_apart((cwb_onnx *)model, location, least);
}

size_t cwb_host_onnx_size(const void *model)
{
    return cwb_onnx_size((const cwb_onnx *)model);
}

int32_t cwb_host_onnx_frame(const void *model, void *out, size_t capacity)
{
    return cwb_onnx_frame((const cwb_onnx *)model, out, capacity);
}

/* As cwb_host_decode_list, to places that have room for the tensors. */
int32_t cwb_host_onnx_decode_list(const void *model, const uint32_t *indices, uint32_t count, void *const *out)
{
    int32_t error = CWB_OK;
    uint32_t i;

    for (i = 0; error == CWB_OK && i < count; i++) {
        error = cwb_onnx_decode((const cwb_onnx *)model, indices[i], out[i], SIZE_MAX);
    }
    return error;
}

/* Decodes several tensors in one call, so that a thread of an interpreter need not wait for its turn between them. */
int32_t cwb_host_decode_list(const void *file, const uint32_t *indices, uint32_t count, float *const *out,
                             const size_t *capacities)
{
    int32_t error = CWB_OK;
    uint32_t i;

    for (i = 0; error == CWB_OK && i < count; i++) {
        error = cwb_host_decode_f32(file, indices[i], out[i], capacities[i]);
    }
    return error;
}

int32_t cwb_host_decode_i16(const void *file, uint32_t index, int16_t *out, size_t capacity)
{
    host_scratch scratch;
    cwb_changed tensor;
    cwb_error error = tensor_at(file, index, &tensor);

    return error == CWB_OK ? cwb_delta_decode_i16(&tensor, scratch, sizeof scratch, out, capacity) : error;
}

size_t cwb_host_encode_ans(const uint16_t *indices, size_t count, const uint16_t *frequencies, uint32_t symbols,
                           uint8_t *out, size_t capacity)
{
    return cwb_encode_ans(indices, count, frequencies, (uint16_t)symbols, out, capacity);
}

size_t cwb_host_encode_adaptive(const int16_t *symbols, const uint8_t *grids, size_t count, uint32_t run, uint32_t reach,
                                uint32_t far_from, uint32_t header, uint8_t *out, size_t capacity)
{
    return cwb_encode_adaptive(symbols, grids, count, run, reach, far_from, header, out, capacity);
}

size_t cwb_host_pack_model_bytes(void)
{
    return cwb_pack_model_bytes();
}

void cwb_host_pack_prime(void *model, const uint8_t *text, size_t primer_size)
{
    cwb_pack_prime((cwb_pack_model *)model, text, primer_size);
}

size_t cwb_host_pack(void *model, const uint8_t *text, size_t size, uint8_t *out, size_t capacity)
{
    return cwb_pack((cwb_pack_model *)model, text, size, out, capacity);
}

int32_t cwb_host_unpack(void *model, uint8_t *text, size_t size, const uint8_t *code, size_t code_size)
{
    return cwb_unpack((cwb_pack_model *)model, text, size, code, code_size);
}

void cwb_host_search(double *w, size_t rows, size_t columns, size_t block, const float *feedback, const float *weight,
                     const double *row_feedback, const float *price, const float *bits, size_t magnitudes,
                     const uint8_t *states, double *scratch, double *values)
{
    cwb_search(w, rows, columns, block, feedback, weight, row_feedback, price, bits, magnitudes, states, scratch,
               values);
}

/* windows: the ten numbers of a cwb_windows. parts: the nine numbers of three cwb_range, for each part. */
void cwb_host_columns(const float *x, size_t channels, const size_t *windows, const size_t *parts, size_t count,
                      float *out)
{
    cwb_columns(x, channels, (const cwb_windows *)windows, (const cwb_range *)parts, count, out);
}
