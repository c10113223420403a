"""How the weights of a tensor spread over their grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cerwu_onnx.container import format as f
from cerwu_onnx.container.reader import Container

BARS = 64
"""A histogram has at most so many bars; a wider grid has several points to a bar."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Weights counted by grid point.

    Attributes:
        step: the grid's step.
        lowest: grid point where the first bar begins, in steps.
        points: grid points to a bar.
        counts: weights in each bar.
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
    """A coded tensor in units of its step: int32 in the shape of the ONNX tensor, decoded in C where that was built.

    Raises:
        CorruptFileError: a check fails.
    """
    values = container.decode(record)
    if not np.isfinite(values).all():  # steps near the largest float32
        return record.order.restore(container.symbols(record), record.shape)
    steps: npt.NDArray[np.int32] = np.rint(values / np.float64(record.step)).astype(np.int32)
    return steps


def histogram(symbols: npt.NDArray[np.int32], step: float) -> Histogram:
    """Count grid points; ``symbols`` is int32 of any shape, not empty."""
    low, high = int(symbols.min()), int(symbols.max())
    points = -(-(high - low + 1) // BARS)
    low = points * (low // points)  # zero begins a bar, so that bars of two tensors agree
    counts = np.bincount((symbols.ravel() - low) // points)
    return Histogram(step, low, points, tuple(counts.tolist()))
