"""Seconds until a session stands, in fresh processes: of a float ONNX file as any program opens it, and of a .cwb file.

Both processes begin before their first import, and their file is not in the system's cache. They take turns, so that
other work on the machine slows both; each ratio is that of the medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from rich.console import Console
from rich.table import Table

import cerwu_onnx

from . import encoder
from .models import BenchModel

RUNS = 11

TIMED = "import time; begin = time.perf_counter()\n{}\nprint(time.perf_counter() - begin)"

FLOAT = "import onnxruntime; onnxruntime.InferenceSession({path!r}, providers=['CPUExecutionProvider'])"

CWB = "import cerwu_onnx; cerwu_onnx.load_session({path!r})"

READ = "import cerwu_onnx; [array for array in cerwu_onnx.open({path!r}).values()]"


def run(models: list[BenchModel], console: Console) -> None:
    """Print a row for each model, and for an encoder of 22 million weights by both coders."""
    table = Table(
        *("model", "MB, float", "MB, .cwb", "s, float", "s, .cwb", "ratio", "arrays alone"), title="Start of a session"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in models:
            packed = folder / f"{model.name}.cwb"
            settings = cerwu_onnx.Settings(effort="fast", lambda_=0.05)
            cerwu_onnx.compress(model.onnx, packed, calib=str(model.calib), settings=settings)
            table.add_row(model.name, *row(model.onnx, packed))
        large = folder / "model.onnx"
        onnx.save(encoder.make_model(), large)
        for coder in ("ans", "adaptive"):
            packed = folder / f"{coder}.cwb"
            settings = cerwu_onnx.Settings(method="rtn", levels=16, coder=coder)
            cerwu_onnx.compress(large, packed, settings=settings)
            table.add_row(f"encoder, 22 M weights, {coder}", *row(large, packed))
    console.print(table)


def row(model: Path, packed: Path) -> list[str]:
    """Sizes, medians and their ratio, as texts."""
    seconds = medians({FLOAT: model, CWB: packed, READ: packed})
    sizes = [f"{path.stat().st_size / 1e6:.3g}" for path in (model, packed)]
    ratios = [f"{seconds[code] / seconds[FLOAT]:.2f}" for code in (CWB, READ)]
    return [*sizes, *(f"{seconds[code]:.3f}" for code in (FLOAT, CWB)), *ratios]


def medians(codes: dict[str, Path]) -> dict[str, float]:
    """Median seconds of each code with its file, in fresh processes that take turns."""
    found: dict[str, list[float]] = {code: [] for code in codes}
    with tempfile.TemporaryDirectory() as compiled:  # pip compiles modules when it installs them
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled}
        for _ in range(RUNS + 1):
            for code, path in codes.items():
                drop(path)
                command = [sys.executable, "-c", TIMED.format(code.format(path=str(path)))]
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                found[code].append(float(done.stdout))
    return {code: statistics.median(seconds[1:]) for code, seconds in found.items()}


def drop(path: Path) -> None:
    """Have the system forget what it has cached of a file."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
