"""Measures the code of a program by compiling it for a Cortex-M4, where a cross-compiler is installed (ziglang)."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

CPU = "-mcpu=cortex_m4+vfp4d16sp"
MACHINE = "Cortex-M4 with FPU, clang -Os"
"""What the code is compiled for."""

_COMPILE: tuple[str, ...] = (
    "-target",
    "thumb-linux-musleabihf",
    CPU,
    "-Os",
    "-std=c99",
    "-ffunction-sections",
    "-fdata-sections",
)
_COMPILE += ("-fno-sanitize=undefined", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-w")
_LINK = ("-target", "thumb-freestanding-eabihf", CPU, "-Wl,--gc-sections")


def code_bytes(files: Mapping[str, bytes], sources: Sequence[str], functions: Sequence[str]) -> int | None:
    """Bytes of code and constants that a linker keeps for some functions; None without a compiler.

    Mathematical functions that the compiler's library lacks (``tanhf``) are not counted.

    Args:
        files: contents by name.
        sources: which of them to compile.
        functions: what the program calls.
    """
    if find_spec("ziglang") is None:
        return None
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        objects = [f"{name}.o" for name in sources]
        ready = all(_zig(folder, *_COMPILE, "-c", name, "-o", f"{name}.o") == "" for name in sources)
        keep = [f"-Wl,-e,{functions[0]}", *(f"-Wl,-u,{function}" for function in functions)]
        said = _zig(folder, *_LINK, *keep, *objects, "-o", "program") if ready else None
        missing = sorted(set(re.findall(r"undefined symbol: (\w+)", said or "")))
        if missing:
            (folder / "missing.c").write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in missing))
            _zig(folder, *_COMPILE, "-c", "missing.c", "-o", "missing.o")
            said = _zig(folder, *_LINK, *keep, *objects, "missing.o", "-o", "program")
        return flash_bytes((folder / "program").read_bytes()) if said == "" else None


def flash_bytes(elf: bytes) -> int:
    """Bytes of what a 32-bit little-endian ELF file has in flash: code and constants."""
    (table,) = struct.unpack_from("<I", elf, 0x20)
    entry, entries = struct.unpack_from("<HH", elf, 0x2E)
    headers = [struct.unpack_from("<6I", elf, table + index * entry) for index in range(entries)]
    return sum(size for _, kind, flags, _, _, size in headers if flags & 2 and not flags & 1 and kind == 1)


def _zig(folder: Path, *arguments: str) -> str:
    """What the compiler says when it fails; "" if it does not."""
    command = [sys.executable, "-m", "ziglang", "cc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    return (done.stderr or "failed") if done.returncode else ""
