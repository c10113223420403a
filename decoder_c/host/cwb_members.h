/* SPDX-License-Identifier: Apache-2.0
 *
 * The tensors of a file, their names, and what a graph makes of them.
 */
#ifndef CWB_MEMBERS_H
#define CWB_MEMBERS_H

#include "cwb_elements.h"
#include "cwb_messages.h"
#include "cwb_onnx.h"

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

typedef struct {
    cwb_member *list;
    size_t count;
} cwb_members;

/* Reads from the directory what does not depend on names and graph. CWB_ONNX_ERR_LIMIT, _LARGE, _MEMORY. */
int cwb_read_members(cwb_tree *tree, const cwb_delta *files, int is_delta, cwb_members *members);

/* Reads a name for each, and moves *p behind the last. CWB_ERR_NAME, CWB_ONNX_ERR_MEMORY. */
int cwb_name_members(cwb_tree *tree, const cwb_members *members, const uint8_t **p, const uint8_t *end);

/* Calls them by their numbers: #0, #1, ... CWB_ONNX_ERR_MEMORY. */
int cwb_number_members(cwb_tree *tree, const cwb_members *members);

/* Writes a number in decimal digits, at most 20; returns how many. */
size_t cwb_put_digits(char *out, uint64_t number);

#endif
