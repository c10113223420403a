/* SPDX-License-Identifier: Apache-2.0
 *
 * What src/wasm.js calls: the decoder and the maker of models over one memory. Functions are flat (integers and addresses). An
 * instance holds one open file: that of the thread which reads the file, all of its bytes; a worker's, header and directory alone,
 * for it gets a payload with each call.
 */
#include <stdlib.h>

#include "cwb_elements.h"
#include "cwb_members.h"
#include "cwb_onnx.h"

#define EXPORT(name) __attribute__((export_name(name)))

static cwb_members members; /* tensors of the open file */
static cwb_onnx *model;
static uint32_t crc_tables[8][256];

/* What describe() tells of a tensor as it is stored; `offset` is where its payload begins in the file. */
typedef struct {
    uint32_t is_coded, type, count, offset, size;
} stored_tensor;

/* What model_tensor() tells of a tensor as the graph has it; `offset` is where its elements belong. */
typedef struct {
    uint32_t name, name_size, dims, rank, type, size, offset, is_apart;
} model_tensor;

EXPORT("allocate") void *cwb_wasm_allocate(size_t size)
{
    return malloc(size);
}

EXPORT("release") void cwb_wasm_release(void *memory)
{
    free(memory);
}

/* As host/cwb_crc.c, but the tables are made, not stored: they would be a seventh of the module. The decoder calls this as
 * CWB_CRC32. */
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

/* Opens a file of `size` bytes, of which header and directory stand at `data`: the number of its tensors, or an error, which is
 * CWB_ERR_BASE if the file is a delta. */
EXPORT("open") int32_t cwb_wasm_open(const uint8_t *data, uint32_t size)
{
    static const uint8_t empty[20] = {0x89, 'C', 'W', 'B', 2, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0x91, 0xA2, 0xEC, 0x1A};
    static cwb_tree tree; /* owns what members points to */
    cwb_delta files;
    int error = cwb_open(&files.file, data, size);

    if (error == CWB_ERR_VERSION) { /* is it a delta? Payloads may not be there yet, so any other error will do */
        cwb_file base;
        cwb_delta delta;

        (void)cwb_open(&base, empty, sizeof empty);
        error = cwb_delta_open(&delta, data, size, &base) == CWB_ERR_VERSION ? CWB_ERR_VERSION : CWB_ERR_BASE;
    }
    if (error == CWB_OK) {
        files.base = files.file;
        error = cwb_read_members(&tree, &files, 0, &members);
    }
    return error == CWB_OK ? (int32_t)members.count : error;
}

/* `start` is where the file begins. */
EXPORT("describe") const stored_tensor *cwb_wasm_describe(uint32_t index, const uint8_t *start)
{
    static stored_tensor told;
    const cwb_tensor *tensor = &members.list[index].stored.tensor;

    told.is_coded = tensor->kind != CWB_RAW;
    told.type = tensor->type;
    told.count = tensor->count;
    told.offset = (uint32_t)(tensor->payload - start);
    told.size = tensor->payload_size;
    return &told;
}

/* Decodes tensor `index`, whose payload stands at `payload`, to `out`, row-major, as floats of a type, with all checks; type 0 is the
 * stored one. */
EXPORT("decode") int32_t cwb_wasm_decode(uint32_t index, const uint8_t *payload, int32_t type, uint8_t *out)
{
    cwb_changed tensor = members.list[index].stored;
    cwb_target target = {0};

    tensor.tensor.payload = payload;
    target.type = type;
    return cwb_decode_elements(&tensor, &target, out);
}

/* Where the text of an error stands, ended by a NUL. */
EXPORT("message") const char *cwb_wasm_message(int32_t error)
{
    return cwb_onnx_strerror(error);
}

/* Opens the model of a file, all of which is there; of a delta with its base, else that is null. Whether it has a graph, or an error. */
EXPORT("model_open") int32_t cwb_wasm_model_open(const uint8_t *file, uint32_t size, const uint8_t *base, uint32_t base_size)
{
    int error = cwb_onnx_open(&model, file, size, base, base_size);

    return error == CWB_OK ? cwb_onnx_has_graph(model) : error;
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
    told.name = (uint32_t)(size_t)tensor.name;
    told.name_size = (uint32_t)tensor.name_length;
    told.dims = (uint32_t)(size_t)tensor.dims;
    told.rank = tensor.rank;
    told.type = (uint32_t)tensor.type;
    told.size = (uint32_t)tensor.size;
    told.offset = (uint32_t)tensor.offset;
    told.is_apart = (uint32_t)tensor.apart;
    return &told;
}

EXPORT("model_decode") int32_t cwb_wasm_model_decode(uint32_t index, uint8_t *out, uint32_t capacity)
{
    return cwb_onnx_decode(model, index, out, capacity);
}

EXPORT("model_apart") int32_t cwb_wasm_model_apart(const char *location, uint32_t least)
{
    return cwb_onnx_apart(model, location, least);
}

/* Of the model, 0 if it is too large; and of what is apart. */
EXPORT("model_size") uint32_t cwb_wasm_model_size(void)
{
    return (uint32_t)cwb_onnx_size(model);
}

EXPORT("model_data_size") uint32_t cwb_wasm_model_data_size(void)
{
    return (uint32_t)cwb_onnx_data_size(model);
}

/* Writes the model without the elements of its tensors. */
EXPORT("model_frame") int32_t cwb_wasm_model_frame(uint8_t *out, uint32_t capacity)
{
    return cwb_onnx_frame(model, out, capacity);
}
