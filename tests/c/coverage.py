"""Lines and branches of the C decoder that tests take: ``python -m tests.c.coverage``, with gcc and gcov.

One object of all kernels (``decoder_c/src/cwb.c``), compiled without optimisation, is linked into the harness of
``tests/c`` and into the driver of the damage campaign; both leave their counts in it. What no test takes is printed,
kernel by kernel, with the reason where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..fuzz import campaign, seeds

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "decoder_c/src"

COPIES = "one of two copies of an inlined function, in which this is constant or never reached"
JUSTIFIED = {
    "(near ? stream->scratch : scratch)": COPIES,
    "if (near) {": COPIES,
    "if (UNLIKELY(above == ROW_BEGINS)) {": COPIES,
    "if (--stream->rows_left == 0) {": COPIES,
    "if (value > 0) {": COPIES,
    "if (code < bound) {": COPIES,
    "static void read_adaptive_": COPIES,
}
"""Part of a source line -> why one of its branches is never taken."""


@dataclass(frozen=True)
class Missed:
    """A line of a kernel, and how many of its branches no test takes."""

    number: int
    text: str
    branches: int

    @property
    def reason(self) -> str:
        """Why that is right; empty if nobody has said."""
        return next((reason for part, reason in JUSTIFIED.items() if part in self.text), "")


def measure(folder: Path, mutations: int) -> dict[str, list[dict[str, Any]]]:
    """Run the tests of the C decoder and a short campaign; gcov's records of the lines of each kernel, by its name."""
    flags = ["-std=c99", "-g", "-O0", "--coverage", f"-I{ROOT / 'decoder_c'}"]
    decoder = folder / "cwb.o"
    subprocess.run([campaign.compiler(), *flags, "-c", KERNELS / "cwb.c", "-o", decoder], check=True)
    sources = [ROOT / "tests/fuzz" / name for name in ("campaign.c", "exercise.c", "mutate.c")]
    subprocess.run([campaign.compiler(), *flags, *sources, decoder, "-o", folder / "campaign"], check=True)
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "tests/c/test_arguments.py",
        "tests/c/test_decoder_c.py",
        "tests/c/test_in_place.py",
    ]
    subprocess.run(tests, cwd=ROOT, env=os.environ | {"CWB_OBJECT": str(decoder)}, stdout=sys.stderr, check=True)
    campaign.run(folder / "campaign", seeds.write(folder), 0, mutations, os.cpu_count() or 1)
    gcov = ["gcov", "--branch-probabilities", "--json-format", "--stdout", decoder]
    report = json.loads(subprocess.run(gcov, cwd=folder, capture_output=True, text=True, check=True).stdout)
    return {name: file["lines"] for file in report["files"] for name in [Path(file["file"]).name]}


def missed(text: Sequence[str], lines: Iterable[dict[str, Any]]) -> list[Missed]:
    """The lines of a kernel, of which gcov made ``lines``, that no test runs, or not with all of their branches."""
    return [
        Missed(number, text[number - 1].strip(), sum(not branch["count"] for branch in line["branches"]))
        for line in lines
        for number in [line["line_number"]]
        if not line["count"] or not all(branch["count"] for branch in line["branches"])
    ]


def total(name: str, lines: Sequence[dict[str, Any]]) -> str:
    """One line: how many lines and branches tests take."""
    taken = sum(line["count"] > 0 for line in lines)
    branches = [branch["count"] > 0 for line in lines for branch in line["branches"]]
    return f"{name:14} lines {taken:4} of {len(lines):4}   branches {sum(branches):4} of {len(branches):4}"


def main() -> int:
    """Print the table; 1 if a line or branch is missed without a reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.c.coverage", description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000, help="of the campaign")
    arguments = parser.parse_args()
    if shutil.which("gcov") is None:
        print("gcov is not installed (it comes with gcc): the C decoder is not measured")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        kernels = measure(Path(folder), arguments.mutations)
    unexplained = False
    for name, lines in kernels.items():
        print(total(name, lines))
        for line in missed((KERNELS / name).read_text().split("\n"), lines):
            print(f"{line.number:5}  {line.text}\n       {line.branches} branches: {line.reason or 'NOT JUSTIFIED'}")
            unexplained |= not line.reason
    print(total("decoder_c/src", [line for lines in kernels.values() for line in lines]))
    return int(unexplained)


if __name__ == "__main__":
    sys.exit(main())
