"""Data that is too little, always the same, or not what a model was trained on, is told from honest data."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cerwu_onnx.calibration import model_inputs, open_source
from cerwu_onnx.calibration.trust import FEW, FEWEST, Doubts, examine

from ..models import build, conv_net, normal, settled, value

NOISE = np.random.default_rng(1).uniform(size=(64, 3, 8, 8)).astype(np.float32)
PICTURES = {"x": (NOISE + NOISE[:, :, :1, :1]) / 2}
TRAINED = settled(conv_net(), PICTURES)
PLAIN = build(
    [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", ["N", 6])], [value("y", ["N", 4])], {"w": normal(6, 4)}
)
STRANGE = "the calibration data is not what the model was trained on: in front of "
HONEST = 1 + 2 * normal(64, 6)
"""What :func:`normed` saw in training."""


def normed(*, variance: float = 4.0, epsilon: float = 1e-5) -> onnx.ModelProto:
    """A BatchNormalization that saw inputs of mean 1 and this variance."""
    one = np.ones(6, np.float32)
    tensors = {"s": one, "b": 0 * one, "m": one, "v": (variance - epsilon) * one}
    node = helper.make_node("BatchNormalization", ["x", *tensors], ["y"], name="norm", epsilon=epsilon)
    return build([node], [value("x", ["N", 6])], [value("y", ["N", 6])], tensors)


def doubts(model: onnx.ModelProto, data: object) -> Doubts:
    return examine(model, open_source(data, model_inputs(model)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(normal(1, 6), "1 calibration sample says less than none", id="one"),
        pytest.param(normal(FEWEST - 1, 6), f"{FEWEST - 1} calibration samples say less than none", id="nearly enough"),
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


@pytest.mark.parametrize("samples", [FEWEST, FEW - 1, FEW, 400])
def test_few_samples_deserve_a_warning(samples: int) -> None:
    few = (f"only {samples} different calibration samples: give a hundred or more",) if samples < FEW else ()
    assert doubts(PLAIN, {"x": normal(samples, 6)}) == Doubts(warnings=few)


def test_samples_within_feeds_are_told_apart() -> None:
    assert doubts(PLAIN, [{"x": normal(2, 6)}] * 40) == Doubts("2 different calibration samples say less than none")
    assert doubts(PLAIN, [{"x": normal(1, 6, seed=seed)} for seed in range(FEW)]) == Doubts()


def test_series_beside_their_initial_state_are_samples() -> None:
    """Each feed is one series: 64 windows were enough to look at, and that was a single feed."""
    node = helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Add", ["z", "s"], ["y"])
    model = build([*node], [value("x", ["T", 6]), value("s", [1, 4])], [value("y", ["T", 4])], {"w": normal(6, 4)})
    series = [{"x": normal(100, 6, seed=seed), "s": np.zeros((1, 4), np.float32)} for seed in range(FEW)]
    assert doubts(model, series) == Doubts()


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
    assert found.useless.startswith(f"{STRANGE}'bn'") == strange
    assert bool(found.useless) == strange


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: x * 255, id="another scale"),
        pytest.param(lambda x: x + 2, id="a shift alone"),
        pytest.param(lambda x: 1 + (x - 1) / 8, id="a narrow spread alone"),
        pytest.param(lambda x: 1 + (x - 1) * 3, id="a wide spread alone"),
        pytest.param(lambda x: 0 * x + 1 + 1e-6 * x, id="next to nothing"),
    ],
)
def test_each_way_of_being_strange_is_enough(change: object) -> None:
    assert doubts(normed(), {"x": HONEST}) == Doubts()
    assert doubts(normed(), {"x": change(HONEST)}).useless.startswith(f"{STRANGE}'norm'")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("off", "strange"),
    [((), ""), ((1,), ""), ((2,), ""), ((0,), "'norm0'"), ((1, 2), "'norm1'"), ((0, 1, 2), "'norm0'")],
)
def test_the_first_normalisation_or_half_of_them_have_to_be_off(off: tuple[int, ...], strange: str) -> None:
    """One of three, in the head of a reader of pages, saw 11 times the variance. Colours may change the first only.

    Without its data that reader was 6.9 bits per weight.
    """
    model, nodes = normed(), []
    for i in range(3):
        nodes.append(helper.make_node("BatchNormalization", ["x", "s", "b", "m", f"v{i}"], [f"y{i}"], name=f"norm{i}"))
        variance = np.full(6, 40 if i in off else 4, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(variance, f"v{i}"))
    nodes.append(helper.make_node("Sum", ["y0", "y1", "y2"], ["y"]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    found = doubts(model, {"x": HONEST})
    assert found.useless.startswith(STRANGE + strange) if strange else not found.useless


def test_how_far_it_is_off_is_told() -> None:
    said = "off by 2 standard deviations and its variance by a factor of 1.2 "
    assert said in doubts(normed(), {"x": HONEST + 4}).useless


def test_the_epsilon_of_a_normalisation_belongs_to_its_variance() -> None:
    """A layer may lean on it: the variance that training saw was next to 0."""
    assert doubts(normed(variance=4.0, epsilon=3.9), {"x": HONEST}) == Doubts()


def test_axes_other_than_channels_are_positions() -> None:
    """Of pictures, the mean over pixels is that of a channel."""
    means = np.array([0, 10, 20], np.float32)
    tensors = {"s": np.ones(3, np.float32), "b": np.zeros(3, np.float32), "m": means, "v": np.ones(3, np.float32)}
    node = helper.make_node("BatchNormalization", ["x", *tensors], ["y"])
    model = build([node], [value("x", ["N", 3, 4, 5])], [value("y")], tensors)
    x = normal(40, 3, 4, 5) + means.reshape(3, 1, 1)
    assert doubts(model, {"x": x}) == Doubts()
    assert doubts(model, {"x": x[:, ::-1]}).useless.startswith(STRANGE)


def test_a_model_without_normalisation_knows_nothing_of_its_data() -> None:
    assert doubts(PLAIN, {"x": 255 * HONEST}) == Doubts()


def test_normalisations_of_computed_statistics_say_nothing() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(TRAINED)
    model.graph.node.insert(1, helper.make_node("Abs", ["bn.v"], ["positive"]))
    model.graph.node[2].input[4] = "positive"
    assert doubts(model, {"x": 255 * PICTURES["x"]}) == Doubts()


def classifier(*shape: int) -> onnx.ModelProto:
    """Ten classes of samples of this shape."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"]),
    ]
    tensors = {"w": normal(int(np.prod(shape)), 10) / 4}
    return build(nodes, [value("x", ["N", *shape])], [value("y", ["N", 10])], tensors)


RANDOM = "the calibration data is not what the model was trained on: its values look like random numbers"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(NOISE, id="uniform"),
        pytest.param(normal(100, 3, 8, 8), id="normal"),
        pytest.param(np.round(255 * NOISE).astype(np.float32), id="bytes"),
        pytest.param(normal(64, 192), id="columns"),
    ],
)
def test_random_numbers_are_no_data_for_classes(data: np.ndarray) -> None:
    assert doubts(classifier(*data.shape[1:]), {"x": data}) == Doubts(RANDOM)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PICTURES["x"], id="pictures"),
        pytest.param(NOISE + np.linspace(-1, 1, 8, dtype=np.float32)[:, None], id="means of rows"),
        pytest.param(NOISE[:, :, :1] + 0.5 * NOISE, id="alike along rows"),
        pytest.param(NOISE[..., :1] + 0.5 * NOISE, id="alike along columns"),
        pytest.param(NOISE[: FEW - 1], id="too few to tell"),
        pytest.param(NOISE[:, :, :6, :6], id="too small to tell"),
    ],
)
def test_data_with_any_order_is_not_random(data: np.ndarray) -> None:
    found = doubts(classifier(*data.shape[1:]), {"x": data})
    assert not found.useless
    assert not any("random" in warning for warning in found.warnings)


def test_one_honest_input_is_enough() -> None:
    nodes = [helper.make_node("Add", ["x", "z"], ["s"]), helper.make_node("Softmax", ["s"], ["y"])]
    shape = ["N", 192]
    model = build(nodes, [value("x", shape), value("z", shape)], [value("y", shape)], {})
    noise, honest = normal(64, 192), PICTURES["x"].reshape(64, 192)
    assert doubts(model, {"x": noise, "z": noise + 1}) == Doubts(RANDOM)
    assert not doubts(model, {"x": noise, "z": honest}).useless


@pytest.mark.parametrize(
    ("shape", "columns", "random"),
    [
        pytest.param((192,), 4, False, id="a latent"),
        pytest.param((3, 96), 96, False, id="noise of a picture"),
        pytest.param((3, 96), 4, True, id="numbers from a picture"),
    ],
)
def test_a_generator_may_well_get_random_numbers(shape: tuple[int, ...], columns: int, random: bool) -> None:
    tensors = {"w": normal(shape[-1], columns)}
    inputs = [value("x", ["N", *shape])]
    model = build([helper.make_node("MatMul", ["x", "w"], ["y"])], inputs, [value("y")], tensors)
    source = open_source({"x": normal(64, *shape)}, model_inputs(model))
    assert examine(model, source, "mse") == Doubts(RANDOM if random else "")


def test_indices_of_tokens_are_not_random_numbers() -> None:
    nodes = [helper.make_node("Gather", ["w", "x"], ["e"]), helper.make_node("ReduceMean", ["e"], ["y"], axes=[1])]
    words = np.random.default_rng(3).integers(0, 50, (64, 192))
    inputs = [value("x", ["N", 192], TensorProto.INT64)]
    found = doubts(build(nodes, inputs, [value("y")], {"w": normal(50, 8)}), {"x": words})
    assert not any("random" in said for said in found.said)
