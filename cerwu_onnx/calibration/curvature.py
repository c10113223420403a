"""Sensitivities from gradients: how much each layer's error costs at the model's outputs.

White noise of variance v on a layer's weights adds ``v tr F tr H / 2`` to the loss if what it does at the positions
of the layer (pixels, tokens) is independent (K-FAC: Martens & Grosse 2015, arXiv 1503.05671), and ``v / 2`` times the
squared norm of the gradient with respect to the weights, whatever positions have in common. In a convolution before a
global average that is tens of times more: neighbours see similar inputs, and their errors add up. Errors of
quantisation lie between: feedback makes them small where inputs are large. The geometric mean of both does best.

That takes one pass over the samples for all layers, where noise on each layer's weights takes several for each of them
(:mod:`calibration.sensitivity`), and is less noisy; but it knows nothing of the loss where it is not quadratic, and
gradients are those of a softmax at a higher temperature. So noise on all layers at once sets the level.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cerwu_onnx.calibration.fisher import Curvature
from cerwu_onnx.calibration.sensitivity import OutputLoss, bounded, mean_variance, noise_sensitivity, noisy
from cerwu_onnx.types import Float64Array, FloatArray, MatrixLayout

SMALL = 0.01
"""Tensors without gradients of less than this share of all weights are measured together: vectors of normalisations,
position tables. Each would take as long as the largest layer."""


def sensitivities(
    loss: OutputLoss,
    weights: Mapping[str, FloatArray],
    variance: Mapping[str, float | FloatArray],
    curvatures: Mapping[str, Curvature],
    draws: int = 4,
) -> dict[str, float]:
    """Increase of the loss per unit of variance of white noise on each weight tensor.

    By moments where gradients are known, by noise on one layer after another where they are not; small ones count
    alike.

    Args:
        loss: what to measure.
        weights: the float model's weights, in the shape of the ONNX tensors.
        variance: of the noise on each element, by name; arrays broadcast.
        curvatures: as :func:`~cerwu_onnx.calibration.fisher.row_fishers` gives them.
        draws: of the noise that sets the level.

    Returns:
        Positive numbers by name.
    """
    found, shares = {}, {}
    for name, curvature in curvatures.items():
        rows = curvature.rows * curvature.inputs[:, None]
        apart = float(rows.sum())
        found[name] = float(np.sqrt(apart * (curvature.energy or apart))) / 2
        shares[name] = _share(rows, variance[name], loss.layouts[name])
    least = SMALL * sum(weight.size for weight in weights.values())
    rest = {name: weight for name, weight in weights.items() if name not in found}
    large = {name: weight for name, weight in rest.items() if weight.size >= least or name not in loss.sees}
    means = {name: mean_variance(variance[name], weight) for name, weight in weights.items()}
    alike = {name: 1 / means[name] if means[name] > 0 else 0.0 for name in rest.keys() - large.keys()}
    for expected in (found, alike):
        sums = {name: value * means[name] * shares.get(name, 1.0) for name, value in expected.items()}
        level = _level(loss, weights, variance, sums, draws)
        expected.update({name: level * value for name, value in expected.items()})
    found |= alike | noise_sensitivity(loss, large, variance)
    return bounded({name: found[name] for name in weights}, weights, shares)


def _share(rows: Float64Array, variance: float | FloatArray, layout: MatrixLayout) -> float:
    """The loss that noise causes over that of white noise of the same mean variance.

    Args:
        rows: ``(G, M)`` what noise on each row adds to it.
        variance: of the noise, broadcastable to the tensor.
        layout: how the tensor forms matrices.
    """
    of_rows = layout.to_matrix(np.broadcast_to(np.asarray(variance, np.float64), layout.shape)).mean(axis=2)
    mean, total = float(of_rows.mean()), float(rows.sum())
    return float((rows * of_rows).sum()) / (mean * total) if mean > 0 and total > 0 else 1.0


def _level(
    loss: OutputLoss,
    weights: Mapping[str, FloatArray],
    variance: Mapping[str, float | FloatArray],
    found: Mapping[str, float],
    draws: int,
) -> float:
    """The loss that noise on all these layers causes, each an equal share of its variance, over what was expected.

    Each draw of the noise is measured on samples of its own.

    ``found`` is the loss that the whole noise on each layer should cause.
    """
    expected = sum(found.values()) / max(len(found), 1)
    if not expected > 0:
        return 1.0
    generator = np.random.default_rng(0)
    losses = []
    for draw in range(draws):
        moved = {}
        for name in found:
            deviation = np.sqrt(np.asarray(variance[name]) / len(found))
            moved[name] = noisy(weights[name], deviation * generator.normal(size=weights[name].shape))
        losses.append(loss(moved, draw, draws))
    level = float(np.mean(losses)) / expected
    return level if np.isfinite(level) and level > 0 else 1.0
