"""The price that keeps a share of the answers: judgements of halves, the search, and what a temperature is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from scipy.special import softmax

from cerwu_onnx.calibration import Answer, held_out, open_data
from cerwu_onnx.calibration.answers import STRETCHES, Batches
from cerwu_onnx.calibration.held_out import Half, Noisy
from cerwu_onnx.calibration.kinds import answer_of
from cerwu_onnx.compression import fidelity, halves, layer_walk, walk_quantizer
from cerwu_onnx.compression.fidelity import Found, Judgement, blended, judgement, moved, search, tempered, worst
from cerwu_onnx.compression.halves import Halves
from cerwu_onnx.compression.walk_quantizer import WalkQuantizer
from cerwu_onnx.compression.walk_result import WalkResult
from cerwu_onnx.config import Settings
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.jobs.progress import silent
from cerwu_onnx.model.graph import analyse

from ..models import build, normal, value


def told(price: float, lost: float, samples: int = 10**6) -> Judgement:
    return Judgement(price, lost, 0.0, "y", "kl", None, samples)


@pytest.mark.parametrize("factor", [1e-3, 0.05, 1.0, 30.0])
@pytest.mark.parametrize("limit", [0.001, 0.01, 0.1])
def test_a_search_ends_where_the_limit_lies(factor: float, limit: float) -> None:
    """What is lost is in proportion to the price: nothing else is needed to find it."""
    prices: list[float] = []
    halves: list[bool] = []

    def judge(price: float, second: bool) -> Judgement:
        prices.append(price)
        halves.append(second)
        return told(price, factor * price)

    found = search(judge, limit)
    expected = min(limit / factor, fidelity.MOST)
    assert found.price == pytest.approx(expected, rel=0.15)
    assert found.lost == pytest.approx(factor * found.price, rel=1e-6)
    assert halves == [turn % 2 == 1 for turn in range(len(prices))], "halves take turns"
    assert 2 <= len(prices) <= fidelity.TURNS
    assert prices[0] == fidelity.START * limit
    nearest = min(prices, key=lambda price: abs(np.log(price / found.price)))
    assert found.judged.price == nearest


@pytest.mark.parametrize("factor", [0.01, 0.05, 0.3])
def test_where_every_changed_answer_counts_the_loss_grows_with_the_root_of_the_price(factor: float) -> None:
    prices: list[float] = []

    def judge(price: float, second: bool) -> Judgement:
        prices.append(price)
        return Judgement(price, factor * price**0.5, 0.0, "y", "binary", 0.9, 10**6, power=0.5)

    found = search(judge, 0.01)
    assert found.price == pytest.approx((0.01 / factor) ** 2, rel=0.15)
    assert found.lost == pytest.approx(factor * found.price**0.5, rel=1e-6)
    assert len(prices) <= 3, "one judgement says where the limit lies, the next one finds it there"


def test_how_many_answers_stay_follows_the_root_of_the_price() -> None:
    """Errors grow with it, and answers change in proportion to errors."""
    one = Judgement(0.1, 0.01, 0.0, "y", "kl", 0.98, 100)
    assert Found(0.4, 0.04, one).same == pytest.approx(0.96)
    assert Found(0.1, 0.01, one).same == pytest.approx(0.98)
    assert Found(1e6, 1.0, one).same == 0
    assert Found(0.4, 0.04, replace(one, same=None)).same is None


@pytest.mark.parametrize(("lost", "end"), [(0.0, fidelity.MOST), (np.inf, fidelity.LEAST)])
def test_no_price_is_beyond_the_bounds(lost: float, end: float) -> None:
    prices = []

    def judge(price: float, second: bool) -> Judgement:
        prices.append(price)
        return told(price, lost)

    search(judge, 0.01)
    assert fidelity.LEAST <= min(prices) <= max(prices) <= fidelity.MOST
    steps = np.abs(np.diff(np.log2(prices)))
    assert steps.max() == pytest.approx(fidelity.STRIDE)
    assert abs(np.log2(prices[-1] / end)) < abs(np.log2(prices[0] / end))


def test_few_samples_ask_for_a_margin() -> None:
    assert told(1.0, 0.1, samples=8).bound == pytest.approx(0.2)
    assert told(1.0, 0.1, samples=80).bound == pytest.approx(0.11)

    def found(samples: int) -> float:
        return search(lambda price, _: told(price, price / 100, samples), 0.01).price

    assert found(16) == pytest.approx(found(10**6) / 1.5, rel=0.1)


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.1])
def test_very_few_samples_may_see_nothing(limit: float) -> None:
    """They cannot raise the price, only lower it."""

    def found(lost: float, samples: int) -> float:
        return search(lambda price, _: told(price, lost * price, samples), limit).price

    assert found(0.0, 15) == found(0.1, 15) == found(0.0, 4) == limit
    assert found(0.0, 16) == fidelity.MOST
    assert found(10.0, 15) == pytest.approx(limit / 10 / (1 + 8 / 15), rel=0.1)


@pytest.mark.parametrize(("yes", "weight"), [(64, 128.0), (10, 36.9), (2, 7.9), (0, 1.0)])
def test_a_few_samples_that_weigh_more_tell_less(yes: int, weight: float) -> None:
    """Two wake words among 128 samples say no more of what is lost than a handful of samples would."""
    p = np.where(np.arange(128) < yes, 0.9, 0.1).astype(np.float32)[:, None]
    answer = answer_of([p, 1 - p])
    found = judgement(1.0, "y", answer, [p], [p], 128)
    assert found.weight == pytest.approx(weight, rel=0.01)
    assert found.samples == 128
    ends = search(lambda price, _: judgement(price, "y", answer, [p], [p], 128), 0.01)
    assert (ends.price <= 0.01) == (weight < fidelity.FEW)


def test_the_output_that_loses_most_is_judged() -> None:
    x, y = normal(40, 3), normal(40, 3)
    near, far = x + 0.01 * normal(40, 3, seed=1), y + 0.1 * normal(40, 3, seed=2)
    answers = {"near": answer_of([x], "mse"), "far": answer_of([y], "mse")}

    def judged(**quantized: np.ndarray) -> Judgement:
        values = {"near": x, "far": y}
        return worst(judgement(0.5, name, answers[name], [values[name]], [quantized[name]], 40) for name in answers)

    found = judged(near=near, far=far)
    assert (found.output, found.price, found.kind, found.samples, found.same) == ("far", 0.5, "mse", 40, None)
    columns = np.square(y - far).mean(axis=0) / y.var(axis=0)
    most = int(columns.argmax())
    assert found.lost == pytest.approx(columns[most], rel=1e-4), "the worst column, not the mean of all"
    rows = np.square(y - far)[:, most] / y.var(axis=0)[most]
    assert found.error == pytest.approx(rows.std() / 39**0.5, rel=1e-4)
    broken = judged(near=x + np.nan, far=far)
    assert (broken.output, broken.lost) == ("near", np.inf)


def test_what_is_lost_of_classes_is_relative_to_the_expected_score() -> None:
    """The score is the probability of the answer given; errors are looked at larger than they are, with both signs."""
    x = normal(200, 10).astype(np.float64)
    y = x + 0.3 * normal(200, 10, seed=1)
    found = judgement(1.0, "y", Answer("kl"), [x[:90], x[90:]], [y[:90], y[90:]], 200)
    p, rows = softmax(x, axis=1), np.arange(200)
    lost = [
        (p.max(axis=1) - p[rows, (x + sign * stretch * (y - x)).argmax(axis=1)]).mean() / stretch**2
        for stretch in STRETCHES
        for sign in (1, -1)
    ]
    assert found.lost == pytest.approx(np.mean(lost) / p.max(axis=1).mean(), rel=1e-6)
    assert found.lost > 0
    changed = [
        ((x + sign * stretch * (y - x)).argmax(axis=1) != x.argmax(axis=1)).mean() / stretch
        for stretch in STRETCHES
        for sign in (1, -1)
    ]
    assert found.same == pytest.approx(1 - np.mean(changed))


@pytest.mark.parametrize("found", [False, True], ids=["probable", "every answer"])
def test_answers_that_change_count_where_larger_errors_change_no_others(found: bool) -> None:
    """A network of ten that was sure of 96 % gave 8 % other answers: a few large errors, and all towards less sure."""
    sign = np.where(np.arange(200) % 2, 1.0, -1.0)
    x = 5 * np.stack([sign, -sign], axis=1)
    y = np.where(np.arange(200)[:, None] % 10 < 9, 0.99 * x, -x)
    one = judgement(1.0, "y", Answer("kl", found=found), [x], [y], 200)
    error = (0.1 * 0.9 / 199) ** 0.5
    assert one.lost == pytest.approx(0.1 - error, rel=0.01)
    assert one.same == pytest.approx(0.9 + error, rel=0.01)
    single = np.where(np.arange(200)[:, None] > 0, 0.99 * x, -x)
    few = judgement(1.0, "y", Answer("kl", found=found), [x], [single], 200)
    assert few.lost < 0.5 / 200, "one sample by itself says nothing"


def test_rows_of_a_sample_do_not_count_as_samples() -> None:
    """The standard error is that of samples, whose rows are alike."""
    x = np.repeat(3 * normal(20, 10), 50, axis=0).reshape(20, 50, 10)
    y = x + np.repeat(normal(20, 10, seed=1), 50, axis=0).reshape(20, 50, 10)
    found = judgement(1.0, "y", Answer("kl"), [x], [y], 20)
    alone = judgement(1.0, "y", Answer("kl"), [x[:, :1]], [y[:, :1]], 20)
    assert found.error == pytest.approx(alone.error, rel=1e-4)


def test_noise_tells_how_sure_a_model_may_be() -> None:
    """The more its entropy grows by noise of two kinds, the less its probabilities count; margins shrink a little."""
    plain, sure = Answer("kl"), 40 * normal(200, 10)
    before = plain.entropy([sure])

    def noise(factor: float) -> dict[str, Batches]:
        """Outputs whose entropy is so many times as large."""
        return {"y": [sure / plain.temper([sure], factor * before).temperature], "n": [sure]}

    outputs = {"y": [sure], "n": [sure]}
    found = tempered({"y": plain, "n": Answer("mse")}, outputs, [noise(4), noise(9)])
    assert (found["y"].sure, found["y"].temperature) == pytest.approx((6 / 2.25, (6 / 2.25) ** 0.125), rel=1e-3)
    assert (found["n"].sure, found["n"].temperature) == (1, 1)
    shy = tempered({"y": plain}, outputs, [noise(1.5), noise(1.5)])["y"]
    assert (shy.sure, shy.temperature) == pytest.approx((1.5**1.5 / 2.25**1.5, 1.0), rel=1e-3)
    assert tempered({"y": plain}, outputs, [noise(1.05)] * 2)["y"].sure == fidelity.LEAST_SURE
    bold = tempered({"y": plain}, outputs, [{"y": [sure / 1000]}] * 2)["y"]
    assert (bold.sure, bold.temperature) == (fidelity.MOST_SURE, fidelity.MOST_SURE**0.125)
    reached = tempered({"y": plain}, outputs, [outputs, outputs])["y"]
    assert (reached.sure, reached.temperature) == (1, 1), "noise that reaches nothing tells nothing"
    every = tempered({"y": replace(plain, found=True)}, outputs, [noise(9), noise(9)])["y"]
    assert (every.sure, every.temperature) == (1, 1), "margins of moved samples are looked at instead"


def test_answers_count_by_how_sure_the_model_may_be() -> None:
    """Margins are what they are; what a changed answer costs follows from probabilities that may be believed."""
    plain, x = Answer("kl"), 3 * normal(400, 10)
    errors = x + 0.3 * normal(400, 10, seed=1)
    shy, right, bold = (judgement(0.1, "y", replace(plain, sure=sure), [x], [errors], 400) for sure in (0.5, 1, 2))
    assert bold.lost < right.lost / 1.5
    assert 1.1 * right.lost < shy.lost < right.lost / 0.5**1.5
    assert shy.same == right.same == bold.same
    warm = judgement(0.1, "y", replace(plain, temperature=1.5), [x], [errors], 400)
    assert 1.3 * (1 - right.same) < 1 - warm.same < 1.7 * (1 - right.same)
    p, rows = softmax(x, axis=1), np.arange(400)
    lost = [
        (p.max(axis=1) - p[rows, (x / 1.5 + sign * stretch * (errors - x)).argmax(axis=1)]).mean() / stretch**2
        for stretch in STRETCHES
        for sign in (1, -1)
    ]
    assert warm.lost == pytest.approx(np.mean(lost) / p.max(axis=1).mean(), rel=1e-6), "by probabilities without it"


def test_moved_samples_have_a_variance_and_margins_of_their_own() -> None:
    x, there = normal(50, 3), np.float32([1, 5, 0.1]) * normal(50, 3, seed=1)
    flags = Answer("binary", temperature=3.0, found=True, shares=np.array([0.5, 2.0]))
    answers = {"n": answer_of([x], "mse"), "d": flags, "c": Answer("kl"), "bad": answer_of([x], "mse")}
    found = moved(answers, {"n": [there], "d": [x], "c": [x], "bad": [np.where(x > 2, np.nan, x)]})
    assert found.keys() == {"n", "d"}, "classes have a temperature; what is no number says nothing"
    assert found["n"].variance == pytest.approx(there.var(axis=0), rel=1e-4)
    assert found["d"] == replace(flags, temperature=1.0)


def dense() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    tensors = {"w": normal(6, 20, seed=1), "v": normal(20, 5, seed=2) / 4}
    return build(nodes, [value("x", ["N", 6])], [value("y", ["N", 5])], tensors)


@pytest.mark.parametrize("whole", [True, False])
def test_a_model_is_judged_on_both_halves(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that quantised it counts a quarter, and the samples of both are all."""
    model = dense()
    graph, x = analyse(model), normal(64, 6, seed=3)
    source = open_data({"x": x}, model)
    for second in (False, True):
        seen: list[np.ndarray] = []

        def quantize(half: object, seen: list[np.ndarray] = seen) -> dict[str, np.ndarray]:
            seen.extend(feed["x"] for feed in half.batches(16))  # type: ignore[attr-defined]
            return {"v": graph.array("v") + 0.05 * normal(20, 5, seed=9)}

        settings = Settings(output_loss="mse")
        found = Halves(graph, source, settings, whole=whole).judge(0.25, quantize, second=second)
        ours = np.arange(64) // 8 % 2 == int(second)
        assert np.array_equal(np.concatenate(seen), x[ours])
        h = np.maximum(x @ graph.array("w"), 0)
        reference, error = h @ graph.array("v"), h @ (0.05 * normal(20, 5, seed=9))
        assert reference.var(axis=0) != pytest.approx(reference[~ours].var(axis=0), rel=1e-3)
        own, other = ((np.square(error[rows]).mean(axis=0) / reference.var(axis=0)).max() for rows in (ours, ~ours))
        expected = 0.75 * other + 0.25 * own
        assert own != pytest.approx(other, rel=1e-2)
        assert found.lost >= expected * (1 - 1e-4)
        monkeypatch.setattr(held_out, "HALFWAY", 0.0)  # samples that do not move say the same once more
        found = Halves(graph, source, settings, whole=whole).judge(0.25, quantize, second=second)
        assert found.lost == pytest.approx(expected, rel=1e-4)
        assert (found.samples, found.kind, found.price) == (32, "mse", 0.25)


def steep(last: str) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """A model that has learnt its samples by heart: its steps lie between them; its weight and the samples."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node(last, ["h"], ["y"])]
    weight = 12 * np.eye(4, dtype=np.float32)
    model = build(nodes, [value("x", ["N", 4])], [value("y", ["N", 4])], {"w": weight})
    return model, weight, np.sign(normal(256, 4, seed=5)) + 0.1 * normal(256, 4, seed=6)


@pytest.mark.parametrize("whole", [True, False])
def test_numbers_are_judged_on_moved_samples_too(whole: bool) -> None:
    model, weight, x = steep("Tanh")
    source, other = open_data({"x": x}, model), weight + normal(4, 4, seed=1)
    judges = Halves(analyse(model), source, Settings(output_loss="mse"), whole=whole)
    found = judges.judge(0.1, lambda _: {"w": other}, second=False)
    sides = [Half(source, second=second) for second in (False, True)]
    lost = []
    for both in (sides, [Noisy(side, natural=True) for side in sides]):
        first, second = (np.concatenate([feed["x"] for feed in side.batches(32)]) for side in both)
        variance = np.tanh(np.concatenate([first, second]) @ weight).var(axis=0)
        own, others = (
            float((np.square(np.tanh(rows @ other) - np.tanh(rows @ weight)).mean(axis=0) / variance).max())
            for rows in (first, second)
        )
        lost.append(0.25 * own + 0.75 * others)
    assert lost[1] > 10 * lost[0]
    assert found.lost == pytest.approx(lost[1], rel=1e-3)


def test_moved_samples_that_give_no_numbers_judge_nothing() -> None:
    nodes = [helper.make_node("Sqrt", ["x"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    weight = normal(4, 3)
    model = build(nodes, [value("x", ["N", 4])], [value("y", ["N", 3])], {"w": weight})
    x = np.abs(normal(64, 4, seed=2))
    found = Halves(analyse(model), open_data({"x": x}, model), Settings(output_loss="mse")).judge(
        0.1, lambda _: {"w": weight + 0.1}, second=False
    )
    y = np.sqrt(x) @ weight
    error = np.square(0.1 * np.sqrt(x).sum(axis=1))
    judged = np.arange(64) // 8 % 2 == 1
    blend = 0.75 * error[judged].mean() + 0.25 * error[~judged].mean()
    assert found.lost == pytest.approx((blend / y.var(axis=0)).max(), rel=1e-3)


def test_decisions_learnt_by_heart_are_judged_beside_the_samples() -> None:
    """No margin is near zero at the samples, so no error shows there."""
    model, weight, x = steep("Sigmoid")
    source = open_data({"x": x}, model)
    judges = Halves(analyse(model), source, Settings())
    assert judges.answers["y"].kind == "binary"
    found = judges.judge(0.1, lambda _: {"w": weight + normal(4, 4, seed=1)}, second=False)
    assert found.lost > 0.01
    assert found.same is not None
    assert found.same < 0.99
    assert judges.judge(0.1, lambda _: {}, second=False).lost == 0


def test_one_sample_has_no_halves() -> None:
    model = dense()
    with pytest.raises(CalibrationError, match="cannot be divided into halves"):
        Halves(analyse(model), open_data({"x": normal(1, 6)}, model), Settings())


def test_what_an_output_answers_is_decided_once() -> None:
    """One half alone would look like classes, the other like numbers; the noise and the temperature are of both."""
    model = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["N", 6])],
        [value("y", ["N", 6])],
        {"w": np.eye(6, dtype=np.float32)},
    )
    x = 8 * np.eye(6, dtype=np.float32)[np.arange(64) % 6] - 2 + 0.1 * normal(64, 6)
    faint = np.arange(64) // 8 % 2 == 1
    x[faint] *= 0.05
    kinds = [answer_of([x[part]]).kind for part in (faint, ~faint)]
    assert kinds == ["mse", "kl"]
    graph, source, settings = analyse(model), open_data({"x": x}, model), Settings()
    judges = Halves(graph, source, settings)
    for second in (False, True):
        found = judges.judge(0.1, lambda _: {}, second=second)
        assert (found.kind, found.lost, found.same) == ("kl", 0.0, 1.0)
    ordered = open_data({"x": np.concatenate([x[faint], x[~faint]])}, model)
    temperature = judges.answers["y"].temperature
    assert Halves(graph, ordered, settings).answers["y"].temperature == pytest.approx(temperature, rel=0.2)


def test_few_samples_judge_a_model_with_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "JUDGED", 16)
    model, x = dense(), normal(64, 6, seed=3)
    judged = np.arange(64) % 32 < 16  # blocks of 8: two of the four that each half has, one of them from further on
    x[~judged] *= 1e3
    answers = Halves(analyse(model), open_data({"x": x}, model), Settings(output_loss="mse")).answers
    seen = np.maximum(x[judged] @ normal(6, 20, seed=1), 0) @ (normal(20, 5, seed=2) / 4)
    assert answers["y"].variance == pytest.approx(seen.var(axis=0), rel=1e-4)


def test_all_samples_together_lose_less_than_half_of_them_on_others() -> None:
    """Least squares fitted to n of 2 n samples: the blend of both halves is what a fit to all loses on other data."""
    random, columns, half, fresh = np.random.default_rng(0), 8, 40, 2000
    told, true, others = [], [], []
    for _ in range(60):
        x, seen = random.normal(size=(2 * half, columns)), random.normal(size=(fresh, columns))
        aim = random.normal(size=2 * half)  # no column tells it: all that is fitted is chance
        answer = Answer("mse", variance=np.ones(1))

        def fit(rows: slice, x: np.ndarray = x, aim: np.ndarray = aim) -> np.ndarray:
            return np.linalg.lstsq(x[rows], aim[rows], rcond=None)[0]

        first, second = slice(0, half), slice(half, None)
        ours = fit(first)
        own, other = (
            judgement(1.0, "y", answer, [aim[rows, None]], [x[rows] @ ours[:, None]], half) for rows in (first, second)
        )
        told.append(blended(other, own).lost)
        others.append(other.lost)
        true.append(1 + np.square(seen @ fit(slice(None))).mean())
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.06)
    assert np.mean(others) > np.mean(true) + 0.1


def test_a_blend_is_of_one_output() -> None:
    others = Judgement(0.1, 0.04, 0.012, "y", "kl", 0.96, 100, 37.0)
    found = blended(others, Judgement(0.1, 0.02, 0.016, "y", "kl", 0.98, 90, 12.0))
    assert (found.lost, found.error, found.same) == pytest.approx((0.035, (0.009**2 + 0.004**2) ** 0.5, 0.965))
    assert replace(found, lost=0.04, error=0.012, same=0.96) == others
    assert blended(replace(others, same=None), replace(others, same=None)).same is None
    assert blended(replace(others, lost=np.inf, error=np.inf), others).lost == np.inf


def test_few_positions_do_for_a_judgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is quantised with more of them, and no effort takes more to be judged."""
    model, asked = dense(), []
    original = walk_quantizer.quantize_walk

    def watched(*arguments: Any, enough: int, **keywords: Any) -> WalkResult:
        asked.append(enough)
        return original(*arguments, enough=enough, **keywords)

    monkeypatch.setattr(walk_quantizer, "quantize_walk", watched)
    source = open_data({"x": normal(64, 6, seed=3)}, model)
    for effort, expected in (("default", [128, 256]), ("fast", [32, 32])):
        asked.clear()
        quantizer = WalkQuantizer(analyse(model), source, Settings(effort=effort), silent)
        quantizer.judge(0.1, second=False)
        quantizer.quantize(0.1)
        assert asked == expected


def test_a_judgement_runs_no_walk_to_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole model is judged, on other samples: the loss at the end of the walk is that of a file."""
    model, losses = dense(), []
    original = layer_walk.output_loss

    def watched(*arguments: Any) -> float:
        losses.append(original(*arguments))
        return losses[-1]

    monkeypatch.setattr(layer_walk, "output_loss", watched)
    quantizer = WalkQuantizer(analyse(model), open_data({"x": normal(64, 6, seed=3)}, model), Settings(), silent)
    assert quantizer.judge(0.1, second=False).lost > 0
    assert not losses
    assert [quantizer.quantize(0.1).loss] == losses
