"""Searches for a size and for an accuracy, beside what was asked for: ``python -m tests.bench targets``.

Three sizes of each model. And ``--max-drop 1%`` by the score of its ``eval.py`` on the first half of the test data: the
file beside the one of the same score that a sweep of lambda finds on all test data (docs/benchmarks/rate.json), the
score that it keeps on the other half, and the processor time beside that of a default run, both on one thread.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

import cerwu_onnx
from cerwu_onnx.config import Target
from cerwu_onnx.errors import CheckFailed
from cerwu_onnx.jobs.threads import one_thread

from .models import BenchModel
from .rate import FOLDER
from .rows import Results
from .sweeps import FULL

TIMES = (9, 13, 20)
"""How many times smaller than the ONNX file."""

DROP = 0.01


def run(models: Sequence[BenchModel], console: Console) -> None:
    """Print a line for each search."""
    swept = Results.load(FOLDER / "rate.json")
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            for times in TIMES:
                console.print(f"{model.name}, {size(model, Path(folder), times)}", highlight=False, soft_wrap=True)
            console.print(f"{model.name}, {drop(model, Path(folder), swept)}", highlight=False, soft_wrap=True)


def size(model: BenchModel, folder: Path, times: int) -> str:
    """Search for a share of the ONNX file's size."""
    asked = model.onnx.stat().st_size // times
    try:
        report = _compress(model, folder, Target(size=asked))
    except CheckFailed as error:
        return f"{asked:,} bytes: {error}"
    below = 100 * (1 - report.file_bytes / asked)
    return f"{asked:,} bytes: {report.file_bytes:,}, {below:.2f} % below, {len(report.search)} files tried"


def drop(model: BenchModel, folder: Path, swept: Results) -> str:
    """Search for the smallest file that loses no more than 1 % of the score on half of the test data."""
    score, about = model.evaluate(), json.loads((model.folder / "meta.json").read_text())
    samples = about["eval_samples" if model.shared else "test_samples"]
    half = samples // 2
    target = Target(max_drop=DROP, metric=lambda path: score(str(path), limit=half))
    with one_thread():
        usual, _ = _seconds(lambda: _compress(model, folder, None))
        taken, report = _seconds(lambda: _compress(model, folder, target))
    packed, rebuilt = folder / "o.cwb", folder / "o.onnx"
    cerwu_onnx.decompress(packed, rebuilt, force=True)
    kept = _rest(score, rebuilt, half, samples) / _rest(score, model.onnx, half, samples)
    reference = swept.cost_at(model.name, FULL, "file_bytes", 100 * (1 - DROP))
    times = "no sweep" if reference is None else f"{report.file_bytes / reference.value:.3f} x the sweep"
    return (
        f"largest drop {100 * DROP:g} %: {report.file_bytes:,} bytes, {times}, {len(report.search)} files tried, "
        f"{taken / usual:.2f} x the time of a default run; "
        f"{100 * (1 - kept):.2f} % lost on the other half{' (MISSED)' if report.missed else ''}"
    )


def _rest(score: object, path: Path, half: int, samples: int) -> float:
    """The share of right answers on the samples behind the first half."""
    assert callable(score)
    return float((samples * score(str(path)) - half * score(str(path), limit=half)) / (samples - half))


def _seconds(run: Callable[[], cerwu_onnx.Report]) -> tuple[float, cerwu_onnx.Report]:
    """Processor seconds of a compression, those of its metric included, and its report."""
    start = time.process_time()
    report = run()
    return time.process_time() - start, report


def _compress(model: BenchModel, folder: Path, target: Target | None) -> cerwu_onnx.Report:
    return cerwu_onnx.compress(model.onnx, folder / "o.cwb", calib=str(model.calib), target=target, force=True)
