"""``compress`` of many models into a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from .conftest import Run, run_process, small_model


@pytest.fixture
def models(model: Path, calib: Path, tmp_path: Path) -> list[Path]:
    """Two models with data of their own, and between them a file that is none."""
    broken, other = tmp_path / "broken.onnx", tmp_path / "other.onnx"
    broken.write_bytes(b"no model")
    changed = small_model()
    changed.graph.initializer[0].raw_data = np.ones(216, np.float32).tobytes()
    onnx.save(changed, other)
    for path in (model, other, broken):
        shutil.copy(calib, tmp_path / f"{path.stem}.npz")
    return [model, broken, other]


def test_files_do_not_depend_on_jobs_and_one_failure_stops_nothing(
    run: Run, models: list[Path], tmp_path: Path
) -> None:
    options = ("--calib", tmp_path / "{stem}.npz", "--lambda", "0.1", "--effort", "fast", "--no-fold-bn")
    result = run("compress", *models, "--out-dir", tmp_path / "a", "-j", "1", *options)
    assert result.code == 3
    assert result.err.startswith(f"error: {models[1]}: not an ONNX model")
    assert result.err.count("\n") == 1
    rows = [line.split() for line in result.out.splitlines()]
    assert rows[0] == ["times", "bits/", "exit"]
    assert [row[-1] for row in rows if row and row[0].endswith(".onnx")] == ["0", "3", "0"]
    assert "1 model without a file" in result.out
    again = run("compress", *models, "--out-dir", tmp_path / "b", "-j", "2", *options, "--json")
    assert again.code == 3
    body = json.loads(again.out)
    assert [entry["exit_code"] for entry in body["models"]] == [0, 3, 0]
    assert body["models"][0]["report"]["lambda"] == 0.1
    assert body["models"][1]["report"] is None
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"model.cwb", "other.cwb"}
    for name in ("model.cwb", "other.cwb"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    alone = ("compress", models[0], tmp_path / "model.cwb", *map(str, options), "-q")
    assert run_process(*(str(word).replace("{stem}", "model") for word in alone), **one_thread).code == 0
    assert (tmp_path / "model.cwb").read_bytes() == (tmp_path / "a" / "model.cwb").read_bytes()


def test_what_makes_no_sense(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "sub").mkdir()
    for arguments, message in (
        ((model,), "1 path given, where two belong"),
        ((model, model, model), "3 paths given, where two belong"),
        ((model, "o.cwb", "-j", "0"), "jobs 0 is out of range"),
        ((model, "--out-dir", tmp_path / "d", "-j", "0"), "jobs 0 is out of range"),
        ((model, "--out-dir", tmp_path / "file"), f"folder {tmp_path / 'file'}: "),
        ((model, tmp_path / "sub" / "model.onnx", "--out-dir", tmp_path / "d"), "would both give"),
        ((model, "--out-dir", tmp_path / "d", "--report", "x.html"), "--report is for a single model"),
    ):
        result = run("compress", *arguments)
        assert (result.code, result.out) == (2, "")
        assert message in result.err
        assert result.err.count("\n") == 1


def test_a_dry_run_of_many_writes_nothing(run: Run, models: list[Path], tmp_path: Path) -> None:
    result = run("compress", models[0], models[2], "--out-dir", tmp_path / "d", "--dry-run")
    assert result.code == 0
    assert result.out.count("to quantise  ") >= 2
    plans = json.loads(run("compress", models[0], models[2], "--out-dir", tmp_path / "d", "--dry-run", "--json").out)
    assert [Path(plan["file"]).name for plan in plans] == ["model.onnx", "other.onnx"]
    assert not (tmp_path / "d").exists()


def test_a_folder_that_got_nothing_is_not_left(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    folder, words = tmp_path / "made", ("--out-dir", tmp_path / "made")
    for call in (
        ("compress", tmp_path / "none.onnx", *words),
        ("compress", model, *words, "--calib", tmp_path / "none.npz"),
        ("compress", model, *words, "--report", tmp_path / "r.md"),
        ("sweep", model, *words, "--lambda", "0.1", "--calib", tmp_path / "none.npz"),
        ("sweep", model, *words, "--lambda", "0.1", "--lambda", "0.1"),
    ):
        assert run(*call).code == 2
        assert not folder.exists(), call
    folder.mkdir()
    assert run("compress", tmp_path / "none.onnx", *words).code == 2
    assert folder.is_dir()  # it was there before
    assert run("sweep", model, *words, "--lambda", "0.1", "--calib", calib, "--method", "cerwu", "-q").code == 0
    assert [path.name for path in folder.iterdir()] == ["model-0.1.cwb"]
