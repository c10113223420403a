"""Rewrite README.md: ``python -m tests.hostile``. With a folder, write the files there."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from .make import cases

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- begin -->", "<!-- end -->"


def table() -> str:
    """The table of README.md."""
    lines = ["| number | file | attack | bytes | C | Python | SHA-256 |", "|---:|---|---|---:|---|---|---|"]
    for number, case in enumerate(cases(), 1):
        c = "`CWB_OK`" if case.c == "OK" else f"`CWB_ERR_{case.c}`"
        python = "reads" if case.python == "OK" else f"`{case.python}`"
        digest = hashlib.sha256(case.data).hexdigest()[:16]
        lines.append(
            f"| {number:02d} | {case.name} | {case.attack} | {len(case.data):,} | {c} | {python} | `{digest}` |"
        )
    return "\n".join(lines)


def updated(text: str) -> str:
    """README.md with the present table."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for number, case in enumerate(cases(), 1):
            (Path(sys.argv[1]) / f"{number:02d}-{case.name}.cwb").write_bytes(case.data)
    else:
        README.write_text(updated(README.read_text()))
