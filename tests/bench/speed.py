"""Seconds per stage and peak memory of whole compressions, beside two yardsticks, and the start-up of the command line.

Each model is compressed in a process of its own, where then, on the same calibration data, ``tests/reference.py``
(plain numpy in float64, OPTQ layer by layer, nothing coded) and onnxruntime's static quantisation to int8 take their
turn. Processor time counts, which other work on the machine hardly changes.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from .models import BenchModel

BATCH = 16
"""Samples of a feed of the yardsticks."""

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts peak memory."""


def run(models: list[BenchModel], console: Console) -> None:
    """Compress each model with the defaults and with ``--effort fast``."""
    show(console, ((model.name, model.onnx, model.calib) for model in models))
    console.print(f"cerwu-onnx --help: {_help_seconds():.2f} s (best of 5)", highlight=False)


def show(console: Console, models: Iterable[tuple[str, Path, Path]]) -> None:
    """Print a table of names, paths of models and of calibration data."""
    columns = ["model", "effort", "stages (s)", "CPU s", "peak GB", "x reference", "x int8", ".cwb bytes", "bits"]
    table = Table(*columns, title="Processor seconds, also as multiples of those of the reference and of static int8")
    for name, onnx_path, calib in models:
        for effort in ("default", "fast"):
            found = _in_child(onnx_path, calib, effort)
            ours = found["processor"]
            table.add_row(
                f"{name} ({found['weights']:,} weights, {found['samples']} samples)" if effort == "default" else "",
                effort,
                ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in found["seconds"].items()),
                f"{ours:.1f}",
                f"{found['peak']:.2f}",
                *(f"{ours / found[key]:.2f}" if found.get(key) else "-" for key in ("reference", "static")),
                f"{found['bytes']:,}",
                f"{found['bits']:.3f}",
            )
    console.print(table)


def _in_child(onnx_path: Path, calib: Path, effort: str) -> dict[str, Any]:
    """What :func:`_measure` gives in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.speed", str(onnx_path), str(calib), effort]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{onnx_path}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(onnx_path: Path, calib: Path, effort: str) -> dict[str, Any]:
    """Compress; with the default effort, do the same by the yardsticks."""
    import onnx

    import cerwu_onnx
    from tests import reference

    with tempfile.TemporaryDirectory() as folder:
        settings = cerwu_onnx.Settings(effort=effort)
        start = time.process_time()
        report = cerwu_onnx.compress(onnx_path, Path(folder) / "o.cwb", calib=str(calib), settings=settings)
        found = {
            "processor": time.process_time() - start,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 1e9,
            "seconds": report.seconds,
            "weights": report.weights,
            "samples": report.calibration_samples,
            "bytes": report.file_bytes,
            "bits": report.bits_per_weight,
        }
        if effort == "default":
            feeds = _feeds(calib)
            model = onnx.load(onnx_path)
            found["static"] = _processor(lambda: _static(onnx_path, Path(folder) / "int8.onnx", feeds))
            found["reference"] = _processor(lambda: reference.compress(model, feeds))
    return found


def _processor(function: Callable[[], object]) -> float | None:
    """Processor seconds; None where it fails."""
    start = time.process_time()
    try:
        function()
    except Exception as error:  # what models onnxruntime's quantisation takes is not ours to say
        print(error, file=sys.stderr)
        return None
    return time.process_time() - start


def _feeds(calib: Path) -> list[dict[str, np.ndarray]]:
    """The samples in batches."""
    with np.load(calib) as stored:
        arrays = {name: stored[name] for name in stored.files}
    count = len(next(iter(arrays.values())))
    return [{name: array[i : i + BATCH] for name, array in arrays.items()} for i in range(0, count, BATCH)]


def _static(onnx_path: Path, output: Path, feeds: list[dict[str, np.ndarray]]) -> None:
    """Static quantisation to int8 by onnxruntime, with its defaults."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    logging.disable(logging.WARNING)
    quantize_static(str(onnx_path), str(output), Reader())


def _help_seconds() -> float:
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cerwu_onnx.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
