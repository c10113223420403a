"""Steps of the default method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cerwu_onnx.entropy.step import storable, to_bytes
from cerwu_onnx.quantize import crossval, priced
from cerwu_onnx.types import MatrixLayout, PairStats


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
