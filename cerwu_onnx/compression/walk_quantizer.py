"""The default method with calibration data: quantise all layers in one walk, at one price for a bit of any layer.

1. Gradients tell what each layer's errors cost at the model's outputs (:mod:`calibration.curvature`).
2. Layers are quantised in topological order. The input of each comes from the quantised layers before it
   (:mod:`calibration.sequential`), and its aim is the float model's output (:mod:`quantize.priced`); its bias then
   makes up for the mean error that is left. With ``--effort max``, gradients at the model's outputs move the aim
   (:mod:`compression.target_step`).
3. With ``--effort max``, the costs are measured again around that model, by noise on each layer's weights as large as
   its own error (:mod:`calibration.sensitivity`), because errors measured alone do not add up. Then all layers are
   quantised once more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace

import numpy as np

from cerwu_onnx.calibration import (
    OutputLoss,
    Source,
    noise_sensitivity,
    row_fishers,
    sensitivities,
    walk,
)
from cerwu_onnx.calibration.sensitivity import noisy
from cerwu_onnx.calibration.source import OneReader
from cerwu_onnx.compression import memory_budget
from cerwu_onnx.compression.delta_base import Base
from cerwu_onnx.compression.fidelity import Judgement
from cerwu_onnx.compression.halves import Halves
from cerwu_onnx.compression.layer_walk import output_loss, quantize_walk
from cerwu_onnx.compression.walk_result import Checkpoints, WalkResult
from cerwu_onnx.config import EFFORTS, Settings
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.jobs.cache import NO_CACHE, Cache, Entry
from cerwu_onnx.jobs.progress import Progress, logged_warnings
from cerwu_onnx.jobs.threads import side_by_side, takes_one
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.types import FloatArray, MatrixLayout

log = logging.getLogger(__name__)

NOISE = 0.02
"""Energy of the first noise, as a share of the energy of the weights."""

JUDGED_PASSES = 2
"""The most passes of code lengths before a judgement: one more would not change what is lost."""

JUDGED_POSITIONS = 128
"""The most positions for each column before a judgement. Half as many lost half as much again of an LSTM."""

MENDED = 2.0
"""An error in the first layer counts so many times less than one in the last that costs as much when it is measured.

Sensitivities are measured in the float model. In a walk, layers make up for a part of the errors before them."""

SURPRISE = 20.0
"""A loss of so many times lambda shows that the sensitivities were wrong: high-rate theory expects less than lambda."""

BLIND = 30.0
"""Guess without data, on the safe side: loss at the outputs per relative squared error of a layer."""


class WalkQuantizer:
    """Measures the sensitivities of a model once, then quantises it at any price: one walk over its layers per price.

    Args:
        graph: the analysed model.
        source: calibration data.
        settings: effort, damping, passes, memory ...
        progress: called as the stages advance.
        cache: keeps measurements, and quantised models by price.
        base: that of a delta.

    Raises:
        ModelError: onnxruntime cannot load the model.
        CalibrationError: the data does not fit.
    """

    def __init__(
        self,
        graph: Graph,
        source: Source,
        settings: Settings,
        progress: Progress,
        cache: Cache = NO_CACHE,
        base: Base | None = None,
    ) -> None:
        self._base = base
        self._graph, self._source, self._settings, self._progress = graph, source, settings, progress
        self._cache, self._effort = cache, EFFORTS[settings.effort]
        self._weights = _Weights(graph)
        self._rows = {layer.weight: _by_rows(layer.layout, self._weights[layer.weight]) for layer in graph.layers}
        self._first = {name: NOISE * float(np.square(w, dtype=np.float64).mean()) for name, w in self._weights.items()}
        progress("measure", 0, None, "sensitivities")
        self._loss: OutputLoss | None = None
        self._halves: Halves | None = None  # once a search asks for judgements
        self._whole = memory_budget.fits_whole(graph, settings.memory)
        depends: dict[str, object] = {"loss": settings.output_loss}
        if self._whole:
            depends["effort"] = self._effort.gradients, self._effort.draws
            entry = cache.get("noise", depends, self._measure)
        else:
            depends |= {"batch": settings.batch_size, "memory": settings.memory}
            entry = cache.get("level", depends, self._measure_level)
        (self._measurable, self._sensitivities, rows), parts = entry
        self._fishers = {name: tuple(parts.pop(0) for _ in range(count)) for name, count in rows.items()}
        self._steps = self._effort.steps and not self._effort.rounds  # else once sensitivities are settled
        self._last: tuple[float, WalkResult] | None = None  # what the present sensitivities gave, and at which lambda

    def _measure(self) -> Entry:
        """Measure what errors cost at the float model's outputs.

        Returns:
            Whether it could be measured, the sensitivity of each layer and the number of its Fisher matrices, by
            weight; and those matrices, one layer after the other.
        """
        try:
            loss = self._output_loss()
            curvatures = row_fishers(self._graph, loss, self._effort.gradients)
            alone = sensitivities(loss, self._weights, self._noise(self._first), curvatures, self._effort.draws)
        except CalibrationError as error:
            for _ in self._source.batches(1):  # if the data is at fault, this raises the error again
                pass
            log.warning("what errors cost at the outputs cannot be measured, all layers count the same: %s", error)
            return (False, self._guessed(), {}), []
        rows = {name: len(curvature.fishers) for name, curvature in curvatures.items()}
        return (True, _mended(alone, self._graph, self._weights), rows), [
            part for curvature in curvatures.values() for part in curvature.fishers
        ]

    def _measure_level(self) -> Entry:
        """Like :meth:`_measure`, for a model too large for gradients: all relative errors cost the same.

        A walk with noise on all layers at once measures how much that is.
        """
        generator, loss = np.random.default_rng(0), 0.0
        settings, memory = self._settings, memory_budget.activations(self._settings.memory)
        steps = walk(self._graph, self._source, batch_size=settings.batch_size, memory=memory, known=lambda _: True)
        for step in steps:
            for layer in step.layers:
                weight = self._weights[layer.weight]
                deviation = np.sqrt(self._first[layer.weight] / len(self._first) * self._rows[layer.weight])
                step.commit({layer.weight: noisy(weight, deviation * generator.normal(size=weight.shape))})
            if step.outputs:
                try:
                    loss = output_loss(self._graph, step.outputs, settings.output_loss)
                except CalibrationError as error:
                    log.warning("how much errors cost is a guess: %s", error)
        return (False, self._guessed(loss) if 0 < loss < np.inf else self._guessed(), {}), []

    def _noise(self, variance: Mapping[str, float]) -> dict[str, FloatArray]:
        """Variances of noise on all elements with these means: those of a row follow its own energy."""
        return {name: mean * self._rows[name] for name, mean in variance.items()}

    def _output_loss(self) -> OutputLoss:
        """The loss, made at first use: if the cache has all measurements, it is never needed."""
        if self._loss is None:
            self._loss = OutputLoss(self._graph, self._source, self._settings.output_loss)
        return self._loss

    def judge(self, price: float, second: bool) -> Judgement:
        """Quantise at a price with one half of the samples and judge the result on the other.

        Args:
            price: lambda.
            second: quantise with the second half; otherwise with the first.

        Raises:
            CalibrationError: there is no second half, or no output can be compared.
        """
        settings = replace(self._settings, lambda_=price, passes=min(self._settings.passes, JUDGED_PASSES))
        costs = self._sensitivities, self._fishers

        def quantized(source: Source) -> dict[str, FloatArray]:
            none = Checkpoints(NO_CACHE, None)
            walked = quantize_walk(
                self._graph,
                source,
                settings,
                *costs,
                self._progress,
                none,
                self._base,
                enough=min(self._effort.positions, JUDGED_POSITIONS),
                bounds=False,
                steps=self._effort.steps,
                outputs=False,
            )
            return walked.values

        def judged() -> Entry:
            if self._halves is None:
                self._halves = Halves(self._graph, self._source, self._settings, whole=self._whole)
            return asdict(self._halves.judge(price, quantized, second=second)), []

        depends = {"second": second, "steps": self._effort.steps, **self._state(price)}
        found, _ = self._cache.get("judge", depends, judged)
        return Judgement(**found)

    def settle(self, price: float) -> None:
        """Measure the sensitivities again around the model quantised at ``price``, as often as the effort says.

        Only then do targets take steps: sensitivities need none.
        """
        for _ in range(self._effort.rounds if self._weights and self._measurable else 0):
            noise, _ = self._cache.get("settle", self._state(price), lambda: (self._around(price), []))
            if noise is None:
                break
            self._sensitivities, self._last = noise, None
        if self._steps != self._effort.steps:
            self._steps, self._last = self._effort.steps, None

    def _around(self, price: float) -> dict[str, float] | None:
        """Sensitivities around the model quantised at a price; None if they cannot be measured."""
        last, self._last = self._last, None
        found = last[1] if last and last[0] == price else self.quantize(price, bounds=False)
        self._progress("measure", 0, None, "noise")
        variance = {name: value or self._first[name] for name, value in found.variance.items()}
        try:
            around = noise_sensitivity(self._output_loss(), self._weights, self._noise(variance), found.values)
        except CalibrationError as error:
            log.warning("what errors cost is measured only at the float model: %s", error)
            return None
        around = _levelled(around, self._sensitivities, self._weights)
        return {name: float(np.sqrt(value * self._sensitivities[name])) for name, value in around.items()}

    def _state(self, price: float) -> dict[str, object]:
        """Everything that a quantised model depends on, apart from model and data; JSON-ready."""
        names = ("output_loss", "damping", "passes", "coder", "weight_layout", "float_params", "batch_size", "memory")
        settings = {name: getattr(self._settings, name) for name in (*names, "max_decode_cost")}
        rules = {layer.weight: (layer.price, layer.bits) for layer in self._graph.layers}
        effort = self._effort.positions, self._effort.dampings, self._effort.passes, self._steps
        base = {} if self._base is None else {"base": self._base.identity}
        return base | {"lambda": price, "noise": self._sensitivities, "rules": rules, "effort": effort, **settings}

    def quantize(self, price: float, *, bounds: bool = True) -> WalkResult:
        """Quantise every layer.

        Args:
            price: lambda, loss at the outputs per (bit per weight).
            bounds: also compute each layer's rate-distortion bound.
        """
        known = self._checkpoints(price, bounds).whole(memory_budget.symbols(self._settings.memory))
        self._last = price, known or self._quantize(price, bounds)
        return self._last[1]

    def quantize_each(self, prices: Sequence[float]) -> list[WalkResult]:
        """Quantise every layer at some prices, with the same sensitivities; side by side where memory allows it."""
        source = OneReader(self._source)
        apart = [copy(self) for _ in prices]
        for each in apart:
            each._source = source
        alone = not self._whole or not takes_one(max((layer.layout.cols for layer in self._graph.layers), default=0))
        most = 1 if alone else memory_budget.walks(self._graph, self._settings.memory)
        jobs = list(zip(apart, prices, strict=True))
        found = side_by_side(lambda job: job[0].quantize(job[1]), jobs, most)
        for each in apart:  # what one has learnt of sensitivities holds from now on
            if each._sensitivities is not self._sensitivities:
                self._sensitivities = each._sensitivities
        self._last = apart[-1]._last if apart[-1]._sensitivities is self._sensitivities else None
        return found

    def _quantize(self, price: float, bounds: bool) -> WalkResult:
        """Quantise every layer; again with larger sensitivities if the loss shows that they were too small."""
        found = self._at(price, bounds)
        if price and found.loss is not None and found.loss > max(SURPRISE * price, 1e-6):
            measured = self._sensitivities
            self._sensitivities = {name: max(measured[name], value) for name, value in self._guessed().items()}
            careful = self._at(price, bounds)
            if careful.loss is not None and careful.loss < found.loss / 2:
                log.warning(
                    "errors cost far more at the outputs than noise on the float model showed (loss %.3g, with lambda "
                    "%.3g): every layer counts at least as without data",
                    found.loss,
                    price,
                )
                found = careful
            else:
                self._sensitivities = measured
        return found

    def _at(self, price: float, bounds: bool) -> WalkResult:
        settings, done = replace(self._settings, lambda_=price), self._checkpoints(price, bounds)
        costs = self._sensitivities, self._fishers
        with logged_warnings() as warnings:
            found = quantize_walk(
                self._graph,
                self._source,
                settings,
                *costs,
                self._progress,
                done,
                self._base,
                enough=self._effort.positions,
                bounds=bounds,
                steps=self._steps,
            )
        if done.used:
            log.info("%d of %d layers were quantised by an earlier run", done.used, len(self._graph.layers))
        if not warnings:
            done.finish(found)
        return found

    def _checkpoints(self, price: float, bounds: bool) -> Checkpoints:
        return Checkpoints(self._cache, {"bounds": bounds, **self._state(price)})

    def _guessed(self, level: float = NOISE * BLIND) -> dict[str, float]:
        """Sensitivities with which relative errors of all layers cost the same.

        Args:
            level: loss at a relative energy of the error of :data:`NOISE`; the default is a guess on the safe side.
        """
        return {name: level / (value or 1.0) for name, value in self._first.items()}


class _Weights(Mapping[str, FloatArray]):
    """The weights of a graph's layers as float32, by name; each is read at every access."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._names = graph, [layer.weight for layer in graph.layers]

    def __getitem__(self, name: str) -> FloatArray:
        return self._graph.array(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _by_rows(layout: MatrixLayout, weight: FloatArray) -> FloatArray:
    """The mean square of each row, over that of all rows: an array to which the weight broadcasts.

    A network may scale an output down and the next layer's weights up; noise should not drown such an output.
    """
    squares = np.square(layout.to_matrix(weight), dtype=np.float64).mean(axis=2)
    return layout.of_rows(squares / squares.mean() if squares.any() else np.ones_like(squares))


def _mended(alone: Mapping[str, float], graph: Graph, weights: Mapping[str, FloatArray]) -> dict[str, float]:
    """What errors cost in a walk, from what they cost if no later layer makes up for them (:data:`MENDED`).

    From each layer to the next one that costs the same factor more; the geometric mean over weights stays.
    """
    nodes, last = graph.nodes, max(len(alone) - 1, 1)
    walked = sorted(graph.layers, key=lambda layer: layer.position(nodes))
    found = {layer.weight: alone[layer.weight] * MENDED ** (place / last) for place, layer in enumerate(walked)}
    return _levelled(found, alone, weights)


def _levelled(
    noise: Mapping[str, float], level: Mapping[str, float], weights: Mapping[str, FloatArray]
) -> dict[str, float]:
    """Scale the sensitivities ``noise`` so that their geometric mean over weights is that of ``level``.

    Around a coarsely quantised model every error costs more; without this, a higher price would lead to finer steps.
    """
    logs = [np.log(level[name] / noise[name]) for name in noise]
    factor = float(np.exp(np.average(logs, weights=[weights[name].size for name in noise])))
    return {name: factor * value for name, value in noise.items()}
