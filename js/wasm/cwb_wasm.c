/* SPDX-License-Identifier: Apache-2.0
 *
 * What src/wasm.js calls: the decoder over one memory. Functions are flat (integers and addresses). A module holds one open file:
 * of the thread that reads the file all of its bytes; of a worker header and directory, for a payload is given with each call.
 */
#include <stdlib.h>

#include "cwb.h"

#define EXPORT(name) __attribute__((export_name(name)))

static cwb_file opened;
static uint16_t scratch[CWB_MAX_SCRATCH / sizeof(uint16_t)];
static uint32_t crc_tables[8][256];

/* What describe() tells of a tensor. */
enum { KIND, TYPE, ORDER, RANK, OFFSET, SIZE, COUNT, STEP, NAME, NAME_SIZE, DIMS, FIELDS = DIMS + CWB_MAX_RANK };
static uint32_t fields[FIELDS];

EXPORT("allocate") void *cwb_wasm_allocate(size_t size)
{
    return malloc(size);
}

EXPORT("release") void cwb_wasm_release(void *memory)
{
    free(memory);
}

/* CRC-32 of ISO-HDLC, eight bytes at a time: crc_tables[k][b] is what the byte b does to the register when k more bytes follow
 * it. The decoder calls this as CWB_CRC32. */
EXPORT("crc32") uint32_t cwb_wasm_crc32(uint32_t crc, const uint8_t *data, size_t size)
{
    crc = ~crc;
    for (; size >= 8; size -= 8, data += 8) {
        crc ^= data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
        crc = crc_tables[7][crc & 0xFF] ^ crc_tables[6][crc >> 8 & 0xFF] ^ crc_tables[5][crc >> 16 & 0xFF] ^
              crc_tables[4][crc >> 24] ^ crc_tables[3][data[4]] ^ crc_tables[2][data[5]] ^ crc_tables[1][data[6]] ^
              crc_tables[0][data[7]];
    }
    while (size-- > 0) {
        crc = (crc >> 8) ^ crc_tables[0][(crc ^ *data++) & 0xFF];
    }
    return ~crc;
}

/* To be called once, before anything else. */
EXPORT("start") void cwb_wasm_start(void)
{
    uint32_t byte, k;

    for (byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;

        for (k = 0; k < 8; k++) {
            crc = (crc >> 1) ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
        }
        crc_tables[0][byte] = crc;
    }
    for (byte = 0; byte < 256; byte++) {
        for (k = 1; k < 8; k++) {
            uint32_t crc = crc_tables[k - 1][byte];

            crc_tables[k][byte] = (crc >> 8) ^ crc_tables[0][crc & 0xFF];
        }
    }
}

/* Opens a file of `size` bytes, of which header and directory stand at `data`; the number of its tensors, or an error. */
EXPORT("open") int32_t cwb_wasm_open(const uint8_t *data, uint32_t size)
{
    cwb_error error = cwb_open(&opened, data, size);

    return error == CWB_OK ? (int32_t)opened.tensors : error;
}

/* Where the text of an error stands, ended by a NUL. */
EXPORT("message") const char *cwb_wasm_message(int32_t error)
{
    return cwb_strerror((cwb_error)error);
}

/* Sets fields[] to what the directory tells of tensor `index`; OFFSET is where its payload begins in the file. */
EXPORT("describe") const uint32_t *cwb_wasm_describe(uint32_t index)
{
    cwb_tensor tensor;

    if (cwb_tensor_at(&opened, index, &tensor) != CWB_OK) {
        return NULL;
    }
    fields[KIND] = tensor.kind;
    fields[TYPE] = tensor.type;
    fields[ORDER] = tensor.order;
    fields[RANK] = tensor.rank;
    fields[OFFSET] = (uint32_t)(tensor.payload - opened.data);
    fields[SIZE] = tensor.payload_size;
    fields[COUNT] = tensor.count;
    fields[STEP] = tensor.step_bits;
    cwb_shape(&tensor, fields + DIMS);
    return fields;
}

/* Reads all of tensor `index`, whose payload stands at `payload`, with everything checked. Coded: its elements as float32 in stored
 * order, to `out`, which has room for them. Raw: nothing is written. */
EXPORT("decode") int32_t cwb_wasm_decode(uint32_t index, const uint8_t *payload, float *out)
{
    cwb_tensor tensor;
    cwb_error error = cwb_tensor_at(&opened, index, &tensor);

    if (error != CWB_OK) {
        return error;
    }
    tensor.payload = payload;
    return tensor.kind == CWB_RAW ? cwb_check(&tensor, scratch, sizeof scratch)
                                  : cwb_decode_f32(&tensor, scratch, sizeof scratch, out, tensor.count);
}

#ifdef CWB_WASM_GRAPH
static cwb_onnx *model;

/* What model_tensor() tells. */
typedef struct {
    const char *name;
    uint32_t name_size;
    const int64_t *dims;
    uint32_t rank;
    uint32_t type;
    uint32_t size;
    uint32_t offset;
    uint32_t apart;
} model_tensor;

EXPORT("model_open") int32_t cwb_wasm_model_open(const uint8_t *file, uint32_t size, const uint8_t *base, uint32_t base_size)
{
    return cwb_onnx_open(&model, file, size, base, base_size);
}

EXPORT("model_message") const char *cwb_wasm_model_message(int32_t error)
{
    return cwb_onnx_strerror(error);
}

EXPORT("model_has_graph") int32_t cwb_wasm_model_has_graph(void)
{
    return cwb_onnx_has_graph(model);
}

EXPORT("model_tensors") uint32_t cwb_wasm_model_tensors(void)
{
    return (uint32_t)cwb_onnx_tensors(model);
}

EXPORT("model_tensor") const model_tensor *cwb_wasm_model_tensor(uint32_t index)
{
    static model_tensor told;
    cwb_onnx_tensor tensor;

    if (cwb_onnx_tensor_at(model, index, &tensor) != CWB_OK) {
        return NULL;
    }
    told.name = tensor.name;
    told.name_size = (uint32_t)tensor.name_length;
    told.dims = tensor.dims;
    told.rank = tensor.rank;
    told.type = (uint32_t)tensor.type;
    told.size = (uint32_t)tensor.size;
    told.offset = (uint32_t)tensor.offset;
    told.apart = (uint32_t)tensor.apart;
    return &told;
}

EXPORT("model_decode") int32_t cwb_wasm_model_decode(uint32_t index, void *out, uint32_t capacity)
{
    return cwb_onnx_decode(model, index, out, capacity);
}

EXPORT("model_apart") int32_t cwb_wasm_model_apart(const char *location, uint32_t least)
{
    return cwb_onnx_apart(model, location, least);
}

EXPORT("model_size") uint32_t cwb_wasm_model_size(void)
{
    return (uint32_t)cwb_onnx_size(model);
}

EXPORT("model_data_size") uint32_t cwb_wasm_model_data_size(void)
{
    return (uint32_t)cwb_onnx_data_size(model);
}

EXPORT("model_frame") int32_t cwb_wasm_model_frame(void *out, uint32_t capacity)
{
    return cwb_onnx_frame(model, out, capacity);
}
#endif
