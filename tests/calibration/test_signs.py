"""Signs by which a model without normalisations tells data that it was not trained for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx.calibration import answer_of
from cerwu_onnx.calibration.opening import open_data
from cerwu_onnx.calibration.signs import AWAKE, SUREST, Answered, Switch, asleep, switches_of
from cerwu_onnx.calibration.trust import ANSWERED, Doubts, examine

from ..classifiers import clouds, trained
from ..models import build, normal, run, value

MODEL = trained()
ANSWERS = run(MODEL, {"x": clouds(4000, 4)[0]})[0].argmax(axis=1)
NODE = helper.make_node


def doubts(x: np.ndarray, model: onnx.ModelProto = MODEL, output_loss: str = "auto") -> Doubts:
    return examine(model, open_data({"x": x.astype(np.float32)}, model), output_loss)


def one_sided(others: int, samples: int = 200) -> np.ndarray:
    """Samples of which all but some get the answer 3."""
    x = clouds(4000, 4)[0]
    found = np.concatenate([x[ANSWERS != 3][:others], x[ANSWERS == 3][: samples - others]])
    return found[np.random.default_rng(0).permutation(samples)]


def test_honest_data_needs_no_word() -> None:
    assert doubts(clouds(200, 4)[0]) == Doubts()
    assert doubts(clouds(200, 4)[0], output_loss="mse") == Doubts()


@pytest.mark.parametrize(("others", "share"), [(10, "95"), (8, "96")])
def test_one_answer_to_most_samples_deserves_a_warning(others: int, share: str) -> None:
    found = doubts(one_sided(others))
    said = f"the model answers class 3 for {share} % of 200 calibration samples, which say little of its "
    assert found == Doubts(warnings=(f"{said}other answers: give as many samples of each kind",))
    assert found.said == found.warnings


@pytest.mark.parametrize(("others", "share"), [(7, "96.5"), (4, "98"), (0, "100")])
def test_one_answer_to_all_samples_says_less_than_none(others: int, share: str) -> None:
    found = doubts(one_sided(others))
    said = f"the model answers class 3 for {share} % of 200 calibration samples, which say nothing of its "
    assert found == Doubts(f"{said}other answers")
    assert found.said[0].startswith(f"{found.useless}: the model is quantised as without data; give at least 32 ")
    assert len(found.said) == 1
    assert doubts(one_sided(others), output_loss="mse") == Doubts()  # who says that these are numbers knows


def test_other_answers_are_enough_wherever_they_are() -> None:
    """Of data sorted by class, the first 256 samples had one answer."""
    assert not doubts(one_sided(11)).useless
    alike = np.repeat(one_sided(0), 2, axis=0)[:ANSWERED]
    assert doubts(alike).useless.startswith("the model answers class 3 for 100 % of 256 ")
    assert doubts(np.concatenate([alike, clouds(200, 4)[0]])) == Doubts()


@pytest.mark.parametrize(("kept", "missing"), [(5, 5), (7, 3), (8, 0), (10, 0)])
def test_classes_that_are_hardly_ever_the_answer_deserve_a_warning(kept: int, missing: int) -> None:
    x = clouds(4000, 4)[0]
    common = kept > ANSWERS
    x = np.concatenate([x[~common][:2], x[common]])
    said = (
        f"{missing} of the model's 10 classes are hardly ever the answer to 256 calibration samples, which say little "
    )
    warned = f"{said}of them: give as many samples of each kind"
    assert doubts(x[:256]) == (Doubts(warnings=(warned,)) if missing else Doubts())
    assert doubts(x[:100]) == Doubts()  # that may be chance


@pytest.mark.parametrize(("largest", "warned"), [(1e3, True), (10.0, False)])
def test_numbers_of_which_one_holds_the_variance_deserve_a_warning(largest: float, warned: bool) -> None:
    """The half without it saw no error at all, and was believed."""
    product = [NODE("MatMul", ["x", "w"], ["y"])]
    model = build(product, [value("x", ["N", 6])], [value("y", ["N", 4])], {"w": np.eye(6, 4, dtype=np.float32)})
    x = normal(200, 6)
    x[17, 2] = largest
    said = "one of 200 calibration samples holds most of what an output varies by, so that the others say little: "
    assert doubts(x, model) == Doubts(warnings=(f"{said}give more, without outliers",) if warned else ())


def test_few_samples_of_one_kind_say_less_than_none() -> None:
    for others, share in ((1, 95), (0, 100)):
        assert doubts(one_sided(others, 20)).useless.startswith(f"the model answers class 3 for {share} % of 20 ")


@pytest.mark.parametrize("yes", [0.0, 0.5, 0.955, 0.97, 1.0])
def test_a_decision_counts_as_an_answer(yes: float) -> None:
    nodes = [NODE("MatMul", ["x", "w"], ["z"]), NODE("Sigmoid", ["z"], ["y"])]
    w = np.eye(6, 1, dtype=np.float32)
    model = build(nodes, [value("x", ["N", 6])], [value("y", ["N", 1])], {"w": w})
    x = normal(200, 6)
    x[:, 0] = 5 * np.where(np.arange(200) < 200 * yes, 1, -1)
    found = doubts(x, model)
    text = found.useless or " ".join(found.warnings)
    assert text.startswith(f"the model answers {'yes' if yes > 0.5 else 'no'} for ") == (yes != 0.5)
    assert bool(found.useless) == (yes not in (0.5, 0.955))


def test_a_class_at_each_position_may_be_the_same_nearly_everywhere() -> None:
    nodes = [NODE("Conv", ["x", "w"], ["z"]), NODE("Softmax", ["z"], ["y"], axis=1)]
    shape = ["N", 3, 4, 4]
    w = np.eye(3, dtype=np.float32)[:, :, None, None]
    model = build(nodes, [value("x", shape)], [value("y", shape)], {"w": w})
    x = normal(64, 3, 4, 4)
    x[:, 0] += 20  # the background
    assert doubts(x, model) == Doubts()


def test_numbers_may_have_the_same_order_in_all_samples() -> None:
    product = [NODE("MatMul", ["x", "w"], ["y"])]
    model = build(product, [value("x", ["N", 6])], [value("y", ["N", 4])], {"w": np.eye(6, 4, dtype=np.float32)})
    assert doubts(normal(64, 6) + 50 * np.eye(6)[0], model) == Doubts()
    assert doubts(255 * normal(64, 6), model) == Doubts()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda x: 255 * x, "its|each answer is|far clearer answers", id="not divided"),
        pytest.param(lambda x: x / 255, "it moves only|the model answers", id="divided twice"),
    ],
)
def test_another_scale(change: Callable[[np.ndarray], np.ndarray], said: str) -> None:
    found = doubts(change(clouds(200, 4)[0]))
    assert found.warnings == ()
    assert any(part in found.useless for part in said.split("|"))


def classes(logits: np.ndarray) -> Answered:
    return Answered(answer_of([logits], "kl"), [logits[:10], logits[10:]], len(logits))


def test_answers_far_ahead_of_the_next() -> None:
    sure = np.float32(SUREST) * np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    assert classes(0.99 * sure).strange(None) == ""
    assert "each answer is 42 nats ahead of the next (another scale?)" in classes(1.05 * sure).strange(None)


def test_answers_that_become_clear_when_divided() -> None:
    clear = 8 * np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    unsure, same = 0.2 * clear, np.roll(clear[:1].repeat(40, axis=0), 1, axis=1)
    said = "far clearer answers to the same data divided by 255"
    assert said in classes(unsure).strange(classes(clear))
    assert classes(clear).strange(classes(clear)) == ""
    assert classes(clear).strange(classes(unsure)) == ""
    a_little = classes(0.85 * clear)
    assert 2 < a_little.answer.entropy(a_little.values) / classes(clear).answer.entropy([clear]) < 4
    assert a_little.strange(classes(clear)) == ""
    assert classes(unsure).strange(classes(same)) == ""  # clear, but the same for all
    numbers = Answered(answer_of([clear], "mse"), [clear], 40)
    assert said in numbers.strange(classes(clear))
    assert classes(unsure).strange(numbers) == ""
    assert classes(unsure).strange(None) == ""


def test_units_that_move() -> None:
    switch = Switch("x")
    assert asleep([switch]) == asleep([]) == ""  # nothing seen, or nothing to see
    for part in np.float32([[[1, -1, 5, -9], [2, -2, 5, -8]], [[3, 0, 5, -7], [-1, 1, 5, -6]]]):
        switch.add(part)
    assert switch.share() == pytest.approx(2 / 3)  # one does not vary, one hardly moves
    lazy = Switch("x")
    lazy.add(np.float32([[1.1, -1.1, 1.1, 1.1], [2, -2, 2, -2]]))
    assert lazy.share() == 0.25 < AWAKE
    assert asleep([switch, lazy]) == ""
    assert "it moves only 25 % of the first units" in asleep([lazy])


def test_units_that_are_always_on_are_no_sign() -> None:
    """A network that divides its input by the input's mean sees numbers around 1: few units are ever off."""
    x = np.exp(normal(64, 16))
    h = x / x.mean(axis=1, keepdims=True) @ np.abs(normal(16, 40, seed=1))
    honest, wrong = Switch("x"), Switch("x")
    honest.add(h)
    wrong.add(1 + h / 255)
    assert (h > 0).all()
    assert asleep([honest]) == ""
    assert asleep([wrong])


def test_the_first_switches_of_a_model() -> None:
    nodes = [NODE("Relu", ["w"], ["v"]), NODE("MatMul", ["x", "v"], ["h0"])]
    nodes += [NODE("Relu" if index % 2 else "LeakyRelu", [f"h{index}"], [f"h{index + 1}"]) for index in range(6)]
    model = build(nodes, [value("x", ["N", 6])], [value("h6", ["N", 4])], {"w": normal(6, 4)})
    assert [switch.value for switch in switches_of(model)] == ["h0", "h1", "h2", "h3"]
