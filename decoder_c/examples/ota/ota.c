/* SPDX-License-Identifier: Apache-2.0
 *
 * See ota.h.
 */
#include "ota.h"

static uint32_t crc32(const uint8_t *data, uint32_t size)
{
    uint32_t crc = UINT32_C(0xFFFFFFFF);
    int bit;

    while (size-- > 0) {
        crc ^= *data++;
        for (bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (crc & 1 ? UINT32_C(0xEDB88320) : 0);
        }
    }
    return ~crc;
}

static uint32_t load(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void store(uint8_t *p, uint32_t value)
{
    int i;

    for (i = 0; i < 4; i++) {
        p[i] = (uint8_t)(value >> 8 * i & 0xFF);
    }
}

/* The number in a slot's marker; 0 unless marker and delta are whole. */
static uint32_t number_in(int slot)
{
    const uint8_t *marker = ota_slots[slot];
    uint32_t size = load(marker + 4);

    if (load(marker + 12) != crc32(marker, 12) || size > ota_slot_bytes - OTA_MARKER ||
        load(marker + 8) != crc32(marker + OTA_MARKER, size)) {
        return 0;
    }
    return load(marker);
}

static cwb_error open_slot(cwb_delta *delta, int slot, uint32_t size, const cwb_file *base)
{
    return cwb_delta_open(delta, ota_slots[slot] + OTA_MARKER, size, base);
}

cwb_error ota_start(ota_model *model, const void *base, size_t size)
{
    uint32_t numbers[2];
    int turn;
    cwb_error error = cwb_open(&model->base, base, size);

    model->number = 0;
    model->slot = 1;
    if (error != CWB_OK) {
        return error;
    }
    numbers[0] = number_in(0);
    numbers[1] = number_in(1);
    for (turn = 0; turn < 2 && model->number == 0; turn++) {
        int slot = (numbers[1] > numbers[0]) ^ turn; /* the newer one, then the other */

        if (numbers[slot] > 0 && open_slot(&model->delta, slot, load(ota_slots[slot] + 4), &model->base) == CWB_OK) {
            model->number = numbers[slot];
            model->slot = slot;
        }
    }
    return CWB_OK;
}

cwb_error ota_tensor(const ota_model *model, uint32_t index, cwb_changed *tensor)
{
    if (model->number > 0) {
        return cwb_delta_tensor_at(&model->delta, index, tensor);
    }
    tensor->is_changed = 0;
    return cwb_tensor_at(&model->base, index, &tensor->tensor);
}

int ota_begin(ota_update *update, const ota_model *model)
{
    update->model = model;
    update->slot = 1 - model->slot;
    update->size = 0;
    return ota_flash_erase(update->slot) == 0 ? CWB_OK : OTA_ERR_FLASH;
}

int ota_write(ota_update *update, const uint8_t *data, size_t size)
{
    if (size > ota_slot_bytes - OTA_MARKER - update->size) {
        return CWB_ERR_SPACE;
    }
    while (size-- > 0) {
        update->unit[update->size++ % OTA_UNIT] = *data++;
        if (update->size % OTA_UNIT == 0 &&
            ota_flash_program(update->slot, OTA_MARKER + update->size - OTA_UNIT, update->unit) != 0) {
            return OTA_ERR_FLASH;
        }
    }
    return CWB_OK;
}

/* Checks every byte of the delta, and of the base, by decoding both as the model will. */
static cwb_error check(const ota_update *update, uint16_t *scratch, size_t scratch_bytes)
{
    cwb_delta delta;
    cwb_changed tensor;
    uint32_t i;
    cwb_error error = open_slot(&delta, update->slot, update->size, &update->model->base);

    for (i = 0; error == CWB_OK && i < update->model->base.tensors; i++) {
        error = cwb_delta_tensor_at(&delta, i, &tensor);
        if (error == CWB_OK) {
            error = cwb_delta_check(&tensor, scratch, scratch_bytes);
        }
    }
    return error;
}

int ota_finish(ota_update *update, uint16_t *scratch, size_t scratch_bytes)
{
    uint32_t size = update->size, number = update->model->number + 1, i;
    uint8_t marker[OTA_MARKER];
    int error;

    for (i = size; i % OTA_UNIT != 0; i++) {
        update->unit[i % OTA_UNIT] = 0xFF;
    }
    if (i != size && ota_flash_program(update->slot, OTA_MARKER + i - OTA_UNIT, update->unit) != 0) {
        return OTA_ERR_FLASH;
    }
    error = check(update, scratch, scratch_bytes);
    if (error != CWB_OK) {
        return error;
    }
    store(marker, number);
    store(marker + 4, size);
    store(marker + 8, crc32(ota_slots[update->slot] + OTA_MARKER, size));
    store(marker + 12, crc32(marker, 12));
    for (i = 0; i < OTA_MARKER; i += OTA_UNIT) {
        if (ota_flash_program(update->slot, i, marker + i) != 0) {
            return OTA_ERR_FLASH;
        }
    }
    return number_in(update->slot) == number ? CWB_OK : OTA_ERR_FLASH;
}
