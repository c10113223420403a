/* SPDX-License-Identifier: Apache-2.0
 *
 * Opens .cwb files by the library of decoder_c/host/cwb_onnx.h and writes all that it gives. For each file, standard input has the
 * least size of tensors that are to be apart, the sizes of the file and of its base (0: none), as u32, and their bytes; standard
 * output then has blocks, a u32 size and bytes: the model, the graph without what is apart, the data, if there is a graph; for each
 * tensor name, type, whether it is read, dimensions (i64) and elements; at the end one of the size 2^32 - 1 without bytes, and an error's text, empty if all
 * went well.
 */
#include "host/cwb_onnx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(const void *data, size_t size)
{
    uint32_t header = (uint32_t)size;

    fwrite(&header, sizeof header, 1, stdout);
    fwrite(data, 1, size, stdout);
}

static int read_u32(uint32_t *value)
{
    return fread(value, sizeof *value, 1, stdin) == 1;
}

/* Exactly as much memory as asked for, so that sanitizers see the first byte beyond it. */
static unsigned char *take(size_t size)
{
    unsigned char *memory = malloc(size > 0 ? size : 1);

    if (memory == NULL) {
        exit(3);
    }
    return memory;
}

/* The model's bytes, in one call and piece by piece, which must be the same. */
static int put_model(const cwb_onnx *model)
{
    size_t size = cwb_onnx_size(model), i;
    unsigned char *bytes = take(size), *pieces = take(size);
    cwb_onnx_tensor tensor;
    int error = cwb_onnx_bytes(model, bytes, size);

    if (error == CWB_OK) {
        if (size > 0 && cwb_onnx_frame(model, pieces, size - 1) != CWB_ERR_SPACE) {
            exit(4);
        }
        error = cwb_onnx_frame(model, pieces, size);
        for (i = 0; error == CWB_OK && cwb_onnx_tensor_at(model, i, &tensor) == CWB_OK; i++) {
            if (!tensor.apart) {
                error = cwb_onnx_decode(model, i, pieces + tensor.offset, tensor.size);
            }
        }
        if (error != CWB_OK || memcmp(bytes, pieces, size) != 0) {
            exit(4);
        }
        put(bytes, size);
    }
    free(bytes);
    free(pieces);
    return error;
}

static int put_data(const cwb_onnx *model)
{
    size_t size = cwb_onnx_data_size(model), i;
    unsigned char *bytes = take(size);
    cwb_onnx_tensor tensor;
    int error = CWB_OK;

    memset(bytes, 0, size);
    for (i = 0; error == CWB_OK && cwb_onnx_tensor_at(model, i, &tensor) == CWB_OK; i++) {
        if (tensor.apart) {
            error = cwb_onnx_decode(model, i, bytes + tensor.offset, tensor.size);
        }
    }
    put(bytes, size);
    free(bytes);
    return error;
}

static int put_tensors(const cwb_onnx *model)
{
    cwb_onnx_tensor tensor;
    size_t i;
    int error = CWB_OK;

    for (i = 0; error == CWB_OK && cwb_onnx_tensor_at(model, i, &tensor) == CWB_OK; i++) {
        unsigned char *bytes = take(tensor.size + 1) + 1; /* of no alignment */

        error = cwb_onnx_decode(model, i, bytes, tensor.size);
        put(tensor.name, strlen(tensor.name) == tensor.name_length ? tensor.name_length : 0);
        put(&tensor.type, sizeof tensor.type);
        put(&tensor.is_read, sizeof tensor.is_read);
        put(tensor.dims, tensor.rank * sizeof *tensor.dims);
        put(bytes, tensor.size);
        free(bytes - 1);
    }
    return error;
}

int main(void)
{
    const uint32_t end = UINT32_MAX;
    uint32_t least, size, base_size;

    while (read_u32(&least) && read_u32(&size) && read_u32(&base_size)) {
        unsigned char *file = take(size), *base = take(base_size);
        cwb_onnx *model;
        int error;

        if (fread(file, 1, size, stdin) != size || fread(base, 1, base_size, stdin) != base_size) {
            return 2;
        }
        error = cwb_onnx_open(&model, file, size, base_size > 0 ? base : NULL, base_size);
        if (error == CWB_OK && cwb_onnx_has_graph(model)) {
            error = put_model(model);
            if (error == CWB_OK) {
                error = cwb_onnx_apart(model, "model.onnx.data", least);
            }
            if (error == CWB_OK) {
                error = put_model(model);
            }
            if (error == CWB_OK) {
                error = put_data(model);
            }
        }
        if (error == CWB_OK) {
            error = put_tensors(model);
        }
        fwrite(&end, sizeof end, 1, stdout);
        put(cwb_onnx_strerror(error), error == CWB_OK ? 0 : strlen(cwb_onnx_strerror(error)));
        cwb_onnx_close(model);
        free(file);
        free(base);
        if (fflush(stdout) != 0) {
            return 2;
        }
    }
    return 0;
}
