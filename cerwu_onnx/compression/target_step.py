"""Move a layer's target down the slope of the loss at the model's outputs, once, before the layer is quantised.

Repair brings a layer's own outputs close to those of the float model. But outputs differ in what they cost, and some of
the errors of earlier layers have already passed the layer by. The gradient at the model's outputs sees both.

A gradient from few samples fits their noise. So each half of the samples gives a direction of its own, and the length
of the step is the one that lowers the loss most on the half that has not seen it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cerwu_onnx.calibration.descent import View
from cerwu_onnx.errors import CalibrationError, ModelError
from cerwu_onnx.quantize.blocks import cut, joined
from cerwu_onnx.quantize.crossval import downhill
from cerwu_onnx.quantize.hessian import damped
from cerwu_onnx.types import Float64Array, FloatArray, PairStats

ETAS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""The lengths to try; at 1 a linear loss would vanish."""

OUTPUTS = 0.3
"""Damping of the Fisher matrix of the rows, relative to its mean diagonal."""


def stepped(
    view: View,
    stats: PairStats,
    fishers: Sequence[Float64Array],
    centred: Callable[[FloatArray], Mapping[str, FloatArray]],
    target: Float64Array,
    damping: float,
) -> Float64Array:
    """Take the step: ``T - eta (u_A D_A + u_B D_B) / 2``.

    With the gradient G of the loss L on one half, ``D = (F + .3)^-1 G (H~ + damping)^-1`` and ``u = L / <G, D>``.

    Args:
        view: of the layer.
        stats: of its inputs.
        fishers: ``(G, M, M)`` Fisher matrices of its rows, of any scale, whose sum is F.
        centred: the parameter that makes up for the mean error of a weight in the tensor's shape, by name, or nothing.
        target: ``(G, M, N)`` T.
        damping: of feedback, relative to the mean diagonal of H~.

    Returns:
        The new target; the old one where no step lowers the loss.
    """
    layer = view.layer

    def values(matrix: Float64Array) -> dict[str, FloatArray]:
        tensor = layer.layout.to_tensor(matrix).astype(np.float32)
        return {layer.weight: tensor, **centred(tensor)}

    here = values(target)
    mean = stats.mean if len(here) > 1 else None
    try:
        found = [view.slope(here, half, mean) for half in (0, 1)]
        losses, gradients = [loss for loss, _ in found], [gradient for _, gradient in found]
        if not min(losses) > 0 or not np.isfinite(losses).all():
            return target
        moves = [_direction(gradient, stats, fishers, damping) for gradient in gradients]
        slopes = [float((gradient * move).sum()) for gradient, move in zip(gradients, moves, strict=True)]
        if not np.isfinite(slopes).all() or not min(slopes) > 0:
            return target
        moves = [loss / slope * move for loss, slope, move in zip(losses, slopes, moves, strict=True)]

        def crossed(eta: float) -> float:
            if not eta:
                return sum(losses)
            return sum(view.loss(values(target - eta * moves[half]), 1 - half) for half in (0, 1))

        eta, least = downhill(ETAS, crossed)
    except (ModelError, CalibrationError, np.linalg.LinAlgError):  # the walk itself needs none of it
        return target
    return target - eta / 2 * (moves[0] + moves[1]) if eta and least < sum(losses) else target


def _direction(
    gradient: Float64Array, stats: PairStats, fishers: Sequence[Float64Array], damping: float
) -> Float64Array:
    """``(F + .3)^-1 G (H~ + damping)^-1``."""
    fisher = np.sum(fishers, axis=0)
    rows = fisher / np.einsum("gmm->gm", fisher).mean() + OUTPUTS * np.eye(fisher.shape[-1])
    parts = cut(np.linalg.solve(rows, gradient), stats.blocks)
    solved = np.linalg.solve(damped(stats.hessian, damping), parts.swapaxes(1, 2)).swapaxes(1, 2)
    found: Float64Array = joined(solved, stats.blocks)
    return found
