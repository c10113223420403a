"""Running sums over the columns of an activation: of one model, or of two models side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cerwu_onnx.calibration.patches import iter_columns, positions
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.threads import blas_threads
from cerwu_onnx.types import ConvPatch, Float64Array, FloatArray, Layer, LayerStats, MatMulPatch, PairStats, Site

Key: TypeAlias = "tuple[str, ConvPatch | MatMulPatch]"

CHUNK = 16 << 20
"""Bytes of float32 columns that are multiplied at once."""

ENOUGH = (1 << 15, 256)
"""Positions that suffice: at least the first number, and the second for each column.

Neighbouring positions of an image tell the same, and the error that a Hessian of P positions adds to a distortion is in
the order of N / P of it.
"""


def key(site: Site) -> Key:
    """What sites must have in common to share their sums: the activation and how it becomes columns."""
    return site.activation, site.patch


@dataclass(slots=True)
class Sums:
    """Sums over the positions of one activation seen through one patch; layers may share them.

    Sums over one chunk of columns are float32, the running sums float64.

    Attributes:
        activation: its name, for messages.
        patch: how it becomes columns.
        layer: the first layer that reads it, for messages.
        shape: ``(G, N)``, what the layer expects.
        float_hessian: sum ``x x^T`` too.
        batches: how many calls of :meth:`add` to expect for all sums of this activation together, if a part of the
            positions will do where there are more than :data:`ENOUGH`; 0 to take all.
        one_in: of so many positions one is taken.
        arrays: sums over ``x~ x~^T`` ``(G, N, N)`` and ``x~`` ``(G, N)``; where ``x`` differs from ``x~``, then those
            over ``x x~^T``, ``x`` and, if asked for, ``x x^T``.
        positions: number of columns seen per group.
    """

    activation: str
    patch: ConvPatch | MatMulPatch
    layer: str
    shape: tuple[int, int]
    float_hessian: bool = False
    batches: int = 0
    one_in: int = 0
    arrays: list[Float64Array] = field(default_factory=list)
    positions: int = 0

    def add(self, x: npt.NDArray[Any], quantized: npt.NDArray[Any] | None = None) -> None:
        """Add the columns of one activation.

        Args:
            x: the activation in the float model.
            quantized: the same one in the quantised model, of the same shape; None or ``x`` itself while the models
                agree. All calls say the same about that.

        Raises:
            CalibrationError: NaN or infinity, or a shape the layer cannot read.
        """
        try:
            if not self.one_in:
                enough = max(ENOUGH[0], ENOUGH[1] * self.shape[1])
                self.one_in = max(1, positions(self.patch, x) * self.batches // enough)
            if quantized is None or quantized is x:
                for cols in iter_columns(self.patch, x, CHUNK, self.one_in, self.positions):
                    self._add_columns(cols, cols)
                return
            if quantized.shape != x.shape:  # what non-maximum suppression leaves, say: nothing to pair it with
                quantized = x[...]
            seed = self.positions
            chunks = (iter_columns(self.patch, stream, CHUNK, self.one_in, seed) for stream in (x, quantized))
            for cols, others in zip(*chunks, strict=True):
                self._add_columns(cols, others)
        except ValueError as error:
            raise CalibrationError(f"layer {self.layer!r}: {error} (activation {self.activation!r})") from error

    def _add_columns(self, x: FloatArray, quantized: FloatArray) -> None:
        if (x.shape[0], x.shape[2]) != self.shape:
            raise ValueError(f"its input has {x.shape[2]} columns, the weight {self.shape[1]}")
        with np.errstate(over="ignore", invalid="ignore"), blas_threads(self.shape[1]):
            found = self._moments(x, quantized)
        if not all(np.isfinite(array).all() for array in found):
            self._check_finite(x)
            self._check_finite(quantized)
            wide = x.astype(np.float64)
            found = self._moments(wide, wide if quantized is x else quantized.astype(np.float64))
        if not self.arrays:
            self.arrays = [np.zeros(array.shape) for array in found]
        for total, array in zip(self.arrays, found, strict=True):
            total += array
        self.positions += x.shape[1]

    def _moments(self, x: FloatArray, quantized: FloatArray) -> list[FloatArray]:
        """``arrays`` of one chunk, in the precision of the columns. BLAS halves the work of the symmetric ones."""
        by_column = quantized.swapaxes(1, 2)
        found: list[FloatArray] = [by_column @ quantized, by_column.sum(axis=2)]
        if x is not quantized:
            by_column = x.swapaxes(1, 2)
            found += [by_column @ quantized, by_column.sum(axis=2)]
            if self.float_hessian:
                found.append(by_column @ x)
        return found

    def _check_finite(self, x: FloatArray) -> None:
        if not np.isfinite(x).all():
            kind = "NaN" if np.isnan(x).any() else "infinity"
            raise CalibrationError(
                f"the input {self.activation!r} of layer {self.layer!r} holds {kind} on the calibration "
                "data: check that the data is preprocessed as in training"
            )


def identity_stats(layer: Layer) -> LayerStats:
    """Statistics of a layer without data: identity Hessian (a read-only view), zero mean, no positions."""
    groups, cols = layer.layout.groups, layer.layout.cols
    identity = np.broadcast_to(np.eye(cols), (groups, cols, cols))
    return LayerStats(identity, np.zeros((groups, cols)), 0)


def layer_stats(sums: Sequence[Sums]) -> LayerStats:
    """Means over some sums, at least one, all of which saw positions."""
    positions = sum(job.positions for job in sums)
    hessian, mean = (_mean((job.arrays[index] for job in sums), positions) for index in (0, 1))
    return LayerStats(hessian, mean, positions)


def pair_stats(sums: Sequence[Sums]) -> PairStats:
    """The same for two models. Where the models agree, arrays are shared."""
    quantized = layer_stats(sums)
    hessian, mean, positions = quantized.hessian, quantized.mean, quantized.positions
    with_float = sums[0].float_hessian
    if all(len(job.arrays) == 2 for job in sums):
        return PairStats(hessian, mean, positions, hessian, mean, hessian if with_float else None)
    # The sums over x x~^T, x and x x^T of an activation on which the models agree are those over x~ x~^T, x~, x~ x~^T.
    cross, float_mean, *rest = (
        _mean((job.arrays[index if len(job.arrays) > 2 else same] for job in sums), positions)
        for index, same in ((2, 0), (3, 1), (4, 0))[: 3 if with_float else 2]
    )
    return PairStats(hessian, mean, positions, cross, float_mean, rest[0] if rest else None)


def _mean(arrays: Iterable[Float64Array], positions: int) -> Float64Array:
    mean: Float64Array = np.sum(list(arrays), axis=0)
    mean /= positions
    return mean
