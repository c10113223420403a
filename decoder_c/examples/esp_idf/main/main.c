/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks the model in flash at boot, and prints its tensors. Put the model beside this file:
 *
 *     cerwu-onnx export-c model.cwb main/model --name model --without-decoder
 *     idf.py set-target esp32s3 build flash monitor
 */
#include <inttypes.h>
#include <stdio.h>

#include "model.h"

void app_main(void);

static cwb_file file;
static uint16_t scratch[MODEL_SCRATCH_BYTES / sizeof(uint16_t)];

void app_main(void)
{
    cwb_tensor tensor;
    uint32_t i;
    cwb_error error = cwb_open(&file, model_cwb, sizeof model_cwb);

    for (i = 0; error == CWB_OK && i < file.tensors; i++) {
        error = cwb_tensor_at(&file, i, &tensor);
        if (error == CWB_OK) {
            error = cwb_check(&tensor, scratch, sizeof scratch);
        }
        if (error == CWB_OK) {
            printf("tensor %" PRIu32 ": %" PRIu32 " values\n", i, tensor.count);
        }
    }
    printf("%s\n", cwb_strerror(error));
}
