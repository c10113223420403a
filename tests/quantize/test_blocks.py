"""Hessians in blocks: the same as whole ones that are zero between the blocks, but for what looks beyond a block."""

from __future__ import annotations

import numpy as np
import pytest

from cerwu_onnx import native
from cerwu_onnx.config import Settings
from cerwu_onnx.entropy.trellis import to_indices
from cerwu_onnx.model.layout import matmul_layout
from cerwu_onnx.quantize import methods, priced, trellis
from cerwu_onnx.quantize.blocks import cut, joined, summed
from cerwu_onnx.quantize.hessian import inverse_factor
from cerwu_onnx.quantize.rows import rows_of
from cerwu_onnx.types import Float64Array, LayerStats, PairStats

BLOCKS, GROUPS, ROWS, COLUMNS = 3, 2, 5, 3 * 96


def correlations(count: int, size: int, seed: int = 0) -> Float64Array:
    """``(count, size, size)`` of unit diagonal."""
    x = np.random.default_rng(seed).normal(size=(count, 3 * size, size))
    x[:, :, 1:] += x[:, :, :-1]
    x /= np.sqrt(np.square(x).sum(axis=1, keepdims=True))
    return x.swapaxes(1, 2) @ x


def whole(hessian: Float64Array) -> Float64Array:
    """``(G, N, N)`` of the blocks of :data:`GROUPS` groups."""
    size = hessian.shape[1]
    found = np.zeros((GROUPS, BLOCKS * size, BLOCKS * size))
    for index, block in enumerate(hessian):
        where = slice(index % BLOCKS * size, (index % BLOCKS + 1) * size)
        found[index // BLOCKS, where, where] = block
    return found


def pair(hessian: Float64Array) -> PairStats:
    mean = np.zeros((GROUPS, COLUMNS))
    return PairStats(hessian, mean, 9, hessian, mean)


HESSIAN = correlations(GROUPS * BLOCKS, COLUMNS // BLOCKS)
WEIGHT = np.random.default_rng(5).normal(size=(GROUPS, COLUMNS, ROWS)).astype(np.float32)
LAYOUT = matmul_layout(WEIGHT.shape, "right")


def test_cut_and_joined() -> None:
    matrix = np.random.default_rng(1).normal(size=(GROUPS, ROWS, COLUMNS))
    parts = cut(matrix, BLOCKS)
    np.testing.assert_array_equal(parts[1], matrix[0, :, 96:192])
    np.testing.assert_array_equal(joined(parts, BLOCKS), matrix)
    np.testing.assert_allclose(summed(parts.sum(-1), BLOCKS), matrix.sum(-1))
    assert np.shares_memory(cut(matrix, 1), matrix)


@pytest.mark.parametrize("method", ["rtn", "optq", "cerwu"])
def test_methods_of_the_papers(method: str) -> None:
    settings = Settings(method=method)
    mean = np.zeros((GROUPS, COLUMNS))
    stats, full = LayerStats(HESSIAN, mean, 9), LayerStats(whole(HESSIAN), mean, 9)
    assert (stats.blocks, full.blocks) == (BLOCKS, 1)
    found, expected = (methods.quantize(WEIGHT.astype(np.float64), LAYOUT, s, settings, "w") for s in (stats, full))
    np.testing.assert_array_equal(found.symbols, expected.symbols)
    np.testing.assert_allclose((found.distortion, found.energy), (expected.distortion, expected.energy))


@pytest.mark.parametrize("fishers", [(), (correlations(GROUPS, ROWS, seed=2),)])
def test_the_default_method(fishers: tuple[Float64Array, ...]) -> None:
    """Paths go on from one block to the next, so a run is a row, as ever."""
    cost = priced.Cost(noise=1.0, price=1e-4, fishers=fishers)
    (found, weighed), (expected, other) = (
        priced.quantize(WEIGHT, LAYOUT, s, cost, columns=np.arange(COLUMNS), damping=0.01, passes=2, name="w")
        for s in (pair(HESSIAN), pair(whole(HESSIAN)))
    )
    assert found.run == COLUMNS
    to_indices(LAYOUT.to_matrix(found.symbols), found.run)
    assert found.step == expected.step
    np.testing.assert_allclose((found.distortion, weighed), (expected.distortion, other), rtol=0.05)
    error = LAYOUT.to_matrix(WEIGHT.astype(np.float64) - found.values())
    np.testing.assert_allclose(found.distortion, methods.distortion(error, whole(HESSIAN)))
    if fishers and (rows := rows_of(fishers, np.ones((GROUPS, ROWS)))) is not None:
        np.testing.assert_allclose(weighed, rows.distortion(error, whole(HESSIAN)) / rows.noise(HESSIAN))


def test_rows_that_are_stored_in_another_order_get_one_grid() -> None:
    cost, backwards = priced.Cost(noise=1.0, price=1e-4), np.arange(COLUMNS)[::-1].copy()
    runs = {
        blocks: priced.quantize(WEIGHT, LAYOUT, s, cost, columns=backwards, damping=0.01, passes=1, name="w")[0].run
        for blocks, s in ((1, pair(whole(HESSIAN))), (BLOCKS, pair(HESSIAN)))
    }
    assert runs == {1: COLUMNS, BLOCKS: 0}


@pytest.mark.skipif(not native.available(), reason="the library was built without a C compiler")
def test_both_searches_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    factor = inverse_factor(HESSIAN)
    curvature = (1 / np.einsum("gnn->gn", factor) ** 2).reshape(GROUPS, COLUMNS)
    w = 4 * np.random.default_rng(3).normal(size=(GROUPS, ROWS, COLUMNS))
    rate = trellis.TrellisRate(0.1, trellis.first_lengths(w))
    found = trellis.trellis_obs(w, factor, curvature, rate)
    monkeypatch.setattr(native, "available", lambda: False)
    np.testing.assert_array_equal(found, trellis.trellis_obs(w, factor, curvature, rate))
