"""The adaptive coder: a binary range coder whose probabilities learn (docs/format.md, "Adaptive payload").

There are no tables: two or three bytes tell where learning starts. ``encode_plain`` and ``decode_plain`` are the
specification in readable form; the C library, if it was built, makes the same bytes much faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import repeat
from operator import length_hint

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.entropy.trellis import TRELLIS, Trellis, Walk
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.types import IntArray

BINS = 7
MAX_ESCAPE_BITS = 11
MAX_SHIFT = 7
FIRST_RATE = 4
LAST_RATES = (6, 8)
FAR = 2
"""With contexts, the second one is used if the last magnitude, without its low bits, is at least so large."""
FAR_CHANGE = 1
"""The same for changes."""
MAX_WIDTH = 15
"""The widest rows whose signs depend on each other."""
FIRST_LEAN = 6144
"""How much a positive neighbour moves the first probability that a sign is positive."""
LEAST_GAIN = 1 / 128
"""The least share of a payload that neighbours must save: a decoder takes a quarter more instructions for them."""
LONG = 1 << 14
"""For so many symbols, two searches one after the other do as well as one over all headers."""
TELLING = 1 << 17
"""So many symbols, from the beginning of a tensor, choose its header."""
LEAST_RANGE = 1 << 24
HALF = 1 << 15
FULL = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Header:
    """The first bytes of a payload: two, or three if signs depend on neighbours.

    Attributes:
        contexts: whether the last magnitude chooses the model.
        slow: index of the last learning rate.
        some: first probability that a magnitude, without its low bits, is not 0; in 1/16.
        more: first probability that it is larger than 1, given that it is not 0; in 1/8.
        shift: number of a magnitude's low bits that are coded without a model.
        sign: probability that a symbol is positive; in 1/16. 0 if it depends on neighbours.
        width: elements of a row; neighbours are to the left and above. 0 if signs do not depend on them.
        rows: rows of a block, whose first row has no neighbours above; 0 for 256.
    """

    contexts: int
    slow: int
    some: int
    more: int
    shift: int
    sign: int
    width: int = 0
    rows: int = 0

    def __int__(self) -> int:
        first = self.contexts << 15 | self.slow << 14 | self.some << 10 | self.more << 7 | self.shift << 4 | self.sign
        return (self.rows << 20 | self.width << 16 if self.sign == 0 else 0) | first

    @classmethod
    def parse(cls, bits: int) -> Header:
        """The inverse of ``int()``."""
        parts = bits >> 15 & 1, bits >> 14 & 1, bits >> 10 & 15, bits >> 7 & 7, bits >> 4 & 7, bits & 15
        return cls(*parts) if bits & 15 else cls(*parts, bits >> 16 & 15, bits >> 20 & 15)

    def to_bytes(self) -> bytes:
        """The bytes in the payload."""
        low, high, *shape = int(self).to_bytes(2 if self.sign else 3, "little")
        return bytes([high, low, *shape])


def reach_of(symbols: IntArray) -> int:
    """The largest magnitude; 0 if there are no symbols."""
    return int(np.abs(symbols.astype(np.int64)).max(initial=0))


def encode(symbols: IntArray, grids: npt.NDArray[np.uint8] | None = None, run: int = 0, far: int = FAR) -> bytes:
    """The shortest of :func:`payloads`."""
    return min(payloads(symbols, grids, run, far), key=len)


def payloads(
    symbols: IntArray, grids: npt.NDArray[np.uint8] | None = None, run: int = 0, far: int = FAR
) -> list[bytes]:
    """The shortest payload that the search finds for ``symbols`` of any shape, then shorter ones by neighbours' signs.

    With ``grids`` (0 or 1, flat), the symbols are indices on those grids of a trellis with runs of ``run`` elements; or
    changes (``run`` 0, ``far`` :data:`FAR_CHANGE`), and ``grids`` says which elements of the base are not 0.
    """
    flat = symbols.ravel().astype(np.int16)
    coder = native.encode_adaptive if native.available() else encode_plain
    make = partial(coder, reach=reach_of(flat), run=run, far=far)

    @cache
    def told(header: Header) -> bytes:
        return make(flat[:TELLING], header=int(header), grids=None if grids is None else grids[:TELLING])

    def best(headers: Iterable[Header]) -> Header:
        return min(headers, key=lambda header: len(told(header)))

    header = best(_candidates(flat))
    header = best(replace(header, more=more) for more in range(8) if abs(more - header.more) <= 1)
    alone = told(header) if flat.size <= TELLING else make(flat, header=int(header), grids=grids)
    shapes = sorted(_shapes(symbols))
    beside = [replace(header, sign=0, width=width, rows=rows) for width, rows in shapes]
    near = [make(flat, header=int(one), grids=grids) for one in beside]
    return [alone, *(payload for payload in near if len(payload) < len(alone) * (1 - LEAST_GAIN))]


def _shapes(symbols: IntArray) -> set[tuple[int, int]]:
    """Pairs of width and rows of blocks that are worth trying: kernels, or, for matrices, where signs repeat most."""
    *_, rows, width = (1, 1, *symbols.shape)
    if symbols.ndim > 2 and 1 < width <= MAX_WIDTH:
        return {(width, min(rows, 15) if symbols.ndim > 3 else 1)}
    signs = np.sign(symbols.ravel()).astype(np.int32)
    alike = {lag: abs(int(signs[lag:] @ signs[:-lag])) for lag in range(2, min(MAX_WIDTH + 1, signs.size))}
    if not alike:
        return set()
    lag = max(alike, key=lambda lag: alike[lag])
    return {(lag, 0), (lag, lag)} | ({(lag, width // lag)} if width % lag == 0 and width // lag < 16 else set())


def _candidates(symbols: IntArray) -> Iterator[Header]:
    """Headers that are worth trying: those with probabilities near the tensor's own."""
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
                for change in (-1, 0, 1) if count < LONG else (0,):
                    if 0 <= second + change < 8:
                        yield Header(contexts, slow, first, second + change, shift, max(sign, 1))


def _share(parts: int, part: int, whole: int) -> int:
    return min(parts * part // max(whole, 1), parts - 1)


class _Model:
    """Probabilities of a 1, in units of 2^-16, and their learning rates; two contexts for each grid of a trellis."""

    def __init__(self, header: Header, reach: int, run: int, far: int) -> None:
        start = [(2 * header.some + 1) << 11]
        more = (2 * header.more + 1) << 12
        for _ in range(1, BINS):
            more -= more >> 4
            start.append(more)
        start = [*start[: reach >> header.shift], 0]  # after the last bin there is never a 1
        self.bins = [start.copy() for _ in range(4)]
        self.header = header
        self.rate = FIRST_RATE
        lean = (0, 1, -1, 0)
        self.positive = [HALF + FIRST_LEAN * (left + above) for above in lean for left in lean]
        self._symbols, self._run, self._far, self._far_from = 0, run, 0, far
        self._signs: list[int] = []

    def context(self, grid: int) -> list[int]:
        """The probabilities for the next symbol."""
        return self.bins[grid + 2 * self._far]

    def learn(self, bins: list[int], k: int, bit: int) -> None:
        p = bins[k]
        bins[k] = p - (p >> self.rate) + (((1 << 16 - self.rate) - 1) if bit else 0)

    def neighbours(self) -> int:
        """Index of the next sign's probability, by the signs to the left and above, in rows and blocks."""
        width, position = self.header.width, self._symbols
        above = position // width % (self.header.rows or 256)
        return 4 * (self._signs[-width] if above else 0) + (self._signs[-1] if position % width else 3)

    def next_symbol(self, symbol: int) -> None:
        """Count a symbol: learning slows down after 32, 64, 128 and 256 of them."""
        self._symbols += 1
        self._signs.append((symbol > 0) + 2 * (symbol < 0))
        self._far = int(self.header.contexts and abs(symbol) >> self.header.shift >= self._far_from)
        if self._run and self._symbols % self._run == 0:
            self._far = 0
        if self.rate < LAST_RATES[self.header.slow] and self._symbols == 2 << self.rate:
            self.rate += 1


class _Encoder:
    """The interval [low, low + range) after the bytes already written, whose carries are not resolved yet."""

    def __init__(self, header: int, reach: int, run: int, far: int) -> None:
        self.model = _Model(Header.parse(header), reach, run, far)
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
        if symbol and model.header.sign:
            self.split(int(symbol > 0), (self.range >> 5) * (2 * model.header.sign + 1))
        elif symbol:
            near = model.neighbours()
            self.split(int(symbol > 0), (self.range >> 8) * (model.positive[near] >> 8 | 1))
            model.learn(model.positive, near, int(symbol > 0))
        model.next_symbol(symbol)

    def finish(self) -> bytes:
        """The bytes of the number in the interval with the most zeros at its end, without those zeros."""
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
    symbols: IntArray,
    reach: int,
    header: int,
    grids: npt.NDArray[np.uint8] | None = None,
    run: int = 0,
    far: int = FAR,
) -> bytes:
    """The payload with the :class:`Header` ``header`` for flat ``symbols``; otherwise as :func:`encode`.

    ``reach`` is the largest magnitude.
    """
    coder = _Encoder(header, reach, run, far)
    for symbol, grid in zip(symbols.tolist(), repeat(0) if grids is None else grids.tolist(), strict=False):
        coder.symbol(symbol, grid)
    return Header.parse(header).to_bytes() + coder.finish()


class _Decoder:
    """The inverse of :class:`_Encoder`: ``code`` is the number's distance from ``low``."""

    def __init__(self, data: bytes, reach: int, run: int, far: int) -> None:
        if not data or not data[-1]:
            raise CorruptFileError("coded stream: empty, or the last byte is 0")
        high, low, shape = data[:3].ljust(3, b"\0")
        header = Header.parse(shape << 16 | high << 8 | low)
        if not header.sign and not header.width:
            raise CorruptFileError("coded stream: rows of 0 elements")
        self.model = _Model(header, reach, run, far)
        self.reach = reach
        self.bytes: Iterator[int] = iter(data[len(header.to_bytes()) :])
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
        symbol = magnitude if magnitude == 0 or self.positive() else -magnitude
        if magnitude > self.reach:
            raise CorruptFileError(f"coded stream: symbol {symbol} is not in {-self.reach}..{self.reach}")
        model.next_symbol(symbol)
        return symbol

    def end(self) -> None:
        if next(self.bytes, None) is not None:
            raise CorruptFileError("coded stream: the stream does not end with the last symbol")

    def positive(self) -> int:
        model = self.model
        if model.header.sign:
            return self.split((self.range >> 5) * (2 * model.header.sign + 1))
        near = model.neighbours()
        bit = self.split((self.range >> 8) * (model.positive[near] >> 8 | 1))
        model.learn(model.positive, near, bit)
        return bit


def decode_plain(
    data: bytes, count: int, reach: int, unread: list[int] | None = None, *, run: int = 0, trellis: Trellis = TRELLIS
) -> npt.NDArray[np.int32]:
    """Decode ``count`` symbols of -reach ... reach, or the values they mean on ``trellis`` with runs of ``run``.

    The result is int32 ``(count,)``. After each symbol, the number of bytes that are still to be read is appended to
    ``unread``.

    Raises:
        CorruptFileError: the payload breaks a rule of the format.
    """
    coder, walk = _Decoder(data, reach, run, FAR), Walk(run, trellis)
    symbols = np.empty(count, dtype=np.int32)
    for position in range(count):
        symbols[position] = walk.value(coder.symbol(walk.grid))
        if unread is not None:
            unread.append(length_hint(coder.bytes))
    coder.end()
    return symbols


def decode_changes(data: bytes, base: IntArray, reach: int) -> npt.NDArray[np.int32]:
    """Decode changes, -reach ... reach, of the values ``base`` (flat): int32, as many.

    Raises:
        CorruptFileError: the payload breaks a rule of the format.
    """
    coder = _Decoder(data, reach, 0, FAR_CHANGE)
    changes = np.array([coder.symbol(int(value != 0)) for value in base.tolist()], np.int32)
    coder.end()
    return changes
