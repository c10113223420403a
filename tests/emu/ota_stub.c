/* SPDX-License-Identifier: Apache-2.0
 *
 * What the emulated machine runs of decoder_c/examples/ota: a flash whose power can fail, and the calls of an
 * application. ota.py mirrors struct job; SLOT_PAGES and SCRATCH_BYTES come from there.
 *
 * Flash is an array in RAM that outlives resets. An erased bit is 1, and programming clears bits. Each page that is
 * erased and each byte that is programmed takes one unit of power. The step that finds none left is half done: some
 * bits of the page are erased, or some of the byte programmed. After it nothing reaches the flash until the host resets
 * the machine.
 */
#include "ota.h"

#define PAGE 512
#define TILE 64

struct job {
    uint32_t base, base_size;
    uint32_t data, size; /* the delta */
    uint32_t piece;      /* bytes that arrive at once */
    uint32_t power;      /* units */
    uint32_t out;        /* int16, all tensors' symbols in turn; 0: they are read and dropped */
    uint32_t used;       /* out: units of power; bytes of RAM that the application holds */
    uint32_t number;     /* out: of the update in use */
};

#define POINTER(type, address) ((type *)(uintptr_t)(address))

uint8_t flash[2][SLOT_PAGES * PAGE];
const uint8_t *const ota_slots[2] = {flash[0], flash[1]};
const uint32_t ota_slot_bytes = SLOT_PAGES * PAGE;
static uint32_t power;
static int dead;

static ota_model model;
static ota_update update;
static uint16_t scratch[SCRATCH_BYTES / sizeof(uint16_t)];

/* Is there power for a step? *half: for half of it. */
static int step(int *half)
{
    *half = power == 0;
    if (dead) {
        return 0;
    }
    dead = *half;
    power -= power > 0;
    return 1;
}

int ota_flash_erase(int slot)
{
    uint32_t page, i;
    int half;

    for (page = 0; page < SLOT_PAGES && step(&half); page++) {
        for (i = 0; i < PAGE; i++) {
            flash[slot][page * PAGE + i] |= half && i % 3 != 0 ? 0x55 : 0xFF;
        }
    }
    return 0;
}

int ota_flash_program(int slot, uint32_t offset, const uint8_t unit[OTA_UNIT])
{
    uint32_t i;
    int half;

    for (i = 0; i < OTA_UNIT && step(&half); i++) {
        flash[slot][offset + i] &= half ? unit[i] | 0x0F : unit[i];
    }
    return 0;
}

/* Receives a delta; the return value is the error. */
uint32_t emu_install(struct job *job)
{
    uint32_t left = job->size;
    const uint8_t *data = POINTER(const uint8_t, job->data);
    int error = ota_start(&model, POINTER(const void, job->base), job->base_size);

    power = job->power;
    dead = 0;
    if (error == CWB_OK) {
        error = ota_begin(&update, &model);
    }
    while (error == CWB_OK && left > 0) {
        uint32_t now = left < job->piece ? left : job->piece;

        error = ota_write(&update, data, now);
        data += now;
        left -= now;
    }
    if (error == CWB_OK) {
        error = ota_finish(&update, scratch, sizeof scratch);
    }
    job->used = job->power - power;
    return (uint32_t)error;
}

/* A reset: which model is there? */
uint32_t emu_boot(struct job *job)
{
    int error = ota_start(&model, POINTER(const void, job->base), job->base_size);

    job->number = model.number;
    job->used = sizeof model;
    return (uint32_t)error;
}

/* Reads all weights of that model, a tile at a time. */
uint32_t emu_weights(struct job *job)
{
    int16_t tile[TILE];
    int16_t *out = POINTER(int16_t, job->out);
    cwb_changed tensor;
    cwb_delta_stream stream;
    uint32_t index, left, now, i;
    cwb_error error = CWB_OK;

    for (index = 0; error == CWB_OK && index < model.base.tensors; index++) {
        error = ota_tensor(&model, index, &tensor);
        if (error != CWB_OK || tensor.tensor.kind == CWB_RAW) {
            continue;
        }
        error = cwb_delta_begin(&tensor, scratch, sizeof scratch, &stream);
        for (left = tensor.tensor.count; error == CWB_OK && left > 0; left -= now) {
            now = left < TILE ? left : TILE;
            error = cwb_delta_read_i16(&stream, tile, now);
            for (i = 0; out != NULL && i < now; i++) {
                *out++ = tile[i];
            }
        }
        if (error == CWB_OK) {
            error = cwb_delta_end(&stream);
        }
    }
    job->used = sizeof tile + sizeof tensor + sizeof stream;
    return (uint32_t)error;
}
