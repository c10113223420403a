"""Bits at equal KL divergence, this version beside a reference: ``python -m tests.bench kl``.

Each model is compressed at fixed lambdas, and the float model is compared with the decoded one on test inputs
(``kl_point.py``). A score scatters by some percent, because few answers change; this distance by one or two.
docs/benchmarks/kl.json holds the figures of the reference, at more lambdas than are measured here. Least squares fit
one parabola of log bits over the log of the distance to the points of both versions, and a constant between them: the
logarithm of the ratio of bits at equal distance, with the standard error that the scatter of the points gives it.

Every point is a process of its own. Results are kept in a folder under a digest of the code, so that a run which was
stopped goes on where it was, and several may share the folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from .fronts import geometric_mean
from .models import ROOT, BenchModel

FILE = ROOT / "docs" / "benchmarks" / "kl.json"
RESULTS = ROOT / "build" / "kl"
SCRIPT = Path(__file__).with_name("kl_point.py")
REFERENCE = "409559d"
"""The commit that others are compared with."""

NOW = "now"
"""The column of kl.json that holds figures of the version which the file was committed with."""

LAMBDAS = (0.05, 0.1, 0.2, 0.4, 0.8)
DEEP = (0.005, 0.01, 0.02, 0.04, 0.08)
"""The same for deep residual networks, which lose more at equal lambda."""

INPUTS = 2000
"""At most so many test inputs, evenly spread: some sets are sorted."""


class Subject(NamedTuple):
    """A model to measure, its calibration data and test inputs as ``.npz``, and lambdas."""

    name: str
    model: Path
    calib: Path
    inputs: Path
    lambdas: tuple[float, ...]


class Gain(NamedTuple):
    """Bits at equal distance over those of the reference, the standard error of that, and the number of points."""

    ratio: float
    error: float
    points: int


@dataclass(frozen=True)
class Bench:
    """What runs points and keeps their results.

    Attributes:
        python: the interpreter that has the version to measure.
        folder: of results.
        effort: of the compressions.
    """

    python: str
    folder: Path
    effort: str = "default"

    def digest(self) -> str:
        """A digest of the version."""
        return str(self._run())

    def point(self, version: str, subject: Subject, price: float) -> dict[str, float]:
        """A point, measured unless the folder has it."""
        files = (subject.model, subject.calib, subject.inputs)
        key = hashlib.sha256("".join([version, SCRIPT.read_text(), repr(price), self.effort]).encode())
        for path in (*files, *subject.model.parent.glob("*.onnx.data")):
            key.update(hashlib.sha256(path.read_bytes()).digest())
        kept = self.folder / f"{key.hexdigest()}.json"
        if not kept.exists():
            write(kept, json.dumps(self._run(*map(str, files), repr(price), self.effort)).encode())
        found: dict[str, float] = json.loads(kept.read_text())
        return found

    def _run(self, *arguments: str) -> Any:
        done = subprocess.run(
            [self.python, str(SCRIPT), *arguments],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        return json.loads(done.stdout)


def run(
    models: Sequence[BenchModel],
    console: Console,
    deep: Sequence[Path] = (),
    python: str = sys.executable,
    save: str | None = None,
    effort: str = "default",
    beside: Sequence[str] = (),
    *,
    fine: bool = False,
) -> None:
    """Measure and print a line per point, then the table.

    Args:
        models: those of ``sample_models`` and ``../shared/models``.
        console: where to print.
        deep: folders of networks that ``deep_nets.py`` has made, to measure these as well.
        python: an interpreter with another version of the package, to measure that one.
        save: put the figures into this column of docs/benchmarks/kl.json: "reference", or "now".
        effort: of the compressions.
        beside: an interpreter and an effort to compare with instead of the reference, at the same lambdas.
        fine: measure at the lambdas between and beyond as well, as the reference always is.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    bench, known = Bench(python, RESULTS, effort), json.loads(FILE.read_text()) if FILE.exists() else {}
    version, column = bench.digest(), {"reference": REFERENCE, "now": NOW}.get(save or "")
    found: dict[str, list[dict[str, float]]] = {}
    other = Bench(beside[0], RESULTS, beside[1]) if beside else None
    before = other.digest() if other else ""
    reference: dict[str, list[dict[str, float]]] = {} if other else known.get(REFERENCE, {})
    for subject in subjects(models, deep):
        found[subject.name] = []
        for price in finer(subject.lambdas) if fine or save == "reference" else subject.lambdas:
            point = bench.point(version, subject, price)
            found[subject.name].append(point)
            line = f"lambda {price:g}: {point['bits']:.3f} bits/weight, KL {point['kl']:.3g}, {point['seconds']:.0f} s"
            console.print(f"{subject.name} {line}", highlight=False, soft_wrap=True)
            if other:
                reference.setdefault(subject.name, []).append(other.point(before, subject, price))
        if column is not None:
            known.setdefault(column, {})[subject.name] = found[subject.name]
            write(FILE, text(known).encode())
    console.print(table(found, reference))


def finer(lambdas: Sequence[float]) -> tuple[float, ...]:
    """Geometric means of neighbours between a series of lambdas, and one step more at each end."""
    step = math.sqrt(lambdas[1] / lambdas[0])
    between = (float(f"{value * factor:.4g}") for value in lambdas for factor in (1 / step, 1.0))
    return (*between, float(f"{lambdas[-1] * step:.4g}"))


def subjects(models: Sequence[BenchModel], deep: Sequence[Path]) -> Iterator[Subject]:
    """The models, smallest first; test inputs are written into the folder of results."""
    for model in sorted(models, key=lambda model: model.onnx.stat().st_size):
        inputs = RESULTS / f"{model.name}-{INPUTS}.npz"
        if not inputs.exists():
            write(inputs, packed(recorded(model)))
        yield Subject(model.name, model.onnx, model.calib, inputs, LAMBDAS)
    for place in deep:
        inputs = RESULTS / f"{place.name}-{INPUTS}.npz"
        if not inputs.exists():
            with np.load(place / "test.npz") as arrays:
                write(inputs, packed({"input": thinned(arrays["input"])}))
        yield Subject(place.name, place / "model.onnx", place / "train.npz", inputs, DEEP)


def recorded(model: BenchModel) -> dict[str, np.ndarray]:
    """The preprocessed test inputs that a model's ``eval.py`` feeds to onnxruntime."""
    seen: list[dict[str, np.ndarray]] = []

    class Recorder(ort.InferenceSession):  # type: ignore[misc]
        def run(self, names: Any, feed: dict[str, np.ndarray], *rest: Any) -> Any:
            seen.append(feed)
            return super().run(names, feed, *rest)

    with patch("onnxruntime.InferenceSession", Recorder):
        model.evaluate()(str(model.onnx))
    return {name: thinned(np.concatenate([feed[name] for feed in seen])) for name in seen[0]}


def thinned(rows: np.ndarray) -> np.ndarray:
    """At most :data:`INPUTS` rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), INPUTS)).astype(int)]


def gain(points: Sequence[dict[str, float]], reference: Sequence[dict[str, float]]) -> Gain | None:
    """Compare two curves by least squares; None if there are too few points, or no loss at all."""
    both = [*points, *reference]
    if min(len(points), len(reference)) < 3 or min(point["kl"] for point in both) <= 0:
        return None
    distance, bits = (np.log([point[key] for point in both]) for key in ("kl", "bits"))
    ours = np.arange(len(both)) < len(points)
    distance -= distance.mean()
    design = np.stack([np.ones(len(both)), distance, distance**2, ours], axis=1)
    solution, *_ = np.linalg.lstsq(design, bits, rcond=None)
    variance = float(np.square(bits - design @ solution).sum()) / (len(both) - design.shape[1])
    error = math.sqrt(variance * float(np.linalg.inv(design.T @ design)[-1, -1]))
    return Gain(math.exp(solution[-1]), error, len(points))


def table(found: dict[str, list[dict[str, float]]], reference: dict[str, list[dict[str, float]]]) -> Table:
    """A line per model, and the geometric means of the ratios."""
    result = Table("model", "bits/weight", "KL", "at equal KL", "points", "time", box=None)
    ratios, times = [], []
    for name, points in found.items():
        base = reference.get(name, [])
        compared, time = gain(points, base), slower(points, base)
        bits, loss = ([point[key] for point in points] for key in ("bits", "kl"))
        result.add_row(
            name,
            f"{max(bits):.2f}-{min(bits):.2f}",
            f"{min(loss):.0e}-{max(loss):.0e}",
            "-" if compared is None else f"{percent(compared.ratio)} +- {100 * compared.error:.1f} %",
            "-" if compared is None else str(compared.points),
            "-" if time is None else f"{time:.2f}",
        )
        ratios.append(None if compared is None else compared.ratio)
        times.append(time)
    mean, time = geometric_mean(ratios), geometric_mean(times)
    if mean is not None and time is not None:
        result.add_row("geometric mean", "", "", percent(mean), "", f"{time:.2f}")
    return result


def percent(ratio: float) -> str:
    """The change that a ratio is."""
    return f"{100 * (ratio - 1):+.1f}"


def slower(points: Sequence[dict[str, float]], reference: Sequence[dict[str, float]]) -> float | None:
    """Processor time over the reference's at the same lambdas."""
    known = {point["lambda"]: point["seconds"] for point in reference}
    return geometric_mean([p["seconds"] / known[p["lambda"]] if known.get(p["lambda"]) else None for p in points])


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as ``.npz``."""
    with tempfile.TemporaryFile() as stream:
        np.savez(stream, **arrays)
        stream.seek(0)
        return stream.read()


def text(columns: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """JSON with one line per point."""
    parts = []
    for column, models in sorted(columns.items()):
        curves = [
            f"  {json.dumps(name)}: [\n" + ",\n".join(f"    {json.dumps(rounded(p))}" for p in points) + "\n  ]"
            for name, points in sorted(models.items())
        ]
        parts.append(f"{json.dumps(column)}: {{\n" + ",\n".join(curves) + "\n}")
    return "{" + ",\n".join(parts) + "}\n"


def rounded(point: dict[str, float]) -> dict[str, float]:
    """Six digits."""
    return {name: float(f"{value:.6g}") for name, value in point.items()}


def write(path: Path, content: bytes) -> None:
    """Write a file at once: other processes see all of it or nothing."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
        stream.write(content)
    os.replace(stream.name, path)
