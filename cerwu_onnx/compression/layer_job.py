"""The job of quantising one layer by itself: it holds only arrays, so any thread, process or machine can run it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from cerwu_onnx.calibration import identity_stats
from cerwu_onnx.compression.delta_base import Before, over
from cerwu_onnx.compression.storage_order import storage
from cerwu_onnx.compression.walk_quantizer import BLIND
from cerwu_onnx.config import Settings
from cerwu_onnx.entropy.step import storable
from cerwu_onnx.model.roles import LARGE_OPERAND
from cerwu_onnx.quantize import methods, priced
from cerwu_onnx.quantize.blocks import cut
from cerwu_onnx.quantize.bound import gaussian_rate
from cerwu_onnx.quantize.floats import quantize_floats
from cerwu_onnx.types import FloatArray, Layer, LayerStats, PairStats, QuantizedTensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LayerJob:
    """Everything that quantising one layer needs.

    Attributes:
        layer: the layer.
        tensors: float32 values of its weight and parameters, by name.
        stats: its input statistics; None without data.
        settings: method, lambda and the rest.
        weights: number of weights of all layers together; lambda is divided by it.
        bits: bits of one element of the weight if it stays exact.
        before: its tensor in the base of a delta; None without one.
    """

    layer: Layer
    tensors: Mapping[str, FloatArray]
    stats: LayerStats | None
    settings: Settings
    weights: int
    bits: int
    before: Before | None = None


@dataclass(frozen=True, slots=True)
class LayerResult:
    """A quantised layer.

    Attributes:
        tensors: weight and parameters on their grids, by name; tensors that are better left exact are missing.
        bound: bits per weight that the weight's rate-distortion function gives at its distortion.
    """

    tensors: dict[str, QuantizedTensor] = field(default_factory=dict)
    bound: float = 0.0


def quantize_layer(job: LayerJob) -> LayerResult:
    """Quantise a layer by the method of the settings: a method of the papers, or the default method without data.

    Small operands of additions and normalisations stay exact: nobody knows how large they are beside what they join.
    """
    layer, settings = job.layer, job.settings
    if not layer.sites and layer.layout.size < LARGE_OPERAND:
        return LayerResult()
    stats = identity_stats(layer) if job.stats is None else job.stats
    result = _without_data(job, stats) if settings.method == "trellis" else _by_paper(job, stats)
    if result is None:
        return LayerResult()
    found = {layer.weight: result}
    if settings.float_params == "auto":
        found |= quantize_floats(layer, job.tensors, stats, result)
    matrix = layer.layout.to_matrix(job.tensors[layer.weight].astype(np.float64))
    return LayerResult(found, gaussian_rate(cut(matrix, stats.blocks), stats.hessian, result.distortion))


def work(layer: Layer, stats: LayerStats) -> float:
    """Estimate the work for a layer: the multiplications of its column updates and of factorising its Hessians."""
    matrices, columns, _ = stats.hessian.shape
    return float(matrices * columns**2 * (layer.layout.rows + columns))


def _by_paper(job: LayerJob, stats: LayerStats) -> QuantizedTensor | None:
    """Quantise the weight by a method of the papers; None if it is better left exact."""
    layer, settings = job.layer, job.settings
    own = replace(settings, lambda_=settings.price * layer.price)
    weight = job.tensors[layer.weight].astype(np.float64)
    result = methods.quantize(weight, layer.layout, stats, own, layer.weight, layer.largest)
    if storable(result.step):
        return result
    log.warning(
        "layer %s: weights of this size need a larger or smaller step than the format allows; they stay exact",
        layer.weight,
    )
    return None


def _without_data(job: LayerJob, stats: LayerStats) -> QuantizedTensor | None:
    """Quantise the weight by the default method without data: relative errors of all layers cost the same, and much.

    None if its error would cost more than the bits that it saves (:func:`priced.worth`).
    """
    layer, settings, weight = job.layer, job.settings, job.tensors[job.layer.weight]
    square = float(np.square(weight, dtype=np.float64).mean())
    price = layer.price * settings.price / job.weights
    cost = priced.Cost(BLIND / max(square, 1e-300), price, largest=layer.largest)
    where = storage(layer, settings.weight_layout)
    quantized, variance = priced.quantize(
        weight,
        layer.layout,
        PairStats(stats.hessian, stats.mean, 0, stats.hessian, stats.mean),
        cost,
        columns=where.columns,
        damping=settings.damping,
        passes=settings.passes,
        name=layer.weight,
        base=over(job.before, layer, settings),
        stepped=where.stepped,
    )
    return quantized if priced.worth(variance, weight.size, cost, job.bits) else None
