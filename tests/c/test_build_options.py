"""Build options that leave nothing out: golden files decode as ever; and the examples for CRC units."""

from __future__ import annotations

import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from cerwu_onnx.container import reader

from .conftest import ROOT, BuildHarness, Compile

OPTIONS = ("SMALL", "CRC_SLICES=1", "CRC_SLICES=4", "CRC32=other_crc")
GOLDEN = [
    ROOT / "tests/golden" / f"{name}.cwb" for name in ("v1/kinds", "v1/forms", "v2/kinds", "v2/forms", "v2/model")
]


def decoded(path: Path) -> bytes:
    """What the harness writes: of each coded tensor its symbols and its floats, of the others their bytes."""
    container, found = reader.read(path), b""
    for record in container.tensors:
        values = container.decode_python(record)
        if record.is_coded:
            found += container.symbols(record).astype("<i2").tobytes() + record.order.store(values).tobytes()
        else:
            found += values.tobytes()
    return found


@pytest.mark.parametrize("option", OPTIONS)
def test_golden_files(build_harness: BuildHarness, tmp_path: Path, option: str) -> None:
    harness = build_harness(f"-DCWB_{option}")
    assert harness("status", *GOLDEN).stdout.split() == [b"0"] * len(GOLDEN)
    for path in GOLDEN:
        harness("dump", path, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == decoded(path)


def test_examples_for_crc_units(compile_c: Compile, tmp_path: Path) -> None:
    """Against a model of the unit of an STM32, and of the function in the ROM of an ESP32."""
    program = compile_c("crc_examples", f"-I{ROOT / 'tests/c/fakes'}", ROOT / "tests/c/crc_examples.c")
    data = np.random.default_rng(0).bytes(5000)
    (tmp_path / "data").write_bytes(data)
    done = subprocess.run([program, tmp_path / "data"], capture_output=True, text=True, check=True)
    assert [int(word) for word in done.stdout.split()] == [zlib.crc32(data)] * 2
