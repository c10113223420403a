"""The coder: a stack of 64-bit state and 32-bit words (asymmetric numeral system, Duda 2013), as docs/format.md says.

constriction does the work where it is installed. It has no wheel for some platforms (Linux aarch64, musl, Windows
arm64); ``encode_plain`` and ``decode_plain`` give the same words there, slower, and are the specification in readable
form.
"""

from __future__ import annotations

import numpy as np

from cerwu_onnx.entropy.tables import SLOT_BITS, SLOTS, TOTAL, FrequencyTable
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.types import IntArray

try:
    import constriction
except ImportError:  # pragma: no cover - depends on the platform
    constriction = None

WORD_BITS = 32
WORD_MASK = (1 << WORD_BITS) - 1


def encode(symbols: IntArray, table: FrequencyTable) -> bytes:
    """Code ``symbols`` (any shape, row-major) with ``table`` into little-endian words in decoding order."""
    if len(table.frequencies) == 1:
        return b""
    if constriction is None:
        return encode_plain(symbols, table)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse((symbols.ravel() - table.lo).astype(np.int32), _model(table))
    words: IntArray = coder.get_compressed()[::-1]
    return words.astype("<u4").tobytes()


def decode(data: bytes, table: FrequencyTable, count: int) -> IntArray:
    """Decode ``count`` symbols, int32 ``(count,)``.

    Raises:
        CorruptFileError: the words do not end where the symbols do.
    """
    if len(table.frequencies) == 1:
        if data:
            raise CorruptFileError("coded words: a table of one symbol has none")
        return np.full(count, table.lo, dtype=np.int32)
    if len(data) % 4 or data[:4] == b"\0\0\0\0":
        raise CorruptFileError("coded words: not a whole number of words, or the first is 0")
    if constriction is None:
        return decode_plain(data, table, count)
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(data, dtype="<u4")[::-1].astype(np.uint32))
    symbols: IntArray = coder.decode(_model(table), count)
    if not coder.is_empty():
        raise CorruptFileError("coded words: the stream does not end with the last symbol")
    symbols += np.int32(table.lo)
    return symbols


def encode_plain(symbols: IntArray, table: FrequencyTable) -> bytes:
    """:func:`encode` without constriction."""
    left = table.cumulative.tolist()
    state, words = 0, []
    for symbol in reversed((symbols.ravel() - table.lo).tolist()):
        width = left[symbol + 1] - left[symbol]
        if state >= width << (2 * WORD_BITS - SLOT_BITS):
            words.append(state & WORD_MASK)
            state >>= WORD_BITS
        quotient, remainder = divmod(state, width)
        state = quotient << SLOT_BITS | remainder + left[symbol]
    while state:
        words.append(state & WORD_MASK)
        state >>= WORD_BITS
    return np.array(words[::-1], dtype="<u4").tobytes()


def decode_plain(data: bytes, table: FrequencyTable, count: int) -> IntArray:
    """:func:`decode` without constriction; the words are known to be whole."""
    left = table.cumulative
    starts = left.tolist()
    words = iter(np.frombuffer(data, dtype="<u4").tolist())
    state = 0
    for word in words:
        state = state << WORD_BITS | word
        if state >= 1 << WORD_BITS:
            break
    symbols = np.empty(count, dtype=np.int32)
    for position in range(count):
        slot = state & (SLOTS - 1)
        symbol = int(np.searchsorted(left, slot, side="right")) - 1
        symbols[position] = symbol + table.lo
        state = (state >> SLOT_BITS) * (starts[symbol + 1] - starts[symbol]) + slot - starts[symbol]
        if state < 1 << WORD_BITS:
            state = state << WORD_BITS | word if (word := next(words, None)) is not None else state
    if state or next(words, None) is not None:
        raise CorruptFileError("coded words: the stream does not end with the last symbol")
    return symbols


def _model(table: FrequencyTable) -> object:
    """The model of constriction with the slots of ``table.cumulative``; float32 frequencies would move them."""
    probabilities = np.array(table.frequencies, dtype=np.float64) / TOTAL
    return constriction.stream.model.Categorical(probabilities, perfect=False)
