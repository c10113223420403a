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
from cerwu_onnx.calibration.sensitivity import OutputLoss, bounded, noise_sensitivity, noisy
from cerwu_onnx.types import FloatArray

SMALL = 0.01
"""Tensors without gradients of less than this share of all weights are measured together: vectors of normalisations,
position tables. Each would take as long as the largest layer."""


def sensitivities(
    loss: OutputLoss,
    weights: Mapping[str, FloatArray],
    variance: Mapping[str, float],
    curvatures: Mapping[str, Curvature],
    draws: int = 4,
) -> dict[str, float]:
    """Increase of the loss per unit of variance of white noise on each weight tensor.

    By moments where gradients are known, by noise on one layer after another where they are not; small ones count
    alike.

    Args:
        loss: what to measure.
        weights: the float model's weights, in the shape of the ONNX tensors.
        variance: of the noise on each element, by name.
        curvatures: as :func:`~cerwu_onnx.calibration.fisher.row_fishers` gives them.
        draws: of the noise that sets the level.

    Returns:
        Positive numbers by name.
    """
    found = {}
    for name, curvature in curvatures.items():
        apart = float(np.einsum("gmm->g", np.sum(curvature.fishers, axis=0)) @ curvature.inputs)
        found[name] = float(np.sqrt(apart * (curvature.energy or apart))) / 2
    least = SMALL * sum(weight.size for weight in weights.values())
    rest = {name: weight for name, weight in weights.items() if name not in found}
    large = {name: weight for name, weight in rest.items() if weight.size >= least or name not in loss.sees}
    alike = {name: 1 / variance[name] if variance[name] > 0 else 0.0 for name in rest.keys() - large.keys()}
    for expected in (found, alike):
        level = _level(loss, weights, variance, expected, draws)
        expected.update({name: level * value for name, value in expected.items()})
    found |= alike | noise_sensitivity(loss, large, variance)
    return bounded({name: found[name] for name in weights}, weights)


def _level(
    loss: OutputLoss,
    weights: Mapping[str, FloatArray],
    variance: Mapping[str, float],
    found: Mapping[str, float],
    draws: int,
) -> float:
    """The loss that noise on all these layers causes, each an equal share of its variance, over what was expected."""
    expected = sum(found[name] * variance[name] for name in found) / max(len(found), 1)
    if not expected > 0:
        return 1.0
    generator = np.random.default_rng(0)
    losses = []
    for _ in range(draws):
        moved = {}
        for name in found:
            deviation = (variance[name] / len(found)) ** 0.5
            moved[name] = noisy(weights[name], deviation * generator.normal(size=weights[name].shape))
        losses.append(loss(moved))
    level = float(np.mean(losses)) / expected
    return level if np.isfinite(level) and level > 0 else 1.0
