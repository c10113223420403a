/* SPDX-License-Identifier: Apache-2.0
 *
 * The graph of a file: a model with placeholders, and the tensors that take their places (docs/format.md, "Graph section").
 */
#ifndef CWB_GRAPH_H
#define CWB_GRAPH_H

#include "cwb_elements.h"
#include "cwb_onnx.h"
#include "cwb_references.h"

/* A tensor of a file. */
typedef struct {
    cwb_onnx_tensor info;
    cwb_changed stored;
    cwb_target target;
    int is_initializer;
    uint32_t place;    /* its message */
    uint32_t raw;      /* its field raw_data */
    uint32_t external; /* the first of its fields external_data, three, behind which data_location stands */
} cwb_member;

/* Reads a model and puts the tensors in the places of the placeholders. `section` are the bytes that the model takes in the file, which
 * bound what may become of it. CWB_ONNX_ERR_MODEL, _TENSORS, _REFERENCE, _OUTSIDE, _LIMIT, _LARGE, _MEMORY. */
int cwb_graph_read(cwb_tree *tree, const uint8_t *data, size_t size, uint32_t section, cwb_member *members, size_t count);

/* Puts a tensor apart, at `offset` of the file `location`, or inside if that is null. 0 if memory is short. */
int cwb_graph_put(cwb_tree *tree, cwb_member *member, const char *location, size_t offset);

/* Writes a number in decimal digits, at most 20; returns how many. */
size_t cwb_put_digits(char *out, uint64_t number);

#endif
