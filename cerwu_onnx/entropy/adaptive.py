"""The adaptive coder: a binary range coder whose probabilities learn (docs/format.md, "Adaptive payload").

No tables: two bytes say where learning starts. ``encode_plain`` and ``decode_plain`` are the specification in readable
form; the C library, where it was built, makes the same bytes far faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from operator import length_hint

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.entropy.trellis import Walk
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.types import IntArray

BINS = 12
MAX_ESCAPE_BITS = 11
MAX_SHIFT = 7
FIRST_RATE = 4
LAST_RATES = (6, 8)
FAR = 2
"""With contexts, the last magnitude (without its low bits) from which on the second one is used."""
LEAST_RANGE = 1 << 24
HALF = 1 << 15
FULL = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Header:
    """The first two bytes of a payload.

    Attributes:
        contexts: whether the last magnitude chooses the model.
        slow: index of the last learning rate.
        some: start of the probability that a magnitude, without its low bits, is not 0; of 16.
        more: likewise that it is larger than 1, given that it is not 0; of 8.
        shift: number of a magnitude's low bits that are coded as they are.
        sign: probability that a symbol is positive; of 16.
    """

    contexts: int
    slow: int
    some: int
    more: int
    shift: int
    sign: int

    def __int__(self) -> int:
        return self.contexts << 15 | self.slow << 14 | self.some << 10 | self.more << 7 | self.shift << 4 | self.sign

    @classmethod
    def parse(cls, bits: int) -> Header:
        """Invert ``int()``."""
        return cls(bits >> 15, bits >> 14 & 1, bits >> 10 & 15, bits >> 7 & 7, bits >> 4 & 7, bits & 15)


def reach_of(symbols: IntArray) -> int:
    """The largest magnitude; 0 if there is none."""
    return int(np.abs(symbols.astype(np.int64)).max(initial=0))


def encode(symbols: IntArray, grids: npt.NDArray[np.uint8] | None = None, run: int = 0) -> bytes:
    """The shortest payload found for ``symbols`` of any shape.

    With ``grids`` (0 or 1, flat), the symbols are indices on those grids of a trellis of runs of ``run``.
    """
    flat = symbols.ravel().astype(np.int16)
    coder = native.encode_adaptive if native.available() else encode_plain
    make = partial(coder, flat, reach_of(flat), grids=grids, run=run)
    return min((make(int(header)) for header in _candidates(flat)), key=len)


def _candidates(symbols: IntArray) -> Iterator[Header]:
    """Headers worth trying: probabilities near the tensor's own."""
    magnitudes = np.abs(symbols.astype(np.int64))
    count, nonzero = symbols.size, int((magnitudes > 0).sum())
    sign = _share(16, int((symbols > 0).sum()), nonzero)
    mean = float(magnitudes.mean()) if count else 0.0
    shifts = [shift for shift in range(MAX_SHIFT + 1) if shift == 0 or 0.5 < mean / (1 << shift) < 8]
    for shift in shifts:
        high = np.minimum(magnitudes >> shift, BINS)
        some = int((high > 0).sum())
        beyond = int(high.sum()) - some
        first, second = _share(16, some, count), _share(8, beyond, beyond + some)
        for contexts in (0, 1):
            for slow in range(len(LAST_RATES)):
                for change in (-1, 0, 1):
                    if 0 <= second + change < 8:
                        yield Header(contexts, slow, first, second + change, shift, sign)


def _share(parts: int, part: int, whole: int) -> int:
    return min(parts * part // max(whole, 1), parts - 1)


class _Model:
    """Probabilities of a 1, in units of 2^-16, and how fast they learn; two contexts for each grid of a trellis."""

    def __init__(self, header: Header, reach: int, run: int) -> None:
        more = (2 * header.more + 1) << 12
        start = [(2 * header.some + 1) << 11, *(max(more - (k << 10), 2048) for k in range(1, BINS))]
        start = [*start[: reach >> header.shift], 0]  # behind the last bin there is never a 1
        self.bins = [start.copy() for _ in range(4)]
        self.header = header
        self.rate = FIRST_RATE
        self._symbols, self._run, self._far = 0, run, 0

    def context(self, grid: int) -> list[int]:
        """The probabilities for the next symbol."""
        return self.bins[grid + 2 * self._far]

    def learn(self, bins: list[int], k: int, bit: int) -> None:
        p = bins[k]
        bins[k] = p - (p >> self.rate) + (((1 << 16 - self.rate) - 1) if bit else 0)

    def next_symbol(self, magnitude: int) -> None:
        """Take note of a symbol: learning slows down after 32, 64, 128 and 256 of them."""
        self._symbols += 1
        self._far = int(self.header.contexts and magnitude >> self.header.shift >= FAR)
        if self._run and self._symbols % self._run == 0:
            self._far = 0
        if self.rate < LAST_RATES[self.header.slow] and self._symbols == 2 << self.rate:
            self.rate += 1


class _Encoder:
    """The interval [low, low + range) below the bytes already out, whose carries are still to be resolved."""

    def __init__(self, header: int, reach: int, run: int) -> None:
        self.model = _Model(Header.parse(header), reach, run)
        self.low, self.range = 0, FULL
        self.bytes: list[int] = []

    def split(self, bit: int, bound: int) -> None:
        if bit:
            self.range = bound
        else:
            self.low += bound
            self.range -= bound

    def normalise(self) -> None:
        while self.range < LEAST_RANGE:
            self.bytes.append(self.low >> 24)
            self.low = self.low << 8 & FULL
            self.range <<= 8

    def decide(self, bit: int, p: int) -> None:
        self.normalise()
        self.split(bit, (self.range >> 16) * p)

    def escape(self, excess: int) -> None:
        bits = (excess + 1).bit_length() - 1
        for length in range(bits + 1):
            self.decide(int(length < bits), HALF)
        for place in reversed(range(bits)):
            self.decide(excess + 1 >> place & 1, HALF)

    def symbol(self, symbol: int, grid: int) -> None:
        model, shift = self.model, self.model.header.shift
        bins, high = model.context(grid), abs(symbol) >> shift
        ones = min(high, len(bins) - 1)
        for k in range(ones + 1):
            self.decide(int(k < ones), bins[k])
            model.learn(bins, k, int(k < ones))
        if high >= BINS:
            self.escape(high - BINS)
        for place in reversed(range(shift)):
            self.decide(abs(symbol) >> place & 1, HALF)
        if symbol:
            self.split(int(symbol > 0), (self.range >> 5) * (2 * model.header.sign + 1))
        model.next_symbol(abs(symbol))

    def finish(self) -> bytes:
        """The bytes of the number in the interval that ends in most zeros, without those."""
        for zeros in (32, 24, 16, 8, 0):
            value = self.low + (1 << zeros) - 1 >> zeros << zeros
            if value < self.low + self.range:
                break
        out, carry = [], 0
        for byte in reversed([*self.bytes, value >> 24, *(value & (1 << 24) - 1).to_bytes(3, "big")]):
            out.append((byte + carry) & 255)
            carry = byte + carry >> 8
        return bytes(reversed(out)).rstrip(b"\0")


def encode_plain(
    symbols: IntArray, reach: int, header: int, grids: npt.NDArray[np.uint8] | None = None, run: int = 0
) -> bytes:
    """The payload that begins with ``header`` for flat ``symbols``, -reach ... reach; the rest as :func:`encode`."""
    coder = _Encoder(header, reach, run)
    for symbol, grid in zip(symbols.tolist(), repeat(0) if grids is None else grids.tolist(), strict=False):
        coder.symbol(symbol, grid)
    return header.to_bytes(2, "little") + coder.finish()


class _Decoder:
    """The mirror of :class:`_Encoder`: ``code`` is the number's distance from ``low``."""

    def __init__(self, data: bytes, reach: int, run: int) -> None:
        self.model = _Model(Header.parse(int.from_bytes(data[:2], "little")), reach, run)
        self.bytes: Iterator[int] = iter(data[2:])
        self.code, self.range = 0, FULL
        for _ in range(4):
            self.code = self.code << 8 | next(self.bytes, 0)

    def split(self, bound: int) -> int:
        bit = int(self.code < bound)
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        return bit

    def normalise(self) -> None:
        while self.range < LEAST_RANGE:
            self.code = (self.code << 8 | next(self.bytes, 0)) & FULL
            self.range <<= 8

    def decide(self, p: int) -> int:
        self.normalise()
        return self.split((self.range >> 16) * p)

    def escape(self) -> int:
        bits, value = 0, 1
        while bits < MAX_ESCAPE_BITS and self.decide(HALF):
            bits += 1
        for _ in range(bits):
            value = value << 1 | self.decide(HALF)
        return value - 1

    def symbol(self, grid: int) -> int:
        model, shift = self.model, self.model.header.shift
        bins, magnitude, more = model.context(grid), 0, 1
        while more:
            more = self.decide(bins[magnitude])
            model.learn(bins, magnitude, more)
            magnitude += more
        if magnitude == BINS:
            magnitude += self.escape()
        for _ in range(shift):
            magnitude = magnitude << 1 | self.decide(HALF)
        positive = magnitude == 0 or self.split((self.range >> 5) * (2 * model.header.sign + 1))
        model.next_symbol(magnitude)
        return magnitude if positive else -magnitude


def decode_plain(
    data: bytes, count: int, reach: int, unread: list[int] | None = None, *, run: int = 0
) -> npt.NDArray[np.int32]:
    """Decode ``count`` symbols of -reach ... reach, or the values they stand for on a trellis of runs of ``run``.

    The result is int32 ``(count,)``. To ``unread`` is appended, symbol by symbol, how many bytes are then still to be
    read.

    Raises:
        CorruptFileError: the payload breaks a rule of the format.
    """
    if len(data) < 2 or (len(data) > 2 and not data[-1]):
        raise CorruptFileError("coded stream: no header, or the last byte is 0")
    coder, walk = _Decoder(data, reach, run), Walk(run)
    symbols = np.empty(count, dtype=np.int32)
    for position in range(count):
        symbol = coder.symbol(walk.grid)
        if abs(symbol) > reach:
            raise CorruptFileError(f"coded stream: symbol {symbol} is not in {-reach}..{reach}")
        symbols[position] = walk.value(symbol)
        if unread is not None:
            unread.append(length_hint(coder.bytes))
    if next(coder.bytes, None) is not None:
        raise CorruptFileError("coded stream: the stream does not end with the last symbol")
    return symbols
