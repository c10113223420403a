/* SPDX-License-Identifier: Apache-2.0
 *
 * What a program makes of a .cwb file by decoder_c/host/cwb_onnx.h: its model on standard output. Exit code 4: it is refused.
 */
#include "host/cwb_onnx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 24 };

/* Says on standard error how much memory the program took at most, in kB: what the parent took counts in getrusage. */
static void say_memory(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];

    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            fprintf(stderr, "%ld\n", strtol(line + 6, NULL, 10));
        }
    }
}

int main(int count, char **arguments)
{
    static unsigned char file[MOST];
    FILE *from = count == 2 ? fopen(arguments[1], "rb") : NULL;
    size_t size = from != NULL ? fread(file, 1, MOST, from) : 0, written;
    cwb_onnx *model;
    unsigned char *out;
    int error = cwb_onnx_open(&model, file, size, NULL, 0);

    if (error != CWB_OK) {
        say_memory();
        return 4;
    }
    written = cwb_onnx_size(model);
    out = malloc(written > 0 ? written : 1);
    error = out == NULL ? CWB_ONNX_ERR_MEMORY : cwb_onnx_bytes(model, out, written);
    if (error == CWB_OK) {
        fwrite(out, 1, written, stdout);
    }
    say_memory();
    free(out);
    cwb_onnx_close(model);
    return error == CWB_OK ? 0 : 4;
}
