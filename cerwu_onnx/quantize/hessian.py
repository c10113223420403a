"""Damp and factorise the layer Hessian ``H = E[x x^T]``."""

from __future__ import annotations

import logging

import numpy as np
from scipy.linalg import lapack

from cerwu_onnx.types import Float64Array

log = logging.getLogger(__name__)

MAX_ESCALATION = 10_000.0


def damped(hessian: Float64Array, relative: float) -> Float64Array:
    """``H + relative * mean(diag H) * I`` per group; inputs that are always zero get the mean diagonal instead of zero.

    Args:
        hessian: ``(G, N, N)``.
        relative: damping relative to the mean diagonal.
    """
    out: Float64Array = hessian.copy()
    diagonal: Float64Array = np.einsum("gnn->gn", out)
    mean: Float64Array = diagonal.mean(axis=1, keepdims=True)
    mean = np.where(mean > 0, mean, max(float(mean.mean()), np.finfo(np.float64).tiny) if mean.any() else 1.0)
    diagonal[...] = np.where(diagonal > 0, diagonal, mean) + relative * mean
    return out


def inverse_factor(hessian: Float64Array) -> Float64Array:
    """``U`` upper triangular with ``H^-1 = U^T U``, shape ``(G, N, N)``.

    With J the reversal of the axes, ``J H J = L L^T`` gives ``H = R R^T`` for the upper triangular ``R = J L J``, so
    ``U = R^-1``: one Cholesky factorisation and one triangular inverse, and no inverse of H itself.

    Raises:
        numpy.linalg.LinAlgError: H is not positive definite.
    """
    upper = np.linalg.cholesky(hessian[:, ::-1, ::-1])[:, ::-1, ::-1]
    factor: Float64Array = np.stack([lapack.dtrtri(group)[0] for group in upper])
    if not np.isfinite(factor).all():
        raise np.linalg.LinAlgError("singular factor")
    return factor


def factorise(hessian: Float64Array, relative: float, ridge: float, layer: str) -> tuple[Float64Array, float] | None:
    """Damp until ``H' = H + ridge * I`` factorises.

    Args:
        hessian: ``(G, N, N)``, undamped.
        relative: first damping to try; multiplied by ten up to ``10^4`` times its value.
        ridge: constant added to the diagonal (the quadratic part of the rate).
        layer: name for the warnings.

    Returns:
        The inverse factor ``U`` of ``H'`` and the damping; None when every damping failed.
    """
    first = relative
    while relative <= first * MAX_ESCALATION * 1.0001:
        try:
            factor = inverse_factor(damped(hessian, relative) + ridge * np.eye(hessian.shape[1]))
        except np.linalg.LinAlgError:
            log.warning(
                "layer %s: the Hessian does not factorise with damping %g, trying ten times more", layer, relative
            )
            relative *= 10
            continue
        return factor, relative
    log.warning("layer %s: the Hessian never factorised, quantised without feedback between columns", layer)
    return None
