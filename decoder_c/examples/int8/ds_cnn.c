/* SPDX-License-Identifier: Apache-2.0
 *
 * A depthwise-separable network, all of it in int8: convolutions, a mean, a matrix. CMSIS-NN computes the layers; the
 * weights of each are decoded right before it runs.
 *
 *     cerwu-onnx compress model.onnx model.cwb --calib calib.npz --weight-layout cmsis     (8 bits: docs/firmware.md)
 *     cerwu-onnx calibrate model.cwb scales.json --calib calib.npz
 *     cerwu-onnx export-c model.cwb firmware --name model --scales scales.json
 *
 * Nothing here names a layer: the table comes from MODEL_INT8_LAYERS in model.h. So this file runs every network whose
 * layers follow each other, with nothing between them but activation functions and one mean over all positions. What
 * else a network has (sums, pools, Flatten of an image) is to be added here.
 *
 * The arena: the layer's input at one end, its output at the other, its weights and the kernel's buffer between them.
 */
#include "ds_cnn.h"

#include "arm_nnfunctions.h"
#include "model.h"

typedef enum { conv, depthwise, fully_connected } kernel;

typedef struct {
    kernel kind;
    uint32_t tensor;
    int32_t in[4], out[4]; /* N, C, H, W; of a matrix N, C */
    int32_t kernel[4];     /* O, I, H, W; of a matrix not used */
    int32_t strides[2], pads[4], dilations[2];
    int32_t in_zero, out_zero, out_min, out_max;
    const int32_t *multiplier, *shift, *bias;
} layer;

#define WINDOW_conv(ID) {MODEL_SHAPE_##ID}, {MODEL_STRIDES_##ID}, {MODEL_PADS_##ID}, {MODEL_DILATIONS_##ID}
#define WINDOW_depthwise(ID) WINDOW_conv(ID)
#define WINDOW_fully_connected(ID) {0}, {0}, {0}, {0}
#define LAYER(kind, ID, id, bias)                                                                                      \
    {kind,                                                                                                             \
     MODEL_TENSOR_##ID,                                                                                                \
     {MODEL_INPUT_DIMS_##ID},                                                                                          \
     {MODEL_OUTPUT_DIMS_##ID},                                                                                         \
     WINDOW_##kind(ID),                                                                                                \
     MODEL_INPUT_ZERO_##ID,                                                                                            \
     MODEL_OUTPUT_ZERO_##ID,                                                                                           \
     MODEL_OUTPUT_MIN_##ID,                                                                                            \
     MODEL_OUTPUT_MAX_##ID,                                                                                            \
     model_multiplier_##id,                                                                                            \
     model_shift_##id,                                                                                                 \
     bias},
#define SCALES(kind, ID, id, bias) {MODEL_INPUT_SCALE_##ID, MODEL_OUTPUT_SCALE_##ID},

static const layer layers[] = {MODEL_INT8_LAYERS(LAYER)};
static const float scales[][2] = {MODEL_INT8_LAYERS(SCALES)};
enum { LAYERS = sizeof layers / sizeof layers[0] };

static uint16_t scratch[MODEL_SCRATCH_BYTES / sizeof(uint16_t)];

static size_t elements(const int32_t dims[4])
{
    return (size_t)dims[1] * (size_t)(dims[2] > 0 ? dims[2] : 1) * (size_t)(dims[3] > 0 ? dims[3] : 1);
}

static cmsis_nn_dims channels_last(const int32_t dims[4])
{
    cmsis_nn_dims made = {1, dims[2] > 0 ? dims[2] : 1, dims[3] > 0 ? dims[3] : 1, dims[1]};

    return made;
}

/* Bytes of a layer's weights; one for each product of an input with an output of a matrix. */
static size_t weights_of(const layer *of)
{
    size_t taps = (size_t)of->kernel[2] * (size_t)of->kernel[3];

    return of->kind == fully_connected ? elements(of->in) * elements(of->out)
                                       : (size_t)of->kernel[0] * (size_t)of->kernel[1] * taps;
}

/* Runs the layer's kernel, or, without `output`, tells how many bytes `buffer` must have. */
static int32_t run(const layer *of, const int8_t *input, const int8_t *weights, void *buffer, int32_t size,
                   int8_t *output)
{
    const cmsis_nn_dims in = channels_last(of->in), out = channels_last(of->out), bias = {1, 1, 1, of->out[1]};
    const cmsis_nn_tile stride = {of->strides[1], of->strides[0]}, padding = {of->pads[1], of->pads[0]};
    const cmsis_nn_tile dilation = {of->dilations[1], of->dilations[0]};
    const cmsis_nn_activation range = {of->out_min, of->out_max};
    const cmsis_nn_per_channel_quant_params quant = {(int32_t *)of->multiplier, (int32_t *)of->shift};
    const cmsis_nn_context context = {buffer, size};

    if (of->kind == conv) {
        const cmsis_nn_conv_params params = {-of->in_zero, of->out_zero, stride, padding, dilation, range};
        const cmsis_nn_dims filter = {of->kernel[0], of->kernel[2], of->kernel[3], of->kernel[1]};

        return output == NULL ? arm_convolve_wrapper_s8_get_buffer_size(&params, &in, &filter, &out)
                              : arm_convolve_wrapper_s8(&context, &params, &quant, &in, input, &filter, weights, &bias,
                                                        of->bias, &out, output);
    }
    if (of->kind == depthwise) {
        const cmsis_nn_dw_conv_params params = {-of->in_zero, of->out_zero, of->out[1] / of->in[1], stride,
                                                padding,      dilation,     range};
        const cmsis_nn_dims filter = {1, of->kernel[2], of->kernel[3], of->kernel[0]};

        return output == NULL ? arm_depthwise_conv_wrapper_s8_get_buffer_size(&params, &in, &filter, &out)
                              : arm_depthwise_conv_wrapper_s8(&context, &params, &quant, &in, input, &filter, weights,
                                                              &bias, of->bias, &out, output);
    } else {
        const cmsis_nn_fc_params params = {-of->in_zero, 0, of->out_zero, range};
        const cmsis_nn_per_tensor_quant_params one = {of->multiplier[0], of->shift[0]}; /* rows share their step */
        const cmsis_nn_dims filter = {of->in[1], 1, 1, of->out[1]};

        return output == NULL ? arm_fully_connected_s8_get_buffer_size(&filter)
                              : arm_fully_connected_s8(&context, &params, &one, &in, input, &filter, weights, &bias,
                                                       of->bias, &out, output);
    }
}

/* Mean over all positions, in the grid of its input. CMSIS-NN wants four bytes for each channel. */
static int32_t mean(const layer *from, const int8_t *input, void *buffer, int32_t size, int8_t *output)
{
    const cmsis_nn_dims in = channels_last(from->out), filter = {1, in.h, in.w, 1}, out = {1, 1, 1, in.c};
    const cmsis_nn_pool_params params = {{in.w, in.h}, {0, 0}, {-128, 127}};
    const cmsis_nn_context context = {buffer, size};

    return output == NULL ? arm_avgpool_s8_get_buffer_size(1, in.c)
                          : arm_avgpool_s8(&context, &params, &in, input, &filter, &out, output);
}

static int needs_mean(size_t index)
{
    return index > 0 && layers[index].kind == fully_connected &&
           elements(layers[index - 1].out) > elements(layers[index].in);
}

/* Does the layer read what the one before it has written? */
static int follows(size_t index)
{
    const layer *of = &layers[index];

    return index == 0 ||
           (scales[index][0] == scales[index - 1][1] && (of - 1)->out[1] == of->in[1] &&
            (needs_mean(index) || elements((of - 1)->out) == elements(of->in)));
}

static size_t rounded(size_t bytes)
{
    return (bytes + 7) / 8 * 8;
}

size_t ds_cnn_arena_bytes(void)
{
    size_t most = 0, i;

    for (i = 0; i < LAYERS; i++) {
        const layer *of = &layers[i];
        size_t buffer = rounded((size_t)run(of, NULL, NULL, NULL, 0, NULL));
        size_t bytes = rounded(elements(of->in)) + buffer + rounded(weights_of(of)) + rounded(elements(of->out));

        most = bytes > most ? bytes : most;
        if (needs_mean(i)) {
            buffer = rounded((size_t)mean(of - 1, NULL, NULL, 0, NULL));
            bytes = rounded(elements((of - 1)->out)) + buffer + rounded(elements(of->in));
            most = bytes > most ? bytes : most;
        }
    }
    return most;
}

/* Where values of this size lie at an end of the arena. */
static int8_t *end_of(uint8_t *arena, size_t bytes, int upper, size_t size)
{
    return (int8_t *)(upper ? arena + bytes - rounded(size) : arena);
}

static cwb_error decode(const cwb_file *model, const layer *of, int8_t *weights)
{
    cwb_tensor tensor;
    cwb_stream stream;
    cwb_error error = cwb_tensor_at(model, of->tensor, &tensor);

    if (error == CWB_OK && tensor.count != weights_of(of)) error = CWB_ERR_SHAPE;
    if (error == CWB_OK) error = cwb_begin(&tensor, scratch, sizeof scratch, &stream);
    if (error == CWB_OK) error = cwb_read_i8(&stream, weights, tensor.count);
    return error == CWB_OK ? cwb_end(&stream) : error;
}

/* Floats, channels first, to int8, channels last. */
static void quantize(const float *input, int8_t *output)
{
    const cmsis_nn_dims dims = channels_last(layers[0].in);
    const int32_t area = dims.h * dims.w;
    int32_t i, c;

    for (i = 0; i < area; i++) {
        for (c = 0; c < dims.c; c++) {
            float value = input[c * area + i] / scales[0][0];
            int32_t rounded_value;

            value = value > 300.0f ? 300.0f : value < -300.0f ? -300.0f : value;
            rounded_value = (int32_t)(value >= 0 ? value + 0.5f : value - 0.5f) + layers[0].in_zero;
            *output++ = (int8_t)(rounded_value > 127 ? 127 : rounded_value < -128 ? -128 : rounded_value);
        }
    }
}

cwb_error ds_cnn_run(const cwb_file *model, const float *input, float *output, void *arena, size_t bytes)
{
    uint8_t *memory = arena;
    int upper = 0; /* end of the arena at which the values are */
    const int8_t *last;
    size_t i;

    bytes = bytes / 8 * 8;
    if (bytes < ds_cnn_arena_bytes()) {
        return CWB_ERR_SPACE;
    }
    quantize(input, (int8_t *)memory);
    for (i = 0; i < LAYERS; i++) {
        const layer *of = &layers[i];
        size_t from = elements(of->in), to = elements(of->out);
        uint8_t *between;
        int8_t *read, *weights;
        int32_t buffer;
        cwb_error error;

        if (!follows(i)) {
            return CWB_ERR_ARGUMENT;
        }
        if (needs_mean(i)) {
            size_t before = elements((of - 1)->out);

            buffer = mean(of - 1, NULL, NULL, 0, NULL);
            between = memory + rounded(upper ? from : before);
            read = end_of(memory, bytes, upper, before);
            if (mean(of - 1, read, between, buffer, end_of(memory, bytes, !upper, from)) != ARM_CMSIS_NN_SUCCESS) {
                return CWB_ERR_ARGUMENT;
            }
            upper = !upper;
        }
        buffer = run(of, NULL, NULL, NULL, 0, NULL);
        between = memory + rounded(upper ? to : from);
        weights = (int8_t *)between + rounded((size_t)buffer);
        error = decode(model, of, weights);
        if (error != CWB_OK) {
            return error;
        }
        read = end_of(memory, bytes, upper, from);
        if (run(of, read, weights, between, buffer, end_of(memory, bytes, !upper, to)) != ARM_CMSIS_NN_SUCCESS) {
            return CWB_ERR_ARGUMENT;
        }
        upper = !upper;
    }
    last = end_of(memory, bytes, upper, elements(layers[LAYERS - 1].out));
    for (i = 0; i < elements(layers[LAYERS - 1].out); i++) { /* of a matrix: one order only */
        output[i] = scales[LAYERS - 1][1] * (float)(last[i] - layers[LAYERS - 1].out_zero);
    }
    return CWB_OK;
}
