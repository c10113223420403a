"""Seconds per stage of a whole compression, and the start-up of the command line."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

import cerwu_onnx

from .models import BenchModel


def run(models: list[BenchModel], console: Console) -> None:
    """Compress each model once with the defaults and print the stages' wall time and size."""
    table = Table("model", "weights", "samples", "stages (s)", "total (s)", "ONNX bytes", ".cwb bytes", "bits/weight")
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            report = cerwu_onnx.compress(model.onnx, Path(folder) / "o.cwb", calib=str(model.calib))
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report.seconds.items())
        table.add_row(
            model.name,
            f"{report.weights:,}",
            str(report.calibration_samples),
            stages,
            f"{sum(report.seconds.values()):.1f}",
            f"{report.model_bytes:,}",
            f"{report.file_bytes:,}",
            f"{report.bits_per_weight:.3f}",
        )
    console.print(table)
    console.print(f"cerwu-onnx --help: {_help_seconds():.2f} s (best of 5)", highlight=False)


def _help_seconds() -> float:
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cerwu_onnx.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - start)
    return best
