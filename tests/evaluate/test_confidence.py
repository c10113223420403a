"""The bound on a loss of accuracy: what it is by hand, and that it holds as often as it says."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from cerwu_onnx.evaluate.confidence import least_share


def answers(both: int, lost: int, won: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Right answers before and after, by how many samples are of each kind."""
    before = np.repeat([1.0, 1.0, 0.0, 0.0], (both, lost, won, neither))
    after = np.repeat([1.0, 0.0, 1.0, 0.0], (both, lost, won, neither))
    return before, after


def test_half_confidence_is_what_was_measured() -> None:
    assert least_share(*answers(900, 20, 10, 70), 0.5) == pytest.approx(910 / 920, rel=1e-15)
    assert least_share(*answers(900, 100, 0, 0), 0.5) == 0.9


@pytest.mark.parametrize("counts", [(900, 20, 10, 70), (1000, 0, 0, 0), (50, 5, 5, 40), (1990, 2, 8, 0)])
@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.99])
def test_the_paired_test_stands_at_its_edge_at_the_bound(counts: tuple[int, ...], confidence: float) -> None:
    before, after = answers(*counts)
    bound = least_share(before, after, confidence)
    smoothed = np.array(counts) + 0.5
    values = np.array([1 - bound, -bound, 1.0, 0.0])
    share = smoothed / smoothed.sum()
    variance = (share * values**2).sum() - (share * values).sum() ** 2
    error = (variance / smoothed.sum()) ** 0.5
    assert after.mean() - bound * before.mean() == pytest.approx(NormalDist().inv_cdf(confidence) * error)


def test_what_both_get_right_hardly_matters() -> None:
    """As in McNemar's test: the error comes from the samples on which they differ, not from the accuracy's own."""
    loss = 1 - least_share(*answers(900, 5, 5, 90), 0.9)
    unpaired = 1.28 * (2 * 0.09 / 1000) ** 0.5
    assert 0 < loss < unpaired / 3


def test_more_samples_are_surer() -> None:
    bounds = [least_share(*answers(9 * n, n // 10, n // 10, n), 0.9) for n in (10, 100, 1000)]
    assert bounds == sorted(bounds)
    assert least_share(*answers(30, 0, 0, 0), 0.9) < least_share(*answers(300, 0, 0, 0), 0.9) < 1


def test_a_score_that_may_be_zero_says_nothing() -> None:
    assert least_share(*answers(0, 0, 0, 10), 0.9) == -math.inf


def test_it_holds_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    shares = np.array([0.90, 0.03, 0.02, 0.05])
    true = (shares[0] + shares[2]) / (shares[0] + shares[1])
    counts = random.multinomial(500, shares, size=2000)
    held = np.mean([least_share(*answers(*count), 0.9) <= true for count in counts])
    assert held == pytest.approx(0.9, abs=0.03)


def test_a_score_of_zero_has_no_share_even_without_margin() -> None:
    assert least_share(*answers(0, 0, 5, 10), 0.5) == -math.inf
