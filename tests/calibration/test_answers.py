"""What outputs answer, told by their values, and what errors in them cost: against definitions and awkward numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from scipy.special import expit, log_softmax, softmax
from scipy.stats import entropy

import cerwu_onnx
from cerwu_onnx.calibration import Answer, answer_of, answers_of, comparable
from cerwu_onnx.calibration.compared import compared_values, softmax_inputs
from cerwu_onnx.calibration.kinds import SURE
from cerwu_onnx.config import wanted_kinds
from cerwu_onnx.errors import CalibrationError, UsageError

from ..models import build, normal, value

f32 = np.float32
Array = npt.NDArray[np.floating]


def loss(x: Array, y: Array, wanted: str = "auto") -> float:
    return answer_of([x], wanted).loss([x], [y])


def logits(*shape: int, seed: int = 0) -> Array:
    """Rows of logits whose mean is zero, as those of trained models nearly are."""
    rows = 3 * normal(*shape, seed=seed)
    return rows - rows.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("kind", "arrays"),
    [
        pytest.param("kl", [logits(60, 10), logits(2, 10)], id="logits"),
        pytest.param("kl", [softmax(logits(60, 10), axis=-1)], id="probabilities"),
        pytest.param("kl", [softmax(logits(6, 3, 5), axis=-1)], id="probabilities at each position"),
        pytest.param("kl", [softmax(logits(60, 10), axis=-1).astype(np.float16)], id="float16"),
        pytest.param("kl", [np.zeros((0, 3), f32), softmax(logits(9, 3), axis=-1)], id="an empty batch"),
        pytest.param("kl", [softmax(logits(6, 9, 5), axis=1)], id="probabilities along the second of three axes"),
        pytest.param("kl", [softmax(logits(6, 4, 5, 7), axis=1)], id="maps of probabilities"),
        pytest.param("kl", [log_softmax(logits(60, 10) + normal(60, 1), axis=-1)], id="log-probabilities"),
        pytest.param("kl", [log_softmax(normal(6, 4, 5, 7), axis=1)], id="maps of log-probabilities"),
        pytest.param("kl", [logits(60, 10)[..., None, None]], id="logits of one pixel"),
        pytest.param("kl", [softmax(logits(60, 10), axis=-1)[..., None, None]], id="probabilities of one pixel"),
        pytest.param("mse", [np.moveaxis(logits(20, 7, 12), -1, 1)], id="the second of three axes may be time"),
        pytest.param("kl", [logits(20, 7, 12)], id="logits at each position"),
        pytest.param("kl", [np.moveaxis(logits(20, 6, 7, 5), -1, 1)], id="logits along the second axis"),
        pytest.param("kl", [np.where(logits(60, 10) > 4, -np.inf, logits(60, 10))], id="classes that are excluded"),
        pytest.param("kl", [logits(60, 10) - 1e4 * (normal(60, 10, seed=1) > 0)], id="classes that a mask excludes"),
        pytest.param("kl", [np.where(normal(60, 10) > 0, -3e38, logits(60, 10))], id="classes of the least number"),
        pytest.param("mse", [np.where(normal(60, 10) > 0, -9999, 5 + normal(60, 10))], id="a number for none"),
        pytest.param("mse", [logits(60, 10) * np.geomspace(1, 1e5, 10)], id="columns of many scales"),
        pytest.param("mse", [np.where(np.arange(10) < 1, -6e3 + 800 * normal(60, 10), logits(60, 10))], id="one depth"),
        pytest.param("mse", [np.where(np.arange(10) % 2, -1e4, 7e3 * normal(60, 10))], id="as large as what is none"),
        pytest.param("kl", [np.where(logits(60, 10) > 4, np.nan, logits(60, 10))], id="broken logits"),
        pytest.param("kl", [np.stack([z := normal(50), -z], axis=1) * 4], id="two logits"),
        pytest.param("binary", [expit(4 * normal(60, 10))], id="independent probabilities"),
        pytest.param("binary", [expit(6 * normal(60, 20, 20))], id="a map of probabilities"),
        pytest.param("mse", [expit(4 * normal(60, 1) - 20)], id="scores of what is normal, all near 0"),
        pytest.param("mse", [normal(60, 3) + 3], id="ratings"),
        pytest.param("mse", [normal(60, 3)], id="standardised numbers"),
        pytest.param("mse", [np.abs(200 + 50 * normal(60, 1) + 5 * normal(60, 40))], id="Hertz, frame by frame"),
        pytest.param("mse", [logits(60, 10) / 100], id="as logits all the same"),
        pytest.param("mse", [np.clip(0.5 + 0.1 * normal(9, 3, 8, 8), 0, 1)], id="a picture"),
        pytest.param("mse", [normal(6, 16, 96)], id="hidden states"),
        pytest.param("mse", [normal(6, 1)], id="one number"),
        pytest.param("mse", [normal(6)], id="no second axis"),
        pytest.param("mse", [np.arange(6).reshape(2, 3)], id="integers"),
        pytest.param("mse", [4 * (normal(1, 96) + 0.3 * normal(200, 96, seed=1))], id="an embedding"),
        pytest.param("mse", [4 * normal(200, 96)], id="an embedding whose largest value differs"),
        pytest.param("kl", [logits(200, 96)], id="logits of many classes"),
        pytest.param("cosine", [(z := normal(9, 32)) / np.linalg.norm(z, axis=1, keepdims=True)], id="directions"),
    ],
)
def test_kinds_by_value(kind: str, arrays: Sequence[Array]) -> None:
    assert answer_of(arrays).kind == kind


def test_a_kind_that_is_asked_for() -> None:
    for array in (logits(60, 4), normal(6, 4) / 100, normal(2, 3, 5)):
        assert (answer_of([array], "kl").kind, answer_of([array], "mse").kind) == ("kl", "mse")
    assert answer_of([normal(6, 4)], "cosine").kind == "cosine"
    assert answer_of([np.abs(normal(6, 4)) % 1], "binary").kind == "binary"
    decisions = answer_of([normal(200, 4)], "binary")
    assert (decisions.kind, decisions.probabilities) == ("binary", False)
    assert decisions.turned(normal(200, 4), normal(200, 4)).lost.max() == 0
    assert decisions.turned(normal(200, 4), -normal(200, 4)).lost.mean() > 0.1
    for array in (normal(6, 1), normal(6), np.arange(6).reshape(2, 3)):  # no classes
        assert answer_of([array], "kl").kind == "mse"


def test_kinds_by_the_name_of_the_output() -> None:
    model = build(
        [
            onnx.helper.make_node(op, [x], [y])
            for op, x, y in (("Abs", "x", "h"), ("Softmax", "h", "p"), ("Neg", "x", "n"))
        ],
        [value("x", ["N", 4])],
        [value("p", ["N", 4]), value("n", ["N", 4])],
        {},
    )
    values = {"h": [logits(60, 4)], "n": [normal(60, 4)]}
    assert {name: one.kind for name, one in answers_of(values, model, "n=cosine").items()} == {"h": "kl", "n": "cosine"}
    assert answers_of(values, model, "kl,n=mse")["n"].kind == "mse"
    assert answers_of(values, model, "p=mse")["h"].kind == "mse"
    with pytest.raises(UsageError, match="no output 'q', only"):
        answers_of(values, model, "q=mse")
    for wrong, said in (("l2", "'l2' is unknown"), ("a=kl,a=mse", "'a' has two"), ("a=", "'' is unknown")):
        with pytest.raises(UsageError, match=said):
            wanted_kinds(wrong)


def test_a_state_that_is_fed_back_is_no_row_of_logits() -> None:
    """One value of a state may be far above the others, as a logit is; but the model reads it again."""
    nodes = [onnx.helper.make_node(op, [x], [y]) for op, x, y in (("Tanh", "h", "hn"), ("Neg", "x", "y"))]
    data, state, out, new = (value(name, [2, "N", 16]) for name in ("x", "h", "y", "hn"))
    values = {"hn": [logits(60, 16).reshape(2, 30, 16)], "y": [logits(30, 4)]}
    kinds = {name: one.kind for name, one in answers_of(values, build(nodes, [data, state], [out, new], {})).items()}
    assert kinds == {"hn": "mse", "y": "kl"}
    assert answers_of(values, build(nodes[:1], [state], [new], {}))["hn"].kind == "kl", "nothing else is read"
    assert answers_of(values, build(nodes, [data, state], [out, new], {}), "hn=kl")["hn"].kind == "kl"


@pytest.mark.parametrize(
    ("opset", "axis", "found"), [(17, -1, -1), (17, 2, -1), (17, 1, 1), (11, 2, -1), (11, 1, None)]
)
def test_logits_stand_for_their_softmax(opset: int, axis: int, found: int | None) -> None:
    nodes = [onnx.helper.make_node("Neg", ["x"], ["h"]), onnx.helper.make_node("Softmax", ["h"], ["p"], axis=axis)]
    model = build(nodes, [value("x", ["N", 3, 4])], [value("p", ["N", 3, 4])], {}, opset=opset)
    assert softmax_inputs(model) == ({} if found is None else {"h": ("p", found)})
    assert compared_values(model) == (["p"] if found is None else ["h"])
    if found is not None:
        assert answers_of({"h": [normal(5, 3, 4)]}, model)["h"].axis == found


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 8))
@settings(deadline=None)
def test_kl_is_its_definition(seed: int, samples: int, classes: int) -> None:
    x, y = 3 * normal(samples, classes, seed=seed), 3 * normal(samples, classes, seed=seed + 1)
    p, q = softmax(x.astype(np.float64), axis=1), softmax(y.astype(np.float64), axis=1)
    expected = entropy(p, q, axis=1).mean()
    plain, rows = Answer("kl"), Answer("kl", probabilities=True)
    assert plain.loss([x], [y]) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert rows.loss([p.astype(f32)], [q.astype(f32)]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert plain.loss([x], [x]) == 0
    assert plain.loss([x], [(y + 50).astype(f32)]) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    warm = Answer("kl", temperature=2.0)
    warmer = [softmax(z.astype(np.float64) / 2, axis=1) for z in (x, y)]
    assert warm.loss([x], [y]) == pytest.approx(4 * entropy(*warmer, axis=1).mean(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["kl", "mse", "binary", "cosine"])
def test_batches_do_not_matter(kind: str) -> None:
    x, y = expit(normal(7, 5)), expit(normal(7, 5, seed=1))
    answer = answer_of([x], kind)
    whole = answer.loss([x], [y])
    assert whole > 0
    assert answer.loss([x[:1], x[1:1], x[1:]], [y[:1], y[1:1], y[1:]]) == pytest.approx(whole, rel=1e-12)


def test_small_divergences_are_not_lost() -> None:
    """To second order, KL = sum p (d - mean d)^2 / 2 for a small change d of the logits."""
    x = normal(4, 10).astype(np.float64)
    d = 1e-5 * normal(4, 10, seed=1).astype(np.float64)
    p = softmax(x, axis=1)
    expected = ((p * d**2).sum(axis=1) - (p * d).sum(axis=1) ** 2).mean() / 2
    assert Answer("kl").loss([x], [x + d]) == pytest.approx(expected, rel=1e-3)


def test_certain_predictions() -> None:
    one, other = np.array([[1, 0, 0]], f32), np.array([[0, 1, 0]], f32)
    rows = Answer("kl", probabilities=True)
    assert rows.loss([one], [one]) == pytest.approx(0, abs=1e-30)
    assert rows.loss([one], [other]) == pytest.approx(-np.log(np.finfo(f32).tiny))
    huge = np.array([[1e30, 0, -1e30]], f32)
    assert Answer("kl").loss([huge], [huge]) == 0
    assert Answer("kl").loss([huge], [huge[:, ::-1].copy()]) == pytest.approx(2e30)
    masked = np.array([[0, 1, -np.inf]], f32)
    assert Answer("kl").loss([masked], [masked]) == 0
    assert Answer("kl").loss([np.array([[0, 1, -30]], f32)], [masked]) == np.inf


def test_a_model_that_is_too_sure_gets_a_temperature() -> None:
    """Where logits are hundreds apart, KL sees nothing until an answer changes; with a temperature it sees how near."""
    x = 500 * np.eye(10, dtype=f32)[np.arange(40) % 10]
    near, far = x + 5 * normal(40, 10), x + 50 * normal(40, 10)
    answer = answer_of([x - x.mean()], "kl")
    assert answer.temperature > 30
    assert answer.entropy([x]) < 1e-12
    assert Answer("kl").loss([x], [near]) < 1e-12
    assert 50 < answer.loss([x], [far]) / answer.loss([x], [near]) < 200  # 100, were it quadratic so far
    tempered = x / answer.temperature
    p = softmax(tempered.astype(np.float64), axis=1)
    assert entropy(p, axis=1).mean() == pytest.approx(SURE, rel=1e-3)
    assert answer_of([logits(60, 10)]).temperature == 1
    assert answer_of([logits(60, 10)]).temper([logits(60, 10)], 1e9).temperature < 1e6  # never beyond half of uniform


def test_decisions_that_are_too_sure_get_one_too() -> None:
    x = 12 * np.sign(normal(60, 4)) + normal(60, 4, seed=1)
    answer = answer_of([expit(x)])
    assert (answer.kind, answer.entropy([expit(x)]) < SURE) == ("binary", True)
    p = expit(x.astype(np.float64) / answer.temperature)
    rows = entropy(np.stack([p, 1 - p], axis=-1), axis=-1)
    assert np.average(rows.ravel(), weights=answer.importance(expit(x))) == pytest.approx(SURE, rel=0.01)


def test_rare_classes_count_like_others() -> None:
    """A detector in small: one position of a hundred holds an object; whether it is kept is half of the loss."""
    x = np.tile(np.array([4.0, -4.0], f32), (20, 100, 1))
    x[:, 7] = -4, 4
    lost_object, lost_background = x.copy(), x.copy()
    lost_object[:, 7] = 4, -4
    lost_background[:, :50] = -4, 4
    lost_background[:, 7] = x[:, 7]
    answer = answer_of([x], "kl")
    whole = answer.loss([x], [-x])
    assert answer.loss([x], [lost_object]) == pytest.approx(whole / 2, rel=0.01)
    assert answer.loss([x], [lost_background]) == pytest.approx(whole / 4, rel=0.03)
    assert answer.importance(x).mean() == pytest.approx(1)
    yes = expit(2 * x[..., 1])
    decisions = replace(answer_of([yes]), temperature=1.0)
    assert decisions.loss([yes], [expit(2 * lost_object[..., 1])]) == pytest.approx(8 / 2, rel=0.01)


@pytest.mark.parametrize("rare", [0.02, 0.2, 0.5])
def test_no_class_of_samples_counts_more_than_all_others_together(rare: float) -> None:
    """Fraud in small: a file that finds none of it has lost half of the score, however rare it is."""
    x = np.tile(np.array([2.0, -2.0, -3.0], f32), (1000, 1)) + 0.1 * normal(1000, 3)
    some = np.arange(1000) < 1000 * rare
    x[some] = x[some][:, [1, 0, 2]]
    x[: int(200 * rare)] = x[: int(200 * rare)][:, [2, 1, 0]]
    blind = x.copy()
    blind[some, 0] = 9
    answer = answer_of([x], "kl")
    weights = answer.importance(x)
    assert weights.mean() == pytest.approx(1)
    assert weights[some].sum() == pytest.approx(500, rel=1e-6)
    assert len({*weights[some].tolist()}) == 1, "the others count as they are"
    assert answer.turned(x, blind).lost.sum() / answer.certain(x).sum() > 0.1
    one, even = x[~some], np.concatenate([x[some], x[~some][: int(some.sum())]])
    assert answer_of([one], "kl").shares is None
    assert answer_of([even], "kl").shares is None


@pytest.mark.parametrize(("background", "cost"), [(3.0, 1.0), (0.0, 0.05)])
def test_a_changed_answer_costs_what_it_was_worth_unless_it_has_to_be_found(background: float, cost: float) -> None:
    """Where most positions are background, each object counts; the next letters of a text, as far as they are sure."""
    x = normal(40, 50, 8)
    x[..., 0] += background
    first, second = np.sort(x, axis=-1)[..., -1:], np.sort(x, axis=-1)[..., -2:-1]
    near, y = (
        np.where(x == first, second + apart, x).astype(f32) for apart in (0.01, -0.01)
    )  # hardly ahead, or behind
    answer = answer_of([near], "kl")
    rows, others = near.reshape(-1, 8), y.reshape(-1, 8)
    assert answer.found == (background > 0)
    assert (rows.argmax(axis=-1) != others.argmax(axis=-1)).all()
    lost = answer.turned(near, y).lost.sum() / answer.certain(near).sum()
    assert lost == pytest.approx(np.mean([1, 1 / 1.5, 1 / 2, 1 / 3]) / 2, rel=0.01) if cost == 1 else lost < cost


def test_probabilities_of_little_precision() -> None:
    """Rows that sum to 1 only roughly cannot make the divergence negative."""
    p = softmax(normal(50, 20), axis=-1).astype(np.float16)
    assert 0 <= Answer("kl", probabilities=True).loss([p], [p.astype(f32) * f32(1.0002)]) < 1e-12


def test_binary_is_its_definition() -> None:
    p, q = expit(3 * normal(30, 4).astype(np.float64)), expit(3 * normal(30, 4, seed=1).astype(np.float64))
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert Answer("binary", probabilities=True).loss([p], [q]) == pytest.approx(expected, rel=1e-6)


def test_squared_error_over_variance() -> None:
    """Each column by itself, however large its offset or its scale."""
    x, y = normal(40, 3), normal(40, 3, seed=1)
    x, y = (z * np.array([1, 100, 1e-3]) + np.array([0, 1e4, 7]) for z in (x, y))
    expected = (((x - y) ** 2).mean(axis=0) / x.var(axis=0)).mean()
    assert loss(x, y) == pytest.approx(expected, rel=1e-9)
    rows = answer_of([x]).losses(x, y)
    assert rows.shape == (40, 3)
    assert rows.mean(axis=0) == pytest.approx(((x - y) ** 2).mean(axis=0) / x.var(axis=0))


def test_variance_is_over_samples_not_positions() -> None:
    """What every sample has in common (the grid of a detector's boxes) is no variation."""
    anchors = 1000 * normal(1, 50, 4, seed=3)
    x = anchors + normal(30, 50, 4)
    answer = answer_of([x])
    assert answer.kind == "mse"
    assert answer.variance == pytest.approx(np.ones(4), rel=0.1)
    picture = 1000 * normal(1, 3, 16, 16, seed=3) + normal(30, 3, 16, 16)
    assert answer_of([picture]).variance == pytest.approx(np.ones(3), rel=0.1)
    field = 1000 * normal(1, 200, 300, seed=3) + normal(30, 200, 300)
    assert answer_of([field]).variance == pytest.approx(np.ones(1), rel=0.1)


def test_columns_that_do_not_vary() -> None:
    x = normal(20, 3)
    x[:, 1], x[:, 2] = 5, 0
    same = x.copy()
    assert loss(x, same) == 0
    same[:, 1] += 0.5
    assert loss(x, same) == pytest.approx(0.01 / 3)  # relative to its energy
    same[:, 2] += 1e-3
    assert loss(x, same) == np.inf
    assert answer_of([np.array([[2.0, 3.0]])]).loss([np.array([[2.0, 3.0]])], [np.array([[1.0, 3.0]])]) == 0.125


def test_directions_know_no_length() -> None:
    x = normal(40, 32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = x + 0.02 * normal(40, 32, seed=1)
    cosine = 1 - (x * y).sum(axis=1) / np.linalg.norm(y, axis=1)
    spread = x.var(axis=0).sum()
    assert loss(x, y) == pytest.approx(2 * cosine.mean() / spread, rel=1e-4)
    assert loss(x, 3 * y, "cosine") == pytest.approx(loss(x, y), rel=1e-6)


@pytest.mark.parametrize("kind", ["kl", "binary", "mse", "cosine"])
@pytest.mark.parametrize(("shape", "rare"), [((12, 5), 0.0), ((6, 4, 5), 0.0), ((12, 20, 3), 2.0)], ids=str)
def test_seeds_are_the_root_of_the_second_derivative(kind: str, shape: tuple[int, ...], rare: float) -> None:
    """The mean of squared seeds along a direction is what the loss grows by along it, to second order."""
    x = normal(*shape).astype(np.float64)
    x[..., 0] += rare  # so that another class is the answer at few positions, which count more
    x = expit(x) if kind == "binary" else x
    answer = answer_of([x], kind)
    if kind == "cosine":  # of rows that have unit length, as those of directions do
        x /= np.linalg.norm(x, axis=-1, keepdims=True)
        answer = answer_of([x], kind)
    d = 1e-4 * normal(*shape, seed=1)
    if kind == "cosine":
        d -= x * (d * x).sum(axis=-1, keepdims=True)
    rows, random = answer.rows_of(x), np.random.default_rng(0)
    found = [float((draw * d).sum()) ** 2 for _ in range(4000) for draw in answer.seeds(x, rows**-0.5, 4, 1.0, random)]
    growth = 2 * answer.loss([x], [x + d])
    assert sum(found) / 4000 == pytest.approx(growth, rel=0.1)


@pytest.mark.parametrize("shape", [(12, 5), (6, 4, 5), (3, 2, 70)], ids=str)
@pytest.mark.parametrize("kind", ["kl", "probabilities", "binary", "mse", "cosine"])
def test_slopes_are_differences_of_losses(kind: str, shape: tuple[int, ...]) -> None:
    x = normal(*shape).astype(np.float64)
    y = x + 0.4 * normal(*shape, seed=1)
    if kind == "probabilities":
        x, y = softmax(x, axis=-1), softmax(y, axis=-1)
    if kind == "binary":
        x, y = expit(x), expit(y)
    answer = answer_of([x], "kl" if kind == "probabilities" else kind)
    for warm in (1.0, 4.0):
        tried = replace(answer, temperature=warm)
        slope = tried.slope(x, y)
        assert slope.shape == x.shape
        for seed in range(2, 5):
            d = 1e-5 * normal(*shape, seed=seed)
            d *= y if kind == "probabilities" else 1.0
            change = (tried.losses(x, y + d).sum() - tried.losses(x, y - d).sum()) / 2
            assert change == pytest.approx(float((slope * d).sum()), rel=1e-3, abs=1e-9)
        assert len(tried.losses(x, y).ravel()) == tried.losses_of(x)


def test_slopes_at_the_ends_are_finite() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    answer = Answer("kl", probabilities=True)
    assert np.isfinite(answer.slope(sure, sure)).all()
    assert np.isfinite(Answer("binary", probabilities=True).slope(sure, sure)).all()
    cut = np.array([[1.0, -np.inf]])
    assert np.isfinite(Answer("kl").slope(cut, np.array([[2.0, -np.inf]]))).all()
    assert np.isfinite(Answer("cosine").slope(np.ones((2, 3)), np.zeros((2, 3)))).all()
    assert not Answer("mse", variance=np.array([0.0, 1.0])).slope(np.ones((2, 2)), np.zeros((2, 2)))[:, 0].any()


def test_choices_and_how_sure_they_are() -> None:
    x = np.array([[2.0, 0, 0], [0, np.nan, 1], [0, 1, 5]])
    answer = Answer("kl")
    assert answer.chosen(x).tolist() == [0, -1, 2]  # type: ignore[union-attr]
    assert answer.certain(x[[0, 2]]) == pytest.approx(softmax(x[[0, 2]], axis=1).max(axis=1))
    flags = np.array([[0.2, 0.7]])
    assert Answer("binary", probabilities=True).chosen(flags).tolist() == [0, 1]  # type: ignore[union-attr]
    assert Answer("binary", probabilities=True).certain(flags) == pytest.approx([0.8, 0.7])
    assert Answer("mse").chosen(flags) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["kl", "binary", "mse", "cosine"])
def test_values_that_are_no_numbers(bad: float, kind: str) -> None:
    good = expit(normal(4, 3))
    broken = good.copy()
    broken[2, 1] = bad
    answer = answer_of([good], kind)
    assert answer.loss([good], [broken]) == np.inf
    rows = softmax(good, axis=1)
    assert answer_of([rows]).loss([rows], [np.where(np.isfinite(broken), rows, bad).astype(f32)]) == np.inf
    with pytest.raises(CalibrationError, match="holds NaN or infinity"):
        answer.loss([broken], [good])
    with pytest.raises(CalibrationError, match="holds NaN or infinity"):
        Answer("kl").loss([np.full((1, 3), -np.inf, f32)], [good[:1]])


def test_what_cannot_be_compared() -> None:
    with pytest.raises(CalibrationError, match=r"shape \(2, 3\), once quantised \(2, 4\)"):
        Answer("kl").loss([normal(2, 3)], [normal(2, 4)])
    with pytest.raises(CalibrationError, match="no values"):
        Answer("mse").loss([np.zeros((0, 3), f32)], [np.zeros((0, 3), f32)])
    with pytest.raises(CalibrationError, match="as many batches"):
        Answer("mse").loss([normal(2, 3)], [])


def test_what_can_be_compared() -> None:
    """Scores where there are scores, else labels; never text or sequences."""
    scores, labels = [np.ones((2, 3), np.float32)], [np.array([1, 2])]
    text, maps = [np.array(["a", "b"], object)], [[{"a": 0.5}]]
    assert comparable({"label": labels, "half": [np.ones(1, np.float16)], "scores": scores, "maps": maps}) == [
        "half",
        "scores",
    ]
    assert comparable({"text": text, "label": labels, "flag": [np.array([True])]}) == ["label", "flag"]
    empty = [np.zeros((0, 3), f32)]
    assert comparable({"empty": empty, "once": [*empty, normal(1, 3)], "label": labels}) == ["once"]
    assert comparable({"empty": empty, "label": labels}) == ["label"]
    with pytest.raises(CalibrationError, match="no output of the model holds numbers"):
        comparable({"text": text, "maps": maps})


def test_a_sigmoid_decides_even_if_all_its_answers_are_no() -> None:
    """Values that are all near 0 may be anything, an error of reconstruction, say."""
    product, moved = helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Squeeze", ["p"], ["y"])
    low = {"y": [expit(4 * normal(60, 1) - 20)]}
    for operator, kind in (("Sigmoid", "binary"), ("Abs", "mse")):
        nodes = [product, helper.make_node(operator, ["z"], ["p"]), moved]
        model = build(nodes, [value("x", ["N", 3])], [value("y", ["N"])], {"w": normal(3, 1)})
        assert answers_of(low, model)["y"].kind == kind


def test_numbers_cut_off_at_limits_are_no_decisions() -> None:
    """Heatmaps are 0 nearly everywhere: as decisions they took five times the bits. Cut probabilities still decide."""
    data = {"y": [np.clip(3 * normal(60, 1), 0, 1)]}
    for first, kind in (("Sigmoid", "binary"), ("Neg", "mse")):
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node(first, ["z"], ["p"]),
            helper.make_node("Clip", ["p", "low", "high"], ["c"]),
            helper.make_node("Squeeze", ["c"], ["y"]),
        ]
        tensors = {"w": normal(3, 1), "low": np.array(0.0, np.float32), "high": np.array(1.0, np.float32)}
        model = build(nodes, [value("x", ["N", 3])], [value("y", ["N"])], tensors)
        assert answers_of(data, model)["y"].kind == kind


def test_maps_of_classes_may_be_asked_for() -> None:
    """The classes of a map lie along its second axis, or its last."""
    maps = np.moveaxis(4 * normal(20, 6, 7, 3) * (1 + np.arange(3)), -1, 1) + 2 * normal(20, 1, 6, 7)
    assert (answer_of([maps], "kl").kind, answer_of([maps], "kl").axis) == ("kl", 1)
    assert answer_of([np.moveaxis(maps, 1, -1)], "kl").axis == -1


def test_probabilities_of_which_an_argmax_takes_the_largest_are_no_logits() -> None:
    """Two-class networks of scikit-learn gave 1 - p and p, whose softmax is never sure: 96 % was kept for 99 % said."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["both"], axis=1),
        helper.make_node("ArgMax", ["both"], ["label"], axis=1),
    ]
    tensors = {"w": normal(3, 1), "one": np.ones((1, 1), np.float32)}
    label = value("label", ["N", 1], onnx.TensorProto.INT64)
    model = build(nodes, [value("x", ["N", 3])], [label], tensors)
    assert compared_values(model) == ["both"]
    p = expit(9 * normal(60, 1))
    found = answers_of({"both": [np.concatenate([1 - p, p], axis=1)]}, model)["both"]
    assert (found.kind, found.axis, found.probabilities) == ("kl", -1, True)
    logits = np.concatenate([normal(60, 1), normal(60, 1, seed=1)], axis=1)
    assert not answers_of({"both": [logits]}, model)["both"].probabilities


def one_sample(batch: int | str, shape: list[int | str]) -> onnx.ModelProto:
    """A model of one input, whose output has a shape of its own."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return build(nodes, [value("x", [batch, "T", 3])], [value("y", shape)], {"w": normal(3, 4)})


def test_positions_along_the_first_axis_are_those_of_one_sample() -> None:
    """Letters of a line, most of them none: of a model that takes one line at a time they were taken for lines."""
    letters = np.where(np.arange(64 * 20) % 10 > 0, 0, 1 + np.arange(64 * 20) % 99)
    logits = normal(64 * 20, 100) + 12 * np.eye(100, dtype=np.float32)[letters]
    lines = [*logits.reshape(64, 20, 1, 100)]
    found = answers_of({"y": lines}, one_sample(1, ["T", 1, 100]))["y"]
    assert (found.kind, found.found) == ("kl", True)
    assert found.shares is not None
    assert found.shares[0] < found.shares[1]
    assert answers_of({"y": lines}, one_sample("N", ["T", 1, 100]))["y"].kind == "mse", "as well 1,280 samples"


@pytest.mark.parametrize("shape", [(40, 2), (2, 40), (2, 40, 50), (80,)])
def test_a_grid_along_the_first_axis_is_no_variation_between_samples(shape: tuple[int, ...]) -> None:
    """Boxes of a detector that takes one image at a time, without an axis of images."""
    where = 10 * np.arange(np.prod(shape)).reshape(shape)
    boxes = [(where + normal(*shape, seed=seed)).astype(np.float32) for seed in range(50)]
    found = answers_of({"y": boxes}, one_sample(1, [*shape]))["y"]
    assert found.kind == "mse"
    np.testing.assert_allclose(found.variance, 1, rtol=0.5)
    halved = found.losses(boxes[0], boxes[0] + np.float32(0.5))
    np.testing.assert_allclose(halved.mean(), 0.25, rtol=0.3)


def test_a_model_may_give_a_number_without_an_axis(tmp_path: Path) -> None:
    """A score of speech quality ends in a Squeeze, and takes one clip at a time: that ended in exit code 70."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["z"]),
        helper.make_node("Squeeze", ["z"], ["y"]),
    ]
    tensors = {"w": normal(20, 64, seed=1), "v": normal(64, 1, seed=2)}
    model = build(nodes, [value("x", ["N", 20])], [value("y", [])], tensors)
    onnx.save(model, tmp_path / "m.onnx")
    data = normal(96, 20)
    report = cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib={"x": data})
    assert report.fidelity is not None
    assert not report.warnings
    fresh = normal(400, 20, seed=3)
    x, y = (
        np.array([session.run(None, {"x": row[None]})[0] for row in fresh])
        for session in (ort.InferenceSession(model.SerializeToString()), cerwu_onnx.load_session(tmp_path / "m.cwb"))
    )
    assert 1e-4 < np.square(x - y).mean() / x.var() < 0.02


def test_who_names_an_output_means_what_takes_its_place() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Add", ["x", "z"], ["y"])]
    model = build(nodes, [value("x", ["N", 4])], [value("y", ["N", 4])], {"w": normal(4, 4)})
    values = {"z": [normal(60, 4)]}
    assert compared_values(model) == ["z"]
    assert [answers_of(values, model, wanted)["z"].kind for wanted in ("auto", "y=kl")] == ["mse", "kl"]
