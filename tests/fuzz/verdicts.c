/* SPDX-License-Identifier: Apache-2.0
 *
 * verdicts: what the decoder makes of each of the files on stdin.
 *
 * A file stands behind a byte of flags (1: make its CRCs right first; 2: give it back as it then is) and its size, four
 * bytes, lowest first. For each one this prints 20 bytes, numbers in the order of the machine: a verdict (int32: the first error, or 1 if a
 * call took more basic blocks than exercise.c allows), a CRC-32 of all that was decoded (uint32), the elements decoded
 * (uint32), the blocks executed (uint64); then, if asked for, the size (uint32) and the file.
 *
 * The first error is that of cwb_open, of each tensor's cwb_name and cwb_check, and of each section's CRC. The other
 * functions of cwb.h run too, those that stream and decode in place included, and must agree: see exercise.c.
 */
#include "exercise.h"
#include "mutate.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t blocks, total, most = ~(uint64_t)0;
static jmp_buf stopped;
static unsigned long number;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
    total++;
    if (++blocks > most) {
        most = ~(uint64_t)0;
        longjmp(stopped, 1);
    }
}

void allow(uint64_t more)
{
    blocks = 0;
    most = more;
}

void broken(int line, const char *promise)
{
    fprintf(stderr, "file %lu: exercise.c:%d: %s\n", number, line, promise);
    exit(99);
}

static uint32_t crc32_more(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *p = data;
    int bit;

    for (crc = ~crc; size > 0; size--) {
        crc ^= *p++;
        for (bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
        }
    }
    return ~crc;
}

/* One tensor: its error; what it holds goes on with *crc. */
static cwb_error tensor_verdict(const cwb_file *file, uint32_t index, uint32_t *crc, uint32_t *elements)
{
    static uint16_t scratch[CWB_MAX_SCRATCH / sizeof(uint16_t)];
    static int16_t symbols[MAX_DECODED];
    static int8_t exponents[MAX_DECODED];
    uint32_t dims[CWB_MAX_RANK], order;
    const char *name = "";
    size_t length = 0;
    cwb_tensor tensor;
    cwb_error error;

    (void)cwb_tensor_at(file, index, &tensor);
    cwb_shape(&tensor, dims);
    order = tensor.order;
    *crc = crc32_more(*crc, dims, 4 * (size_t)tensor.rank);
    error = cwb_name(file, index, &name, &length);
    if (error != CWB_OK && error != CWB_ERR_NOT_FOUND) {
        return error;
    }
    *crc = crc32_more(*crc, name, length);
    if (tensor.kind == CWB_RAW) {
        *crc = crc32_more(*crc, tensor.payload, tensor.payload_size);
        return cwb_check(&tensor, NULL, 0);
    }
    *crc = crc32_more(*crc, &tensor.step_bits, 4);
    *crc = crc32_more(*crc, &order, 4);
    if (tensor.count > MAX_DECODED) {
        return CWB_OK;
    }
    error = cwb_decode_i16(&tensor, scratch, sizeof scratch, symbols, tensor.count);
    *crc = crc32_more(*crc, symbols, error == CWB_OK ? 2 * (size_t)tensor.count : 0);
    if (error == CWB_OK && tensor.stepped) {
        (void)cwb_exponents(&tensor, exponents, MAX_DECODED);
        *crc = crc32_more(*crc, exponents, tensor.run > 0 ? tensor.count / tensor.run : dims[0]);
    }
    *elements += tensor.count;
    return error;
}

static cwb_error file_verdict(const uint8_t *data, size_t size, uint32_t *crc, uint32_t *elements)
{
    cwb_file file;
    cwb_error error = cwb_open(&file, data, size);
    uint32_t i;

    for (i = 0; error == CWB_OK && i < file.tensors; i++) {
        error = tensor_verdict(&file, i, crc, elements);
    }
    for (i = 32; error == CWB_OK && i < 128; i++) {
        const uint8_t *payload;
        uint32_t length;

        error = cwb_section(&file, (cwb_kind)i, &payload, &length);
        error = error == CWB_ERR_NOT_FOUND ? CWB_OK : error;
    }
    return error;
}

int main(void)
{
    static uint8_t work[MAX_FILE + 64];
    static outcome seen;
    uint8_t head[5];

    for (number = 0; fread(head, 1, sizeof head, stdin) == sizeof head; number++) {
        size_t size = head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 | (size_t)head[4] << 24;
        uint32_t numbers[3] = {1, 0, 0};
        uint64_t spent;
        uint8_t *volatile exact;

        if (size > MAX_FILE || fread(work, 1, size, stdin) != size) {
            return 2;
        }
        if (head[0] & 1) {
            seal(work, size);
        }
        exact = malloc(size + 1);
        if (exact == NULL) {
            return 2;
        }
        memcpy(exact + 1, work, size);
        total = 0;
        if (setjmp(stopped) == 0) {
            exercise(exact + 1, size, (uint32_t)number, &seen);
            most = ~(uint64_t)0;
            spent = total;
            numbers[0] = (uint32_t)file_verdict(exact + 1, size, &numbers[1], &numbers[2]);
        } else {
            spent = total;
        }
        free(exact);
        fwrite(numbers, 1, sizeof numbers, stdout);
        fwrite(&spent, 1, sizeof spent, stdout);
        if (head[0] & 2) {
            numbers[0] = (uint32_t)size;
            fwrite(numbers, 1, 4, stdout);
            fwrite(work, 1, size, stdout);
        }
        fflush(stdout);
    }
    return 0;
}
