"""The tutorials as programs: their commands are run, and what they print is written down.

    python -m tests.tutorials [NAME ...]

In ``docs/tutorials/NAME.md``, ``README.md`` and some pages of ``docs``, lines of ``console`` blocks that begin with
``$`` are run by bash, in the page's order, in a folder that holds a copy of a sample model; whatever follows such a
line is replaced by its output. A block whose info string names a file besides a language (``c main.c``) becomes that
file. Other blocks are for the reader. The line with the seconds, lines of progress, and the folder's name are left out:
they belong to the machine. Python blocks are put into ruff's form.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALONE = ("arrays", "stock_onnx")
"""Pages that are no tutorials, but have commands like them."""

PAGES = {path.stem: path for path in sorted((ROOT / "docs/tutorials").glob("*.md"))}
PAGES |= {name: ROOT / f"docs/{name}.md" for name in ALONE} | {"README": ROOT / "README.md"}
"""The pages whose commands are run, by name."""
SAMPLES = dict.fromkeys(("stock_onnx", "README"), ROOT / "sample_models/fashion_cnn")
"""The sample model of a page, where it is not the usual one."""

SAMPLE = ROOT / "sample_models/fashion_dscnn"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Shell = Callable[[str, Path], str]


def run(page: str, folder: Path, shell: Shell) -> str:
    """The page with the outputs of its commands, run one after the other in ``folder``."""

    def block(match: re.Match[str]) -> str:
        language, name, content = match.groups()
        if name:
            (folder / name).write_text(content, encoding="utf-8")
        if language != "console":
            return match[0]
        commands = [line for line in content.splitlines() if line.startswith("$ ")]
        return "```console\n" + "".join(f"{line}\n{shell(line[2:], folder)}" for line in commands) + "```"

    return BLOCK.sub(block, page)


def environment() -> dict[str, str]:
    """Of the commands: this environment's programs and these tests, 96 columns, one thread."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "96",
        "OPENBLAS_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }


def bash(command: str, folder: Path) -> str:
    """What a command prints.

    Raises:
        SystemExit: it fails, and the page does not expect it to.
    """
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"$ {command}\n{done.stdout}exit code {done.returncode}")
    lines = done.stdout.replace(f"{folder}/", "").splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines if not re.match(r"time +[\d.]+ s|progress: ", line))


def main() -> None:
    """Rewrite the pages named, or all."""
    for name in sys.argv[1:] or PAGES:
        path = PAGES[name]
        page = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(SAMPLES.get(name, SAMPLE), folder, dirs_exist_ok=True)
            rerun = run(page, Path(folder).resolve(), bash)
        if path.read_text(encoding="utf-8") != page:  # minutes have passed
            raise SystemExit(f"{path} was edited while its commands ran: run them again")
        path.write_text(rerun, encoding="utf-8")
        subprocess.run([sys.executable, "-m", "ruff", "format", "-q", path], check=True)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
