"""Names of files that are no UTF-8, as old archives leave them: every command takes them, or says why not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ..cli.conftest import Run, small_model

ODD = os.fsdecode(b"b\xff")


@pytest.fixture
def place(tmp_path: Path, _calib: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    try:
        (tmp_path / ODD).mkdir()
    except (OSError, ValueError):  # macOS and Windows hold text alone
        pytest.skip("this system has no such names")
    monkeypatch.chdir(tmp_path / ODD)
    onnx.save(small_model(), f"{ODD}.onnx")
    shutil.copy(_calib, f"{ODD}.npz")
    return tmp_path / ODD


def test_every_command_takes_them(place: Path, run: Run) -> None:
    fast = ("--method", "cerwu", "--calib", f"{ODD}.npz")
    reports = (f"{ODD}.html", f"{ODD}.md", f"{ODD}.json")
    calls = [
        ("compress", f"{ODD}.onnx", f"{ODD}.cwb", *fast, "--cache", f"{ODD}kept", *(f"--report={r}" for r in reports)),
        ("compress", f"{ODD}.onnx", "--out-dir", f"{ODD}many", *fast, "--json"),
        ("sweep", f"{ODD}.onnx", "--out-dir", f"{ODD}swept", "--lambda", "1", "-j", "1", *fast, "--json"),
        ("inspect", f"{ODD}.onnx"),
        ("inspect", f"{ODD}.cwb", "--json"),
        ("verify", f"{ODD}.cwb", "--against", f"{ODD}.onnx", "--data", f"{ODD}.npz"),
        ("report", f"{ODD}.cwb", "-f", *reports),
        ("compare", f"{ODD}.onnx", f"{ODD}.cwb", "--data", f"{ODD}.npz"),
        ("decompress", f"{ODD}.cwb", f"{ODD}back.onnx"),
        ("calibrate", f"{ODD}.cwb", f"{ODD}.scales", "--calib", f"{ODD}.npz"),
        ("export-c", f"{ODD}.cwb", f"{ODD}c"),
    ]
    for call in calls:
        result = run(*call)
        assert result.code == 0, result.err
        if "--json" in call:
            json.loads(result.out)
        result.out.encode()


def large(path: str, location: str | None = None) -> None:
    """A model whose weight goes into another file when it may."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    info = [helper.make_tensor_value_info(name, 1, ["N", size]) for name, size in (("x", 200), ("y", 200))]
    weight = np.random.default_rng(1).normal(size=(200, 200)).astype(np.float32)
    graph = helper.make_graph([node], "g", info[:1], info[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=location is not None, location=location, size_threshold=0)


def test_what_onnx_cannot_hold_is_refused(place: Path, run: Run) -> None:
    """A model names the file of its weights, in UTF-8."""
    large("large.onnx")
    assert run("compress", "large.onnx", "large.cwb", "--method", "rtn").code == 0
    before = set(place.iterdir())
    result = run("decompress", "large.cwb", f"{ODD}.new.onnx", "--external-data")
    assert (result.code, result.out) == (2, "")
    assert (
        result.err
        == r"error: b\udcff.new.onnx.data: the model holds this name, which is no UTF-8: give another output" + "\n"
    )
    assert set(place.iterdir()) == before
    cwd = Path.cwd()
    os.chdir(cwd.parent)
    large("model.onnx", "weights")
    for name in ("model.onnx", "weights"):
        Path(name).rename(cwd / name)
    os.chdir(cwd)
    result = run("inspect", "model.onnx")
    assert result.code == 2
    assert "the path of its external data is no UTF-8, which ONNX cannot hold: rename the folder" in result.err
