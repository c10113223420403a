"""The search for a size or an accuracy, on curves with known answers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerwu_onnx.compression.target_search import BEYOND, BITS_PER_DOUBLING, TRIALS, Search
from cerwu_onnx.report import Point

WEIGHTS = 80_000
DOUBLING = WEIGHTS * BITS_PER_DOUBLING / 8
OVERHEAD = 900

Curve = Callable[[float], Point]


def rate(price: float, slope: float = 0.5) -> float:
    """Bits per weight: linear in log lambda at high rates, flattening towards 0.05."""
    return 0.05 + math.log2(1 + 2 ** (2 * (1.5 - slope * math.log2(price)))) / 2


def point(price: float, slope: float = 0.5, noise: float = 0.0, score: float | None = None) -> Point:
    bits = rate(price, slope) * (1 + noise * math.sin(1e4 * price))
    return Point(price, OVERHEAD + int(WEIGHTS * bits / 8), bits, score)


def run(curve: Curve, *, settles: bool = False) -> tuple[Search[str], list[float]]:
    """A search on a curve, and the list of lambdas at which it measured again."""
    settled: list[float] = []
    return Search(lambda price: (curve(price), f"{price:g}"), settled.append if settles else None), settled


def file_bytes(found: Point) -> float:
    return found.file_bytes


@given(
    bits=st.floats(0.3, 6),
    slope=st.floats(0.4, 0.6),
    start=st.floats(0.01, 2),
    noise=st.sampled_from([0, 5e-4]),
    settles=st.booleans(),
)
def test_any_size_in_reach_is_met_within_one_percent_below(
    bits: float, slope: float, start: float, noise: float, settles: bool
) -> None:
    target = OVERHEAD + WEIGHTS * bits / 8
    search, settled = run(lambda price: point(price, slope, noise), settles=settles)
    search.to_size(file_bytes, target, start, DOUBLING)
    best, result = search.best
    assert 0.99 * target <= best.file_bytes <= target
    assert result == f"{best.lambda_:g}"
    assert len(search.points) <= 12
    assert len(settled) == settles


def test_a_few_files_are_enough() -> None:
    search, settled = run(point, settles=True)
    search.to_size(file_bytes, 20_000, 0.15, DOUBLING)
    assert len(search.points) <= 5
    assert settled[0] in [tried.lambda_ for tried in search.points]


@pytest.mark.parametrize("settles", [False, True])
def test_more_room_than_is_needed_is_not_filled(settles: bool) -> None:
    """Where lambda is below 1e-3 nothing is lost: files of 11.5 bits and less."""
    target = OVERHEAD + WEIGHTS * 16 / 8
    search, settled = run(point, settles=settles)
    search._ample = lambda result: float(result) < 1e-3
    search.to_size(file_bytes, target, 0.15, DOUBLING)
    assert search.ended
    assert not settled
    assert len(search.points) <= 3
    assert search.best[0].lambda_ < 1e-3
    search, _ = run(point, settles=settles)
    search._ample = lambda result: float(result) < 1e-3
    search.to_size(file_bytes, OVERHEAD + WEIGHTS * 4 / 8, 0.15, DOUBLING)
    assert not search.ended


def test_bits_per_weight_are_met_likewise() -> None:
    search, _ = run(point)
    search.to_size(lambda found: found.bits_per_weight, 1.8, 0.15, BITS_PER_DOUBLING)
    assert 0.99 * 1.8 <= search.best[0].bits_per_weight <= 1.8


def test_a_size_out_of_reach_ends_with_the_smallest_file() -> None:
    search, _ = run(point)
    search.to_size(file_bytes, 1000, 0.15, DOUBLING)
    smallest = OVERHEAD + int(WEIGHTS * 0.05 / 8)
    assert search.best[0].file_bytes == min(tried.file_bytes for tried in search.points)
    assert search.best[0].file_bytes == pytest.approx(smallest, rel=0.02)
    assert len(search.points) <= TRIALS


def test_more_room_than_any_file_needs_ends_with_the_largest() -> None:
    def bounded(price: float) -> Point:
        return Point(price, min(point(price).file_bytes, 50_000), rate(price))

    search, _ = run(bounded)
    search.to_size(file_bytes, 70_000, 0.15, DOUBLING)
    assert search.best[0].file_bytes == 50_000
    assert len(search.points) <= TRIALS


def test_a_size_that_jumps_over_the_target_gives_the_largest_below() -> None:
    def steps(price: float) -> Point:
        return Point(price, 30_000 if price < 0.5 else 10_000, 1.0)

    search, _ = run(steps)
    search.to_size(file_bytes, 20_000, 0.15, DOUBLING)
    assert search.best[0].file_bytes == 10_000


def falling(price: float, edge: float) -> float:
    """A score that falls below 0.9 at lambda ``edge``."""
    return 0.9 - 0.02 * math.log2(price / edge)


@given(edge=st.floats(0.002, 20), settles=st.booleans())
def test_the_smallest_file_that_holds_is_found(edge: float, settles: bool) -> None:
    search, settled = run(lambda price: point(price, score=falling(price, edge)), settles=settles)
    search.to_accuracy(0.9, 0.15)
    best = search.best[0]
    assert best.score is not None
    assert best.score >= 0.9
    assert best.file_bytes == min(tried.file_bytes for tried in search.points if (tried.score or 0) >= 0.9)
    assert best.file_bytes <= 1.031 * point(edge).file_bytes
    assert len(settled) == settles


def test_a_smaller_file_that_holds_is_found_behind_some_that_do_not() -> None:
    """Between lambda 0.5 and 0.7 the score is a little too low, and again from 0.85 on."""

    def scattered(price: float) -> Point:
        holds = price < 0.5 or 0.7 < price < 0.85
        return point(price, score=0.9 if holds else 0.89)

    search, _ = run(scattered)
    search.to_accuracy(0.9, 0.15)
    assert 0.7 < search.best[0].lambda_ < 0.85
    after = [tried.score for tried in search.points if tried.lambda_ > search.best[0].lambda_][-BEYOND:]
    assert after == [0.89] * BEYOND


def test_an_accuracy_nobody_has_ends_with_the_best_score() -> None:
    search, settled = run(lambda price: point(price, score=0.8 - price / 100), settles=True)
    search.to_accuracy(0.9, 0.15)
    assert len(search.points) == 4
    assert search.best[0].score == max(tried.score for tried in search.points if tried.score is not None)
    assert not settled


def test_an_accuracy_that_never_falls_ends_with_the_smallest_file() -> None:
    search, _ = run(lambda price: point(price, score=1.0))
    search.to_accuracy(0.9, 0.15)
    assert search.best[0].file_bytes == min(tried.file_bytes for tried in search.points)
    assert search.best[0].bits_per_weight < 0.1


def test_lambda_has_four_digits() -> None:
    """It is recorded in the file, whose size it would change."""
    search, _ = run(point)
    search.to_size(file_bytes, 23_456, 0.15, DOUBLING)
    assert all(tried.lambda_ == float(f"{tried.lambda_:.4g}") for tried in search.points)
