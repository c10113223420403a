"""Static frequency tables: 12-bit frequencies, and the 24-bit slots that the coder makes of them (docs/format.md)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cerwu_onnx.errors import CerwuError, CorruptFileError
from cerwu_onnx.types import Float64Array, IntArray

FREQUENCY_BITS = 12
TOTAL = 1 << FREQUENCY_BITS
SLOT_BITS = 24
SLOTS = 1 << SLOT_BITS
MAX_SYMBOLS = TOTAL


@dataclass(frozen=True)
class FrequencyTable:
    """Frequencies of the symbols ``lo, lo + 1, ..., lo + K - 1``.

    Attributes:
        lo: value of the first symbol.
        frequencies: K integers >= 0 that sum to 4096; the first and the last are not 0.
    """

    lo: int
    frequencies: tuple[int, ...]

    @property
    def hi(self) -> int:
        """Value of the last symbol."""
        return self.lo + len(self.frequencies) - 1

    @cached_property
    def cumulative(self) -> IntArray:
        """Slot boundaries ``L_0 ... L_K``, int64, from 0 to 2^24. Every symbol owns at least one slot."""
        count = len(self.frequencies)
        sums = np.concatenate([[0], np.cumsum(np.array(self.frequencies, dtype=np.int64))])
        return (sums * (SLOTS - count) >> FREQUENCY_BITS) + np.arange(count + 1)

    @cached_property
    def code_lengths(self) -> Float64Array:
        """Bits each symbol costs, float64 ``(K,)``."""
        lengths: Float64Array = SLOT_BITS - np.log2(np.diff(self.cumulative))
        return lengths

    def bits(self, symbols: IntArray) -> float:
        """Ideal code length in bits of ``symbols`` (any shape); the coded words exceed it by less than 64 bits."""
        if symbols.size and not (self.lo <= symbols.min() and symbols.max() <= self.hi):
            raise CerwuError(f"symbols leave the table's range {self.lo}..{self.hi}")
        return float(self.code_lengths[symbols.ravel() - self.lo].sum())

    def to_bytes(self) -> bytes:
        """The table as it stands in the file: LEB128, at most two bytes each."""
        out = bytearray()
        for frequency in self.frequencies:
            if frequency >= 128:
                out.append(frequency & 127 | 128)
                frequency >>= 7
            out.append(frequency)
        return bytes(out)

    @classmethod
    def from_bytes(cls, data: bytes, lo: int, count: int) -> tuple[FrequencyTable, int]:
        """Parse ``count`` frequencies from the start of ``data``.

        Returns:
            The table and the number of bytes it took.

        Raises:
            CorruptFileError: the table is cut short or breaks a rule of the format.
        """
        frequencies = []
        position = 0
        for _ in range(count):
            low = data[position : position + 1]
            position += 1
            high = b"\0"
            if low and low[0] & 128:
                high = data[position : position + 1]
                position += 1
                if high in (b"\0", b"") or high[0] > 127:
                    raise CorruptFileError("frequency table: a frequency is not in its shortest form or cut short")
            if not low:
                raise CorruptFileError("frequency table: cut short")
            frequencies.append(low[0] & 127 | high[0] << 7)
        if sum(frequencies) != TOTAL or not frequencies[0] or not frequencies[-1]:
            raise CorruptFileError(f"frequency table: the sum is not {TOTAL} or an end is 0")
        return cls(lo, tuple(frequencies)), position


def fit(symbols: IntArray) -> FrequencyTable:
    """The table with the shortest code for ``symbols`` (any shape, at least one).

    The gain of one more frequency unit falls with every unit a symbol has, so handing out units greedily is optimal; a
    rare symbol of a large tensor may end up with frequency 0, which still leaves it its one slot of 24 bits.

    Raises:
        CerwuError: the symbols span more than 4096 values.
    """
    lo, hi = int(symbols.min()), int(symbols.max())
    count = hi - lo + 1
    if count > MAX_SYMBOLS:
        raise CerwuError(f"symbols span {count} values, the format holds {MAX_SYMBOLS}: use a coarser grid")
    occurrences = np.bincount(symbols.ravel() - lo, minlength=count).tolist()
    return FrequencyTable(lo, tuple(_allocate(occurrences)))


def _allocate(occurrences: list[int]) -> list[int]:
    """Integer frequencies summing to 4096 that minimise the code length; the two ends get at least 1."""
    total, count = sum(occurrences), len(occurrences)
    frequencies = [occurrence * (TOTAL - count) // total for occurrence in occurrences]
    for end in {0, count - 1}:
        frequencies[end] = max(frequencies[end], 1)

    def gain(index: int) -> float:
        have = frequencies[index]
        ratio = (have + 1) / have if have else float(TOTAL)
        return -occurrences[index] * float(np.log2(ratio))

    heap = [(gain(index), index) for index in range(count)]
    heapq.heapify(heap)
    for _ in range(TOTAL - sum(frequencies)):
        _, index = heap[0]
        frequencies[index] += 1
        heapq.heapreplace(heap, (gain(index), index))
    return frequencies


def entropy(symbols: IntArray) -> float:
    """Ideal order-0 entropy of ``symbols`` in bits per symbol, no table counted."""
    _, occurrences = np.unique(symbols, return_counts=True)
    return entropy_of_counts(occurrences.tolist())


def entropy_of_counts(occurrences: Iterable[int]) -> float:
    """Order-0 entropy in bits per symbol of a histogram."""
    p = np.array([value for value in occurrences if value], dtype=np.float64)
    p /= p.sum()
    return float(-(p * np.log2(p)).sum()) + 0.0
