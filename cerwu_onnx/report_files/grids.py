"""Histograms of a tensor's weights on the points of its grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cerwu_onnx.container import format as f
from cerwu_onnx.container.reader import Container

BARS = 64
"""The most bars of a histogram; with a wider grid, each bar counts several points."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Numbers of weights by grid point.

    Attributes:
        step: the grid's step.
        lowest: grid point where the first bar begins, in steps.
        points: number of grid points in a bar.
        counts: number of weights in each bar.
    """

    step: float
    lowest: int
    points: int
    counts: tuple[int, ...]

    @property
    def highest(self) -> int:
        """Grid point where the last bar ends, in steps."""
        return self.lowest + self.points * len(self.counts) - 1


def grid_points(container: Container, record: f.Record) -> npt.NDArray[np.int32]:
    """Decode a coded tensor in units of its rows' steps: int32 in the shape of the ONNX tensor; in C if that was built.

    Raises:
        CorruptFileError: a check fails.
    """
    return record.order.restore(container.values(record), record.shape)


def histogram(symbols: npt.NDArray[np.int32], step: float) -> Histogram:
    """Count grid points; ``symbols`` is int32 of any shape, not empty."""
    low, high = int(symbols.min()), int(symbols.max())
    points = -(-(high - low + 1) // BARS)
    low = points * (low // points)  # a bar begins at zero, so that bars of two tensors agree
    counts = np.bincount((symbols.ravel() - low) // points)
    return Histogram(step, low, points, tuple(counts.tolist()))
