"""clang-tidy and cppcheck on the C sources: ``python -m tests.c.lint``. What is not installed is skipped, with a word.

Left out of clang-tidy's families, as they tell nothing about this code:

* signed-bitwise, too-small-loop-variable, implicit-widening, misplaced-widening-cast: integer promotions of C, which is
  how 8-bit counters and shifts by literals work; -Wconversion and the sanitizers watch over values that change.
* easily-swappable-parameters: style.
* no-assembler: on ARM two instructions are written out, beside the same in C.
* insecureAPI: memcpy_s and the like do not exist in C99.
* inc-dec-in-conditions: no operand is used twice there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "decoder_c"
SOURCES = [ROOT / "cwb.c", *sorted((ROOT / "host").glob("*.c"))]
"""cwb.c holds the kernels of src/ (tests/c/test_amalgamate.py): in headers clang's analyzer begins at no function."""
INCLUDE = f"-I{ROOT}"
CHECKS = (
    "-*,bugprone-*,clang-analyzer-*,portability-*,"
    "-bugprone-signed-bitwise,-bugprone-too-small-loop-variable,-bugprone-implicit-widening-of-multiplication-result,"
    "-bugprone-misplaced-widening-cast,-bugprone-easily-swappable-parameters,-bugprone-inc-dec-in-conditions,"
    "-portability-no-assembler,-clang-analyzer-security.insecureAPI.*"
)
CPPCHECK = ("--std=c99", "--enable=warning,portability,performance", "--inline-suppr", "--quiet", "--error-exitcode=1")


def installed(name: str) -> str | None:
    """The program, from this environment or the PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def main() -> int:
    """Run what is there; 1 if anything was found."""
    found = 0
    for name, arguments in (
        (
            "clang-tidy",
            ["--quiet", f"--checks={CHECKS}", "--warnings-as-errors=*", *SOURCES, "--", "-std=c99", INCLUDE],
        ),
        ("cppcheck", [*CPPCHECK, INCLUDE, *SOURCES]),
    ):
        program = installed(name)
        if program is None:
            print(f"{name} is not installed (pip install -e '.[dev]'): skipped")
            continue
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
        print(done.stdout if done.returncode else f"{name}: nothing found in {len(SOURCES)} C files")
        if done.returncode:
            print(done.stderr, file=sys.stderr)
        found |= done.returncode != 0
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
