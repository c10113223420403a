"""C copies the same columns of convolutions, in the same order, as numpy does."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerwu_onnx import native
from cerwu_onnx.calibration import patches
from cerwu_onnx.calibration.windows import Windows
from cerwu_onnx.types import ConvPatch

pytestmark = pytest.mark.skipif(not native.available(), reason="the library was built without a C compiler")


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[ConvPatch, np.ndarray]:
    """A convolution and what it reads, of one or two spatial axes."""
    rank, groups = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    kernel, strides = (tuple(draw(st.integers(1, 3)) for _ in range(rank)) for _ in range(2))
    dilations = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    pads = tuple(draw(st.integers(0, 4)) for _ in range(2 * rank))
    auto_pad: Any = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    sizes = [(k - 1) * d + draw(st.integers(1, 7)) for k, d in zip(kernel, dilations, strict=True)]
    x = np.random.default_rng(0).normal(size=(draw(st.integers(0, 17)), groups * draw(st.integers(1, 2)), *sizes))
    return ConvPatch(groups, kernel, strides, dilations, pads, auto_pad), x.astype(draw(st.sampled_from(["f4", "f8"])))


def pieces(patch: ConvPatch, x: np.ndarray, max_bytes: int, one_in: int) -> list[np.ndarray]:
    return list(patches.iter_columns(patch, x, max_bytes, one_in, seed=3))


@settings(max_examples=150, deadline=None)
@given(convolutions(), st.sampled_from([600, 1 << 20]), st.sampled_from([1, 2, 9, 100]))
def test_it_copies_what_numpy_copies(case: tuple[ConvPatch, np.ndarray], max_bytes: int, one_in: int) -> None:
    assert isinstance(patches._view(*case), Windows)
    found = pieces(*case, max_bytes, one_in)
    with pytest.MonkeyPatch.context() as context:
        context.setattr(native, "available", lambda: False)
        assert not isinstance(patches._view(*case), Windows)
        expected = pieces(*case, max_bytes, one_in)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == np.float32
        assert mine.strides == theirs.strides
        np.testing.assert_array_equal(mine, theirs)


def test_an_activation_need_not_be_contiguous() -> None:
    patch, x = ConvPatch(1, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), np.random.default_rng(1).normal(size=(7, 6, 2, 3))
    np.testing.assert_array_equal(patches.columns(patch, x.T), patches.columns(patch, np.ascontiguousarray(x.T)))


def test_volumes_are_left_to_numpy() -> None:
    patch = ConvPatch(1, (2, 2, 2), (1, 1, 1), (1, 1, 1), (0,) * 6)
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 4, 4)).astype(np.float32)
    assert not isinstance(patches._view(patch, x), Windows)
    assert patches.columns(patch, x).shape == (1, 2 * 27, 3 * 8)


def test_negative_pads_are_refused() -> None:
    patch, x = ConvPatch(1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)), np.ones((1, 1, 4, 4), np.float32)
    with pytest.raises(ValueError, match="negative"):
        patches.columns(dataclasses.replace(patch, pads=(0, 0, 0, -1)), x)
