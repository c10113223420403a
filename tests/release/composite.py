"""Runs this repository's GitHub action as a runner would: its steps, their conditions, actions/cache.

``python -m tests.release.composite`` installs and compresses a sample model by it twice, and prints the seconds of each
step, by the clock and of the processor: the second run finds what the first one kept.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
EXPRESSION = re.compile(r"\$\{\{ *(.+?) *\}\}")
LOOKUP = re.compile(r"\b(?:inputs|steps|runner)(?:\.[\w-]+)+")


@dataclass
class Job:
    """What one run of the action left behind.

    Attributes:
        code: 0 if all steps succeeded.
        log: everything printed.
        summary: the summary page.
        outputs: of the action.
        seconds: of each step that ran, by its name: by the clock, and of the processor.
    """

    code: int = 0
    log: str = ""
    summary: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass
class Runner:
    """A machine whose jobs begin with an empty temporary folder.

    Attributes:
        temp: that folder.
        store: what actions/cache keeps, an archive for each key.
        action: folder of the action.
        installed: an environment that has the package, which stands in for the step that installs one.
    """

    temp: Path
    store: Path
    action: Path = ROOT
    installed: Path | None = None

    def run(self, workspace: Path, **inputs: str) -> Job:
        """Run the action in the folder of a job; inputs have ``_`` for ``-``."""
        shutil.rmtree(self.temp, ignore_errors=True)
        self.temp.mkdir(parents=True)
        about = yaml.safe_load((self.action / "action.yml").read_text(encoding="utf-8"))
        given = {name: entry.get("default", "") for name, entry in about["inputs"].items()} | inputs
        assert given.keys() == about["inputs"].keys()
        known = {"inputs": given, "steps": {}, "runner": {"temp": str(self.temp)}}
        job = Job()
        for step in about["runs"]["steps"]:
            condition = str(step.get("if", "true"))
            wanted = self._filled("${{ " + EXPRESSION.sub(r"\1", condition) + " }}", known) in ("True", "true")
            if not wanted or (job.code and "always()" not in condition):
                continue
            began, busy = time.monotonic(), _processor()
            outputs = self._step(step, workspace, known, job)
            job.seconds[step["name"]] = time.monotonic() - began, _processor() - busy
            known["steps"][step.get("id", step["name"])] = {"outputs": outputs}
        job.outputs = {name: self._filled(entry["value"], known) for name, entry in about["outputs"].items()}
        return job

    def _step(self, step: dict[str, Any], workspace: Path, known: dict[str, Any], job: Job) -> dict[str, str]:
        """Run one step; its outputs."""
        if "uses" in step:
            given = {name: self._filled(str(text), known) for name, text in step["with"].items()}
            action = step["uses"].partition("@")[0]
            return {"actions/cache/restore": self._restore, "actions/cache/save": self._save}[action](**given)
        if self.installed is not None and step["name"].startswith("Install"):
            (self.temp / "cerwu-onnx").symlink_to(self.installed)
            return {}
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]  # inputs come by the environment: nobody can inject commands
        files = {name: self.temp / f"_{name.lower()}" for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for path in files.values():
            path.write_text("")
        environment = {name: self._filled(text, known) for name, text in step.get("env", {}).items()}
        environment |= {name: str(path) for name, path in files.items()}
        environment |= {"GITHUB_ACTION_PATH": str(self.action), "RUNNER_TEMP": str(self.temp)}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            **{"cwd": workspace, "env": os.environ | environment, "check": False, "text": True},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        job.code = job.code or done.returncode
        job.log += done.stdout
        job.summary += files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
        return dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text(encoding="utf-8").splitlines())

    def _restore(self, path: str, key: str, **more: str) -> dict[str, str]:
        """actions/cache/restore: the entry of this key, or the newest whose key begins so."""
        prefix = more.get("restore-keys")
        older = sorted(self.store.glob(f"{prefix}*"), key=lambda entry: entry.stat().st_mtime) if prefix else []
        found = self.store / key if (self.store / key).exists() else next(reversed(older), None)
        if found is not None:
            subprocess.run(["tar", "-xf", found], cwd=Path(path).parent, check=True)
        return {"cache-hit": "" if found is None else str(found.name == key).lower()}

    def _save(self, path: str, key: str) -> dict[str, str]:
        """actions/cache/save: an entry is never written again, and what does not exist is not kept."""
        if os.path.lexists(path) and not (self.store / key).exists():
            self.store.mkdir(exist_ok=True)
            subprocess.run(["tar", "-cf", self.store / key, Path(path).name], cwd=Path(path).parent, check=True)
        return {}

    @staticmethod
    def _filled(text: str, known: dict[str, Any]) -> str:
        """A text with the values of its expressions."""

        def look_up(match: re.Match[str]) -> str:
            value: Any = known
            for name in match[0].split("."):
                value = value.get(name, {})
            return repr(value if isinstance(value, str) else "")

        def evaluate(match: re.Match[str]) -> str:
            python = LOOKUP.sub(look_up, match[1]).replace("&&", " and ").replace("always()", "True")
            return str(eval(python, {"true": "true"}))

        return EXPRESSION.sub(evaluate, text)


def _processor() -> float:
    """Seconds of processor time that programs begun here have taken."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> int:
    """Install and compress twice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["git", "clone", "-q", ROOT, folder / "action"], check=True)
        runner = Runner(folder / "temp", folder / "store", folder / "action")
        sample = runner.action / "sample_models/fashion_dscnn"
        for turn in ("first", "second"):
            job = runner.run(
                folder, model=str(sample / "model.onnx"), calib=str(sample / "calib.npz"), output="out.cwb"
            )
            if job.code:
                print(job.log, file=sys.stderr)
                return job.code
            clock, processor = (sum(times) for times in zip(*job.seconds.values(), strict=True))
            print(f"{turn} run: {clock:.0f} s, {processor:.0f} s of the processor; {job.outputs['file-bytes']} bytes")
            for step, times in job.seconds.items():
                print("  {:6.1f} s {:6.1f} s".format(*times), step)
    return 0


if __name__ == "__main__":
    sys.exit(main())
