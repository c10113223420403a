/* SPDX-License-Identifier: Apache-2.0
 *
 * columns samples channels parts outputs: reads the ten numbers of a cwb_windows, the nine numbers of each part, and x
 * from stdin, as cwb_columns takes them, each into memory of its exact size, for the sanitizers, and writes the columns
 * to stdout.
 */
#include "../../decoder_c/host/cwb_columns.h"
#include "take.h"

int main(int argc, char **argv)
{
    size_t samples = (size_t)atoi(argv[1]), channels = (size_t)atoi(argv[2]), parts = (size_t)atoi(argv[3]);
    size_t outputs = (size_t)atoi(argv[4]);
    cwb_windows *windows = take(1, sizeof *windows);
    cwb_range *ranges = take(3 * parts, sizeof *ranges);
    float *x = take(samples * channels * windows->sizes[0] * windows->sizes[1], sizeof *x);
    float *out = malloc(outputs * sizeof *out);

    (void)argc;
    cwb_columns(x, channels, windows, ranges, parts, out);
    fwrite(out, sizeof *out, outputs, stdout);
    free(windows), free(ranges), free(x), free(out);
    return 0;
}
