"""Quantise biases and BatchNormalization parameters to grids as coarse as the error of their layer's weights allows.

Quantising a layer's weights has already put an error into its outputs. A parameter that acts on the same outputs gets
the step with which it adds a small share, eta, of that error: ``docs/method.md``, "Float parameters".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cerwu_onnx.entropy.exponents import LEAST_STEP, MOST, encode
from cerwu_onnx.entropy.step import below
from cerwu_onnx.quantize.blocks import cut, summed
from cerwu_onnx.quantize.methods import MAX_SYMBOL
from cerwu_onnx.types import Float64Array, FloatArray, Layer, LayerStats, Norm, PairStats, QuantizedTensor

ETA = 0.002
"""Mean squared error that one parameter may add to a layer's outputs, relative to the error of the weights."""

WALKED_ETA = 0.05
"""The same for a bias in a walk, where later layers see its error and make up for it."""

TAKEN = 0.8
"""Share of the mean's square that Hessians need not count where a parameter takes up the mean error of the outputs.

With all of it, layers of few samples get worse: the mean of other samples is another one."""

MAX_VARIANCE_CHANGE = 0.1
"""The largest relative change of ``variance + epsilon`` in any channel."""


def quantize_floats(
    layer: Layer,
    tensors: Mapping[str, FloatArray],
    stats: LayerStats,
    quantized: QuantizedTensor,
    *,
    walked: bool = False,
) -> dict[str, QuantizedTensor]:
    """Quantise the float parameters of a layer; those missing in the result stay exact.

    Args:
        layer: the weight and what goes with it.
        tensors: the original float32 values of the weight and of ``layer.parameters``.
        stats: input statistics; without data (no positions) the size of outputs is unknown, and all parameters stay
            exact.
        quantized: what became of the weight.
        walked: later layers are quantised on the outputs of this one.
    """
    if not stats.positions or not quantized.distortion > 0:
        return {}
    found: dict[str, QuantizedTensor | None] = {}
    if layer.bias is not None:
        rows = layer.layout.groups * layer.layout.rows
        room = (WALKED_ETA if walked else ETA) * quantized.distortion / rows / layer.bias.factor**2
        bias = tensors[layer.bias.name]
        if quantized.exponents is None or bias.size != rows:
            found[layer.bias.name] = on_grid(bias, room)
        else:
            found[layer.bias.name] = _beside_rows(bias, room * _shares(layer, stats, quantized).reshape(bias.shape))
    if layer.norm is not None:
        found |= _norm(layer, layer.norm, tensors, stats, quantized)
    return {name: result for name, result in found.items() if result is not None}


def taken(layer: Layer) -> float:
    """:data:`TAKEN` for layers with a parameter that :func:`centred` can move, else 0."""
    recurrent = layer.bias is not None and layer.op in ("LSTM", "GRU", "RNN")  # its bias is two vectors
    return TAKEN if (layer.bias or layer.norm) and not recurrent else 0.0


def centred(
    layer: Layer, tensors: Mapping[str, FloatArray], weight: FloatArray, stats: PairStats, new: FloatArray
) -> dict[str, FloatArray]:
    """Move a parameter so that it makes up for the mean error of a layer's outputs, ``E[W x] - E[Q x~]``.

    This is the bias, which also makes up for what the residual misses on average, or the mean of the normalisation; no
    parameter if the layer has neither, or saw no data.

    Args:
        layer: the weight and what goes with it.
        tensors: the original values of ``layer.parameters``.
        weight: the original weight.
        stats: means of its inputs in both models.
        new: what became of the weight.

    Returns:
        New float32 values by name.
    """
    if not stats.positions:
        return {}
    to_matrix = layer.layout.to_matrix
    missing = np.einsum("gmn,gn->gm", to_matrix(weight.astype(np.float64)), stats.float_mean)
    missing -= np.einsum("gmn,gn->gm", to_matrix(new.astype(np.float64)), stats.mean)
    if stats.missing_mean is not None:
        missing += stats.missing_mean
    if layer.bias is not None:
        name, change = layer.bias.name, missing.ravel() / layer.bias.factor
    elif layer.norm is not None:
        name, change = layer.norm.mean, -missing.ravel()
    else:
        return {}
    old = tensors[name].astype(np.float64)
    if old.size != change.size:
        return {}
    moved = (old.ravel() + change).reshape(old.shape).astype(np.float32)
    return {name: moved} if np.isfinite(moved).all() else {}


def on_grid(values: FloatArray, variance: float, coarsest: float = np.inf) -> QuantizedTensor | None:
    """Round to the grid on which a uniform error has a variance: ``step = sqrt(12 variance)``.

    Args:
        values: float32, finite or not.
        variance: bound on the mean squared error; the step has a mantissa of three bits, and shrinks a little if few
            values happen to exceed the bound.
        coarsest: bound on the step.

    Returns:
        The tensor; None if no such grid fits the format's range of symbols.
    """
    exact = values.astype(np.float64)
    if not np.isfinite(exact).all() or not 0 < variance < np.inf:
        return None
    step = below(min(np.sqrt(12 * variance), coarsest)) if exact.any() else 1.0
    while 0 < step < np.inf:
        symbols = np.rint(exact / step)
        if np.abs(symbols).max(initial=0) > MAX_SYMBOL:
            return None
        result = QuantizedTensor(symbols.astype(np.int32), step, 0.0, float((exact**2).sum()), 0.0)
        error = float(((result.values() - exact) ** 2).sum())
        if error <= variance * exact.size:
            return replace(result, distortion=error)
        step = below(0.99 * step)
    return None


def _shares(layer: Layer, stats: LayerStats, quantized: QuantizedTensor) -> Float64Array:
    """``(G, M)`` what the step of each row makes of the error of the layer's outputs, 1 on average."""
    layout = layer.layout
    steps = quantized.row_steps(layout)
    traces = summed(np.einsum("gnn->g", stats.hessian), stats.blocks)
    shares: Float64Array = steps**2 * np.where(traces > 0, traces, traces.max() or 1.0)[:, None]
    return np.asarray(shares / shares.mean())


def _beside_rows(values: FloatArray, variance: Float64Array) -> QuantizedTensor | None:
    """Quantise values that may each have an error of its own: to one grid, or to one each if that takes fewer bits.

    Args:
        values: float32, finite or not.
        variance: bounds on their squared errors, in the same shape.

    Returns:
        As :func:`on_grid`; with exponents, each value is a run of its own, whose index is half the symbol.
    """
    one = on_grid(values, 1 / float((1 / variance).mean()))
    exponents = np.rint(np.log2(variance.max() / variance) / 2).astype(np.int64)
    if exponents.max() > MOST or (values.ndim > 1 and values.shape[-1] > 1):  # no form has runs of one element
        return one
    scaled = on_grid((values * np.exp2(exponents)).astype(np.float32), float((variance * 4.0**exponents).mean()))
    if scaled is None or np.abs(scaled.symbols).max() > MAX_SYMBOL // 2 or scaled.step < 2 * LEAST_STEP:
        return one
    if one is not None:
        bits = [float(np.log2(1 + 2 * np.abs(found.symbols)).sum()) for found in (one, scaled)]
        if bits[0] <= bits[1] + 8 * len(encode(exponents.ravel())):
            return one
    found = replace(scaled, symbols=2 * scaled.symbols, step=scaled.step / 2, run=1, exponents=exponents)
    return replace(found, distortion=float(np.square(found.values() - values.astype(np.float64)).sum()))


def _norm(
    layer: Layer, norm: Norm, tensors: Mapping[str, FloatArray], stats: LayerStats, quantized: QuantizedTensor
) -> dict[str, QuantizedTensor | None]:
    """The four parameters of BatchNormalization ``y = s (u - m) / sqrt(v + eps) + t``.

    To first order, an error of a parameter changes y by the error times 1 for t, ``g = s / d`` for m, ``z = (u - m) /
    d`` for s and ``g z / (2 d)`` for v, where ``d^2 = v + eps``.
    """
    s, m, v = (tensors[name].astype(np.float64) for name in (norm.scale, norm.mean, norm.variance))
    d2 = v + norm.epsilon
    if not (d2 > 0).all():
        return {}
    first, second, error = _moments(layer, tensors, stats, quantized)
    gain2 = s**2 / d2
    # A channel that is constant in calibration counts with the variance that training saw.
    z2 = np.maximum((second - 2 * m * first + m**2) / d2, 1.0)
    room = ETA * float((gain2 * error).mean())
    found = {
        norm.scale: on_grid(tensors[norm.scale], room / float(z2.mean())),
        norm.shift: on_grid(tensors[norm.shift], room),
    }
    if gain2.any():
        found[norm.mean] = on_grid(tensors[norm.mean], room / float(gain2.mean()))
        coarsest = 2 * MAX_VARIANCE_CHANGE * float(d2.min())
        found[norm.variance] = on_grid(tensors[norm.variance], room / float((gain2 * z2 / d2).mean() / 4), coarsest)
    return found


def _moments(
    layer: Layer, tensors: Mapping[str, FloatArray], stats: LayerStats, quantized: QuantizedTensor
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Mean and mean square of each output (bias included), and mean squared error from quantising the weights.

    The share of the mean error that :func:`taken` leaves out of the Hessian is left out of that error.
    """
    weight = tensors[layer.weight].astype(np.float64)
    matrix = layer.layout.to_matrix(weight)
    error = matrix - layer.layout.to_matrix(quantized.values())
    product = np.einsum("gmn,gn->gm", matrix, stats.mean).ravel()
    square = _squares(matrix, stats) + stats.taken * product**2
    bias = 0.0 if layer.bias is None else tensors[layer.bias.name].astype(np.float64).ravel() * layer.bias.factor
    return product + bias, square + 2 * bias * product + bias**2, _squares(error, stats)


def _squares(matrix: Float64Array, stats: LayerStats) -> Float64Array:
    """Mean square of each output of a matrix ``(G, M, N)``."""
    parts = cut(matrix, stats.blocks)
    squares: Float64Array = summed(((parts @ stats.hessian) * parts).sum(-1), stats.blocks)
    return squares.ravel()
