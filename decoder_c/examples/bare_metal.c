/* SPDX-License-Identifier: Apache-2.0
 *
 * The least an application does: open the model in flash and check all of it once, at boot.
 *
 *     cerwu-onnx export-c model.cwb model --name model
 *     arm-none-eabi-gcc -mcpu=cortex-m4 -Os -Imodel bare_metal.c model/model.c model/cwb.c startup.c -T your.ld ...
 *
 * Needs no C library. `model_state` is for the debugger: 1 while checking, 2 when the model is good, else an error.
 */
#include "model.h"

volatile int32_t model_state;

static cwb_file file;
static uint16_t scratch[MODEL_SCRATCH_BYTES / sizeof(uint16_t)];

static cwb_error check_model(void)
{
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

int main(void)
{
    cwb_error error;

    model_state = 1;
    error = check_model();
    model_state = error == CWB_OK ? 2 : (int32_t)error;
    /* The application's own loop would begin here. */
    return error == CWB_OK ? 0 : 1;
}
