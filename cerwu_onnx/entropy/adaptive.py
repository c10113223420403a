"""The adaptive coder: a binary range coder whose probabilities learn (docs/format.md, "Adaptive payload").

No tables: one byte says where learning starts. ``encode_plain`` and ``decode_plain`` are the specification in readable
form; the C library, where it was built, makes the same bytes far faster.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cerwu_onnx import native
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.types import IntArray

BINS = 14
CONTEXTS = 4
SIGN = CONTEXTS * BINS
ESCAPE = SIGN + 1
MAX_ESCAPE_BITS = 15
FIRST_COUNT = 6
SLOWER = (10, 22, 44, 89)
"""Counts at which a probability starts to learn at half the rate."""
TOP = 1 << 24
FULL = (1 << 32) - 1


def encode(symbols: IntArray) -> bytes:
    """The shorter of the payloads with and without contexts, for ``symbols`` of any shape in -32768 ... 32767."""
    flat = symbols.ravel().astype(np.int16)
    coder = native.encode_adaptive if native.available() else encode_plain
    start = _start(flat)
    return min((coder(flat, contexts << 7 | start) for contexts in (0, 1)), key=len)


def _start(symbols: IntArray) -> int:
    """The header byte without the context bit: first probabilities near the tensor's own."""
    magnitudes = np.abs(symbols.astype(np.int64))
    nonzero = int((magnitudes > 0).sum())
    beyond = int(np.minimum(magnitudes, BINS).sum()) - nonzero
    some = min(16 * nonzero // max(symbols.size, 1), 15)
    more = min(8 * beyond // max(beyond + nonzero, 1), 7)
    return some << 3 | more


class _Model:
    """Probabilities of a 1, in units of 2^-16, and how often each was used."""

    def __init__(self, header: int) -> None:
        some, more = header >> 3 & 15, header & 7
        bins = [(2 * some + 1) << 11] + [max(((2 * more + 1) << 12) - (k << 10), 2048) for k in range(1, BINS)]
        self.probability = [*bins * CONTEXTS, *[1 << 15] * (1 + MAX_ESCAPE_BITS)]
        self.count = [FIRST_COUNT] * len(self.probability)
        self.contexts = header >> 7

    def first_bin(self, previous: int, before: int) -> int:
        """Where the bins of the context begin, given the last two magnitudes."""
        nearby = 2 * previous + before
        context = 0 if nearby == 0 else 1 if nearby <= 3 else 2 if nearby <= 8 else 3
        return BINS * context * self.contexts

    def learn(self, index: int, bit: int) -> None:
        p, count = self.probability[index], self.count[index]
        rate = 3 + sum(count >= limit for limit in SLOWER)
        self.probability[index] = p + ((1 << 16) - p >> rate) if bit else p - (p >> rate)
        self.count[index] = min(count + 1, SLOWER[-1])


class _Encoder:
    """The interval [low, low + range) below the digits already known; ``low`` keeps them all, as one integer."""

    def __init__(self, header: int) -> None:
        self.model = _Model(header)
        self.low, self.range, self.digits = 0, FULL, 0

    def split(self, bit: int, bound: int) -> None:
        if bit:
            self.range = bound
        else:
            self.low += bound
            self.range -= bound
        while self.range < TOP:
            self.low <<= 8
            self.range <<= 8
            self.digits += 1

    def adaptive(self, bit: int, index: int) -> None:
        self.split(bit, (self.range >> 12) * (self.model.probability[index] >> 4))
        self.model.learn(index, bit)

    def finish(self) -> bytes:
        """The digits of the number in the interval that ends in most zero bytes, without those."""
        for zeros in (24, 16, 8, 0):
            value = self.low + (1 << zeros) - 1 >> zeros << zeros
            if value < self.low + self.range:
                break
        return value.to_bytes(self.digits + 4, "big").rstrip(b"\0")


def encode_plain(symbols: IntArray, header: int) -> bytes:
    """The payload for flat ``symbols`` that begins with ``header``."""
    coder = _Encoder(header)
    previous = before = 0
    for symbol in symbols.tolist():
        magnitude, first = abs(symbol), coder.model.first_bin(previous, before)
        for k in range(min(magnitude + 1, BINS)):
            coder.adaptive(int(magnitude > k), first + k)
        if magnitude >= BINS:
            excess = magnitude - BINS + 1
            bits = excess.bit_length() - 1
            for length in range(min(bits + 1, MAX_ESCAPE_BITS)):
                coder.adaptive(int(length < bits), ESCAPE + length)
            for shift in reversed(range(bits)):
                coder.split(excess >> shift & 1, coder.range >> 1)
        if magnitude:
            coder.adaptive(int(symbol > 0), SIGN)
        previous, before = magnitude, previous
    return bytes([header]) + coder.finish()


class _Decoder:
    """The mirror of :class:`_Encoder`: ``code`` is the number's distance from ``low``."""

    def __init__(self, data: bytes) -> None:
        self.model = _Model(data[0])
        self.digits: Iterator[int] = iter(data[1:])
        self.code, self.range = 0, FULL
        for _ in range(4):
            self.code = self.code << 8 | next(self.digits, 0)

    def split(self, bound: int) -> int:
        bit = int(self.code < bound)
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        while self.range < TOP:
            self.code = (self.code << 8 | next(self.digits, 0)) & FULL
            self.range <<= 8
        return bit

    def adaptive(self, index: int) -> int:
        bit = self.split((self.range >> 12) * (self.model.probability[index] >> 4))
        self.model.learn(index, bit)
        return bit

    def escape(self) -> int:
        bits, value = 0, 1
        while bits < MAX_ESCAPE_BITS and self.adaptive(ESCAPE + bits):
            bits += 1
        for _ in range(bits):
            value = value << 1 | self.split(self.range >> 1)
        return value - 1


def decode_plain(data: bytes, count: int, lo: int, hi: int) -> IntArray:
    """Decode ``count`` symbols of ``lo ... hi``, int32 ``(count,)``.

    Raises:
        CorruptFileError: the payload breaks a rule of the format.
    """
    if not data or (len(data) > 1 and data[-1] == 0):
        raise CorruptFileError("coded stream: empty, or ends in a zero byte")
    coder = _Decoder(data)
    symbols = np.empty(count, dtype=np.int32)
    previous = before = 0
    for position in range(count):
        magnitude, first = 0, coder.model.first_bin(previous, before)
        while magnitude < BINS and coder.adaptive(first + magnitude):
            magnitude += 1
        if magnitude == BINS:
            magnitude += coder.escape()
        symbol = magnitude if not magnitude or coder.adaptive(SIGN) else -magnitude
        if not lo <= symbol <= hi:
            raise CorruptFileError(f"coded stream: symbol {symbol} is not in {lo}..{hi}")
        symbols[position] = symbol
        previous, before = magnitude, previous
    if next(coder.digits, None) is not None:
        raise CorruptFileError("coded stream: the stream does not end with the last symbol")
    return symbols
