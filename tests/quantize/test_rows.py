"""How rows share their errors, and what that is worth at a layer's outputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerwu_onnx.quantize import priced
from cerwu_onnx.quantize.rows import UNKNOWN, rows_of
from cerwu_onnx.types import Float64Array, MatrixLayout, PairStats

ROWS, COLUMNS = 24, 40
EQUAL = np.ones((1, ROWS))
LAYOUT = MatrixLayout((ROWS, COLUMNS), (1, ROWS, COLUMNS), (0, 1, 2), 1, ROWS, COLUMNS)


def fishers(rng: np.random.Generator, samples: int, parts: int = 2, seen: int = 4) -> tuple[Float64Array, ...]:
    """Of gradients that see a few directions of the outputs, as those of classifiers do."""
    directions = rng.normal(size=(seen, ROWS)) * np.geomspace(1, 0.2, ROWS)
    gradients = rng.normal(size=(parts, samples, seen)) @ directions
    return tuple((g.T @ g / samples)[None] for g in gradients)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 8), st.sampled_from([1e-30, 1.0, 1e30]))
def test_the_factor_is_that_of_the_damped_matrix(seed: int, groups: int, size: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(groups, 2 * size, size))
    fisher = gradients.swapaxes(1, 2) @ gradients * scale
    rows = rows_of((fisher,), np.ones((groups, size)))
    assert rows is not None
    unit = fisher / np.einsum("gmm->gm", fisher).mean()
    np.testing.assert_allclose(rows.fisher, unit)
    inverse = rows.factor.swapaxes(1, 2) @ rows.factor
    damped = (unit + UNKNOWN * unit * np.eye(size)) / (1 + UNKNOWN)
    np.testing.assert_allclose(np.linalg.inv(inverse), damped, atol=1e-9)
    np.testing.assert_allclose(rows.costs, np.einsum("gmm->gm", rows.factor) ** -2.0)
    assert 0 < rows.costs.mean() <= 1 + 1e-9


def test_the_scale_of_an_output_does_not_matter() -> None:
    """If a layer makes an output larger and its reader takes that back, errors count as before, damping included."""
    rng = np.random.default_rng(3)
    parts, energy = fishers(rng, 50), rng.uniform(1, 2, (1, ROWS))
    scale = np.exp2(rng.integers(-7, 8, ROWS))
    before = rows_of(parts, energy)
    after = rows_of(tuple(part / np.outer(scale, scale) for part in parts), energy * scale**2)
    assert before is not None
    assert after is not None
    assert before.damping == after.damping
    costs = after.costs * scale**2 / before.costs
    np.testing.assert_allclose(costs, costs[0, 0], rtol=1e-6)
    feedback = [rows.factor / np.einsum("gmm->gm", rows.factor)[:, :, None] for rows in (before, after)]
    np.testing.assert_allclose(feedback[1] * scale[:, None] / scale, feedback[0], atol=1e-9)


def test_an_output_that_few_samples_reach_counts_a_little() -> None:
    fisher, energy = np.diag([1.0, 1.0, 0.0, 0.0])[None], np.array([[1.0, 1.0, 1.0, 1e-6]])
    rows = rows_of((fisher,), energy)
    assert rows is not None
    assert 0 < rows.costs[0, 2] < 0.02
    assert rows.costs[0, 3] == pytest.approx(1e6 * rows.costs[0, 2])


def test_nothing_reaches_the_outputs() -> None:
    assert rows_of((np.zeros((2, 3, 3)), np.zeros((2, 3, 3))), np.ones((2, 3))) is None


def test_a_part_without_gradients_does_not_count() -> None:
    (part,) = fishers(np.random.default_rng(1), 50, parts=1)
    alone, both = rows_of((part,), EQUAL), rows_of((part, np.zeros_like(part)), EQUAL)
    assert alone is not None
    assert both is not None
    np.testing.assert_array_equal(alone.factor, both.factor)


def test_few_samples_are_trusted_less() -> None:
    dampings = {}
    for samples in (6, 3000):
        found = [rows_of(fishers(np.random.default_rng(seed), samples, seen=ROWS), EQUAL) for seed in range(8)]
        dampings[samples] = np.median([rows.damping for rows in found if rows is not None])
    assert dampings[6] > 2 * dampings[3000]


def test_distortion_is_the_quadratic_form() -> None:
    rng = np.random.default_rng(4)
    rows = rows_of(fishers(rng, 100), EQUAL)
    assert rows is not None
    error, x = rng.normal(size=(1, ROWS, COLUMNS)), rng.normal(size=(1, COLUMNS, COLUMNS))
    hessian = x @ x.swapaxes(1, 2)
    expected = np.kron(rows.fisher[0], hessian[0])
    assert rows.distortion(error, hessian) == pytest.approx(error.ravel() @ expected @ error.ravel())
    assert rows.noise(hessian) == pytest.approx(np.trace(expected))


def test_it_saves_bits_at_equal_loss() -> None:
    """On outputs of which other samples, too, see a few directions only."""
    rng = np.random.default_rng(5)
    parts = fishers(rng, 2000, parts=3)
    weight = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    x = rng.normal(size=(COLUMNS, COLUMNS))
    hessian = (x @ x.T)[None] / COLUMNS + 0.1 * np.eye(COLUMNS)
    stats = PairStats(hessian, np.zeros((1, COLUMNS)), 4000, hessian, np.zeros((1, COLUMNS)))
    truth = rows_of(parts[2:], EQUAL)
    assert truth is not None

    def loss_and_size(known: tuple[Float64Array, ...], price: float) -> tuple[float, float]:
        cost = priced.Cost(1.0, price, known)
        options = {"columns": np.arange(COLUMNS), "damping": 0.01, "passes": 3, "name": "w"}
        quantized, weighed = priced.quantize(weight, LAYOUT, stats, cost, **options)
        error = weight.astype(np.float64)[None] - LAYOUT.to_matrix(quantized.values().astype(np.float64))
        if not known:
            assert weighed * ROWS * np.trace(hessian[0]) == pytest.approx(quantized.distortion)
        counts = np.unique(quantized.symbols, return_counts=True)[1] / weight.size
        return truth.distortion(error, hessian), float(-(counts * np.log2(counts)).sum())

    prices = np.geomspace(1e-5, 1e-3, 5)
    plain, fed = (np.array([loss_and_size(known, price) for price in prices]) for known in ((), parts[:2]))
    losses = np.log(np.stack([plain[:, 0], fed[:, 0]]))
    middle = (max(losses[:, 0]) + min(losses[:, -1])) / 2
    sizes = [np.interp(middle, loss, curve[:, 1]) for loss, curve in zip(losses, (plain, fed), strict=True)]
    assert sizes[1] < sizes[0] - 0.3
