// SPDX-License-Identifier: Apache-2.0
//
// Prints the tensors of a model and what their weights sum up to. Put the model beside this sketch:
//
//     cerwu-onnx export-c model.cwb DecodeModel --name model --without-decoder
//
// For boards whose constants can be read through pointers (ARM, ESP32, RISC-V): not for AVR, where const data beyond
// 64 KiB, or in PROGMEM, cannot.

#include <cwb.h>

#include "model.h"

static cwb_file file;
static uint16_t scratch[MODEL_SCRATCH_BYTES / sizeof(uint16_t)];

static cwb_error print_tensor(uint32_t index)
{
    cwb_tensor tensor;
    cwb_stream stream;
    int16_t tile[64];
    int32_t sum = 0;
    cwb_error error = cwb_tensor_at(&file, index, &tensor);

    if (error == CWB_OK) error = cwb_check(&tensor, scratch, sizeof scratch);
    if (error == CWB_OK && tensor.kind != CWB_RAW) {
        error = cwb_begin(&tensor, scratch, sizeof scratch, &stream);
        for (uint32_t left = tensor.count; error == CWB_OK && left > 0;) {
            uint32_t some = left < 64 ? left : 64;
            error = cwb_read_i16(&stream, tile, some);
            for (uint32_t i = 0; error == CWB_OK && i < some; i++) sum += tile[i];
            left -= some;
        }
        if (error == CWB_OK) error = cwb_end(&stream);
    }
    if (error != CWB_OK) return error;
    Serial.print(index);
    Serial.print(": ");
    Serial.print(tensor.count);
    if (tensor.kind == CWB_RAW) {
        Serial.println(" exact values");
    } else {
        Serial.print(" weights, sum of symbols ");
        Serial.println((double)sum, 0);
    }
    return CWB_OK;
}

void setup()
{
    Serial.begin(115200);
    cwb_error error = cwb_open(&file, model_cwb, sizeof model_cwb);
    for (uint32_t i = 0; error == CWB_OK && i < file.tensors; i++) error = print_tensor(i);
    Serial.println(cwb_strerror(error));
}

void loop()
{
}
