"""Rate against accuracy: ``python -m tests.bench rate``.

Each point is a whole compression as a user runs it: calibrated, quantised, written, read back, decoded, rebuilt as ONNX
and scored on the test data by the model's ``eval.py``. The compressor sees the calibration data only. Nothing is kept
from one point to the next. docs/benchmarks/README.md says what the figures mean.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console

import cerwu_onnx
from cerwu_onnx.report import Report

from . import curves, rate_tables
from .models import ROOT, BenchModel
from .rows import Results, Row
from .sweeps import VARIANTS, Variant

FOLDER = ROOT / "docs" / "benchmarks"


def measure(
    model: BenchModel, method: str, changes: dict[str, Any], half: int | None, score: Callable[..., float]
) -> Row:
    """Compress, decode, evaluate."""
    with tempfile.TemporaryDirectory() as folder:
        packed, rebuilt = Path(folder) / "model.cwb", Path(folder) / "model.onnx"
        calib: Any = str(model.calib) if half is None else half_of(model.calib, half)
        report = cerwu_onnx.compress(model.onnx, packed, calib=calib, settings=cerwu_onnx.Settings(**changes))
        cerwu_onnx.decompress(packed, rebuilt)
        value = float(score(str(rebuilt)))
    return Row(
        model=model.name,
        method=method,
        settings=changes,
        bits_per_weight=round(report.bits_per_weight, 6),
        matrix_bits_per_weight=round(matrix_rate(report), 6),
        file_bytes=report.file_bytes,
        score=value,
        weight_bytes=report.weight_bytes,
        other_bytes=report.other_bytes,
        above_bound={name: round(bits, 6) for name, bits in bound_summary(report).items()},
    )


def half_of(calib: Path, seed: int) -> dict[str, Any]:
    """Half of the samples, in their order."""
    with np.load(calib) as arrays:
        count = len(arrays[arrays.files[0]])
        chosen = np.sort(np.random.default_rng(seed).permutation(count)[: (count + 1) // 2])
        return {name: arrays[name][chosen] for name in arrays.files}


def matrix_rate(report: Report) -> float:
    """Bits per weight when every float tensor of two or more dimensions counts, quantised or exact; 0 without any."""
    kept = [tensor for tensor in report.kept if len(tensor.shape) > 1 and "float" in tensor.dtype]
    weights = report.weights + sum(math.prod(tensor.shape) for tensor in kept)
    return 8 * (report.weight_bytes + sum(tensor.nbytes for tensor in kept)) / weights if weights else 0.0


def bound_summary(report: Report) -> dict[str, float]:
    """Mean over weights and extremes over layers of the distance from the bound."""
    known = [
        (layer.above_bound, layer.weights)
        for layer in report.layers
        if layer.above_bound is not None and math.isfinite(layer.above_bound)
    ]
    if not known:
        return {}
    values = [value for value, _ in known]
    mean = sum(value * weights for value, weights in known) / sum(weights for _, weights in known)
    return {"mean": mean, "least": min(values), "most": max(values)}


def sweep(models: Sequence[BenchModel], variants: dict[str, Variant], console: Console) -> Iterator[Results]:
    """Measure every variant on every model, print each point as it comes, yield each curve when it is complete."""
    for model in models:
        score = model.evaluate()
        facts = {
            "float": float(score(str(model.onnx))),
            "chance": model.chance,
            "onnx_bytes": model.onnx.stat().st_size,
        }
        for method, variant in variants.items():
            if variant.models and model.name not in variant.models:
                continue
            rows = []
            for step in variant.sweep:
                with ExitStack() as patches:
                    for target, replacement in variant.without.items():
                        patches.enter_context(patch(target, replacement))
                    row = measure(model, method, variant.changes | step, variant.half, score)
                if not row.weight_bytes:
                    console.print(f"{model.name} {method}: no weight is coded, there is nothing to measure")
                    break
                rows.append(row)
                console.print(describe(row, facts["float"]), highlight=False, soft_wrap=True)
            if rows:
                yield Results(rows, {model.name: facts})


def describe(row: Row, float_score: float) -> str:
    """The line of one point."""
    settings = " ".join(f"{name.rstrip('_')} {value}" for name, value in row.settings.items() if name != "method")
    bound = f", {row.above_bound['mean']:+.3f} above bound" if row.above_bound else ""
    return (
        f"{row.model} {row.method} {settings}: {row.bits_per_weight:.4f} bits/weight{bound}, "
        f"{row.matrix_bits_per_weight:.4f} over all matrices, {row.file_bytes:,} bytes, "
        f"score {row.score:.4f} of {float_score:.4f}"
    )


def run(
    models: Sequence[BenchModel],
    console: Console,
    methods: Iterable[str] = (),
    percents: Sequence[float] = (99, 95),
    *,
    save: bool = False,
    saved: bool = False,
) -> None:
    """Measure and print the tables.

    Args:
        models: what to measure.
        console: where to print.
        methods: names of variants; all when empty.
        percents: shares of the float score at which costs are interpolated.
        save: put the rows into docs/benchmarks/rate.json, in place of older ones of the same curves, and redraw.
        saved: measure nothing, take the rows that are there.
    """
    chosen = {name: variant for name, variant in VARIANTS.items() if not methods or name in set(methods)}
    path = FOLDER / "rate.json"
    names = {model.name for model in models}
    if saved:
        stored = Results.load(path)
        rows = [row for row in stored.rows if row.model in names and row.method in chosen]
        results = Results(rows, {row.model: stored.models[row.model] for row in rows})
    else:
        results = Results([], {})
        for curve in sweep(models, chosen, console):
            results = results.merged(curve)
            if save:
                Results.load(path).merged(curve).save(path)
    if save or saved:
        curves.write(Results.load(path), models, FOLDER)
    rate_tables.show(results, models, percents, console)
