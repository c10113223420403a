"""Packed sections in C, under sanitizers, on codes that are sound, damaged or noise."""

from __future__ import annotations

import subprocess
from base64 import b64decode
from json import loads
from pathlib import Path

import numpy as np
import pytest

from cerwu_onnx.container.primer import PRIMER

from ..golden.packed import FILE
from .conftest import DECODER, ROOT, Compile

SOUND = [tuple(map(b64decode, pair)) for pair in loads(FILE.read_text()).values()]
CODES = [(content, payload[1 if len(content) < 128 else 2 :]) for content, payload in SOUND if payload[0]]


@pytest.fixture(scope="module")
def program(compile_c: Compile) -> Path:
    flags = ("-Wall", "-Wextra", "-Werror")
    return compile_c("pack", *flags, ROOT / "tests/c/pack.c", DECODER / "host/cwb_pack.c")


def run(program: Path, primer: bytes, code: bytes, *sizes: int) -> str:
    command = [program, str(len(primer)), str(len(code)), *map(str, sizes)]
    done = subprocess.run(command, input=primer + code, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_sound_codes(program: Path) -> None:
    assert len(CODES) >= 4
    for content, code in CODES:
        assert run(program, PRIMER, code, len(content)) == "1"


@pytest.mark.parametrize("seed", range(8))
def test_damage_and_noise(program: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content, code = CODES[seed % len(CODES)]
    damaged = bytearray(code)
    damaged[rng.integers(len(code))] ^= 1 << int(rng.integers(8))
    for changed in (bytes(damaged), code[:-1], code + b"\1", rng.bytes(50)):
        for primer in (PRIMER[:2000], rng.bytes(100), b""):
            assert run(program, primer, changed, 0, 1, len(content) - 1, len(content), 3000)[0] == "0"


def test_no_code(program: Path) -> None:
    assert run(program, b"", b"", 0, 1, 5000)[0] == "1"
    assert [run(program, b"", b"\0", 0), run(program, b"", b"\1", 0)] == ["0", "0"]
