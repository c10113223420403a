/* SPDX-License-Identifier: Apache-2.0
 *
 * An int8 fully connected layer whose weights never stand in RAM as a whole: they are decoded into a tile of 64 bytes
 * and multiplied from there. The layer's weight is the tensor "fc.weight", of shape (outputs, inputs), its bias "fc.bias":
 *
 *     cerwu-onnx export-c model.cwb model --name model --scales scales.json
 *
 * with scales.json = {"fc.weight": {"input": 0.02, "output": 0.05, "bias": "fc.bias"}}: what one unit of the int8 input
 * and output is worth. The multipliers and shifts in model.h are those that CMSIS-NN's kernels take. Zero points are 0.
 */
#include "model.h"

enum { TILE = 64 };

/* value * multiplier * 2^(shift - 31), rounded to nearest, halves away from 0, within int8. */
static int8_t requantize(int32_t value, int32_t multiplier, int32_t shift)
{
    int64_t product = (int64_t)value * multiplier;
    int32_t right = 31 - shift;
    int64_t half = (int64_t)1 << (right - 1);
    int64_t scaled = product >= 0 ? (product + half) >> right : -((half - product) >> right);

    return (int8_t)(scaled > 127 ? 127 : scaled < -128 ? -128 : scaled);
}

/* output = weight x input + bias, all in integers. The weight's CRCs are to be checked beforehand, by cwb_check. */
cwb_error fully_connected(const cwb_tensor *weight, uint32_t outputs, const int8_t *input, const int32_t *bias,
                          const int32_t *multiplier, const int32_t *shift, uint16_t *scratch, size_t scratch_bytes,
                          int8_t *output)
{
    cwb_stream stream;
    int8_t tile[TILE];
    uint32_t inputs = weight->count / outputs;
    uint32_t row, column, k;
    cwb_error error = cwb_begin(weight, scratch, scratch_bytes, &stream);

    for (row = 0; error == CWB_OK && row < outputs; row++) {
        int32_t sum = bias[row];

        for (column = 0; error == CWB_OK && column < inputs; column += TILE) {
            uint32_t some = inputs - column < TILE ? inputs - column : TILE;

            error = cwb_read_i8(&stream, tile, some);
            for (k = 0; error == CWB_OK && k < some; k++) {
                sum += tile[k] * input[column + k];
            }
        }
        output[row] = requantize(sum, multiplier[row], shift[row]);
    }
    return error == CWB_OK ? cwb_end(&stream) : error;
}

int8_t layer_input[MODEL_COUNT_FC_WEIGHT / MODEL_COUNT_FC_BIAS];
int8_t layer_output[MODEL_COUNT_FC_BIAS];

int main(void)
{
    static uint16_t scratch[MODEL_SCRATCH_BYTES / sizeof(uint16_t)];
    cwb_file file;
    cwb_tensor weight;
    uint32_t i;
    cwb_error error = cwb_open(&file, model_cwb, sizeof model_cwb);

    for (i = 0; i < sizeof layer_input; i++) {
        layer_input[i] = (int8_t)((int32_t)(i * 37 % 256) - 128); /* a sensor's samples, say */
    }
    if (error == CWB_OK) {
        error = cwb_tensor_at(&file, MODEL_TENSOR_FC_WEIGHT, &weight);
    }
    if (error == CWB_OK) {
        error = cwb_check(&weight, scratch, sizeof scratch); /* once, at boot */
    }
    if (error == CWB_OK) {
        error = fully_connected(&weight, sizeof layer_output, layer_input, model_bias_fc_weight,
                                model_multiplier_fc_weight, model_shift_fc_weight, scratch, sizeof scratch,
                                layer_output);
    }
    return error == CWB_OK ? 0 : 1;
}
