"""The largest models that fit: a calibrated compression of 100 million weights, and layers as wide as those of a Llama.

Weights are random, with a spectrum like those of trained ones, in a file beside the model. Every run is a process of
its own, whose peak memory the system counts. One run of the smallest model is killed in its middle, and goes on.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

from .encoder import Encoder, Size, make_model, token_ids
from .net import Net

TRANSFORMER = Size(vocabulary=20_000, positions=512, width=768, heads=12, inner=3072, layers=12)
SAMPLES = 128

WIDTH, INNER = 4096, 11008
"""Of a gated block, as Llama 7B has them."""

TOKENS, SEQUENCES = 32, 128
"""Of its samples."""

LAMBDA = 0.1
"""Of the gated block: one file, no search."""

DECAY, TAIL = 0.5, 0.3
"""Singular value number k of a weight is ``k ** -DECAY``; the logarithms of its columns' scales deviate by so much."""

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts peak memory."""


class _Trained(Net):
    """A net whose matrices have spectra like trained ones."""

    def constant(self, name: str, *shape: int, scale: float = 0.02, mean: float = 0.0) -> str:
        """A vector, normally distributed, or a matrix of decaying singular values."""
        if len(shape) < 2:
            return super().constant(name, *shape, scale=scale, mean=mean)
        rank = min(shape)
        left, right = (self.rng.standard_normal(size, np.float32) for size in ((shape[0], rank), (rank, shape[1])))
        weight = (left * np.arange(1, rank + 1, dtype=np.float32) ** -DECAY) @ right
        weight *= np.exp(TAIL * self.rng.standard_normal(shape[1], np.float32))
        weight *= np.float32(scale) / weight.std()
        self.tensors[name] = weight
        return name


class _Transformer(_Trained, Encoder):
    """An encoder of such matrices."""


def transformer(folder: Path, size: Size = TRANSFORMER) -> tuple[Path, Path]:
    """Write an encoder and token ids for it; paths of both."""
    return _written(folder, make_model(_Transformer(size)), token_ids(SAMPLES, size.vocabulary))


def gated(folder: Path, width: int = WIDTH, inner: int = INNER) -> tuple[Path, Path]:
    """Write a gated block ``x + down(silu(gate n) * up n)``, n the normalised x, and samples for it; paths of both."""
    net = _Trained()
    mean = net.add("ReduceMean", net.add("Mul", "x", "x"), axes=[-1], keepdims=1)
    net.tensors["epsilon"] = np.float32(1e-6)
    root = net.add("Sqrt", net.add("Add", mean, "epsilon"))
    n = net.add("Mul", net.add("Div", "x", root), net.constant("norm", width, scale=0.1, mean=1.0))
    gate, up = (net.add("MatMul", n, net.constant(name, width, inner, scale=width**-0.5)) for name in ("gate", "up"))
    active = net.add("Mul", net.add("Mul", gate, net.add("Sigmoid", gate)), up)
    down = net.add("MatMul", active, net.constant("down", inner, width, scale=inner**-0.5))
    fed = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", TOKENS, width])
    model = net.model(fed, net.add("Add", "x", down), width)
    model.graph.output[0].type.tensor_type.shape.CopyFrom(fed.type.tensor_type.shape)
    inputs = _Trained()
    inputs.constant("x", SEQUENCES * TOKENS, width, scale=1.0)
    return _written(folder, model, inputs.tensors["x"].reshape(SEQUENCES, TOKENS, width))


MODELS: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "block": lambda folder: transformer(folder, replace(TRANSFORMER, vocabulary=2000, layers=1)),
    "transformer": transformer,
    "gated": gated,
}
"""Names, and what writes a model and its samples to a folder."""

KILLED = "block"
"""Of this one, another run is killed, and a third goes on."""


def _written(folder: Path, model: onnx.ModelProto, samples: np.ndarray) -> tuple[Path, Path]:
    path, calib = folder / "model.onnx", folder / "calib.npz"
    path.with_suffix(".data").unlink(missing_ok=True)  # onnx appends to what is there
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=4096)
    np.savez(calib, **{model.graph.input[0].name: samples})
    return path, calib


@dataclass(frozen=True)
class Run:
    """What a process took.

    Attributes:
        wall: seconds.
        processor: seconds, of all its threads.
        peak: bytes of resident memory.
        load: of the machine in the last minute, at its end.
    """

    wall: float
    processor: float
    peak: int
    load: float


def measure(arguments: Sequence[object], limit: int | None = None) -> Run:
    """Run a command of the tool; kill it after so many processor seconds, by SIGKILL, if there is a limit.

    Raises:
        RuntimeError: it failed.
    """
    line = [sys.executable, "-m", "cerwu_onnx.cli", *map(str, arguments)]
    start = time.perf_counter()

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))  # beyond a hard limit the system sends SIGKILL

    process = subprocess.Popen(line, preexec_fn=limited)
    _, status, usage = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code and not (limit is not None and code == -signal.SIGKILL):
        raise RuntimeError(f"{' '.join(line)}: exit code {code}")
    processor, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * UNIT
    return Run(time.perf_counter() - start, processor, peak, os.getloadavg()[0])


def run(console: Console, names: Sequence[str]) -> None:
    """Print a table for each model of :data:`MODELS`, a row for each run, as soon as it has ended."""
    for name in names:
        with tempfile.TemporaryDirectory(prefix="cerwu-large-") as place:
            folder = Path(place)
            model, calib = MODELS[name](folder)
            whole, report = folder / "whole.cwb", folder / "report.json"
            price = ("--lambda", LAMBDA) if name == "gated" else ()
            words = ("compress", model, "--calib", calib, "-q", "--report", report, "-f", *price)
            done = measure([*words, whole])
            found = json.loads(report.read_text())
            _print(console, f"{name}, {found['weights']:,} weights", done, whole, found["seconds"])
            if name == KILLED:
                resumed = folder / "resumed.cwb"
                _print(
                    console, f"{name}, killed", measure([*words, resumed, "--resume"], round(done.processor * 3 / 4))
                )
                _print(console, f"{name}, resumed", measure([*words, resumed, "--resume"]), resumed)
                same = whole.read_bytes() == resumed.read_bytes()
                console.print("the same file" if same else "ANOTHER FILE")


def _print(
    console: Console, title: str, done: Run, file: Path | None = None, stages: dict[str, float] | None = None
) -> None:
    table = Table("run", "wall, s", "processor, s", "peak, GB", "load", "bytes", "stages, s", box=None)
    table.add_row(
        title,
        f"{done.wall:,.0f}",
        f"{done.processor:,.0f}",
        f"{done.peak / 1e9:.2f}",
        f"{done.load:.1f}",
        "-" if file is None else f"{file.stat().st_size:,}",
        ", ".join(f"{stage} {seconds:,.0f}" for stage, seconds in (stages or {}).items()),
    )
    console.print(table)
