"""Files that are replaced or written while a run reads them: it notices, and writes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx.calibration import sums
from cerwu_onnx.compression import trials
from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.compression.sweep import sweep
from cerwu_onnx.config import Settings, Target
from cerwu_onnx.errors import InputChangedError
from cerwu_onnx.evaluate import culprits
from cerwu_onnx.jobs.inputs import own_files, reading, unchanged_inputs

from ..cli.conftest import Run, run, small_model
from ..models import normal

__all__ = ["run"]

SHAPE = (24, 2, 8, 8)
FAST = Settings(method="cerwu")
Change = Callable[[Path], None]


def replaced(path: Path) -> None:
    """By another file of the same size and time, as ``cp -p`` and ``mv`` do."""
    times = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


def written(path: Path) -> None:
    """In place, by as many bytes; and the time is put back."""
    times = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def on_a_clock_that_goes_back(path: Path) -> None:
    """A year before the file was opened."""
    times = path.stat()
    path.write_bytes(path.read_bytes())
    year = 365 * 24 * 3600 * 10**9
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns - year))


def longer(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"?")


def removed(path: Path) -> None:
    path.unlink()


CHANGES: list[Change] = [replaced, written, on_a_clock_that_goes_back, longer, removed]


def named(change: Change) -> str:
    return change.__name__


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with external data, and data of all kinds."""
    monkeypatch.chdir(tmp_path)
    onnx.save(
        small_model(),
        "model.onnx",
        save_as_external_data=True,
        location="weights",
        size_threshold=0,
        convert_attribute=True,
    )
    np.savez("calib.npz", x=normal(*SHAPE, seed=6))
    np.savez("test.npz", x=normal(*SHAPE, seed=7))
    for folder in ("npz", "npy"):
        Path(folder).mkdir()
    np.savez("npz/a.npz", x=normal(*SHAPE, seed=8))
    np.save("npy/a.npy", normal(*SHAPE, seed=8))
    return tmp_path


@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_every_change_is_noticed(change: Change, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with unchanged_inputs() as check:
        reading(path)
        check()
        change(path)
        with pytest.raises(
            InputChangedError, match="file: changed while it was in use; nothing was written, run again"
        ):
            check()
        if path.exists():
            reading(path)  # the first time counts
            with pytest.raises(InputChangedError):
                check()


def used(path: Path, change: Change | None) -> None:
    """A run that fails after a change, or without one."""
    with unchanged_inputs():
        reading(path)
        if change is not None:
            change(path)
        raise ZeroDivisionError


def test_it_is_the_reason_for_whatever_goes_wrong_then(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with pytest.raises(ZeroDivisionError):
        used(path, None)
    with pytest.raises(InputChangedError) as caught:
        used(path, longer)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_files_of_the_run_itself_may_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with unchanged_inputs() as check:
        with own_files():
            reading(path)
        path.unlink()
        check()


@pytest.mark.parametrize(
    ("changed", "calib", "target"),
    [
        ("model.onnx", "calib.npz", None),
        ("weights", "calib.npz", None),
        ("weights", None, None),
        ("calib.npz", "calib.npz", None),
        ("npz/a.npz", "npz", None),
        ("npy/a.npy", "npy", None),
        ("npy/a.npy", "npy/a.npy", None),
        ("test.npz", "calib.npz", Target(metric="error", metric_data="test.npz", max_drop=0.5)),
        ("npz/a.npz", "calib.npz", Target(metric="error", metric_data="npz", fail_drop=0.9)),
    ],
)
def test_compress_writes_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, changed: str, calib: str | None, target: Target | None
) -> None:
    encode = trials.encode

    def later(*arguments: object) -> object:
        replaced(Path(changed))
        return encode(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trials, "encode", later)
    before = sorted(place.rglob("*"))
    with pytest.raises(InputChangedError, match=f"{changed}: changed while it was in use"):
        compress("model.onnx", "m.cwb", calib=calib, settings=FAST, target=target)
    assert sorted(place.rglob("*")) == before


def test_images_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    from cerwu_onnx.calibration import open_source
    from cerwu_onnx.model.tensors import InputInfo

    image.new("L", (5, 5)).save(tmp_path / "a.png")
    with unchanged_inputs() as check:
        open_source(tmp_path, [InputInfo("x", np.dtype("f4"), (None, 1, 5, 5))])
        check()
        written(tmp_path / "a.png")
        with pytest.raises(InputChangedError, match=r"a\.png"):
            check()


def test_data_that_changes_between_two_passes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is seen half old and half new has no name but this one: the second half is another error by itself."""
    add = sums.Sums.add

    def later(self: sums.Sums, *arguments: object) -> None:
        Path("npz/b.npz").write_bytes(b"no archive")
        add(self, *arguments)  # type: ignore[arg-type]

    np.savez("npz/b.npz", x=normal(*SHAPE, seed=9))
    monkeypatch.setattr(sums.Sums, "add", later)
    with pytest.raises(InputChangedError, match=r"b\.npz: changed"):
        compress("model.onnx", "m.cwb", calib="npz", settings=Settings(method="cerwu", batch_size=4))
    assert not Path("m.cwb").exists()


def test_a_sweep_writes_no_more_files(place: Path) -> None:
    def progress(stage: str, done: int, total: int | None, item: str) -> None:
        if stage == "sweep" and done == 1:
            replaced(Path("calib.npz"))

    with pytest.raises(InputChangedError, match=r"calib\.npz: changed"):
        sweep("model.onnx", "swept", [1, 2, 4], calib="calib.npz", settings=FAST, jobs=1, progress=progress)
    assert len(list(Path("swept").iterdir())) == 1


def test_comparisons_show_nothing(place: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    compress("model.onnx", "m.cwb", calib="calib.npz", settings=FAST)
    compared = cerwu_onnx.runtime._compared

    def later(*arguments: object) -> object:
        found = compared(*arguments)  # type: ignore[arg-type]
        replaced(Path("m.cwb"))
        return found

    monkeypatch.setattr(cerwu_onnx.runtime, "_compared", later)
    for command in (
        ("compare", "model.onnx", "m.cwb", "--data", "test.npz"),
        ("verify", "m.cwb", "--against", "model.onnx", "--data", "test.npz"),
    ):
        result = run(*command)
        assert (result.code, result.out) == (6, "")
        assert result.err.endswith("m.cwb: changed while it was in use; nothing was written, run again\n")
    monkeypatch.setattr(cerwu_onnx.runtime, "_compared", compared)
    measure = culprits._errors
    monkeypatch.setattr(culprits, "_errors", lambda *a: (written(Path("weights")), measure(*a))[1])
    assert run("compare", "model.onnx", "m.cwb", "--data", "test.npz").code == 6


@pytest.mark.parametrize("command", [("inspect", "model.onnx"), ("compress", "model.onnx", "--dry-run")])
def test_a_plan_of_two_models_is_none(
    place: Path, monkeypatch: pytest.MonkeyPatch, run: Run, command: list[str]
) -> None:
    from cerwu_onnx.model import loading

    flattened = loading.flattened

    def later(model: onnx.ModelProto) -> onnx.ModelProto:
        Path("model.onnx").write_bytes(b"no model")
        return flattened(model)

    monkeypatch.setattr(loading, "flattened", later)
    result = run(*command)
    assert (result.code, result.out) == (6, "")
    assert result.err.endswith("model.onnx: changed while it was in use; nothing was written, run again\n")


@pytest.mark.parametrize("field", ["st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"])
def test_each_part_of_the_state_counts_alone(field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file system, another file, or a clock that stood still: one number that differs is enough."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    state = {name: getattr(path.stat(), name) for name in names}
    with unchanged_inputs() as check:
        reading(path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", lambda _: SimpleNamespace(**state))
            check()
            state[field] += 1
            with pytest.raises(InputChangedError):
                check()
