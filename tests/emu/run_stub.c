/* SPDX-License-Identifier: Apache-2.0
 *
 * What the emulated machine runs of a model that export-c --inference --name model wrote; inference.py mirrors it.
 */
#include "model.h"

struct job {
    uint32_t input, output, arena, bytes;
};

#define POINTER(type, address) ((type *)(uintptr_t)(address))

uint32_t emu_arena(const struct job *job)
{
    (void)job;
    return (uint32_t)model_arena_bytes();
}

uint32_t emu_start(const struct job *job)
{
    return (uint32_t)model_start(POINTER(void, job->arena), job->bytes);
}

uint32_t emu_run(const struct job *job)
{
    return (uint32_t)model_run(POINTER(const float, job->input), POINTER(float, job->output),
                               POINTER(void, job->arena), job->bytes);
}
