/* SPDX-License-Identifier: Apache-2.0
 *
 * See cwb_sections.h.
 */
#include "cwb_sections.h"

#include "cwb_inflate.h"
#include "cwb_onnx.h"
#include "cwb_pack.h"
#include "cwb_texts.h"

#include <stdlib.h>

#define MOST_BYTES INT32_MAX /* of a protobuf message */
#define TEXTS ((size_t)CWB_PRIMER + CWB_DICTIONARY)

/* A varint of the format: at most 32 bits, in its shortest form. Where it ends, or null. */
const uint8_t *cwb_read_varint(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
    uint32_t i;

    *value = 0;
    for (i = 0; i < 5 && p != end; i++) {
        *value |= (uint64_t)(*p & 127) << 7 * i;
        if (*p++ < 128) {
            return *value >> 32 != 0 || (i > 0 && p[-1] == 0) ? NULL : p;
        }
    }
    return NULL;
}

/* Takes memory for `size` bytes behind the format's texts, to which they may refer. */
static int take_text(uint64_t size, uint8_t **memory)
{
    size_t written;

    if (size > MOST_BYTES) {
        return CWB_ONNX_ERR_PACKED;
    }
    *memory = malloc(TEXTS + (size_t)size);
    if (*memory == NULL) {
        return CWB_ONNX_ERR_MEMORY;
    }
    return cwb_inflate(*memory, 0, TEXTS, cwb_texts, cwb_texts_size, &written) ? CWB_OK : CWB_ONNX_ERR_PACKED;
}

/* Unpacks a graph section of version 1. */
static int inflate_section(const uint8_t **data, size_t *size, uint8_t **memory)
{
    const uint8_t *code = *data;
    size_t code_size = *size;
    int error;

    if (!cwb_inflate(NULL, CWB_DICTIONARY, MOST_BYTES, code, code_size, size)) {
        return CWB_ONNX_ERR_PACKED;
    }
    error = take_text(*size, memory);
    if (error != CWB_OK) {
        return error;
    }
    *data = *memory + TEXTS;
    return cwb_inflate(*memory + TEXTS, CWB_DICTIONARY, *size, code, code_size, size) ? CWB_OK : CWB_ONNX_ERR_PACKED;
}

/* Unpacks a graph section of version 2. */
static int unpack_section(const uint8_t **data, size_t *size, uint8_t **memory)
{
    const uint8_t *end = *data + *size, *code;
    cwb_pack_model *packer;
    uint64_t content;
    int error;

    code = cwb_read_varint(*data, end, &content);
    if (code == NULL || content > 65536 + UINT64_C(1024) * *size) {
        return CWB_ONNX_ERR_PACKED;
    }
    if (content == 0) { /* stored */
        *data = code;
        *size = (size_t)(end - code);
        return *size > MOST_BYTES ? CWB_ONNX_ERR_PACKED : CWB_OK;
    }
    error = take_text(content, memory);
    packer = error == CWB_OK ? malloc(cwb_pack_model_bytes()) : NULL;
    if (packer == NULL) {
        return error != CWB_OK ? error : CWB_ONNX_ERR_MEMORY;
    }
    cwb_pack_prime(packer, *memory, CWB_PRIMER);
    error = cwb_unpack(packer, *memory, (size_t)content, code, (size_t)(end - code)) ? CWB_OK : CWB_ONNX_ERR_PACKED;
    free(packer);
    *data = *memory + CWB_PRIMER;
    *size = (size_t)content;
    return error;
}

int cwb_unpack_section(uint32_t version, const uint8_t **data, size_t *size, uint8_t **memory)
{
    *memory = NULL;
    return (version == 1 ? inflate_section : unpack_section)(data, size, memory);
}
