/* SPDX-License-Identifier: Apache-2.0
 *
 * What the taps of a convolution read at some of its positions; host only.
 */
#ifndef CWB_COLUMNS_H
#define CWB_COLUMNS_H

#include <stddef.h>

/* A convolution of two axes: rows and columns of its input. */
typedef struct {
    size_t sizes[2];     /* of the input */
    size_t kernel[2];    /* taps */
    size_t strides[2];   /* from one window to the next */
    size_t dilations[2]; /* from one tap to the next */
    size_t begins[2];    /* zeros before the input */
} cwb_windows;

/* Every `step`th index, `count` of them. */
typedef struct {
    size_t first, step, count;
} cwb_range;

/* Copies what each tap of each channel reads; around the input are zeros.
 *
 * x         (samples, channels, sizes) the input
 * parts     (count, 3) positions, part by part: all combinations of samples, rows and columns of the output
 * out       (channels, kernel, positions) the result
 */
void cwb_columns(const float *x, size_t channels, const cwb_windows *windows, const cwb_range *parts, size_t count,
                 float *out);

#endif
