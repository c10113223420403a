/* SPDX-License-Identifier: Apache-2.0
 *
 * Opens the .cwb file on standard input and writes its model again and again, each time with one allocation more before malloc gives
 * nothing, until all goes well. Prints how many allocations that took. Compiled with -Dmalloc=failing_malloc.
 */
#undef malloc
#include "host/cwb_onnx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *failing_malloc(size_t size);

static long left;

void *failing_malloc(size_t size)
{
    return left-- > 0 ? malloc(size) : NULL;
}

static int write_model(const unsigned char *file, size_t size)
{
    cwb_onnx *model;
    int error = cwb_onnx_open(&model, file, size, NULL, 0);

    if (error == CWB_OK) {
        size_t room = cwb_onnx_size(model);
        unsigned char *bytes = malloc(room);

        error = bytes == NULL ? 1 : cwb_onnx_bytes(model, bytes, room);
        if (error == CWB_OK) {
            error = cwb_onnx_apart(model, "weights", 0);
        }
        free(bytes);
        cwb_onnx_close(model);
    } else if (model != NULL) {
        error = 1;
    }
    return error;
}

int main(void)
{
    static unsigned char file[1 << 20];
    size_t size = fread(file, 1, sizeof file, stdin);
    long allowed = 0;
    int error;

    do {
        left = allowed;
        error = write_model(file, size);
        if (error != CWB_OK && error != CWB_ONNX_ERR_MEMORY) {
            fprintf(stderr, "after %ld allocations: %d\n", allowed, error);
            return 1;
        }
        allowed++;
    } while (error != CWB_OK);
    printf("%ld\n", allowed - 1);
    return 0;
}
