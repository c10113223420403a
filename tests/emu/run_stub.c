/* SPDX-License-Identifier: Apache-2.0
 *
 * What the emulated machine runs of the model called MODEL that export-c --inference wrote; inference.py mirrors it.
 */
#define TEXT(name) #name
#define HEADER(name) TEXT(name.h)
#define PASTE(name, function) name##_##function
#define CALL(name, function) PASTE(name, function)

#include HEADER(MODEL)

struct job {
    uint32_t input, output, arena, bytes;
};

#define POINTER(type, address) ((type *)(uintptr_t)(address))

uint32_t emu_arena(const struct job *job)
{
    (void)job;
    return (uint32_t)CALL(MODEL, arena_bytes)();
}

uint32_t emu_start(const struct job *job)
{
    return (uint32_t)CALL(MODEL, start)(POINTER(void, job->arena), job->bytes);
}

uint32_t emu_run(const struct job *job)
{
    return (uint32_t)CALL(MODEL, run)(POINTER(const float, job->input), POINTER(float, job->output),
                                      POINTER(void, job->arena), job->bytes);
}
