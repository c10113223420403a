"""Weights inside bodies, in local functions, behind other nodes: found, quantised, and the model stays the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cerwu_onnx.model.graph import analyse
from cerwu_onnx.model.inline import flattened
from cerwu_onnx.model.loading import load_model
from cerwu_onnx.model.tensors import constant_tensors

from ..compression.test_walk_quantizer import squeeze
from ..models import build, constant, normal, run, value

NODE = helper.make_node
X = {"x": normal(40, 16, seed=9)}


def branch(name: str, weight: str, *, nested: bool = False) -> onnx.GraphProto:
    """x times a weight of its own; nested: inside an If of its own, whose other branch returns the weight's product."""
    tensors = [numpy_helper.from_array(normal(16, 16, seed=len(name)) / 4, weight)]
    nodes = [NODE("MatMul", ["x", weight], [f"{name}.y"], name=f"{name}.mm")]
    if nested:
        inner = helper.make_graph([NODE("MatMul", ["x", weight], ["in.y"])], "inner", [], [value("in.y")])
        other = helper.make_graph([constant("in.y2", normal(1, 16))], "other", [], [value("in.y2")])
        nodes = [NODE("If", ["flag"], [f"{name}.y"], then_branch=inner, else_branch=other)]
    return helper.make_graph(nodes, name, [], [value(f"{name}.y")], tensors)


def with_if(*, nested: bool = False) -> onnx.ModelProto:
    nodes = [
        constant("flag", np.array(True)),
        NODE(
            "If",
            ["flag"],
            ["t"],
            name="if",
            then_branch=branch("then", "w", nested=nested),
            else_branch=branch("e", "w"),
        ),
        NODE("MatMul", ["t", "v"], ["y"], name="last"),
    ]
    return build(nodes, [value("x", ["N", 16])], [value("y", ["N", 8])], {"v": normal(16, 8)})


def with_loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [
            constant("u", normal(16, 16, seed=3) / 4),
            NODE("MatMul", ["h", "u"], ["m"]),
            NODE("Tanh", ["m"], ["h2"]),
            NODE("Identity", ["go"], ["go2"]),
        ],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("h", ["N", 16])],
        [value("go2", [], TensorProto.BOOL), value("h2", ["N", 16])],
    )
    nodes = [NODE("Loop", ["n", "", "x"], ["y"], name="loop", body=body)]
    return build(nodes, [value("x", ["N", 16])], [value("y", ["N", 16])], {"n": np.array(3)})


def with_functions(*, given: bool = False) -> onnx.ModelProto:
    """Two calls of a function with a weight of its own, or of one that is given the weight."""
    opset = [helper.make_opsetid("", 17)]
    inner = [NODE("MatMul", ["a", "k"], ["m"]), NODE("Relu", ["m"], ["b"])]
    if given:
        function = helper.make_function("own", "Dense", ["a", "k"], ["b"], inner, opset)
    else:
        function = helper.make_function(
            "own", "Dense", ["a"], ["b"], [constant("k", normal(16, 16) / 4), *inner], opset
        )
    weight = ["w"] if given else []
    nodes = [NODE("Dense", ["x", *weight], ["t"], domain="own"), NODE("Dense", ["t", *weight], ["y"], domain="own")]
    tensors = {"w": normal(16, 16) / 4} if given else {}
    return build(
        nodes, [value("x", ["N", 16])], [value("y", ["N", 16])], tensors, functions=[function], domains=["own"]
    )


def with_moves() -> onnx.ModelProto:
    nodes = [
        NODE("Transpose", ["w"], ["wt"], perm=[1, 0]),
        NODE("Transpose", ["v"], ["vt"], perm=[1, 0]),
        NODE("MatMul", ["x", "wt"], ["h"]),
        NODE("Add", ["h", "b"], ["hb"]),
        NODE("Relu", ["hb"], ["r"]),
        NODE("MatMul", ["r", "vt"], ["y"]),
    ]
    tensors = {"w": normal(24, 16) / 4, "b": normal(24), "v": normal(8, 24, seed=4) / 5}
    return build(nodes, [value("x", ["N", 16])], [value("y", ["N", 8])], tensors)


def tied() -> onnx.ModelProto:
    """A table that is looked up, multiplied with, and a position table that is added."""
    nodes = [
        NODE("Gather", ["table", "ids"], ["e"]),
        NODE("Add", ["e", "positions"], ["h"]),
        NODE("Transpose", ["table"], ["wt"], perm=[1, 0]),
        NODE("MatMul", ["h", "wt"], ["y"]),
    ]
    tensors = {"table": normal(50, 16), "positions": normal(20, 16, seed=1)}
    return build(nodes, [value("ids", ["N", 20], TensorProto.INT64)], [value("y", ["N", 20, 50])], tensors)


IDS = {"ids": np.random.default_rng(0).integers(0, 50, (32, 20))}
CASES: dict[str, tuple[onnx.ModelProto, dict[str, np.ndarray], set[str]]] = {
    "branches": (with_if(), X, {"w", "w_", "v"}),
    "nested branches": (with_if(nested=True), X, {"w", "w_", "v"}),
    "loop": (with_loop(), X, {"u"}),
    "function's weight": (with_functions(), X, {"k"}),
    "given weight": (with_functions(given=True), X, {"w"}),
    "moves": (with_moves(), X, {"w", "v"}),
    "tied": (tied(), IDS, {"table", "positions"}),
}


@pytest.mark.parametrize("data", ["calibrated", "data-free"])
@pytest.mark.parametrize("case", CASES)
def test_weights_are_found_and_the_model_stays_the_same(case: str, data: str, tmp_path: Path) -> None:
    model, feed, weights = CASES[case]
    done = squeeze(tmp_path, model, feed if data == "calibrated" else None, lambda_=1e-6)
    found = {layer.name for layer in done.report.layers}
    if case == "function's weight":  # the inliner names it
        assert len(found) == len(weights)
    else:
        assert found == weights
    assert not done.report.warnings or data == "data-free"
    assert not done.after.functions
    for before, after in zip(run(model, feed), run(done.after, feed), strict=True):
        assert np.linalg.norm(before - after) < 0.01 * np.linalg.norm(before)
    if data == "calibrated":
        assert done.loss(feed) == pytest.approx(done.report.output_loss, rel=1e-2, abs=1e-12)


def test_sequential_statistics_reach_weights_that_are_transposed_first() -> None:
    """Both are transposed before anything runs; still the second sees what the first one does."""
    from cerwu_onnx.calibration import open_source, walk
    from cerwu_onnx.model.tensors import model_inputs

    model = with_moves()
    steps = [step for step in walk(analyse(model), open_source(X, model_inputs(model))) if step.layers]
    assert [layer.weight for step in steps for layer in step.layers] == ["w", "v"]
    assert all(step.stats[layer.weight].positions == 40 for step in steps for layer in step.layers)
    steps = []
    for step in walk(analyse(model), open_source(X, model_inputs(model))):
        steps.append(step)
        if step.layers and step.layers[0].weight == "w":
            step.commit({"w": np.zeros((24, 16), np.float32)})
    missing = steps[1].stats["v"].missing  # what v makes of the inputs that it had before
    assert missing is not None
    assert np.abs(missing).max() > 0.01


def test_small_constants_and_functions_without_weights_stay_where_they_are() -> None:
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Twice", ["a"], ["b"], [NODE("Add", ["a", "a"], ["b"])], opset)
    model = build(
        [NODE("Twice", ["x"], ["y"], domain="own")], [value("x", [2])], [value("y", [2])], {},
        functions=[function], domains=["own"],
    )  # fmt: skip
    assert flattened(model).functions
    loop = with_loop()
    loop.graph.node[0].attribute[0].g.node[0].CopyFrom(constant("u", normal(4, 4)))
    before = loop.SerializeToString()
    assert flattened(loop).SerializeToString() == before


@pytest.mark.parametrize("change", [lambda g: g.input.append(value("w")), lambda g: g.output.append(value("w"))])
def test_what_a_body_returns_or_is_given_stays_its_own(change: Callable[[onnx.GraphProto], None]) -> None:
    model = with_if()
    for attribute in model.graph.node[1].attribute:
        change(attribute.g)
    before = model.SerializeToString()
    assert flattened(model).SerializeToString() == before


def test_names_stay_where_only_one_body_has_them(tmp_path: Path) -> None:
    onnx.save(with_loop(), tmp_path / "m.onnx")
    assert "u" in constant_tensors(load_model(tmp_path / "m.onnx"))


def test_a_name_that_an_inner_body_defines_anew_means_the_inner_one() -> None:
    model = with_if()
    outer = next(attribute.g for attribute in model.graph.node[1].attribute if attribute.name == "then_branch")
    branches = {
        side: helper.make_graph(
            [NODE("Mul", ["then.y", "w"], [f"{side}.z"])],
            side,
            [],
            [value(f"{side}.z", None)],
            [numpy_helper.from_array(normal(16, seed=5), "w")],
        )
        for side in ("then_branch", "else_branch")
    }
    outer.node.append(NODE("If", ["flag"], ["z"], **branches))
    outer.output[0].name = "z"
    before = run(model, X)
    np.testing.assert_array_equal(run(flattened(model), X), before)
