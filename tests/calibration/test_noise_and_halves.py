"""Halves of calibration data: every sample is in one of them, neighbours in the same; and noise on inputs."""

from __future__ import annotations

import numpy as np
import pytest

from cerwu_onnx.calibration.held_out import BLOCK, BLOCKS, NOISE, Half, Noisy
from cerwu_onnx.calibration.source import Source, open_source
from cerwu_onnx.model.tensors import InputInfo

from ..models import normal

INPUTS = [InputInfo("x", np.dtype("f4"), (None, 1))]


def numbered(count: int) -> Source:
    """Samples that hold their number."""
    return open_source({"x": np.arange(count, dtype=np.float32).reshape(count, 1)}, INPUTS)


def numbers(source: Source, size: int = 8) -> list[int]:
    return [int(number) for feed in source.batches(size) for number in feed["x"].ravel()]


@pytest.mark.parametrize("count", [2, 7, 24, 100, 2 * BLOCK * BLOCKS + 40])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_halves_share_no_sample_and_lose_none(count: int, size: int) -> None:
    source = numbered(count)
    first, second = (Half(source, second=second) for second in (False, True))
    parts = [numbers(half, size) for half in (first, second)]
    assert sorted(parts[0] + parts[1]) == list(range(count))
    assert [len(part) for part in parts] == [first.samples, second.samples]
    assert parts[0][0] == first.first()["x"][0, 0] == 0
    assert parts[1][0] == second.first()["x"][0, 0]


def test_neighbours_are_in_the_same_half() -> None:
    many = numbers(Half(numbered(4 * BLOCK * BLOCKS), second=True))
    assert many[: BLOCK + 1] == [*range(BLOCK, 2 * BLOCK), 3 * BLOCK]
    few = numbers(Half(numbered(4 * BLOCKS), second=True))
    assert few == [number for number in range(4 * BLOCKS) if number // 4 % 2]


def test_a_half_ends_where_it_is_told_to() -> None:
    half = Half(numbered(100), second=False, most=20)
    assert half.samples == 20
    assert len(numbers(half, 4)) == 20
    assert Half(numbered(10), second=False, most=20).samples == 5


def test_feeds_that_cannot_be_divided_stay_whole() -> None:
    feeds = [{"x": np.full((3, 1), number, np.float32)} for number in range(32)]
    source = open_source(feeds, INPUTS)
    seen = [sorted(set(numbers(Half(source, second=second)))) for second in (False, True)]
    assert sorted(seen[0] + seen[1]) == list(range(32))


@pytest.mark.parametrize("natural", [False, True])
@pytest.mark.parametrize("size", [1, 400])
def test_noise_has_its_size(natural: bool, size: int) -> None:
    """Relative to the standard deviation of the input, whatever its mean; sample by sample or all at once."""
    x = 50 + 3 * normal(400, 30)
    inputs = [InputInfo("x", np.dtype("f4"), (None, 30)), InputInfo("n", np.dtype("i8"), (None,))]
    source = open_source({"x": x, "n": np.arange(400)}, inputs)
    noisy = Noisy(source, natural=natural)
    passes = [list(noisy.batches(size)) for _ in range(2)]
    found = np.concatenate([feed["x"] for feed in passes[0]])
    assert found.dtype == np.float32
    assert (found - x).std() == pytest.approx(3 * NOISE, rel=0.06)
    assert np.array_equal(np.concatenate([feed["n"] for feed in passes[0]]), np.arange(400))
    assert np.array_equal(found, np.concatenate([feed["x"] for feed in passes[1]]))
    assert noisy.samples == sum(noisy.count(feed) for feed in passes[0]) == 400


def test_natural_noise_lies_where_samples_differ() -> None:
    """A pixel that no sample changes gets no noise of that kind."""
    x = normal(100, 4)
    x[:, 2] = 7
    source = open_source({"x": x}, [InputInfo("x", np.dtype("f4"), (None, 4))])
    for size in (1, 100):
        noise = np.concatenate([feed["x"] for feed in Noisy(source, natural=True).batches(size)]) - x
        assert noise.std(axis=0)[2] == 0
        assert noise.std(axis=0)[[0, 1, 3]].min() > 0.1
