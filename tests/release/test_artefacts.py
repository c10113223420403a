"""The cheap part of ``make check-release``: its walk, with the package that is installed here, on a small model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from ..cli.conftest import _calib, _cwb, cwb, small_model
from ..js.conftest import package
from . import check

__all__ = ["_calib", "_cwb", "cwb", "package"]

TENSORS = "4 tensors, 4558 values"


def test_the_walk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(small_model(), tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=np.random.default_rng(4).normal(size=(64, 2, 8, 8)).astype(np.float32))
    tensors = check.walk(Path(sys.executable).parent, tmp_path, "--lambda", "1e-4", "--effort", "fast")
    assert tensors == TENSORS
    check.in_c(tmp_path, check.ROOT / "decoder_c/examples/bare_metal.c")
    said = capsys.readouterr().out
    assert "same answer on" in said
    # With venv and pip, npm and node, and Chromium: ten.
    assert said.count("$ ") == 5 or (said.count("$ ") == 3 and "left out: no C compiler" in said)


def test_the_walk_goes_on_in_node_and_chromium(package: Path, cwb: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/cerwu-onnx").symlink_to(package, target_is_directory=True)  # as npm install would
    assert check.in_node(tmp_path) == TENSORS
    assert check.in_chromium(tmp_path) in (TENSORS, "left out")


def test_a_failure_ends_it_and_says_why() -> None:
    with pytest.raises(SystemExit, match=r"(?s)told.*failed with exit code 3"):
        check.run(sys.executable, "-c", "import sys; print('told'); sys.exit(3)")


def test_one_artefact_of_a_kind(tmp_path: Path) -> None:
    assert check.one(tmp_path, "*.whl") is None
    (tmp_path / "a.whl").touch()
    assert check.one(tmp_path, "*.whl") == tmp_path / "a.whl"
    (tmp_path / "b.whl").touch()
    with pytest.raises(SystemExit, match="more than one"):
        check.one(tmp_path, "*.whl")
