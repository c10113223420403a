"""How sure a loss of accuracy is that was measured on few samples: a bound on the share of the score that is lost.

Both models see the same samples, so what counts is where they differ: with f and q the shares of right answers per
sample before and after, the ratio of their means is bounded from below by Fieller's method ("The distribution of the
index in a normal bivariate population", 1932), which inverts a paired normal test of ``mean(q) - r mean(f) = 0``. As in
McNemar's test samples on which both are right or both are wrong hardly matter. Where few or no samples differ their
variance tells nothing; it is therefore taken as if there were four half samples more, one for each combination of right
and wrong (cf. Agresti & Min, "Simple improved confidence intervals for comparing matched proportions", 2005).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from cerwu_onnx.types import Float64Array

_CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)


def least_share(before: Float64Array, after: Float64Array, confidence: float) -> float:
    """A bound from below on the score after, as a share of that before, that holds with some confidence.

    Args:
        before: ``(n,)`` share of right answers of each sample, of the float model.
        after: ``(n,)`` the same of the other one.
        confidence: one-sided; 0.5 gives the share as it was measured.

    Returns:
        Minus infinity if not even the score before is surely above zero.
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
