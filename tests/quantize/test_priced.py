"""Steps of the default method."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from cerwu_onnx.entropy.step import storable, to_bytes
from cerwu_onnx.entropy.trellis import to_indices, to_values
from cerwu_onnx.quantize import crossval, priced, trellis
from cerwu_onnx.types import MatrixLayout, PairStats, QuantizedTensor


@pytest.mark.parametrize(("rows", "length"), [(priced.FINE // 64 - 1, 1), (priced.FINE // 64, 5)])
def test_steps_of_large_tensors_follow_the_price_closely(rows: int, length: int) -> None:
    """Short steps, eight to an octave, are off by up to 6 %: of large tensors that would be more than four bytes."""
    layout = MatrixLayout((rows, 64), (1, rows, 64), (0, 1, 2), 1, rows, 64)
    weight = np.random.default_rng(0).normal(size=(rows, 64)).astype(np.float32)
    identity, zero = np.eye(64)[None], np.zeros((1, 64))
    stats = PairStats(identity, zero, 0, identity, zero)
    steps = []
    for price in (1e-6, 1.02e-6, 1.04e-6):
        cost = priced.Cost(1.0, price)
        quantized, _ = priced.quantize(
            weight, layout, stats, cost, columns=np.arange(64), damping=0.01, passes=1, name="w"
        )
        steps.append(2 * quantized.step)  # of one of the trellis' two grids
    wanted = np.sqrt(6 * np.array([1e-6, 1.02e-6, 1.04e-6]) * weight.size / np.log(2) / 1.01)  # with 1 % damping
    assert {len(to_bytes(step)) for step in steps} == {length}
    np.testing.assert_allclose(steps, wanted, rtol=1e-6 if length == 5 else 0.07)
    assert len(set(steps)) == (3 if length == 5 else 1)


@pytest.mark.parametrize("price", [0.0, 1e-82, 1e-80, 1e-78, 1e-60, 1e-3])
@pytest.mark.parametrize("scale", [1e-44, 1e-39, 1e-37, 1e37])
def test_steps_can_be_stored(scale: float, price: float) -> None:
    layout = MatrixLayout((30, 16), (1, 30, 16), (0, 1, 2), 1, 30, 16)
    weight = (scale * np.random.default_rng(0).normal(size=(30, 16))).astype(np.float32)
    identity, zero = np.eye(16)[None], np.zeros((1, 16))
    stats = PairStats(identity, zero, 0, identity, zero)
    for columns in (np.arange(16), None):
        quantized, _ = priced.quantize(
            weight, layout, stats, priced.Cost(1.0, price), columns=columns, damping=0.01, passes=1, name="w"
        )
        assert storable(quantized.step)


@pytest.mark.parametrize("positions", [priced.PLENTY * 64 - 1, priced.PLENTY * 64])
def test_dampings_hold_where_a_layer_saw_enough(positions: int) -> None:
    layout = MatrixLayout((4, 64), (1, 4, 64), (0, 1, 2), 1, 4, 64)
    x = np.random.default_rng(1).normal(size=(2, positions, 64))
    hessians, zero = [(h.T @ h / len(h))[None] for h in x], np.zeros((1, 64))
    halves = [PairStats(h, zero, positions, h, zero) for h in hessians]
    both = replace(halves[0], folds=tuple(halves))
    quantized, _ = priced.quantize(
        np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32),
        layout,
        both,
        priced.Cost(1.0, 1e-6),
        columns=np.arange(64),
        damping=0.01,
        passes=1,
        name="w",
        dampings=(0.12, 0.34),
    )
    assert (quantized.damping == 0.12) == (positions >= priced.PLENTY * 64)
    assert quantized.damping in (0.12, *crossval.DAMPINGS)


def uniform(
    shape: tuple[int, int], price: float, seed: int = 0, **changes: object
) -> tuple[np.ndarray, QuantizedTensor]:
    """A random weight, and what becomes of it for inputs without correlation; ``columns=None`` is no trellis."""
    weight = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    identity, zero = np.eye(shape[1])[None], np.zeros((1, shape[1]))
    options = {"columns": None, "damping": 0.01, "passes": 1, "name": "w"} | changes
    layout = MatrixLayout(shape, (1, *shape), (0, 1, 2), 1, *shape)
    stats = PairStats(identity, zero, 0, identity, zero)
    found, _ = priced.quantize(weight, layout, stats, priced.Cost(1.0, price), **options)  # type: ignore[arg-type]
    return weight, found


def test_a_bit_has_its_price_in_the_choice_of_symbols() -> None:
    """0.03 of the step's square, by brute force over all symbols."""
    weight, found = uniform((60, 80), 1e-4)
    w = weight.astype(np.float64) / found.step
    first = np.rint(w)
    reach = int(np.abs(first).max()) + 1
    symbols = np.arange(-reach, reach + 1)
    counts = np.maximum((first[..., None] == symbols).sum(axis=(0, 1)), 0.5)
    bits = np.log2(counts.sum() / counts)
    best = symbols[np.argmin((w[..., None] - symbols) ** 2 + 0.03 * bits, axis=-1)]
    assert np.mean(found.symbols == best) > 0.999
    assert np.mean(first == best) < 0.99  # rounding is something else


def test_a_bit_has_the_same_price_along_a_trellis() -> None:
    """Its step is half as large: 0.03 of the square of two. By brute force over all paths of six indices up to 3."""
    weight, found = uniform((24, 6), 5e-3, columns=np.arange(6))
    assert found.run == 6
    w = weight.astype(np.float64) / found.step
    bits = trellis.first_lengths(w)
    indices = np.array(list(itertools.product(range(-3, 4), repeat=6)), np.int32)
    paths = to_values(indices, 6).reshape(indices.shape)
    _, grids = to_indices(paths, 6)
    assert np.abs(w).max() < 7
    length = bits[grids.reshape(paths.shape), np.minimum(np.abs(indices), bits.shape[1] - 1)].sum(axis=1)
    cost = np.square(w[:, None] - paths).sum(axis=2) + 4 * 0.03 * length
    place = [int(np.flatnonzero((paths == row).all(axis=1))[0]) for row in found.symbols]
    np.testing.assert_allclose(cost[np.arange(24), place], cost.min(axis=1), rtol=1e-5)


def test_weights_leave_room_for_feedback() -> None:
    """A fiftieth of the range: the step grows where the one that would just do is a short one."""
    layout = MatrixLayout((2, 4), (1, 2, 4), (0, 1, 2), 1, 2, 4)
    weight = np.array([[127.0, 1, 2, 3], [-5, 8, 13, 21]], np.float32)
    identity, zero = np.eye(4)[None], np.zeros((1, 4))
    stats, cost = PairStats(identity, zero, 0, identity, zero), priced.Cost(1.0, 1e-9, largest=127)
    found, _ = priced.quantize(weight, layout, stats, cost, columns=None, damping=0.01, passes=1, name="w")
    assert found.step == 1.125
    assert np.abs(found.symbols).max() == 113


@pytest.mark.parametrize("columns", [None, np.arange(12)])
def test_feedback_never_leaves_the_range(columns: np.ndarray | None) -> None:
    """A last input that counts little makes up for all others, and goes far: then the grid is uniform, and clips it."""
    layout = MatrixLayout((8, 12), (1, 8, 12), (0, 1, 2), 1, 8, 12)
    inputs = np.array([*[1.0] * 11, 0.05])
    hessian, zero = np.outer(inputs, inputs)[None] + 1e-3 * np.eye(12), np.zeros((1, 12))
    stats, cost = PairStats(hessian, zero, 0, hessian, zero), priced.Cost(1.0, 3e-5, largest=7)
    plain = 0
    for seed in range(20):
        weight = np.random.default_rng(seed).uniform(-1, 1, size=(8, 12)).astype(np.float32)
        found, _ = priced.quantize(weight, layout, stats, cost, columns=columns, damping=1e-4, passes=1, name="w")
        assert np.abs(found.symbols).max() <= 7
        plain += found.run == 0
    assert 0 < plain <= 20
    assert (plain < 20) == (columns is not None)


def test_what_a_layer_is_worth() -> None:
    """Error times sensitivity against the bits of exact weights; a range that the user asked for needs no excuse."""
    at = {"weights": 10, "bits": 32}
    assert priced.worth(64.0, cost=priced.Cost(0.5, 0.1), **at)
    assert not priced.worth(64.1, cost=priced.Cost(0.5, 0.1), **at)
    assert priced.worth(64.1, cost=priced.Cost(0.5, 0.1, largest=7), **at)
    assert priced.worth(64.1, cost=priced.Cost(0.5, 0.0), **at)


def test_the_step_follows_what_errors_cost_on_other_samples() -> None:
    """The search's own factor has seen all samples; each half's is tried on the other, column by column."""
    layout, few = MatrixLayout((400, 48), (1, 400, 48), (0, 1, 2), 1, 400, 48), 40
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(48, 48)) * np.geomspace(1, 0.1, 48)[:, None]
    hessians = [(x.T @ x / few)[None] for x in rng.normal(size=(2, few, 48)) @ mixing]
    zero, price = np.zeros((1, 48)), 1e-3
    first, second = (PairStats(h, zero, few, h, zero) for h in hessians)
    total = (hessians[0] + hessians[1]) / 2
    both = PairStats(total, zero, 2 * few, total, zero, folds=(first, second))
    weight = rng.normal(size=(400, 48)).astype(np.float32)
    options = {"columns": np.arange(48), "damping": 0.01, "passes": 1, "name": "w", "stepped": False}
    found, _ = priced.quantize(weight, layout, both, priced.Cost(1.0, price), **options)  # type: ignore[arg-type]
    elsewhere = 0.0
    for mine, other in (hessians, hessians[::-1]):
        damped = mine[0] + found.damping * np.trace(mine[0]) / 48 * np.eye(48)
        for j in range(48):  # columns after j make up for an error of 1 in it as well as they can
            answer = np.linalg.solve(damped[j + 1 :, j + 1 :], damped[j + 1 :, j])
            error = np.concatenate([np.zeros(j), [1.0], -answer])
            elsewhere += float(error @ other[0] @ error) / (2 * 48)
    step = np.sqrt(6 * price * 400 * np.trace(total[0]) / (np.log(2) * elsewhere))
    assert 2 * found.step == pytest.approx(step, rel=1e-4)
    alone, _ = priced.quantize(weight, layout, replace(both, folds=()), priced.Cost(1.0, price), **options)  # type: ignore[arg-type]
    assert alone.step != pytest.approx(found.step, rel=0.05)
