/* SPDX-License-Identifier: Apache-2.0
 *
 * Packed sections (docs/packed_sections.md): a model that predicts the next bit of a text, and an arithmetic coder. For
 * hosts: the model takes 0.7 MB, and each byte some thousand instructions.
 */
#ifndef CWB_PACK_H
#define CWB_PACK_H

#include <stddef.h>
#include <stdint.h>

/* What has been learnt from a text so far. A copy of its bytes is a copy of it. */
typedef struct cwb_pack_model cwb_pack_model;

size_t cwb_pack_model_bytes(void);

/* Begins a model, and lets it read the primer, the first `primer_size` bytes of `text`. */
void cwb_pack_prime(cwb_pack_model *model, const uint8_t *text, size_t primer_size);

/* Codes the `size` bytes behind the primer in `text`; returns how many bytes that takes. If they exceed `capacity`,
 * `out` holds the first of them. The model has just read the primer, and is of no use afterwards. */
size_t cwb_pack(cwb_pack_model *model, const uint8_t *text, size_t size, uint8_t *out, size_t capacity);

/* Decodes `size` bytes, and writes them behind the primer in `text`. Returns 0 if the code is damaged, else 1. For the
 * model as above. */
int cwb_unpack(cwb_pack_model *model, uint8_t *text, size_t size, const uint8_t *code, size_t code_size);

#endif
