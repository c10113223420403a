"""Runs the tests with the oldest packages that pyproject.toml allows: ``python -m tests.oldest [PYTEST ARGUMENTS]``.

A clone of the last commit goes into a temporary folder, with an environment of its own that pip fills. Python must be
one that those packages have wheels for: 3.10 or 3.11.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("pytest>=8", "hypothesis>=6.100", "pillow>=10", "pyyaml>=6", "ruff>=0.9")
"""What the tests themselves need; these may be new."""


def oldest(project: str) -> list[str]:
    """The run-time packages that a pyproject.toml lists, each at its lowest version."""
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    if listed is None:
        raise SystemExit("pyproject.toml lists no dependencies")
    return [f"{name}=={version}" for name, version in re.findall(r'"([\w-]+)>=([\d.]+)[^"]*"', listed[1])]


def main() -> int:
    """Install, say what, and test."""
    with tempfile.TemporaryDirectory() as folder:
        copy, environment = Path(folder) / "copy", Path(folder) / "environment"
        subprocess.run(["git", "clone", "-q", ROOT, copy], check=True)
        pins = oldest((copy / "pyproject.toml").read_text())
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        python = environment / "bin" / "python"
        pip = [python, "-m", "pip", "-qq", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, *pins, *TESTS, "-e", copy], check=True)
        print(*pins, flush=True)
        return subprocess.run([python, "-m", "pytest", *sys.argv[1:]], cwd=copy, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
