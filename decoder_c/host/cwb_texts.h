/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts that are part of the format: the primer of packed sections, and behind it the dictionary of version 1, which both deflate
 * to a few bytes. Written to cwb_texts.c by `make amalgamate` from cerwu_onnx/container/primer.py and dictionary.py.
 */
#ifndef CWB_TEXTS_H
#define CWB_TEXTS_H

#include <stddef.h>
#include <stdint.h>

#define CWB_PRIMER 30028
#define CWB_DICTIONARY 11344

/* A deflate stream of both. */
extern const uint8_t cwb_texts[];
extern const size_t cwb_texts_size;

#endif
