/* SPDX-License-Identifier: Apache-2.0
 *
 * Names of values that a graph section codes as references (docs/format.md, "Graph section").
 */
#ifndef CWB_REFERENCES_H
#define CWB_REFERENCES_H

#include "cwb_strings.h"

/* A node whose first output has the name of a tensor, unless its reference stands for another. */
typedef struct {
    uint32_t node;
    cwb_text name;
} cwb_constant;

/* Replaces references by names, of `most` bytes all together; the tensors of the model have their names already. `strings` are those
 * of the model before it was changed. Afterwards cwb_field.more of an initializer says whether it is read.
 * CWB_ONNX_ERR_REFERENCE, _LIMIT, _MEMORY. */
int cwb_restore_names(cwb_tree *tree, const cwb_constant *constants, size_t constant_count, const cwb_texts *strings,
                      uint64_t most);

#endif
