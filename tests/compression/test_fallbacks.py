"""Whatever is done with less than was asked for is warned of, kept in the report, and refused by ``strict``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import cerwu_onnx
from cerwu_onnx import ModelError, Settings
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.quantize import hessian

from ..models import build, normal, value
from .test_degrade import UNMEASURABLE, mlp

NODE = helper.make_node
DATA = {"x": normal(40, 12, seed=2)}
Patch = Callable[[pytest.MonkeyPatch], None]


def plain() -> onnx.ModelProto:
    return mlp([NODE("Neg", ["z"], ["y"])], value("y", ["N", 20]))


def of_a_fixed_batch() -> onnx.ModelProto:
    model = plain()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 16
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 16
    return model


def starved() -> onnx.ModelProto:
    """A layer that no row of the input reaches."""
    nodes = [
        NODE("Slice", ["x", "zero", "zero", "zero"], ["none"]),
        NODE("MatMul", ["none", "u"], ["rows"]),
        NODE("MatMul", ["x", "w"], ["y"]),
    ]
    tensors = {"u": normal(12, 20, seed=5), "w": normal(12, 20, seed=6), "zero": np.array([0])}
    return build(nodes, [value("x", ["N", 12])], [value("rows"), value("y", ["N", 20])], tensors)


def with_nan() -> onnx.ModelProto:
    model = plain()
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, model.graph.initializer[0].name))
    return model


def odd_norm() -> onnx.ModelProto:
    """A BatchNormalization whose folding random inputs of free axes do not fit to check."""
    nodes = [NODE("Conv", ["x", "w"], ["c"]), NODE("BatchNormalization", ["c", "s", "t", "m", "v"], ["y"])]
    tensors = {"w": normal(8, 4, 3, 3), **{name: np.ones(8, np.float32) for name in "stmv"}}
    return build(nodes, [value("x", [1, 4, "H", "W"])], [value("y", [1, 8, "H", "W"])], tensors)


def nothing(_: pytest.MonkeyPatch) -> None:
    """Leave all as it is."""


COLUMNS = 12
"""Of ``w``."""


def failing(times: int) -> Patch:
    """A layer ``w`` whose Hessian does not factorise at first."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        calls, factor = [], hessian.inverse_factor

        def inverse_factor(matrix: Any) -> Any:
            if matrix.shape[-1] == COLUMNS:
                calls.append(1)
                if len(calls) <= times:
                    raise np.linalg.LinAlgError
            return factor(matrix)

        monkeypatch.setattr(hessian, "inverse_factor", inverse_factor)

    return patch


def immeasurable_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise on the quantised model gives no numbers."""

    def measure(*_: Any) -> Any:
        raise CalibrationError("infinite")

    monkeypatch.setattr("cerwu_onnx.compression.walk_quantizer.noise_sensitivity", measure)


def lossless_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*_: Any) -> float:
        raise CalibrationError("infinite")

    monkeypatch.setattr("cerwu_onnx.compression.layer_walk.output_loss", compare)


FAST, MAX = {"effort": "fast"}, {"effort": "max"}
CASES: dict[str, tuple[Callable[[], onnx.ModelProto], Any, dict[str, Any], Patch, str]] = {
    "no data": (plain, None, FAST, nothing, "no calibration data: every input counts the same"),
    "damping once": (plain, DATA, {"method": "optq"}, failing(1), "layer w: the Hessian does not factorise"),
    "damping of the trellis": (plain, DATA, FAST, failing(2), "layer w: the Hessian does not factorise"),
    "no damping": (plain, DATA, {"method": "cerwu"}, failing(5), "layer w: the Hessian never factorised"),
    "no damping of the trellis": (plain, DATA, FAST, failing(5), "layer w: the Hessian never factorised"),
    "no loss": (lambda: UNMEASURABLE["NaN"], DATA, FAST, nothing, "all layers count the same"),
    "no loss later": (plain, DATA, FAST, lossless_unknown, "the loss at the model's outputs is unknown"),
    "no second noise": (
        plain,
        DATA,
        {"effort": "max"},
        immeasurable_later,
        "what errors cost is measured only at the float model",
    ),
    "layers without rows": (starved, DATA, {"method": "optq"}, nothing, "layer 'u' saw no calibration data"),
    "samples left over": (of_a_fixed_batch, DATA, FAST, nothing, "the last 8 of 40 calibration samples are not used"),
    "weights with NaN": (with_nan, None, FAST, nothing, "weight 'w' holds NaN or infinity"),
    "norms that are not folded": (odd_norm, None, FAST, nothing, "BatchNormalization is not folded"),
    "half of a layer lost": (plain, DATA, {"method": "cerwu", "levels": 2}, nothing, "layer w loses"),
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", CASES)
def test_warned_of_and_refused_by_strict(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, data, options, patch, message = CASES[name]
    onnx.save(make(), tmp_path / "m.onnx")
    out = tmp_path / "m.cwb"
    with monkeypatch.context() as context:
        patch(context)
        report = cerwu_onnx.compress(tmp_path / "m.onnx", out, calib=data, settings=Settings(**options))
    assert any(message in warning for warning in report.warnings), report.warnings
    assert tuple(report.to_dict()["warnings"]) == report.warnings
    cerwu_onnx.open(out).verify()
    out.unlink()
    with monkeypatch.context() as context:
        patch(context)
        with pytest.raises(ModelError, match="strict, so nothing was written: ") as caught:
            cerwu_onnx.compress(tmp_path / "m.onnx", out, calib=data, settings=Settings(**options, strict=True))
    assert caught.value.exit_code == 3
    assert report.warnings[0] in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_damping_is_reported_for_each_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(plain(), tmp_path / "m.onnx")
    found = {}
    for times in (0, 2):
        with monkeypatch.context() as context:
            failing(times)(context)
            report = cerwu_onnx.compress(
                tmp_path / "m.onnx", tmp_path / "m.cwb", calib=DATA, settings=Settings(method="optq"), force=True
            )
        found[times] = {layer["name"]: layer["damping"] for layer in report.to_dict()["layers"]}
        assert len(report.warnings) == times
    assert found == {0: {"w": 0.01, "v": 0.01}, 2: {"w": 1.0, "v": 0.01}}
