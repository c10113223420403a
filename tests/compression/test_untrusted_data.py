"""Calibration data that cannot be trusted does no harm: the file without data, and one warning that says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import cerwu_onnx
from cerwu_onnx import ModelError, Report, Settings

from ..classifiers import clouds, trained
from ..cli.conftest import Run, run
from ..models import build, normal, value
from ..models import run as run_model

__all__ = ["run"]

MODEL, DATA = trained(), clouds(200, 4)[0]
ONE_CLASS = clouds(4000, 4)[0]
ONE_CLASS = ONE_CLASS[run_model(MODEL, {"x": ONE_CLASS})[0].argmax(axis=1) == 3][:100]


def compressed(folder: Path, x: np.ndarray | None, model: onnx.ModelProto = MODEL, **settings: object) -> Report:
    onnx.save(model, folder / "m.onnx")
    data = None if x is None else {"x": x}
    chosen = Settings(effort="fast", **settings)  # type: ignore[arg-type]
    return cerwu_onnx.compress(folder / "m.onnx", folder / "m.cwb", calib=data, settings=chosen, force=True)


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(DATA[:1], id="one sample"),
        pytest.param(DATA[:2], id="two"),
        pytest.param(0 * DATA, id="zeros"),
        pytest.param(0 * DATA + 1, id="ones"),
        pytest.param(255 * DATA, id="not divided"),
        pytest.param(DATA / 255, id="divided twice"),
        pytest.param(ONE_CLASS, id="one class"),
    ],
)
def test_the_file_without_data_and_one_warning(x: np.ndarray, tmp_path: Path) -> None:
    without = compressed(tmp_path, None)
    report = compressed(tmp_path, x.astype(np.float32))
    (warning,) = report.warnings
    assert ": the model is quantised as without data; give at least 32 different inputs" in warning
    assert "--calib" not in warning
    assert (report.calibration, report.fidelity, report.lambda_) == ("none", None, without.lambda_)
    assert [layer.coded_bytes for layer in report.layers] == [layer.coded_bytes for layer in without.layers]
    with pytest.raises(ModelError, match="strict, so nothing was written: "):
        compressed(tmp_path, x.astype(np.float32), strict=True)


@pytest.mark.parametrize("x", [DATA[:1], DATA[:9], 0 * DATA, ONE_CLASS])
def test_a_model_without_layers_needs_no_data_hence_no_warning(x: np.ndarray, tmp_path: Path) -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"])], [value("x", ["N", 24])], [value("y", ["N", 24])], {})
    report = compressed(tmp_path, x, model)
    assert (report.warnings, report.layers) == ((), ())


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_says_it_once(jobs: int, run: Run, tmp_path: Path) -> None:
    onnx.save(MODEL, tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=normal(3, 24))
    words = ("--lambda", "0.1", "--lambda", "0.2", "--lambda", "0.4", "-j", str(jobs), "-q")
    result = run("sweep", tmp_path / "m.onnx", "--out-dir", tmp_path, "--calib", tmp_path / "x.npz", *words)
    assert result.code == 0
    assert result.err.count("warning: ") == 1
    assert result.err.startswith("warning: 3 calibration samples say less than none: ")
