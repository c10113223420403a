"""Builds and runs campaign.c, in several processes, and sums up what happened."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
DECODER = HERE.parents[1] / "decoder_c"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
KINDS = ("damaged", "forged", "flip", "cut", "splice")
OUTCOMES = ("detected", "harmless", "silent", "hang")
ERRORS = {
    -int(code): name
    for name, code in re.findall(
        r"^    CWB_(?:ERR_)?(OK|(?<=ERR_)\w+) = (-?\d+)", (DECODER / "cwb.h").read_text(), re.MULTILINE
    )
}


class BuildError(Exception):
    """There is no compiler, or it lacks a sanitizer or the counting of blocks."""


def compiler() -> str:
    """The C compiler, from ``CC`` or the path."""
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        raise BuildError("no C compiler: install one (cc, gcc or clang) or set CC")
    return found


def compile_c(output: Path, *arguments: object) -> Path:
    """Compile with sanitizers.

    Raises:
        BuildError: it does not compile.
    """
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Werror"]
    command = [compiler(), *warnings, "-g", "-O1", *SANITIZE, f"-I{DECODER}", *map(str, arguments)]
    made = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True)
    if made.returncode != 0:
        raise BuildError(made.stderr)
    return output


def build(folder: Path, *flags: str) -> Path:
    """campaign.c with the decoder. ``flags`` are those of both.

    Raises:
        BuildError: it does not compile, or what it makes does not run.
    """
    program = build_driver(folder, "campaign.c", *flags)
    if subprocess.run([program], capture_output=True).returncode != 2:
        raise BuildError("programs made with sanitizers do not run here")
    return program


def build_driver(folder: Path, main: str, *flags: str) -> Path:
    """A driver, with the decoder's blocks counted.

    Raises:
        BuildError: it does not compile.
    """
    decoder = compile_c(folder / "cwb.o", "-fsanitize-coverage=trace-pc", *flags, "-c", DECODER / "cwb.c")
    sources = [HERE / name for name in (main, "exercise.c", "mutate.c")]
    return compile_c(folder / Path(main).stem, *flags, *sources, decoder)


@dataclass
class Result:
    """How many mutations ended how: keys are kind of damage, outcome and the first error."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    reports: list[str] = field(default_factory=list)

    def total(self, outcome: str, kind: str | None = None) -> int:
        """Mutations of that outcome."""
        return sum(n for (k, o, _), n in self.counts.items() if o == outcome and kind in (None, k))

    def add(self, printed: str) -> None:
        """Add what the program printed."""
        for line in printed.splitlines():
            kind, outcome, error, times = map(int, line.split())
            self.counts[KINDS[kind], OUTCOMES[outcome], ERRORS[error]] += times

    def failures(self) -> int:
        """How many ended as none must."""
        return sum(self.total(outcome) for outcome in ("silent", "hang", "crash"))

    def table(self) -> str:
        """Outcomes by kind of damage, and the errors below."""
        kinds = [kind for kind in KINDS if any(k == kind for k, _, _ in self.counts)]
        rows = [("outcome", *kinds)]
        for outcome in (*OUTCOMES, "crash"):
            rows.append((outcome, *(f"{self.total(outcome, kind):,}" for kind in kinds)))
        rows.append(("", *("" for _ in kinds)))
        for error in ERRORS.values():
            row = [self.counts[kind, "detected", error] for kind in kinds]
            if any(row):
                rows.append((f"  {error}", *(f"{n:,}" for n in row)))
        return "\n".join(f"{row[0]:16}" + "".join(f"{cell:>12}" for cell in row[1:]) for row in rows)


def run(program: Path, seeds: Sequence[Path], first: int, count: int, processes: int = 1) -> Result:
    """Mutations ``first`` to ``first + count - 1``; files that made trouble are left beside the program.

    A run that a crash ends goes on behind it.
    """
    result = Result()
    share = -(-count // processes)
    pending = [(start, min(share, first + count - start)) for start in range(first, first + count, share)]
    while pending:
        started = [(start, number, _start(program, start, number, seeds)) for start, number in pending]
        pending = []
        for start, number, process in started:
            out, err = process.communicate()
            if process.returncode == 0:
                result.add(out)
                continue
            stopped = re.search(r"mutation (\d+)", err)
            result.reports.append(err)
            if stopped is None:
                raise BuildError(f"{program} gave up: {err}")
            at = int(stopped.group(1))
            result.counts[KINDS[at % 2], "crash", ""] += 1
            pending += [(a, n) for a, n in ((start, at - start), (at + 1, start + number - at - 1)) if n > 0]
    return result


def stream(program: Path, seed: Path, cases: Iterable[tuple[str, bytes]], result: Result) -> None:
    """Try damaged copies of a file, each with its kind, and add what becomes of them. Behind a crash none is tried."""
    command = [str(program), "-", str(seed)]
    with tempfile.TemporaryFile() as sent:
        last = ""
        for kind, data in cases:
            sent.write(struct.pack("<BI", KINDS.index(kind), len(data)) + data)
            last = kind
        sent.seek(0)
        done = subprocess.run(command, stdin=sent, capture_output=True, text=True, errors="replace", cwd=program.parent)
    result.add(done.stdout)
    if done.returncode:
        result.reports.append(done.stderr)
        result.counts[last, "crash", ""] += 1


def _start(program: Path, first: int, count: int, seeds: Sequence[Path]) -> subprocess.Popen[str]:
    command = [str(program), str(first), str(count), *map(str, seeds)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", cwd=program.parent
    )
