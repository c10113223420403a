"""Choose the damping of Hessians by cross-validation, and repair weights for the errors of earlier layers.

A Hessian from few or correlated samples has directions that look empty but are not. Feedback and repair then put errors
there, which show on other data. Both are damped by ``rho`` times the mean diagonal, with the ``rho`` that does
best on samples that were left out.

Losses are only compared, so single precision does for them. They are traces. Those of wide layers are estimated from a
few random vectors of signs, the same ones for all dampings (Hutchinson 1990, Commun. Stat. Simul. Comput. 19(2)): one
Cholesky factor is left, instead of inverses and products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import permutations
from typing import TypeVar

import numpy as np
from scipy.linalg import blas, lapack

from cerwu_onnx.jobs.threads import side_by_side, takes_one
from cerwu_onnx.quantize.blocks import cut
from cerwu_onnx.quantize.hessian import damped, inverse_factor
from cerwu_onnx.types import Float64Array, FloatArray, PairStats

P = TypeVar("P")

SMALL = 256
"""Hessians of fewer columns are factorised sooner than threads begin."""

FEW = 32
"""Matrices of fewer columns are factorised for all groups at once, by numpy: there may be hundreds of them."""

WIDE, PROBES = 2048, 128
"""Of matrices of more rows or columns, the losses are estimated from so many random vectors."""

DAMPINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""The dampings to try, relative to the mean diagonal."""


def feedback_damping(folds: tuple[PairStats, ...]) -> tuple[float | None, float]:
    """Choose the damping with which the OBS update leaves the least error on other samples.

    Args:
        folds: statistics of disjoint samples.

    Returns:
        One of :data:`DAMPINGS`, and the mean over columns of what an error of 1 costs on other samples once later
        columns have answered it. None and infinity with fewer than two folds, or if no Hessian factorises.
    """
    if len(folds) < 2:
        return None, np.inf
    pairs = list(permutations((fold.hessian for fold in folds), 2))
    errors = len(pairs) * folds[0].hessian[..., 0].size

    def loss(damping: float) -> float:
        return _summed(lambda pair: fed(damped(pair[0], damping), pair[1]), pairs, folds[0]) / errors

    return downhill(DAMPINGS, loss)


def fed(matrix: Float64Array, other: Float64Array) -> float:
    """The loss under one Hessian if errors are fed back by another one.

    The errors before the update are assumed to have equal variance. Row j of the unit upper factor ``U_jk / U_jj``
    tells what an error in column j does to later columns; its energy under ``other`` is the loss.

    Args:
        matrix: ``(G, N, N)``, the damped Hessian of the feedback.
        other: ``(G, N, N)``, the Hessian of the loss.

    Raises:
        numpy.linalg.LinAlgError: ``matrix`` is not positive definite.
    """
    if matrix.shape[-1] >= FEW:
        loss = _probed if matrix.shape[-1] > WIDE else _fed
        return sum(map(loss, matrix, other))
    unit = inverse_factor(matrix)
    unit /= np.einsum("gnn->gn", unit)[:, :, None].copy()
    return float(((unit @ other) * unit).sum())


def _fed(matrix: Float64Array, other: Float64Array) -> float:
    """:func:`fed` of one group. With J the reversal of the axes and ``J matrix J = L L^T``, ``U`` is ``J L^-1 J``."""
    (lower, _), (against, scale) = _lower(matrix), _single(other)
    unit = lapack.strtri(lower, lower=1, overwrite_c=1)[0]
    unit /= np.diagonal(unit)[:, None].copy()
    product = blas.strmm(1.0, unit, against.T, lower=1, overwrite_b=1)
    return scale * float((product * unit).sum(dtype=np.float64))


def _probed(matrix: Float64Array, other: Float64Array) -> float:
    """An estimate of :func:`fed` of one group: ``y^T other y`` for ``y = (U_jk / U_jj)^T z``, z of signs.

    With L as above, that is ``L^T (J y) = J (z / U_jj)``, and ``1 / U_jj`` are the diagonal of ``J L J``.
    """
    signs = _signs(len(matrix), PROBES).astype(np.float32)
    (lower, _), (against, scale) = _lower(matrix), _single(other)
    found = lapack.strtrs(lower, signs * np.diagonal(lower)[:, None], lower=1, trans=1)[0]
    return scale * float((found * (against @ found)).sum(dtype=np.float64)) / PROBES


def _signs(*shape: int) -> Float64Array:
    """Random signs, the same ones at each call."""
    return np.random.default_rng(0).choice((-1.0, 1.0), shape)


def _single(matrix: Float64Array) -> tuple[FloatArray, float]:
    """A symmetric matrix with its axes reversed, in units of its mean diagonal, in which it fits single precision."""
    scale = float(np.diagonal(matrix).mean()) or 1.0
    found = np.empty(matrix.shape, np.float32)  # divided in double precision: the unit may be beyond single precision
    np.divide(matrix[::-1, ::-1], scale, out=found, casting="same_kind")
    return found, scale


def _lower(matrix: Float64Array) -> tuple[FloatArray, float]:
    """L with ``J matrix J = L L^T`` for a matrix ``(N, N)`` in units of its mean diagonal; and this unit.

    Raises:
        numpy.linalg.LinAlgError: it is not positive definite.
    """
    reverse, scale = _single(matrix)
    return _cholesky(reverse), scale


def _cholesky(matrix: FloatArray) -> FloatArray:
    """L with ``matrix = L L^T``, in the precision of the matrix ``(N, N)``, which is overwritten.

    Raises:
        numpy.linalg.LinAlgError: it is not positive definite.
    """
    factorise = lapack.dpotrf if matrix.dtype == np.float64 else lapack.spotrf
    lower, failed = factorise(matrix.T, lower=1, clean=1, overwrite_a=1)  # it is symmetric
    if failed:
        raise np.linalg.LinAlgError("not positive definite")
    factor: FloatArray = lower
    return factor


def repair_damping(matrix: Float64Array, folds: tuple[PairStats, ...]) -> float | None:
    """Choose the damping with which :func:`repaired` weights come closest to the float outputs on other samples.

    Args:
        matrix: ``(G, M, N)`` float weights.
        folds: statistics of disjoint samples.

    Returns:
        One of :data:`DAMPINGS`; None if the unchanged weights do better, or with fewer than two folds.
    """
    if len(folds) < 2:
        return None
    rows, columns = matrix.shape[1:]
    mixed = _signs(PROBES, rows) / PROBES**0.5 if max(rows, columns) > WIDE and rows > PROBES else None
    pairs = list(permutations([(fold.hessian, _missing(matrix, fold, mixed)) for fold in folds], 2))

    def loss(damping: float) -> float:  # E |W x - (W + moved) x~|^2, less what it is without repair
        return _summed(partial(_repair_loss, damping), pairs, folds[0])

    best, least = downhill(DAMPINGS, loss)
    return best if least < 0 else None


def _repair_loss(
    damping: float, pair: tuple[tuple[Float64Array, Float64Array], tuple[Float64Array, Float64Array]]
) -> float:
    (train, target), (test, other) = pair
    if train.shape[-1] < FEW:
        moved = _ridge(train, target, damping)
        return float(((moved @ test - 2 * other) * moved).sum())
    return sum(map(_one_repair_loss, damped(train, damping), target, test, other))


def _one_repair_loss(train: Float64Array, target: Float64Array, test: Float64Array, other: Float64Array) -> float:
    (lower, unit), (against, scale) = _lower(train), _single(test)
    aim, other = (side[:, ::-1] / size for side, size in ((target, unit), (other, scale)))
    moved = lapack.spotrs(lower, aim.T.astype(np.float32, order="F"), lower=1, overwrite_b=1)[0].T
    return scale * float(((moved @ against - 2 * other) * moved).sum(dtype=np.float64))


def _summed(function: Callable[[P], float], pairs: Sequence[P], fold: PairStats) -> float:
    """The sum of losses for pairs of folds, which are found side by side unless the Hessians are small."""
    columns = fold.hessian.shape[-1]
    if columns >= SMALL and takes_one(columns):
        return sum(side_by_side(function, pairs))
    return sum(map(function, pairs))


def repaired(matrix: Float64Array, stats: PairStats, damping: float) -> Float64Array:
    """Weights that make up for the errors of earlier layers: ``W + (W (C - H~) + R) (H~ + damping)^-1``.

    Their outputs, with the residual s~ added, come closest to ``W x + s`` (a ridge regression), with ``C = E[x x~^T]``,
    ``H~ = E[x~ x~^T]``, ``R = E[(s - s~) x~^T]``.

    Args:
        matrix: ``(G, M, N)`` float weights W.
        stats: ``H~``, ``C`` and R, which has all of it where ``C`` is ``H~``.
        damping: relative to the mean diagonal of ``H~``.
    """
    return matrix + _ridge(stats.hessian, _missing(matrix, stats), damping)


def _missing(matrix: Float64Array, stats: PairStats, mixed: Float64Array | None = None) -> Float64Array:
    """``W (C - H~) + R``: the correlation of what ``W x~`` and the residual miss with ``x~``.

    Args:
        matrix: ``(G, M, N)`` W.
        stats: of its inputs.
        mixed: ``(K, M)``, if K sums over rows are wanted instead of all rows.
    """

    def mix(rows: Float64Array) -> Float64Array:
        return rows if mixed is None else mixed @ rows

    seen = None if stats.missing is None else mix(cut(stats.missing, stats.blocks))
    if seen is not None and stats.cross is stats.hessian:
        return seen
    missing = mix(matrix) @ (stats.cross - stats.hessian)
    return missing if seen is None else missing + seen


def _ridge(hessian: Float64Array, target: Float64Array, damping: float) -> Float64Array:
    """``target (H + damping)^-1``."""
    matrices = damped(hessian, damping)
    if hessian.shape[-1] < FEW:
        solved: Float64Array = np.linalg.solve(matrices, target.swapaxes(1, 2)).swapaxes(1, 2)
        return solved
    pairs = zip(matrices, target, strict=True)
    return np.stack([lapack.dpotrs(_cholesky(one), rows.T, lower=1)[0].T for one, rows in pairs])


def downhill(values: Sequence[float], loss: Callable[[float], float]) -> tuple[float | None, float]:
    """Find the value of least loss: start in the middle, and step to the neighbour with less loss while there is one.

    Args:
        values: in ascending order.
        loss: has one minimum among them; infinity, NaN or a LinAlgError where it is not defined.

    Returns:
        The value and its loss; None and infinity if there is no finite one.
    """
    known: dict[int, float] = {}

    def at(index: int) -> float:
        if index not in known:
            try:
                known[index] = loss(values[index])
            except np.linalg.LinAlgError:
                known[index] = np.inf
            if not np.isfinite(known[index]):
                known[index] = np.inf
        return known[index]

    here, there = -1, len(values) // 2
    while here != there:
        here = there
        there = min((index for index in (here, here + 1, here - 1) if 0 <= index < len(values)), key=at)
    return (values[here], at(here)) if at(here) < np.inf else (None, np.inf)
