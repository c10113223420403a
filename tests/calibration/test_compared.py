"""What a model is compared by where its outputs are decisions: the numbers that they are made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import cerwu_onnx
from cerwu_onnx.calibration import answers_of
from cerwu_onnx.calibration.compared import class_scores, compared_values

from ..models import build, normal, run, value

NODE = helper.make_node
INTEGERS, BOOLEANS = TensorProto.INT64, TensorProto.BOOL


def mapped(name: str) -> onnx.ValueInfoProto:
    """An output that is a sequence of maps from labels to probabilities."""
    inner = helper.make_map_type_proto(INTEGERS, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    return onnx.ValueInfoProto(name=name, type=helper.make_sequence_type_proto(inner))


LABEL = [NODE("ArgMax", ["logits"], ["label"], axis=1, keepdims=0)]
MAP = [
    NODE("Softmax", ["logits"], ["p"]),
    NODE("ZipMap", ["p"], ["map"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]),
]
CASES = {
    "a label": (LABEL, [value("label", ["N"], INTEGERS)], ["logits"], {"logits": ("label", 1)}),
    "a label in a float": (
        [*LABEL, NODE("Cast", ["label"], ["y"], to=1)], [value("y", ["N"])], ["logits"], {"logits": ("label", 1)},
    ),
    "the largest": (
        [NODE("Softmax", ["logits"], ["p"]), NODE("TopK", ["p", "two"], ["best", "index"])],
        [value("best", ["N", 2]), value("index", ["N", 2], INTEGERS)],
        ["p"],
        {},
    ),
    "boxes of the largest": (
        [NODE("TopK", ["logits", "two"], ["best", "index"]), NODE("GatherElements", ["boxes", "index"], ["y"], axis=1)],
        [value("y", ["N", 2]), value("best", ["N", 2])],
        ["boxes", "logits"],
        {},
    ),
    "a layer of the largest": (
        [NODE("TopK", ["logits", "two"], ["best", "index"]), NODE("MatMul", ["best", "u"], ["y"])],
        [value("y", ["N", 3])],
        ["y"],
        {},
    ),
    "a name": (
        [*LABEL, NODE("Gather", ["names", "label"], ["y"])],
        [value("y", ["N"], INTEGERS)],
        ["logits"],
        {"logits": ("label", 1)},
    ),
    "a map": (MAP, [mapped("map")], ["p"], {}),
    "a label and a map": (
        [*LABEL, *MAP], [value("label", ["N"], INTEGERS), mapped("map")], ["logits", "p"], {"logits": ("label", 1)},
    ),
    "a label of probabilities": (
        [NODE("Softmax", ["logits"], ["p"]), NODE("ArgMax", ["p"], ["label"], axis=-1)],
        [value("label", ["N", 1], INTEGERS)],
        ["p"],
        {},
    ),
    "a threshold": (
        [NODE("Greater", ["logits", "half"], ["y"])], [value("y", ["N", 3], BOOLEANS)], ["logits"], {},
    ),
    "text": (
        [NODE("Cast", ["logits"], ["y"], to=TensorProto.STRING)],
        [value("y", ["N", 3], TensorProto.STRING)],
        ["logits"],
        {},
    ),
    "bytes": (
        [NODE("Cast", ["logits"], ["y"], to=TensorProto.UINT8)],
        [value("y", ["N", 3], TensorProto.UINT8)],
        ["logits"],
        {},
    ),
    "a label beside numbers": (
        LABEL, [value("label", ["N"], INTEGERS), value("logits", ["N", 3])], ["label", "logits"], {},
    ),
}  # fmt: skip


def model_of(nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    tensors = {
        "w": normal(20, 64, seed=1),
        "v": 0.2 * normal(64, 3, seed=2),
        "names": np.array([7, 8, 9]),
        "u": normal(2, 3, seed=3),
        "half": np.float32(0.5),
        "two": np.array([2]),
    }
    layers = [
        NODE("MatMul", ["x", "w"], ["h"]),
        NODE("Relu", ["h"], ["r"]),
        NODE("MatMul", ["r", "v"], ["logits"]),
        NODE("Neg", ["logits"], ["boxes"]),
    ]
    return build([*layers, *nodes], [value("x", ["N", 20])], outputs, tensors, domains=["ai.onnx.ml"])


@pytest.mark.parametrize("name", CASES)
def test_what_takes_the_place_of_decisions(name: str) -> None:
    nodes, outputs, compared, scores = CASES[name]
    model = model_of(nodes, outputs)
    assert compared_values(model) == compared
    assert class_scores(model) == scores


def test_decisions_without_numbers_are_compared_themselves() -> None:
    nodes = [NODE("Equal", ["x", "x"], ["y"])]
    assert compared_values(build(nodes, [value("x", [3])], [value("y", [3], BOOLEANS)], {})) == ["y"]


@pytest.mark.parametrize("name", ["a label", "a map", "a label in a float"])
def test_the_default_keeps_the_answers_of_a_model_that_gives_only_them(name: str, tmp_path: Path) -> None:
    """Compared by labels alone, the search found the largest lambda, where one answer of ten flips."""
    nodes, outputs, *_ = CASES[name]
    model = model_of(nodes, outputs)
    onnx.save(model, tmp_path / "m.onnx")
    data = {"x": normal(96, 20, seed=3)}
    report = cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib=data)
    assert report.fidelity is not None
    assert report.fidelity.same is not None
    assert report.lambda_ is not None
    assert report.lambda_ < 1
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    rebuilt = cerwu_onnx.decompress(tmp_path / "m.cwb")
    changed = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in rebuilt.graph.initializer}
    fresh = normal(2000, 20, seed=4)
    answers = [(np.maximum(fresh @ of["w"], 0) @ of["v"]).argmax(axis=1) for of in (weights, changed)]
    assert (answers[0] == answers[1]).mean() > 0.93


def test_maps_are_compared_by_their_values(tmp_path: Path) -> None:
    """They were taken for something without numbers, and their error shown as 0."""
    nodes, outputs, *_ = CASES["a label and a map"]
    onnx.save(model_of(nodes, outputs), tmp_path / "m.onnx")
    cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", settings=cerwu_onnx.Settings(lambda_=0.5))
    data = {"x": normal(50, 20, seed=5)}
    label, mapped = cerwu_onnx.compare(tmp_path / "m.cwb", tmp_path / "m.onnx", data)
    assert (label.name, mapped.name) == ("label", "map")
    assert 0 < mapped.relative < 1
    assert 0 < mapped.largest < 1
    assert mapped.agreement is not None


SCALED = [NODE("Slice", ["x", "begin", "end", "axis"], ["last"]), NODE("Sub", ["x", "last"], ["apart"])]
CORRECTED = [
    NODE("MatMul", ["apart", "w"], ["h"]), NODE("Relu", ["h"], ["r"]), NODE("MatMul", ["r", "v"], ["more"]),
]  # fmt: skip
CORRECTIONS = {
    "a sum": ([NODE("Add", ["last", "more"], ["y"])], "more"),
    "a difference": ([NODE("Sub", ["last", "more"], ["y"])], "more"),
    "the other way round": ([NODE("Add", ["more", "last"], ["y"])], "more"),
    "a sum that is cut off": ([NODE("Add", ["last", "more"], ["s"]), NODE("Clip", ["s", "least"], ["y"])], "more"),
    "a sum with a bias": ([NODE("Add", ["more", "least"], ["y"])], "y"),
    "a sum of weighed input": ([NODE("MatMul", ["x", "u"], ["s"]), NODE("Add", ["s", "more"], ["y"])], "y"),
    "a product": ([NODE("Mul", ["last", "more"], ["y"])], "y"),
}


def correcting(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """Takes the last value of a series away before two layers, and ``nodes`` after them."""
    tensors = {
        "w": normal(24, 48, seed=6),
        "v": 0.02 * normal(48, 6, seed=7),
        "u": normal(24, 6, seed=8),
        "least": np.float32(-1e6),
        **{name: np.array([at]) for name, at in (("begin", 23), ("end", 24), ("axis", 1))},
    }
    return build([*SCALED, *CORRECTED, *nodes], [value("x", ["N", 24])], [value("y", ["N", 6])], tensors)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_what_takes_the_place_of_corrected_input(name: str) -> None:
    nodes, compared = CORRECTIONS[name]
    assert compared_values(correcting(nodes)) == [compared]


def test_the_default_keeps_corrections_of_values_that_vary_far_more(tmp_path: Path) -> None:
    """An error of a tenth of the outputs' variation was larger than all that the layers add."""
    model = correcting(CORRECTIONS["a sum"][0])
    onnx.save(model, tmp_path / "m.onnx")

    def series(samples: int, seed: int) -> dict[str, np.ndarray]:
        return {"x": normal(samples, 24, seed=seed) + 30 * normal(samples, 1, seed=seed + 1)}

    cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib=series(128, 10))
    fresh = series(1000, 12)
    (before,), (after,) = (run(each, fresh) for each in (model, cerwu_onnx.decompress(tmp_path / "m.cwb")))
    error = (after - before).std(axis=0) / (before - fresh["x"][:, -1:]).std(axis=0)
    assert error.max() < 0.15


@pytest.mark.parametrize(("joined", "kind"), [(True, "mse"), (False, "kl")])
def test_logits_and_boxes_side_by_side_are_numbers(joined: bool, kind: str) -> None:
    """Their values alone look like logits, whose loss hardly sees an error of a box."""
    logits, boxes = 4 * normal(24, 6, seed=1), 0.1 * normal(24, 4, seed=2)
    logits -= logits.mean(axis=1, keepdims=True)
    boxes -= boxes.mean(axis=1, keepdims=True)
    apart = [NODE("MatMul", ["x", "w"], ["a"]), NODE("MatMul", ["x", "v"], ["b"])]
    nodes = [*apart, NODE("Concat", ["a", "b"], ["c"], axis=-1), NODE("Identity", ["c"], ["y"])]
    tensors = {"w": logits, "v": boxes}
    if not joined:
        nodes, tensors = [NODE("MatMul", ["x", "w"], ["y"])], {"w": np.concatenate([logits, boxes], axis=1)}
    model = build(nodes, [value("x", ["N", 24])], [value("y", ["N", 10])], tensors)
    outputs = {"y": run(model, {"x": normal(64, 24, seed=3)})}
    answer = answers_of(outputs, model)["y"]
    assert answer.kind == kind
    assert len(answer.variance) == (10 if joined else 1)
    assert answers_of(outputs, model, "kl")["y"].kind == "kl"
