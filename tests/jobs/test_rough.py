"""Runs on rough machines: killed at any moment, on a clock that goes back, in folders of somebody else."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

import cerwu_onnx
from cerwu_onnx.cli.batch import ONE_THREAD
from cerwu_onnx.config import Settings

from ..cli.conftest import Run, _calib, _cwb, calib, command, cwb, model, run

__all__ = ["_calib", "_cwb", "calib", "cwb", "model", "run"]

NOBODY = 65534


def killed(words: list[str], spool: Path, after: float) -> int:
    """The exit code of a process that is killed so many seconds after it has begun to work, children and all."""
    environment = os.environ | ONE_THREAD | {"TMPDIR": str(spool)}
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment, start_new_session=True)
    while process.poll() is None and b"/_" not in Path(f"/proc/{process.pid}/maps").read_bytes():
        time.sleep(0.02)  # until it has loaded something
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, to see how far a process is")
def test_two_at_a_time_killed_at_random_moments(model: Path, calib: Path, tmp_path: Path) -> None:
    """Whatever stands there is whole, and the next run makes what the first would have made."""
    spool, out = tmp_path / "spool", tmp_path / "out"
    models = [model, *(model.with_name(f"{name}.onnx") for name in "abc")]
    for copy in models[1:]:
        shutil.copy(model, copy)
    spool.mkdir()
    words = command("compress", "-q", "-f", *models, "--out-dir", out, "-j", "2", "--calib", calib, "--method", "cerwu")
    wait = random.Random(3)
    codes = []
    for _ in range(4):
        codes.append(killed(words, spool, wait.uniform(0, 4)))
        for path in out.iterdir() if out.exists() else ():
            assert path.suffix == ".cwb" or (path.name.startswith(".") and path.suffix == ".tmp")
            if path.suffix == ".cwb":
                cerwu_onnx.open(path).verify()
    assert -signal.SIGKILL in codes
    done = subprocess.run(words, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    contents = {path.read_bytes() for path in out.iterdir() if path.suffix == ".cwb"}
    assert len([path for path in out.iterdir() if path.suffix == ".cwb"]) == 4
    assert len(contents) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, to see how far a process is")
def test_layers_at_a_time_killed_and_resumed(model: Path, calib: Path, tmp_path: Path) -> None:
    spool, out = tmp_path / "spool", tmp_path / "out"
    spool.mkdir()
    out.mkdir()
    options = ("--calib", calib, "-j", "2", "--method", "optq-rd")
    words = command("compress", "-q", model, out / "a.cwb", "--resume", *options)
    wait = random.Random(4)
    for _ in range(3):
        if killed(words, spool, wait.uniform(0, 1.5)) == 0:
            (out / "a.cwb").unlink()
        assert {path.name for path in out.iterdir()} <= {"a.cwb.resume"}
    for line in (words, command("compress", "-q", model, out / "b.cwb", *options)):
        subprocess.run(line, env=os.environ | ONE_THREAD, check=True)
    assert (out / "a.cwb").read_bytes() == (out / "b.cwb").read_bytes()
    assert {path.name for path in out.iterdir()} == {"a.cwb", "b.cwb"}


def test_a_clock_that_goes_back(model: Path, calib: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing depends on it: not what is written, nor what a cache finds, nor the times that are reported."""
    options = {"calib": calib, "settings": Settings(method="cerwu"), "cache": tmp_path / "cache"}
    cerwu_onnx.compress(model, tmp_path / "a.cwb", **options)  # type: ignore[arg-type]
    year = 365 * 24 * 3600
    for path in (model, calib, *(tmp_path / "cache").iterdir()):
        os.utime(path, (time.time() + year, time.time() + year))
    ticks = count()
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3600 * next(ticks))
    for name in "bc":
        report = cerwu_onnx.compress(model, tmp_path / f"{name}.cwb", **options)  # type: ignore[arg-type]
        assert (tmp_path / f"{name}.cwb").read_bytes() == (tmp_path / "a.cwb").read_bytes()
        assert min(report.seconds.values()) >= 0
        shutil.rmtree(tmp_path / "cache")


@pytest.fixture
def shelf(model: Path, calib: Path, cwb: Path) -> Iterator[Path]:
    """A folder that may be read, not written; the process is another user than root, who may write anywhere."""
    folder = Path(tempfile.mkdtemp())  # tmp_path is closed to others
    for path in (model, calib, cwb):
        shutil.copy(path, folder)
        (folder / path.name).chmod(0o444)
    (folder / "kept").mkdir()
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.chown(folder / "kept", NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
@pytest.mark.parametrize(
    "call",
    [
        ("compress", "model.onnx", "new.cwb"),
        ("compress", "model.onnx", "model.cwb", "-f"),
        ("compress", "model.onnx", "--out-dir", "many"),
        ("compress", "model.onnx", "OUT", "--cache", "cache"),
        ("compress", "model.onnx", "OUT", "--report", "report.md"),
        ("compress", "model.onnx", "new.cwb", "--resume"),
        ("sweep", "model.onnx", "--out-dir", "swept", "--lambda", "1"),
        ("decompress", "model.cwb", "new.onnx"),
        ("decompress", "model.cwb", "model.onnx", "-f"),
        ("report", "model.cwb", "report.html"),
        ("export-c", "model.cwb", "firmware"),
    ],
    ids=" ".join,
)
def test_a_folder_that_may_only_be_read(
    call: tuple[str, ...], shelf: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    before = sorted(shelf.rglob("*"))
    with tempfile.TemporaryDirectory() as own:
        words = [own + "/o.cwb" if word == "OUT" else word for word in call]
        fast = ("--method", "cerwu", "--calib", "calib.npz") if call[0] in ("compress", "sweep") else ()
        result = run(*words, *fast)
        assert not os.listdir(own)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert "writ" in result.err or "Permission denied" in result.err
    assert sorted(shelf.rglob("*")) == before


@pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
def test_what_may_only_be_read_can_be_read(shelf: Path, run: Run) -> None:
    with tempfile.TemporaryDirectory() as own:
        options = ("--calib", shelf / "calib.npz", "--method", "cerwu", "--cache", shelf / "kept")
        assert run("compress", shelf / "model.onnx", f"{own}/o.cwb", *options).code == 0
        assert list((shelf / "kept").iterdir())  # which is this user's
        assert run("verify", f"{own}/o.cwb", "--against", shelf / "model.onnx").code == 0
        assert run("inspect", shelf / "model.cwb").code == 0
