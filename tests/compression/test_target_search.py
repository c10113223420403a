"""The search for a size or an accuracy, on curves with known answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cerwu_onnx.compression.target_search import BITS_PER_DOUBLING, GIVE_UP, NEIGHBOUR, TRIALS, Search
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

    def attempt(prices: Sequence[float]) -> list[tuple[Point, str]]:
        return [(curve(price), f"{price:g}") for price in prices]

    return Search(attempt, settled.append if settles else None), settled


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


def test_of_files_of_one_size_the_one_that_loses_least_is_kept() -> None:
    """Rounded steps: many lambdas give one file size, and the smaller ones less loss."""
    search, _ = run(lambda price: Point(price, 2064 if price < 0.0327 else 2005, 3.0))
    search.to_size(file_bytes, 2048, 0.05, 100)
    held = [tried.lambda_ for tried in search.points if tried.file_bytes <= 2048]
    assert len(held) > 1
    assert search.best[0].lambda_ == min(held)


def falling(price: float, edge: float, noise: float = 0.0, power: float = 1.0) -> float:
    """A score that falls from 1 below 0.9 at lambda ``edge``, about in proportion to lambda."""
    return 1 - 0.1 * (price / edge) ** power + 0.1 * noise * math.sin(1e4 * price)


@given(
    edge=st.floats(0.04, 2),
    power=st.floats(0.8, 1.3),
    noise=st.sampled_from([0, 0.25]),
    settles=st.booleans(),
)
@example(edge=0.125, power=0.875, noise=0, settles=False)  # none of the first four holds
@example(edge=0.1279, power=0.8, noise=0.25, settles=False)
def test_the_smallest_file_that_holds_is_found(edge: float, power: float, noise: float, settles: bool) -> None:
    """Few files are enough if the limit is not far from where the search begins."""
    search, settled = run(lambda price: point(price, score=falling(price, edge, noise, power)), settles=settles)
    search.to_accuracy(1.0, 0.9, 0.15)
    best = search.best[0]
    assert best.score is not None
    assert best.score >= 0.9
    assert best.file_bytes == min(tried.file_bytes for tried in search.points if (tried.score or 0) >= 0.9)
    assert noise or best.file_bytes <= 1.15 * point(edge).file_bytes
    assert len(settled) == settles
    if edge > 0.1 and not settles:
        assert len(search.points) <= (6 if noise else 5)


def test_scores_that_scatter_cost_little_on_average() -> None:
    """By as much as may be lost, as with 400 samples: fewer than five files, and the best is at most 6 % too large."""
    random, sizes, counts = np.random.default_rng(0), [], []
    for edge in (0.1, 0.2, 0.4, 0.8) * 50:
        search, _ = run(lambda price, edge=edge: point(price, score=falling(price, edge) + 0.1 * random.normal()))
        search.to_accuracy(1.0, 0.9, 0.15)
        counts.append(len(search.points))
        sizes.append(search.best[0].file_bytes / point(edge).file_bytes)
    assert np.mean(counts) < 5
    assert np.mean(sizes) < 1.06


def test_the_files_of_a_pair_are_asked_for_at_once() -> None:
    """The second pair encloses the limit, which the first one has told."""
    asked: list[list[float]] = []

    def attempt(prices: Sequence[float]) -> list[tuple[Point, None]]:
        asked.append(list(prices))
        return [(point(price, score=falling(price, 0.3)), None) for price in prices]

    search: Search[None] = Search(attempt, None)
    search.to_accuracy(1.0, 0.9, 0.15)
    first, second, *last = asked
    assert first == [0.15, 0.6]
    assert second[0] < 0.3 < second[1]
    assert math.log2(second[1] / second[0]) == pytest.approx(2 * NEIGHBOUR, rel=0.01)
    assert all(len(prices) == 1 for prices in last)
    assert search.best[0].lambda_ == max(price for prices in asked for price in prices if price <= 0.3)


def test_files_that_are_unlucky_are_no_end() -> None:
    """Two that should hold do not; a larger lambda does."""
    search, _ = run(lambda price: point(price, score=0.89 if price < 0.2 else falling(price, 0.3)))
    search.to_accuracy(1.0, 0.9, 0.15)
    assert 0.2 < search.best[0].lambda_ <= 0.3
    assert (search.best[0].score or 0) >= 0.9


def test_a_score_better_than_the_float_models_is_no_proof_that_nothing_is_lost() -> None:
    """The first file is better by chance; the second one, which loses much, tells where the limit lies."""
    search, _ = run(lambda price: point(price, score=1.05 if price < 0.2 else falling(price, 0.25)))
    search.to_accuracy(1.0, 0.9, 0.15)
    assert 0.15 < search.best[0].lambda_ <= 0.25
    assert len(search.points) <= 5


def test_a_file_that_loses_far_too_much_says_little_of_the_limit() -> None:
    """At 0.6 the score breaks down; taken as a proportion it would put the limit at a fifth of where it is."""
    search, _ = run(lambda price: point(price, score=falling(price, 0.3) if price < 0.5 else 0.0))
    search.to_accuracy(1.0, 0.9, 0.15)
    assert 0.25 < search.best[0].lambda_ <= 0.3


def test_an_accuracy_nobody_has_ends_with_the_best_score() -> None:
    search, settled = run(lambda price: point(price, score=0.8 - price / 100), settles=True)
    search.to_accuracy(1.0, 0.9, 0.15)
    assert len(search.points) == GIVE_UP
    assert search.best[0].score == max(tried.score for tried in search.points if tried.score is not None)
    assert not settled


def test_a_limit_far_below_the_start_is_found() -> None:
    search, _ = run(lambda price: point(price, score=falling(price, 1e-4)))
    search.to_accuracy(1.0, 0.9, 0.15)
    assert search.best[0].lambda_ <= 1e-4
    assert search.best[0].file_bytes <= 1.1 * point(1e-4).file_bytes


def test_no_drop_at_all_ends_with_a_file_that_loses_nothing() -> None:
    search, _ = run(lambda price: point(price, score=1.0 if price < 0.03 else 0.99))
    search.to_accuracy(1.0, 1.0, 0.15)
    assert search.best[0].score == 1.0
    assert search.best[0].lambda_ > 0.03 / 8


def test_an_accuracy_that_never_falls_ends_with_the_smallest_file() -> None:
    search, _ = run(lambda price: point(price, score=1.0))
    search.to_accuracy(1.0, 0.9, 0.15)
    assert search.best[0].file_bytes == min(tried.file_bytes for tried in search.points)
    assert search.best[0].bits_per_weight < 0.1


def test_lambda_has_four_digits() -> None:
    """It is recorded in the file, whose size it would change."""
    search, _ = run(point)
    search.to_size(file_bytes, 23_456, 0.15, DOUBLING)
    assert all(tried.lambda_ == float(f"{tried.lambda_:.4g}") for tried in search.points)
