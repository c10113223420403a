"""What a small file can make of a program at worst: bytes written, memory and work for each byte that is read.

Each entry point runs as a process of its own on files that go to the limits of docs/format.md without exceeding them,
and on some that exceed them. Work is the lines of the package that are executed, not time.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cerwu_onnx.container.packed import pack
from cerwu_onnx.model import bounds

from ..hostile import make

SCALE = 2000
"""Bytes of the files, more or less. The limits have constant parts: what a byte can do in larger files is less."""

ENTRIES: dict[str, list[str]] = {
    "inspect": ["inspect", "FILE"],
    "inspect --json": ["inspect", "FILE", "--json"],
    "verify": ["verify", "FILE"],
    "decompress": ["decompress", "FILE", "OUT/model.onnx"],
    "report (HTML)": ["report", "FILE", "OUT/report.html"],
    "report (Markdown)": ["report", "FILE", "OUT/report.md"],
    "report (JSON)": ["report", "FILE", "OUT/report.json"],
    "export-c": ["export-c", "FILE", "OUT/c", "--without-decoder"],
    "load_session": [],
}
"""Arguments of the command line; none stands for the function of this name."""


@dataclass(frozen=True)
class Row:
    """What an entry point made of a file: bytes read and written, bytes of memory beside an idle run's, lines."""

    entry: str
    bomb: str
    read: int
    written: int
    memory: int
    lines: int
    code: int


# ---- files ---------------------------------------------------------------------------------------------------------


def section(content: bytes, filling: int) -> tuple[bytes, bytes]:
    """A graph section of ``content`` and so many bytes that do not compress, in a field that ONNX does not know."""
    noise = random.Random(filling).randbytes(filling)
    return make.record(make.GRAPH, pack(content + make.field(5000, noise)))


def model(*fields: bytes) -> bytes:
    """A model of such fields of its graph."""
    return make.graph(*fields)


def io_value(number: int, name: bytes) -> bytes:
    """An input (11) or output (12) of the graph: a float."""
    return make.field(number, make.field(1, name) + make.field(2, make.field(1, b"\x08\x01\x12\x00")))


def bombs(scale: int) -> dict[str, bytes]:
    """Files of about ``scale`` bytes, by what is in them."""
    fields, names = bounds.most_fields(scale) - 100, bounds.most_names(scale) - 10_000
    relus = b"".join(
        make.field(1, make.field(1, b"1") + make.field(2, b"0") + make.field(4, b"Relu")) for _ in range(fields // 4)
    )
    ends = io_value(11, b"x") + io_value(12, b"y")
    long = b"n" * 5000
    users = make.field(1, make.field(1, b"1") * (names // len(long)) + make.field(2, b"'y") + make.field(4, b"Sum"))
    zeros = bytes(900 * scale)
    tensor = b"\x08" + make.varint(len(zeros)) + make.field(8, b"t")
    text = json.dumps({"tool": ["\x1b<&|" * 40] * 4000}).encode()[: 2**20 - 10]
    many = scale // 140 + 1
    wide = [b"\x1b" * 100 + str(i).encode() for i in range(many)]
    named = make.record(make.NAMES, b"".join(make.varint(len(name)) + name for name in wide))
    return {
        "empty nodes": make.seal(section(model(b"\x0a\0" * (fields - 50)), scale)),
        "nodes": make.seal(section(model(relus + ends), scale)),
        "too many nodes": make.seal(make.record(make.GRAPH, make.empty_nodes(2000 + 4 * scale)), version=1),
        "one name": make.seal(section(model(io_value(11, long) + io_value(12, b"y") + users), scale)),
        "too much of one name": make.seal(make.record(make.GRAPH, make.copied_name(scale // 4, scale // 4)), version=1),
        "zeros in the graph": make.seal(
            section(model(make.field(5, tensor + b"\x10\x03" + make.field(9, zeros)), ends), 0)
        ),
        "varints in the graph": make.seal(
            section(model(make.field(5, tensor + b"\x10\x07" + make.field(7, zeros)), ends), 0)
        ),
        "coded zeros": make.seal(
            coded_zeros(scale << 9), section(model(make.field(5, b"\x70\1"), ends), 0), one_name()
        ),
        "raw tensors": make.seal(*[make.raw((4,), bytes(16))] * many, named),
        "metadata": make.seal(
            make.record(make.METADATA, pack(text[:1] + b'"a":' + json.dumps("\x1b<&|" * 10**5).encode() + b"}"))
        ),
        "metadata of lists": make.seal(make.record(make.METADATA, pack(b'{"tool":[' + b"[]," * 300_000 + b"[]]}"))),
    }


def coded_zeros(count: int) -> tuple[bytes, bytes]:
    """A tensor of zeros that takes no payload."""
    fields = make.varint(count) + b"\0" + struct.pack("<f", 1.0) + make.varint(0)
    return make.record(make.ANS + 1, b"", fields, values=bytes(2 * count))


def one_name() -> tuple[bytes, bytes]:
    return make.record(make.NAMES, b"\x01w")


# ---- measuring -----------------------------------------------------------------------------------------------------


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


def child(arguments: list[str]) -> None:
    """Run an entry point in this process; the last line of stderr says how many lines it took and the peak memory."""
    code = 0
    with counted() as lines:
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stderr.write(f"\n{lines()} {peak} {code}\n")


def measure(entry: str, bomb: str, data: bytes, idle: int = 0) -> Row:
    """One entry point on one file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, out = folder / "bomb.cwb", folder / "out"
        path.write_bytes(data)
        out.mkdir()
        words = ENTRIES[entry] or ["load_session", "FILE"]
        words = [word.replace("FILE", str(path)).replace("OUT", str(out)) for word in words]
        command = [sys.executable, "-m", "tests.fuzz.expansion", *words]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "200"}
        done = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2], env=environment)
        written = len(done.stdout) + sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        lines, peak, code = map(int, done.stderr.splitlines()[-1].split())
    return Row(entry, bomb, len(data), written, max(0, peak - idle), lines, code)


def rows(scale: int) -> list[Row]:
    """Every entry point on every file; lines and memory beyond those of a file that holds nothing."""
    found, files = [], bombs(scale)
    for entry in ENTRIES:
        idle = measure(entry, "", make.seal(make.record(make.METADATA, pack(b"{}"))))
        for bomb, data in files.items():
            found.append(measure(entry, bomb, data, idle.memory))
    return found


def table(found: list[Row]) -> str:
    """For each entry point the worst of each kind, by byte read, and in which file."""
    lines = [
        f"{'entry point':18}{'bytes written':>34}{'bytes of memory':>34}{'lines of Python':>34}   for each byte read"
    ]
    for entry in ENTRIES:
        cells = []
        for column in ("written", "memory", "lines"):
            worst = max((row for row in found if row.entry == entry), key=lambda row: getattr(row, column) / row.read)
            cells.append(f"{getattr(worst, column) / worst.read:,.0f} ({worst.bomb})")
        lines.append(f"{entry:18}" + "".join(f"{cell:>34}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    child(sys.argv[1:])
