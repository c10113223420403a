/* SPDX-License-Identifier: Apache-2.0
 *
 * cwb-rebuild in.cwb out.bin: decodes every tensor of a .cwb file and writes their bytes, one tensor after the other in
 * the order of the directory: coded tensors as little-endian float32 in row-major order, raw tensors as they are. Prints
 * one line per tensor: name, element type, dimensions, number of elements, CRC-32 of its bytes in the order in which
 * they are stored.
 *
 * Exit code: 0 done, 1 out.bin cannot be written or memory is short, 2 wrong usage or no such input, 4 the file is
 * damaged (out.bin is then removed). A host program: unlike the decoder it uses stdio and malloc.
 */
#include "cwb.h"

#include <stdio.h>
#include <stdlib.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CORRUPT = 4 };

static uint16_t scratch[CWB_MAX_SCRATCH / sizeof(uint16_t)];

/* The whole file in malloced memory, or NULL. */
static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    unsigned char *data = NULL;
    size_t room = 0, used = 0;

    if (file == NULL) {
        return NULL;
    }
    for (;;) {
        if (used == room) {
            unsigned char *more;

            room = room < 65536 ? 65536 : room * 2;
            more = room > used ? realloc(data, room) : NULL;
            if (more == NULL) {
                break;
            }
            data = more;
        }
        used += fread(data + used, 1, room - used, file);
        if (ferror(file)) {
            break;
        }
        if (feof(file)) {
            fclose(file);
            *size = used;
            return data;
        }
    }
    fclose(file);
    free(data);
    return NULL;
}

/* Names come from the file: spaces, controls and backslashes are printed as \xHH so that a line stays a line. Where
 * they are absent, the tensor's index stands for its name. */
static void print_name(FILE *to, const cwb_file *file, uint32_t index)
{
    const char *name = NULL;
    size_t length = 0, i;

    if (cwb_name(file, index, &name, &length) != CWB_OK) {
        fprintf(to, "#%lu", (unsigned long)index);
        return;
    }
    for (i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];

        if (c <= 0x20 || c == 0x7F || c == '\\') {
            fprintf(to, "\\x%02X", c);
        } else {
            putc(c, to);
        }
    }
}

static void print_line(const cwb_file *file, const cwb_tensor *tensor, uint32_t index)
{
    uint32_t dims[CWB_MAX_RANK];
    uint8_t axis;

    cwb_shape(tensor, dims);
    print_name(stdout, file, index);
    printf(" %s ", tensor->type == CWB_FLOAT32   ? "float32"
                   : tensor->type == CWB_FLOAT16 ? "float16"
                   : tensor->type == CWB_FLOAT64 ? "float64"
                                                 : "bfloat16");
    if (tensor->rank == 0) {
        printf("scalar");
    }
    for (axis = 0; axis < tensor->rank; axis++) {
        printf("%s%lu", axis > 0 ? "x" : "", (unsigned long)dims[axis]);
    }
    printf(" %lu %08lx\n", (unsigned long)tensor->count, (unsigned long)tensor->crc);
}

/* Where element number i of the tensor stands among the decoded ones: the axis that was moved is the last there. */
static uint32_t stored_index(const cwb_tensor *tensor, const uint32_t *dims, uint32_t i)
{
    uint32_t moved, inner = 1;
    uint8_t axis = 0, k;

    switch (tensor->order) {
    case CWB_AXIS1_LAST:
        axis = 1;
        break;
    case CWB_AXIS0_LAST:
        break;
    case CWB_LAST_TWO_SWAPPED:
        axis = (uint8_t)(tensor->rank - 2);
        break;
    default:
        return i;
    }
    for (k = (uint8_t)(axis + 1); k < tensor->rank; k++) {
        inner *= dims[k];
    }
    moved = dims[axis];
    return (i / (moved * inner) * inner + i % inner) * moved + i / inner % moved;
}

static int write_floats(const cwb_tensor *tensor, const float *values, FILE *out)
{
    uint32_t dims[CWB_MAX_RANK];
    unsigned char bytes[4096];
    size_t used = 0;
    uint32_t i;

    cwb_shape(tensor, dims);
    for (i = 0; i < tensor->count; i++) {
        union {
            float value;
            uint32_t bits;
        } element;

        element.value = values[stored_index(tensor, dims, i)];
        bytes[used++] = (unsigned char)(element.bits & 0xFF);
        bytes[used++] = (unsigned char)((element.bits >> 8) & 0xFF);
        bytes[used++] = (unsigned char)((element.bits >> 16) & 0xFF);
        bytes[used++] = (unsigned char)(element.bits >> 24);
        if (used == sizeof bytes || i + 1 == tensor->count) {
            if (fwrite(bytes, 1, used, out) != used) {
                return 0;
            }
            used = 0;
        }
    }
    return 1;
}

static int corrupt(const char *path, const cwb_file *file, uint32_t index, cwb_error error)
{
    fprintf(stderr, "cwb-rebuild: %s: ", path);
    if (file != NULL) {
        fprintf(stderr, "tensor ");
        print_name(stderr, file, index);
        fprintf(stderr, ": ");
    }
    fprintf(stderr, "%s\n", cwb_strerror(error));
    return EXIT_CORRUPT;
}

static int failed(const char *path, const char *what)
{
    fprintf(stderr, "cwb-rebuild: %s: %s\n", path, what);
    return EXIT_FAILED;
}

static int rebuild_tensor(const cwb_file *file, uint32_t index, const char *in_path, FILE *out, const char *out_path)
{
    cwb_tensor found;
    const cwb_tensor *tensor = &found;
    cwb_error error = cwb_tensor_at(file, index, &found);
    int written;

    if (error != CWB_OK) {
        return corrupt(in_path, file, index, error);
    }
    if (tensor->kind == CWB_RAW) {
        error = cwb_check(tensor, NULL, 0);
        if (error != CWB_OK) {
            return corrupt(in_path, file, index, error);
        }
        written = fwrite(tensor->payload, 1, tensor->payload_size, out) == tensor->payload_size;
    } else {
        size_t bytes = (size_t)tensor->count * sizeof(float);
        float *values = bytes / sizeof(float) == tensor->count ? malloc(bytes) : NULL;

        if (values == NULL) {
            return failed(in_path, "not enough memory");
        }
        error = cwb_decode_f32(tensor, scratch, sizeof scratch, values, tensor->count);
        written = error == CWB_OK && write_floats(tensor, values, out);
        free(values);
        if (error != CWB_OK) {
            return corrupt(in_path, file, index, error);
        }
    }
    if (!written) {
        return failed(out_path, "cannot write");
    }
    print_line(file, tensor, index);
    return EXIT_DONE;
}

static int rebuild(const cwb_file *file, const char *in_path, const char *out_path)
{
    uint32_t index;
    int kind;
    int result = EXIT_DONE;
    FILE *out;

    for (kind = CWB_GRAPH; kind < 128; kind++) {
        const uint8_t *data;
        uint32_t size;
        cwb_error error = cwb_section(file, (cwb_kind)kind, &data, &size);

        if (error != CWB_OK && error != CWB_ERR_NOT_FOUND) {
            return corrupt(in_path, NULL, 0, error);
        }
    }
    out = fopen(out_path, "wb");
    if (out == NULL) {
        return failed(out_path, "cannot write");
    }
    for (index = 0; index < file->tensors && result == EXIT_DONE; index++) {
        result = rebuild_tensor(file, index, in_path, out, out_path);
    }
    if (fclose(out) != 0 && result == EXIT_DONE) {
        result = failed(out_path, "cannot write");
    }
    if (result != EXIT_DONE) {
        remove(out_path);
    }
    return result;
}

int main(int argc, char **argv)
{
    unsigned char *data;
    size_t size = 0;
    cwb_file file;
    cwb_error error;
    int result;

    if (argc != 3) {
        fprintf(stderr, "usage: cwb-rebuild in.cwb out.bin\n");
        return EXIT_USAGE;
    }
    data = read_file(argv[1], &size);
    if (data == NULL) {
        fprintf(stderr, "cwb-rebuild: %s: cannot read\n", argv[1]);
        return EXIT_USAGE;
    }
    error = cwb_open(&file, data, size);
    result = error == CWB_OK ? rebuild(&file, argv[1], argv[2]) : corrupt(argv[1], NULL, 0, error);
    free(data);
    return result;
}
