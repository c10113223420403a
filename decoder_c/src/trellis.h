/* SPDX-License-Identifier: Apache-2.0
 *
 * The trellis: how an element changes the state, whose lowest bit chooses the grid of the next element.
 *
 * With each element the state moves down by one bit and is changed by a term. Both coders keep these terms beside the
 * symbols in scratch memory, so their loops are the same with a trellis and without.
 */
#ifndef CWB_TRELLIS_H
#define CWB_TRELLIS_H

#include "build.h"

/* Is the stream on a trellis? */
static int on_trellis(const cwb_stream *stream)
{
    return HAS_TRELLIS && !stream->plain;
}

static int is_v1(const cwb_stream *stream)
{
    return HAS_V1 && stream->version == 1;
}

/* The term of an odd index. */
static uint32_t odd_index(const cwb_stream *stream)
{
    return is_v1(stream) ? 5 : 10;
}

/* The term of an element on the odd grid. */
static uint32_t odd_grid(const cwb_stream *stream)
{
    return is_v1(stream) ? 9 : 33;
}

#endif
