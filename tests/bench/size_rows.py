"""The figures of ``make size``: what a row of docs/benchmarks/size.json says, and the rows of the last commit."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
JSON = ROOT / "docs" / "benchmarks" / "size.json"
CODERS = {"ans": "-DCWB_NO_ADAPTIVE", "adaptive": "-DCWB_NO_ANS"}
"""The coders, and what leaves the other one out of the decoder."""
NO_TRELLIS = "CWB_NO_TRELLIS"
SMALL = ("CWB_SMALL", "CWB_SMALL CWB_NO_V1 CWB_NO_EXPONENTS")
CRC_TABLES = {"": 64, "CWB_CRC_SLICES=1": 1024, "CWB_CRC_SLICES=4": 4096}
"""Build options, and the bytes of the tables that CRCs take with them."""


@dataclass(frozen=True)
class Row:
    """One line of size.json. Sizes in bytes, instructions per weight; ``option``: what the decoder was built with.

    ``instructions``: streamed to int16, no CRC. ``_checked``: cwb_decode_i16, all CRCs. ``_float``: cwb_decode_f32.
    The last two are None where they were not measured. ``code`` and ``const``: the least link, open and stream.
    ``_whole``: everything in cwb.c. ``ram``: structs and scratch memory. ``stack``: open and stream. ``stack_checked``:
    the most of all calls.
    """

    target: str
    coder: str
    level: str
    option: str
    payload: str
    weights: int
    entropy: float
    bits_per_weight: float
    instructions: float
    instructions_checked: float | None
    instructions_float: float | None
    code: int
    const: int
    code_whole: int
    const_whole: int
    ram: int
    stack: int
    stack_checked: int


def committed(path: Path = JSON) -> list[dict[str, Any]] | None:
    """The rows of ``path`` in the last commit; None where there is no git, or no such file in the commit."""
    try:
        command = ["git", "show", f"HEAD:./{path.name}"]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows
