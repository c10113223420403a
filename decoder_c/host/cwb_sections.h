/* SPDX-License-Identifier: Apache-2.0
 *
 * Sections that are packed, or coded.
 */
#ifndef CWB_SECTIONS_H
#define CWB_SECTIONS_H

#include <stddef.h>
#include <stdint.h>

/* A varint of the format: at most 32 bits, in its shortest form. Where it ends, or null. */
const uint8_t *cwb_read_varint(const uint8_t *p, const uint8_t *end, uint64_t *value);

/* Unpacks a graph section: *data and *size are its payload, and then its content, which may lie in memory that is to be freed in any
 * case. CWB_ONNX_ERR_PACKED, _MEMORY. */
int cwb_unpack_section(uint32_t version, const uint8_t **data, size_t *size, uint8_t **memory);

#endif
