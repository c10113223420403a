"""Static frequency tables of the ANS coder: their fit to symbols, and their bytes (docs/format.md, "ANS payload").

A table is stored as logarithms: one *level* per symbol, in steps of an octave, half an octave or a quarter. A frequency
estimated from n occurrences is uncertain by 1.4 / sqrt(n) octaves, so finer steps would cost more than they gain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cerwu_onnx.errors import CerwuError, CorruptFileError
from cerwu_onnx.types import Float64Array, IntArray

FREQUENCY_BITS = 12
TOTAL = 1 << FREQUENCY_BITS
OCTAVES = 12
"""Levels span this many octaves."""
MANTISSAS = (16, 19, 23, 27)
"""16 * 2^(i/4), rounded: the fractional part of a level."""


@dataclass(frozen=True)
class FrequencyTable:
    """Frequencies of the symbols ``-reach, ..., reach``, K in number.

    Attributes:
        resolution: an octave has ``2^resolution`` levels; 0, 1 or 2.
        levels: K integers; 0 is a symbol that does not occur, and each step above 1 is a factor of
            ``2^(1 / 2^resolution)``. The first and the last are not both 0.
    """

    resolution: int
    levels: tuple[int, ...]

    @property
    def reach(self) -> int:
        """The largest symbol."""
        return len(self.levels) // 2

    @cached_property
    def frequencies(self) -> IntArray:
        """K integers that sum to 4096, int64; 0 exactly where the level is."""
        above = np.array(self.levels, dtype=np.int64) - 1
        octave, part = above >> self.resolution, above & (1 << self.resolution) - 1
        weights = np.where(above < 0, 0, np.array(MANTISSAS)[part << 2 - self.resolution] << np.maximum(octave, 0))
        spare = TOTAL - np.count_nonzero(weights)
        frequencies = np.where(weights, 1 + weights * spare // weights.sum(), 0)
        frequencies[np.argmax(frequencies)] += TOTAL - frequencies.sum()
        return frequencies

    @cached_property
    def cumulative(self) -> IntArray:
        """Slot boundaries ``F_0 ... F_K``, int64, from 0 to 4096."""
        return np.concatenate([[0], np.cumsum(self.frequencies)])

    @cached_property
    def code_lengths(self) -> Float64Array:
        """Bits of each symbol, float64 ``(K,)``; infinite for symbols that are not in the table."""
        with np.errstate(divide="ignore"):
            lengths: Float64Array = FREQUENCY_BITS - np.log2(self.frequencies)
        return lengths

    def bits(self, symbols: IntArray) -> float:
        """Ideal code length in bits of ``symbols`` (any shape); the coded words exceed it by less than 16 bits."""
        if symbols.size and np.abs(symbols).max() > self.reach:
            raise CerwuError(f"symbols leave the table's range {-self.reach}..{self.reach}")
        return float(self.code_lengths[symbols.ravel() + self.reach].sum())

    @cached_property
    def _differences(self) -> IntArray:
        """The levels minus their predictions (:func:`_prediction`), zigzagged to 0, 1, 2 ..."""
        levels, reach = np.array(self.levels, dtype=np.int64), self.reach
        trend = np.concatenate([[2], np.where(levels[:reach] > 0, levels[:reach] + 1, 0)])
        difference = levels - np.concatenate([trend, levels[:reach][::-1]])
        zigzagged: IntArray = np.where(difference > 0, 2 * difference - 1, -2 * difference)
        return zigzagged

    @cached_property
    def _rice(self) -> int:
        """The Rice parameter that needs fewest bits."""
        return min(range(4), key=lambda rice: int((self._differences >> rice).sum()) + rice * len(self.levels))

    @property
    def size(self) -> int:
        """Bytes in the file."""
        if len(self.levels) == 1:
            return 0
        return (4 + int((self._differences >> self._rice).sum()) + (1 + self._rice) * len(self.levels) + 7) // 8

    def to_bytes(self) -> bytes:
        """The table's bytes in the file: none for a single symbol, else a string of bits."""
        if len(self.levels) == 1:
            return b""
        out, length = self.resolution | self._rice << 2, 4
        for value in self._differences.tolist():
            quotient = value >> self._rice
            out |= ((1 << quotient) - 1 | (value & (1 << self._rice) - 1) << quotient + 1) << length
            length += quotient + 1 + self._rice
        return out.to_bytes((length + 7) // 8, "little")

    @classmethod
    def from_bytes(cls, data: bytes, reach: int) -> tuple[FrequencyTable, int]:
        """Parse the table of the symbols ``-reach ... reach`` from the start of ``data``.

        Returns:
            The table and the number of bytes it took.

        Raises:
            CorruptFileError: the table is cut short or breaks a rule of the format.
        """
        if reach == 0:
            return cls(0, (1,)), 0
        bits = _Bits(data)
        resolution, rice = bits.take(2), bits.take(2)
        most = OCTAVES << resolution
        levels: list[int] = []
        for _ in range(2 * reach + 1):
            quotient = 0
            while quotient <= 2 * most + 2 and bits.take(1):  # a prediction is at most ``most`` + 1
                quotient += 1
            value = quotient << rice | bits.take(rice)
            level = _prediction(reach, levels) + (value + 1 >> 1 if value & 1 else -(value >> 1))
            if not 0 <= level <= most:
                raise CorruptFileError(f"frequency table: level {level} is not in 0..{most}")
            levels.append(level)
        if resolution > 2 or not (levels[0] or levels[-1]) or bits.rest():
            raise CorruptFileError("frequency table: resolution, first or last level, or the last byte's bits")
        return cls(resolution, tuple(levels)), bits.used


def _prediction(reach: int, before: Sequence[int]) -> int:
    """Predict the level of the symbol after those of ``before``: that of its mirror image, else the trend."""
    if len(before) > reach:
        return before[2 * reach - len(before)]
    last = before[-1] if before else 1
    return last + 1 if last else 0


class _Bits:
    """Reads the bits of bytes, lowest first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    @property
    def used(self) -> int:
        """Number of bytes read, the last one perhaps in part."""
        return (self._position + 7) // 8

    def take(self, count: int) -> int:
        value = 0
        for shift in range(count):
            byte, bit = divmod(self._position, 8)
            if byte >= len(self._data):
                raise CorruptFileError("frequency table: cut short")
            value |= (self._data[byte] >> bit & 1) << shift
            self._position += 1
        return value

    def rest(self) -> int:
        """The rest of the current byte."""
        return self.take(-self._position % 8)


def fit(symbols: IntArray) -> FrequencyTable:
    """Fit the table for ``symbols`` (any shape, at least one) that needs fewest bytes, those of the table included.

    Raises:
        CerwuError: there are more symbols than a table can hold.
    """
    reach = _reach(symbols)
    return _fit_counts(np.bincount(symbols.ravel() + reach, minlength=2 * reach + 1))


def fit_pair(symbols: IntArray, grids: npt.NDArray[np.uint8]) -> tuple[FrequencyTable, FrequencyTable]:
    """Fit two tables of the same range, for flat ``symbols`` where ``grids`` is 0 and where it is 1."""
    reach = _reach(symbols)
    tables = []
    for grid in (0, 1):
        counts = np.bincount(symbols[grids == grid] + reach, minlength=2 * reach + 1)
        if not (counts[0] or counts[-1]):  # the first or the last symbol of a table must occur
            counts[-1] = 1
        tables.append(_fit_counts(counts))
    return tables[0], tables[1]


def _reach(symbols: IntArray) -> int:
    reach = int(np.abs(symbols).max())
    if 2 * reach >= TOTAL:
        raise CerwuError(f"symbols of up to {reach}: a table holds {TOTAL // 2 - 1}: use a coarser grid")
    return reach


def _fit_counts(occurrences: IntArray) -> FrequencyTable:
    """Fit the table that needs fewest bytes, from the number of occurrences of each symbol."""
    present = occurrences > 0

    def bits(table: FrequencyTable) -> float:
        return 8 * table.size + float(occurrences[present] @ table.code_lengths[present])

    return min((FrequencyTable(r, _levels(occurrences, r)) for r in range(3)), key=bits)


def _levels(occurrences: IntArray, resolution: int) -> tuple[int, ...]:
    """The rounded logarithms of the occurrences; that of the rarest symbol is near 1."""
    octaves = np.log2(np.maximum(occurrences, 1) / occurrences.max())
    rarest = octaves[occurrences > 0].min()
    top = min(1 + int(np.ceil(-rarest * (1 << resolution))), OCTAVES << resolution)
    levels = np.where(occurrences > 0, np.maximum(top + np.rint(octaves * (1 << resolution)), 1), 0)
    return tuple(levels.astype(int).tolist())


def entropy(symbols: IntArray) -> float:
    """Ideal order-0 entropy of ``symbols`` in bits per symbol, without a table."""
    _, occurrences = np.unique(symbols, return_counts=True)
    return entropy_of_counts(occurrences.tolist())


def entropy_of_counts(occurrences: Iterable[int]) -> float:
    """Order-0 entropy in bits per symbol of a histogram."""
    p = np.array([value for value in occurrences if value], dtype=np.float64)
    p /= p.sum()
    return float(-(p * np.log2(p)).sum()) + 0.0
