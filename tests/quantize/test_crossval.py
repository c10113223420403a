"""How much of the calibration statistics is believed, and what repair is worth on other data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cerwu_onnx.quantize import crossval
from cerwu_onnx.quantize import hessian as hs
from cerwu_onnx.quantize.blocks import cut, joined
from cerwu_onnx.quantize.crossval import DAMPINGS, feedback_damping, repair_damping, repaired
from cerwu_onnx.types import PairStats

COLUMNS = 24


def inputs(rng: np.random.Generator, samples: int, mixing: np.ndarray, error: float = 0.0) -> tuple[np.ndarray, ...]:
    """Correlated x ``(samples, N)``, and x~ that lost some of its size and gained a correlated error."""
    x = rng.normal(size=(samples, len(mixing))) @ mixing
    shared = rng.normal(size=(samples, 2)) @ mixing[:2, ::-1]
    return x, (1 - error / 2) * x + error * shared


def pair(x: np.ndarray, y: np.ndarray) -> PairStats:
    """Statistics of x in the float model and y in the quantised one."""
    n = len(x)
    return PairStats((y.T @ y / n)[None], y.mean(0)[None], n, (x.T @ y / n)[None], x.mean(0)[None])


def folds(seed: int, samples: int, error: float = 0.3) -> tuple[tuple[PairStats, PairStats], PairStats, PairStats]:
    """Two folds of so many samples each, both together, and a lot of unseen data."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(COLUMNS, COLUMNS)) * np.geomspace(1, 0.03, COLUMNS)[:, None]
    total = inputs(rng, 2 * samples, mixing, error)
    halves = tuple(pair(*(part[i::2] for part in total)) for i in (0, 1))
    return halves, pair(*total), pair(*inputs(rng, 4000, mixing, error))  # type: ignore[return-value]


def loss(weights: np.ndarray, matrix: np.ndarray, stats: PairStats) -> float:
    """``E |W x - weights x~|^2`` up to a constant."""
    return float(((weights @ stats.hessian - 2 * matrix @ stats.cross) * weights).sum())


@pytest.mark.parametrize("choose", ["feedback", "repair"])
def test_few_samples_are_trusted_less(choose: str) -> None:
    matrix = np.random.default_rng(0).normal(size=(1, 8, COLUMNS))
    found = {}
    for samples in (8, 4000):
        chosen = []
        for seed in range(8):
            halves, _, _ = folds(seed, samples)
            damping = feedback_damping(halves)[0] if choose == "feedback" else repair_damping(matrix, halves)
            chosen.append(np.inf if damping is None else damping)  # None trusts nothing at all
        assert set(chosen) <= {*DAMPINGS, np.inf}
        found[samples] = float(np.median(chosen))
    assert found[8] >= 10 * found[4000]


@pytest.mark.parametrize("seed", range(5))
def test_repair_helps_on_unseen_data(seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(1, 8, COLUMNS))
    halves, total, unseen = folds(seed, 100)
    damping = repair_damping(matrix, halves)
    assert damping is not None
    mended = loss(repaired(matrix, total, damping), matrix, unseen)
    constant = float(((matrix @ unseen.cross) * matrix).sum())  # about E |W x|^2
    assert mended + constant < 0.8 * (loss(matrix, matrix, unseen) + constant)


def test_repair_is_a_ridge_regression() -> None:
    """From x~ to W x, toward W rather than toward zero."""
    rng = np.random.default_rng(1)
    x, y = inputs(rng, 50, rng.normal(size=(5, 5)), 0.4)
    matrix, stats = rng.normal(size=(1, 3, 5)), pair(x, y)
    ridge = 0.1 * np.trace(stats.hessian[0]) / 5
    stacked = np.concatenate([y / 50**0.5, ridge**0.5 * np.eye(5)])
    targets = np.concatenate([(x - y) @ matrix[0].T / 50**0.5, np.zeros((5, 3))])
    expected = matrix[0] + np.linalg.lstsq(stacked, targets, rcond=None)[0].T
    np.testing.assert_allclose(repaired(matrix, stats, 0.1)[0], expected, rtol=1e-8)


def test_repair_makes_good_what_the_residual_misses() -> None:
    """A ridge regression from x~ to W x + s - s~."""
    rng = np.random.default_rng(1)
    x, y = inputs(rng, 50, rng.normal(size=(6, 6)), 0.4)
    missing = y @ rng.normal(size=(6, 3)) + rng.normal(size=(50, 3))
    matrix, product = rng.normal(size=(1, 3, 6)), (missing.T @ y / 50)[None]
    stats = replace(pair(x, y), missing=product)
    ridge = 0.1 * np.trace(stats.hessian[0]) / 6
    stacked = np.concatenate([y / 50**0.5, ridge**0.5 * np.eye(6)])
    targets = np.concatenate([((x - y) @ matrix[0].T + missing) / 50**0.5, np.zeros((6, 3))])
    expected = matrix[0] + np.linalg.lstsq(stacked, targets, rcond=None)[0].T
    np.testing.assert_allclose(repaired(matrix, stats, 0.1)[0], expected, rtol=1e-8)
    blocks = replace(stats, hessian=np.stack([stats.hessian[0, i : i + 3, i : i + 3] for i in (0, 3)]))
    blocks = replace(blocks, cross=np.stack([stats.cross[0, i : i + 3, i : i + 3] for i in (0, 3)]))
    apart = [
        repaired(
            matrix[:, :, i : i + 3],
            replace(blocks, hessian=h, cross=c, mean=stats.mean[:, :3], missing=product[:, :, i : i + 3]),
            0.1,
        )
        for i, h, c in ((0, blocks.hessian[:1], blocks.cross[:1]), (3, blocks.hessian[1:], blocks.cross[1:]))
    ]
    np.testing.assert_allclose(joined(repaired(cut(matrix, 2), blocks, 0.1), 2), np.concatenate(apart, axis=2))


def test_repair_for_a_residual_alone() -> None:
    """The models agree on the input, but not on what is added: cross-validation decides if that can be made good."""
    rng = np.random.default_rng(2)
    x, matrix = rng.normal(size=(400, 6)), rng.normal(size=(1, 3, 6))
    for missing, helps in ((x @ rng.normal(size=(6, 3)), True), (rng.normal(size=(400, 3)), False)):
        halves = [replace(pair(x[i::2], x[i::2]), missing=(missing[i::2].T @ x[i::2] / 200)[None]) for i in (0, 1)]
        assert (repair_damping(matrix, tuple(halves)) is not None) == helps


def test_groups_are_repaired_by_themselves() -> None:
    rng = np.random.default_rng(2)
    both = [pair(*inputs(rng, 60, rng.normal(size=(4, 4)), 0.3)) for _ in range(2)]
    stacked = PairStats(
        *(np.concatenate([getattr(stats, name) for stats in both]) for name in ("hessian", "mean")),
        60,
        *(np.concatenate([getattr(stats, name) for stats in both]) for name in ("cross", "float_mean")),
    )
    matrix = rng.normal(size=(2, 3, 4))
    expected = [repaired(matrix[g : g + 1], both[g], 0.03) for g in (0, 1)]
    np.testing.assert_allclose(repaired(matrix, stacked, 0.03), np.concatenate(expected))


def test_nothing_to_repair_where_the_models_agree() -> None:
    halves, total, _ = folds(3, 200, error=0.0)
    matrix = np.random.default_rng(3).normal(size=(1, 8, COLUMNS))
    assert repair_damping(matrix, halves) is None
    np.testing.assert_allclose(repaired(matrix, total, 0.01), matrix, atol=1e-12)


def test_one_fold_proves_nothing() -> None:
    halves, _, _ = folds(4, 100)
    matrix = np.ones((1, 2, COLUMNS))
    for few in ((), halves[:1]):
        assert feedback_damping(few) == (None, np.inf)
        assert repair_damping(matrix, few) is None


def test_hessians_that_never_factorise_choose_nothing() -> None:
    bad = np.array([[[1.0, 1e9], [1e9, 1.0]]])
    stats = PairStats(bad, np.zeros((1, 2)), 10, bad, np.zeros((1, 2)))
    assert feedback_damping((stats, stats)) == (None, np.inf)


def test_the_choice_is_the_best_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other samples, measured here column by column."""
    halves, _, _ = folds(5, 60)

    def leaks(train: PairStats, test: PairStats, damping: float) -> float:
        factor = hs.inverse_factor(hs.damped(train.hessian, damping))[0]
        total = 0.0
        for j in range(COLUMNS):
            row = factor[j] / factor[j, j]  # an error of 1 in column j, and how the columns to come answer it
            total += float(row @ test.hessian[0] @ row)
        return total

    sums = {d: leaks(halves[0], halves[1], d) + leaks(halves[1], halves[0], d) for d in DAMPINGS}
    best = min(sums, key=sums.__getitem__)
    damping, cost = feedback_damping(halves)
    assert damping == best
    assert cost == pytest.approx(sums[best] / (2 * COLUMNS), rel=1e-5)
    monkeypatch.setattr(crossval, "DAMPINGS", (0.5,))
    assert feedback_damping(halves)[0] == 0.5


def chosen(matrix: np.ndarray) -> tuple[list[float], float | None, float | None, np.ndarray]:
    """Losses of feedback, what is chosen for some layer, and its repaired weights."""
    halves, total, _ = folds(6, 60)
    if len(matrix) == 2:
        halves, total = (doubled(halves[0]), doubled(halves[1])), doubled(total)
    trained, other = halves[0].hessian, halves[1].hessian
    losses = [crossval.fed(hs.damped(trained, damping), other) for damping in DAMPINGS]
    return losses, feedback_damping(halves)[0], repair_damping(matrix, halves), repaired(matrix, total, 0.1)


def doubled(stats: PairStats) -> PairStats:
    """Two groups, the second with inputs of another scale."""
    arrays = ("hessian", "mean", "cross", "float_mean")
    return replace(stats, **{name: np.concatenate([(a := getattr(stats, name)), 1e9 * a]) for name in arrays})


@pytest.mark.parametrize("groups", [1, 2])
def test_single_precision_tells_the_same_losses(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(6).normal(size=(groups, 8, COLUMNS))
    exact = chosen(matrix)
    monkeypatch.setattr(crossval, "FEW", 1)
    monkeypatch.setattr(crossval, "inverse_factor", None)  # nobody calls it
    single = chosen(matrix)
    np.testing.assert_allclose(single[0], exact[0], rtol=1e-5)
    assert single[0] != exact[0]
    assert single[1:3] == exact[1:3]
    np.testing.assert_allclose(single[3], exact[3], rtol=1e-9)


def test_losses_of_repair_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    halves, _, _ = folds(6, 60)
    matrix = np.random.default_rng(6).normal(size=(1, 8, COLUMNS))
    pairs = tuple((fold.hessian, matrix @ (fold.cross - fold.hessian)) for fold in halves)
    exact = [crossval._repair_loss(damping, pairs) for damping in DAMPINGS]
    monkeypatch.setattr(crossval, "FEW", 1)
    np.testing.assert_allclose([crossval._repair_loss(damping, pairs) for damping in DAMPINGS], exact, rtol=1e-4)


@pytest.mark.parametrize("rows", [8, 400])
def test_random_vectors_tell_the_losses_of_wide_layers(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(6).normal(size=(1, rows, COLUMNS))
    exact = chosen(matrix)
    monkeypatch.setattr(crossval, "FEW", 1)
    monkeypatch.setattr(crossval, "WIDE", COLUMNS - 1)
    estimated = chosen(matrix)
    np.testing.assert_allclose(estimated[0], exact[0], rtol=0.1)
    assert np.abs(np.array(estimated[0]) / exact[0] - 1).min() > 1e-4
    assert estimated[1:3] == exact[1:3]


def test_few_sums_stand_for_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the residual that they have."""
    rng = np.random.default_rng(7)
    x, matrix = rng.normal(size=(400, 6)), rng.normal(size=(1, 300, 6))
    monkeypatch.setattr(crossval, "WIDE", 299)
    shapes = []
    loss = crossval._repair_loss
    monkeypatch.setattr(
        crossval, "_repair_loss", lambda damping, pair: shapes.append(pair[0][1].shape) or loss(damping, pair)
    )
    for missing, helps in ((x @ rng.normal(size=(6, 300)), True), (rng.normal(size=(400, 300)), False)):
        halves = [replace(pair(x[i::2], x[i::2]), missing=(missing[i::2].T @ x[i::2] / 200)[None]) for i in (0, 1)]
        assert (repair_damping(matrix, tuple(halves)) is not None) == helps
    assert set(shapes) == {(1, crossval.PROBES, 6)}


@pytest.mark.parametrize("wide", [1, 9])
def test_large_hessians_that_never_factorise_choose_nothing(wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossval, "FEW", 1)
    monkeypatch.setattr(crossval, "WIDE", wide)
    test_hessians_that_never_factorise_choose_nothing()
