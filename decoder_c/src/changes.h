/* SPDX-License-Identifier: Apache-2.0
 *
 * Deltas: files that say how the tensors of another file, their base, change. Two streams are read side by side.
 *
 * Nothing in the other kernels calls this one, so linkers drop it where firmware does not.
 */
#ifndef CWB_CHANGES_H
#define CWB_CHANGES_H

#include "sections.h"
#include "tensors.h"

enum {
    BASE = 35, /* heads of records that only deltas have */
    UNCHANGED = 60,
    CHANGED = 61
};

/* Reads the next record of a delta; records->payload and ->payload_size say where that of the last one ended. Of unchanged and
 * changed tensors only head (in `kind`), payload, its size, CRC and `largest` are set. */
static cwb_error read_delta_record(cursor *c, cwb_tensor *record)
{
    uint8_t head = c->p != c->end ? *c->p : 0;

    if (head != BASE && head != UNCHANGED && head != CHANGED) {
        return read_record(c, record);
    }
    c->p++;
    record->payload += record->payload_size;
    record->payload_size = 0;
    record->kind = head;
    record->largest = 0;
    if (head != UNCHANGED) {
        record->payload_size = take_varint(c);
        record->crc = take_u32(c);
    }
    if (head == CHANGED) {
        uint32_t largest = take_varint(c);

        if (largest > CWB_MAX_SYMBOL) {
            return CWB_ERR_GRID;
        }
        record->largest = (uint16_t)largest;
    }
    return c->failed ? CWB_ERR_DIRECTORY : CWB_OK;
}

static int is_section(const cwb_tensor *record)
{
    return record->kind >= CWB_GRAPH && record->kind != UNCHANGED && record->kind != CHANGED;
}

/* Can the delta's record take the place of the base's tensor? */
static int takes_place(const cwb_tensor *record, const cwb_tensor *base)
{
    uint32_t dims[CWB_MAX_RANK], base_dims[CWB_MAX_RANK];
    uint8_t axis;

    if (record->kind == UNCHANGED) {
        return 1;
    }
    if (record->kind == CHANGED) {
        return base->kind != CWB_RAW;
    }
    if (record->rank != base->rank || record->type != base->type) {
        return 0;
    }
    cwb_shape(record, dims);
    cwb_shape(base, base_dims);
    for (axis = 0; axis < CWB_MAX_RANK; axis++) {
        if (dims[axis] != base_dims[axis]) {
            return 0;
        }
    }
    return 1;
}

/* Does this section of a delta name the base? It tells the size of its tensors' records and payloads, and the CRC of the records. */
static int names_base(const cwb_tensor *section, const cwb_file *base)
{
    cwb_tensor record;
    cursor c = directory_of(base, &record);
    const uint8_t *payloads = record.payload, *records = c.p;
    uint32_t left;

    for (left = base->tensors; left > 0; left--) {
        (void)read_record(&c, &record);
    }
    return load_u32(section->payload) == (uint32_t)(c.p - records) + (uint32_t)(record.payload + record.payload_size - payloads) &&
           has_crc(records, (uint32_t)(c.p - records), load_u32(section->payload + 4));
}

cwb_error cwb_delta_open(cwb_delta *delta, const void *data, size_t size, const cwb_file *base)
{
    cwb_tensor record, other;
    cursor c, others;
    const uint8_t *end;
    uint32_t left, tensors = 0;
    uint8_t last = 0; /* kind of the last section */
    int fits = 1, named = 0, matches = 0;
    cwb_error error;

    if (delta == NULL || base == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    /* cwb_open knows no delta's records: it stops at the first of them, when it has checked all before the directory */
    error = cwb_open(&delta->file, data, size);
    if (error == CWB_OK) {
        return CWB_ERR_BASE;
    }
    if (error != CWB_ERR_VERSION || load_u16((const uint8_t *)data + 4) != CWB_FORMAT_VERSION) {
        return error;
    }
    delta->base = *base;
    end = delta->file.data + delta->file.size;
    c = directory_of(&delta->file, &record);
    others = directory_of(base, &other);
    for (left = delta->file.records; left > 0; left--) {
        error = read_delta_record(&c, &record);
        if (error != CWB_OK) {
            return error;
        }
        if (record.payload_size > (size_t)(end - record.payload)) {
            return CWB_ERR_LAYOUT;
        }
        if (!is_section(&record)) {
            if (last > 0) {
                return CWB_ERR_DIRECTORY;
            }
            if (++tensors <= base->tensors) {
                (void)read_record(&others, &other);
                fits = fits && takes_place(&record, &other);
            }
        } else if (record.kind <= last || record.kind == CWB_GRAPH || record.kind == CWB_NAMES) {
            return CWB_ERR_DIRECTORY;
        } else {
            last = record.kind;
            if (record.kind == BASE) {
                if (record.payload_size != 8 || !has_crc(record.payload, 8, record.crc)) {
                    return CWB_ERR_PAYLOAD_CRC;
                }
                named = 1;
                matches = names_base(&record, base);
            }
        }
    }
    if (c.p != c.end || !named) {
        return CWB_ERR_DIRECTORY;
    }
    if (record.payload + record.payload_size != end) {
        return CWB_ERR_LAYOUT;
    }
    if (!matches) {
        return CWB_ERR_BASE;
    }
    return tensors == base->tensors && fits ? CWB_OK : CWB_ERR_SHAPE;
}

cwb_error cwb_delta_tensor_at(const cwb_delta *delta, uint32_t index, cwb_changed *tensor)
{
    cwb_tensor *record, *base;
    cursor c, others;

    if (delta == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (index >= delta->base.tensors) {
        return CWB_ERR_NOT_FOUND;
    }
    record = &tensor->changes;
    base = &tensor->tensor;
    c = directory_of(&delta->file, record);
    others = directory_of(&delta->base, base);
    do {
        (void)read_delta_record(&c, record);
        (void)read_record(&others, base);
    } while (index-- > 0);
    tensor->is_changed = record->kind == CHANGED;
    if (tensor->is_changed) {
        record->kind = CWB_ADAPTIVE;
        record->count = base->count;
        record->run = 0;
        record->stepped = 0;
    } else if (record->kind != UNCHANGED) {
        *base = *record;
    }
    return CWB_OK;
}

#ifndef CWB_NO_NAMES
cwb_error cwb_delta_find(const cwb_delta *delta, const char *name, size_t name_length, cwb_changed *tensor)
{
    uint32_t index = 0;
    cwb_error error;

    if (delta == NULL || name == NULL || tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = find_name(&delta->base, &index, &name, &name_length);
    return error == CWB_OK ? cwb_delta_tensor_at(delta, index, tensor) : error;
}
#endif

size_t cwb_delta_scratch_size(const cwb_changed *tensor)
{
    size_t size = tensor == NULL ? 0 : cwb_scratch_size(&tensor->tensor);

    return size > 0 && tensor->is_changed ? size + CWB_SCRATCH_ADAPTIVE : size;
}

cwb_error cwb_delta_begin(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, cwb_delta_stream *stream)
{
    size_t size;
    uint16_t *own;
    uint8_t i;
    cwb_error error;

    if (tensor == NULL || stream == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    size = cwb_delta_scratch_size(tensor);
    if (size > 0 && scratch_bytes < size) {
        return CWB_ERR_SPACE;
    }
    error = cwb_begin(&tensor->tensor, scratch, scratch_bytes, &stream->symbols);
    stream->is_changed = tensor->is_changed;
    stream->last = 0;
    if (error != CWB_OK || !tensor->is_changed) {
        return error;
    }
    own = scratch + (size - CWB_SCRATCH_ADAPTIVE) / 2;
    error = cwb_begin(&tensor->changes, own, CWB_SCRATCH_ADAPTIVE, &stream->changes);
    for (i = 0; error == CWB_OK && i < 2 * CONTEXT; i++) { /* no trellis: the terms are those of the first two contexts */
        own[2 * CONTEXT + i] = own[i];
    }
    return error;
}

cwb_error cwb_delta_read_i16(cwb_delta_stream *stream, int16_t *out, size_t count)
{
    cwb_stream *changes;
    cwb_error error;

    if (stream == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = cwb_read_i16(&stream->symbols, out, count);
    if (error != CWB_OK || !stream->is_changed) {
        return error;
    }
    changes = &stream->changes;
    for (; count > 0; count--, out++) {
        int16_t change = 0;
        int32_t value = *out;

        changes->past = (uint32_t)(value != 0) << STATE | (uint32_t)stream->last << FAR_BIT;
        (void)cwb_read_i16(changes, &change, 1);
        stream->last = (uint8_t)(changes->header >> 15 & ((change < 0 ? -change : change) >> (changes->header >> 4 & 7) != 0));
        value += change;
        if (value > CWB_MAX_SYMBOL || value < -CWB_MAX_SYMBOL) {
            changes->kind = DAMAGED;
            value = 0;
        }
        *out = (int16_t)value;
    }
    return CWB_OK;
}

cwb_error cwb_delta_read_i8(cwb_delta_stream *stream, int8_t *out, size_t count)
{
    int16_t tile[TILE];

    if (stream == NULL || (out == NULL && count > 0) || count > stream->symbols.symbols_left) {
        return CWB_ERR_ARGUMENT;
    }
    while (count > 0) {
        size_t now = count < TILE ? count : TILE;
        size_t i;

        (void)cwb_delta_read_i16(stream, tile, now);
        for (i = 0; i < now; i++) {
            /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): now symbols are left */
            if (tile[i] > INT8_MAX || tile[i] < INT8_MIN) {
                return CWB_ERR_RANGE;
            }
            *out++ = (int8_t)tile[i];
        }
        count -= now;
    }
    return CWB_OK;
}

cwb_error cwb_delta_end(const cwb_delta_stream *stream)
{
    cwb_error error;

    if (stream == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    error = cwb_end(&stream->symbols);
    return error == CWB_OK && stream->is_changed ? cwb_end(&stream->changes) : error;
}

/* Decodes a changed tensor to `out`, which has room for all of it, and checks whatever can be checked. */
static cwb_error decode_changed(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, void *out, target to)
{
    int16_t tile[TILE];
    cwb_delta_stream stream;
    uint32_t done, now;
    cwb_error error = cwb_delta_begin(tensor, scratch, scratch_bytes, &stream);
#ifndef CWB_NO_CRC
    uint32_t crc;
#endif

    if (error != CWB_OK) {
        return error;
    }
#ifndef CWB_NO_CRC
    crc = CWB_CRC32(0, tensor->changes.payload, (size_t)tensor->changes.payload_size);
    if (has_exponents(&tensor->tensor)) { /* cwb_delta_begin has read them */
        crc = CWB_CRC32(crc, tensor->tensor.payload, (size_t)(read_exponents(&tensor->tensor, NULL) - tensor->tensor.payload));
    }
#endif
    for (done = 0; error == CWB_OK && done < tensor->tensor.count; done += now) {
        int16_t *symbols = tile;

        if (to == TO_I16) {
            symbols = (int16_t *)out + done;
        }
        now = tensor->tensor.count - done < TILE ? tensor->tensor.count - done : TILE;
        (void)cwb_delta_read_i16(&stream, symbols, (size_t)now);
#ifndef CWB_NO_CRC
        crc = crc_of_symbols(crc, symbols, now);
#endif
        error = deliver(&tensor->tensor, symbols, now, out, done, to);
    }
    if (error == CWB_OK) {
        error = cwb_delta_end(&stream);
    }
#ifndef CWB_NO_CRC
    if (error == CWB_OK && crc != tensor->changes.crc) {
        error = CWB_ERR_PAYLOAD_CRC;
    }
#endif
    return error;
}

static cwb_error decode_changed_to(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, void *out,
                                   size_t capacity, target to)
{
    if (tensor == NULL || out == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (!tensor->is_changed) {
        return decode_to(&tensor->tensor, scratch, scratch_bytes, out, capacity, to);
    }
    return capacity < tensor->tensor.count ? CWB_ERR_SPACE : decode_changed(tensor, scratch, scratch_bytes, out, to);
}

cwb_error cwb_delta_check(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes)
{
    if (tensor == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    return tensor->is_changed ? decode_changed(tensor, scratch, scratch_bytes, NULL, NOWHERE)
                              : cwb_check(&tensor->tensor, scratch, scratch_bytes);
}

cwb_error cwb_delta_decode_i16(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, int16_t *out,
                               size_t capacity)
{
    return decode_changed_to(tensor, scratch, scratch_bytes, out, capacity, TO_I16);
}

cwb_error cwb_delta_decode_i8(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, int8_t *out,
                              size_t capacity)
{
    return decode_changed_to(tensor, scratch, scratch_bytes, out, capacity, TO_I8);
}

#ifndef CWB_NO_FLOAT
cwb_error cwb_delta_decode_f32(const cwb_changed *tensor, uint16_t *scratch, size_t scratch_bytes, float *out,
                               size_t capacity)
{
    cwb_error error = decode_changed_to(tensor, scratch, scratch_bytes, out, capacity, TO_F32);

    if (error == CWB_OK && has_exponents(&tensor->tensor)) {
        divide_rows(&tensor->tensor, out);
    }
    return error;
}
#endif

#endif
