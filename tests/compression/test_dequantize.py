"""Models that are quantised already, quantised anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import cerwu_onnx
from cerwu_onnx import Settings
from cerwu_onnx.calibration.collect import open_session
from cerwu_onnx.compression.dequantize import with_float_weights
from cerwu_onnx.errors import ModelError
from cerwu_onnx.model.tensors import get_tensor

from ..models import build, constant, normal, value

NODE = helper.make_node
SCALES = np.linspace(0.01, 0.03, 16).astype(np.float32)


def quantised(home: str = "initializer", **attributes: int) -> onnx.ModelProto:
    """A matrix product whose weight ``(24, 16)`` is int8, with a scale for each column, and a quantised input."""
    integers = np.clip(np.rint(40 * normal(24, 16)), -127, 127).astype(np.int8)
    scale = np.float32(0.02) if not attributes else SCALES
    tensors = {"q": integers, "scale": scale, "one": np.float32(0.05), "zero": np.uint8(128)}
    nodes = [
        NODE("QuantizeLinear", ["x", "one", "zero"], ["i"]),
        NODE("DequantizeLinear", ["i", "one", "zero"], ["f"]),
        NODE("DequantizeLinear", ["q", "scale"], ["w"], **attributes),
        NODE("MatMul", ["f", "w"], ["y"]),
    ]
    if home == "node":
        nodes.insert(0, constant("q", tensors.pop("q")))
    return build(nodes, [value("x", ["N", 24])], [value("y", ["N", 16])], tensors)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return open_session(model).run(None, {"x": x})[0]


@pytest.mark.parametrize("home", ["initializer", "node"])
@pytest.mark.parametrize("axis", [None, 1])
def test_floats_take_the_place_of_integers(home: str, axis: int | None) -> None:
    model = quantised(home, **({} if axis is None else {"axis": axis}))
    floats, names = with_float_weights(model)
    onnx.checker.check_model(floats)
    assert names == ("w",)
    integers = get_tensor(model, "q").astype(np.float32)
    np.testing.assert_array_equal(get_tensor(floats, "w"), integers * (np.float32(0.02) if axis is None else SCALES))
    assert [node.op_type for node in floats.graph.node] == ["QuantizeLinear", "DequantizeLinear", "MatMul"]
    assert {tensor.name for tensor in floats.graph.initializer} == {"w", "one", "zero"}
    x = normal(8, 24, seed=3)
    np.testing.assert_allclose(run(floats, x), run(model, x), rtol=1e-5, atol=1e-5)


def test_what_others_read_stays() -> None:
    model = quantised()
    model.graph.node.append(NODE("Identity", ["q"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.INT8, [24, 16]))
    floats, _ = with_float_weights(model)
    assert {tensor.name for tensor in floats.graph.initializer} == {"w", "one", "zero", "q"}


def test_nothing_to_do() -> None:
    model = build([NODE("Relu", ["x"], ["y"])], [value("x", ["N", 2])], [value("y", ["N", 2])], {})
    assert with_float_weights(model) == (model, ())


def test_scales_that_do_not_fit() -> None:
    model = quantised(axis=0)  # 16 scales for 24 rows
    with pytest.raises(ModelError, match="quantised weights cannot be read"):
        with_float_weights(model)


def test_compressed_anew(tmp_path: Path) -> None:
    model, x = quantised(axis=1), normal(200, 24, seed=4)
    onnx.save(model, tmp_path / "m.onnx")
    sizes = {}
    for anew in (False, True):
        file, back = tmp_path / f"{anew}.cwb", tmp_path / f"{anew}.onnx"
        report = cerwu_onnx.compress(
            tmp_path / "m.onnx", file, calib={"x": x}, settings=Settings(requantize=anew, lambda_=0.01)
        )
        assert [layer.name for layer in report.layers] == (["w"] if anew else [])
        cerwu_onnx.decompress(file, back)
        error = np.linalg.norm(run(onnx.load(back), x) - run(model, x)) / np.linalg.norm(run(model, x))
        assert (error == 0) is not anew
        assert error < 0.2
        sizes[anew] = file.stat().st_size
    assert sizes[True] < 0.8 * sizes[False]


def test_a_word_where_there_is_nothing(tmp_path: Path) -> None:
    model = build(
        [NODE("MatMul", ["x", "w"], ["y"])], [value("x", ["N", 24])], [value("y", ["N", 8])], {"w": normal(24, 8)}
    )
    onnx.save(model, tmp_path / "m.onnx")
    report = cerwu_onnx.compress(
        tmp_path / "m.onnx", tmp_path / "m.cwb", calib={"x": normal(50, 24)}, settings=Settings(requantize=True)
    )
    assert any("nothing is quantised again" in warning for warning in report.warnings)
