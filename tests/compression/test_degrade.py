"""Where the default method cannot measure what it wants to, it warns and does with less; only wrong data ends it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cerwu_onnx
from cerwu_onnx.calibration.compared import compared_values
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.model.tensors import constant_tensors

from ..models import build, normal, run, value
from .test_walk_quantizer import squeeze

NODE = helper.make_node
X = {"x": normal(40, 12, seed=2)}


def detector() -> onnx.ModelProto:
    """Boxes and scores of two layers, and the boxes that non-maximum suppression leaves, through a third layer."""
    tensors = {
        "wb": normal(12, 32, seed=3),
        "ws": normal(12, 8, seed=4),
        "wc": normal(4, 5, seed=5),
        "boxes": np.array([1, 8, 4]),
        "scores": np.array([1, 1, 8]),
        "flat": np.array([8, 4]),
        "most": np.array(4),
        "iou": np.float32(0.5),
        "least": np.float32(0),
        "two": np.array([2]),
    }
    nodes = [
        NODE("MatMul", ["x", "wb"], ["b"]),
        NODE("MatMul", ["x", "ws"], ["s"]),
        NODE("Reshape", ["b", "boxes"], ["b3"]),
        NODE("Reshape", ["s", "scores"], ["s3"]),
        NODE("NonMaxSuppression", ["b3", "s3", "most", "iou", "least"], ["chosen"]),
        NODE("Gather", ["chosen", "two"], ["index"], axis=1),
        NODE("Reshape", ["b", "flat"], ["b2"]),
        NODE("GatherND", ["b2", "index"], ["kept"]),
        NODE("MatMul", ["kept", "wc"], ["y"]),
    ]
    return build(nodes, [value("x", [1, 12])], [value("y", ["n", 5])], tensors)


def test_boxes_and_scores_are_compared_instead_of_what_suppression_leaves(tmp_path: Path) -> None:
    model = detector()
    assert compared_values(model) == ["b2", "b3", "s3"]
    done = squeeze(tmp_path, model, X, lambda_=0.02)
    layers = {layer.name: layer for layer in done.report.layers}
    assert layers.keys() == {"wb", "ws", "wc"}
    assert layers["wc"].relative_error < 0.01  # nothing that is compared depends on it: as costly as the costliest
    assert done.report.output_loss is not None
    assert 0 < done.report.output_loss < 0.5
    assert not done.report.warnings


def test_outputs_are_compared_themselves_where_they_can_be() -> None:
    nodes = [NODE("Relu", ["x"], ["a"]), NODE("NonZero", ["a"], ["n"]), NODE("Neg", ["n"], ["z"])]
    model = build(nodes, [value("x", [3])], [value("a", [3]), value("z", None)], {})
    assert compared_values(model) == ["a"]
    del model.graph.output[0]
    assert compared_values(model) == ["a"]
    model.graph.node[1].input[0] = "x"  # the same in any model
    assert compared_values(model) == []


def mlp(last: list[onnx.NodeProto], output: onnx.ValueInfoProto, **tensors: np.ndarray) -> onnx.ModelProto:
    nodes = [NODE("MatMul", ["x", "w"], ["h"]), NODE("Relu", ["h"], ["r"]), NODE("MatMul", ["r", "v"], ["z"]), *last]
    weights = {"w": normal(12, 40, seed=3), "v": normal(40, 20, seed=4)}
    return build(nodes, [value("x", ["N", 12])], [output], {**weights, **tensors}, domains=["own"])


UNMEASURABLE = {
    "NaN": mlp(
        [NODE("Div", ["zero", "zero"], ["n"]), NODE("Mul", ["z", "n"], ["y"])],
        value("y", ["N", 20]),
        zero=np.zeros(1, np.float32),
    ),
    "empty": mlp([NODE("Slice", ["z", "far", "far"], ["y"])], value("y", ["N", 20]), far=np.array([10**6])),
    "text": mlp(
        [NODE("Identity", ["words"], ["y"])], value("y", [2], TensorProto.STRING), words=np.array(["a", "b"], object)
    ),
}


@pytest.mark.parametrize("case", UNMEASURABLE)
def test_all_layers_count_the_same_where_outputs_say_nothing(case: str, tmp_path: Path) -> None:
    done = squeeze(tmp_path, UNMEASURABLE[case], X, lambda_=0.05)
    assert [layer.name for layer in done.report.layers] == ["w", "v"]
    assert all(0 < layer.relative_error < 0.1 for layer in done.report.layers)
    assert done.report.output_loss is None
    assert done.report.calibration == "data"
    assert any("all layers count the same" in warning for warning in done.report.warnings)


@pytest.mark.parametrize("method", ["trellis", "cerwu"])
def test_models_that_onnxruntime_cannot_run_are_quantised_without_data(method: str, tmp_path: Path) -> None:
    model = mlp([NODE("Unheard", ["z"], ["y"], domain="own", secret=3)], value("y", ["N", 20]))
    done = squeeze(tmp_path, model, X, method=method)
    assert [layer.name for layer in done.report.layers] == ["w", "v"]
    assert (done.report.calibration, done.report.calibration_samples) == ("none", 0)
    (warning,) = done.report.warnings
    assert warning.startswith("the calibration data cannot be used: onnxruntime cannot load")
    assert done.after.graph.node[-1].op_type == "Unheard"
    assert done.after.graph.node[-1].attribute[0].i == 3


def test_data_that_does_not_fit_is_still_an_error(tmp_path: Path) -> None:
    onnx.save(mlp([NODE("Neg", ["z"], ["y"])], value("y", ["N", 20])), tmp_path / "m.onnx")
    for wrong in (normal(3, 11), normal(0, 12)):
        with pytest.raises(CalibrationError):
            cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib={"x": wrong}, force=True)


def test_bfloat16_weights_that_are_cast(tmp_path: Path) -> None:
    from cerwu_onnx.model.elements import float_tensor, stored_floats

    model = mlp([NODE("Neg", ["z"], ["y"])], value("y", ["N", 20]))
    for tensor in model.graph.initializer:
        stored = float_tensor(numpy_helper.to_array(tensor), TensorProto.BFLOAT16, f"{tensor.name}16")
        model.graph.node.insert(0, NODE("Cast", [stored.name], [tensor.name], to=TensorProto.FLOAT))
        tensor.CopyFrom(stored)
    done = squeeze(tmp_path, model, X, lambda_=0.01)
    assert {layer.name for layer in done.report.layers} == {"w16", "v16"}
    assert done.loss(X) == pytest.approx(done.report.output_loss, rel=1e-2)
    after = constant_tensors(done.after)
    assert {tensor.data_type for tensor in after.values()} == {TensorProto.BFLOAT16}
    assert stored_floats(after["w16"]).dtype == np.uint16
    assert np.linalg.norm(run(model, X)[0] - run(done.after, X)[0]) < 0.2 * np.linalg.norm(run(model, X)[0])


def test_inputs_of_text_and_token_ids(tmp_path: Path) -> None:
    nodes = [
        NODE(
            "LabelEncoder",
            ["words"],
            ["ids"],
            domain="ai.onnx.ml",
            keys_strings=["a", "b", "c"],
            values_int64s=[0, 1, 2],
        ),
        NODE("Gather", ["table", "ids"], ["e"]),
        NODE("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        NODE("MatMul", ["m", "w"], ["y"]),
    ]
    tensors = {"table": normal(3, 64), "w": normal(64, 10)}
    inputs = [value("words", ["N", 4], TensorProto.STRING)]
    model = build(nodes, inputs, [value("y", ["N", 10])], tensors, domains=["ai.onnx.ml"])
    del model.opset_import[1:]
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    words = np.random.default_rng(0).choice(np.array(["a", "b", "c"]), (20, 4))
    done = squeeze(tmp_path, model, {"words": words}, lambda_=0.01)
    assert {layer.name for layer in done.report.layers} == {"table", "w"}
    assert done.report.calibration_samples == 20
