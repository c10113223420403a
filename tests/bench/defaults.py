"""What the default gives, with no option but ``--calib``: ``python -m tests.bench defaults``.

Each model's file beside the one of 99 % of the float score that a sweep of lambda finds on test data
(docs/benchmarks/rate.json), the score that it keeps on test data, what the report expects, and processor time as a
multiple of that of a single lambda.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

import cerwu_onnx
from cerwu_onnx import Report, Settings

from .fronts import geometric_mean, ratio
from .models import BenchModel
from .rate import FOLDER
from .rows import Results
from .sweeps import FULL

KEPT = 0.99


@dataclass(frozen=True)
class Default:
    """One model by default.

    Attributes:
        report: of the compression.
        kept: share of the float model's distance from guessing that is left on test data.
        swept: bits per weight at :data:`KEPT` by the sweep, if it is known.
        times: processor time over that of one lambda.
    """

    report: Report
    kept: float
    swept: float | None
    times: float


def run(models: Sequence[BenchModel], console: Console) -> None:
    """Print the table and the geometric means."""
    swept = Results.load(FOLDER / "rate.json")
    table = Table(
        "model", "lambda", "bits/weight", "at 99 %", "ratio", "expected", "kept", "time / one lambda", box=None
    )
    found = []
    for model in models:
        one = measure(model, swept)
        found.append(one)
        report, over = one.report, ratio(one.report.bits_per_weight, one.swept)
        expected = "-" if report.fidelity is None else f"{100 * report.fidelity.kept:.2f} %"
        table.add_row(
            model.name,
            f"{report.lambda_:.3g}",
            f"{report.bits_per_weight:.3f}",
            "-" if one.swept is None else f"{one.swept:.3f}",
            "-" if over is None else f"{over:.3f}",
            expected,
            f"{100 * one.kept:.2f} %",
            f"{one.times:.2f}",
        )
        console.print(f"{model.name}: {report.bits_per_weight:.3f} bits/weight, {100 * one.kept:.2f} % kept")
    console.print(table)
    ratios = geometric_mean([ratio(one.report.bits_per_weight, one.swept) for one in found])
    console.print(
        f"geometric means: bits {ratios or 0:.3f}, time {geometric_mean([one.times for one in found]) or 0:.2f}"
    )


def measure(model: BenchModel, swept: Results) -> Default:
    """Compress a model by default, and once more at the lambda that was found."""
    score = model.evaluate()
    with tempfile.TemporaryDirectory() as folder:
        packed, rebuilt = Path(folder) / "o.cwb", Path(folder) / "o.onnx"
        start = time.process_time()
        report = cerwu_onnx.compress(model.onnx, packed, calib=str(model.calib))
        middle = time.process_time()
        cerwu_onnx.decompress(packed, rebuilt)
        before, after = (score(str(path)) - model.chance for path in (model.onnx, rebuilt))
        again = time.process_time()
        settings = Settings(lambda_=report.lambda_)
        cerwu_onnx.compress(model.onnx, packed, calib=str(model.calib), settings=settings, force=True)
        end = time.process_time()
    at = swept.cost_at(model.name, FULL, "bits_per_weight", 100 * KEPT) if model.name in swept.models else None
    return Default(report, after / before, None if at is None else at.value, (middle - start) / (end - again))
