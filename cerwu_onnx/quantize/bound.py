"""The lower bound on a layer's rate at a given distortion: the Gaussian rate-distortion function of its weights.

For independent Gaussian components of variances ``v`` and squared error, reverse water-filling gives (Cover & Thomas,
Elements of Information Theory, theorem 10.3.3; for linear layers Gao et al., arXiv 1810.06401)

    D = sum min(mu, v)        R(D) = sum max(0, 1/2 log2(v / mu))

The error ``tr(E H E^T)`` is a plain square in the eigenbasis of ``H = V diag(lambda) V^T``: component (i, k), row i
along eigenvector k, has variance ``lambda_k sigma_i^2``, where ``sigma_i^2`` is the second moment of row i about zero.

A decoder could be told one number per row at nearly no cost. Second moments along the eigenvectors
describe the weights better and give a lower curve. But there are as many of them as columns of all groups, estimated
from M rows: in a depthwise layer one for each weight, which would bound nothing that has to be transmitted.
This bound is no law for real weights, either. A Gaussian is the hardest source with its moments, and rows whose energy
avoids the strong eigenvectors lie below it: a coder may beat the bound, above all below one bit per weight.
"""

from __future__ import annotations

import math

import numpy as np

from cerwu_onnx.types import Float64Array

WIDEST = 2048
"""The default method computes no bound for layers of more columns: eigenvalues take longer than quantising them."""


def gaussian_rate(matrix: Float64Array, hessian: Float64Array, distortion: float) -> float:
    """``R(D)`` of a layer in bits per weight, one water level for all its groups.

    Args:
        matrix: ``(G, M, N)`` weights; only the rows' second moments matter.
        hessian: ``(G, N, N)``, symmetric, undamped; eigenvalues below zero count as zero.
        distortion: ``sum_g tr(E H E^T)`` of the error E, in the squared units of the layer's output.

    Returns:
        0 if the distortion is at least the source's whole energy ``sum lambda_k sigma_i^2``; infinity for a distortion
        of 0

    Raises:
        ValueError: the distortion is negative or NaN.
    """
    if not distortion >= 0:
        raise ValueError(f"distortion {distortion} is out of range: give a number >= 0")
    spectrum = np.maximum(np.linalg.eigvalsh(hessian), 0.0)
    moments = np.square(matrix).mean(axis=2)
    variances = np.sort((moments[:, :, None] * spectrum[:, None, :]).ravel())
    sums = np.cumsum(variances)
    if not variances.size or distortion >= sums[-1]:
        return 0.0
    if distortion == 0:
        return math.inf
    above = np.arange(variances.size - 1, -1, -1)  # for each component, how many are larger
    first = int(np.searchsorted(sums + above * variances, distortion))  # D(mu) at mu = v rises; all before are below mu
    drowned = float(sums[first - 1]) if first else 0.0
    level = (distortion - drowned) / (variances.size - first)
    return float(np.log2(variances[first:] / level).sum()) / 2 / variances.size
