/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts what a model costs on a board: cycles of checking, of decoding per weight, and of a whole run if export-c was
 * called with --inference. Build it with the files that `cerwu-onnx export-c model.cwb FOLDER --name model` wrote, and
 * paste what it prints into an issue; docs/boards.md says how, board by board.
 *
 * Cycles come from the DWT of Cortex-M3 and larger, from ESP-IDF, Zephyr, RISC-V or Arduino's micros(). Elsewhere define
 * BENCH_CYCLES as an expression of type uint32_t, and BENCH_CYCLES_START as what turns the counter on.
 */
#include <stdio.h>

#include "model.h"

#ifndef BENCH_CYCLES_START
#define BENCH_CYCLES_START ((void)0)
#define BENCH_OWN_START
#endif

#ifdef BENCH_CYCLES
#define BENCH_UNIT "cycles"
#elif defined(ESP_PLATFORM)
#include "esp_cpu.h"
#define BENCH_UNIT "cycles"
#define BENCH_CYCLES ((uint32_t)esp_cpu_get_cycle_count())
#elif defined(__ZEPHYR__)
#include <zephyr/kernel.h>
#define BENCH_UNIT "cycles of k_cycle_get_32"
#define BENCH_CYCLES k_cycle_get_32()
#elif defined(__ARM_ARCH) && __ARM_ARCH >= 7 && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define BENCH_UNIT "cycles"
#define BENCH_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define BENCH_CYCLES BENCH_REGISTER(0xE0001004) /* DWT_CYCCNT */
#ifdef BENCH_OWN_START
#undef BENCH_CYCLES_START
#define BENCH_CYCLES_START (BENCH_REGISTER(0xE000EDFC) |= UINT32_C(1) << 24, BENCH_REGISTER(0xE0001000) |= 1) /* DEMCR */
#endif
#elif defined(__riscv) && !defined(__linux__)
#define BENCH_UNIT "cycles"
static uint32_t riscv_cycles(void)
{
    uint32_t cycles;

    __asm__ volatile("csrr %0, mcycle" : "=r"(cycles));
    return cycles;
}
#define BENCH_CYCLES riscv_cycles()
#elif defined(ARDUINO)
unsigned long micros(void);
#define BENCH_UNIT "microseconds"
#define BENCH_CYCLES ((uint32_t)micros())
#else
#include <time.h>
#define BENCH_UNIT "ticks of clock()"
#define BENCH_CYCLES ((uint32_t)clock())
#endif

#ifndef __VERSION__
#define __VERSION__ "?"
#endif

#define TILE 64

static uint16_t scratch[MODEL_SCRATCH_BYTES / sizeof(uint16_t)];
static int16_t tile[TILE];
static char line[160];

static void show(void (*print)(const char *), const char *what, uint32_t cycles, uint32_t weights)
{
    const uint32_t tenths = weights > 0 ? (uint32_t)((uint64_t)cycles * 10 / weights) : 0;

    if (weights > 0) {
        snprintf(line, sizeof line, "%s: %lu %s, %lu.%lu per weight", what, (unsigned long)cycles, BENCH_UNIT,
                 (unsigned long)(tenths / 10), (unsigned long)(tenths % 10));
    } else {
        snprintf(line, sizeof line, "%s: %lu %s", what, (unsigned long)cycles, BENCH_UNIT);
    }
    print(line);
}

static cwb_error decode(const cwb_tensor *tensor)
{
    cwb_stream stream;
    uint32_t left = tensor->count;
    cwb_error error = cwb_begin(tensor, scratch, sizeof scratch, &stream);

    while (error == CWB_OK && left > 0) {
        const uint32_t part = left < TILE ? left : TILE;

        error = cwb_read_i16(&stream, tile, part);
        left -= part;
    }
    return error == CWB_OK ? cwb_end(&stream) : error;
}

/* Measures, and hands over the report line by line. Returns CWB_OK, or what went wrong. */
int cwb_bench(void (*print)(const char *))
{
    cwb_file file;
    cwb_tensor tensor;
    uint32_t i, weights = 0, start;
    cwb_error error = cwb_open(&file, model_cwb, sizeof model_cwb);

    BENCH_CYCLES_START;
    print("cwb bench 1");
    print("board: (which, at what clock, flash or RAM?)");
    snprintf(line, sizeof line, "compiler: %.100s (which options?)", __VERSION__);
    print(line);
    snprintf(line, sizeof line, "cwb %s: %lu bytes, %lu tensors", CWB_VERSION, (unsigned long)MODEL_SIZE,
             (unsigned long)MODEL_TENSORS);
    print(line);

    start = BENCH_CYCLES;
    for (i = 0; i < MODEL_TENSORS && error == CWB_OK; i++) {
        error = cwb_tensor_at(&file, i, &tensor);
        if (error == CWB_OK) error = cwb_check(&tensor, scratch, sizeof scratch);
        if (error == CWB_OK && tensor.kind != CWB_RAW) weights += tensor.count;
    }
    show(print, "check", BENCH_CYCLES - start, weights);

    start = BENCH_CYCLES;
    for (i = 0; i < MODEL_TENSORS && error == CWB_OK; i++) {
        error = cwb_tensor_at(&file, i, &tensor);
        if (error == CWB_OK && tensor.kind != CWB_RAW) error = decode(&tensor);
    }
    show(print, "decode", BENCH_CYCLES - start, weights);

#if defined(MODEL_ARENA_BYTES) && defined(MODEL_INPUT_COUNT) && defined(MODEL_OUTPUT_COUNT)
    if (error == CWB_OK) {
        static model_arena arena;
        static float input[MODEL_INPUT_COUNT], output[MODEL_OUTPUT_COUNT];

        for (i = 0; i < MODEL_INPUT_COUNT; i++) input[i] = (float)(i % 17) / 17.0f;
        error = (cwb_error)model_start(&arena, sizeof arena);
        start = BENCH_CYCLES;
        if (error == CWB_OK) error = (cwb_error)model_run(input, output, &arena, sizeof arena);
        show(print, "run", BENCH_CYCLES - start, 0);
    }
#endif
    snprintf(line, sizeof line, "result: %s", cwb_strerror(error));
    print(line);
    return error;
}

#ifndef ARDUINO /* there Bench.ino calls it */
static void print_line(const char *text)
{
    puts(text);
}

#ifdef ESP_PLATFORM
void app_main(void)
{
    (void)cwb_bench(print_line);
}
#else
int main(void)
{
    return cwb_bench(print_line) != CWB_OK;
}
#endif
#endif
