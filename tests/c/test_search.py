"""The search along the trellis in C, under sanitizers, on what it meets and on what it should not."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from cerwu_onnx import native
from cerwu_onnx.quantize import trellis

from .conftest import DECODER, ROOT, Compile

MAGNITUDES = (1, 2, 5, trellis.MAX_INDEX + 2)


@pytest.mark.skipif(not native.available(), reason="the library was built without a C compiler")
@pytest.mark.parametrize(
    ("columns", "block"), [(1, 1), (87, 87), (88, 88), (89, 89), (64 + 88, 64 + 88), (300, 300), (300, 100), (12, 1)]
)
@pytest.mark.parametrize("scale", [0.0, 2.0, 1e6, 1e300, np.inf, np.nan])
def test_it_stays_within_its_arrays(compile_c: Compile, columns: int, block: int, scale: float) -> None:
    program = compile_c("search", ROOT / "tests/c/search.c", DECODER / "host/cwb_search.c", "-lm")
    rng = np.random.default_rng(columns)
    rows, magnitudes = 3, MAGNITUDES[columns % 4]
    w = rng.normal(size=(rows, columns))
    with np.errstate(over="ignore", invalid="ignore"):
        w *= scale
    feedback = rng.normal(size=(columns, block)).astype(np.float32) / columns
    weight, price = np.ones(columns, np.float32), np.full(rows, 0.1, np.float32)
    row_feedback = rng.normal(size=(rows, rows))
    bits = np.sort(rng.uniform(0, 9, (2, magnitudes)), axis=1).astype(np.float32)
    arrays = (w, feedback, weight, row_feedback, price, bits, trellis.GRID_AND_PARITY)
    command = [program, str(rows), str(columns), str(block), str(magnitudes)]
    run = subprocess.run(command, input=b"".join(array.tobytes() for array in arrays), capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    found = np.frombuffer(run.stdout).reshape(w.shape)
    np.testing.assert_array_equal(found, native.search_trellis(*arrays))
    assert np.abs(found).max() <= 2 * trellis.MAX_INDEX
