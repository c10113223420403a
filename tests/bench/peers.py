"""Whole files beside those of other tools: ``make bench-peers``, or ``python -m tests.bench peers``.

Each tool makes each model small in a process of its own (``peer.py``), so that processor seconds and peak memory are
its own; then the model that its user would run is scored on the test data. Rows go into ``docs/benchmarks/peers.json``
as they come, so a run that was stopped goes on; ``--again ROW`` measures these rows anew. From there the same command
writes ``docs/benchmarks/peers.md``, the table and the picture of the README.

The peers' packages are no dependencies of this project. ``pip install onnxslim zstandard`` brings what Python lacks;
NNCodec 2 needs numpy below 2 and PyTorch, so it may live in an environment of its own (``--peers-python``):
``pip install 'numpy<2' torch torchvision nncodec onnx``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from . import peers_pages
from .models import ROOT, BenchModel

RESULTS = ROOT / "docs" / "benchmarks" / "peers.json"
SHARE = 0.99
"""Of the float score: what ours is asked to keep, and what NNCodec's coarsest step is chosen by."""

COARSER = (-28, -24, -20, -16, -12)
"""NNCodec's parameters for steps, from fine to coarse, after its default of -32."""

VERSIONS = ("cerwu-onnx", "onnxruntime", "onnxslim", "zstandard", "nncodec")


@dataclass(frozen=True)
class Way:
    """One way to make a model small: the key of its rows, what ``peer.py`` calls it, and a number for that."""

    key: str
    peer: str
    number: float = 0.0


WAYS = tuple(Way(name, name) for name in ("gzip", "xz", "zstd", "ours", "static", "dynamic", "float16", "onnxslim"))
MORE = (Way("nncodec", "nncodec", -32), Way("ours-64", "ours", 64 << 10), Way("ours-8", "ours", 8 << 10))
"""What takes longer, or needs another interpreter: measured when all models have the former."""


def run(models: Sequence[BenchModel], console: Console, python: str, *, again: Collection[str], saved: bool) -> None:
    """Measure what is not in the file yet, and write the pages.

    Args:
        models: what to measure.
        console: where a line for each row goes.
        python: interpreter that has NNCodec.
        again: keys of rows to measure anew.
        saved: measure nothing.
    """
    found = results()
    for model in models:
        rows = found["models"].get(model.name, {}).get("rows", {})
        for key in rows.keys() & set(again):
            del rows[key]
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    order = sorted(models, key=lambda model: model.calib.stat().st_size)  # those that take longest come last
    for ways in () if saved else (WAYS, MORE):
        for model in order:
            kept = results()["models"].get(model.name, {})
            for row in measured(model, kept, python, ways):
                console.print(f"{model.name:<22} {row:<12} {kept['rows'][row]}")
                found = results()  # again: other models may be measured side by side
                found["models"][model.name] = kept
                found["versions"] |= versions(python)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    peers_pages.write(results())


def results() -> dict[str, Any]:
    """What is measured."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"models": {}, "versions": {}}


def measured(model: BenchModel, kept: dict[str, Any], python: str, ways: Sequence[Way]) -> Iterator[str]:
    """Fill the rows of a model that are missing; yields their keys."""
    evaluate = model.evaluate()
    if "float" not in kept:
        kept |= {"bytes": model.onnx.stat().st_size, "float": evaluate(str(model.onnx)), "chance": model.chance}
    rows = kept.setdefault("rows", {})
    for way in ways:
        if way.key not in rows or "missing" in rows[way.key]:
            rows[way.key] = row(model, way, python, kept)
            yield way.key
    if "nncodec-99" not in rows and "score" in rows.get("nncodec", {}):
        rows["nncodec-99"] = coarsest(model, rows["nncodec"], python, kept)
        yield "nncodec-99"


def coarsest(model: BenchModel, default: dict[str, Any], python: str, kept: dict[str, Any]) -> dict[str, Any]:
    """NNCodec's row with the coarsest step that keeps the score on the test data, which nobody could know ahead."""
    best = default
    for qp in COARSER:
        found = row(model, Way("nncodec-99", "nncodec", qp), python, kept)
        if share(found["score"], kept) < SHARE:
            break
        best = found | {"qp": qp}
    return best


def share(score: float, kept: dict[str, Any]) -> float:
    """The part of the float score that is left, counted from the score of guessing."""
    return float((score - kept["chance"]) / (kept["float"] - kept["chance"]))


def row(model: BenchModel, way: Way, python: str, kept: dict[str, Any]) -> dict[str, Any]:
    """What one tool makes of one model, in a process of its own."""
    interpreter = python if way.peer == "nncodec" else sys.executable
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        command = [interpreter, "-m", "tests.bench.peer", way.peer, str(model.folder), str(out), str(way.number)]
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | threads)
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1].rpartition(": ")[2][:120]}
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if "missing" in found:
            return found
        same = way.peer in ("gzip", "xz", "zstd")
        return found | {"score": kept["float"] if same else model.evaluate()(str(out))}


def versions(python: str) -> dict[str, str]:
    """Versions of the packages that made the rows."""
    code = "import importlib.metadata as m; print(m.version('nncodec'))"
    found = {"python": sys.version.split()[0]}
    for name in VERSIONS[:-1]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    there = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return found | ({"nncodec": there.stdout.strip()} if there.returncode == 0 else {})
