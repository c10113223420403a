"""The methods of the papers, by name: settings of one kernel (table in ``docs/method.md``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cerwu_onnx.config import Settings
from cerwu_onnx.entropy.step import LEAST_STEP
from cerwu_onnx.quantize.blocks import cut, joined
from cerwu_onnx.quantize.hessian import damped, factorise
from cerwu_onnx.quantize.obs import Rate, decide, obs
from cerwu_onnx.quantize.trellis import COUNTED
from cerwu_onnx.types import Float64Array, LayerStats, MatrixLayout, QuantizedTensor

MAX_SYMBOL = 2047
"""Symbols are clipped to this magnitude, so that a table never has more than the format's 4096 entries."""


@dataclass(frozen=True, slots=True)
class Method:
    """The settings of one method.

    Attributes:
        feedback: move later columns against the error of earlier ones (the OBS update).
        rate: price symbols in the decision.
        quadratic: put the quadratic part of the rate into the Hessian (gamma > 0).
        curvature: the error's weight in the decision: "obs" ``1 / U_jj^2``, "mean" their mean, "diagonal" ``H_jj``.
    """

    feedback: bool
    rate: bool
    quadratic: bool = False
    curvature: Literal["obs", "mean", "diagonal"] = "obs"


METHODS = {
    "rtn": Method(feedback=False, rate=False),
    "rd-rtn": Method(feedback=False, rate=True, curvature="diagonal"),
    "optq": Method(feedback=True, rate=False),
    "optq-rd": Method(feedback=True, rate=True, curvature="mean"),
    "cerwu-gamma0": Method(feedback=True, rate=True),
    "cerwu": Method(feedback=True, rate=True, quadratic=True),
}


def absmax_step(matrix: Float64Array, levels: int) -> float:
    """``max |W| / (levels / 2)``, rounded to float32; 1 for a matrix of zeros."""
    largest = float(np.abs(matrix).max())
    return float(np.float32(max(largest / (levels / 2), LEAST_STEP))) if largest > 0 else 1.0


def quantize(
    tensor: Float64Array,
    layout: MatrixLayout,
    stats: LayerStats,
    settings: Settings,
    name: str,
    largest: int = MAX_SYMBOL,
) -> QuantizedTensor:
    """Quantise one weight by the method of ``settings``.

    Args:
        tensor: float64, in the shape of the ONNX tensor.
        layout: how it forms ``(G, M, N)``.
        stats: its input statistics.
        settings: method, lambda, levels, damping, passes.
        name: for warnings.
        largest: magnitude that no symbol may exceed.
    """
    matrix = cut(layout.to_matrix(tensor), stats.blocks)
    step = absmax_step(matrix, min(settings.levels, 2 * largest))
    energy = distortion(matrix, stats.hessian)
    price = settings.price * energy / layout.size
    symbols, damping = _symbols(matrix / step, stats.hessian * step**2, price, settings, name, largest)
    return QuantizedTensor(
        symbols=layout.to_tensor(joined(symbols, stats.blocks)).astype(np.int32),
        step=step,
        distortion=distortion(matrix - step * symbols, stats.hessian),
        energy=energy,
        damping=damping,
    )


def distortion(error: Float64Array, hessian: Float64Array) -> float:
    """``sum_g tr(E H E^T)`` for an error ``(G, M, N)`` and a Hessian ``(G, N, N)``."""
    product = error @ hessian
    product *= error
    return float(product.sum())


def _symbols(
    w: Float64Array, hessian: Float64Array, price: float, settings: Settings, name: str, largest: int
) -> tuple[Float64Array, float]:
    """Symbols ``(G, M, N)`` and the damping used. Everything in steps; ``price`` is the paper's lambda."""
    method = METHODS[settings.method]
    nearest = np.clip(np.rint(w), -largest, largest)
    if not method.feedback and not method.rate:
        return nearest, 0.0
    variance = float((w**2).mean())
    gamma = 1 / (np.log(2) * variance) if method.quadratic and variance > 0 else 0.0
    ridge = price * gamma / 2
    parts = factorise(hessian, settings.damping, ridge, name) if method.feedback else None
    target, damping = w, 0.0
    weight = np.einsum("gnn->gn", damped(hessian, settings.damping))
    if parts is not None:
        factor, damping = parts
        if ridge:  # w' = w H H'^-1 = w - ridge * w H'^-1, and H'^-1 = U^T U
            target = w - ridge * (w @ factor.transpose(0, 2, 1) @ factor)
        if method.curvature != "diagonal":
            weight = 1 / np.einsum("gnn->gn", factor) ** 2
    if method.curvature == "mean":
        weight = np.full_like(weight, weight.mean())
    symbols = nearest
    for _ in range(settings.passes if method.rate else 1):
        rate = Rate(price, code_lengths(symbols), gamma) if method.rate else None
        symbols = decide(target, weight[:, None, :], rate) if parts is None else obs(target, factor, weight, rate)
        symbols = np.clip(symbols, -largest, largest)
    return symbols, damping


def code_lengths(symbols: Float64Array) -> Float64Array:
    """Bits of the symbols ``-R ... R`` under the empirical distribution of ``symbols``, ``R = max |q| + 1``.

    Symbols that do not occur count as half an occurrence, so that they stay possible.
    """
    reach = int(max(symbols.max(), -symbols.min())) + 1
    flat, counts = symbols.reshape(-1), np.zeros(2 * reach + 1, np.intp)
    for start in range(0, flat.size, COUNTED):
        counts += np.bincount(flat[start : start + COUNTED].astype(np.intp) + reach, minlength=2 * reach + 1)
    smoothed = np.maximum(counts, 0.5)
    lengths: Float64Array = np.log2(smoothed.sum()) - np.log2(smoothed)
    return lengths
