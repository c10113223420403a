"""Models that one of onnx.checker and onnxruntime refuses."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.errors import ModelError
from cerwu_onnx.model.loading import load_model
from cerwu_onnx.runtime import compare

from ..models import build, normal, value


def layer_norm(op: str = "SimplifiedLayerNormalization", *, reverse: bool = False) -> onnx.ModelProto:
    """MatMul, then an operator of ONNX's domain that onnxruntime knows and ONNX does not, then MatMul."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node(op, ["a", "s"], ["b"], name="norm", axis=-1, epsilon=1e-5),
        helper.make_node("MatMul", ["b", "v"], ["y"], name="second"),
    ]
    tensors = {"w": normal(16, 64), "s": np.ones(64, np.float32), "v": normal(64, 16, seed=1)}
    return build(nodes[::-1] if reverse else nodes, [value("x", ["N", 16])], [value("y", ["N", 16])], tensors)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_what_onnxruntime_loads_goes_through(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cerwu_onnx")
    path, data = saved(layer_norm(), tmp_path), {"x": normal(64, 16, seed=2)}
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(str(path))
    report = compress(path, tmp_path / "m.cwb", calib=data)
    assert {layer.name for layer in report.layers} == {"w", "v"}
    assert "onnx.checker refuses the model, but onnxruntime loads it: No Op registered" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert compare(tmp_path / "m.cwb", path, data)[0].relative < 0.3


def test_a_graph_without_a_name(tmp_path: Path) -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"])], [value("x", ["N"])], [value("y", ["N"])], {})
    model.graph.name = ""
    assert load_model(saved(model, tmp_path)).graph.node[0].op_type == "Relu"


@pytest.mark.parametrize(
    "model",
    [layer_norm("NoSuchNormalization"), layer_norm(reverse=True), layer_norm("Relu")],
    ids=["op", "order", "in"],
)
def test_what_neither_takes_is_refused(tmp_path: Path, model: onnx.ModelProto) -> None:
    with pytest.raises(ModelError, match=r"onnx.checker refuses the model"):
        load_model(saved(model, tmp_path))
