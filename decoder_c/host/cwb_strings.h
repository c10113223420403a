/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts that are compared: names of tensors, and the strings of a model.
 */
#ifndef CWB_STRINGS_H
#define CWB_STRINGS_H

#include "cwb_messages.h"

typedef struct {
    const uint8_t *data;
    size_t size;
    uint32_t order; /* where it stood before sorting */
} cwb_text;

typedef struct {
    cwb_text *texts;
    size_t count;
} cwb_texts;

/* Sorts texts by their bytes, equal ones by their order. No content makes this slow. */
void cwb_sort_texts(const cwb_texts *of);

int cwb_equal_texts(const cwb_text *a, const cwb_text *b);

/* Is the text one of these, which are sorted? */
int cwb_has_text(const cwb_texts *sorted, const cwb_text *text);

/* Bytes of the character of UTF-8 with which these begin; 0 if it is none. */
size_t cwb_character(const uint8_t *data, size_t size);
int cwb_is_utf8(const uint8_t *data, size_t size);

/* The strings of a model that an invented name must differ from, sorted, each with and without its first character: only those with
 * an underscore, as an invented name has one. CWB_ONNX_ERR_MODEL if one is not UTF-8, CWB_ONNX_ERR_MEMORY. */
int cwb_strings_of(cwb_tree *tree, cwb_texts *strings);

/* Invents a name: beginning, underscore, number, and more underscores as long as it is one of the others, which are sorted. 0 if memory
 * is short. */
int cwb_invent(cwb_tree *tree, const cwb_texts *taken, const cwb_texts *strings, uint32_t number, const uint8_t *beginning, size_t size,
               cwb_text *name);

#endif
