"""The default method for one layer: the step follows from the cost of the layer's errors and the price of a bit.

High-rate theory relates them. A step ``d`` leaves a distortion ``D = n d^2 / 12 * a`` in a layer of n weights, where
``a`` is the mean curvature ``1 / U_jj^2`` in the OBS update, or what cross-validation finds in its place on other data.
One more bit per weight divides D by four. Bits are spent until the last one lowers the loss at the model's outputs by
just its price, which gives every layer

    d^2 = 6 price / (ln 2 * sensitivity * a)

where the sensitivity is the loss per unit of D (Lagrangian allocation; cf. Gao et al. 2019, arXiv 1810.06401).

Where the Fisher matrix F of a layer's outputs is known, D is ``tr(F E H E^T)`` for an error E. Rows that matter less
then take more error, and each row makes up for the errors of those before it (:mod:`cerwu_onnx.quantize.rows`).
D is as well ``tr(H E^T F E)``: columns may take the place of rows where they need steps of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cerwu_onnx.entropy.exponents import LEAST_STEP as LEAST_STEPPED
from cerwu_onnx.entropy.step import LEAST_STEP, above, short
from cerwu_onnx.quantize import changes, methods, trellis
from cerwu_onnx.quantize.blocks import cut, joined, summed
from cerwu_onnx.quantize.crossval import feedback_damping, repair_damping, repaired
from cerwu_onnx.quantize.hessian import damped, factorise
from cerwu_onnx.quantize.methods import MAX_SYMBOL, distortion
from cerwu_onnx.quantize.obs import Rate, obs
from cerwu_onnx.quantize.row_steps import MARGIN, common, exponents_of, relative_costs
from cerwu_onnx.quantize.rows import rows_noise, rows_of
from cerwu_onnx.types import Float64Array, FloatArray, MatrixLayout, PairStats, QuantizedTensor

DECISION = 0.03
"""Price of a bit in the choice of each symbol, in units of ``d^2`` times the geometric mean of the curvature.

A quarter of what high-rate theory asks: a higher price shrinks outputs, and shrinkage compounds from layer to layer."""

ROOM = 0.98
"""Share of the format's range of symbols that the weights may fill; feedback moves them a little further."""

FINE = 1 << 14
"""For so many weights, an exact step is worth four more bytes than a short one, which costs 0.002 bits per weight."""

PLENTY = 2
"""With so many positions per column, a fixed damping does well for most layers."""

MOST_ROWS = 1 << 11
"""Matrices of more rows share one step: the search takes a matrix between the rows."""

LEAST, MOST = 2 * LEAST_STEP, 1e30
"""Bounds of the step; a trellis halves it. What is stored reaches down to the smallest normal float32, because not all
machines have smaller ones."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a layer's errors and bits, and the range of its symbols.

    Attributes:
        noise: loss at the model's outputs per unit of variance of white noise on each weight.
        price: loss that one more bit must save.
        fishers: ``(G, M, M)`` Fisher matrices of the layer's outputs, each from a part of the samples, of any scale;
            empty if all rows count alike.
        largest: magnitude that no symbol may exceed.
    """

    noise: float
    price: float
    fishers: tuple[Float64Array, ...] = field(default=())
    largest: int = MAX_SYMBOL


def quantize(
    tensor: FloatArray,
    layout: MatrixLayout,
    stats: PairStats,
    cost: Cost,
    *,
    columns: npt.NDArray[np.intp] | None,
    damping: float,
    passes: int,
    name: str,
    dampings: tuple[float, float] | None = None,
    base: changes.Base | None = None,
    stepped: bool = True,
    across: bool = False,
    improved: Callable[[Float64Array, float], Float64Array] | None = None,
) -> tuple[QuantizedTensor, float]:
    """Quantise one weight; its aim is the weight that would make up for the errors of earlier layers.

    Args:
        tensor: in the shape of the ONNX tensor.
        layout: how it forms ``(G, M, N)``.
        stats: its inputs in both models, with folds where there are enough samples.
        cost: the cost of errors and bits.
        columns: ``(N,)`` the matrix's columns in the order in which a row is stored, which the trellis follows. None if
            the elements of a row are not stored one after the other: then all weights have one uniform grid. So they
            have if the wanted step is finer than a trellis allows, because its two grids share the range of symbols.
        damping: relative damping of the Hessian where cross-validation cannot choose it.
        passes: how often code lengths are estimated again.
        name: for warnings.
        dampings: those of feedback and of repair, for layers of :data:`PLENTY` positions; else cross-validation
            chooses.
        base: the base's tensor, whose changes may cost less.
        stepped: whether rows may have exponents: steps of their own (:mod:`cerwu_onnx.quantize.row_steps`).
        across: whether columns may have them instead, if symbols need not fit a kernel. The trellis then follows the
            columns.
        improved: makes a better target of the repaired one, ``(G, M, N)``, and the damping that cross-validation chose.

    Returns:
        The weight on its grid, and the variance of white noise on it that would cost as much as its error.
    """
    blocks, given = stats.blocks, dampings if stats.positions >= PLENTY * layout.cols else None
    target = _aim(layout.to_matrix(tensor.astype(np.float64)), stats, given[1] if given else None)
    feedback, elsewhere = (given[0], np.inf) if given else feedback_damping(stats.folds)
    if improved is not None and feedback is not None:
        target = improved(target, feedback)
    hessian = stats.hessian
    order = natural = np.arange(layout.cols)
    if columns is not None and not np.array_equal(columns, natural):
        order, columns = (columns, columns) if blocks == 1 else (natural, None)  # a trellis path would leave its block
    ordered = hessian if order is natural else hessian[:, order[:, None], order]
    found = factorise(ordered, feedback or damping, 0.0, name)
    if found is None:
        factor, damping = np.broadcast_to(np.eye(hessian.shape[1]), hessian.shape), 0.0
    else:
        factor, damping = found
    curvature = _curvature(factor)
    unseen = _unseen(elsewhere if found else np.inf, curvature)
    alone = target.shape[1] == 1  # no feedback between rows
    known = cost.fishers and hessian.any() and (alone or columns is not None)  # inputs of zeros say nothing of errors
    energy = _energies(target, hessian)
    rows = rows_of(cost.fishers, energy) if known else None
    noise = rows_noise(hessian, target.shape[1]) if rows is None else rows.noise(hessian)
    costs, between = (np.ones(target.shape[:2]), None) if rows is None else (rows.costs, rows.factor)
    likely = relative_costs(energy) if rows is None else rows.costs
    fits = columns is not None and cost.largest > 1
    decide = cost, fits, passes
    aim = target if order is natural else target[:, :, order]
    layer = _Layer(aim, factor, curvature, unseen, noise, costs, likely, between, *decide)
    few = alone or (fits and target.shape[1] <= MOST_ROWS)
    exponents, saved = layer.exponents() if stepped and few else (None, 0.0)
    chosen, stored = layer, layout
    alike = blocks > 1 or layout.cols > MOST_ROWS or cost.largest < MAX_SYMBOL  # kernels know steps of outputs only
    sideways = layout.transposed if across and fits and few and not alike and base is None else None
    if sideways is not None:
        turned = _of_columns(layer, stats, (given[0] if given else None, damping), saved, name)
        if turned is not None:
            (chosen, exponents, damping), stored = turned, sideways
    values, step, plain = chosen.quantized(exponents)
    if exponents is not None and plain and columns is not None:  # no form has exponents for these rows on one grid
        chosen, stored, exponents = layer, layout, None
        values, step, plain = layer.quantized(None)
    scale = np.ones((1, 1, 1)) if exponents is None else np.exp2(-exponents.astype(np.float64))[:, :, None]
    if chosen is not layer:
        values, scale = values.swapaxes(1, 2), scale.swapaxes(1, 2)
    symbols = np.empty_like(values)
    symbols[:, :, order] = values
    error = target - step * symbols * scale
    quantized = QuantizedTensor(
        symbols=layout.to_tensor(symbols).astype(np.int32),
        step=step,
        distortion=distortion(cut(error, blocks), hessian),
        energy=distortion(cut(target, blocks), hessian),
        damping=damping,
        run=0 if plain else stored.cols,
        exponents=None if exponents is None else stored.of_rows(exponents),
        across=chosen is not layer,
    )
    lost = quantized.distortion if rows is None else rows.distortion(error, hessian)
    if base is not None:
        frame = changes.Frame(layout, target, order, hessian, factor, curvature, rows, cost.largest)
        sensitivity = cost.noise / noise if noise > 0 else 0.0
        quantized, lost = changes.cheapest((quantized, lost), base, frame, passes, sensitivity, cost.price)
    return quantized, lost / noise if noise > 0 else 0.0


def _aim(matrix: Float64Array, stats: PairStats, damping: float | None) -> Float64Array:
    """The weight ``(G, M, N)`` that would make up for the errors of earlier layers; itself where none does better.

    Without a damping, cross-validation chooses it.
    """
    if stats.cross is stats.hessian and stats.missing is None:
        return matrix
    parts = cut(matrix, stats.blocks)
    repair = damping or repair_damping(parts, stats.folds)
    return matrix if repair is None else joined(repaired(parts, stats, repair), stats.blocks)


@dataclass(frozen=True, slots=True)
class _Layer:
    """What decides on the symbols of a weight, its columns in the order in which they are stored.

    Attributes:
        target: ``(G, M, N)`` its aim.
        factor: ``(G * B, n, n)`` U of its inputs.
        curvature: ``(G * B, n)`` ``1 / U_jj^2``.
        unseen: what errors cost on other samples, over what they cost by ``curvature``.
        noise: D of white noise of unit variance.
        costs: ``(G, M)`` weights of the rows' errors.
        likely: the same where nobody knows them, but rows may differ; for exponents.
        between: ``(G, M, M)`` V of its outputs; None without feedback between rows.
        cost: the cost of errors and bits.
        trellis: whether a trellis can follow the rows.
        passes: how often code lengths are estimated again.
    """

    target: Float64Array
    factor: Float64Array
    curvature: Float64Array
    unseen: float
    noise: float
    costs: Float64Array
    likely: Float64Array
    between: Float64Array | None
    cost: Cost
    trellis: bool
    passes: int

    def turned(self) -> _Layer:
        """The same with columns as rows: ``tr(F E H E^T) = tr(H E^T F E)``."""
        groups, rows, _ = self.target.shape
        return replace(
            self,
            target=self.target.swapaxes(1, 2),
            factor=np.broadcast_to(np.eye(rows), (groups, rows, rows)) if self.between is None else self.between,
            curvature=self.costs,
            costs=self.curvature,
            likely=self.curvature,
            between=self.factor,
        )

    def exponents(self) -> tuple[npt.NDArray[np.int64] | None, float]:
        """Exponents of the rows, ``(G, M)``, where they save bits, and how many per weight."""
        step = self._step(self.costs)
        if not 2 * LEAST_STEPPED < step < MOST:
            return None, 0.0
        largest = self.cost.largest // 2 if self.trellis else self.cost.largest
        costs = self._of_columns * self.likely
        return exponents_of(self.target / step, costs, ROOM * largest, ROOM * self.cost.largest)

    def quantized(self, exponents: npt.NDArray[np.int64] | None) -> tuple[Float64Array, float, bool]:
        """Values ``(G, M, N)`` in steps, the step, and whether there is one uniform grid instead of a trellis."""
        costs, between, target = self.costs, self.between, self.target
        if exponents is not None:
            scale = np.exp2(exponents)
            target = target * scale[:, :, None]  # whose rows share one step
            if between is None:
                between = self.likely[:, :, None] ** -0.5 * np.eye(target.shape[1])
            between = between * scale[:, None, :]
            costs = common(self._of_columns * self.likely / scale**2) / self._of_columns
        step, indices = self._step(costs), self.cost.largest // 2  # values on a trellis are about twice as large
        least = float(np.abs(target).max(initial=0)) / ROOM
        plain = not self.trellis or (exponents is None and step < least / indices)
        least = above(min(max(least / (self.cost.largest if plain else indices), LEAST), MOST))
        step = min(step, MOST)
        step = max(short(step) if target.size < FINE else float(np.float32(step)), least)
        if not plain:
            typical = np.exp(summed(np.log(self.curvature).mean(axis=1), self._blocks) / self._blocks)[:, None] * costs
            price = 4 * DECISION * float(typical.mean())
            values = _along_trellis(2 * target / step, self.factor, self.curvature, price, self.passes, between)
            plain = bool(np.abs(values).max(initial=0) > self.cost.largest)  # feedback has moved values there
        if not plain:
            return values, step / 2, False
        alone = target.shape[1] == 1
        curvature = self.curvature * np.repeat(costs, self._blocks, axis=0) if alone else self.curvature
        price = DECISION * float(np.exp(np.log(curvature).mean()))  # times step^2 in units of the output
        return _uniform(target / step, self.factor, curvature, price, self.passes, self.cost.largest), step, True

    @property
    def _blocks(self) -> int:
        return len(self.factor) // len(self.target)

    @property
    def _of_columns(self) -> Float64Array:
        """``(G, 1)`` mean curvature."""
        return summed(self.curvature.mean(axis=1), self._blocks)[:, None] / self._blocks

    def _step(self, costs: Float64Array) -> float:
        """The step by the formula above for rows of these costs ``(G, M)``; 1 for weights that are all zero."""
        if not self.target.any():
            return 1.0
        if not self.noise > 0 or not self.cost.noise > 0:
            return 0.0
        curvature = self.unseen * float((self._of_columns * costs).mean())
        return float(np.sqrt(6 * self.cost.price * self.noise / (np.log(2) * self.cost.noise * curvature)))


def _of_columns(
    layer: _Layer, stats: PairStats, dampings: tuple[float | None, float], saved: float, name: str
) -> tuple[_Layer, npt.NDArray[np.int64], float] | None:
    """Columns as rows, where exponents of columns save more than those of rows.

    Inputs then have scales of their own, so damping follows them half way: it is that of a Hessian whose inputs are
    divided by the fourth root of their energy.

    Args:
        layer: with rows as rows.
        stats: of its inputs.
        dampings: of such a Hessian; None for the first lets cross-validation choose, and the second holds where it
            cannot.
        saved: bits per weight that exponents of rows save.
        name: for warnings.

    Returns:
        The layer, exponents ``(G, N)``, and the damping; None if exponents of rows do as well.
    """
    if layer.turned().exponents()[1] <= saved + MARGIN:
        return None
    size = np.einsum("gnn->gn", damped(stats.hessian, 0.0)) ** 0.25
    unit = size[:, :, None] * size[:, None, :]
    feedback, elsewhere = dampings[0], np.inf
    if feedback is None:
        feedback, elsewhere = feedback_damping(
            tuple(replace(fold, hessian=fold.hessian / unit) for fold in stats.folds)
        )
    found = factorise(stats.hessian / unit, feedback or dampings[1], 0.0, name)
    if found is None:
        return None
    factor, damping = found
    unseen = _unseen(elsewhere, _curvature(factor))
    factor = factor / size[:, None, :]
    turned = replace(layer, factor=factor, curvature=_curvature(factor), unseen=unseen).turned()
    exponents, more = turned.exponents()
    return None if exponents is None or more <= saved + MARGIN else (turned, exponents, damping)


def _curvature(factor: Float64Array) -> Float64Array:
    """``1 / U_jj^2``, ``(G, N)``."""
    curvature: Float64Array = np.einsum("gnn->gn", factor) ** -2.0
    return curvature


def _unseen(elsewhere: float, curvature: Float64Array) -> float:
    """What an error costs on samples left out, over the mean of ``1 / U_jj^2``; 1 where that is not known."""
    return elsewhere / float(curvature.mean()) if 0 < elsewhere < np.inf else 1.0


def _energies(target: Float64Array, hessian: Float64Array) -> Float64Array:
    """``(G, M)`` mean squares of the outputs of rows; H may be in blocks."""
    blocks = len(hessian) // len(target)
    parts = cut(target, blocks)
    product: Float64Array = parts @ hessian
    product *= parts
    return summed(product.sum(axis=-1), blocks)


def worth(variance: float, weights: int, cost: Cost, bits: int) -> bool:
    """Whether the error of a coded weight costs less than the bits that coding can save at most.

    This fails only if the format's range of symbols made the step much larger than wanted; a smaller range is the
    user's wish. Without a price, rate is ignored.

    Args:
        variance: that of noise as costly as its error, from :func:`quantize`.
        weights: number of its elements.
        cost: the cost of errors and bits.
        bits: bits of an element that stays exact.
    """
    asked = cost.largest < MAX_SYMBOL
    return asked or not cost.price or cost.noise * variance <= cost.price * bits * weights


def _uniform(
    w: Float64Array, factor: Float64Array, curvature: Float64Array, price: float, passes: int, largest: int
) -> Float64Array:
    blocks = len(factor) // len(w)
    w = cut(w, blocks)
    values = np.clip(np.rint(w), -largest, largest)
    for _ in range(passes):
        values = obs(w, factor, curvature, Rate(price, methods.code_lengths(values)))
        values = np.clip(values, -largest, largest, out=values)
    return joined(values, blocks)


def _along_trellis(
    w: Float64Array,
    factor: Float64Array,
    curvature: Float64Array,
    price: float,
    passes: int,
    between: Float64Array | None,
) -> Float64Array:
    lengths = trellis.first_lengths(w)
    curvature = curvature.reshape(len(w), -1)
    for _ in range(passes):
        values = trellis.trellis_obs(w, factor, curvature, trellis.TrellisRate(price, lengths), between)
        lengths, _ = trellis.code_lengths(values)
    return values
