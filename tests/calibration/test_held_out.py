"""Halves of calibration data: every sample is in one of them, neighbours in the same; and noise on inputs."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from cerwu_onnx.calibration import Source, model_inputs, open_source
from cerwu_onnx.calibration.held_out import BLOCK, BLOCKS, HALFWAY, WHITE, Half, Noisy
from cerwu_onnx.errors import CalibrationError

from ..models import build, normal, value

SIZES = 1, 3, 8, 32, 64


def source(data: object, batch: int | str = "N", axes: int = 1, kind: int = TensorProto.FLOAT) -> Source:
    """Samples of some numbers, which lie along so many axes, and an integer."""
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["i"], ["j"])]
    inputs = [value("x", [batch, *"KLM"[:axes]], kind), value("i", [batch], TensorProto.INT64)]
    outputs = [value("y", [batch, *"KLM"[:axes]], kind), value("j", [batch], TensorProto.INT64)]
    return open_source(data, model_inputs(build(nodes, inputs, outputs, {})))  # type: ignore[arg-type]


def numbered(samples: int, first: int = 0) -> dict[str, np.ndarray]:
    """Samples that know their number."""
    return {"x": normal(samples, 2, seed=first), "i": np.arange(first, first + samples)}


def taken(half: Half, size: int) -> list[int]:
    return [int(number) for feed in half.batches(size) for number in feed["i"]]


@pytest.mark.parametrize("samples", [2, 7, 40, 100, 300, 2 * BLOCK * BLOCKS + 1])
def test_halves_are_disjoint_and_cover_all_samples(samples: int) -> None:
    whole = source(numbered(samples))
    halves = [Half(whole, second=second) for second in (False, True)]
    first, second = (taken(half, 1) for half in halves)
    assert sorted(first + second) == list(range(samples))
    assert 0 < len(second) <= len(first) <= len(second) + BLOCK
    assert [half.samples for half in halves] == [len(first), len(second)]
    assert [half.first()["i"].tolist() for half in halves] == [first[:1], second[:1]]
    for size in SIZES:
        assert [taken(half, size) for half in halves] == [first, second]
        assert all(len(feed["i"]) <= size for half in halves for feed in half.batches(size))


@pytest.mark.parametrize("batch", [4, 24, 48])
def test_halves_of_a_model_of_fixed_batches(batch: int) -> None:
    whole = source(numbered(7 * batch), batch)
    halves = [Half(whole, second=second) for second in (False, True)]
    for size in SIZES:
        first, second = (taken(half, size) for half in halves)
        assert sorted(first + second) == list(range(7 * batch))
        assert [half.samples for half in halves] == [len(first), len(second)]
        assert all(len(feed["i"]) == batch for half in halves for feed in half.batches(size))


@pytest.mark.parametrize("batch", [4, 24, 48])
def test_a_part_of_a_half_of_a_model_of_fixed_batches(batch: int) -> None:
    half = Half(source(numbered(50 * batch), batch), second=False, most=96)
    assert half.samples == len(taken(half, 1)) == 96
    assert max(taken(half, 1)) > 25 * batch


@pytest.mark.parametrize("counts", [[5] * 9, [1] * 40, [3, 70, 2, 9, 40, 1]], ids=["alike", "single", "unequal"])
def test_halves_of_feeds(counts: list[int]) -> None:
    """Feeds are not divided, and their number is not known beforehand."""
    starts = np.cumsum([0, *counts])
    whole = source([numbered(count, int(start)) for count, start in zip(counts, starts, strict=False)])
    halves = [Half(whole, second=second) for second in (False, True)]
    first, second = (taken(half, 1) for half in halves)
    assert sorted(first + second) == list(range(sum(counts)))
    assert first
    assert second
    assert [half.samples for half in halves] == [None, None]
    assert [taken(half, 64) for half in halves] == [first, second]


@pytest.mark.parametrize(("samples", "block"), [(4 * BLOCKS, 4), (2 * BLOCK * BLOCKS, BLOCK)], ids=["few", "many"])
def test_neighbours_are_in_the_same_half(samples: int, block: int) -> None:
    for second in (False, True):
        found = taken(Half(source(numbered(samples)), second=second), 32)
        assert found == [number for number in range(samples) if number // block % 2 == int(second)]


@pytest.mark.parametrize("size", SIZES)
def test_a_half_that_is_told_to_end_takes_samples_from_everywhere(size: int) -> None:
    """Of data sorted by class, the first samples of a half were of two or three classes."""
    half = Half(source(numbered(1000)), second=True, most=96)
    found = taken(half, size)
    assert half.samples == len(set(found)) == 96
    assert found == sorted(found)
    assert all(number // BLOCK % 2 == 1 for number in found)
    assert np.diff([0, *found, 1000]).max() <= 4 * BLOCK
    assert half.first()["i"].tolist() == found[:1] == [32]
    small = Half(source(numbered(10)), second=False, most=20)
    assert small.samples == len(taken(small, size)) == 5


@pytest.mark.parametrize("data", [numbered(1), [numbered(40)]], ids=["one sample", "one feed"])
def test_what_cannot_be_divided(data: object) -> None:
    whole = source(data)
    assert Half(whole, second=False).first()["i"][0] == 0
    with pytest.raises(CalibrationError, match="cannot be divided into halves"):
        Half(whole, second=True).first()


@pytest.mark.parametrize("size", [1, 50, 400])
@pytest.mark.parametrize("natural", [False, True])
@pytest.mark.parametrize("shape", [(30,), (2, 15)], ids=["a table", "a series"])
def test_noise_on_numbers_that_are_not_integers(shape: tuple[int, ...], natural: bool, size: int) -> None:
    """Relative to the standard deviation of the input, whatever its mean; the same in each pass.

    Columns of a table have scales of their own: noise of one size drowned all but the largest, and a network that it
    drives far away is surer than ever.
    """
    x = 50 + normal(400, 30) * np.repeat(np.float32([1, 5]), 15)
    samples = {"x": x.reshape(400, *shape), "i": np.arange(400)}
    noisy = Noisy(source(samples, axes=len(shape)), natural=natural)
    assert (noisy.samples, noisy.count(noisy.first())) == (400, 1)
    found, again = ([*noisy.batches(size)] for _ in range(2))
    assert np.array_equal(np.concatenate([feed["i"] for feed in found]), samples["i"])
    x = np.concatenate([feed["x"] for feed in found])
    assert np.array_equal(x, np.concatenate([feed["x"] for feed in again]))
    assert x.dtype == np.float32
    noise = (x - samples["x"]).reshape(400, 2, 15).std(axis=(0, 2))
    apart = natural or len(shape) == 1
    wide = np.float32([1, 5]) if apart else np.full(2, 13**0.5)  # as samples or columns differ, or the same everywhere
    np.testing.assert_allclose(noise, (HALFWAY if natural else WHITE) * wide, rtol=0.06)


@pytest.mark.parametrize("size", [1, 100])
def test_natural_noise_lies_where_samples_differ(size: int) -> None:
    """A pixel that no sample changes gets no noise of that kind."""
    x = normal(100, 4)
    x[:, 2] = 7
    noisy = Noisy(source({"x": x, "i": np.arange(100)}), natural=True)
    noise = np.concatenate([feed["x"] for feed in noisy.batches(size)]) - x
    assert noise.std(axis=0)[2] == 0
    assert noise.std(axis=0)[[0, 1, 3]].min() > 0.1


@pytest.mark.parametrize("natural", [False, True])
def test_noise_on_bytes_leaves_bytes(natural: bool) -> None:
    """Pixels are judged as if they were floats; tokens and labels are of wider types."""
    x = np.clip(128 + 90 * normal(64, 3, 8, 8, seed=5), 0, 255).astype(np.uint8)
    noisy = Noisy(source({"x": x, "i": np.arange(64)}, axes=3, kind=TensorProto.UINT8), natural=natural)
    feeds = list(noisy.batches(16))
    found = np.concatenate([feed["x"] for feed in feeds])
    assert found.dtype == np.uint8
    error = found.astype(float) - x
    assert error.std() == pytest.approx((HALFWAY if natural else WHITE) * x.std(), rel=0.25)
    floats = Noisy(source({"x": x.astype(np.float32), "i": np.arange(64)}, axes=3), natural=natural)
    unbounded = np.concatenate([feed["x"] for feed in floats.batches(16)])
    assert unbounded.min() < -20
    assert unbounded.max() > 275
    assert np.abs(found - unbounded.clip(0, 255)).max() < 0.51, "nothing wraps around"
    assert (np.concatenate([feed["i"] for feed in feeds]) == np.arange(64)).all()


def test_natural_noise_on_single_samples_is_from_the_one_before() -> None:
    x = normal(3, 2)
    noisy = Noisy(source({"x": x, "i": np.arange(3)}), natural=True)
    found = np.concatenate([feed["x"] for feed in noisy.batches(1)])
    before = np.concatenate([x[:1], x[:2]])
    np.testing.assert_allclose(found, x + HALFWAY / 2**0.5 * (x - before), rtol=1e-5)
