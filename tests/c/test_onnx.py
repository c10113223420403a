"""The graph in C: byte for byte what Python gives, under sanitizers."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import ROOT, Compile
from .onnx_library import SOURCES, Given, given_by_c, given_by_python

GOLDEN = sorted((ROOT / "tests/golden").rglob("*.cwb"))


@pytest.fixture(scope="session")
def program(compile_c: Compile) -> Path:
    return compile_c("onnx", "-Wall", "-Wextra", "-Werror", *SOURCES)


def check(program: Path, files: list[tuple[bytes, bytes]], least: int = 64) -> list[Given]:
    found = given_by_c(program, files, least)
    for (file, base), given in zip(files, found, strict=True):
        expected = given_by_python(file, base, least)
        assert bool(given.error) == bool(expected.error), (given.error, expected.error)
        assert given.model == expected.model
        if expected.tensors:
            assert given.tensors == expected.tensors
    return found


def test_golden_files(program: Path) -> None:
    assert len(GOLDEN) >= 3
    found = check(program, [(path.read_bytes(), b"") for path in GOLDEN])
    assert not any(given.error for given in found)
