"""Deltas in C: the values are those of Python, hostile files have their errors, and no damage leads out of memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from cerwu_onnx.container import reader

from ..container.test_deltas import HOSTILE
from ..deltas import example
from ..fuzz.campaign import ERRORS
from .conftest import DECODER, ROOT, Compile


@pytest.fixture(scope="module", params=[[], ["-DCWB_NO_FLOAT", "-DCWB_NO_NAMES"]], ids=["all", "least"])
def program(request: pytest.FixtureRequest, compile_c: Compile) -> Path:
    flags = ["-Wall", "-Wextra", "-Werror", *request.param]
    return compile_c("deltas" + "".join(request.param), *flags, ROOT / "tests/c/deltas.c", DECODER / "cwb.c")


def run(program: Path, folder: Path, base: bytes, delta: bytes, *more: str) -> tuple[bytes, str]:
    """What it writes, and the error."""
    paths = [folder / "base.cwb", folder / "delta.cwb"]
    for path, data in zip(paths, (base, delta), strict=True):
        path.write_bytes(data)
    done = subprocess.run([program, *paths, *more], capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout, ERRORS[-int(done.stderr or b"0")]


@pytest.mark.parametrize("seed", range(3))
def test_values(program: Path, tmp_path: Path, seed: int) -> None:
    base, delta = example(seed)
    container = reader.parse(delta, reader.parse(base))
    values = [container.symbols(record) for record in container.tensors if record.is_coded]
    expected = np.concatenate(values).astype("<i2").tobytes()
    assert run(program, tmp_path, base, delta) == (expected, "OK")


@pytest.mark.parametrize("name", [name for name, case in HOSTILE.items() if case[4] and case[1] is not None])
def test_hostile(program: Path, tmp_path: Path, name: str) -> None:
    data, base, _, _, errors = HOSTILE[name]
    assert base is not None
    assert run(program, tmp_path, base, data)[1] in errors.split()


def test_damage(program: Path, tmp_path: Path) -> None:
    run(program, tmp_path, *example(), "3000")
