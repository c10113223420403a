"""``compress --base`` and ``--base`` of the commands that read a .cwb file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from ..compression.test_deltas import moved, network
from ..models import normal
from .conftest import Run


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """A base, and a delta of it."""
    onnx.save(network(), tmp_path / "old.onnx")
    onnx.save(moved(network(), v=0.3), tmp_path / "new.onnx")
    np.savez(tmp_path / "calib.npz", x=normal(100, 40, seed=8))
    common = ("--calib", tmp_path / "calib.npz", "--lambda", "0.05")
    assert run("compress", tmp_path / "old.onnx", tmp_path / "old.cwb", *common).code == 0
    base = ("--base", tmp_path / "old.cwb", "--report", tmp_path / "new.md")
    done = run("compress", tmp_path / "new.onnx", tmp_path / "new.cwb", *common, *base)
    assert done.code == 0, done.err
    assert "delta of " in done.out
    return tmp_path


def test_commands_that_read_it(run: Run, folder: Path) -> None:
    delta, base = folder / "new.cwb", ("--base", folder / "old.cwb")
    name = json.loads(run("inspect", folder / "old.cwb", "--json").out)["identity"]
    assert name in run("inspect", folder / "old.cwb").out
    shown = json.loads(run("inspect", delta, *base, "--json").out)
    assert shown["base"] == name
    assert {row["coding"] for row in shown["tensors"]} >= {"changed", "unchanged"}
    assert name in run("inspect", delta, *base).out
    assert run("decompress", delta, folder / "out.onnx", *base).code == 0
    done = run("verify", delta, *base, "--against", folder / "new.onnx", "--data", folder / "calib.npz")
    assert done.code == 0, done.err
    assert run("compare", folder / "new.onnx", delta, "--data", folder / "calib.npz", *base).code == 0
    assert run("report", delta, *base).code == 0
    assert "unchanged" in (folder / "new.md").read_text()
    for command in (["inspect", delta], ["decompress", delta, folder / "no.onnx"], ["verify", delta]):
        done = run(*command)
        assert done.code == 2
        assert f"needs its base, the .cwb that inspect calls {name}" in done.err
    done = run("export-c", delta, folder / "firmware")
    assert done.code == 2
    assert "export the base" in done.err


def test_what_has_no_base(run: Run, folder: Path) -> None:
    done = run("inspect", folder / "old.onnx", "--base", folder / "old.cwb")
    assert (done.code, "is no .cwb file" in done.err) == (2, True)
    done = run("verify", folder / "old.cwb", "--base", folder / "old.cwb")
    assert (done.code, "no delta" in done.err) == (2, True)
    done = run("decompress", folder / "new.cwb", folder / "old.cwb", "--base", folder / "old.cwb", "--force")
    assert done.code == 2
