/* SPDX-License-Identifier: Apache-2.0
 *
 * See arm_nnfunctions.h. The arithmetic is that of TensorFlow Lite's integer kernels: sums in int32, then
 * sum * multiplier * 2^(shift - 31) in two roundings: of the product by 2^31 (halves up), then of the shift to the
 * right (halves away from 0).
 */
#include "arm_nnfunctions.h"

static int32_t requantize(int32_t sum, int32_t multiplier, int32_t shift)
{
    int32_t left = shift > 0 ? shift : 0, right = left - shift; /* shifts are -31 to 30 */
    int32_t value = (int32_t)((uint32_t)sum << left);
    int32_t high = (int32_t)(((int64_t)value * multiplier + ((int64_t)1 << 30)) >> 31);
    int64_t half = ((int64_t)1 << right) >> 1;

    return (int32_t)(high >= 0 ? (high + half) >> right : -((half - high) >> right));
}

static int8_t clamped(int32_t value, cmsis_nn_activation range)
{
    return (int8_t)(value < range.min ? range.min : value > range.max ? range.max : value);
}

/* What both convolutions share: where a window lies in the input. */
typedef struct {
    int32_t input_offset, output_offset;
    cmsis_nn_tile stride, padding, dilation;
    cmsis_nn_activation activation;
    const int8_t *input, *filter;
    const cmsis_nn_dims *input_dims, *filter_dims;
} window;

/* The products of a window: of `channels` input channels from `first` on. Their weights begin at filter[offset], and
 * each tap has its own `taps` weights further on. What lies in the padding stands for 0. */
static int32_t sum_of(const window *of, int32_t y, int32_t x, int32_t first, int32_t channels, int32_t offset,
                      int32_t taps)
{
    const int8_t *weights = of->filter + offset;
    int32_t sum = 0, i, j, c;

    for (i = 0; i < of->filter_dims->h; i++) {
        for (j = 0; j < of->filter_dims->w; j++, weights += taps) {
            int32_t row = y * of->stride.h - of->padding.h + i * of->dilation.h;
            int32_t column = x * of->stride.w - of->padding.w + j * of->dilation.w;
            const int8_t *values;

            if (row < 0 || row >= of->input_dims->h || column < 0 || column >= of->input_dims->w) {
                continue;
            }
            values = of->input + (row * of->input_dims->w + column) * of->input_dims->c + first;
            for (c = 0; c < channels; c++) {
                sum += (values[c] + of->input_offset) * weights[c];
            }
        }
    }
    return sum;
}

/* Every output of a convolution. With a multiplier, each input channel has so many outputs of its own (depthwise);
 * with 0, all input channels add up. */
static void convolve(const window *of, int32_t multiplier, const cmsis_nn_per_channel_quant_params *quant,
                     const int32_t *bias, const cmsis_nn_dims *output_dims, int8_t *output)
{
    int32_t inputs = of->input_dims->c, size = of->filter_dims->h * of->filter_dims->w * inputs, y, x, o;

    for (y = 0; y < output_dims->h; y++) {
        for (x = 0; x < output_dims->w; x++) {
            for (o = 0; o < output_dims->c; o++) {
                int32_t sum = multiplier > 0 ? sum_of(of, y, x, o / multiplier, 1, o, output_dims->c)
                                             : sum_of(of, y, x, 0, inputs, o * size, inputs);

                sum = requantize(sum + (bias ? bias[o] : 0), quant->multiplier[o], quant->shift[o]);
                *output++ = clamped(sum + of->output_offset, of->activation);
            }
        }
    }
}

arm_cmsis_nn_status arm_convolve_wrapper_s8(const cmsis_nn_context *ctx, const cmsis_nn_conv_params *params,
                                            const cmsis_nn_per_channel_quant_params *quant,
                                            const cmsis_nn_dims *input_dims, const int8_t *input,
                                            const cmsis_nn_dims *filter_dims, const int8_t *filter,
                                            const cmsis_nn_dims *bias_dims, const int32_t *bias,
                                            const cmsis_nn_dims *output_dims, int8_t *output)
{
    window of = {params->input_offset, params->output_offset, params->stride, params->padding, params->dilation,
                 params->activation,   input,                 filter,         input_dims,      filter_dims};

    (void)ctx, (void)bias_dims;
    convolve(&of, 0, quant, bias, output_dims, output);
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_depthwise_conv_wrapper_s8(const cmsis_nn_context *ctx, const cmsis_nn_dw_conv_params *params,
                                                  const cmsis_nn_per_channel_quant_params *quant,
                                                  const cmsis_nn_dims *input_dims, const int8_t *input,
                                                  const cmsis_nn_dims *filter_dims, const int8_t *filter,
                                                  const cmsis_nn_dims *bias_dims, const int32_t *bias,
                                                  const cmsis_nn_dims *output_dims, int8_t *output)
{
    window of = {params->input_offset, params->output_offset, params->stride, params->padding, params->dilation,
                 params->activation,   input,                 filter,         input_dims,      filter_dims};

    (void)ctx, (void)bias_dims;
    convolve(&of, params->ch_mult, quant, bias, output_dims, output);
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_fully_connected_s8(const cmsis_nn_context *ctx, const cmsis_nn_fc_params *params,
                                           const cmsis_nn_per_tensor_quant_params *quant,
                                           const cmsis_nn_dims *input_dims, const int8_t *input,
                                           const cmsis_nn_dims *filter_dims, const int8_t *filter,
                                           const cmsis_nn_dims *bias_dims, const int32_t *bias,
                                           const cmsis_nn_dims *output_dims, int8_t *output)
{
    int32_t o, k;

    (void)ctx, (void)bias_dims, (void)input_dims;
    for (o = 0; o < output_dims->c; o++) {
        int32_t sum = bias ? bias[o] : 0;

        for (k = 0; k < filter_dims->n; k++) {
            sum += (input[k] + params->input_offset) * (*filter++ + params->filter_offset);
        }
        sum = requantize(sum, quant->multiplier, quant->shift) + params->output_offset;
        output[o] = clamped(sum, params->activation);
    }
    return ARM_CMSIS_NN_SUCCESS;
}

/* Without padding, as for a mean over everything. */
arm_cmsis_nn_status arm_avgpool_s8(const cmsis_nn_context *ctx, const cmsis_nn_pool_params *params,
                                   const cmsis_nn_dims *input_dims, const int8_t *input,
                                   const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims, int8_t *output)
{
    int32_t count = filter_dims->h * filter_dims->w, y, x, c, i, j;

    (void)ctx;
    for (y = 0; y < output_dims->h; y++) {
        for (x = 0; x < output_dims->w; x++) {
            for (c = 0; c < output_dims->c; c++) {
                int32_t corner = y * params->stride.h * input_dims->w + x * params->stride.w, sum = 0;
                const int8_t *from = input + corner * input_dims->c + c;

                for (i = 0; i < filter_dims->h; i++) {
                    for (j = 0; j < filter_dims->w; j++) {
                        sum += from[(i * input_dims->w + j) * input_dims->c];
                    }
                }
                *output++ = clamped((sum > 0 ? sum + count / 2 : sum - count / 2) / count, params->activation);
            }
        }
    }
    return ARM_CMSIS_NN_SUCCESS;
}

int32_t arm_convolve_wrapper_s8_get_buffer_size(const cmsis_nn_conv_params *params, const cmsis_nn_dims *input_dims,
                                                const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims)
{
    (void)params, (void)input_dims, (void)filter_dims, (void)output_dims;
    return 0;
}

int32_t arm_depthwise_conv_wrapper_s8_get_buffer_size(const cmsis_nn_dw_conv_params *params,
                                                      const cmsis_nn_dims *input_dims, const cmsis_nn_dims *filter_dims,
                                                      const cmsis_nn_dims *output_dims)
{
    (void)params, (void)input_dims, (void)filter_dims, (void)output_dims;
    return 0;
}

int32_t arm_fully_connected_s8_get_buffer_size(const cmsis_nn_dims *filter_dims)
{
    (void)filter_dims;
    return 0;
}

int32_t arm_avgpool_s8_get_buffer_size(int output_width, int channels)
{
    (void)output_width, (void)channels;
    return 0;
}
