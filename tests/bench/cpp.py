"""What a session from a .cwb file costs in C++, beside one from the float model: time to open it, and memory.

Both are opened in turn in one process, from files that the system has in its memory; the best of several times counts,
of the clock and of the processor, all threads together. Peak memory is that of a process which opens one session and
does nothing else.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from rich.console import Console
from rich.table import Table

import cerwu_onnx
from cerwu_onnx.compression.encode import encode
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.types import QuantizedTensor

from ..cpp.toolchain import ROOT, Missing, build
from ..models import build as build_model
from ..models import value
from .models import BenchModel

TIMES = 7
WIDTH = 2048
LAYERS = (1, 5, 20)
"""Of made-up models, of WIDTH x WIDTH weights each."""


def run(models: list[BenchModel], console: Console) -> None:
    """Print a table; a word where something is missing."""
    table = Table(
        "model", "weights", ".onnx MB", ".cwb MB", "opens .onnx", ".cwb", "ratio", "CPU", "peak .onnx", ".cwb"
    )
    with tempfile.TemporaryDirectory(prefix="cerwu-cpp-") as name:
        folder = Path(name)
        try:
            probe = build(folder, ROOT / "tests/cpp/probe") / "probe"
        except Missing as missing:
            console.print(f"skipped: {missing}")
            return
        for title, weights, plain, ours in _pairs(models, folder):
            done = subprocess.run([probe, "time", ours, plain, str(TIMES)], capture_output=True, text=True, check=True)
            ours_seconds, plain_seconds, ours_cpu, plain_cpu = map(float, done.stdout.split())
            kilobytes = [
                int(subprocess.run([probe, "memory", path], capture_output=True, text=True, check=True).stdout)
                for path in (plain, ours)
            ]
            table.add_row(
                title,
                f"{weights:,}",
                f"{plain.stat().st_size / 1e6:.2f}",
                f"{ours.stat().st_size / 1e6:.2f}",
                f"{1000 * plain_seconds:.1f} ms",
                f"{1000 * ours_seconds:.1f} ms",
                f"{ours_seconds / plain_seconds:.1f}",
                f"{ours_cpu / plain_cpu:.1f}",
                *(f"{1024 * k / 1e6:.0f} MB" for k in kilobytes),
            )
    console.print(table)


def _pairs(models: list[BenchModel], folder: Path) -> Iterator[tuple[str, int, Path, Path]]:
    """Name, weights, float model and .cwb file of each."""
    for model in models:
        ours = folder / f"{model.name}.cwb"
        report = cerwu_onnx.compress(model.onnx, ours, calib=model.calib)
        yield model.name, report.weights, model.onnx, ours
    for layers in LAYERS:
        plain, ours = folder / f"{layers}.onnx", folder / f"{layers}.cwb"
        _make(layers, plain, ours)
        yield f"{layers} x MatMul of {WIDTH} x {WIDTH}", layers * WIDTH**2, plain, ours


def _make(layers: int, plain: Path, ours: Path) -> None:
    """A chain of matrix products, and its file at two to three bits for each weight."""
    rng = np.random.default_rng(layers)
    weights = {f"w{i}": rng.laplace(size=(WIDTH, WIDTH)).astype(np.float32) / 64 for i in range(layers)}
    names = ["x", *(f"x{i}" for i in range(layers))]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(layers)]
    model = build_model(nodes, [value("x", [1, WIDTH])], [value(names[-1], [1, WIDTH])], weights)
    onnx.save(model, plain)
    step = 2.0**-6
    quantized = {
        name: QuantizedTensor(np.rint(weight / step).astype(np.int32), step, 0.0, 0.0, 0.0)
        for name, weight in weights.items()
    }
    ours.write_bytes(encode(analyse(model), quantized, {"tool": "bench"}).content)
