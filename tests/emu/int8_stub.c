/* SPDX-License-Identifier: Apache-2.0
 *
 * What a host or the emulated machine runs of decoder_c/examples/int8; int8.py mirrors it.
 */
#include "ds_cnn.h"
#include "model.h"

struct job {
    uint32_t input, output, arena, bytes;
};

#define POINTER(type, address) ((type *)(uintptr_t)(address))

static cwb_file file;

/* At boot: opens the model and checks each tensor. */
int int8_start(void)
{
    static uint16_t scratch[MODEL_SCRATCH_BYTES / sizeof(uint16_t)];
    cwb_tensor tensor;
    uint32_t i;
    cwb_error error = cwb_open(&file, model_cwb, sizeof model_cwb);

    for (i = 0; error == CWB_OK && i < file.tensors; i++) {
        error = cwb_tensor_at(&file, i, &tensor);
        if (error == CWB_OK) {
            error = cwb_check(&tensor, scratch, sizeof scratch);
        }
    }
    return error;
}

int int8_run(const float *input, float *output, void *arena, size_t bytes)
{
    return ds_cnn_run(&file, input, output, arena, bytes);
}

uint32_t int8_arena(void)
{
    return (uint32_t)ds_cnn_arena_bytes();
}

uint32_t emu_start(const struct job *job)
{
    (void)job;
    return (uint32_t)int8_start();
}

uint32_t emu_arena(const struct job *job)
{
    (void)job;
    return int8_arena();
}

uint32_t emu_run(const struct job *job)
{
    return (uint32_t)int8_run(POINTER(const float, job->input), POINTER(float, job->output), POINTER(void, job->arena),
                              job->bytes);
}
