"""Calibration data that cannot be trusted, beside none: ``python -m tests.bench untrusted``.

Each of the sample models is compressed by default with too little data, data of the wrong scale, and data that says
nothing. No row may keep less of the score than was asked for, nor less than the file without data if that is less; and
each must warn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

import cerwu_onnx
from cerwu_onnx import Report

from .models import BenchModel

Data = Mapping[str, npt.NDArray[np.generic]]

WORDS = 8
"""So many words of a warning are shown."""

CASES: dict[str, Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]] = {
    "all samples": lambda x: x,
    "1 sample": lambda x: x[:1],
    "2 samples": lambda x: x[:2],
    "8 samples": lambda x: x[:8],
    "zeros": np.zeros_like,
    "ones": np.ones_like,
    "one sample, copied": lambda x: np.repeat(x[:1], len(x), axis=0),
    "x 255": lambda x: (255 * x).astype(x.dtype),
    "/ 255": lambda x: (x / 255).astype(x.dtype),
    "white noise": lambda x: np.random.default_rng(0).normal(size=x.shape).astype(x.dtype),
}
"""What becomes of each input of floating-point numbers; those of others keep as many samples."""


def run(models: Sequence[BenchModel], console: Console) -> None:
    """Print one table for each model."""
    for model in models:
        table = Table("data", "bytes", "bits/weight", "kept", "expected", "warnings", box=None, title=model.name)
        score = model.evaluate()
        whole = score(str(model.onnx)) - model.chance
        with np.load(model.calib) as arrays:
            honest = dict(arrays)
        changed = {case: _changed(honest, case) for case in CASES}
        for name, data in {"none": None, **changed, "one class": _one_class(model, honest)}.items():
            report, after = _compressed(model, data, score)
            table.add_row(
                name,
                f"{report.file_bytes:,}",
                f"{report.bits_per_weight:.3f}",
                f"{100 * (after - model.chance) / whole:.2f} %",
                "-" if report.fidelity is None else f"{100 * report.fidelity.kept:.2f} %",
                "; ".join(" ".join(warning.split()[:WORDS]) for warning in report.warnings) or "-",
            )
        console.print(table)


def _changed(data: Data, case: str) -> Data:
    """The data of a case."""
    found = {name: CASES[case](array) if array.dtype.kind == "f" else array for name, array in data.items()}
    samples = min(len(array) for array in found.values())
    return {name: array[:samples] for name, array in found.items()}


def _one_class(model: BenchModel, data: Data) -> Data:
    """The samples with the model's most frequent answer."""
    answers = ort.InferenceSession(str(model.onnx)).run(None, dict(data))[0].argmax(axis=1)
    return {name: array[answers == np.bincount(answers).argmax()] for name, array in data.items()}


def _compressed(model: BenchModel, data: Data | None, score: Callable[..., float]) -> tuple[Report, float]:
    """Compress by default; the score of what the file decompresses to."""
    with tempfile.TemporaryDirectory() as folder:
        packed, rebuilt = Path(folder) / "o.cwb", Path(folder) / "o.onnx"
        report = cerwu_onnx.compress(model.onnx, packed, calib=None if data is None else dict(data))
        cerwu_onnx.decompress(packed, rebuilt)
        return report, score(str(rebuilt))
