"""Calibration data that is too little, always the same, or not what the model was trained on; and data that is well."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx.calibration.opening import open_data
from cerwu_onnx.calibration.trust import FEW, FEWEST, examine

from ..models import build, normal, value


def net(*, variance: float = 4.0, mean: float = 1.0, epsilon: float = 1e-5) -> onnx.ModelProto:
    """A BatchNormalization that saw inputs of this mean and variance, then MatMul."""
    one = np.ones(6, np.float32)
    nodes = [
        helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["h"], name="norm", epsilon=epsilon),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    tensors = {"s": one, "b": 0 * one, "m": mean * one, "v": (variance - epsilon) * one, "w": normal(6, 4)}
    return build(nodes, [value("x", ["N", 6])], [value("y", ["N", 4])], tensors)


def useless(x: np.ndarray, model: onnx.ModelProto | None = None) -> str:
    model = model or net()
    return examine(model, open_data({"x": x.astype(np.float32)}, model)).useless


def honest(samples: int = 64) -> np.ndarray:
    return 1 + 2 * normal(samples, 6)


def warnings(samples: int) -> tuple[str, ...]:
    model = net()
    return examine(model, open_data({"x": honest(samples)}, model)).warnings


def test_honest_data_needs_no_word() -> None:
    assert useless(honest()) == ""
    assert warnings(FEW) == ()


def test_few_samples_are_told() -> None:
    assert useless(honest(FEWEST)) == ""
    assert warnings(FEWEST) == (f"only {FEWEST} different calibration samples: give a hundred or more",)
    assert len(warnings(FEW - 1)) == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (honest(1), "1 calibration sample says less"),
        (honest(FEWEST - 1), f"{FEWEST - 1} calibration samples say less"),
        (np.tile(honest(3), (20, 1)), "3 different calibration samples say less"),
        (np.tile(honest(1), (60, 1)), "1 different calibration sample says less"),
    ],
)
def test_too_few_samples_are_no_help(rows: np.ndarray, said: str) -> None:
    assert useless(rows).startswith(said)


def test_samples_within_feeds_are_told_apart() -> None:
    model = net()
    feeds = [{"x": honest(2)}] * 40
    assert examine(model, open_data(feeds, model)).useless.startswith("2 different calibration samples")
    others = [{"x": 1 + 2 * normal(1, 6, seed=seed)} for seed in range(FEW)]
    assert examine(model, open_data(others, model)).useless == ""


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(lambda x: x * 255, id="another scale"),
        pytest.param(lambda x: x + 2, id="a shift alone"),
        pytest.param(lambda x: 1 + (x - 1) / 8, id="a narrow spread alone"),
        pytest.param(lambda x: 1 + (x - 1) * 3, id="a wide spread alone"),
        pytest.param(lambda x: 0 * x + 1 + 1e-6 * x, id="next to nothing"),
    ],
)
def test_data_of_another_kind_is_found_out(strange: object) -> None:
    found = useless(strange(honest()))  # type: ignore[operator]
    assert found.startswith("the calibration data is not what the model was trained on: in front of 'norm'")


def test_how_far_it_is_off_is_told() -> None:
    assert "off by 2 standard deviations and its variance by a factor of 1.2 " in useless(honest() + 4)


def test_the_epsilon_of_a_normalisation_belongs_to_its_variance() -> None:
    """A layer may lean on it: the variance that training saw was next to 0."""
    assert useless(honest(), net(variance=4.0, epsilon=3.9)) == ""


def test_a_model_without_normalisation_knows_nothing_of_its_data() -> None:
    model = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", ["N", 6])], [value("y")], {"w": normal(6, 4)}
    )
    assert useless(255 * honest(), model) == ""


def test_axes_other_than_channels_are_positions() -> None:
    """Of pictures, the mean over pixels is that of a channel."""
    model = build(
        [helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"])],
        [value("x", ["N", 3, 4, 5])],
        [value("y")],
        {
            "s": np.ones(3, np.float32),
            "b": np.zeros(3, np.float32),
            "m": np.array([0, 10, 20], np.float32),
            "v": np.ones(3, np.float32),
        },
    )
    x = normal(40, 3, 4, 5) + np.array([0, 10, 20], np.float32).reshape(3, 1, 1)
    assert useless(x, model) == ""
    assert "not what the model was trained on" in useless(x[:, ::-1], model)
