"""What ``tests.bench.kl`` computes from points."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from . import kl
from .kl_point import distance


def curve(prices: tuple[float, ...], bits: float = 1.0, seed: int = 0, scatter: float = 0.0) -> list[dict[str, float]]:
    """Points of a curve with a bend; ``bits`` multiplies all rates."""
    noise = np.random.default_rng(seed).normal(size=len(prices)) * scatter
    return [
        {"lambda": p, "bits": bits * math.exp(-0.3 * math.log(p) - 0.02 * math.log(p) ** 2 + e), "kl": p, "seconds": 1}
        for p, e in zip(prices, noise, strict=True)
    ]


def test_a_ratio_is_found_whatever_the_lambdas() -> None:
    exact = kl.gain(curve((0.04, 0.11, 0.3, 0.9), bits=0.97), curve(kl.finer(kl.LAMBDAS)))
    assert exact is not None
    assert exact.ratio == pytest.approx(0.97)
    assert exact.error < 1e-6
    assert exact.points == 4


def test_the_error_is_that_of_the_ratio() -> None:
    found = [
        kl.gain(curve(kl.LAMBDAS, seed=2 * i, scatter=0.02), curve(kl.finer(kl.LAMBDAS), seed=2 * i + 1, scatter=0.02))
        for i in range(200)
    ]
    ratios, errors = ([getattr(one, name) for one in found] for name in ("ratio", "error"))
    assert np.mean(ratios) == pytest.approx(1, abs=0.003)
    assert np.std(ratios) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.2)


def test_what_cannot_be_compared() -> None:
    assert kl.gain(curve((0.1, 0.2)), curve(kl.LAMBDAS)) is None
    assert kl.gain(curve(kl.LAMBDAS), []) is None
    assert kl.gain([{**point, "kl": 0.0} for point in curve(kl.LAMBDAS)], curve(kl.LAMBDAS)) is None


def test_finer_lambdas() -> None:
    fine = kl.finer(kl.LAMBDAS)
    assert len(fine) == 2 * len(kl.LAMBDAS) + 1
    assert set(kl.LAMBDAS) <= set(fine)
    np.testing.assert_allclose(np.diff(np.log(fine)), math.log(2) / 2, atol=1e-3)


def test_inputs_are_spread_evenly() -> None:
    assert len(kl.thinned(np.arange(30))) == 30
    chosen = kl.thinned(np.arange(10_000))
    assert len(chosen) == len(set(chosen.tolist())) == kl.INPUTS
    assert np.abs(np.diff(chosen) - 5).max() <= 1


def test_the_distance_of_outputs() -> None:
    p = np.array([[0.5, 0.5], [0.9, 0.1]])
    q = np.array([[0.25, 0.75], [0.9, 0.1]])
    expected = (0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2
    assert distance(p, q) == pytest.approx(expected)
    assert distance(np.log(p) + 3, np.log(q) - 1) == pytest.approx(expected)  # logits
    assert distance(p[:, :1], q[:, :1]) == pytest.approx(expected)  # one of two classes
    assert distance(np.array([[3.0], [4.0]]), np.array([[3.0], [5.0]])) == pytest.approx(1 / 25)
    assert distance(np.full((2, 3, 4), 2.0), np.full((2, 3, 4), 3.0)) == pytest.approx(1 / 4)
    assert distance(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])) == 0


def test_columns_are_written_one_point_a_line() -> None:
    text = kl.text({"now": {"b": curve((0.1, 0.2)), "a": curve((0.1,))}})
    assert text.count("lambda") == 3
    assert len(text.splitlines()) == 3 + 2 * 2 + 2
    assert list(json.loads(text)["now"]) == ["a", "b"]
