"""Cross-compilation with ``python -m ziglang cc``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .elf import Elf
from .targets import Target

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DECODER = ROOT / "decoder_c"
STUB = HERE / "stub.c"

# zig hides warnings when it answers from its cache: only -Werror is to be trusted.
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
FLAGS = (
    "-std=c99",
    "-ffreestanding",
    "-fno-sanitize=undefined",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-fdata-sections",
    "-g",  # without it zig drops the symbols
    *STRICT,
    f"-I{DECODER}",
)


class CompileError(Exception):
    """What the compiler said."""


def compile_object(zig: Sequence[str], source: Path, output: Path, *flags: str) -> Path:
    """Compile one file for the machine that the flags ``zig`` name.

    Raises:
        CompileError: it does not compile, or not without warnings.
    """
    return _run([*zig, *FLAGS, *flags, "-c", str(source)], output)


def link(target: Target, objects: Sequence[Path], entries: Sequence[str], output: Path) -> Elf:
    """Link a program of what the functions ``entries`` need, and no more.

    Raises:
        CompileError: something is missing.
    """
    keep = [f"-Wl,-u,{name}" for name in entries]
    script = f"-Wl,-T,{HERE / 'mcu.ld'}"
    return Elf(
        _run(
            [*target.zig, "-g", "-Wl,--gc-sections", script, f"-Wl,-e,{entries[0]}", *keep, *map(str, objects)], output
        )
    )


def decoder_object(target: Target, folder: Path, level: str, *flags: str) -> Path:
    """``cwb.c`` compiled at an optimisation level such as ``-Os``."""
    output = folder / "-".join(["cwb", target.name, level.lstrip("-"), *(flag.lstrip("-") for flag in flags)])
    return compile_object(target.zig, DECODER / "cwb.c", output.with_suffix(".o"), level, *flags)


def program(target: Target, folder: Path, level: str, entries: Sequence[str], *flags: str) -> Elf:
    """The decoder, built with ``flags``, and stub.c, linked for ``entries``."""
    objects = [
        compile_object(target.zig, STUB, folder / f"stub-{target.name}{level}.o", level),
        decoder_object(target, folder, level, *flags),
    ]
    return link(target, objects, entries, folder / f"{objects[1].stem}-{len(entries)}.elf")


def _run(arguments: Sequence[str], output: Path) -> Path:
    command = [sys.executable, "-m", "ziglang", "cc", *arguments, "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(done.stderr)
    return output
