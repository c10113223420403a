/* SPDX-License-Identifier: Apache-2.0
 *
 * The graph of a file: a model with placeholders, and the tensors that take their places (docs/format.md, "Graph section").
 */
#ifndef CWB_GRAPH_H
#define CWB_GRAPH_H

#include "cwb_members.h"

/* Reads a model and puts the tensors in the places of the placeholders. `section` are the bytes that the model takes in the file, which
 * bound what may become of it. CWB_ONNX_ERR_MODEL, _TENSORS, _REFERENCE, _OUTSIDE, _LIMIT, _LARGE, _MEMORY. */
int cwb_graph_read(cwb_tree *tree, const uint8_t *data, size_t size, uint32_t section, const cwb_members *members);

/* Puts a tensor apart, at `offset` of the file `location`, or inside if that is null. 0 if memory is short. */
int cwb_graph_put(cwb_tree *tree, cwb_member *member, const char *location, size_t offset);

#endif
