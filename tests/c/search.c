/* SPDX-License-Identifier: Apache-2.0
 *
 * search rows columns block magnitudes: reads w, feedback, weight, row_feedback, price, bits and states from stdin, as
 * cwb_search takes them, each into memory of its exact size, for the sanitizers, and writes the values to stdout.
 */
#include "../../decoder_c/host/cwb_search.h"
#include "take.h"

int main(int argc, char **argv)
{
    size_t rows = (size_t)atoi(argv[1]), columns = (size_t)atoi(argv[2]), block = (size_t)atoi(argv[3]);
    size_t magnitudes = (size_t)atoi(argv[4]);
    double *w = take(rows * columns, sizeof(double));
    float *feedback = take(columns * block, sizeof(float)), *weight = take(columns, sizeof(float));
    double *row_feedback = take(rows * rows, sizeof(double));
    float *price = take(rows, sizeof(float)), *bits = take(2 * magnitudes, sizeof(float));
    uint8_t *states = take(128, 1);
    double *scratch = malloc(columns * sizeof(double)), *values = malloc(rows * columns * sizeof(double));

    (void)argc;
    cwb_search(w, rows, columns, block, feedback, weight, row_feedback, price, bits, magnitudes, states, scratch,
               values);
    fwrite(values, sizeof(double), rows * columns, stdout);
    free(w), free(feedback), free(weight), free(row_feedback), free(price), free(bits), free(states);
    free(scratch), free(values);
    return 0;
}
