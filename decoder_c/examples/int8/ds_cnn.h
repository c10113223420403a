/* SPDX-License-Identifier: Apache-2.0
 *
 * A depthwise-separable network, all of it in int8, its weights decoded layer by layer: docs/firmware.md explains it.
 */
#ifndef DS_CNN_H
#define DS_CNN_H

#include "cwb.h"

/* Bytes of memory that a run takes, whatever they held before. */
size_t ds_cnn_arena_bytes(void);

/* One run. `input` and `output` are the model's, floats in the order of ONNX. `model` has been opened, and each of its
 * tensors checked, at boot. The arena is aligned to 8 bytes. CWB_OK, an error of cwb.h, or CWB_ERR_ARGUMENT if a kernel
 * refuses what it is given. */
cwb_error ds_cnn_run(const cwb_file *model, const float *input, float *output, void *arena, size_t bytes);

#endif
