"""A lower confidence bound on the share of its score that a model keeps, measured on few samples.

Both models see the same samples, so only their differences count. With f and q the shares of right answers per sample
before and after, Fieller's method ("The distribution of the index in a normal bivariate population", 1932) gives a
lower bound on the ratio of their means: it inverts a paired normal test of ``mean(q) - r mean(f) = 0``. As in McNemar's
test, samples on which both models are right or both are wrong hardly matter. If few or no samples differ, their
variance says nothing. So four half samples are added to it, one for each combination of right and wrong (cf. Agresti &
Min, "Simple improved confidence intervals for comparing matched proportions", 2005).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from cerwu_onnx.types import Float64Array

_CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)


def least_share(before: Float64Array, after: Float64Array, confidence: float) -> float:
    """A lower bound on the score after, as a share of the score before, that holds with a given confidence.

    Args:
        before: ``(n,)`` share of right answers of each sample, by the float model.
        after: ``(n,)`` the same shares, by the compressed model.
        confidence: one-sided; 0.5 gives the measured share.

    Returns:
        The bound; minus infinity if the confidence does not even allow that the score before is above zero.
    """
    f, q = float(before.mean()), float(after.mean())
    pairs = np.concatenate([np.stack([before, after], 1), _CORNERS])
    weights = np.concatenate([np.ones(len(before)), np.full(4, 0.5)])
    covariance = np.cov(pairs, rowvar=False, aweights=weights, ddof=0) / weights.sum()
    z2 = NormalDist().inv_cdf(confidence) ** 2
    (vf, c), (_, vq) = z2 * covariance
    # (q - r f)^2 = z^2 (vq - 2 r c + r^2 vf): the smaller root.
    a, b = f * f - vf, q * f - c
    if a <= 0:
        return -math.inf
    root = max(f * f * vq + q * q * vf - 2 * q * f * c + c * c - vf * vq, 0.0) ** 0.5  # exactly zero without margin
    return float((b - root) / a)
