"""The workflows: what they may do, and that what they run exists. Only GitHub can run them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cerwu_onnx import __version__

from . import version
from .composite import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
EXAMPLES = sorted((ROOT / "docs/examples").rglob("workflows/*.yml"))


def read(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in read(path)["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("path", [*WORKFLOWS, *EXAMPLES], ids=lambda path: path.name)
def test_no_secret_and_few_rights(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "secrets." not in text
    assert read(path)["permissions"] == {"contents": "read"}
    for name, job in read(path)["jobs"].items():
        rights = job.get("permissions", {})
        assert rights in ({}, {"id-token": "write"}, {"contents": "write"}), name
        if rights.get("id-token"):
            assert job["environment"]["name"] in ("pypi", "npm")
            assert job["if"] == "${{ github.ref_type == 'tag' }}"
            assert "try" in job["needs"]  # nothing is published that was not used before


@pytest.mark.parametrize("path", [*WORKFLOWS, *EXAMPLES], ids=lambda path: path.name)
def test_actions_are_pinned(path: Path) -> None:
    for step in steps(path):
        used = step.get("uses", "./")
        assert used == "./" or re.search(r"@[0-9a-f]{40}$|/cerwu-onnx@v[\d.]+$", used), used
        assert "${{" not in step.get("run", "")  # what others choose comes by the environment
        if used.startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_what_they_run_exists() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    for module in set(re.findall(r"python3? -m (tests\.[\w.]+)", text)):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    for script in set(re.findall(r"python3? ((?!js/)[\w/]+\.py)", text + (ROOT / "pyproject.toml").read_text("utf-8"))):
        assert (ROOT / script).is_file(), script
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"run: make ([\w-]+)", text):
        assert f"\n{target}:" in makefile


def test_wheels_are_tested_by_what_is_there() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    command = re.search(r'^test-command = "(.+)"$', project, re.MULTILINE)
    assert command is not None
    paths = re.findall(r"\{project\}/(\S+)", command[1])
    assert len(paths) == 2
    assert all((ROOT / path).is_file() for path in paths)


@pytest.mark.parametrize(("tag", "code"), [("", 0), (f"v{__version__}", 0), (__version__, 1), ("v99.0.0", 1)])
def test_the_tag_is_the_version(tag: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAG", tag)
    monkeypatch.setattr(sys, "argv", ["version"])
    if code:
        with pytest.raises(SystemExit, match="has to say the same"):
            version.main()
    else:
        version.main()


def test_notes_are_one_section() -> None:
    changelog = "# Changelog\n\n## 0.3.0\n\n- new\n\n### Files\n\n- more\n\n## 0.2.0\n\n- old\n"
    assert version.notes(changelog, "0.3.0") == "- new\n\n### Files\n\n- more\n"
    assert version.notes(changelog, "0.2.0") == "- old\n"
    with pytest.raises(SystemExit, match=r"no section 0\.2"):
        version.notes(changelog, "0.2")


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("github-workflows", [*WORKFLOWS, *EXAMPLES]),
        ("github-actions", [ROOT / "action.yml"]),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
        ("dependabot", [ROOT / ".github/dependabot.yml"]),
        ("github-issue-config", [ROOT / ".github/ISSUE_TEMPLATE/config.yml"]),
        ("github-issue-forms", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))),
    ],
)
def test_schemas(schema: str, paths: list[Path]) -> None:
    program = shutil.which("check-jsonschema")
    if program is None:
        pytest.skip("no check-jsonschema: pip install 'check-jsonschema>=0.39' to check files that GitHub reads")
    done = subprocess.run([program, "--builtin-schema", f"vendor.{schema}", *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
