/* SPDX-License-Identifier: Apache-2.0
 *
 * in_place file.cwb index piece less: decodes a tensor to int8 over its own payload, in a buffer of the margin that the
 * file states, less `less` bytes, in pieces of `piece` symbols (0: by cwb_decode_i8), and writes the symbols to stdout.
 * The payload's address is odd or even as it comes; the buffer is malloced at its exact size, for the sanitizers.
 */
#include "cwb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint16_t scratch[CWB_MAX_SCRATCH / sizeof(uint16_t)];
static unsigned char data[1 << 20];

static cwb_error stream(const cwb_tensor *tensor, int8_t *out, size_t piece)
{
    cwb_stream reader;
    size_t left = tensor->count;
    cwb_error error = cwb_begin(tensor, scratch, sizeof scratch, &reader);

    while (error == CWB_OK && left > 0) {
        size_t now = left < piece ? left : piece;

        error = cwb_read_i8(&reader, out, now);
        out += now;
        left -= now;
    }
    return error == CWB_OK ? cwb_end(&reader) : error;
}

int main(int argc, char **argv)
{
    FILE *in = fopen(argv[1], "rb");
    size_t size = in != NULL ? fread(data, 1, sizeof data, in) : 0;
    uint32_t index = (uint32_t)atoi(argv[2]), margin = 0;
    size_t piece = (size_t)atoi(argv[3]), room;
    unsigned char *buffer, *payload;
    cwb_file file;
    cwb_tensor tensor;

    if (argc != 5 || cwb_open(&file, data, size) != CWB_OK || cwb_tensor_at(&file, index, &tensor) != CWB_OK ||
        cwb_margin(&file, index, &margin) != CWB_OK) {
        return 2;
    }
    room = tensor.count + margin - (size_t)atoi(argv[4]);
    buffer = malloc(room);
    if (buffer == NULL || room < tensor.payload_size || room < tensor.count) {
        return 3;
    }
    payload = buffer + room - tensor.payload_size;
    memcpy(payload, tensor.payload, tensor.payload_size);
    tensor.payload = payload;
    if ((piece == 0 ? cwb_decode_i8(&tensor, scratch, sizeof scratch, (int8_t *)buffer, tensor.count)
                    : stream(&tensor, (int8_t *)buffer, piece)) != CWB_OK) {
        free(buffer);
        return 1;
    }
    fwrite(buffer, 1, tensor.count, stdout);
    free(buffer);
    fclose(in);
    return 0;
}
