"""docs/examples/ci: the repository of a reader of docs/ci.md, its workflow run step by step."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cerwu_onnx import __version__

from .composite import ROOT, Runner

EXAMPLE = ROOT / "docs/examples/ci"
PAGES = ("docs/ci.md", "docs/examples/ci/.github/workflows/model.yml", "docs/examples/ci/.pre-commit-config.yaml")


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLE / name).read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash, which runs the steps of an action")
def test_the_workflow(tmp_path: Path) -> None:
    workspace = tmp_path / "repository"
    shutil.copytree(EXAMPLE, workspace)
    runner = Runner(tmp_path / "temp", tmp_path / "store", installed=Path(sys.prefix))
    train, compress = (
        step
        for step in read(".github/workflows/model.yml")["jobs"]["compress"]["steps"]
        if "with" not in step or "id" in step
    )
    *install, line = train["run"].splitlines()
    assert install == ["python3 -m pip install --quiet numpy onnx"]
    assert line == "python3 train.py"
    subprocess.run([sys.executable, "train.py"], cwd=workspace, check=True)

    assert re.fullmatch(r"[\w.-]+/[\w.-]+@v" + re.escape(__version__), compress["uses"])
    inputs = compress["with"]
    job = runner.run(workspace, **inputs)
    assert job.code == 0, job.log
    assert int(job.outputs["file-bytes"]) == (workspace / inputs["output"]).stat().st_size <= 1024
    assert (workspace / inputs["report"]).is_file()
    assert "expected score" in job.summary
    assert "::error" not in job.log
    assert 'effort = "fast"' in (workspace / "cerwu.toml").read_text()

    (workspace / "cerwu.toml").write_text('effort = "nonsense"\n')  # it is read
    assert runner.run(workspace, **inputs).code == 2


def test_the_hook_exists() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for hook in repository["hooks"]] == [hook["id"] for hook in hooks]


@pytest.mark.parametrize("page", PAGES)
def test_pages_pin_this_version(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    pins = re.findall(r"(?:uses: [\w.-]+/cerwu-onnx@|rev: |cerwu-onnx\.git@)(\S+)", text)
    assert pins
    assert set(pins) == {f"v{__version__}"}
