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

enum {
    ODD_INDEX = 5, /* of the term of an odd index */
    ODD_GRID = 9   /* of the term of an element on the odd grid */
};

/* Is the stream on a trellis? */
static int on_trellis(const cwb_stream *stream)
{
    return HAS_TRELLIS && !stream->plain;
}

#endif
