"""The kernel of the papers' methods: one Optimal-Brain-Surgeon pass over a layer's columns, with priced decisions.

OBS: Hassibi & Stork 1993; column order and lazy blocks: Frantar et al., GPTQ (arXiv 2210.17323); rate in the decision
and its quadratic part in the Hessian: Conzelmann & Bamler, CERWU (arXiv 2505.18758). All values are in units of the
step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cerwu_onnx.types import Float64Array

BLOCK = 128
"""Columns between two lazy updates of all later columns."""

TOWARD_ZERO = (0, 1, 2, -1)
"""Candidates beside zero: the nearest integer moved by so many steps toward zero (-1: one away from it)."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Code lengths and price that a decision uses.

    Attributes:
        price: lambda, in units of distortion per bit.
        bits: ``(2R + 1,)`` code lengths of the symbols ``-R ... R``; other symbols cost as much as the nearest end.
        gamma: coefficient of the quadratic part ``gamma / 2 q^2`` that the Hessian already holds.
    """

    price: float
    bits: Float64Array
    gamma: float = 0.0

    def cost(self, symbols: Float64Array) -> Float64Array:
        """``lambda * (bits(q) - gamma / 2 q^2)`` for integer-valued ``symbols``."""
        reach = len(self.bits) // 2
        index = np.clip(symbols, -reach, reach).astype(np.intp) + reach
        cost: Float64Array = self.price * (self.bits[index] - self.gamma / 2 * symbols**2)
        return cost


SOME = 1 << 14
"""Groups of so many weights at a time stay in a processor's cache."""


def decide(w: Float64Array, weight: Float64Array, rate: Rate | None) -> Float64Array:
    """The symbol with the least ``weight * (w - q)^2 + rate.cost(q)`` among the candidates, elementwise.

    Args:
        w: weights in steps, any shape.
        weight: curvature of the distortion, broadcastable to ``w``.
        rate: None decides by distance alone (nearest integer).
    """
    nearest = np.rint(w)
    if rate is None:
        return nearest
    sign = np.sign(nearest)
    best = np.zeros_like(w)
    best_cost = weight * w**2 + rate.cost(best)
    for distance in TOWARD_ZERO:
        candidate = nearest - distance * sign
        cost = weight * (w - candidate) ** 2 + rate.cost(candidate)
        better = cost < best_cost
        best = np.where(better, candidate, best)
        best_cost = np.where(better, cost, best_cost)
    return best


def obs(w: Float64Array, factor: Float64Array, weight: Float64Array, rate: Rate | None) -> Float64Array:
    """Quantise the columns in order; after each one, move the later columns to make up for its error.

    Args:
        w: ``(G, M, N)`` weights in steps (``w H H'^-1`` where a rate ridge is used).
        factor: ``(G, N, N)`` upper ``U`` with ``H'^-1 = U^T U``.
        weight: ``(G, N)``, or ``(G, N, M)`` for rows that count differently: the curvature used by the decision,
            ``1 / U_jj^2`` for the exact loss.
        rate: see :func:`decide`.

    Returns:
        Symbols ``(G, M, N)``, integer-valued float64.
    """
    groups, rows, columns = w.shape
    symbols = np.empty_like(w, order="C")
    some = max(1, SOME // max(1, rows * columns))
    for part in (slice(start, start + some) for start in range(0, groups, some)):
        symbols[part] = _obs(w[part], factor[part], weight[part], rate)
    return symbols


def _obs(w: Float64Array, factor: Float64Array, weight: Float64Array, rate: Rate | None) -> Float64Array:
    columns = w.shape[2]
    weight = weight[:, :, None] if weight.ndim == 2 else weight
    # (G, N, M): each column, over all rows, is contiguous. Its symbols take its place.
    rest = w.transpose(0, 2, 1).copy(order="C")
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        errors = np.empty((w.shape[0], stop - start, w.shape[1]))
        for j in range(start, stop):
            q = decide(rest[:, j], weight[:, j], rate)
            error = (rest[:, j] - q) / factor[:, j, j, None]
            rest[:, j] = q
            rest[:, j + 1 : stop] -= factor[:, j, j + 1 : stop, None] * error[:, None, :]
            errors[:, j - start] = error
        rest[:, stop:] -= factor[:, start:stop, stop:].transpose(0, 2, 1) @ errors
    symbols: Float64Array = rest.transpose(0, 2, 1)
    return symbols
