"""Networks that are sure of their training data: ``python -m tests.bench trained FOLDER``.

Compresses, by default, the networks that ``tests/bench/deep_nets.py`` trained into a folder: calibrated with images
that they were trained on, with fresh ones, and with both. What they keep on test images, and their bits beside those
of fresh data, say whether the data that everybody has does.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

import cerwu_onnx
from cerwu_onnx import Report

CALIBRATIONS = ("fresh", "train", "both")
"""Names of the calibration files; bits are relative to the first."""

ABSENT = "networks trained by tests/bench/deep_nets.py (PyTorch, dataset-fashion-mnist): give their folder"


def run(folder: Path | None, console: Console) -> None:
    """Print the table, or say what is missing."""
    places = [] if folder is None else sorted(path.parent for path in folder.glob("*/model.onnx"))
    if not places:
        console.print(f"trained: skipped, for want of {ABSENT}")
        return
    columns = ("network", "calibrated with", "lambda", "bits/weight", "expected", "kept", "standard error", "bits")
    table = Table(*columns, box=None)
    for place in places:
        first = 0.0
        for name in CALIBRATIONS:
            report, kept, error = measure(place, name)
            first = first or report.bits_per_weight
            expected = "-" if report.fidelity is None else f"{100 * report.fidelity.kept:.2f} %"
            table.add_row(
                place.name,
                name,
                f"{report.lambda_:.3g}",
                f"{report.bits_per_weight:.3f}",
                expected,
                f"{100 * kept:.2f} %",
                f"{100 * error:.2f}",
                f"{report.bits_per_weight / first:.3f}",
            )
            for warning in report.warnings:
                console.print(f"{place.name}, {name}: {warning}")
    console.print(table)


def measure(place: Path, name: str) -> tuple[Report, float, float]:
    """Compress by default with one set of calibration data.

    Returns:
        The report, the share of the float model's right answers that is kept on test images, and its standard error.
    """
    with tempfile.TemporaryDirectory() as folder, np.load(place / "test.npz") as test:
        packed, rebuilt = Path(folder) / "o.cwb", Path(folder) / "o.onnx"
        report = cerwu_onnx.compress(place / "model.onnx", packed, calib=str(place / f"{name}.npz"))
        cerwu_onnx.decompress(packed, rebuilt)
        before, after = (right(path, test["input"], test["labels"]) for path in (place / "model.onnx", rebuilt))
    kept = float(after.mean() / before.mean())
    spread = np.std(after - kept * before)  # of a ratio of means, to first order
    return report, kept, float(spread / before.mean() / math.sqrt(len(before)))


def right(model: Path, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """1 where a model answers a label, 0 elsewhere."""
    session = ort.InferenceSession(str(model))
    parts = [session.run(None, {"input": part})[0] for part in np.array_split(images, max(len(images) // 500, 1))]
    return (np.concatenate(parts).argmax(axis=1) == labels).astype(np.float64)
