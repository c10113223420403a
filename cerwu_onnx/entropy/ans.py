"""The static coder: an asymmetric numeral system (Duda 2013) of 32-bit state and 16-bit words.

``encode_plain`` and ``decode_plain`` are the specification (docs/format.md, "ANS payload") in readable form; the C
library, where it was built, makes the same words far faster.
"""

from __future__ import annotations

from operator import length_hint

import numpy as np

from cerwu_onnx import native
from cerwu_onnx.entropy.tables import FREQUENCY_BITS, TOTAL, FrequencyTable
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.types import IntArray

WORD_BITS = 16
WORD_MASK = (1 << WORD_BITS) - 1


def encode(symbols: IntArray, table: FrequencyTable) -> bytes:
    """Code ``symbols`` (any shape, row-major), none of which the table leaves out, into words in decoding order."""
    coder = native.encode_ans if native.available() else encode_plain
    return coder((symbols.ravel() - table.lo).astype(np.uint16), table.frequencies.astype(np.uint16))


def encode_plain(indices: IntArray, frequencies: IntArray) -> bytes:
    """The words of flat ``indices`` of symbols whose ``frequencies`` sum to 4096."""
    width = frequencies.tolist()
    left = [0, *np.cumsum(frequencies).tolist()]
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


def decode_plain(data: bytes, table: FrequencyTable, count: int, unread: list[int] | None = None) -> IntArray:
    """Decode ``count`` symbols, int32 ``(count,)``.

    To ``unread`` is appended, symbol by symbol, how many bytes are then still to be read.

    Raises:
        CorruptFileError: the words do not end where the symbols do.
    """
    head = 2 - len(data) % 2
    state = first = int.from_bytes(data[:head], "little")
    words = iter(np.frombuffer(data[head:], dtype="<u2").tolist())
    if (word := next(words, None)) is not None:
        state = state << WORD_BITS | word
    left = table.cumulative.tolist()
    owner = np.repeat(np.arange(len(left) - 1), table.frequencies).tolist()
    symbols = np.empty(count, dtype=np.int32)
    for position in range(count):
        slot = state & TOTAL - 1
        index = owner[slot]
        symbols[position] = table.lo + index
        state = (state >> FREQUENCY_BITS) * (left[index + 1] - left[index]) + slot - left[index]
        if state <= WORD_MASK and (word := next(words, None)) is not None:
            state = state << WORD_BITS | word
        if unread is not None:
            unread.append(2 * length_hint(words))
    if (data and not first) or state or next(words, None) is not None:
        raise CorruptFileError("coded words: the stream does not end with the last symbol")
    return symbols
