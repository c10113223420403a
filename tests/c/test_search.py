"""The search along the trellis in C, under sanitizers, on what it meets and on what it should not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from cerwu_onnx import native
from cerwu_onnx.quantize import trellis

from .conftest import DECODER, ROOT, Compile

MAGNITUDES = (1, 2, 5, trellis.MAX_INDEX + 2)
WINDOW = trellis.BLOCK + trellis.AHEAD


SIZES = [1, 7, 8, 9, WINDOW - 1, WINDOW, WINDOW + 1, trellis.BLOCK + WINDOW, 700]
"""Where strips and windows end."""


@pytest.fixture(scope="module", params=[(), ("-DCWB_NARROW",)], ids=["wide", "narrow"])
def program(request: pytest.FixtureRequest, compile_c: Compile) -> Path:
    """With vectors as wide as this machine has them, and for every machine."""
    sources = ROOT / "tests/c/search.c", DECODER / "host/cwb_search.c"
    return compile_c("search" + "".join(request.param), *request.param, *sources, "-lm")


@pytest.mark.skipif(not native.available(), reason="the library was built without a C compiler")
@pytest.mark.parametrize(("columns", "block"), [*((size, size) for size in SIZES), (700, 350), (12, 1), (30, 10)])
@pytest.mark.parametrize("scale", [0.0, 2.0, 1e6, 1e300, np.inf, np.nan])
def test_it_stays_within_its_arrays(program: Path, columns: int, block: int, scale: float) -> None:
    rng = np.random.default_rng(columns)
    rows, magnitudes = (3, 16, 37)[columns % 3], MAGNITUDES[columns % 4]
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
