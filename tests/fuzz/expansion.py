"""What a small file can make of a program at worst: bytes written, memory and work for each byte that is read.

Each entry point runs as a process of its own on files that go to the limits of docs/format.md (:mod:`.bombs`). Work is
processor time in the table; tests count the lines of the package that are executed, which no machine changes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any

from ..c.onnx_library import DECODER, LIBRARY
from ..hostile import make
from ..js import site
from . import bombs

SCALE = 500
"""Bytes of the padded files, more or less. Limits have constant parts: what a byte can do in larger ones is less."""

ENTRIES: dict[str, list[str]] = {
    "inspect": ["inspect", "FILE"],
    "inspect --json": ["inspect", "FILE", "--json"],
    "verify": ["verify", "FILE"],
    "decompress": ["decompress", "FILE", "OUT/model.onnx"],
    "report (HTML)": ["report", "FILE", "OUT/report.html"],
    "report (Markdown)": ["report", "FILE", "OUT/report.md"],
    "report (JSON)": ["report", "FILE", "OUT/report.json"],
    "export-c": ["export-c", "FILE", "OUT/c", "--without-decoder"],
    "load_session": ["load_session", "FILE"],
}
"""Arguments of the command line, or the function of this name."""

C, JAVASCRIPT = "C (cwb_onnx.h)", "JavaScript (Node)"
SCRIPT = """
import { readFile, writeFile } from 'node:fs/promises';
import { unpackCwb } from 'cerwu-onnx';
const { model } = await unpackCwb(await readFile(process.argv[1]), { workers: 0 });
await writeFile(process.argv[2], model);
"""
"""What the npm package makes of a file."""

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """What an entry point made of a file, beyond what it does with one that holds nothing.

    Attributes:
        read, written: bytes.
        memory: bytes.
        seconds: processor time.
        lines: lines of the package, where they were counted.
        code: exit code.
    """

    entry: str
    bomb: str
    read: int
    written: int
    memory: int
    seconds: float
    lines: int
    code: int


@contextlib.contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Gives a function that says how many lines of the package were executed so far."""
    lines = 0

    def count(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal lines
        if event == "call" and not frame.f_globals.get("__name__", "").startswith("cerwu_onnx"):
            return None
        lines += 1
        return count

    sys.settrace(count)
    try:
        yield lambda: lines
    finally:
        sys.settrace(None)


def child(count: bool, arguments: list[str]) -> int:
    """Run an entry point in this process; the last line of stderr says how many lines it took, if they are counted."""
    code = 0
    with counted() if count else contextlib.nullcontext(lambda: 0) as lines:
        try:
            if arguments[0] == "load_session":
                from cerwu_onnx import load_session

                load_session(arguments[1])
            else:
                from cerwu_onnx.cli import main

                sys.argv = ["cerwu-onnx", *arguments]
                code = main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        except Exception:
            code = 1  # load_session: what onnxruntime says of a graph that is none
    sys.stderr.write(f"\n{lines()}\n")
    return code


def compiled(folder: Path) -> list[str]:
    """The command of the library in C, which comes to be in ``folder``."""
    program = folder / "expand"
    source = Path(__file__).with_name("expand.c")
    subprocess.run(["cc", "-O2", f"-I{DECODER}", source, *LIBRARY, "-o", program], check=True)
    return [str(program), "FILE"]


def commands(folder: Path) -> dict[str, list[str]]:
    """All entry points that this machine has, as commands; programs come to be in ``folder``."""
    found = {
        entry: [sys.executable, "-m", "tests.fuzz.expansion", "", *arguments] for entry, arguments in ENTRIES.items()
    }
    found[C] = compiled(folder)
    if missing := site.build():
        print(f"{JAVASCRIPT} is left out: {missing}", file=sys.stderr)
        return found
    return found | {JAVASCRIPT: ["node", "--input-type=module", "--eval", SCRIPT, "--", "FILE", "OUT/model.onnx"]}


def measure(entry: str, bomb: str, data: bytes, command: list[str] | None = None, idle: Row | None = None) -> Row:
    """One entry point on one file; without a command, that of the package, whose lines are counted."""
    given = command or [sys.executable, "-m", "tests.fuzz.expansion", "count", *ENTRIES[entry]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, out = folder / "bomb.cwb", folder / "out"
        path.write_bytes(data)
        out.mkdir()
        words = [word.replace("FILE", str(path)).replace("OUT", str(out)) for word in given]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "200"}
        printed = folder / "printed"
        with printed.open("wb") as stdout, (folder / "errors").open("wb") as stderr:
            place = site.JS if words[0] == "node" else ROOT  # where the package is imported by its name
            process = subprocess.Popen(words, stdout=stdout, stderr=stderr, cwd=place, env=environment)
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        written = printed.stat().st_size + sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        last = (folder / "errors").read_text(errors="replace").splitlines()[-1:]
    lines = int(last[0]) if entry in ENTRIES else 0
    memory, seconds = 1024 * (int(last[0]) if entry == C else used.ru_maxrss), used.ru_utime + used.ru_stime
    if idle is not None:
        memory, seconds = max(0, memory - idle.memory), max(0.0, seconds - idle.seconds)
    return Row(entry, bomb, len(data), written, memory, seconds, lines, process.returncode)


def rows(scale: int) -> list[Row]:
    """Every entry point on every file."""
    files = bombs.bombs(scale)
    nothing = make.seal(make.packed_graph(make.graph()), make.record(make.METADATA, make.stored(b"{}")))
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        doors = commands(Path(name))
        idle = dict(zip(doors, pool.map(lambda entry: measure(entry, "", nothing, doors[entry]), doors), strict=True))
        pairs = list(product(doors, files))
        return list(
            pool.map(lambda pair: measure(*pair, files[pair[1]], doors[pair[0]], idle[pair[0]]), pairs),
        )


def table(found: list[Row]) -> str:
    """For each entry point the worst of each kind, by byte read, and in which file."""
    lines = ["| entry point | bytes written | bytes of memory | processor time, ms |", "|---|---|---|---|"]
    for entry in dict.fromkeys(row.entry for row in found):
        cells = []
        for column, unit, digits in (("written", 1, 0), ("memory", 1, 0), ("seconds", 1000, 1)):
            worst = max((row for row in found if row.entry == entry), key=lambda row: getattr(row, column) / row.read)
            cells.append(f"{unit * getattr(worst, column) / worst.read:,.{digits}f} ({worst.bomb})")
        lines.append("| " + " | ".join([entry, *cells]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(child(bool(sys.argv[1]), sys.argv[2:]))
