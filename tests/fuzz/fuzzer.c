/* SPDX-License-Identifier: Apache-2.0
 *
 * For libFuzzer, and AFL++, which takes the same function: README.md has the commands. Each input is tried as it is, and
 * once more with its CRCs made right, or hardly any would get past the first of them.
 */
#include "exercise.h"
#include "mutate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed);

void broken(int line, const char *promise)
{
    fprintf(stderr, "exercise.c:%d: %s\n", line, promise);
    abort();
}

/* The fuzzer has a time limit of its own. */
void allow(uint64_t blocks)
{
    (void)blocks;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static outcome seen;
    uint8_t *sealed = malloc(size + 1);

    if (sealed == NULL) {
        return 0;
    }
    exercise(data, size, (uint32_t)size, &seen);
    memcpy(sealed + 1, data, size);
    seal(sealed + 1, size);
    exercise(sealed + 1, size, (uint32_t)size, &seen);
    free(sealed);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed)
{
    static uint8_t work[MAX_FILE + 64];
    uint32_t random = seed * 2654435761u | 1;

    if (size > MAX_FILE) {
        return size;
    }
    memcpy(work, data, size);
    size = forge(work, size, &random);
    size = size < room ? size : room;
    memcpy(data, work, size);
    return size;
}

#ifdef GUIDED
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*function)(const uint8_t *data, size_t size));

/* guided.py links a libFuzzer that comes without a main function. */
int main(int argc, char **argv)
{
    return LLVMFuzzerRunDriver(&argc, &argv, LLVMFuzzerTestOneInput);
}
#endif

#ifdef REPLAY
/* replay FILE...: without a fuzzer's runtime. */
int main(int argc, char **argv)
{
    int i;

    for (i = 1; i < argc; i++) {
        FILE *in = fopen(argv[i], "rb");
        uint8_t *data = malloc(MAX_FILE), *exact;
        size_t size;

        if (in == NULL || data == NULL) {
            fprintf(stderr, "cannot read %s\n", argv[i]);
            return 2;
        }
        size = fread(data, 1, MAX_FILE, in);
        exact = malloc(size > 0 ? size : 1);
        if (exact == NULL) {
            return 2;
        }
        memcpy(exact, data, size);
        (void)LLVMFuzzerTestOneInput(exact, size);
        free(exact);
        free(data);
        fclose(in);
    }
    return 0;
}
#endif
