"""action.yml and .pre-commit-hooks.yaml: they do what docs/ci.md says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from cerwu_onnx import Settings, compress, verify_files
from cerwu_onnx.container import reader
from cerwu_onnx.container.format import Kind

from ..cli.conftest import small_model
from .composite import ROOT, Job, Runner

GOLDEN = ROOT / "tests/golden"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash, which runs the steps of an action")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "work space"
    folder.mkdir()
    onnx.save(small_model(), folder / "m.onnx")
    np.savez(folder / "calib.npz", x=np.random.default_rng(3).normal(size=(40, 2, 8, 8)).astype(np.float32))
    return folder


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "runner's temp", tmp_path / "store", installed=Path(sys.prefix))


def run(runner: Runner, workspace: Path, options: str, **inputs: str) -> Job:
    given = {"model": "m.onnx", "output": "a b.cwb", "calib": "calib.npz", "options": options}
    return runner.run(workspace, **given | inputs)


def names(archive: Path) -> list[str]:
    return subprocess.run(["tar", "-tf", archive], capture_output=True, text=True, check=True).stdout.splitlines()


def annotations(job: Job) -> list[str]:
    return [line for line in job.log.splitlines() if line.startswith("::")]


def test_three_runs(runner: Runner, workspace: Path) -> None:
    """The second installs and measures nothing; the third fails, by another limit, and keeps what it measured."""
    first = run(runner, workspace, "--method cerwu --quiet", report="page.html")
    assert first.code == 0, first.log
    assert first.summary.startswith("## `a b.cwb`")
    assert (workspace / "page.html").exists()
    assert int(first.outputs["file-bytes"]) == (workspace / "a b.cwb").stat().st_size
    assert float(first.outputs["bits-per-weight"]) > 0
    assert annotations(first) == []
    kept = {path.name for path in runner.store.iterdir()}
    assert len(kept) == 2

    second = run(runner, workspace, "--method cerwu --quiet", report="page.html")
    assert second.outputs == first.outputs
    assert "Install cerwu-onnx" in first.seconds.keys() - second.seconds.keys()
    assert not any(name.startswith("Keep") for name in second.seconds)
    assert {path.name for path in runner.store.iterdir()} == kept

    third = run(runner, workspace, "--method cerwu --fail-above 100")
    assert third.code == 1
    why = "above the limit of 100; nothing was written"
    assert third.summary.startswith("```\nerror: ")
    assert why in third.summary
    (line,) = annotations(third)
    assert line.startswith("::error title=cerwu-onnx,file=m.onnx::the file would have ")
    assert why in line
    assert third.outputs == {"file-bytes": "", "bits-per-weight": ""}
    (new,) = {path.name for path in runner.store.iterdir()} - kept
    (old,) = (name for name in kept if name.count("-") == new.count("-"))
    entries, before = (set(names(runner.store / name)) for name in (new, old))
    assert before
    assert before <= entries


def test_names_are_data(runner: Runner, workspace: Path) -> None:
    job = run(runner, workspace, "--method rtn", model="m%0A::debug,a.onnx")
    assert job.code == 2
    (line,) = annotations(job)
    assert line.startswith("::error title=cerwu-onnx,file=m%250A%3A%3Adebug%2Ca.onnx::")
    assert "no such file" in line


def test_a_warning_annotates_and_nothing_is_kept_without_cache(runner: Runner, workspace: Path) -> None:
    job = run(runner, workspace, "--method rtn", calib="", cache="false")
    assert job.code == 0
    assert any(line.startswith("::warning title=cerwu-onnx,file=m.onnx::") for line in annotations(job))
    assert not runner.store.exists()
    assert not (runner.temp / "cerwu-onnx-cache").exists()


# The hook.


def test_the_hook_runs_a_command_that_is_installed() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\n{hook["entry"]} = "cerwu_onnx.verify_files:main"\n' in project
    assert hook["language"] == "python"
    no_dependencies, numpy = hook["additional_dependencies"]
    assert no_dependencies == "--no-deps"
    assert f'    "{numpy}",\n' in project


def test_every_damaged_file_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sound = GOLDEN / "v2/model.cwb"
    content = sound.read_bytes()
    short, flipped, empty = (tmp_path / name for name in ("short one.cwb", "flipped\n##[error].cwb", "empty.cwb"))
    short.write_bytes(content[:-1])
    flipped.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    empty.write_bytes(b"")
    paths = [short, sound, flipped, GOLDEN / "v1/kinds.cwb", empty]
    assert verify_files.main([str(path) for path in paths]) == 4
    captured = capfd.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert [line.split(": ")[0] for line in lines] == ["error"] * 3
    names = ("short one.cwb", "flipped\\u000a\\u0023\\u0023[error].cwb", "empty.cwb")
    for name, line in zip(names, lines, strict=True):
        assert name in line
    assert verify_files.main([str(sound)]) == 0
    assert verify_files.main([str(tmp_path / "none.cwb"), str(sound)]) == 2
    assert verify_files.main([]) == 2


def test_a_delta_is_checked_with_its_base(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("delta.cwb", "base.cwb", "model.cwb"):
        shutil.copy(GOLDEN / "v2" / name, tmp_path)
    delta = tmp_path / "delta.cwb"
    assert verify_files.main([str(delta)]) == 0  # the base lies beside it
    alone = tmp_path / "alone"
    alone.mkdir()
    delta = delta.rename(alone / "delta.cwb")
    assert capfd.readouterr().err == ""
    assert verify_files.main([str(delta)]) == 0
    assert capfd.readouterr().err.startswith("warning: ")
    base = tmp_path / "base.cwb"
    changed = next(record for record in reader.read(delta, base).tensors if record.kind is Kind.CHANGED)
    content = bytearray(delta.read_bytes())
    content[changed.offset] ^= 1
    delta.write_bytes(content)
    assert verify_files.main([str(delta), str(base)]) == 4


ALONE = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"onnx", "onnxruntime", "scipy", "typer", "rich", "joblib", "threadpoolctl"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from cerwu_onnx import verify_files
sys.exit(verify_files.main())
"""


def test_numpy_suffices(tmp_path: Path) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "m.cwb"
    onnx.save(small_model(), model)
    compress(model, out, settings=Settings(method="rtn", levels=16))
    files = [out, *sorted(GOLDEN.rglob("*.cwb"))]
    done = subprocess.run([sys.executable, "-c", ALONE, *map(str, files)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
