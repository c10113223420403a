/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams: a coded tensor read piece by piece, by whichever coder it takes.
 */
#ifndef CWB_STREAMS_H
#define CWB_STREAMS_H

#include "adaptive_fast.h"
#include "ans.h"
#include "exponents.h"

enum { TILE = 32 }; /* symbols decoded at a time where they do not go straight to the caller */

static int can_decode(const cwb_tensor *tensor)
{
    return ((HAS_ANS && tensor->kind == CWB_ANS) || (HAS_ADAPTIVE && tensor->kind == CWB_ADAPTIVE)) &&
           (HAS_TRELLIS || tensor->run == 0) && (HAS_EXPONENTS || !tensor->stepped);
}

size_t cwb_scratch_size(const cwb_tensor *tensor)
{
    if (tensor == NULL || !can_decode(tensor)) {
        return 0;
    }
    if (HAS_ADAPTIVE && tensor->kind == CWB_ADAPTIVE) {
        return CWB_SCRATCH_ADAPTIVE;
    }
    return HAS_TRELLIS && tensor->run > 0 ? CWB_SCRATCH_TRELLIS(tensor->largest) : CWB_SCRATCH_ANS(tensor->largest);
}

cwb_error cwb_begin(const cwb_tensor *tensor, uint16_t *scratch, size_t scratch_bytes, cwb_stream *stream)
{
    if (tensor == NULL || stream == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    if (!can_decode(tensor)) {
        return CWB_ERR_KIND;
    }
    if (scratch_bytes < cwb_scratch_size(tensor)) {
        return CWB_ERR_SPACE;
    }
    if (scratch == NULL) {
        return CWB_ERR_ARGUMENT;
    }
    stream->next = has_exponents(tensor) ? read_exponents(tensor, NULL) : tensor->payload;
    if (stream->next == NULL) {
        return CWB_ERR_GRID;
    }
    stream->end = tensor->payload + tensor->payload_size;
    stream->scratch = scratch;
    stream->symbols_left = tensor->count;
    stream->run = stream->run_left = tensor->run;
    stream->plain = tensor->run == 0;
    stream->version = tensor->version;
    if (stream->plain) {
        stream->run_left = FOREVER;
    }
    stream->state = 0;
    stream->past = 0;
    if (HAS_ADAPTIVE) {
        stream->rate = FIRST_RATE;
        stream->rate_left = 2 << FIRST_RATE;
        stream->header = 0;
        stream->unit = 0;
        stream->left = 0;
    }
    stream->reach = (uint16_t)(tensor->largest >> (1 - stream->plain));
    stream->kind = tensor->kind;
    return HAS_ANS && (!HAS_ADAPTIVE || tensor->kind == CWB_ANS) ? begin_ans(stream) : begin_adaptive(stream);
}

cwb_error cwb_read_i16(cwb_stream *stream, int16_t *out, size_t count)
{
    if (stream == NULL || (out == NULL && count > 0) || count > stream->symbols_left) {
        return CWB_ERR_ARGUMENT;
    }
    stream->symbols_left -= (uint32_t)count;
    while (count > 0) {
        size_t now = count;

        if (HAS_TRELLIS && now > stream->run_left) {
            now = (size_t)stream->run_left;
        }
        if (HAS_ADAPTIVE && now > stream->rate_left) {
            now = stream->rate_left;
        }
        if (HAS_ANS && (!HAS_ADAPTIVE || stream->kind == CWB_ANS)) {
            read_ans(stream, out, now);
        } else {
            read_adaptive(stream, out, now);
        }
        out += now;
        count -= now;
        if (HAS_TRELLIS) {
            stream->run_left -= (uint32_t)now;
            if (stream->run_left == 0) {
                stream->run_left = stream->run;
                stream->past = 0;
            }
        }
        if (HAS_ADAPTIVE) {
            stream->rate_left = (uint16_t)(stream->rate_left - now);
            if (stream->rate_left == 0) { /* learning slows down after 32, 64, 128, 256 symbols */
                stream->rate_left = 0xFFFF;
                if (stream->rate < last_rate(stream)) {
                    stream->rate++;
                    stream->rate_left = (uint16_t)(1 << stream->rate);
                }
            }
        }
    }
    return CWB_OK;
}

cwb_error cwb_read_i8(cwb_stream *stream, int8_t *out, size_t count)
{
    int16_t tile[TILE];

    if (stream == NULL || (out == NULL && count > 0) || count > stream->symbols_left) {
        return CWB_ERR_ARGUMENT;
    }
    if (stream->reach > (INT8_MAX + 1) >> (1 - stream->plain)) {
        return CWB_ERR_RANGE;
    }
    while (count > 0) {
        size_t now = count < TILE ? count : TILE;
        size_t i;

        (void)cwb_read_i16(stream, tile, now);
        for (i = 0; i < now; i++) {
            /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): now symbols are left */
            if (tile[i] > INT8_MAX) {
                return CWB_ERR_RANGE;
            }
            *out++ = (int8_t)tile[i];
        }
        count -= now;
    }
    return CWB_OK;
}

cwb_error cwb_end(const cwb_stream *stream)
{
    if (stream == NULL || stream->symbols_left > 0) {
        return CWB_ERR_ARGUMENT;
    }
    if (stream->next != stream->end || (HAS_ANS && stream->kind == CWB_ANS && stream->state != 0) ||
        (HAS_ADAPTIVE && stream->kind == DAMAGED)) {
        return CWB_ERR_STREAM;
    }
    return CWB_OK;
}

#endif
