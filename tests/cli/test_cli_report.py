"""``cerwu-onnx report``, ``compare`` and ``compress --report``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from cerwu_onnx import Settings
from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.evaluate.culprits import find_culprits

from .conftest import Run, small_model


def test_report_writes_what_the_suffixes_say(run: Run, cwb: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / name for name in ("r.html", "r.md", "r.json")]
    result = run("report", cwb, *outputs)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert outputs[0].read_text(encoding="utf-8").startswith("<!doctype html>")
    assert outputs[1].read_text(encoding="utf-8").startswith("## `model.cwb`\n")
    assert json.loads(outputs[2].read_text(encoding="utf-8"))["file_bytes"] == cwb.stat().st_size
    again = run("report", cwb, *outputs)
    assert (again.code, again.out) == (2, "")
    assert "exists" in again.err
    assert run("report", cwb, *outputs, "-f").code == 0


def test_report_prints_markdown(run: Run, cwb: Path) -> None:
    result = run("report", cwb)
    assert result.code == 0
    assert "| `fc.weight` | Gemm | 10×432 | 4,320 |" in result.out


def test_report_of_something_else(run: Run, model: Path, cwb: Path, tmp_path: Path) -> None:
    assert run("report", model).code == 4
    assert run("report", tmp_path / "none.cwb").code == 2
    result = run("report", cwb, tmp_path / "r.pdf")
    assert result.code == 2
    assert ".html" in result.err


def test_compress_reports(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    arguments = ["compress", model, tmp_path / "o.cwb", "--calib", calib, "--method", "rtn"]
    html, data = tmp_path / "r.html", tmp_path / "r.json"
    result = run(*arguments, "--report", html, "--report", data, "--json")
    assert result.code == 0, result.err
    assert json.loads(data.read_text(encoding="utf-8")) == json.loads(result.out)
    assert "output error" in html.read_text(encoding="utf-8")
    late = run(*arguments, "-f", "--report", tmp_path / "r.txt")
    assert late.code == 2
    assert "suffix" in late.err


@pytest.fixture
def spoilt(tmp_path: Path, calib: Path) -> tuple[Path, Path]:
    """A model of which one layer suffers: two levels for its many weights, while the other is reproduced exactly."""
    model = small_model()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "conv.weight")
    signs = np.sign(np.random.default_rng(3).normal(size=(12, 2, 3, 3))).astype(np.float32)
    weight.CopyFrom(onnx.numpy_helper.from_array(signs, weight.name))
    onnx.save(model, tmp_path / "spoilt.onnx")
    settings = Settings(method="rtn", levels=4, float_params="exact")
    compress(tmp_path / "spoilt.onnx", tmp_path / "spoilt.cwb", calib=calib, settings=settings)
    return tmp_path / "spoilt.onnx", tmp_path / "spoilt.cwb"


def test_compare_finds_the_culprit(run: Run, spoilt: tuple[Path, Path], calib: Path) -> None:
    result = run("compare", *spoilt, "--data", calib, "--json")
    assert result.code == 0, result.err
    body = json.loads(result.out)
    assert body["schema"] == 1
    assert [layer["name"] for layer in body["layers"]] == ["fc.weight"]  # the other is exact: no suspect
    (layer,) = body["layers"]
    assert layer["alone"] == pytest.approx(body["lost"]) != 0
    assert layer["error"] == pytest.approx(body["outputs"][0]["relative"])
    shown = run("compare", *spoilt, "--data", calib).out
    assert "fc.weight" in shown
    assert "conv.weight" not in shown


def test_compare_measures_what_it_says(model: Path, cwb: Path, calib: Path) -> None:
    found = find_culprits(model, cwb, calib)
    assert {layer.name for layer in found.layers} == {"conv.weight", "fc.weight"}
    assert [layer.alone for layer in found.layers] == sorted((layer.alone for layer in found.layers), reverse=True)
    last = next(layer for layer in found.layers if layer.name == "fc.weight")
    assert last.error == pytest.approx(found.outputs[0].relative, rel=1e-4)  # its output is the model's
    assert found.lost > 0


def test_compare_by_a_metric_with_labels(run: Run, model: Path, cwb: Path, calib: Path, tmp_path: Path) -> None:
    arrays = np.load(calib)
    data = tmp_path / "test.npz"
    np.savez(data, x=arrays["x"], labels=np.arange(40) % 10)
    for metric in ("top1", "agreement"):
        result = run("compare", model, cwb, "--data", data, "--metric", metric, "--json")
        assert result.code == 0, result.err
        body = json.loads(result.out)
        assert body["metric"] == metric
        assert all(abs(layer["alone"] * 40 - round(layer["alone"] * 40)) < 1e-9 for layer in body["layers"])
        if metric == "agreement":
            assert body["lost"] == pytest.approx(1 - body["outputs"][0]["agreement"])


def test_compare_follows_folding(run: Run, calib: Path, tmp_path: Path) -> None:
    onnx.save(small_model(batch_norm=True), tmp_path / "m.onnx")
    settings = Settings(method="cerwu", fold_bn=True)
    assert compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib=calib, settings=settings).folded
    found = find_culprits(tmp_path / "m.onnx", tmp_path / "m.cwb", calib)
    assert {layer.name for layer in found.layers} == {"conv.weight", "fc.weight"}
    assert all(layer.error < 0.3 for layer in found.layers)


def test_compare_with_another_model(run: Run, cwb: Path, calib: Path, tmp_path: Path) -> None:
    onnx.save(small_model(suffix=".other"), tmp_path / "other.onnx")
    result = run("compare", tmp_path / "other.onnx", cwb, "--data", calib)
    assert result.code == 1
    assert "not of this model" in result.err
