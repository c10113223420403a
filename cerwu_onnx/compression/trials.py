"""The files that a compression tries: one at a given price, or those of a search for a size or an accuracy."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cerwu_onnx.compression.delta_base import Base
from cerwu_onnx.compression.encode import Coded, encode
from cerwu_onnx.compression.encode_delta import encode_delta
from cerwu_onnx.compression.fidelity import LEAST, MOST, START
from cerwu_onnx.compression.limits import least
from cerwu_onnx.compression.model_quantizer import ModelQuantizer, QuantizedModel
from cerwu_onnx.compression.target_search import BITS_PER_DOUBLING, Search
from cerwu_onnx.config import Settings, Target
from cerwu_onnx.container import reader
from cerwu_onnx.evaluate.confidence import least_share
from cerwu_onnx.evaluate.metrics import Measured, Scorer
from cerwu_onnx.jobs.inputs import own_files
from cerwu_onnx.jobs.progress import duration
from cerwu_onnx.opened import CompressedModel
from cerwu_onnx.report import Point
from cerwu_onnx.runtime import write_onnx

NOTHING = 1e-5
"""Loss at the outputs that nobody will notice, 1e-5 nats or 0.3 % of root mean square: below it, a search for a size
does not try larger files."""


@dataclass(slots=True)
class Trials:
    """One trial of a search: quantise and encode at a price, and score the file where accuracy is the target.

    ``most`` is how many there may be.
    """

    quantizer: ModelQuantizer
    metadata: Mapping[str, Any]
    scorer: Scorer | None
    before: Measured
    confidence: float
    base: Base | None = None
    most: int = 1
    count: int = 0
    started: float = field(default_factory=lambda: time.monotonic())

    def __call__(self, prices: Sequence[float]) -> list[tuple[Point, tuple[QuantizedModel, Coded]]]:
        """Try some lambdas; their models are quantised side by side where that is possible."""
        return [self._tried(*found) for found in zip(prices, self.quantizer.at_each(prices), strict=True)]

    def _tried(self, price: float, done: QuantizedModel) -> tuple[Point, tuple[QuantizedModel, Coded]]:
        coded = self._encode(price, done, self.quantizer.settings, self.base)
        weights = sum(layer.weights for layer in coded.layers)
        bits = 8 * sum(layer.coded_bytes for layer in coded.layers) / max(weights, 1)
        point = Point(price, len(coded.content), bits)
        if self.scorer is not None:
            point = self.scored(self.scorer, point, done, coded)
        self.count += 1
        if self.most > 1:
            each = (time.monotonic() - self.started) / self.count
            left = f"up to {duration(each * (self.most - self.count))} to go"
            self.quantizer.progress("search", self.count, None, left)
        return point, (done, coded)

    def scored(self, scorer: Scorer, point: Point, done: QuantizedModel, coded: Coded) -> Point:
        """Add to a point the score of the model that its file decompresses to, with the graph if it has none."""
        settings = self.quantizer.settings
        if settings.weights_only or self.base is not None:
            coded = self._encode(point.lambda_, done, replace(settings, weights_only=False))
        with self.quantizer.clock("metric"), own_files(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_onnx(CompressedModel(reader.parse(coded.content)), path)
            after = scorer.measure(path)
        if self.before.answers is None or after.answers is None:
            return replace(point, score=after.score)
        share = least_share(self.before.answers, after.answers, self.confidence)
        return replace(point, score=after.score, low=share * self.before.score)

    def _encode(self, price: float, done: QuantizedModel, settings: Settings, base: Base | None = None) -> Coded:
        with self.quantizer.clock("encode"):
            self.quantizer.progress("encode", 0, None, "")
            if base is not None:
                return encode_delta(done.graph, done.quantized, {**self.metadata, "lambda": price}, settings, base)
            return encode(done.graph, done.quantized, {**self.metadata, "lambda": price}, settings)


def is_ample(result: tuple[QuantizedModel, Coded]) -> bool:
    """Whether a model loses so little that no larger file need be tried."""
    loss = result[0].loss
    return loss is not None and loss < NOTHING


def look(
    search: Search[Any],
    target: Target,
    settings: Settings,
    quantizer: ModelQuantizer,
    float_score: float,
    model_bytes: int,
    price: float,
) -> None:
    """Search for the size or accuracy of the target; without one, try only ``price``."""
    weights = sum(layer.layout.size for layer in quantizer.graph.layers)
    if target.size is not None:
        doubling = max(weights * BITS_PER_DOUBLING / 8, 1.0)
        start = settings.price if target.size < model_bytes else NOTHING  # lambda is in units of loss, which is less
        search.to_size(lambda point: point.file_bytes, target.size, start, doubling)
    elif target.bits_per_weight is not None:
        search.to_size(lambda point: point.bits_per_weight, target.bits_per_weight, settings.price, BITS_PER_DOUBLING)
    elif target.max_drop is not None:
        start = START * target.max_drop if quantizer.walks else settings.price
        search.to_accuracy(float_score, least(float_score, target.max_drop), min(max(start, LEAST), MOST))
    else:
        quantizer.settle(price)
        search.at(price)
