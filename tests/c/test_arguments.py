"""Functions of cwb.h without their arguments."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from cerwu_onnx.container import writer
from cerwu_onnx.types import QuantizedTensor

from .conftest import DECODER, ROOT, Compile


def test_missing_arguments_are_refused(compile_c: Compile, tmp_path: Path) -> None:
    sources = ROOT / "tests/c/arguments.c", DECODER / "cwb.c"
    program = compile_c("arguments", "-Wall", "-Wextra", "-Werror", *sources)
    symbols = np.random.default_rng(0).integers(-5, 6, (40, 50)).astype(np.int32)
    coded = writer.encode_tensor(writer.CodedTensor("w", QuantizedTensor(symbols, 0.5, 0.0, 1.0, 0.0), "ans"))
    (tmp_path / "f.cwb").write_bytes(writer.assemble([coded, writer.margins_section([coded.record.size])]))
    done = subprocess.run([program, tmp_path / "f.cwb"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
