"""How far calibration statistics can be trusted: damping chosen by cross-validation.

A Hessian from few or correlated samples has directions that look empty and are not; feedback and repair then put errors
there that other data brings to light. Both are damped by ``rho`` times the mean diagonal, with the ``rho`` that does
best on samples it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from cerwu_onnx.quantize.hessian import damped, inverse_factor
from cerwu_onnx.types import Float64Array, PairStats

DAMPINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""What is tried, relative to the mean diagonal."""


def feedback_damping(folds: tuple[PairStats, ...]) -> float | None:
    """The damping under which the OBS update leaves the least error on other samples.

    With errors of equal variance before the update, whatever they are, row j of the unit upper factor ``U_jk / U_jj``
    is what an error in column j does to the columns behind it; its energy under another fold's Hessian is the loss.

    Args:
        folds: statistics of disjoint samples.

    Returns:
        One of :data:`DAMPINGS`; None with fewer than two folds, or if nothing factorises.
    """

    def loss(train: PairStats, test: PairStats, damping: float) -> float:
        factor = inverse_factor(damped(train.hessian, damping))
        unit = factor / np.einsum("gnn->gn", factor)[:, :, None]
        return float(((unit @ test.hessian) * unit).sum())

    return _best(folds, loss)


def repair_damping(matrix: Float64Array, folds: tuple[PairStats, ...]) -> float | None:
    """The damping under which :func:`repaired` weights come closest to the float model's outputs on other samples.

    Args:
        matrix: ``(G, M, N)`` float weights.
        folds: statistics of disjoint samples.

    Returns:
        One of :data:`DAMPINGS`; None if leaving the weights as they are does better, or with fewer than two folds.
    """

    def loss(weights: Float64Array, test: PairStats) -> float:  # E |W x - weights x~|^2 without its constant part
        return float(((weights @ test.hessian - 2 * matrix @ test.cross) * weights).sum())

    best = _best(folds, lambda train, test, damping: loss(repaired(matrix, train, damping), test))
    if best is None:
        return None
    plain = sum(loss(matrix, test) for _, test in permutations(folds, 2))
    mended = sum(loss(repaired(matrix, train, best), test) for train, test in permutations(folds, 2))
    return best if mended < plain else None


def repaired(matrix: Float64Array, stats: PairStats, damping: float) -> Float64Array:
    """Weights that make up for the errors of earlier layers: ``W + W (C - H~) (H~ + damping)^-1``.

    They come closest to ``W x`` when they see ``x~`` (a ridge regression), with ``C = E[x x~^T]``, ``H~ = E[x~ x~^T]``.

    Args:
        matrix: ``(G, M, N)`` float weights W.
        stats: ``H~`` and ``C``.
        damping: relative to the mean diagonal of ``H~``.
    """
    difference = matrix @ (stats.cross - stats.hessian)
    solved = np.linalg.solve(damped(stats.hessian, damping), difference.transpose(0, 2, 1))
    result: Float64Array = matrix + solved.transpose(0, 2, 1)
    return result


def _best(folds: tuple[PairStats, ...], loss: Callable[[PairStats, PairStats, float], float]) -> float | None:
    if len(folds) < 2:
        return None
    found = dict(_losses(folds, loss))
    return min(found, key=found.__getitem__, default=None)


def _losses(
    folds: tuple[PairStats, ...], loss: Callable[[PairStats, PairStats, float], float]
) -> Iterator[tuple[float, float]]:
    for damping in DAMPINGS:
        try:
            total = sum(loss(train, test, damping) for train, test in permutations(folds, 2))
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(total):
            yield damping, total
