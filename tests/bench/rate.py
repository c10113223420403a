"""Bits per weight at 99 % and 95 % of the float score, beside the anchors of the papers' methods.

Each point is a whole compression: quantised, written, read back, decoded, rebuilt as ONNX and scored on the test data.
The compressor sees the calibration data only; grid sizes and lambda are swept as the CERWU paper does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cerwu_onnx.config import Settings
from cerwu_onnx.container import reader
from cerwu_onnx.graph import Graph
from cerwu_onnx.pipeline import encode, prepare, quantize_layers, statistics
from cerwu_onnx.runtime import CompressedModel
from cerwu_onnx.types import LayerStats

from .models import BenchModel

ANCHORED = ("mlperf_ic01_resnet8", "mlperf_kws01_dscnn", "cifar10_resnet20")
SWEEPS = {
    "rtn": [Settings(method="rtn", levels=n) for n in (8, 16, 32, 64)],
    "optq": [Settings(method="optq", levels=n) for n in (6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 30, 32, 34, 36, 40, 48)],
    "cerwu": [
        Settings(method="cerwu", levels=n, lambda_=lam)
        for n in (10, 12, 14, 16, 20, 24, 28, 32, 40)
        for lam in (3e-4, 1e-3, 3e-3, 1e-2)
    ],
}


@dataclass(frozen=True)
class Point:
    """One compression: bits per quantised weight (steps and tables included), file size and score."""

    bits_per_weight: float
    file_bytes: int
    score: float


def measure(graph: Graph, stats: dict[str, LayerStats], settings: Settings, score: Callable[[str], float]) -> Point:
    """Compress with given statistics, rebuild, evaluate."""
    coded = encode(graph, quantize_layers(graph, stats, settings), {})
    rebuilt = CompressedModel(reader.parse(coded.content)).to_onnx()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(rebuilt.SerializeToString())
        value = score(str(path))
    weights = sum(layer.weights for layer in coded.layers)
    bits = 8 * sum(layer.coded_bytes for layer in coded.layers)
    return Point(bits / weights, len(coded.content), value)


def pareto(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both rate and score, by rising rate."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.bits_per_weight, -p.score)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def rate_at(points: Iterable[Point], score: float) -> float | None:
    """Bits per weight at ``score``, interpolated on the Pareto front; None when it does not reach so far."""
    front = pareto(points)
    for low, high in pairwise(front):
        if low.score < score <= high.score:
            share = (score - low.score) / (high.score - low.score)
            return low.bits_per_weight + share * (high.bits_per_weight - low.bits_per_weight)
    return None


def run(models: list[BenchModel], console: Console) -> None:
    """Sweep the papers' methods and print bits per weight beside the anchors."""
    table = Table("model", "method", "points", "at", "bits/weight", "anchor", "ratio", title="The papers' methods")
    for model in models:
        score = model.evaluate()
        graph, _, source = prepare(model.onnx, Settings(), model.calib)
        stats, _ = statistics(graph, source, Settings())
        float_score = score(str(model.onnx))
        for method, sweep in SWEEPS.items():
            points = [measure(graph, stats, settings, score) for settings in sweep]
            for settings, point in zip(sweep, points, strict=True):
                console.print(
                    f"{model.name} {method} levels {settings.levels} lambda {settings.lambda_:g}: "
                    f"{point.bits_per_weight:.4f} bits/weight, {point.file_bytes} bytes, score {point.score:.4f}",
                    highlight=False,
                )
            for percent in (99, 95):
                ours = rate_at(points, float_score * percent / 100)
                anchor = model.anchors.get(method, {}).get(f"bpw{percent}")
                ratio = f"{ours / anchor:.3f}" if ours and anchor else "-"
                table.add_row(
                    model.name, method, str(len(points)), f"{percent} %", _number(ours), _number(anchor), ratio
                )
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
