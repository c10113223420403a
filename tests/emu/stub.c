/* SPDX-License-Identifier: Apache-2.0
 *
 * What the emulated machine runs. Each function takes the same words from the host (decoder.py mirrors them) and calls
 * the decoder's public functions. Everything that knows the decoder's interface is in this file.
 */
#include "cwb.h"

struct job {
    uint32_t data, size; /* the file */
    uint32_t index;      /* of the tensor */
    uint32_t scratch, scratch_bytes;
    uint32_t out, capacity; /* elements */
    uint32_t chunk;         /* elements per read; 0: 1, 2, 3 and so on */
    uint32_t result[8];
};

#define POINTER(type, address) ((type *)(uintptr_t)(address))

/* What an application holds: the RAM of a decoder besides scratch memory, stack, input and output. */
static cwb_file file;
static cwb_tensor tensor;
static cwb_stream stream;

static uint32_t told(cwb_error error)
{
    return (uint32_t)(int32_t)error;
}

static uint32_t read_all(const struct job *job)
{
    int16_t *out = POINTER(int16_t, job->out);
    uint32_t left = job->capacity, chunk = job->chunk;
    cwb_error error = cwb_begin(&tensor, POINTER(uint16_t, job->scratch), job->scratch_bytes, &stream);

    while (error == CWB_OK && left > 0) {
        chunk = job->chunk > 0 ? job->chunk : chunk + 1;
        if (chunk > left) {
            chunk = left;
        }
        error = cwb_read_i16(&stream, out, chunk);
        out += chunk;
        left -= chunk;
    }
    return told(error == CWB_OK ? cwb_end(&stream) : error);
}

/* Number of tensors; bytes of the structs above. */
uint32_t emu_open(struct job *job)
{
    cwb_error error = cwb_open(&file, POINTER(const uint8_t, job->data), job->size);

    job->result[0] = file.tensors;
    job->result[1] = sizeof file + sizeof tensor + sizeof stream;
    return told(error);
}

/* Checks the sections that there are; number of bytes in them. */
uint32_t emu_sections(struct job *job)
{
    static const cwb_kind kinds[4] = {CWB_GRAPH, CWB_METADATA, CWB_NAMES, CWB_MARGINS};
    const uint8_t *data;
    uint32_t size, i;

    job->result[0] = 0;
    for (i = 0; i < 4; i++) {
        cwb_error error = cwb_section(&file, kinds[i], &data, &size);

        if (error == CWB_OK) {
            job->result[0] += size;
        } else if (error != CWB_ERR_NOT_FOUND) {
            return told(error);
        }
    }
    return told(CWB_OK);
}

/* The tensor that the functions below decode: is it coded, elements, scratch bytes, payload. */
uint32_t emu_tensor(struct job *job)
{
    cwb_error error = cwb_tensor_at(&file, job->index, &tensor);

    job->result[0] = tensor.kind != CWB_RAW;
    job->result[1] = tensor.count;
    job->result[2] = (uint32_t)cwb_scratch_size(&tensor);
    job->result[3] = tensor.payload_size;
    job->result[4] = (uint32_t)(uintptr_t)tensor.payload;
    return told(error);
}

uint32_t emu_check(struct job *job)
{
    return told(cwb_check(&tensor, POINTER(uint16_t, job->scratch), job->scratch_bytes));
}

uint32_t emu_decode_i16(struct job *job)
{
    return told(cwb_decode_i16(&tensor, POINTER(uint16_t, job->scratch), job->scratch_bytes,
                               POINTER(int16_t, job->out), job->capacity));
}

uint32_t emu_decode_f32(struct job *job)
{
    return told(cwb_decode_f32(&tensor, POINTER(uint16_t, job->scratch), job->scratch_bytes,
                               POINTER(float, job->out), job->capacity));
}

uint32_t emu_stream_i16(struct job *job)
{
    return read_all(job);
}

/* The least an application does: open, one tensor, piece by piece. Linked alone, it tells the decoder's least size. */
uint32_t emu_minimal(struct job *job)
{
    cwb_error error = cwb_open(&file, POINTER(const uint8_t, job->data), job->size);

    if (error == CWB_OK) {
        error = cwb_tensor_at(&file, job->index, &tensor);
    }
    return error == CWB_OK ? read_all(job) : told(error);
}
