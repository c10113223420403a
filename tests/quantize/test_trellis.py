"""The search along the trellis against brute force, and what it is worth."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerwu_onnx import native
from cerwu_onnx.entropy.trellis import to_indices, to_values
from cerwu_onnx.quantize import hessian as hs
from cerwu_onnx.quantize import trellis
from cerwu_onnx.quantize.trellis import AHEAD, BLOCK, MAX_INDEX, TrellisRate, trellis_obs

from ..bench import sources
from .test_methods import random_hessian


@pytest.fixture(autouse=True, params=["C", "numpy"], scope="module")
def implementation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here holds for either."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(native, "available", lambda: False)
        elif not native.available():
            pytest.skip("the library was built without a C compiler")
        yield


FREE = TrellisRate(0.0, np.zeros((2, 2)))
seeds = st.integers(0, 2**32 - 1)


def white(w: np.ndarray, rate: TrellisRate = FREE) -> np.ndarray:
    """Values for inputs without correlation, of unit variance."""
    groups, _, columns = w.shape
    return trellis_obs(
        w, np.broadcast_to(np.eye(columns), (groups, columns, columns)), np.ones((groups, columns)), rate
    )


def indices_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices and grids in the shape of the values; ValueError if the values are no path."""
    found = to_indices(values.astype(np.int32), values.shape[-1])
    return found[0].reshape(values.shape), found[1].reshape(values.shape)


def cost_of(w: np.ndarray, values: np.ndarray, hessian: np.ndarray, rate: TrellisRate) -> np.ndarray:
    """The objective of each row of ``(M, N)`` in float64."""
    index, grid = indices_of(values)
    bits = rate.bits[grid, np.minimum(np.abs(index), rate.bits.shape[1] - 1)].sum(axis=1)
    return np.einsum("mi,ij,mj->m", w - values, hessian, w - values) + rate.price * bits


@given(st.lists(st.integers(0, 1), min_size=1, max_size=40))
def test_free_bits_number_the_states_of_the_decoder(bits: list[int]) -> None:
    state, grids, parities = 0, [], []
    for bit in bits:
        grid, parity = trellis.GRID_AND_PARITY[state]
        grids.append(grid)
        parities.append(int(parity) ^ bit)
        state = state >> 1 | bit << 5
    values = to_values(np.array(parities), len(bits))
    np.testing.assert_array_equal(to_indices(values, len(bits)), [parities, grids])


@pytest.fixture(scope="module")
def every_path() -> np.ndarray:
    """All sequences of six indices from -3 to 3, as values."""
    paths = np.array(list(itertools.product(range(-3, 4), repeat=6)), np.int32)
    return to_values(paths, 6).reshape(paths.shape)


@pytest.mark.parametrize("price", [0.0, 0.05, 0.5])
def test_without_correlation_it_is_an_exhaustive_search(every_path: np.ndarray, price: float) -> None:
    rng = np.random.default_rng(3)
    w = rng.normal(size=(1, 12, 6)) * 1.5
    w = np.clip(w, -4, 4)  # the best index is then one of the alphabet
    rate = TrellisRate(price, np.sort(rng.uniform(0, 8, (2, 4)), axis=1))
    values = white(w, rate)[0]
    found = cost_of(w[0], values, np.eye(6), rate)
    for row, cost in zip(w[0], found, strict=True):
        tiled = np.broadcast_to(row, every_path.shape)
        assert cost == pytest.approx(cost_of(tiled, every_path, np.eye(6), rate).min(), rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_with_feedback_no_random_path_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hessian = random_hessian(rng, 1, 20)
    factor = hs.inverse_factor(hessian)
    weight = 1 / np.einsum("gnn->gn", factor) ** 2
    w = rng.laplace(size=(1, 4, 20)) * 2
    rate = TrellisRate(0.1 * float(weight.mean()), trellis.first_lengths(w))
    values = trellis_obs(w, factor, weight, rate)[0]
    found = cost_of(w[0], values, hessian[0], rate)
    best = 0.0
    for row in w[0]:
        tiled = np.broadcast_to(row, (4000, 20))
        near = np.rint((tiled + rng.normal(size=tiled.shape)) / 2).astype(np.int32)
        best += cost_of(tiled, to_values(near, 20).reshape(near.shape), hessian[0], rate).min()
    assert found.sum() < 0.9 * best


def test_with_feedback_it_comes_close_to_the_best_path(every_path: np.ndarray) -> None:
    """Sixty-four survivors are not all paths, once what is left of a row depends on its past."""
    rng = np.random.default_rng(4)
    hessian = random_hessian(rng, 1, 6)
    factor = hs.inverse_factor(hessian)
    w = np.clip(rng.normal(size=(1, 24, 6)) * 1.5, -4, 4)
    values = trellis_obs(w, factor, 1 / np.einsum("gnn->gn", factor) ** 2, FREE)[0]
    best = [cost_of(np.broadcast_to(row, every_path.shape), every_path, hessian[0], FREE).min() for row in w[0]]
    assert sum(best) <= cost_of(w[0], values, hessian[0], FREE).sum() < 1.3 * sum(best)


def test_feedback_lowers_the_error() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 32)) @ rng.normal(size=(32, 32))
    hessian = hs.damped(x.T[None] @ x / 400, 0.01)
    factor = hs.inverse_factor(hessian)
    w = rng.normal(size=(1, 16, 32)) * 3
    fed = trellis_obs(w, factor, 1 / np.einsum("gnn->gn", factor) ** 2, FREE)
    errors = [np.einsum("mi,ij,mj->", *(e := w[0] - values[0], hessian[0], e)) for values in (fed, white(w))]
    assert errors[0] < 0.7 * errors[1]


some_rows = st.integers(1, 6) | st.sampled_from([16, 37])
"""Errors of sixteen rows move those behind them together."""


def fisher(rng: np.random.Generator, groups: int, rows: int) -> np.ndarray:
    """``(G, M, M)`` of rows that differ and are correlated, mean diagonal 1."""
    gradients = rng.normal(size=(groups, 2 * rows, rows)) @ (rng.normal(size=(rows, rows)) + np.eye(rows))
    found = gradients.swapaxes(1, 2) @ gradients + 0.1 * np.eye(rows)
    return found * groups * rows / np.einsum("gmm->", found)


@pytest.mark.skipif(not native.available(), reason="the library was built without a C compiler")
@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 3), some_rows, st.integers(1, BLOCK + AHEAD), st.booleans(), st.floats(0, 1))
def test_both_implementations_agree(
    seed: int, groups: int, rows: int, columns: int, between: bool, price: float
) -> None:
    """To the bit as long as a row is one window; BLAS may sum in another order behind it."""
    rng = np.random.default_rng(seed)
    w = rng.laplace(size=(groups, rows, columns)) * 3
    factor = hs.inverse_factor(random_hessian(rng, groups, columns))
    row_factor = hs.inverse_factor(fisher(rng, groups, rows)) if between else None
    arguments = (w, factor, 1 / np.einsum("gnn->gn", factor) ** 2, TrellisRate(price, trellis.first_lengths(w)))
    found = []
    for available in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "available", lambda available=available: available)
            found.append(trellis_obs(*arguments, row_factor))
    np.testing.assert_array_equal(*found)


def test_rows_make_up_for_each_other() -> None:
    rng = np.random.default_rng(11)
    outer = fisher(rng, 1, 24)
    hessian = random_hessian(rng, 1, 100)
    factor = hs.inverse_factor(hessian)
    weight, w = 1 / np.einsum("gnn->gn", factor) ** 2, rng.normal(size=(1, 24, 100)) * 3

    def distortion(values: np.ndarray) -> float:
        error = w[0] - values[0]
        return float(np.einsum("rs,rj,jk,sk->", outer[0], error, hessian[0], error, optimize=True))

    alone = trellis_obs(w, factor, weight, FREE)
    together = trellis_obs(w, factor, weight, FREE, hs.inverse_factor(outer))
    indices_of(together)  # or it raises
    assert distortion(together) < 0.6 * distortion(alone)


def test_a_row_that_counts_little_gets_few_bits() -> None:
    rng = np.random.default_rng(12)
    w = rng.normal(size=(1, 2, 400)) * 2
    lengths = trellis.first_lengths(w)
    row_factor = np.diag([1.0, 10.0])[None]  # F = diag(1, 1/100)
    rate = TrellisRate(0.1, lengths)
    identity = np.broadcast_to(np.eye(400), (1, 400, 400))
    values = trellis_obs(w, identity, np.ones((1, 400)), rate, row_factor)
    sizes = [trellis.code_lengths(values[:, row : row + 1])[1] for row in (0, 1)]
    assert sizes[1] < 0.5 * sizes[0]


EDGES = sorted({max(1, n * BLOCK + extra + d) for n in (0, 1, 2) for extra in (0, 8, AHEAD) for d in (-1, 0, 1)})


@pytest.mark.parametrize("columns", EDGES)
def test_every_row_is_a_path_whatever_the_blocks(columns: int) -> None:
    rng = np.random.default_rng(columns)
    w = rng.laplace(size=(3, 2, columns)) * 2
    factor = hs.inverse_factor(random_hessian(rng, 3, columns))
    rate = TrellisRate(0.2, trellis.first_lengths(w))
    values = trellis_obs(w, factor, 1 / np.einsum("gnn->gn", factor) ** 2, rate)
    assert values.shape == w.shape
    indices_of(values)  # or it raises
    for g in range(3):  # groups and rows do not know of each other
        alone = trellis_obs(w[g : g + 1, :1], factor[g : g + 1], 1 / np.einsum("gnn->gn", factor[g : g + 1]) ** 2, rate)
        indices_of(alone)
        assert np.square(w - values).mean() < 3


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 3), st.integers(1, 4), st.integers(1, 20), st.sampled_from([0.1, 1.0, 30.0]))
def test_all_values_are_paths(seed: int, groups: int, rows: int, columns: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    w = rng.laplace(size=(groups, rows, columns)) * scale
    factor = hs.inverse_factor(random_hessian(rng, groups, columns))
    rate = TrellisRate(0.1, trellis.first_lengths(w))
    values = trellis_obs(w, factor, 1 / np.einsum("gnn->gn", factor) ** 2, rate)
    index, _ = indices_of(values)
    assert np.abs(index).max() <= MAX_INDEX
    lengths, bits = trellis.code_lengths(values)
    assert np.isfinite(lengths).all()
    assert bits >= 0


def test_small_blocks_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    w = np.random.default_rng(6).normal(size=(1, 64, 60)) * 2
    whole = np.square(w - white(w)).sum()
    monkeypatch.setattr(native, "available", lambda: False)  # its blocks are fixed
    monkeypatch.setattr(trellis, "BLOCK", 8)
    errors = []
    for ahead in (0, 12, 40):
        monkeypatch.setattr(trellis, "AHEAD", ahead)
        errors.append(np.square(w - white(w)).sum() / whole)
    assert errors[0] > 1.1  # what looking ahead is good for
    assert errors == sorted(errors, reverse=True)
    assert 1 - 1e-6 <= errors[-1] < 1.01


def test_zeros_stay_zeros() -> None:
    values = white(np.zeros((2, 3, 100)), TrellisRate(0.1, trellis.first_lengths(np.zeros((2, 3, 100)))))
    assert not values.any()


@pytest.mark.parametrize("size", [1e4, 1e9])
def test_huge_values_are_clipped(size: float) -> None:
    w = np.array([[[size, -size, 0.3, size, 2.0, -size]]])
    values = white(w)
    index, _ = indices_of(values)
    assert MAX_INDEX - 1 <= np.abs(index).max() <= MAX_INDEX
    assert np.array_equal(np.sign(values[np.abs(w) > 10]), np.sign(w[np.abs(w) > 10]))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_units_of_the_output_do_not_matter(scale: float) -> None:
    """Costs are summed in float32, although inputs may be raw pixels, or all but silent."""
    rng = np.random.default_rng(7)
    w, factor = rng.normal(size=(1, 8, 90)) * 2, hs.inverse_factor(random_hessian(rng, 1, 90))
    weight, bits = 1 / np.einsum("gnn->gn", factor) ** 2, trellis.first_lengths(w)
    expected = trellis_obs(w, factor, weight, TrellisRate(0.1, bits))
    found = trellis_obs(w, factor / scale**0.5, weight * scale, TrellisRate(0.1 * scale, bits))
    assert np.mean(found == expected) > 0.99


@pytest.mark.parametrize("value", [-2, -1, 0, 1, 2])
def test_one_column(value: int) -> None:
    """Every row starts on the even grid."""
    assert white(np.full((1, 2, 1), value + 0.1)).ravel().tolist() == [2 * round((value + 0.1) / 2)] * 2


def test_a_higher_price_buys_fewer_bits() -> None:
    w = np.random.default_rng(9).normal(size=(1, 16, 80)) * 2
    lengths = trellis.first_lengths(w)
    sizes = [trellis.code_lengths(white(w, TrellisRate(price, lengths)))[1] for price in (0.0, 0.2, 1.0, 4.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1.5 * sizes[-1]


def test_code_lengths_are_those_of_each_grid() -> None:
    values = to_values(np.array([0, 1, -1, 0, 2, 0, 0, 3, 1, 1, 0, -2]), 6).astype(np.float64).reshape(1, 2, 6)
    index, grid = indices_of(values)
    lengths, bits = trellis.code_lengths(values)
    assert lengths.shape == (2, np.abs(index).max() + 2)
    expected = 0.0
    for g in (0, 1):
        counts = np.maximum(np.bincount(np.abs(index[grid == g]), minlength=lengths.shape[1]), 0.5)
        expected += lengths[g][np.abs(index[grid == g])].sum()
        np.testing.assert_allclose(lengths[g], -np.log2(counts / counts.sum()) + (np.arange(len(counts)) > 0))
    assert bits == pytest.approx(expected)


def test_indices_are_counted_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no array of all indices is made: a layer may have a hundred million."""
    found = np.random.default_rng(5).integers(-9, 10, (3, 7, 20))
    values = to_values(found, 20).astype(np.float64).reshape(found.shape)
    lengths, bits = trellis.code_lengths(values)
    seen = []
    monkeypatch.setattr(trellis, "COUNTED", 50)
    monkeypatch.setattr(trellis, "to_indices", lambda values, run: seen.append(values.size) or to_indices(values, run))
    few = trellis.code_lengths(values)
    np.testing.assert_array_equal(few[0], lengths)
    assert few[1] == bits
    assert max(seen) == 40
    assert sum(seen) == found.size


@pytest.mark.parametrize("name", ["Gaussian", "Laplace"])
def test_it_beats_a_uniform_grid_at_the_same_rate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At two bits; `python -m tests.bench sources` measures more."""
    monkeypatch.setattr(sources, "STEPS", np.array([1.4, 1.0, 0.7]))
    monkeypatch.setattr(sources, "PRICES", (0.06, 0.12))
    w = sources.sources(1)[name][:, :12]
    (better,), (plain,) = (sources.decibels(q, w, (2.0,)) for q in (sources.along_trellis, sources.uniform))
    assert better > plain + 0.3
    assert better < 6.02 * 2 + (0 if name == "Gaussian" else 0.7)  # Shannon


def test_blocks_cost_hardly_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a percent: the search looks far enough beyond them. Only numpy can do without blocks."""
    w = np.random.default_rng(8).normal(size=(1, 24, 2 * BLOCK)) * 2
    found = np.square(w - white(w)).sum()
    monkeypatch.setattr(native, "available", lambda: False)
    monkeypatch.setattr(trellis, "BLOCK", w.shape[2])
    assert found < 1.008 * np.square(w - white(w)).sum()
