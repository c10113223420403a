"""Deltas of later states of the sample models against full files, and against binary patches by detools.

Full files and deltas are made as users make them, by ``--fidelity`` (99 %), with 256 samples of the new data.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from rich.console import Console
from rich.table import Table

import cerwu_onnx

from . import finetune
from .models import BenchModel

CALIBRATION = 256


def score(path: Path, data: finetune.NewData, base: Path | None = None) -> float:
    """Share of right answers on the new test data, of an ONNX model or a .cwb file."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    else:
        session = cerwu_onnx.load_session(path, base=base)
    name = session.get_inputs()[0].name
    found = [session.run(None, {name: part})[0].argmax(1) for part in np.array_split(data.test, 8)]
    return float((np.concatenate(found) == data.test_labels).mean())


def patch(old: Path, new: Path) -> int:
    """Bytes of the patch that makes a file of another."""
    import detools

    made = io.BytesIO()
    with old.open("rb") as before, new.open("rb") as after:
        detools.create_patch(before, after, made, compression="lzma")
    return len(made.getvalue())


def run(models: list[BenchModel], console: Console) -> None:
    """Print a table, a row for each model and way of training."""
    if not finetune.available():
        console.print("deltas: PyTorch is not installed, and nothing can be trained: pip install torch")
        return
    patches = importlib.util.find_spec("detools") is not None
    if not patches:
        console.print("deltas: detools is not installed, so there are no patches to compare with: pip install detools")
    table = Table(
        *("model", "trained", "base\nscore", "float\nscore", "full\nbytes", "full\nscore", "delta\nbytes"),
        *("delta\nscore", "delta\n/full", "patch of\nthe .cwb", "patch of\nthe .onnx"),
        title="Deltas",
    )
    for model in models:
        both = {drift: finetune.new_data(model, drift=drift) for drift in (False, True)}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            base = folder / "base.cwb"
            cerwu_onnx.compress(model.onnx, base, calib=model.calib)
            for recipe in finetune.RECIPES:
                data = both[recipe.drift]
                calib = {onnx.load(model.onnx).graph.input[0].name: data.train[:CALIBRATION]}
                later, full, delta = (folder / f"later.{suffix}" for suffix in ("onnx", "full.cwb", "cwb"))
                onnx.save(finetune.trained(model, data, recipe), later)
                whole = cerwu_onnx.compress(later, full, calib=calib, force=True)
                report = cerwu_onnx.compress(later, delta, calib=calib, base=base, force=True)
                of = None if report.delta is None else base
                row = [
                    f"{score(base, data):.4f}",
                    f"{score(later, data):.4f}",
                    f"{whole.file_bytes:,}",
                    f"{score(full, data):.4f}",
                ]
                row += [f"{report.file_bytes:,}" if of else "full file", f"{score(delta, data, of):.4f}"]
                row += [f"{100 * report.file_bytes / whole.file_bytes:.1f} %"]
                if patches:
                    row += [f"{patch(base, full):,}", f"{patch(model.onnx, later):,}"]
                table.add_row(model.name, recipe.name, *row)
                console.print(model.name, recipe.name, *row, highlight=False)
    console.print(table)
