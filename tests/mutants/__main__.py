"""Plant each mutant, run its tests, and tell which survived. See the package's docstring."""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from .mutant import ROOT, Mutant
from .table import MUTANTS

LEAST = 0.9
"""Share of the mutants that must be killed."""

PATIENCE = 600
"""Seconds after which tests that go on for ever count as failed."""

FAILED, BROKEN = 1, 2
"""Exit codes of pytest: a test failed; a module of tests could not even be imported."""

_FINDER = '''"""Imports come from this copy, not from where the editable install points."""
import sys

sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "ScikitBuildRedirectingFinder"]
'''


class RunError(Exception):
    """The run itself failed: nothing can be said about mutants."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        mutant: the mutant.
        by: the first test that failed; empty if it survived.
        seconds: that it took.
        idle: whether that test fails without any mutant, too: then nothing was killed.
    """

    mutant: Mutant
    by: str
    seconds: float
    idle: bool = False

    @property
    def killed(self) -> bool:
        """Whether a test fails because of the mutant."""
        return bool(self.by) and not self.idle


class Copy:
    """A copy of the repository's files in which tests run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, capture_output=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        for part in ("cli", "decoder_c"):  # where the wheel has them
            (root / "cerwu_onnx" / part).symlink_to(root / part)
        (root / "imports").mkdir()
        (root / "imports/sitecustomize.py").write_text(_FINDER, encoding="utf-8")
        self.build()

    def build(self) -> None:
        """Make the native library, of all C files that there are."""
        folder = self.root / "decoder_c"
        kernels = folder / "src/cwb.c"
        if (folder / "amalgamate.py").exists():  # then tests compile the one file that it makes of the kernels
            subprocess.run([sys.executable, str(folder / "amalgamate.py")], check=True, capture_output=True)
            kernels = folder / "cwb.c"
        sources = [kernels, *sorted((folder / "host").glob("*.c"))]
        flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-DCWB_CRC32=cwb_host_crc32"]
        library = self.root / "cerwu_onnx/libcwb.so"
        command = [
            os.environ.get("CC", "cc"),
            *flags,
            f"-I{folder}",
            f"-I{folder / 'include'}",
            *map(str, sources),
            "-lm",
        ]
        made = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True)
        if made.returncode:
            raise RunError(f"the native library cannot be built:\n{made.stderr}")

    def failed(self, tests: Iterable[str], most: int = 1) -> list[str]:
        """Run tests until so many fail (0: all of them); the names of those that failed."""
        options = ["-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", f"--maxfail={most}"]
        command = [sys.executable, "-m", "pytest", *options, *tests]
        paths = os.pathsep.join([str(self.root / "imports"), str(self.root)])
        environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            return [f"no end after {PATIENCE} s"]
        if done.returncode not in (0, FAILED, BROKEN):
            raise RunError(f"pytest {' '.join(tests)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        lines = (line.partition(" ") for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR ")))
        return [name.partition(" - ")[0] for _, _, name in lines] or ["an error"] * (done.returncode != 0)

    def outcome(self, mutant: Mutant) -> Outcome:
        """Plant a mutant, run its tests, and take it out again."""
        start = time.monotonic()
        path, before = mutant.plant(self.root)
        try:
            if mutant.is_c:
                self.build()
            by = "".join(self.failed(mutant.tests)[:1])
        finally:
            path.write_text(before, encoding="utf-8")
        if mutant.is_c:
            self.build()
        return Outcome(mutant, by, time.monotonic() - start)


def run(mutants: Sequence[Mutant], jobs: int) -> list[Outcome]:
    """All outcomes, each printed as it is known; so many mutants at a time."""
    copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    outcomes: list[Outcome] = []

    def one(mutant: Mutant) -> Outcome:
        copy = copies.get()
        try:
            return copy.outcome(mutant)
        finally:
            copies.put(copy)

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        for number in range(jobs):
            root = Path(folder, str(number))
            root.mkdir()
            copies.put(Copy(root))
        try:
            for outcome in pool.map(one, mutants):
                outcomes.append(outcome)
                word = f"killed by {outcome.by}" if outcome.by else "SURVIVED"
                print(f"{_shown(outcome.mutant)}\n    {word} ({outcome.seconds:.0f} s)", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        killers = dict.fromkeys(outcome.by.partition("[")[0] for outcome in outcomes if "::" in outcome.by)
        failing = copies.get().failed(killers, 0) if killers else []
    return [replace(outcome, idle=outcome.by in failing) for outcome in outcomes]


def closing(outcomes: Sequence[Outcome]) -> tuple[str, bool]:
    """The table at the end, and whether all is well."""
    rooms: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        rooms[outcome.mutant.room].append(outcome)
    lines = [f"\n{'room':24}{'planted':>9}{'killed':>9}{'survived':>9}{'unknown':>9}"]
    for room, found in [*rooms.items(), ("all", list(outcomes))]:
        killed, idle = sum(outcome.killed for outcome in found), sum(outcome.idle for outcome in found)
        lines.append(f"{room:24}{len(found):9}{killed:9}{len(found) - killed - idle:9}{idle:9}")
    well = sum(outcome.killed for outcome in outcomes) >= LEAST * len(outcomes)
    for outcome in outcomes:
        reason = outcome.mutant.reason
        if outcome.idle:
            lines.append(f"nothing is known: {_shown(outcome.mutant)}\n    {outcome.by} fails without any mutant")
        elif not outcome.by:
            lines.append(f"survivor: {_shown(outcome.mutant)}\n    {reason or 'NO REASON: write a test that kills it'}")
        elif reason:
            lines.append(f"killed, although it has a reason: {_shown(outcome.mutant)}\n    {reason}")
        well = well and outcome.killed != bool(reason)
    return "\n".join(lines), well


def _shown(mutant: Mutant) -> str:
    return f"{mutant.where}: {mutant.text.strip()!r} -> {mutant.change.strip()!r}"


def main() -> int:
    """Run the table, or the mutants that have one of some words."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="of the path or the text of mutants; all without")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: 2)")
    options = parser.parse_args()
    words = options.words or [""]
    mutants = [m for m in MUTANTS if any(word in m.where or word in m.text for word in words)]
    try:
        for mutant in mutants:
            mutant.place()
        outcomes = run(mutants, options.jobs)
    except (RunError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    text, well = closing(outcomes)
    print(text)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
