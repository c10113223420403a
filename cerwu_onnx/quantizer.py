"""A model by the method of the settings, at any price: what the pipeline's search calls, statistics collected once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from cerwu_onnx.allocate import Allocator, blind, bound
from cerwu_onnx.cache import NO_CACHE, Cache, Entry
from cerwu_onnx.calibration import Source, collect, identity_stats
from cerwu_onnx.config import EFFORTS, Settings
from cerwu_onnx.entropy.step import storable
from cerwu_onnx.errors import ModelError
from cerwu_onnx.graph import Graph
from cerwu_onnx.layout import narrowed
from cerwu_onnx.onnx_io import tensor_bytes, type_name, with_tensors
from cerwu_onnx.progress import Clock, Progress, silent
from cerwu_onnx.quantize.floats import quantize_floats
from cerwu_onnx.quantize.methods import quantize
from cerwu_onnx.shelf import Shelf
from cerwu_onnx.threads import blas_threads
from cerwu_onnx.types import Kept, Layer, LayerStats, QuantizedTensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantised model.

    Attributes:
        graph: the graph to write: that of the float model but for float parameters that moved; its layers are those
            that are quantised.
        quantized: weights and parameters on their grids, by name.
        bounds: bits per weight by the rate-distortion function of each weight, at its distortion.
        samples: calibration samples, 0 without data.
        loss: at the model's outputs on the calibration data; None where the method does not measure it.
        losses: what each weight's error alone would cause of it, likewise.
    """

    graph: Graph
    quantized: Mapping[str, QuantizedTensor]
    bounds: dict[str, float]
    samples: int
    loss: float | None = None
    losses: Mapping[str, float] = field(default_factory=dict)


class Quantizer:
    """A model by the method of ``settings`` at any price; statistics are collected once.

    Args:
        graph: the analysed model.
        source: calibration data; None quantises data-free.
        settings: everything but lambda.
        progress: called as the stages advance.
        clock: counts seconds by stage.
        cache: keeps what takes long.
    """

    def __init__(
        self,
        graph: Graph,
        source: Source | None,
        settings: Settings,
        progress: Progress = silent,
        clock: Clock | None = None,
        cache: Cache = NO_CACHE,
    ) -> None:
        self._cache = cache
        self.graph, self.settings, self.progress, self.clock = graph, settings, progress, clock or Clock()
        self._allocator: Allocator | None = None
        self._stats: dict[str, LayerStats] = {}
        self._samples = 0
        if not graph.layers:
            return  # nothing to measure, so the model need not even run
        try:
            self._measure(source)
        except ModelError as error:
            if source is None:
                raise
            log.warning("the calibration data is of no use: %s", error)
            self._measure(None)

    def _measure(self, source: Source | None) -> None:
        """Collect what quantising at any price needs."""
        settings, progress = self.settings, self.progress
        if source is None and settings.weight_layout == "onnx":  # small identities do as well as large ones
            layers = (replace(layer, layout=narrowed(layer.layout)) for layer in self.graph.layers)
            self.graph = replace(self.graph, layers=tuple(layers))
        graph = self.graph
        if settings.method == "trellis" and source is not None:
            with self.clock("quantize"):
                self._allocator = Allocator(graph, source, settings, progress, self._cache)
        else:
            cache = NO_CACHE if source is None else self._cache
            with self.clock("calibrate"):
                depends = {"batch_size": settings.batch_size, "memory": settings.memory}
                (self._samples, positions), arrays = cache.get(
                    "statistics", depends, lambda: _packed(*statistics(graph, source, settings, progress))
                )
            pairs = zip(arrays[::2], arrays[1::2], positions.items(), strict=True)
            self._stats = {name: LayerStats(hessian, mean, count) for hessian, mean, (name, count) in pairs}

    @property
    def settles(self) -> bool:
        """Whether :meth:`settle` does anything."""
        return self._allocator is not None and EFFORTS[self.settings.effort].rounds > 0

    def settle(self, price: float) -> None:
        """Measure again, around the model at this price, what all later results rest on."""
        if self._allocator is not None:
            with self.clock("quantize"):
                self._allocator.settle(price)

    def at(self, price: float) -> Quantized:
        """Quantise at a price (lambda)."""
        graph = self.graph
        with self.clock("quantize"):
            if self._allocator is not None:
                found = self._allocator.quantize(price)
                exact = {name: values for name, values in found.values.items() if name not in found.quantized}
                moved = replace(graph, model=with_tensors(graph.model, exact)) if exact else graph
                graph = _without_exact(moved, found.quantized)
                return Quantized(graph, found.quantized, found.bounds, found.samples, found.loss, found.losses)
            quantized = quantize_layers(graph, self._stats, replace(self.settings, lambda_=price), self.progress)
            graph = _without_exact(graph, quantized)
            bounds = {
                layer.weight: bound(graph, layer, self._stats[layer.weight], quantized[layer.weight])
                for layer in graph.layers
            }
            return Quantized(graph, quantized, bounds, self._samples)


def _without_exact(graph: Graph, quantized: Mapping[str, QuantizedTensor]) -> Graph:
    """The graph with the layers that are not quantised among what is kept."""
    reason = "no grid of the format is fine enough for this lambda"
    exact = [layer.weight for layer in graph.layers if layer.weight not in quantized]
    kept = tuple(
        Kept(name, tuple(tensor.dims), type_name(tensor.data_type), tensor_bytes(tensor), reason)
        for name, tensor in ((name, graph.tensors[name]) for name in exact)
    )
    layers = tuple(layer for layer in graph.layers if layer.weight in quantized)
    return replace(graph, layers=layers, kept=graph.kept + kept) if exact else graph


def quantize_model(graph: Graph, source: Source | None, settings: Settings) -> Quantized:
    """Quantise a model by the method of ``settings``, at its price."""
    quantizer = Quantizer(graph, source, settings)
    quantizer.settle(settings.price)
    return quantizer.at(settings.price)


def _packed(stats: Mapping[str, LayerStats], samples: int) -> Entry:
    """Statistics as a cache keeps them."""
    positions = {name: found.positions for name, found in stats.items()}
    return (samples, positions), [array for found in stats.values() for array in (found.hessian, found.mean)]


def statistics(
    graph: Graph, source: Source | None, settings: Settings, progress: Progress = silent
) -> tuple[dict[str, LayerStats], int]:
    """Input statistics of every layer, and the number of samples they come from (0: identity Hessians)."""
    if source is None:
        log.warning(
            "no calibration data: every input counts the same (identity Hessian), which costs accuracy; "
            "give --calib for results worth shipping"
        )
        return {layer.weight: identity_stats(layer) for layer in graph.layers}, 0
    return collect(
        graph,
        source,
        batch_size=settings.batch_size,
        memory=settings.memory,
        progress=lambda done, total: progress("calibrate", done, total, "samples"),
    )


def quantize_layers(
    graph: Graph, stats: Mapping[str, LayerStats], settings: Settings, progress: Progress = silent
) -> Shelf:
    """Quantise every layer by itself, with given statistics: the papers' methods, or any without data.

    Biases and normalisation parameters are among the results where ``settings`` and the error allow it; a weight
    that is better left exact is not.
    """
    quantized = Shelf(settings.memory // 4)
    for index, layer in enumerate(graph.layers):
        progress("quantize", index, len(graph.layers), layer.weight)
        tensors = {name: graph.array(name) for name in (layer.weight, *layer.parameters)}
        with blas_threads(layer.layout.cols):
            result = _alone(layer, graph, stats[layer.weight], settings)
        if result is None:
            continue
        quantized.put(layer.weight, result)
        if settings.float_params == "auto":
            for name, tensor in quantize_floats(layer, tensors, stats[layer.weight], result).items():
                quantized.put(name, tensor)
    progress("quantize", len(graph.layers), len(graph.layers), "")
    return quantized


def _alone(layer: Layer, graph: Graph, stats: LayerStats, settings: Settings) -> QuantizedTensor | None:
    """One layer's weight with given statistics; None if it is better left exact."""
    if settings.method == "trellis":
        return blind(layer, graph, stats, settings)
    own = replace(settings, lambda_=settings.price * layer.price)
    weight = graph.array(layer.weight).astype(np.float64)
    result = quantize(weight, layer.layout, stats, own, layer.weight, layer.largest)
    if storable(result.step):
        return result
    log.warning("layer %s: weights of this size need a step beyond the format's; they stay exact", layer.weight)
    return None
