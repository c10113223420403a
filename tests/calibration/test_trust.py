"""Data that says less than none, and data that a model was not trained for, are told from honest data."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cerwu_onnx.calibration import model_inputs, open_source
from cerwu_onnx.calibration.trust import Doubts, examine

from ..models import build, conv_net, normal, settled, value

PICTURES = {"x": np.random.default_rng(1).uniform(size=(64, 3, 8, 8)).astype(np.float32)}
TRAINED = settled(conv_net(), PICTURES)
PLAIN = build(
    [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", ["N", 6])], [value("y", ["N", 4])], {"w": normal(6, 4)}
)


def doubts(model: onnx.ModelProto, data: object) -> Doubts:
    return examine(model, open_source(data, model_inputs(model)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(normal(1, 6), "1 calibration sample says less than none", id="one"),
        pytest.param(normal(7, 6), "7 calibration samples say less than none", id="seven"),
        pytest.param(
            np.repeat(normal(1, 6), 50, axis=0), "1 different calibration sample says less than none", id="identical"
        ),
        pytest.param(
            np.tile(normal(3, 6), (20, 1)), "3 different calibration samples say less than none", id="repeated"
        ),
        pytest.param(0 * normal(50, 6), "1 different calibration sample says less than none", id="zeros of both signs"),
    ],
)
def test_too_few_different_samples(data: np.ndarray, reason: str) -> None:
    assert doubts(PLAIN, {"x": data}) == Doubts(reason)
    assert doubts(PLAIN, [{"x": row[None]} for row in data]) == Doubts(reason)


@pytest.mark.parametrize("samples", [8, 31, 32, 400])
def test_few_samples_deserve_a_warning(samples: int) -> None:
    few = (f"only {samples} different calibration samples: give a hundred or more",) if samples < 32 else ()
    assert doubts(PLAIN, {"x": normal(samples, 6)}) == Doubts(warnings=few)


def test_samples_differ_in_any_input() -> None:
    nodes = [helper.make_node("Add", ["x", "z"], ["y"])]
    model = build(nodes, [value("x", ["N", 6]), value("z", ["N", 6])], [value("y", ["N", 6])], {})
    same = np.ones((40, 6), np.float32)
    assert doubts(model, {"x": same, "z": normal(40, 6)}) == Doubts()
    assert doubts(model, {"x": same, "z": same}).useless.startswith("1 different")


def test_text_is_compared_by_its_letters() -> None:
    model = build(
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", ["N"], TensorProto.STRING)],
        [value("y", ["N"], TensorProto.STRING)],
        {},
    )
    words = np.array(["".join(["al", "ike"]) for _ in range(40)], object)
    assert doubts(model, {"x": words}).useless.startswith("1 different")
    assert doubts(model, {"x": np.array([f"word {i}" for i in range(40)], object)}) == Doubts()


@pytest.mark.parametrize(
    ("change", "strange"),
    [
        pytest.param(lambda x: x, False, id="honest"),
        pytest.param(lambda x: x[:, :, ::-1], False, id="upside down"),
        pytest.param(lambda x: 1.1 * x, False, id="a little brighter"),
        pytest.param(lambda x: 255 * x, True, id="not divided by 255"),
        pytest.param(lambda x: x / 255, True, id="divided twice"),
        pytest.param(lambda x: x - 1.0, True, id="another mean"),
    ],
)
def test_what_normalisations_saw_in_training(change: object, strange: bool) -> None:
    found = doubts(TRAINED, {"x": change(PICTURES["x"])})  # type: ignore[operator]
    assert found.warnings == ()
    assert found.useless.startswith("the calibration data is not what the model was trained on: in front of 'bn'") == (
        strange
    )
    assert bool(found.useless) == strange


def test_normalisations_of_computed_statistics_say_nothing() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(TRAINED)
    model.graph.node.insert(1, helper.make_node("Abs", ["bn.v"], ["positive"]))
    model.graph.node[2].input[4] = "positive"
    assert doubts(model, {"x": 255 * PICTURES["x"]}) == Doubts()
