/* SPDX-License-Identifier: Apache-2.0
 *
 * Updates over the air: a base in flash that is never written, and deltas received beside it (docs/deltas.md).
 *
 * Two slots of flash take deltas in turn. A slot begins with a marker of 16 bytes, then comes the delta. The marker is
 * written last, when the delta has been checked where it lies; until then the model is what it was before. At each
 * reset ota_start takes the slot with the highest number whose marker and delta are whole. No marker: the base alone.
 *
 *     marker: number of the update from 1 | bytes of the delta | their CRC-32 | CRC-32 of these 12 bytes, little-endian
 *
 * Functions return CWB_OK or what went wrong, CWB_ERR_... or OTA_ERR_FLASH; after an error nothing has changed.
 */
#ifndef OTA_H
#define OTA_H

#include "cwb.h"

enum {
    OTA_MARKER = 16,     /* bytes */
    OTA_UNIT = 8,        /* bytes that flash programs at once */
    OTA_ERR_FLASH = -100 /* flash does not hold what was written */
};

/* What you write for your board. Slots lie in pages of their own, mapped into memory. */
extern const uint8_t *const ota_slots[2];
extern const uint32_t ota_slot_bytes;
int ota_flash_erase(int slot); /* all pages of the slot, the first page first; 0 if done */
int ota_flash_program(int slot, uint32_t offset, const uint8_t unit[OTA_UNIT]); /* offset is a multiple of OTA_UNIT */

/* The model as it is now. */
typedef struct {
    cwb_file base;
    cwb_delta delta; /* used if number > 0 */
    uint32_t number; /* of the update; 0: the base alone */
    int slot;
} ota_model;

/* At reset: opens the base and the newest delta that is whole. The error is the base's. */
cwb_error ota_start(ota_model *model, const void *base, size_t size);

/* A tensor of the model, for cwb_delta_begin and cwb_delta_read_i8: of base and delta side by side, or of the base. */
cwb_error ota_tensor(const ota_model *model, uint32_t index, cwb_changed *tensor);

/* A delta that is being received. */
typedef struct {
    const ota_model *model;
    int slot; /* the one that the model does not use */
    uint32_t size;
    uint8_t unit[OTA_UNIT];
} ota_update;

/* Erase the other slot; take pieces of any size in turn; check the delta and make it the model that the next ota_start
 * finds. Scratch memory: CWB_MAX_SCRATCH + CWB_SCRATCH_ADAPTIVE is enough for every delta. */
int ota_begin(ota_update *update, const ota_model *model);
int ota_write(ota_update *update, const uint8_t *data, size_t size);
int ota_finish(ota_update *update, uint16_t *scratch, size_t scratch_bytes);

#endif
