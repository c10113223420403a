"""The trellis of docs/format.md: turn values into indices on its two grids, and back.

The indices before a value in its run decide which of the grids it is on.

The grids are the even multiples of the step, and the odd ones with 0. An *index* k into the grid is coded; the
value is 2 k on the even grid, and 2 k - sign(k) on the odd one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cerwu_onnx.entropy.tables import entropy
from cerwu_onnx.types import IntArray


@dataclass(frozen=True, slots=True)
class Trellis:
    """How the state changes: it moves down by one bit, and terms change it.

    Attributes:
        states: how many there are.
        odd_index: the term of an odd index.
        odd_grid: the term of an element on the odd grid.
    """

    states: int
    odd_index: int
    odd_grid: int

    def grids(self, indices: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """The grids of indices, ``(run, runs)``: one run per column.

        Bit b of a term is the lowest bit of the state, which is the grid, b + 1 elements later.
        """
        odd, grids = (indices & 1).astype(np.uint8), np.zeros(indices.shape, np.uint8)
        for later in _delays(self.odd_index):
            grids[later:] ^= odd[:-later]
        delays = _delays(self.odd_grid)
        for position, grid in enumerate(grids):
            for later in delays:
                if later <= position:
                    grid ^= grids[position - later]
        return grids


def _delays(term: int) -> list[int]:
    """After how many elements each bit of a term of the state has become the lowest one."""
    return [bit + 1 for bit in range(term.bit_length()) if term >> bit & 1]


TRELLIS = Trellis(64, 10, 33)
"""The trellis that files are written with."""

TRELLISES = {1: Trellis(16, 5, 9), 2: TRELLIS}
"""The trellis of each version of the format."""


def to_indices(
    values: IntArray, run: int, trellis: Trellis = TRELLIS
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """The indices of ``values`` and the grids they are on.

    Args:
        values: in stored order, any shape, at least one.
        run: elements between two restarts of the trellis; it divides their number.
        trellis: which one.

    Returns:
        Indices, int32, and grids, uint8 (1: the odd one); both flat.

    Raises:
        ValueError: no path through the trellis makes the values, or ``run`` does not divide their number.
    """
    runs = _columns(values, run)
    indices = runs + np.sign(runs) * (runs & 1) >> 1
    grids = trellis.grids(indices)
    if not np.array_equal(2 * indices - grids * np.sign(indices), runs):
        raise ValueError("no path through the trellis makes these values")
    return indices.T.ravel(), grids.T.ravel()


def to_values(indices: IntArray, run: int, trellis: Trellis = TRELLIS) -> npt.NDArray[np.int32]:
    """The inverse of :func:`to_indices`: int32, flat."""
    runs = _columns(indices, run)
    values: npt.NDArray[np.int32] = (2 * runs - trellis.grids(runs) * np.sign(runs)).T.ravel()
    return values


def coded_entropy(values: IntArray, run: int) -> float:
    """Order-0 entropy in bits per element: of the indices on each grid; without a trellis, of the values.

    Args:
        values: in stored order, any shape, at least one.
        run: elements between two restarts of the trellis; 0 if there is none.
    """
    if not run:
        return entropy(values)
    indices, grids = to_indices(values, run)
    parts = [indices[grids == grid] for grid in (0, 1)]
    return float(sum(part.size * entropy(part) for part in parts if part.size) / indices.size)


def _columns(elements: IntArray, run: int) -> npt.NDArray[np.int32]:
    """``(run, runs)``: one run per column."""
    if run < 1 or elements.size % run:
        raise ValueError(f"runs of {run} do not divide {elements.size} elements")
    return np.ascontiguousarray(elements.reshape(-1, run).T, np.int32)


class Walk:
    """The trellis element by element, as decoders walk it.

    Args:
        run: elements between two restarts; 0 if there is no trellis: then values are indices.
        trellis: which one.

    Attributes:
        grid: grid of the next element, 0 or 1.
    """

    def __init__(self, run: int, trellis: Trellis = TRELLIS) -> None:
        self.grid = 0
        self._trellis = trellis
        self._run, self._left, self._state = run, run, 0

    def value(self, index: int) -> int:
        """The value of the next index."""
        if not self._run:
            return index
        value = 2 * index - self.grid * ((index > 0) - (index < 0))
        self._state = self._state >> 1 ^ self._trellis.odd_index * (index & 1) ^ self._trellis.odd_grid * self.grid
        self._left -= 1
        if self._left == 0:
            self._left, self._state = self._run, 0
        self.grid = self._state & 1
        return value
