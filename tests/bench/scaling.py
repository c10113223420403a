"""How jobs scale from one worker to two, what a job costs, and what that makes of ten thousand models or 7e9 weights.

Wall time of the same jobs on one and on two workers, in turns; the ratio is the median of those of all turns, since
other processes take their share of a machine now and then. Seconds of the cost model are those of a processor, one
thread.
"""

from __future__ import annotations

import heapq
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import cerwu_onnx
from cerwu_onnx.cli.batch import compress_all
from cerwu_onnx.compression.layer_job import LayerJob, quantize_layer
from cerwu_onnx.compression.sweep import sweep
from cerwu_onnx.config import Settings, Target
from cerwu_onnx.jobs.parallel import Pool
from cerwu_onnx.jobs.threads import one_thread
from cerwu_onnx.model.layout import narrowed
from cerwu_onnx.types import Layer, LayerStats, MatrixLayout, Reader

from .models import SAMPLES

TURNS = 3
MODEL = SAMPLES / "fashion_dscnn"
LAMBDAS = (0.02, 0.04, 0.08, 0.15)
MODELS = 4
TARGETS = {
    "samples, by default": None,
    "samples, for a size": Target(size=6000),
    "samples and pairs, for an accuracy": Target(
        max_drop=0.05, metric="agreement", metric_data=MODEL / "calib.npz", confidence=0.5
    ),
}
WIDTHS = [(768, 768)] * 4
METHODS = {"trellis, no data": None, "cerwu, Hessian": "cerwu"}
FITTED = [(256, 512), (512, 256), (512, 512), (768, 768), (1024, 256), (1024, 1024)]
CHECKED = [(512, 2048), (2048, 512), (2048, 2048)]
"""Rows and columns of layers that the cost model is fitted to, and of larger ones that it is checked on."""

TRANSFORMER = [(4096, 4096)] * 4 * 32 + [(11008, 4096)] * 2 * 32 + [(4096, 11008)] * 32 + [(32000, 4096)] * 2
"""Weights of a decoder of 32 blocks of width 4096 and 11008, with a vocabulary of 32,000."""


def job(rows: int, columns: int, method: str | None) -> LayerJob:
    """A layer of Gaussian weights, with the statistics of correlated inputs unless it is data-free."""
    random = np.random.default_rng(rows * columns)
    shape = (rows, columns)
    weight = random.normal(size=shape).astype(np.float32) / np.float32(columns**0.5)
    layout = MatrixLayout(shape, (1, *shape), (0, 1, 2), 1, rows, columns)
    if method is None:
        layout, stats = narrowed(layout), None  # rows in pieces, as the pipeline does without data
        settings = Settings(lambda_=1.0)  # coarse enough for the trellis, which takes longer than one grid
    else:
        inputs = random.normal(size=(2 * columns, columns)) @ (np.eye(columns) + 0.5 * np.eye(columns, k=1))
        hessian = inputs.T @ inputs / len(inputs)
        stats, settings = LayerStats(hessian[None], inputs.mean(0)[None], len(inputs)), Settings(method=method)
    return LayerJob(
        Layer("w", layout, (), readers=(Reader("m", "MatMul"),)), {"w": weight}, stats, settings, weight.size, 32
    )


@contextmanager
def dask(workers: int) -> Iterator[str]:
    """The address of a cluster of processes."""
    from dask.distributed import LocalCluster

    options: dict[str, Any] = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(n_workers=workers, **options) as cluster:  # type: ignore[no-untyped-call]
        yield cluster.scheduler_address.replace("tcp://", "dask://")


def seconds(run: Callable[[], object]) -> float:
    """Wall seconds."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def processor_seconds(run: Callable[[], object]) -> float:
    """Processor seconds of this process, one thread: the least of three, which other processes disturbed least."""
    found = []
    with one_thread():
        for _ in range(3):
            start = time.process_time()
            run()
            found.append(time.process_time() - start)
    return min(found)


def layers(method: str | None, **where: Any) -> None:
    """Quantise some layers."""
    jobs = [job(*shape, method) for shape in WIDTHS]
    with Pool(**where) as pool:
        for _ in pool.results(quantize_layer, jobs.__getitem__, [rows * columns**2 for rows, columns in WIDTHS]):
            pass


def lambdas(**where: Any) -> None:
    """Sweep a sample model."""
    with tempfile.TemporaryDirectory() as folder:
        sweep(MODEL / "model.onnx", folder, LAMBDAS, calib=MODEL / "calib.npz", **where)


def one_model(target: Target | None, jobs: int) -> None:
    """Compress a sample model with its data, by default or to a target."""
    with tempfile.TemporaryDirectory() as folder:
        calib, output = MODEL / "calib.npz", Path(folder) / "o.cwb"
        cerwu_onnx.compress(MODEL / "model.onnx", output, calib=calib, target=target, jobs=jobs)


def models(**where: Any) -> None:
    """Compress copies of a sample model, without data."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies = [Path(shutil.copy(MODEL / "model.onnx", folder / f"{k}.onnx")) for k in range(MODELS)]
        targets = [path.with_suffix(".cwb") for path in copies]
        options = {"jobs": None, "cluster": None} | where
        done = compress_all(copies, targets, ["--method=trellis"], force=False, **options)
        if any(outcome.exit_code for outcome in done):
            raise RuntimeError(done[0].messages)


def run(console: Console) -> None:
    """Print the tables."""
    _scaling(console)
    coefficients = _costs(console)
    _projections(console, coefficients)


def _scaling(console: Console) -> None:
    """Seconds on one and on two workers, at home and on dask."""
    title = (
        f"one worker against two, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before: other work runs here"
    )
    table = Table("jobs", "where", "1 worker, s", "2 workers, s", "ratio of each turn", "median", title=title)
    kinds = (
        *((f"{len(WIDTHS)} layers, {name}", partial(layers, method), "threads") for name, method in METHODS.items()),
        (f"{len(LAMBDAS)} lambdas", lambdas, "processes (loky)"),
        (f"{MODELS} models", models, "threads, a process each"),
    )
    for name, function, home in kinds:
        pairs = [tuple(seconds(partial(function, jobs=n)) for n in (1, 2)) for _ in range(TURNS + 1)]
        table.add_row(name, home, *_row(pairs[1:]))  # the first turn starts processes
        with dask(1) as one, dask(2) as two:
            turns = range(TURNS + 1)
            pairs = [tuple(seconds(partial(function, cluster=url)) for url in (one, two)) for _ in turns]
        table.add_row("", "dask", *_row(pairs[1:]))
    for name, target in TARGETS.items():
        pairs = [tuple(seconds(partial(one_model, target, n)) for n in (1, 2)) for _ in range(TURNS)]
        table.add_row(name, "threads", *_row(pairs))
    console.print(table)


def _row(pairs: Sequence[tuple[float, ...]]) -> list[str]:
    ratios = [one / two for one, two in pairs]
    middles = [f"{statistics.median(column):.2f}" for column in zip(*pairs, strict=True)]
    return [*middles, ", ".join(f"{ratio:.2f}" for ratio in ratios), f"{statistics.median(ratios):.2f}"]


def terms(rows: int, columns: int, method: str | None) -> list[float]:
    """What a layer's seconds are a sum of: weights, with a Hessian also products and factors, and calls for columns."""
    return [rows * columns] if method is None else [rows * columns, columns**2 * (rows + columns), columns]


def _costs(console: Console) -> dict[str, np.ndarray]:
    """Fit the cost of a layer to small ones, and check it on larger ones."""
    found = {}
    for name, method in METHODS.items():
        shapes = [*FITTED, *CHECKED]
        jobs = [job(*shape, method) for shape in shapes]
        taken = np.array([processor_seconds(partial(quantize_layer, one)) for one in jobs])
        matrix = np.array([terms(*shape, method) for shape in shapes])
        few = len(FITTED)
        found[name] = _fit(matrix[:few] / taken[:few, None])
        table = Table("rows x columns", "measured, s", "model, s", "ratio", title=f"one layer, {name}")
        for number, (shape, second) in enumerate(zip(shapes, taken, strict=True)):
            model = float(matrix[number] @ found[name])
            label = f"{shape[0]} x {shape[1]}" + ("" if number < few else " (not fitted)")
            table.add_row(label, f"{second:.3f}", f"{model:.3f}", f"{second / model:.2f}")
        console.print(table)
        console.print(
            f"{name}: seconds = " + " + ".join(_term(*pair) for pair in zip(found[name], _NAMES, strict=False))
        )
    return found


_NAMES = ("M N", "N^2 (M + N)", "N")


def _term(coefficient: float, name: str) -> str:
    return f"{coefficient:.2e} {name}"


def _fit(relative: np.ndarray) -> np.ndarray:
    """Coefficients of at least 0 with the least relative error."""
    from scipy.optimize import nnls

    return np.asarray(nnls(relative, np.ones(len(relative)))[0])


def makespan(costs: Sequence[float], workers: int) -> float:
    """Seconds until the last worker is done, the largest job first, each to who is free first."""
    free = [0.0] * workers
    for cost in sorted(costs, reverse=True):
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


def _projections(console: Console, coefficients: dict[str, np.ndarray]) -> None:
    """What the model says of more than fits here; and its check on what does."""
    workers = (1, 16, 64, 256)
    with dask(1) as url, Pool(cluster=url) as pool:
        count = 300
        overhead = seconds(lambda: list(pool.results(abs, int, [1.0] * count))) / count
    alone = _child_seconds(1)
    many = _child_seconds(MODELS)
    console.print(
        f"a model: {alone:.2f} processor s in a process of its own; {MODELS} of them {many:.2f} s, "
        f"{many / alone / MODELS:.2f} times as much as the model says; a job of dask that does nothing: "
        f"{1000 * overhead:.1f} ms"
    )
    table = Table("", *(f"{count} workers" for count in workers), "bytes sent", title="projected, hours")
    row = [makespan([alone] * 10_000, count) for count in workers]
    size = (MODEL / "model.onnx").stat().st_size // 10
    table.add_row("10,000 such models, no data", *map(_hours, row), f"{10_000 * size / 1e9:.2f} GB back")
    for name, method in METHODS.items():
        costs = [float(np.array(terms(*shape, method)) @ coefficients[name]) for shape in TRANSFORMER]
        sent = sum(4 * rows * columns + (8 * columns**2 if method else 0) for rows, columns in TRANSFORMER)
        row = [makespan(costs, count) for count in workers]
        table.add_row(
            f"{sum(r * c for r, c in TRANSFORMER) / 1e9:.1f}e9 weights, {name}",
            *map(_hours, row),
            f"{sent / 1e9:.0f} GB out",
        )
    console.print(table)
    console.print(f"layers of it: {len(TRANSFORMER)}, so that more workers than that have nothing to do")


def _hours(taken: float) -> str:
    return f"{taken / 3600:.2f}"


def _child_seconds(count: int) -> float:
    """Processor seconds of so many models, one after the other, their processes included."""
    code = f"from tests.bench import scaling; scaling.MODELS = {count}; scaling.models(jobs=1)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    idle = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "from tests.bench import scaling"], check=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _used(before, after) - _used(idle, end)


def _used(before: resource.struct_rusage, after: resource.struct_rusage) -> float:
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
