/* SPDX-License-Identifier: Apache-2.0
 *
 * campaign FIRST COUNT FILE...: mutations number FIRST to FIRST + COUNT - 1 of the files in turn, of which every other
 * one has its CRCs made right.
 * campaign - FILE: damaged copies of the file from stdin, each behind its kind (a byte) and its size (four, lowest
 * first). Of the last kind, other contents are no failure.
 *
 * Prints one line per kind of damage, outcome and first error: how many there were.
 *
 * The number alone determines the mutation. When a promise is broken or a sanitizer stops the program, the number and
 * the file are printed and written to crash-NUMBER.cwb.
 *
 * cwb.c must be compiled with -fsanitize-coverage=trace-pc: every basic block that it executes is counted, and a call
 * that exceeds what exercise.c allows is a hang, whatever the speed of the machine.
 */
#include "exercise.h"
#include "mutate.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* For the test that a hang is noticed. */
#ifndef ALLOWANCE
#define ALLOWANCE(blocks) (blocks)
#endif

enum { MAX_SEEDS = 64, ERRORS = 32 };
enum { DETECTED, HARMLESS, SILENT, HANG, OUTCOMES };
enum { DAMAGED, FORGED, FLIP, CUT, SPLICE, KINDS };

typedef struct {
    uint8_t *data;
    size_t size;
    outcome whole;
} original;

static unsigned long counts[KINDS][OUTCOMES][ERRORS];
static uint64_t blocks, most = ~(uint64_t)0;
static jmp_buf stopped;
static unsigned long number;
static const uint8_t *current;
static size_t current_size;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
    if (++blocks > most) {
        most = ~(uint64_t)0;
        longjmp(stopped, 1);
    }
}

void allow(uint64_t more)
{
    blocks = 0;
    most = ALLOWANCE(more);
}

static void keep(const char *what)
{
    char name[64];
    FILE *out;

    sprintf(name, "%s-%lu.cwb", what, number);
    out = fopen(name, "wb");
    if (out != NULL) {
        fwrite(current, 1, current_size, out);
        fclose(out);
    }
}

void broken(int line, const char *promise)
{
    fprintf(stderr, "mutation %lu: exercise.c:%d: %s\n", number, line, promise);
    keep("crash");
    exit(99);
}

#ifdef __SANITIZE_ADDRESS__
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0"; /* what a call that was stopped had been given is lost */
}

void __sanitizer_set_death_callback(void (*)(void));
static void death(void)
{
    fprintf(stderr, "mutation %lu: stopped by a sanitizer\n", number);
    keep("crash");
}
#endif

static cwb_error first_error(const outcome *seen)
{
    uint32_t i;

    for (i = 0; i < seen->count; i++) {
        if (seen->items[i].error != CWB_OK) {
            return seen->items[i].error;
        }
    }
    return CWB_OK;
}

/* Does something that is said to be right differ from the original? */
static int is_silent(const outcome *seen, const outcome *whole)
{
    uint32_t i;

    if (seen->items[0].error != CWB_OK) {
        return 0;
    }
    for (i = 0; i < seen->count; i++) {
        if (i >= whole->count || (seen->items[i].error == CWB_OK && seen->items[i].digest != whole->items[i].digest)) {
            return 1;
        }
    }
    return seen->count != whole->count;
}

static void load(const char *path, original *to)
{
    FILE *in = fopen(path, "rb");

    to->data = malloc(MAX_FILE);
    if (in == NULL || to->data == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    to->size = fread(to->data, 1, MAX_FILE, in);
    fclose(in);
    current = to->data;
    current_size = to->size;
    if (setjmp(stopped) == 0) {
        exercise(to->data, to->size, 1, &to->whole);
    } else {
        fprintf(stderr, "%s: more than %lu blocks\n", path, (unsigned long)blocks);
        exit(98);
    }
    if (first_error(&to->whole) != CWB_OK) {
        fprintf(stderr, "%s: %s\n", path, cwb_strerror(first_error(&to->whole)));
        exit(2);
    }
}

/* Counts what the decoder makes of the first `size` bytes of `work`, a copy of `from` that was damaged. */
static void judge(int kind, const uint8_t *work, size_t size, uint32_t seed, const original *from)
{
    static outcome seen;
    uint8_t *volatile exact = malloc(size + 1); /* at an odd address, which ends with the file */

    if (exact == NULL) {
        exit(2);
    }
    memcpy(exact + 1, work, size);
    current = exact + 1;
    current_size = size;
    if (setjmp(stopped) == 0) {
        int free_to_differ = kind == FORGED || kind == SPLICE, result;
        cwb_error error;

        exercise(current, current_size, seed, &seen);
        most = ~(uint64_t)0;
        error = first_error(&seen);
        result = !free_to_differ && is_silent(&seen, &from->whole) ? SILENT : error == CWB_OK ? HARMLESS : DETECTED;
        if (result == SILENT) {
            keep("silent");
        }
        counts[kind][result][-error]++;
    } else {
        keep("hang");
        counts[kind][HANG][0]++;
    }
    free(exact);
    current = NULL;
    current_size = 0;
}

static uint32_t random_of(unsigned long value)
{
    uint32_t random = (uint32_t)value * 2654435761u ^ 0x9E3779B9u;

    return random ? random : 1;
}

static void numbered(unsigned long first, unsigned long end, const original *seeds, int files)
{
    static uint8_t work[MAX_FILE + 64];

    for (number = first; number < end; number++) {
        const original *from = &seeds[number / 2 % (unsigned long)files];
        uint32_t random = random_of(number);
        int kind = number % 2 ? FORGED : DAMAGED;
        size_t size;

        memcpy(work, from->data, from->size);
        size = kind == FORGED ? forge(work, from->size, &random) : damage(work, from->size, &random);
        judge(kind, work, size, random, from);
    }
}

/* Returns 0 at the end of stdin, or 2 if it ends too early. */
static int streamed(const original *from)
{
    static uint8_t work[1 << 20];
    uint8_t head[5];
    size_t found;

    for (number = 0; (found = fread(head, 1, sizeof head, stdin)) == sizeof head; number++) {
        size_t size = head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 | (size_t)head[4] << 24;

        if (head[0] >= KINDS || size > sizeof work || fread(work, 1, size, stdin) != size) {
            return 2;
        }
        judge(head[0], work, size, random_of(number), from);
    }
    return found ? 2 : 0;
}

int main(int argc, char **argv)
{
    static original seeds[MAX_SEEDS];
    int stream = argc == 3 && strcmp(argv[1], "-") == 0;
    char **paths = argv + (stream ? 2 : 3);
    int files = argc - (stream ? 2 : 3), i, j, k, result = 0;

    if (files < 1 || files > MAX_SEEDS) {
        fprintf(stderr, "campaign FIRST COUNT FILE... | campaign - FILE\n");
        return 2;
    }
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(death);
#endif
    for (i = 0; i < files; i++) {
        load(paths[i], &seeds[i]);
    }
    if (stream) {
        result = streamed(&seeds[0]);
    } else {
        unsigned long first = strtoul(argv[1], NULL, 10);

        numbered(first, first + strtoul(argv[2], NULL, 10), seeds, files);
    }
    for (i = 0; i < KINDS; i++) {
        for (j = 0; j < OUTCOMES; j++) {
            for (k = 0; k < ERRORS; k++) {
                if (counts[i][j][k] > 0) {
                    printf("%d %d %d %lu\n", i, j, k, counts[i][j][k]);
                }
            }
        }
    }
    for (i = 0; i < files; i++) {
        free(seeds[i].data);
    }
    return result;
}
