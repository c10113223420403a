/* SPDX-License-Identifier: Apache-2.0
 *
 * Elements of tensors: decoded values as a graph wants them (docs/format.md, "Graph section").
 */
#ifndef CWB_ELEMENTS_H
#define CWB_ELEMENTS_H

#include "cwb.h"

/* What a graph makes of a tensor's values. */
typedef struct {
    int32_t type;   /* of ONNX; 0: as they are stored */
    int halves;     /* of bytes: two values make an element of uint8 */
    int64_t offset; /* what is added to integers */
} cwb_target;

/* Bytes that `count` values take in this type; 0 if they cannot be of that type. */
uint64_t cwb_element_bytes(const cwb_target *target, uint64_t count);

/* Decodes a tensor to `out`, of any alignment, in row-major order, and checks it: CWB_ONNX_ERR_TENSORS if a value does not fit the
 * type, CWB_ONNX_ERR_MEMORY, and what cwb_delta_decode_f32 and cwb_delta_check return. */
int cwb_decode_elements(const cwb_changed *tensor, const cwb_target *target, uint8_t *out);

#endif
