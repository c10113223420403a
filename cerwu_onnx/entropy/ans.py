"""The static coder: an asymmetric numeral system (Duda 2013) of 32-bit state and 16-bit words.

``encode_plain`` and ``decode_plain`` are the specification (docs/format.md, "ANS payload") in readable form; the C
library, if it was built, makes the same words much faster.
"""

from __future__ import annotations

from operator import length_hint

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.entropy.tables import FREQUENCY_BITS, TOTAL, FrequencyTable
from cerwu_onnx.entropy.trellis import TRELLIS, Trellis, Walk
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.types import IntArray

WORD_BITS = 16
WORD_MASK = (1 << WORD_BITS) - 1


def encode(symbols: IntArray, *tables: FrequencyTable, grids: npt.NDArray[np.uint8] | None = None) -> bytes:
    """Code ``symbols`` (any shape, row-major) into words in decoding order; the table must have all of them.

    There is one table, or two with the same range of symbols; then ``grids`` (0 or 1, flat) chooses the table of each.
    """
    places = symbols.ravel() + tables[0].reach
    if grids is not None:
        places = places + len(tables[0].levels) * grids.astype(np.int32)
    coder = native.encode_ans if native.available() else encode_plain
    frequencies = np.concatenate([table.frequencies for table in tables])
    return coder(places.astype(np.uint16), frequencies.astype(np.uint16))


def encode_plain(indices: IntArray, frequencies: IntArray) -> bytes:
    """The words of flat ``indices`` into ``frequencies``: those of one table, which sum to 4096, or of two in a row."""
    width = frequencies.tolist()
    left = (np.cumsum(frequencies) - frequencies & TOTAL - 1).tolist()
    state, words = 0, []
    for index in reversed(indices.tolist()):
        if state >= width[index] << 2 * WORD_BITS - FREQUENCY_BITS:
            words.append(state & WORD_MASK)
            state >>= WORD_BITS
        quotient, remainder = divmod(state, width[index])
        state = quotient << FREQUENCY_BITS | left[index] + remainder
    while state:
        words.append(state & WORD_MASK)
        state >>= WORD_BITS
    first = words.pop() if words else 0
    return first.to_bytes((first.bit_length() + 7) // 8, "little") + np.array(words[::-1], dtype="<u2").tobytes()


def decode_plain(
    data: bytes,
    *tables: FrequencyTable,
    count: int,
    unread: list[int] | None = None,
    run: int = 0,
    trellis: Trellis = TRELLIS,
) -> npt.NDArray[np.int32]:
    """Decode ``count`` values, int32 ``(count,)``, by one table or, on ``trellis`` with runs of ``run``, by two.

    After each symbol, the number of bytes that are still to be read is appended to ``unread``.

    Raises:
        CorruptFileError: the words do not end with the last symbol.
    """
    head = 2 - len(data) % 2
    state = first = int.from_bytes(data[:head], "little")
    words = iter(np.frombuffer(data[head:], dtype="<u2").tolist())
    if (word := next(words, None)) is not None:
        state = state << WORD_BITS | word
    edges = [table.cumulative.tolist() for table in tables]
    owners = [np.repeat(np.arange(len(table.levels)), table.frequencies).tolist() for table in tables]
    walk = Walk(run, trellis)
    symbols = np.empty(count, dtype=np.int32)
    for position in range(count):
        slot, left = state & TOTAL - 1, edges[walk.grid]
        index = owners[walk.grid][slot]
        symbols[position] = walk.value(index - tables[0].reach)
        state = (state >> FREQUENCY_BITS) * (left[index + 1] - left[index]) + slot - left[index]
        if state <= WORD_MASK and (word := next(words, None)) is not None:
            state = state << WORD_BITS | word
        if unread is not None:
            unread.append(2 * length_hint(words))
    if (data and not first) or state or next(words, None) is not None:
        raise CorruptFileError("coded words: the stream does not end with the last symbol")
    return symbols
