"""The bound on what decoding takes: which coding it chooses. tests/emu holds the model against counted instructions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerwu_onnx.container import format as f
from cerwu_onnx.container import payload
from cerwu_onnx.entropy import adaptive, trellis
from cerwu_onnx.entropy.decode_cost import ADAPTIVE, ANS, adaptive_work, ans_work, instructions
from cerwu_onnx.types import IntArray


def kernels(seed: int, count: int, spread: float) -> IntArray:
    """Kernels of 3 x 3 whose signs depend on each other."""
    rng = np.random.default_rng(seed)
    return np.rint(rng.normal(0, spread, (count, 1, 1, 1)) + rng.normal(0, spread / 2, (count, 1, 3, 3))).astype(
        np.int32
    )


def cost(kind: f.Kind, made: bytes, symbols: IntArray) -> float:
    if kind is f.Kind.ADAPTIVE:
        return instructions(adaptive_work(symbols, made), ADAPTIVE) / symbols.size
    return instructions(ans_work(symbols, made, 0), ANS) / symbols.size


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([0.3, 1, 3, 30]), st.floats(1, 300))
def test_no_smaller_coding_stays_below(seed: int, count: int, spread: float, most: float) -> None:
    symbols = kernels(seed, count, spread)
    kind, made = payload.encode(symbols, "auto", max_decode_cost=most)
    others = [(f.Kind.ADAPTIVE, one) for one in adaptive.payloads(symbols)] + [payload.encode(symbols, "ans")]
    costs = [cost(*other, symbols) for other in others]
    assert (kind, made) in others
    assert cost(kind, made, symbols) <= max(most, min(costs))
    assert all(len(made) <= len(one) or taken > most for (_, one), taken in zip(others, costs, strict=True))


def test_what_a_bound_changes() -> None:
    """Neighbours' signs go first, then the adaptive coder."""
    symbols = kernels(1, 2000, 1.2)
    sizes = []
    for most, expected in ((1000, True), (50, False), (30, None)):
        kind, made = payload.encode(symbols, "auto", max_decode_cost=most)
        near = (made[1] & 15 == 0) if kind is f.Kind.ADAPTIVE else None
        assert near is expected
        sizes.append(len(made))
    assert sizes == sorted(sizes)
    assert sizes[0] == len(payload.encode(symbols, "auto")[1])


@pytest.mark.parametrize("values", [[0], [5], [0, 0, 0], [-2047, 2047], [1] * 300])
def test_small_and_extreme_tensors(values: list[int]) -> None:
    symbols = np.array(values, dtype=np.int32)
    for kind, made in [(f.Kind.ADAPTIVE, one) for one in adaptive.payloads(symbols)] + [payload.encode(symbols, "ans")]:
        assert 0 < cost(kind, made, symbols) < 1e6


def test_work_on_a_trellis() -> None:
    indices, grids = trellis.to_indices(np.array([2, 4, 0, 6, 0, -1], dtype=np.int32), 3)
    kind, made = payload.encode(indices, "ans", grids, 3)
    work = ans_work(indices, made, 3)
    assert kind is f.Kind.ANS
    assert (work["tables"], work["runs"], work["symbols"]) == (2, 2, 6)
    assert work["levels"] == 2 * (2 * adaptive.reach_of(indices) + 1)
