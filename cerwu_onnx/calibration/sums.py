"""Running sums ``x x^T`` over the columns of an activation, of one model or of two, and the statistics made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

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
        float_hessian: also sum ``x x^T``.
        batches: how many calls of :meth:`add` to expect for all sums of this activation together, so that only a part
            of the positions is taken if there are enough; 0 to take all.
        enough: positions that suffice for each column, and for at least :data:`FEW` columns.
        residual: what is added to the layer's outputs, if the sums of ``missing`` are wanted; becomes None where its
            shape is not that of the outputs.
        rows: M, rows of the layer, for those sums.
        one_in: one of so many positions is taken.
        arrays: sums over ``x~ x~^T`` ``(G * B, N / B, N / B)`` and ``x~`` ``(G, N)``; where ``x`` differs from ``x~``,
            then those over ``x x~^T``, ``x`` and, if asked for, ``x x^T``.
        missing: sums over ``(s - s~) x~^T`` ``(G, M, N)`` and ``s - s~`` ``(G, M)``; empty while the models agree on s.
        positions: number of columns seen per group.
    """

    activation: str
    patch: ConvPatch | MatMulPatch
    layer: str
    shape: tuple[int, int]
    blocks: int = 1
    float_hessian: bool = False
    batches: int = 0
    enough: int = ENOUGH
    residual: Residual | None = None
    rows: int = 0
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
            sources: list[tuple[ConvPatch | MatMulPatch, npt.NDArray[Any]]] = [(self.patch, x)]
            if quantized is not None and quantized is not x:
                # For example what non-maximum suppression leaves has two shapes: there are no pairs.
                sources.append((self.patch, quantized if quantized.shape == x.shape else x[...]))
            apart = len(sources) > 1
            if self.residual is not None and len(set(map(id, streams))) > 1:
                sources += self._apart(self.residual, x, *streams)
            for cols, *others in iter_together(sources, chunk, self.one_in, self.positions):
                self._add_columns(cols, others.pop(0) if apart else cols, *others)
        except ValueError as error:
            raise CalibrationError(f"layer {self.layer!r}: {error} (activation {self.activation!r})") from error

    def _apart(
        self, residual: Residual, x: npt.NDArray[Any], *streams: npt.NDArray[Any]
    ) -> list[tuple[ConvPatch | MatMulPatch, npt.NDArray[Any]]]:
        """The residual in both models; nothing, from now on, if it is not of the shape of the layer's outputs."""
        groups, where, _ = column_shape(self.patch, x) or (0, (), 0)
        if any(column_shape(residual.patch, stream) != (groups, where, self.rows) for stream in streams):
            self.residual, self.missing = None, []
            return []
        return [(residual.patch, stream) for stream in streams]

    def _add_columns(self, x: FloatArray, quantized: FloatArray, *streams: FloatArray) -> None:
        if (x.shape[0], x.shape[2]) != self.shape:
            raise ValueError(f"its input has {x.shape[2]} columns, the weight {self.shape[1]}")
        self.positions += x.shape[1]
        seen = [array.swapaxes(1, 2) for array in ((x,) if quantized is x else (quantized, x))]  # as memory has them
        with np.errstate(over="ignore", invalid="ignore"):
            squares = [np.einsum("gnp,gnp->gn", array, array) for array in seen]
        if not all(np.isfinite(found).all() for found in squares):  # no product is larger (Cauchy-Schwarz)
            self._check_finite(x)
            self._check_finite(quantized)
            seen = [array.astype(np.float64) for array in seen]
        pairs = [(0, 0), (1, 0), (1, 1)][: 2 * len(seen) - 1 if self.float_hessian else len(seen)]
        size = self.columns
        if not self.arrays:
            shapes = [(self.shape[0] * self.blocks, size, size), self.shape] * len(pairs)
            self.arrays = [np.zeros(shape) for shape in shapes[:5]]
        with blas_threads(size):
            for total, (left, right) in zip(self.arrays[::2], pairs, strict=True):
                _add_products(total, seen[left], seen[right])
            if streams:
                self._add_missing(np.subtract(*(array.swapaxes(1, 2) for array in streams)), seen[0])
        for total, array in zip(self.arrays[1::2], seen, strict=True):
            total += array.sum(axis=2)

    def _add_missing(self, difference: FloatArray, quantized: FloatArray) -> None:
        if not self.missing:
            groups, columns = self.shape
            self.missing = [np.zeros((groups, self.rows, columns)), np.zeros((groups, self.rows))]
        self.missing[0] += difference @ quantized.swapaxes(1, 2)
        self.missing[1] += difference.sum(axis=2, dtype=np.float64)

    def _check_finite(self, x: FloatArray) -> None:
        if not np.isfinite(x).all():
            kind = "NaN" if np.isnan(x).any() else "infinity"
            raise CalibrationError(
                f"the input {self.activation!r} of layer {self.layer!r} holds {kind} on the calibration "
                "data: check that the data is preprocessed as in training"
            )


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
    positions, with_float = sum(job.positions for job in sums), sums[0].float_hessian
    agree = all(len(job.arrays) == 2 for job in sums)
    # The sums over x x~^T, x and x x^T of an activation on which the models agree are those over x~ x~^T, x~, x~ x~^T.
    places = ((0, 0), (1, 1)) if agree else ((0, 0), (1, 1), (2, 0), (3, 1), (4, 0))[: 5 if with_float else 4]
    arrays = [[job.arrays[index if len(job.arrays) > 2 else same] for job in sums] for index, same in places]
    if in_place and (agree or all(len(job.arrays) > 2 for job in sums)):
        hessian, mean, *rest = (_mean(parts, positions, out=parts[0]) for parts in arrays)
    else:
        hessian, mean, *rest = (_mean(parts, positions) for parts in arrays)
    cross, float_mean = rest[:2] or (hessian, mean)
    float_hessian = None if not with_float else hessian if agree else rest[2]
    missing, missing_mean = _missing(sums, positions)
    if taken:
        _take_out(hessian, mean, mean, taken)
        if not agree:
            _take_out(cross, float_mean, mean, taken)
            if float_hessian is not None:
                _take_out(float_hessian, float_mean, float_mean, taken)
        if missing is not None and missing_mean is not None:
            missing -= taken * missing_mean[:, :, None] * mean[:, None, :]
    about = hessian, mean, positions, cross, float_mean, float_hessian
    return PairStats(*about, missing, missing_mean, taken=taken)


def _missing(sums: Sequence[Sums], positions: int) -> tuple[Float64Array | None, Float64Array | None]:
    """Means of what is missing in the residual, if it was seen at all positions."""
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
