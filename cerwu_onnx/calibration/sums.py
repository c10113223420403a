"""Running sums ``x x^T`` over the columns of an activation, of one model or of two, and the statistics made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from cerwu_onnx.calibration.patches import column_shape, iter_together, positions
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.jobs.threads import blas_threads
from cerwu_onnx.types import (
    ConvPatch,
    Float64Array,
    FloatArray,
    Layer,
    LayerStats,
    MatMulPatch,
    PairStats,
    Residual,
    Site,
)

Key: TypeAlias = "tuple[str, ConvPatch | MatMulPatch]"

CHUNK = 16 << 20
"""Bytes of float32 columns in one product."""

LONG = 1024
"""The fewest positions in one product: adding to the sums of wide layers takes longer than a short product."""

TILE = 2048
"""The most rows and columns of a product that is added to the sums at once."""

ENOUGH = 256
"""Positions per column that suffice for statistics.

Neighbouring positions of an image hold nearly the same information, and the error that a Hessian of P positions adds to
a distortion is in the order of N / P of it.
"""

FEW = 32
"""Layers of fewer columns get as many positions as layers of so many columns."""


class _Missed(NamedTuple):
    """A difference of activations in the two models, and the weight that makes of it what a layer's outputs miss."""

    patch: ConvPatch | MatMulPatch
    array: npt.NDArray[Any]
    weight: FloatArray | None = None


def key(site: Site) -> Key:
    """The key of sites that can share their sums: the activation and how it becomes columns."""
    return site.activation, site.patch


@dataclass(slots=True)
class Sums:
    """Sums over the positions of one activation seen through one patch; layers may share them.

    Products over one chunk of columns are float32, the running sums float64. Products are made and added tile by tile,
    and only half of the tiles of symmetric ones, so that nothing else has the size of a Hessian.

    Attributes:
        activation: its name, for messages.
        patch: how it becomes columns.
        layer: the first layer that reads it, for messages.
        shape: ``(G, N)``, what the layer expects.
        blocks: B, number of diagonal blocks in which products of columns are kept
            (:class:`~cerwu_onnx.types.LayerStats`).
        batches: how many calls of :meth:`add` to expect for all sums of this activation together, so that only a part
            of the positions is taken if there are enough; 0 to take all.
        enough: positions that suffice for each column, and for at least :data:`FEW` columns.
        residual: what is added to the layer's outputs, if the sums of ``missing`` are wanted; becomes None where its
            shape is not that of the outputs.
        rows: M, rows of the layer, for those sums.
        weight: ``(G, M, N)`` float32 W, if the sums of ``missing`` shall hold ``W (x - x~)`` as well, which takes their
            place of those over ``x x~^T``: with few rows they are smaller.
        one_in: one of so many positions is taken.
        arrays: sums over ``x~ x~^T`` ``(G * B, N / B, N / B)`` and ``x~`` ``(G, N)``; where ``x`` differs from ``x~``,
            then those over ``x x~^T`` and ``x``, unless there is a weight.
        missing: sums over ``e x~^T`` ``(G, M, N)`` and ``e`` ``(G, M)``, with ``e = s - s~``, or
            ``W (x - x~) + s - s~``; empty while the models agree.
        positions: number of columns seen per group.
    """

    activation: str
    patch: ConvPatch | MatMulPatch
    layer: str
    shape: tuple[int, int]
    blocks: int = 1
    batches: int = 0
    enough: int = ENOUGH
    residual: Residual | None = None
    rows: int = 0
    weight: FloatArray | None = None
    one_in: int = 0
    arrays: list[Float64Array] = field(default_factory=list)
    missing: list[Float64Array] = field(default_factory=list)
    positions: int = 0

    @property
    def columns(self) -> int:
        """Rows and columns of its largest products."""
        return self.shape[1] // self.blocks

    @property
    def names(self) -> list[str]:
        """Names of the values that :meth:`add` takes, each of both models."""
        return [self.activation] + ([] if self.residual is None else [self.residual.stream])

    def add(
        self,
        x: npt.NDArray[Any],
        quantized: npt.NDArray[Any] | None = None,
        *streams: npt.NDArray[Any],
    ) -> None:
        """Add the columns of one activation.

        Args:
            x: the activation in the float model.
            quantized: the activation in the quantised model, of the same shape; None or ``x`` itself while the models
                agree. All calls must do the same.
            streams: the values of the residual, likewise.

        Raises:
            CalibrationError: NaN or infinity, or a shape the layer cannot read.
        """
        chunk = max(CHUNK, LONG * math.prod(self.shape) * 4)
        try:
            if not self.one_in:
                enough = self.enough * max(FEW, self.shape[1])
                self.one_in = max(1, positions(self.patch, x) * self.batches // enough)
            seen, missed = [x], []
            if quantized is not None and quantized is not x:
                # For example what non-maximum suppression leaves has two shapes: there are no pairs.
                quantized = quantized if quantized.shape == x.shape else x
                seen = [quantized, x] if self.weight is None else [quantized]
                missed = [] if self.weight is None else [_Missed(self.patch, _difference(x, quantized), self.weight)]
            if self.residual is not None and len(set(map(id, streams))) > 1:
                missed += self._of_residual(self.residual, x, *streams)
            sources = [(self.patch, array) for array in seen] + [(part.patch, part.array) for part in missed]
            weights = [part.weight for part in missed]
            for found in iter_together(sources, chunk, self.one_in, self.positions):
                columns = [array.swapaxes(1, 2) for array in found]  # as memory has them
                self._add_columns(columns[: len(seen)], list(zip(columns[len(seen) :], weights, strict=True)))
        except ValueError as error:
            raise CalibrationError(f"layer {self.layer!r}: {error} (activation {self.activation!r})") from error

    def _of_residual(
        self, residual: Residual, x: npt.NDArray[Any], stream: npt.NDArray[Any], quantized: npt.NDArray[Any]
    ) -> list[_Missed]:
        """What the residual misses; nothing, from now on, if it is not of the shape of the layer's outputs.

        Beside what these outputs miss, what was seen of it stays: a part of the positions.
        """
        groups, where, _ = column_shape(self.patch, x) or (0, (), 0)
        outputs = groups, where, self.rows
        if not column_shape(residual.patch, stream) == column_shape(residual.patch, quantized) == outputs:
            self.residual, self.missing = None, self.missing if self.weight is not None else []
            return []
        return [_Missed(residual.patch, _difference(stream, quantized))]

    def _add_columns(self, seen: list[FloatArray], missed: list[tuple[FloatArray, FloatArray | None]]) -> None:
        """Add columns of x~, of x if its products are wanted, and of what is missed, each ``(G, ..., P)``."""
        groups, columns, positions = seen[0].shape
        if (groups, columns) != self.shape:
            raise ValueError(f"its input has {columns} columns, the weight {self.shape[1]}")
        self.positions += positions
        with np.errstate(over="ignore", invalid="ignore"):
            missing = _sum(missed)
            squares = [np.einsum("gnp,gnp->gn", array, array) for array in (*seen, *missing)]
        if not all(np.isfinite(found).all() for found in squares):  # no product is larger (Cauchy-Schwarz)
            for array in (*seen, *(array for array, weight in missed if weight is not None)):
                self._check_finite(array)
            seen = [array.astype(np.float64) for array in seen]
            missing = _sum([(array.astype(np.float64), weight) for array, weight in missed])
        size = self.columns
        if not self.arrays:
            shapes = [(groups * self.blocks, size, size), self.shape]
            self.arrays = [np.zeros(shape) for shape in shapes * len(seen)]
        if missing and not self.missing:
            self.missing = [np.zeros((groups, self.rows, columns)), np.zeros((groups, self.rows))]
        with blas_threads(size):
            for total, array in zip(self.arrays[::2], seen, strict=True):
                _add_products(total, array, seen[0])
            for array in missing:
                self.missing[0] += array @ seen[0].swapaxes(1, 2)
                self.missing[1] += array.sum(axis=2, dtype=np.float64)
        for total, array in zip(self.arrays[1::2], seen, strict=True):
            total += array.sum(axis=2)

    def _check_finite(self, x: FloatArray) -> None:
        if not np.isfinite(x).all():
            kind = "NaN" if np.isnan(x).any() else "infinity"
            raise CalibrationError(
                f"the input {self.activation!r} of layer {self.layer!r} holds {kind} on the calibration "
                "data: check that the data is preprocessed as in training"
            )


def _difference(x: npt.NDArray[Any], quantized: npt.NDArray[Any]) -> npt.NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        found: npt.NDArray[Any] = np.subtract(x, quantized, dtype=np.promote_types(x.dtype, np.float32))
        return found


def _sum(missed: list[tuple[FloatArray, FloatArray | None]]) -> list[FloatArray]:
    """The sum of arrays ``(G, ..., P)``, each multiplied with its weight, if there are any."""
    parts = [array if weight is None else weight @ array for array, weight in missed]
    return [sum(parts[1:], parts[0])] if parts else []


def _add_products(total: Float64Array, left: FloatArray, right: FloatArray) -> None:
    """Add ``left right^T`` to sums, tile by tile; where both are one array, the mirror image of a tile is not computed.

    Args:
        total: ``(G * B, n, n)``.
        left: ``(G, B * n, P)``.
        right: likewise.
    """
    count, size = total.shape[:2]
    rows, columns = (side.reshape(count, size, -1) for side in (left, right))
    tiles = [slice(start, start + TILE) for start in range(0, size, TILE)]
    for i, above in enumerate(tiles):
        for beside in tiles[i if left is right else 0 :]:
            product = rows[:, above] @ columns[:, beside].swapaxes(1, 2)
            total[:, above, beside] += product
            if left is right and above != beside:
                total[:, beside, above] += product.swapaxes(1, 2)


def identity_stats(layer: Layer) -> LayerStats:
    """Statistics of a layer without data: identity Hessian (a read-only view), zero mean, no positions."""
    groups, cols = layer.layout.groups, layer.layout.cols
    size = cols // layer.blocks
    identity = np.broadcast_to(np.eye(size), (groups * layer.blocks, size, size))
    return LayerStats(identity, np.zeros((groups, cols)), 0)


def layer_stats(sums: Sequence[Sums]) -> LayerStats:
    """Means over one or more sums, all of which saw positions."""
    positions = sum(job.positions for job in sums)
    hessian, mean = (_mean([job.arrays[index] for job in sums], positions) for index in (0, 1))
    return LayerStats(hessian, mean, positions)


def pair_stats(folds: Sequence[Sequence[Sums]], *, apart: bool, taken: float = 0.0) -> PairStats:
    """Statistics of an activation in two models, from all sums together and, with ``apart``, from each fold by itself.

    Where the models agree, arrays are shared. The sums are used up: their arrays become those of the folds.

    Args:
        folds: sums of disjoint samples, all of which saw positions.
        apart: whether to fill :attr:`~cerwu_onnx.types.PairStats.folds`.
        taken: :attr:`~cerwu_onnx.types.LayerStats.taken`.
    """
    total = _pair([job for sums in folds for job in sums], taken)
    if not apart:
        return total
    return replace(total, folds=tuple(_pair(sums, taken, in_place=True) for sums in folds))


def _pair(sums: Sequence[Sums], taken: float, *, in_place: bool = False) -> PairStats:
    positions = sum(job.positions for job in sums)
    agree = all(len(job.arrays) == 2 for job in sums)
    # The sums over x x~^T and x of an activation on which the models agree are those over x~ x~^T and x~.
    places = ((0, 0), (1, 1)) if agree else ((0, 0), (1, 1), (2, 0), (3, 1))
    arrays = [[job.arrays[index if len(job.arrays) > 2 else same] for job in sums] for index, same in places]
    if in_place and (agree or all(len(job.arrays) > 2 for job in sums)):
        hessian, mean, *rest = (_mean(parts, positions, out=parts[0]) for parts in arrays)
    else:
        hessian, mean, *rest = (_mean(parts, positions) for parts in arrays)
    cross, float_mean = rest or (hessian, mean)
    missing, missing_mean = _missing(sums, positions)
    if taken:
        _take_out(hessian, mean, mean, taken)
        if not agree:
            _take_out(cross, float_mean, mean, taken)
        if missing is not None and missing_mean is not None:
            missing -= taken * missing_mean[:, :, None] * mean[:, None, :]
    return PairStats(hessian, mean, positions, cross, float_mean, missing, missing_mean, taken=taken)


def _missing(sums: Sequence[Sums], positions: int) -> tuple[Float64Array | None, Float64Array | None]:
    """Means of what the layer's outputs and the residual miss, if that was seen at all positions."""
    if not all(job.missing for job in sums):
        return None, None
    product, total = (_mean([job.missing[index] for job in sums], positions) for index in (0, 1))
    return product, total


def _take_out(matrix: Float64Array, left: Float64Array, right: Float64Array, share: float) -> None:
    """Subtract a share of ``left right^T``, in place and row by row.

    Args:
        matrix: ``(G * B, n, n)``.
        left: ``(G, B * n)``.
        right: likewise.
        share: the share.
    """
    rows, columns = (side.reshape(matrix.shape[:2]) for side in (left, right))
    for index in range(matrix.shape[1]):
        matrix[:, index] -= share * rows[:, index, None] * columns


def _mean(arrays: Sequence[Float64Array], positions: int, out: Float64Array | None = None) -> Float64Array:
    mean = arrays[0].copy() if out is None else out
    for array in arrays[1:]:
        mean += array
    mean /= positions
    return mean
