"""One walk over a model's layers: quantise each on the outputs of the quantised layers before it, at one price.

:mod:`compression.walk_quantizer` decides with which sensitivities, and how often.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from cerwu_onnx.calibration import Source, answers_of, walk
from cerwu_onnx.calibration.answers import Batches
from cerwu_onnx.calibration.descent import Descent
from cerwu_onnx.compression import memory_budget
from cerwu_onnx.compression.delta_base import Base, over, parameters_over
from cerwu_onnx.compression.storage_order import pays, storage, stored_order
from cerwu_onnx.compression.target_step import stepped
from cerwu_onnx.compression.walk_result import Checkpoints, WalkedLayer, WalkResult
from cerwu_onnx.config import EFFORTS, Settings
from cerwu_onnx.container.format import item_size
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.jobs.progress import Progress
from cerwu_onnx.jobs.threads import blas_threads
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.quantize import priced
from cerwu_onnx.quantize.blocks import cut
from cerwu_onnx.quantize.bound import WIDEST, gaussian_rate
from cerwu_onnx.quantize.floats import centred, quantize_floats, taken
from cerwu_onnx.types import Float64Array, FloatArray, Layer, LayerStats, PairStats, QuantizedTensor

log = logging.getLogger(__name__)


def quantize_walk(
    graph: Graph,
    source: Source,
    settings: Settings,
    noise: Mapping[str, float],
    fishers: Mapping[str, tuple[Float64Array, ...]],
    progress: Progress,
    checkpoints: Checkpoints,
    base: Base | None,
    *,
    enough: int,
    bounds: bool,
    steps: bool,
    outputs: bool = True,
) -> WalkResult:
    """Walk over the layers once and quantise each, or take it from the checkpoints.

    Args:
        graph: the analysed model.
        source: calibration data.
        settings: with lambda.
        noise: what a unit of each layer's mean squared error costs at the outputs, by weight.
        fishers: ``(G, M, M)`` matrices that say how this cost divides among rows, by weight; none if all count alike.
        progress: called for each layer.
        checkpoints: layers of an earlier run.
        base: that of a delta.
        enough: positions for each column that suffice for statistics.
        bounds: also compute each layer's rate-distortion bound.
        steps: move each layer's target down the slope of the loss at the outputs first.
        outputs: also run both models to their outputs and compute the loss there.

    Raises:
        ModelError: onnxruntime cannot load the model.
        CalibrationError: the data does not fit.
    """
    found = WalkResult(memory_budget.symbols(settings.memory))
    price = settings.price / max(1, sum(layer.layout.size for layer in graph.layers))
    done = 0
    memory, batch, have = memory_budget.activations(settings.memory), settings.batch_size, checkpoints.have
    means = taken if settings.float_params == "auto" else lambda _: 0.0
    descent = _descent(graph, source, settings) if fishers and steps else None
    for step in walk(graph, source, batch_size=batch, memory=memory, folds=2, enough=enough, known=have, taken=means):
        found.samples = step.samples
        if step.outputs:
            try:
                found.loss = output_loss(graph, step.outputs, settings.output_loss)
            except CalibrationError as error:
                log.warning("the loss at the model's outputs is unknown: %s", error)
        for layer in step.layers:
            progress("quantize", done, len(graph.layers), layer.weight)
            done += 1
            cost = priced.Cost(noise[layer.weight], price * layer.price, fishers.get(layer.weight, ()), layer.largest)
            quantized = partial(
                _layer, graph, layer, step.stats, step.samples, cost, settings, base, descent, bounds=bounds
            )
            keep = not layer.sites or any(stats.positions for stats in step.stats.values())
            with blas_threads(layer.layout.cols):
                done_layer = checkpoints.layer(layer, quantized, keep=keep)
            step.commit(done_layer.values)
            if descent is not None:
                descent.commit(done_layer.values)
            found.add(layer.weight, done_layer)
        if done == len(graph.layers) and not outputs:
            break
    progress("quantize", done, done, "")
    return found


def _descent(graph: Graph, source: Source, settings: Settings) -> Descent | None:
    """Gradients at the outputs; None if nothing can be compared there."""
    try:
        return Descent(graph, source, settings.output_loss)
    except CalibrationError as error:
        log.debug("no gradients at the outputs: %s", error)
        return None


def output_loss(graph: Graph, outputs: Mapping[str, tuple[Batches, Batches]], kind: str) -> float:
    """The loss, summed over the outputs that can be compared."""
    answers = answers_of({name: reference for name, (reference, _) in outputs.items()}, graph.model, kind)
    return sum(answer.loss(*outputs[name]) for name, answer in answers.items())


def _layer(
    graph: Graph,
    layer: Layer,
    found: Mapping[str, PairStats],
    samples: int,
    cost: priced.Cost,
    settings: Settings,
    base: Base | None,
    descent: Descent | None,
    *,
    bounds: bool,
) -> WalkedLayer:
    """Quantise a layer and its parameters, with its statistics among those found, from so many samples.

    Where a layer sees several positions of a sample, its columns have no steps of their own: their errors add up over
    positions, which the Hessian does not show.
    """
    stats = found[layer.weight]
    weight, where = graph.array(layer.weight), storage(layer, settings.weight_layout)
    exact = {name: graph.array(name) for name in layer.parameters} if settings.float_params == "auto" else {}

    def moving(new: FloatArray) -> dict[str, FloatArray]:
        moved = centred(layer, exact, weight, stats, new) if exact else {}
        return {name: values for name, values in moved.items() if base is None or name in base}  # others cannot move

    view = descent.at(layer, [layer.weight, *moving(weight)]) if descent is not None and cost.fishers else None
    effort, cost = EFFORTS[settings.effort], replace(cost, noise=cost.noise * stats.left)
    quantized, variance = priced.quantize(
        weight,
        layer.layout,
        stats,
        cost,
        columns=where.columns,
        damping=settings.damping,
        passes=min(settings.passes, effort.passes or settings.passes),
        name=layer.weight,
        dampings=effort.dampings,
        base=None if base is None else over(base.before(layer.weight), layer, settings),
        stepped=where.stepped,
        across=where.across is not None and stats.positions <= samples,
        improved=None if view is None else partial(stepped, view, stats, cost.fishers, moving),
    )
    element = graph.element(layer.weight)
    if not priced.worth(variance, weight.size, cost, 8 * item_size(element)):
        return WalkedLayer(variance=variance)
    tensors = {layer.weight: quantized}
    limit = bound(graph, layer, stats, quantized) if bounds and stats.hessian.shape[-1] <= WIDEST else None
    order = stored_order(layer, settings.weight_layout, quantized)
    if not pays(layer.weight, quantized, settings.coder, order, element, settings.max_decode_cost):
        return WalkedLayer(tensors, variance=variance, bound=limit)
    moved: dict[str, FloatArray] = {}
    if settings.float_params == "auto":
        moved = moving(quantized.values())
        coded = quantize_floats(layer, {layer.weight: weight, **exact, **moved}, stats, quantized, walked=True)
        coded = parameters_over(base, coded, exact | moved)
        tensors |= {
            name: tensor
            for name, tensor in coded.items()
            if pays(
                name,
                tensor,
                settings.coder,
                element=graph.element(name),
                max_decode_cost=settings.max_decode_cost,
            )
        }
    changed = tuple(dict.fromkeys((layer.weight, *moved, *tensors)))
    moved = {name: values for name, values in moved.items() if name not in tensors}
    return WalkedLayer(tensors, changed, moved, variance, limit, cost.noise * variance)


def bound(graph: Graph, layer: Layer, stats: LayerStats, quantized: QuantizedTensor) -> float:
    """Bits per weight that the rate-distortion function of a layer's weights gives at their distortion."""
    matrix: Float64Array = layer.layout.to_matrix(graph.array(layer.weight).astype(np.float64))
    with blas_threads(layer.layout.cols):
        return gaussian_rate(cut(matrix, stats.blocks), stats.hessian, quantized.distortion)
