"""``compress``: the stages in order. Each stage is a function of its own, so that sweeps can reuse what they share."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cerwu_onnx import __version__
from cerwu_onnx.allocate import Allocator, blind, bound
from cerwu_onnx.calibration import (
    CalibrationSpec,
    ImageOptions,
    Source,
    collect,
    identity_stats,
    model_inputs,
    open_source,
)
from cerwu_onnx.config import EFFORTS, UNPRICED, Settings, Target
from cerwu_onnx.container import reader
from cerwu_onnx.encode import Coded, encode
from cerwu_onnx.errors import CheckFailed, UsageError
from cerwu_onnx.files import check_target, write_atomic
from cerwu_onnx.fold import check_folding, fold_batch_norm
from cerwu_onnx.graph import Graph, analyse, load_model
from cerwu_onnx.metrics import Scorer, open_scorer
from cerwu_onnx.onnx_io import with_tensors
from cerwu_onnx.quantize.floats import quantize_floats
from cerwu_onnx.quantize.methods import quantize
from cerwu_onnx.report import Report, Scores
from cerwu_onnx.runtime import CompressedModel
from cerwu_onnx.search import BITS_PER_DOUBLING, Point, Search
from cerwu_onnx.types import LayerStats, QuantizedTensor

log = logging.getLogger(__name__)

LOST = 0.5
"""Root-mean-square output error, relative, above which a layer is worth a warning."""

Progress = Callable[[str, int, int | None, str], None]
"""``progress(stage, done, total, item)``; total is None where it is not known."""


def _silent(stage: str, done: int, total: int | None, item: str) -> None:
    """The progress of callers that want none."""


def compress(
    model: str | Path,
    output: str | Path,
    *,
    calib: CalibrationSpec | None = None,
    settings: Settings | None = None,
    target: Target | None = None,
    images: ImageOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compress an ONNX file into a .cwb file.

    A ``target`` of size or accuracy replaces lambda: it is searched for, with statistics collected once. A file above a
    limit of size is not written; one that loses too much is, and ``missed`` of the report says so.

    Args:
        model: path of the ONNX model.
        output: path of the .cwb file.
        calib: calibration data: a .npz, a directory, ``module:function``, ``file.py:function``, a callable, an
            iterable of feed dicts or a dict of arrays. None quantises data-free (identity Hessian), with a warning.
        settings: method and numbers; the defaults of :class:`~cerwu_onnx.config.Settings` when None.
        target: what the file is meant for; nothing but ``settings`` when None.
        images: how a directory of images becomes inputs.
        force: overwrite ``output``.
        progress: called as the stages advance.

    Returns:
        What was done, layer by layer.

    Raises:
        UsageError: a path cannot be read or written, or the method has no lambda to search.
        ModelError: the model is invalid.
        CalibrationError: the calibration data does not fit the model, or the metric fails.
        CheckFailed: the target size cannot be reached, or the file would exceed ``fail_above``.
    """
    settings, target = settings or Settings(), target or Target()
    progress = progress or _silent
    if target.searches and settings.method in UNPRICED:
        raise UsageError(f"method {settings.method} has no lambda to search over: its size follows from --levels alone")
    if target.searches and settings.lambda_ is not None:
        raise UsageError("lambda and a target exclude each other: the search finds lambda")
    check_target(output, overwrite=force, source=model)
    clock = Clock()
    with logged_warnings() as warnings:
        with clock("load"):
            progress("load", 0, None, str(model))
            graph, folded, source = prepare(model, settings, calib, images)
            metadata: dict[str, Any] = {
                "tool": f"cerwu-onnx {__version__}",
                "method": settings.method,
                "lambda": settings.price,
                "calibration": "data" if source else "none",
                "model": hashlib.sha256(Path(model).read_bytes()).hexdigest()[:16],
            }
            if folded:
                metadata["folded"] = len(folded)
            if settings.method != "trellis":
                metadata["levels"] = settings.levels
        scorer, float_score = None, 0.0
        if target.metric is not None:
            with clock("metric"):
                scorer = open_scorer(target, model, images)
                float_score = scorer(model)
        quantizer = Quantizer(graph, source, settings, progress, clock)
        trials = _Trials(quantizer, metadata, scorer if target.max_drop is not None else None)
        search = Search(trials, quantizer.settle if quantizer.settles else None)
        _look(search, target, settings, quantizer, float_score)
        point, (done, coded) = search.best
        _check_size(point, coded, target)
        scores: Scores | None = None
        missed: tuple[str, ...] = ()
        if scorer is not None:
            score = trials.score(scorer, point, done) if point.score is None else point.score
            scores = Scores(scorer.name, float_score, score)
            missed = _missed(scores, target)
        _warn_if_lost(graph, done, settings)
        with clock("encode"):
            write_atomic(output, coded.content, overwrite=force)
    return Report(
        model_bytes=Path(model).stat().st_size,
        file_bytes=len(coded.content),
        method=settings.method,
        lambda_=point.lambda_,
        levels=None if settings.method == "trellis" else settings.levels,
        calibration="data" if done.samples else "none",
        calibration_samples=done.samples,
        output_loss=done.loss,
        folded=folded,
        layers=tuple(
            replace(layer, above_bound=layer.bits_per_weight - done.bounds[layer.name]) for layer in coded.layers
        ),
        parameters=coded.parameters,
        kept=coded.kept,
        other_bytes=coded.other_bytes,
        warnings=tuple(dict.fromkeys(warnings)),
        seconds=clock.seconds,
        search=tuple(search.points) if target.searches else (),
        scores=scores,
        missed=missed,
    )


@dataclass(slots=True)
class _Trials:
    """What a search tries: quantise and encode at a price, and score where accuracy is the target."""

    quantizer: Quantizer
    metadata: Mapping[str, Any]
    scorer: Scorer | None
    count: int = 0

    def __call__(self, price: float) -> tuple[Point, tuple[Quantized, Coded]]:
        """Try a lambda."""
        done = self.quantizer.at(price)
        coded = self._encode(price, done, self.quantizer.settings)
        weights = sum(layer.weights for layer in coded.layers)
        bits = 8 * sum(layer.coded_bytes for layer in coded.layers) / max(weights, 1)
        point = Point(price, len(coded.content), bits)
        if self.scorer is not None:
            point = replace(point, score=self.score(self.scorer, point, done))
        self.count += 1
        self.quantizer.progress("search", self.count, None, f"{price:g}: {point.file_bytes:,} bytes")
        return point, (done, coded)

    def score(self, scorer: Scorer, point: Point, done: Quantized) -> float:
        """Score the model that the file of a point gives back."""
        coded = self._encode(point.lambda_, done, replace(self.quantizer.settings, weights_only=False))
        with self.quantizer.clock("metric"), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(CompressedModel(reader.parse(coded.content)).to_onnx().SerializeToString())
            return scorer(path)

    def _encode(self, price: float, done: Quantized, settings: Settings) -> Coded:
        with self.quantizer.clock("encode"):
            self.quantizer.progress("encode", 0, None, "")
            return encode(done.graph, done.quantized, {**self.metadata, "lambda": price}, settings)


def _look(search: Search[Any], target: Target, settings: Settings, quantizer: Quantizer, float_score: float) -> None:
    """Search for what the target asks; without one, try the lambda of the settings."""
    weights = sum(layer.layout.size for layer in quantizer.graph.layers)
    if target.size is not None:
        doubling = max(weights * BITS_PER_DOUBLING / 8, 1.0)
        search.to_size(lambda point: point.file_bytes, target.size, settings.price, doubling)
    elif target.bits_per_weight is not None:
        search.to_size(lambda point: point.bits_per_weight, target.bits_per_weight, settings.price, BITS_PER_DOUBLING)
    elif target.max_drop is not None:
        search.to_accuracy(float_score - target.max_drop * abs(float_score), settings.price)
    else:
        quantizer.settle(settings.price)
        search.at(settings.price)


def _check_size(point: Point, coded: Coded, target: Target) -> None:
    """Refuse a file that is larger than it may be."""
    size, rest = len(coded.content), sum(coded.other_bytes.values())
    if target.size is not None and size > target.size:
        raise CheckFailed(
            f"no file of at most {target.size:,} bytes: the smallest found has {size:,} (lambda {point.lambda_:g}), "
            f"{rest:,} of which are not weights; nothing was written"
        )
    if target.bits_per_weight is not None and point.bits_per_weight > target.bits_per_weight:
        raise CheckFailed(
            f"no file of at most {target.bits_per_weight:g} bits per weight: the smallest found has "
            f"{point.bits_per_weight:.3f} (lambda {point.lambda_:g}); nothing was written"
        )
    if target.fail_above is not None and size > target.fail_above:
        raise CheckFailed(
            f"the file would have {size:,} bytes, {size - target.fail_above:,} above the limit of "
            f"{target.fail_above:,}; nothing was written"
        )


def _missed(scores: Scores, target: Target) -> tuple[str, ...]:
    """A sentence about each limit of accuracy that is not held."""
    lost = f"{scores.metric} falls from {scores.float_score:.6g} to {scores.score:.6g}, by {100 * scores.drop:.3g} %"
    limits = {
        "no file found holds the largest drop of {:.6g} %; this is the best: ": target.max_drop,
        "the limit is {:.6g} %: ": target.fail_drop,
    }
    return tuple(
        f"{text.format(100 * limit)}{lost}"
        for text, limit in limits.items()
        if limit is not None and not scores.score >= scores.float_score - limit * abs(scores.float_score)
    )


def prepare(
    model: str | Path, settings: Settings, calib: CalibrationSpec | None = None, images: ImageOptions | None = None
) -> tuple[Graph, tuple[str, ...], Source | None]:
    """Load the model, open the calibration data, fold BatchNormalization if asked, and find the layers.

    Returns:
        The graph, the names of the folded BatchNormalization nodes, and the opened data (None without ``calib``).
    """
    loaded = load_model(model)
    source = None if calib is None else open_source(calib, model_inputs(loaded), images=images)
    if not settings.folds_bn:
        return analyse(loaded), (), source
    folded, names = fold_batch_norm(loaded)
    check_folding(loaded, folded, source.first() if source else None)
    return analyse(folded), names, source


def statistics(
    graph: Graph, source: Source | None, settings: Settings, progress: Progress = _silent
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


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantised model.

    Attributes:
        graph: the graph to write: that of the float model but for float parameters that moved.
        quantized: weights and parameters on their grids, by name.
        bounds: bits per weight by the rate-distortion function of each weight, at its distortion.
        samples: calibration samples, 0 without data.
        loss: at the model's outputs on the calibration data; None where the method does not measure it.
    """

    graph: Graph
    quantized: dict[str, QuantizedTensor]
    bounds: dict[str, float]
    samples: int
    loss: float | None = None


class Quantizer:
    """A model by the method of ``settings`` at any price; statistics are collected once.

    Args:
        graph: the analysed model.
        source: calibration data; None quantises data-free.
        settings: everything but lambda.
        progress: called as the stages advance.
        clock: counts seconds by stage.
    """

    def __init__(
        self,
        graph: Graph,
        source: Source | None,
        settings: Settings,
        progress: Progress = _silent,
        clock: Clock | None = None,
    ) -> None:
        self.graph, self.settings, self.progress, self.clock = graph, settings, progress, clock or Clock()
        self._allocator: Allocator | None = None
        if settings.method == "trellis" and source is not None:
            with self.clock("quantize"):
                self._allocator = Allocator(graph, source, settings, progress)
        else:
            with self.clock("calibrate"):
                self._stats, self._samples = statistics(graph, source, settings, progress)

    @property
    def settles(self) -> bool:
        """Whether :meth:`settle` does anything."""
        return self._allocator is not None and EFFORTS[self.settings.effort] > 0

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
                return Quantized(moved, found.quantized, found.bounds, found.samples, found.loss)
            quantized = quantize_layers(graph, self._stats, replace(self.settings, lambda_=price), self.progress)
            bounds = {
                layer.weight: bound(graph, layer, self._stats[layer.weight], quantized[layer.weight])
                for layer in graph.layers
            }
            return Quantized(graph, quantized, bounds, self._samples)


def quantize_model(graph: Graph, source: Source | None, settings: Settings) -> Quantized:
    """Quantise a model by the method of ``settings``, at its price."""
    quantizer = Quantizer(graph, source, settings)
    quantizer.settle(settings.price)
    return quantizer.at(settings.price)


def _warn_if_lost(graph: Graph, done: Quantized, settings: Settings) -> None:
    """Name the layers that lose most of their output."""
    if settings.method == "trellis":
        return
    for layer in graph.layers:
        result = done.quantized[layer.weight]
        if result.distortion > LOST**2 * result.energy:
            log.warning(
                "layer %s loses %.0f %% of its output: weights differ by orders of magnitude, or the rate is too low; "
                "raise --levels or lower --lambda",
                layer.weight,
                100 * (result.distortion / result.energy) ** 0.5,
            )


def quantize_layers(
    graph: Graph, stats: Mapping[str, LayerStats], settings: Settings, progress: Progress = _silent
) -> dict[str, QuantizedTensor]:
    """Quantise every layer by itself, with given statistics: the papers' methods, or any without data.

    Biases and normalisation parameters are among the results where ``settings`` and the error allow it.
    """
    quantized = {}
    for index, layer in enumerate(graph.layers):
        progress("quantize", index, len(graph.layers), layer.weight)
        tensors = {name: graph.array(name) for name in (layer.weight, *layer.parameters)}
        weight = tensors[layer.weight].astype(np.float64)
        if settings.method == "trellis":
            result = blind(layer, graph, stats[layer.weight], settings)
        else:
            result = quantize(weight, layer.layout, stats[layer.weight], settings, layer.weight)
        quantized[layer.weight] = result
        if settings.float_params == "auto":
            quantized |= quantize_floats(layer, tensors, stats[layer.weight], result)
    progress("quantize", len(graph.layers), len(graph.layers), "")
    return quantized


class Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of a ``with`` block to ``stage``."""
        start = time.perf_counter()
        yield
        taken = time.perf_counter() - start
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + taken, 3)


@contextmanager
def logged_warnings() -> Iterator[list[str]]:
    """Collect the warnings that the library logs inside a ``with`` block."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Collector(logging.WARNING)
    logger = logging.getLogger(__package__)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
