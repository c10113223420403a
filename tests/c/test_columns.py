"""The copy of columns under sanitizers: at borders, and where windows lie in the padding altogether."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from cerwu_onnx import native
from cerwu_onnx.calibration.windows import Windows
from cerwu_onnx.types import ConvPatch

from .conftest import DECODER, ROOT, Compile


@pytest.fixture(scope="module")
def program(compile_c: Compile) -> Path:
    return compile_c("columns", ROOT / "tests/c/columns.c", DECODER / "host/cwb_columns.c")


@pytest.mark.skipif(not native.available(), reason="the library was built without a C compiler")
@pytest.mark.parametrize("begin", [0, 1, 5])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("first", [0, 2])
def test_it_stays_within_its_arrays(program: Path, begin: int, stride: int, first: int) -> None:
    x = np.random.default_rng(begin).normal(size=(3, 2, 4, 5)).astype(np.float32)
    patch = ConvPatch(1, (3, 2), (stride, stride), (1, 2), (begin,) * 4)
    rows, columns = ((size + 2 * begin - 3) // stride + 1 for size in (4, 5))
    parts = (
        (range(0, 3, 2), range(first, rows, 2), range(first, columns)),
        (range(1, 2), range(rows), range(first, columns, 3)),
    )
    expected = Windows(x, patch, (begin, begin), parts).copy()
    windows = np.array([x.shape[2:], patch.kernel, patch.strides, patch.dilations, (begin, begin)], np.uintp)
    ranges = np.array([[(axis.start, axis.step, len(axis)) for axis in part] for part in parts], np.uintp)
    command = [program, *map(str, (len(x), x.shape[1], len(parts), expected.size))]
    run = subprocess.run(command, input=b"".join(a.tobytes() for a in (windows, ranges, x)), capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    found = np.frombuffer(run.stdout, np.float32).reshape(1, expected.shape[2], -1)
    np.testing.assert_array_equal(found.swapaxes(1, 2), expected)
