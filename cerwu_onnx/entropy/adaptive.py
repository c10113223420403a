"""The adaptive coder: a binary range coder whose probabilities learn (docs/format.md, "Adaptive payload").

No tables: two bytes say where learning starts. ``encode_plain`` and ``decode_plain`` are the specification in readable
form; the C library, where it was built, makes the same bytes far faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from operator import length_hint

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.entropy.trellis import Walk
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.types import IntArray

BINS = 12
CONTEXTS = 4
ESCAPE = CONTEXTS * BINS
MAX_ESCAPE_BITS = 15
FIRST_RATE = 4
LAST_RATES = range(5, 9)
FAR = 2
"""On a trellis with contexts, the weighted sum of the last magnitudes from which on the second context is used."""
DIGIT_BITS = 16
DIGIT = 1 << DIGIT_BITS
FULL = (1 << 32) - 1


def encode(symbols: IntArray, grids: npt.NDArray[np.uint8] | None = None) -> bytes:
    """The shortest payload, of all contexts and last rates, for ``symbols`` of any shape in -32768 ... 32767.

    With ``grids`` (0 or 1, flat), the symbols are indices on those grids of a trellis.
    """
    flat = symbols.ravel().astype(np.int16)
    coder = native.encode_adaptive if native.available() else encode_plain
    start = _start(flat)
    headers = [contexts << 15 | rate << 13 | start for contexts in (0, 1) for rate in range(len(LAST_RATES))]
    return min((coder(flat, header, grids) for header in headers), key=len)


def _start(symbols: IntArray) -> int:
    """The header's first probabilities, and that of the sign, near the tensor's own."""
    magnitudes = np.abs(symbols.astype(np.int64))
    nonzero, positive = int((magnitudes > 0).sum()), int((symbols > 0).sum())
    beyond = int(np.minimum(magnitudes, BINS).sum()) - nonzero

    def share(parts: int, part: int, whole: int) -> int:
        return min(parts * part // max(whole, 1), parts - 1)

    return (
        share(32, nonzero, symbols.size) << 8 | share(16, beyond, beyond + nonzero) << 4 | share(16, positive, nonzero)
    )


class _Model:
    """Probabilities of a 1, in units of 2^-16, and how fast they learn.

    Plain tensors have four contexts, those on a trellis two for either grid.
    """

    def __init__(self, header: int, *, on_trellis: bool) -> None:
        some, more = header >> 8 & 31, header >> 4 & 15
        bins = [(2 * some + 1) << 10] + [max(((2 * more + 1) << 11) - (k << 10), 2048) for k in range(1, BINS)]
        self.probability = [*bins * CONTEXTS, *[1 << 15] * MAX_ESCAPE_BITS]
        self.sign = 2 * (header & 15) + 1
        self.contexts = header >> 15
        self.rate, self.last_rate = FIRST_RATE, LAST_RATES[header >> 13 & 3]
        self._on_trellis = on_trellis
        self._symbols = self._history = 0

    def first_bin(self, grid: int) -> int:
        """Where the bins of the next symbol's context begin."""
        if self._on_trellis:
            return BINS * (2 * grid + (self.contexts & (self._history >= FAR)))
        return BINS * min(self._history + 3 >> 2, CONTEXTS - 1) * self.contexts

    def learn(self, index: int, bit: int) -> None:
        p = self.probability[index]
        self.probability[index] = p - (p >> self.rate) + (((1 << 16 - self.rate) - 1) if bit else 0)

    def next_symbol(self, magnitude: int, grid: int) -> None:
        """Take note of a symbol: learning slows down after 32, 64, 128 and 256 of them."""
        self._history = (self._history >> 1) + 2 * magnitude - (grid if magnitude else 0)
        self._symbols += 1
        if self.rate < self.last_rate and self._symbols == 2 << self.rate:
            self.rate += 1


class _Encoder:
    """The interval [low, low + range) below the digits already out, whose carries are still to be resolved."""

    def __init__(self, header: int, *, on_trellis: bool) -> None:
        self.model = _Model(header, on_trellis=on_trellis)
        self.low, self.range = 0, FULL
        self.digits: list[int] = []

    def split(self, bit: int, bound: int) -> None:
        if bit:
            self.range = bound
        else:
            self.low += bound
            self.range -= bound

    def normalise(self) -> None:
        if self.range < DIGIT:
            self.digits.append(self.low >> DIGIT_BITS)
            self.low = (self.low & DIGIT - 1) << DIGIT_BITS
            self.range <<= DIGIT_BITS

    def adaptive(self, bit: int, index: int) -> None:
        self.split(bit, (self.range >> 12) * (self.model.probability[index] >> 4))
        self.model.learn(index, bit)

    def escape(self, excess: int) -> None:
        value = excess + 1
        bits = value.bit_length() - 1
        for length in range(min(bits + 1, MAX_ESCAPE_BITS)):
            self.adaptive(int(length < bits), ESCAPE + length)
            self.normalise()
        for shift in reversed(range(bits)):
            self.split(value >> shift & 1, self.range >> 1)
            self.normalise()

    def symbol(self, symbol: int, grid: int) -> None:
        magnitude, first = abs(symbol), self.model.first_bin(grid)
        for k in range(min(magnitude, BINS)):
            self.adaptive(1, first + k)
            self.normalise()
        if magnitude < BINS:
            self.adaptive(0, first + magnitude)
        else:
            self.escape(magnitude - BINS)
        if magnitude:
            self.split(int(symbol > 0), (self.range >> 5) * self.model.sign)
        self.normalise()
        self.model.next_symbol(magnitude, grid)

    def finish(self) -> bytes:
        """The digits of the number in the interval that ends in most zeros, without those."""
        for zeros in (32, 16, 0):
            value = self.low + (1 << zeros) - 1 >> zeros << zeros
            if value < self.low + self.range:
                break
        out, carry = [], 0
        for digit in reversed([*self.digits, value >> DIGIT_BITS, value & DIGIT - 1]):
            out.append((digit + carry) & DIGIT - 1)
            carry = digit + carry >> DIGIT_BITS
        while out and not out[0]:
            out.pop(0)
        return np.array(out[::-1], dtype="<u2").tobytes()


def encode_plain(symbols: IntArray, header: int, grids: npt.NDArray[np.uint8] | None = None) -> bytes:
    """The payload for flat ``symbols`` that begins with the 16-bit ``header``; ``grids`` as for :func:`encode`."""
    coder = _Encoder(header, on_trellis=grids is not None)
    for symbol, grid in zip(symbols.tolist(), repeat(0) if grids is None else grids.tolist(), strict=False):
        coder.symbol(symbol, grid)
    return header.to_bytes(2, "little") + coder.finish()


class _Decoder:
    """The mirror of :class:`_Encoder`: ``code`` is the number's distance from ``low``."""

    def __init__(self, data: bytes, *, on_trellis: bool) -> None:
        self.model = _Model(int.from_bytes(data[:2], "little"), on_trellis=on_trellis)
        self.digits: Iterator[int] = iter(np.frombuffer(data[2:], dtype="<u2").tolist())
        self.code, self.range = next(self.digits, 0) << DIGIT_BITS | next(self.digits, 0), FULL

    def split(self, bound: int) -> int:
        bit = int(self.code < bound)
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        return bit

    def normalise(self) -> None:
        if self.range < DIGIT:
            self.code = (self.code << DIGIT_BITS | next(self.digits, 0)) & FULL
            self.range <<= DIGIT_BITS

    def adaptive(self, index: int) -> int:
        bit = self.split((self.range >> 12) * (self.model.probability[index] >> 4))
        self.model.learn(index, bit)
        return bit

    def escape(self) -> int:
        bits, value, more = 0, 1, 1
        while more and bits < MAX_ESCAPE_BITS:
            more = self.adaptive(ESCAPE + bits)
            bits += more
            self.normalise()
        for _ in range(bits):
            value = value << 1 | self.split(self.range >> 1)
            self.normalise()
        return value - 1

    def symbol(self, grid: int) -> int:
        magnitude, first = 0, self.model.first_bin(grid)
        while magnitude < BINS and self.adaptive(first + magnitude):
            self.normalise()
            magnitude += 1
        if magnitude == BINS:
            magnitude += self.escape()
        positive = magnitude == 0 or self.split((self.range >> 5) * self.model.sign)
        self.normalise()
        self.model.next_symbol(magnitude, grid)
        return magnitude if positive else -magnitude


def decode_plain(
    data: bytes, count: int, lo: int, hi: int, unread: list[int] | None = None, *, run: int = 0
) -> npt.NDArray[np.int32]:
    """Decode ``count`` symbols of ``lo ... hi``, or the values they stand for on a trellis of runs of ``run``.

    The result is int32 ``(count,)``. To ``unread`` is appended, symbol by symbol, how many bytes are then still to be
    read.

    Raises:
        CorruptFileError: the payload breaks a rule of the format.
    """
    if len(data) < 2 or len(data) % 2 or (len(data) > 2 and data[-2:] == b"\0\0"):
        raise CorruptFileError("coded stream: no header, not a whole number of digits, or the last is 0")
    coder, walk = _Decoder(data, on_trellis=run > 0), Walk(run)
    symbols = np.empty(count, dtype=np.int32)
    for position in range(count):
        symbol = coder.symbol(walk.grid)
        if not lo <= symbol <= hi:
            raise CorruptFileError(f"coded stream: symbol {symbol} is not in {lo}..{hi}")
        symbols[position] = walk.value(symbol)
        if unread is not None:
            unread.append(2 * length_hint(coder.digits))
    if next(coder.digits, None) is not None:
        raise CorruptFileError("coded stream: the stream does not end with the last symbol")
    return symbols
