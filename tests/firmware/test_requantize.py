"""Multipliers and shifts: exact, and what a kernel computes with them."""

from __future__ import annotations

import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerwu_onnx.errors import UsageError
from cerwu_onnx.firmware.requantize import integer_bias, multiplier_and_shift, requantization

scales = st.floats(2.0**-31, 2.0**29, allow_nan=False)


@given(scales)
def test_nearest_multiplier(scale: float) -> None:
    multiplier, shift = multiplier_and_shift(Fraction(scale))
    assert 2**30 <= multiplier < 2**31
    unit = Fraction(2) ** (shift - 31)
    assert abs(multiplier * unit - Fraction(scale)) <= unit / 2


@given(scales)
def test_as_tensorflow_lite_defines_it(scale: float) -> None:
    """frexp in doubles, rounded half away from zero; a double's 53 bits make that exact."""
    fraction, exponent = np.frexp(scale)
    multiplier = int(np.floor(fraction * 2.0**31 + 0.5))
    expected = (multiplier // 2, exponent + 1) if multiplier == 2**31 else (multiplier, exponent)
    assert multiplier_and_shift(Fraction(scale)) == expected


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (Fraction(1), (2**30, 1)),
        (Fraction(1, 2), (2**30, 0)),
        (Fraction(3, 4), (3 * 2**29, 0)),
        (1 - Fraction(1, 2**32), (2**30, 1)),  # a half, which rounds up to the next power of two
        (1 - Fraction(1, 2**31), (2**31 - 1, 0)),
        (Fraction(1, 2**32), (2**30, -31)),
        (Fraction(1, 2**33), (0, 0)),
        (Fraction(2**29), (2**30, 30)),
    ],
)
def test_by_hand(scale: Fraction, expected: tuple[int, int]) -> None:
    assert multiplier_and_shift(scale) == expected


def test_out_of_range() -> None:
    for scale in (0, -1, 2**30):
        with pytest.raises(UsageError, match="out of range"):
            multiplier_and_shift(Fraction(scale))
    for arguments in (((float("nan"),), 1.0, 1.0), ((1.0,), 0.0, 1.0), ((1.0,), 1.0, float("inf"))):
        with pytest.raises(UsageError, match="out of range"):
            requantization(*arguments)


def test_a_step_per_output() -> None:
    steps = [0.5, 0.25, 0.5, 0.375]
    rescale = requantization(steps, 0.1, 0.05)
    for step, multiplier, shift in zip(steps, rescale.multipliers, rescale.shifts, strict=True):
        exact = Fraction(step) * Fraction(0.1) / Fraction(0.05)
        assert (multiplier, shift) == multiplier_and_shift(exact)


def test_bias() -> None:
    assert integer_bias([0.75, -0.75, 1.0, 0.0], [0.5, 0.5, 0.25, 1.0], 1.0) == (2, -2, 4, 0)
    assert integer_bias([-(2.0**31)], [1.0], 1.0) == (-(2**31),)
    with pytest.raises(UsageError, match="exceeds int32"):
        integer_bias([2.0**31], [1.0], 1.0)
    with pytest.raises(UsageError, match="not finite"):
        integer_bias([float("nan")], [1.0], 1.0)


MULTIPLIER_C = """
#include "cwb.h"
#include <stdio.h>
int main(void)
{
    unsigned long step, input, output;
    int32_t multiplier = 1, shift = 2;
    while (scanf("%lu %lu %lu", &step, &input, &output) == 3) {
        int error = cwb_multiplier((uint32_t)step, (uint32_t)input, (uint32_t)output, &multiplier, &shift);
        printf("%d %ld %ld\\n", error, (long)multiplier, (long)shift);
    }
    return 0;
}
"""


def test_c_computes_the_same(tmp_path: Path) -> None:
    """Of random bits, of scales as they occur, and of the borders of what a float32 is."""
    cc = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if cc is None:
        pytest.skip("no C compiler: install one (cc, gcc or clang) or set CC to compile cwb_multiplier")
    decoder = Path(__file__).parents[2] / "decoder_c"
    (tmp_path / "main.c").write_text(MULTIPLIER_C)
    sources = [tmp_path / "main.c", decoder / "cwb.c"]
    subprocess.run([cc, "-std=c99", f"-I{decoder}", *sources, "-o", tmp_path / "main"], check=True)
    rng = np.random.default_rng(9)
    usual = np.exp(rng.normal(-4, 2, size=(3000, 3))).astype("<f4").view("<u4")
    borders = np.array([0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x3F7FFFFF, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 1 << 31])
    triples = np.concatenate(
        [usual, rng.integers(0, 0x7F800000, (1000, 3)), rng.choice(borders, (1000, 3)), usual // 2**12 * 2**12]
    ).astype(np.uint32)
    given = "\n".join(" ".join(map(str, triple)) for triple in triples.tolist())
    done = subprocess.run([tmp_path / "main"], input=given, capture_output=True, text=True, check=True)
    for triple, line in zip(triples, done.stdout.splitlines(), strict=True):
        step, input_scale, output_scale = triple.astype("<u4").view("<f4").tolist()
        error, *found = map(int, line.split())
        if not all(0 < value < float("inf") for value in (step, input_scale, output_scale)):
            assert error == -16
            continue
        scale = Fraction(step) * Fraction(input_scale) / Fraction(output_scale)
        try:
            expected = multiplier_and_shift(scale)
        except UsageError:
            assert error == -14
        else:
            assert (error, *found) == (0, *expected), triple
