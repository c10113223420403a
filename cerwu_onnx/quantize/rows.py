"""Feedback between a layer's rows: the OBS update with the Fisher matrix of its outputs.

The loss at the model's outputs sees a layer's error E as ``tr(F E H E^T)``, with H of its inputs and the Fisher matrix
F of its outputs (K-FAC: Martens & Grosse 2015, arXiv 1503.05671). OBS works between columns with H; it can work between
rows with F in the same way, as Tseng et al. do for language models (2025, arXiv 2505.22988). Once a row is quantised,
later rows move by ``-V_rk / V_rr`` times its error, where ``F^-1 = V^T V``; its own error then counts ``1 / V_rr^2``.

F comes from few samples and a quadratic model of the loss. Its diagonal grows by the share that generalises best. Each
output's damping thus follows its own scale: a network may scale an output up and the next layer's weights down.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from cerwu_onnx.quantize.blocks import cut, summed
from cerwu_onnx.quantize.crossval import downhill, fed
from cerwu_onnx.quantize.hessian import inverse_factor
from cerwu_onnx.types import Float64Array

DAMPINGS = (0.1, 0.3, 1.0, 3.0)
"""The dampings to try, relative to the diagonal. Smaller ones trust the quadratic model too far on all data."""

UNKNOWN = 1.0
"""The damping if there is nothing to choose it by."""

LEAST = 0.01
"""The least that an output counts for damping, relative to its energy, as a share of the mean: few samples may not have
shown what it does."""

DEAD = 2.0**-32
"""Outputs with less than this share of the largest energy count as if they had it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The weights of rows, and their feedback.

    Attributes:
        fisher: ``(G, M, M)`` as measured, scaled to a mean diagonal of 1.
        factor: ``(G, M, M)`` upper V with ``F^-1 = V^T V`` for the damped F.
        costs: ``(G, M)`` ``1 / V_rr^2``: the weights of the rows' errors after feedback.
        damping: relative to the diagonal of F.
    """

    fisher: Float64Array
    factor: Float64Array
    costs: Float64Array
    damping: float

    def distortion(self, error: Float64Array, hessian: Float64Array) -> float:
        """``tr(F E H E^T)`` of an error ``(G, M, N)``, summed over groups; H may be in blocks."""
        blocks = len(hessian) // len(error)
        parts = cut(error, blocks)
        return float((summed(parts @ hessian @ parts.swapaxes(1, 2), blocks) * self.fisher).sum())

    def noise(self, hessian: Float64Array) -> float:
        """D of white noise of unit variance; H may be in blocks."""
        traces = summed(np.einsum("gnn->g", hessian), len(hessian) // len(self.fisher))
        return float(np.einsum("gmm->g", self.fisher) @ traces)


def rows_of(fishers: tuple[Float64Array, ...], energy: Float64Array) -> Rows | None:
    """Damp and factorise a layer's Fisher matrix.

    Args:
        fishers: ``(G, M, M)`` positive semidefinite, each from a part of the samples, at least one.
        energy: ``(G, M)`` mean squares of the outputs.

    Returns:
        The rows; None if they do not reach the outputs.
    """
    fisher = _normalised(np.sum(fishers, axis=0))
    if fisher is None:
        return None
    size = np.sqrt(np.maximum(energy, DEAD * energy.max())) if energy.any() else np.ones_like(energy)
    unit = size[:, :, None] * size[:, None, :]  # turns F to outputs of unit energy
    mean = float(np.einsum("gmm->gm", unit * fisher).mean())
    damping = _damping([part for f in fishers if (part := _normalised(unit * f)) is not None])
    factor = inverse_factor(_damped(unit * fisher / mean, damping)) * size[:, None, :] / mean**0.5
    return Rows(fisher, factor, np.einsum("gmm->gm", factor) ** -2.0, damping)


def rows_noise(hessian: Float64Array, rows: int) -> float:
    """D of white noise of unit variance on a matrix of so many rows that count alike; H may be in blocks."""
    return rows * float(np.einsum("gnn->", hessian))


def _damping(parts: list[Float64Array]) -> float:
    """Choose the damping with which feedback leaves the least error on other samples, by F of each part."""
    if len(parts) < 2:
        return UNKNOWN
    pairs = list(permutations(parts, 2))
    found, _ = downhill(DAMPINGS, lambda damping: sum(fed(_damped(train, damping), test) for train, test in pairs))
    return found or UNKNOWN


def _normalised(fisher: Float64Array) -> Float64Array | None:
    mean = float(np.einsum("gmm->gm", fisher).mean())
    return fisher / mean if np.isfinite(mean) and mean > 0 else None


def _damped(fisher: Float64Array, damping: float) -> Float64Array:
    """Damp F of outputs of unit energy; unlike dead inputs, dead rows keep the least weight."""
    own = np.einsum("gmm->gm", fisher)
    added = damping * np.maximum(own, LEAST * own.mean())[:, :, None] * np.eye(own.shape[1])
    damped: Float64Array = (fisher + added) / (1 + damping)
    return damped
