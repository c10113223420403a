"""The price that keeps a share of the answers: the search, judgements of halves, and what a temperature is for."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx import CalibrationError, Report, Settings, Target, UsageError
from cerwu_onnx.calibration import Answer, answer_of
from cerwu_onnx.compression.fidelity import (
    LEAST,
    MOST,
    START,
    STRIDE,
    THIN,
    TURNS,
    Judgement,
    judgement,
    search,
    worst,
)
from cerwu_onnx.compression.walk_quantizer import WalkQuantizer

from ..classifiers import clouds, trained
from ..models import normal, run


class Judge:
    """A made-up judge: what is lost at each price; of a half that is harder, so many times that."""

    def __init__(self, lost: Any, samples: int = 100, harder: tuple[float, float] = (1, 1)) -> None:
        self.lost, self.samples, self.harder = lost, samples, harder
        self.prices: list[float] = []
        self.halves: list[bool] = []

    def __call__(self, price: float, second: bool) -> Judgement:
        self.prices.append(price)
        self.halves.append(second)
        return Judgement(price, self.harder[second] * self.lost(price), 0.0, "y", "kl", None, self.samples)


def test_the_last_judgement_counts_however_far_it_sees_the_limit() -> None:
    """No step of the search is longer than some octaves, but no file is written at a price that is known to hurt."""
    judge = Judge(lambda price: 1e-9 if price < 200 else 1e6)
    found = search(judge, 0.01)
    assert max(judge.prices) > 200
    assert found.price < 1e-3


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6])
def test_a_price_leaves_a_standard_error_of_what_both_halves_say(share: float) -> None:
    """Each half is uncertain by this share of what it sees; the mean of both by the root of a half of that."""
    judge = Judge(lambda price: 0.1 * price, samples=10**6)

    def uncertain(price: float, second: bool) -> Judgement:
        one = judge(price, second)
        return replace(one, error=share * one.lost)

    found = search(uncertain, 0.01)
    assert found.price * 0.1 * (1 + share / 2**0.5) == pytest.approx(0.01, rel=1e-3)
    assert found.lost == pytest.approx(0.1 * found.price, rel=1e-3), "what is said has no margin"


@pytest.mark.parametrize("limit", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("level", [0.0003, 0.003, 0.1, 1.0, 30.0])
@pytest.mark.parametrize(
    ("power", "noise", "near"), [(0.8, 0.05, 0.2), (1.0, 0.05, 0.2), (1.2, 0.05, 0.2), (1, 0, 1e-3)]
)
def test_the_price_found_is_at_the_limit(power: float, noise: float, near: float, level: float, limit: float) -> None:
    """Where what is lost is in proportion to the price, nothing else is needed to find it."""
    random = np.random.default_rng(5)
    judge = Judge(lambda price: level * price**power * math.exp(noise * random.normal()))
    found = search(judge, limit)
    lost = level * found.price**power
    if LEAST < found.price < MOST:
        assert lost * (1 + THIN / 100) == pytest.approx(limit, rel=near)
        assert found.lost == pytest.approx(lost, rel=near)
    else:
        assert (found.price == MOST) == (lost < limit)
    assert judge.prices[0] == START * limit
    assert 2 <= len(judge.prices) <= TURNS
    assert judge.halves == [turn % 2 == 1 for turn in range(len(judge.prices))]  # each half in its turn
    nearest = min(judge.prices, key=lambda price: abs(math.log(price / found.price)))
    assert found.judged.price == nearest


@pytest.mark.parametrize(("lost", "price"), [(0.0, MOST), (np.inf, LEAST)], ids=["nothing", "everything"])
def test_a_search_ends_where_all_prices_lose_the_same(lost: float, price: float) -> None:
    judge = Judge(lambda _: lost)
    found = search(judge, 0.01)
    assert (found.price, found.judged.lost) == (price, lost)
    assert len(judge.prices) <= TURNS
    assert LEAST <= min(judge.prices) <= max(judge.prices) <= MOST
    assert np.abs(np.diff(np.log2(judge.prices))).max() == pytest.approx(STRIDE)
    assert found.lost == pytest.approx(lost, abs=1e-6)


@pytest.mark.parametrize("harder", [(1, 1.3), (1, 2), (1, 4), (1, 8), (1, 64), (2, 1), (4, 1), (8, 1), (256, 1)])
def test_halves_that_disagree(harder: tuple[float, float]) -> None:
    """What is said of the file has to hold, whichever half is near it."""
    found = search(Judge(lambda price: price / 100, 10**6, harder), 0.01)
    seen = [harder[half] * found.price / 100 for half in (False, True)]
    assert min(seen) < found.lost < max(seen)
    assert found.lost <= 0.01001


@pytest.mark.parametrize("limit", [0.01, 0.05])
@pytest.mark.parametrize("harder", [(1, 1.4), (1.4, 1), (1, 3), (3, 1)])
def test_a_file_loses_all_that_it_may(harder: tuple[float, float], limit: float) -> None:
    """Halves that see the limit at different prices: what is said is what was asked for, not what is near one."""
    found = search(Judge(lambda price: price / 50, 10**6, harder), limit)
    assert found.lost == pytest.approx(limit, rel=2e-3)


def test_a_file_that_loses_everything_says_only_that_others_lose_less() -> None:
    """Beyond some price outputs are no numbers any more: the judgements below it tell where the limit lies."""
    judge = Judge(lambda price: price / 2 if price < 0.05 else np.inf, 10**6)
    found = search(judge, 0.01)
    assert judge.lost(judge.prices[0]) == np.inf
    assert found.lost == pytest.approx(found.price / 2, rel=1e-3)
    assert found.price == pytest.approx(0.02, rel=2e-3)


def test_few_samples_leave_a_margin() -> None:
    bounds = [Judgement(0.1, 0.01, 0.0, "y", "kl", None, samples).bound for samples in (8, 80, 8000)]
    assert bounds == pytest.approx([0.02, 0.011, 0.01001])
    few, many = (search(Judge(lambda price: price / 100, samples), 0.01).price for samples in (16, 10**6))
    assert few == pytest.approx(many / 1.5, rel=1e-3)


def judged(x: np.ndarray, y: np.ndarray, answer: Answer) -> Judgement:
    """Of one output, in two batches."""
    found = judgement(0.3, "y", answer, [x[:3], x[3:]], [y[:3], y[3:]], len(x))
    assert (found.price, found.output, found.kind, found.samples) == (0.3, "y", answer.kind, len(x))
    same = judgement(0.3, "y", answer, [x], [x], len(x))
    assert (same.lost, same.error, same.same) == (0.0, 0.0, None if found.same is None else 1.0)
    return found


def test_classes_that_change_cost_their_probability() -> None:
    x = np.tile(np.float32([[2, 0], [0, 2]]), (5, 1))
    y = x.copy()
    y[0] = x[0, ::-1]  # one of ten answers changes; the opposite error changes none
    found = judged(x, y, Answer("kl"))
    right = 1 / (1 + math.exp(-2))
    each = (right - (1 - right)) * (1 + 1 / 1.5**2 + 1 / 2**2 + 1 / 3**2) / 8
    assert found.lost == pytest.approx(0.1 * each / right, rel=1e-6)
    assert found.same == pytest.approx(1 - 0.1 * (1 + 1 / 1.5 + 1 / 2 + 1 / 3) / 8)
    assert found.power == 1
    assert found.error == pytest.approx(each / right * (0.1 * 0.9 / 9) ** 0.5, rel=1e-6)


def test_decisions_that_change_count_each() -> None:
    x = np.tile(np.float32([[0.9, 0.1]]), (10, 1))
    y = x.copy()
    y[0] = x[0, ::-1]  # two of twenty
    found = judged(x, y, answer_of([x], "binary"))
    assert found.lost == pytest.approx(0.1 * (1 + 1 / 1.5 + 1 / 2 + 1 / 3) / 8, rel=1e-6)
    assert found.same == pytest.approx(1 - found.lost)
    assert found.power == 0.5


def test_the_worst_column_of_numbers_counts() -> None:
    x = normal(40, 3) * np.float32([1, 10, 100])
    y = x + normal(40, 3, seed=1) * np.float32([0.1, 2, 5])
    found = judged(x, y, answer_of([x], "mse"))
    errors = np.square(x - y).astype(np.float64)
    assert found.lost == pytest.approx((errors.mean(axis=0) / x.var(axis=0))[1], rel=1e-4)
    assert found.error == pytest.approx(errors[:, 1].std() / 39**0.5 / x[:, 1].var(), rel=1e-4)
    assert found.same is None


def test_lengths_of_directions_do_not_count() -> None:
    x = normal(20, 16)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    answer = answer_of([x], "cosine")
    assert judged(x, 3 * x, answer).lost == pytest.approx(0, abs=1e-10)
    assert judged(x, -x, answer).lost == pytest.approx(np.square(2 * x).mean() / x.var(axis=0).mean(), rel=1e-4)


def test_the_output_that_loses_most_counts() -> None:
    x = normal(40, 3)
    outputs = {"a": ([x], [x + np.float32(0.1)]), "b": ([x], [x + np.float32(0.3)]), "c": ([x], [x])}
    answers = {name: answer_of([x], "mse") for name in outputs}

    def found() -> Judgement:
        return worst(judgement(1.0, name, answer, *outputs[name], 40) for name, answer in answers.items())

    assert found().output == "b"
    outputs["c"][1][0] = np.full_like(x, np.nan)
    broken = found()
    assert (broken.output, broken.lost, broken.error) == ("c", np.inf, np.inf)


TRAINED, DATA = trained(), {"x": clouds(200, 4)[0]}


def compressed(folder: Path, target: Target | None = None, data: Any = DATA, **settings: Any) -> Report:
    onnx.save(TRAINED, folder / "m.onnx")
    chosen = Settings(**settings)
    return cerwu_onnx.compress(
        folder / "m.onnx", folder / "m.cwb", calib=data, settings=chosen, target=target, force=True
    )


def accuracy(model: onnx.ModelProto) -> float:
    """On samples that neither training nor compression saw."""
    x, labels = clouds(20_000, 9)
    return float((run(model, {"x": x})[0].argmax(axis=1) == labels).mean())


def test_the_default_keeps_its_fidelity_on_fresh_data(tmp_path: Path) -> None:
    at_a_guess = compressed(tmp_path, lambda_=0.05)
    report = compressed(tmp_path)
    before, after = accuracy(TRAINED), accuracy(cerwu_onnx.decompress(tmp_path / "m.cwb"))
    assert before > 0.8
    assert report.file_bytes < at_a_guess.file_bytes
    assert report.lambda_ > 0.05
    assert report.warnings == ()
    fidelity = report.fidelity
    assert fidelity is not None
    assert fidelity.asked == 0.99
    assert fidelity.kept >= 0.99
    assert after >= (fidelity.kept - 2 * fidelity.error) * before
    assert (fidelity.kind, fidelity.output, fidelity.samples) == ("kl", "logits", 100)


def test_a_lower_fidelity_gives_a_smaller_file(tmp_path: Path) -> None:
    reports = [compressed(tmp_path, Target(fidelity=share), effort="fast") for share in (0.999, 0.99, 0.95)]
    sizes = [report.file_bytes for report in reports]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[1] < sizes[0]
    assert [report.fidelity.asked for report in reports if report.fidelity] == [0.999, 0.99, 0.95]


@pytest.mark.parametrize(
    ("target", "settings", "data", "said"),
    [
        pytest.param({}, {"lambda_": 0.1}, DATA, "exclude each other", id="lambda"),
        pytest.param({}, {"method": "cerwu"}, DATA, "by the method trellis: give --calib", id="method"),
        pytest.param({}, {}, None, "by the method trellis: give --calib", id="no data"),
        pytest.param({"size": 5000}, {}, DATA, "exclude each other: give one", id="size"),
        pytest.param({"bits_per_weight": 2.0}, {}, DATA, "exclude each other: give one", id="bits"),
    ],
)
def test_a_fidelity_beside_what_contradicts_it_is_refused(
    target: dict[str, Any], settings: dict[str, Any], data: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        compressed(tmp_path, Target(fidelity=0.99, **target), data, **settings)
    assert not (tmp_path / "m.cwb").exists()


@pytest.mark.parametrize(("lost", "said"), [(0.5, "[345][0-9] % is lost"), (np.inf, "inf % is lost")])
def test_a_fidelity_that_no_price_keeps(
    lost: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WalkQuantizer, "judge", lambda _, price, second: Judge(lambda _: lost)(price, second))
    report = compressed(tmp_path)
    (warning,) = report.warnings
    assert warning.startswith("no file found keeps a fidelity of 99 %: at lambda ")
    assert re.search(said, warning)
    assert report.lambda_ == LEAST
    assert (report.fidelity is None) == (lost == np.inf)
    json.dumps(report.to_dict(), allow_nan=False)


def test_data_that_cannot_be_divided(tmp_path: Path) -> None:
    report = compressed(tmp_path, data=[DATA])
    (warning,) = report.warnings
    assert warning.startswith("nobody knows what the file loses on fresh data (the calibration data cannot be divided")
    assert "lambda 0.05 is a guess" in warning
    assert (report.lambda_, report.fidelity, report.calibration_samples) == (0.05, None, 200)
    alike = compressed(tmp_path, lambda_=0.05, data=[DATA])
    assert alike.file_bytes == report.file_bytes
    with pytest.raises(cerwu_onnx.ModelError, match="strict, so nothing was written: nobody knows"):
        compressed(tmp_path, data=[DATA], strict=True)


def test_data_without_answers_is_still_an_error(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError):
        compressed(tmp_path, data={"x": np.full((40, 24), np.nan, np.float32)})
