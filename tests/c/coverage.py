"""Lines and branches of the C decoder that tests take: ``python -m tests.c.coverage``, with gcc and gcov.

One object of ``cwb.c``, compiled without optimisation, is linked into the harness of ``tests/c`` and into the driver of
the damage campaign; both leave their counts in it. What no test takes is printed, with the reason where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..fuzz import campaign, seeds

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "decoder_c/src/cwb.c"

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
    """A line, and how many of its branches no test takes."""

    number: int
    text: str
    branches: int

    @property
    def reason(self) -> str:
        """Why that is right; empty if nobody has said."""
        return next((reason for part, reason in JUSTIFIED.items() if part in self.text), "")


def measure(folder: Path, mutations: int) -> list[dict[str, Any]]:
    """Run the tests of the C decoder and a short campaign; gcov's records of the lines of ``cwb.c``."""
    flags = ["-std=c99", "-g", "-O0", "--coverage", f"-I{ROOT / 'decoder_c/include'}"]
    decoder = folder / "cwb.o"
    subprocess.run([campaign.compiler(), *flags, "-c", SOURCE, "-o", decoder], check=True)
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
    found: list[dict[str, Any]] = next(file["lines"] for file in report["files"] if file["file"].endswith("cwb.c"))
    return found


def main() -> int:
    """Print the table; 1 if a line or branch is missed without a reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.c.coverage", description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000, help="of the campaign")
    arguments = parser.parse_args()
    if shutil.which("gcov") is None:
        print("gcov is not installed (it comes with gcc): the C decoder is not measured")
        return 0
    text = SOURCE.read_text().split("\n")
    with tempfile.TemporaryDirectory() as folder:
        lines = measure(Path(folder), arguments.mutations)
    branches = [branch["count"] > 0 for line in lines for branch in line["branches"]]
    missed = [
        Missed(number, text[number - 1].strip(), sum(not branch["count"] for branch in line["branches"]))
        for line in lines
        for number in [line["line_number"]]
        if not line["count"] or not all(branch["count"] for branch in line["branches"])
    ]
    taken = sum(line["count"] > 0 for line in lines)
    print(f"decoder_c/src/cwb.c   lines {taken} of {len(lines)}   branches {sum(branches)} of {len(branches)}")
    for line in missed:
        print(f"{line.number:5}  {line.text}\n       {line.branches} branches: {line.reason or 'NOT JUSTIFIED'}")
    return int(any(not line.reason for line in missed))


if __name__ == "__main__":
    sys.exit(main())
