"""Quantise a whole model at any price (lambda), with statistics that are collected once."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, count

from cerwu_onnx.calibration import Source, collect, identity_stats
from cerwu_onnx.compression import memory_budget
from cerwu_onnx.compression.delta_base import Base
from cerwu_onnx.compression.fidelity import SURELY, Found, Judgement, search
from cerwu_onnx.compression.layer_job import LayerJob, quantize_layer, work
from cerwu_onnx.compression.spilled_tensors import SpilledTensors
from cerwu_onnx.compression.walk_quantizer import WalkQuantizer
from cerwu_onnx.compression.walk_result import WalkResult
from cerwu_onnx.config import EFFORTS, Settings
from cerwu_onnx.container.format import item_size
from cerwu_onnx.errors import CalibrationError, ModelError
from cerwu_onnx.jobs.cache import NO_CACHE, Cache, Entry
from cerwu_onnx.jobs.parallel import Pool
from cerwu_onnx.jobs.progress import Clock, Progress, duration, silent
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.model.layout import narrowed
from cerwu_onnx.model.tensors import tensor_bytes, type_name, with_tensors
from cerwu_onnx.types import Kept, LayerStats, QuantizedTensor

log = logging.getLogger(__name__)

BYTES_PER_WEIGHT = 60
"""Rough bytes of memory for each weight of a layer while it is quantised."""

MISSED = 2.0
"""A warning says that a fidelity is missed if so many times the loss it allows is expected."""

HERE = Pool(1)
"""Runs one layer after the other in this process."""


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """A quantised model.

    Attributes:
        graph: the graph to write: the float model's, with new values of float parameters that are on no grid; its
            layers are those that are quantised.
        quantized: weights and parameters on their grids, by name.
        bounds: bits per weight that each weight's rate-distortion function gives at its distortion, by name.
        samples: number of calibration samples, 0 without data.
        loss: loss at the model's outputs on the calibration data; None where the method does not measure it.
        losses: loss that the error of each weight alone would cause, by name; empty where it is not measured.
    """

    graph: Graph
    quantized: Mapping[str, QuantizedTensor]
    bounds: dict[str, float]
    samples: int
    loss: float | None = None
    losses: Mapping[str, float] = field(default_factory=dict)


class ModelQuantizer:
    """Quantises a model by the method of ``settings`` at any price; statistics are collected once, here.

    Args:
        graph: the analysed model.
        source: calibration data; None quantises data-free.
        settings: everything but lambda.
        progress: called as the stages advance.
        clock: counts seconds by stage.
        cache: keeps results that take long.
        pool: where layers that do not depend on each other are quantised.
        base: that of a delta, which the model fits.
    """

    def __init__(
        self,
        graph: Graph,
        source: Source | None,
        settings: Settings,
        progress: Progress = silent,
        clock: Clock | None = None,
        cache: Cache = NO_CACHE,
        pool: Pool = HERE,
        base: Base | None = None,
    ) -> None:
        self._cache, self._pool, self._base = cache, pool, base
        self.graph, self.settings, self.progress, self.clock = graph, settings, progress, clock or Clock()
        self._walk: WalkQuantizer | None = None
        self._stats: dict[str, LayerStats] = {}
        self._samples = 0
        if not graph.layers:
            return  # nothing to measure, so the model need not even run
        try:
            self._measure(source)
        except ModelError as error:
            if source is None:
                raise
            log.warning("the calibration data cannot be used: %s", error)
            self._measure(None)

    def _measure(self, source: Source | None) -> None:
        """Collect the statistics that quantising at any price needs."""
        settings, progress = self.settings, self.progress
        if source is None and settings.weight_layout == "onnx":  # small identities do as well as large ones
            layers = (replace(layer, layout=narrowed(layer.layout)) for layer in self.graph.layers)
            self.graph = replace(self.graph, layers=tuple(layers))
        graph = self.graph = memory_budget.with_blocks(self.graph, settings.memory)
        if settings.method == "trellis" and source is not None:
            with self.clock("quantize"):
                self._walk = WalkQuantizer(graph, source, settings, progress, self._cache, self._base)
        else:
            cache = NO_CACHE if source is None else self._cache
            with self.clock("calibrate"):
                depends = {"batch_size": settings.batch_size, "memory": settings.memory}
                (self._samples, positions), arrays = cache.get(
                    "statistics", depends, lambda: _packed(*statistics(graph, source, settings, progress))
                )
            pairs = zip(arrays[::2], arrays[1::2], positions.items(), strict=True)
            self._stats = {name: LayerStats(hessian, mean, count) for hessian, mean, (name, count) in pairs}

    def find_price(self, fidelity: float) -> Found | None:
        """Search for the largest price that keeps this share of the answers.

        None, after a warning, where that cannot be judged: without calibration data, or outputs to compare.
        """
        walk = self._walk
        if walk is None:
            return None
        started, turns = time.monotonic(), count(1)

        def judge(price: float, second: bool) -> Judgement:
            turn, taken = next(turns), time.monotonic() - started
            # The next judgement is the last, or nearly; then all samples quantise, which takes as long as both halves.
            self.progress("search", turn, None, "" if turn == 1 else f"about {duration(2 * taken / (turn - 1))} to go")
            return walk.judge(price, second)

        with self.clock("search"):
            try:
                found = search(judge, 1 - fidelity, surely=SURELY if self._base is None else 0.0)
            except CalibrationError as error:
                log.warning(
                    "nobody knows what the file loses on fresh data (%s): lambda %g is a guess, --lambda sets another",
                    error,
                    self.settings.price,
                )
                return None
        done = next(turns) - 1
        self.progress("search", done, done, "")
        if not found.lost <= MISSED * (1 - fidelity):
            log.warning(
                "no file found keeps a fidelity of %g %%: at lambda %.2g, %.2g %% is lost on held-out samples",
                100 * fidelity,
                found.price,
                100 * found.lost,
            )
        return found

    def judge(self, price: float) -> Found | None:
        """What a model quantised at this price is expected to keep, by one judgement; None if nobody can tell."""
        if self._walk is None:
            return None
        self.progress("measure", 0, None, "what is kept")
        with self.clock("search"):
            try:
                one = self._walk.judge(price, second=False)
            except CalibrationError:
                return None
        return Found(price, one.lost, one)

    @property
    def settles(self) -> bool:
        """Whether :meth:`settle` does anything."""
        return self._walk is not None and EFFORTS[self.settings.effort].rounds > 0

    def settle(self, price: float) -> None:
        """Measure the sensitivities again around the model quantised at this price, for later calls of :meth:`at`."""
        if self._walk is not None:
            with self.clock("quantize"):
                self._walk.settle(price)

    @property
    def walks(self) -> bool:
        """Whether lambda is the price of loss at the outputs on calibration data."""
        return self._walk is not None

    def at(self, price: float) -> QuantizedModel:
        """Quantise at a price (lambda)."""
        return self.at_each([price])[0]

    def at_each(self, prices: Sequence[float]) -> list[QuantizedModel]:
        """Quantise at some prices; where walks are short of neither memory nor workers, side by side."""
        with self.clock("quantize"):
            if self._walk is not None:
                return [self._walked(found) for found in self._walk.quantize_each(prices)]
            return [self._by_layers(price) for price in prices]

    def _walked(self, found: WalkResult) -> QuantizedModel:
        exact = {name: values for name, values in found.values.items() if name not in found.quantized}
        moved = replace(self.graph, model=with_tensors(self.graph.model, exact)) if exact else self.graph
        graph = _without_exact(moved, found.quantized)
        return QuantizedModel(graph, found.quantized, found.bounds, found.samples, found.loss, found.losses)

    def _by_layers(self, price: float) -> QuantizedModel:
        settings = replace(self.settings, lambda_=price)
        quantized, bounds = quantize_layers(self.graph, self._stats, settings, self.progress, self._pool, self._base)
        return QuantizedModel(_without_exact(self.graph, quantized), quantized, bounds, self._samples)


def _without_exact(graph: Graph, quantized: Mapping[str, QuantizedTensor]) -> Graph:
    """Move the layers that are not quantised to the graph's ``kept``."""
    reason = "the format has no grid that is fine enough for this lambda"
    exact = [layer.weight for layer in graph.layers if layer.weight not in quantized]
    kept = tuple(
        Kept(name, tuple(tensor.dims), type_name(tensor.data_type), tensor_bytes(tensor), reason)
        for name, tensor in ((name, graph.tensors[name]) for name in exact)
    )
    layers = tuple(layer for layer in graph.layers if layer.weight in quantized)
    return replace(graph, layers=layers, kept=graph.kept + kept) if exact else graph


def quantize_model(graph: Graph, source: Source | None, settings: Settings) -> QuantizedModel:
    """Quantise a model by the method of ``settings``, at its price."""
    quantizer = ModelQuantizer(graph, source, settings)
    quantizer.settle(settings.price)
    return quantizer.at(settings.price)


def _packed(stats: Mapping[str, LayerStats], samples: int) -> Entry:
    """Statistics in the form that the cache keeps."""
    positions = {name: found.positions for name, found in stats.items()}
    return (samples, positions), [array for found in stats.values() for array in (found.hessian, found.mean)]


def statistics(
    graph: Graph, source: Source | None, settings: Settings, progress: Progress = silent
) -> tuple[dict[str, LayerStats], int]:
    """Input statistics of every layer, and the number of samples they come from (0: identity Hessians)."""
    if source is None:
        return {layer.weight: identity_stats(layer) for layer in graph.layers}, 0
    return collect(
        graph,
        source,
        batch_size=settings.batch_size,
        memory=memory_budget.activations(settings.memory),
        progress=lambda done, total: progress("calibrate", done, total, "samples"),
    )


def quantize_layers(
    graph: Graph,
    stats: Mapping[str, LayerStats],
    settings: Settings,
    progress: Progress = silent,
    pool: Pool = HERE,
    base: Base | None = None,
) -> tuple[SpilledTensors, dict[str, float]]:
    """Quantise every layer by itself, with given statistics: the papers' methods, or the default one without data.

    As many layers run side by side as fit into the memory of the settings (on a cluster, as many as it has workers),
    each on one thread: neither their number nor the number of cores changes a result.

    Returns:
        The tensors on their grids, by name: weights that are not better left exact, and their biases and normalisation
        parameters where ``settings`` and the error allow it. Then the bits per weight that each weight's
        rate-distortion function gives, by name.
    """
    layers = graph.layers
    weights = sum(layer.layout.size for layer in layers)

    def load(index: int) -> LayerJob:
        layer = layers[index]
        own = stats[layer.weight]
        tensors = {name: graph.array(name) for name in (layer.weight, *layer.parameters)}
        bits = 8 * item_size(graph.element(layer.weight))
        before = None if base is None else base.before(layer.weight)
        return LayerJob(layer, tensors, own if own.positions else None, settings, weights, bits, before)

    quantized, bounds = SpilledTensors(memory_budget.symbols(settings.memory)), {}
    most = _at_once([layer.layout.size for layer in layers], memory_budget.side_by_side(settings.memory))
    progress("quantize", 0, len(layers), "")
    sizes = [work(layer, stats[layer.weight]) for layer in layers]
    found = pool.results(quantize_layer, load, sizes, most=most)
    for done, (index, result) in enumerate(found, 1):
        progress("quantize", done, len(layers), layers[index].weight)
        for name, tensor in result.tensors.items():
            quantized.put(name, tensor)
        bounds[layers[index].weight] = result.bound
    quantized.arrange(name for layer in layers for name in (layer.weight, *layer.parameters))
    return quantized, bounds


def _at_once(sizes: Sequence[int], memory: int) -> int:
    """How many of the layers, even the largest, fit into so many bytes at once (at least one).

    Args:
        sizes: weights of each layer.
        memory: bytes.
    """
    needed = accumulate(BYTES_PER_WEIGHT * size for size in sorted(sizes, reverse=True))
    return max(1, sum(total <= memory for total in needed))
