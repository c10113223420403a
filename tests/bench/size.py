# SPDX-License-Identifier: Apache-2.0
"""Code and scratch sizes of the C decoder: ``make size``.

Compiles decoder_c/src/cwb.c at -Os with the host's compiler and, when ``ziglang`` is installed (extra
``size``), for Cortex-M0 and M4. Sizes are those of the whole object file, constants included; a linker that
drops unused functions (--gc-sections) keeps less.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "decoder_c/src/cwb.c"
FLAGS = ["-std=c99", "-Os", "-ffreestanding", "-ffunction-sections", "-fdata-sections"]
FLAGS += ["-fno-asynchronous-unwind-tables", f"-I{ROOT / 'decoder_c/include'}"]
SYMBOLS = (2, 16, 64, 256, 1024, 4096)


def section_sizes(path: Path) -> tuple[int, int, int]:
    """Bytes of code, of constants and of variables in an ELF object file."""
    elf = path.read_bytes()
    if elf[:4] != b"\x7fELF":
        raise ValueError("not an ELF object file")
    order = "<" if elf[5] == 1 else ">"
    wide = elf[4] == 2
    (table,) = struct.unpack_from(order + ("Q" if wide else "I"), elf, 0x28 if wide else 0x20)
    entry_size, count = struct.unpack_from(order + "HH", elf, 0x3A if wide else 0x2E)
    code = constants = variables = 0
    for i in range(count):
        layout = order + ("IIQQQQ" if wide else "IIIIII")
        _name, _type, flags, _address, _offset, size = struct.unpack_from(layout, elf, table + i * entry_size)
        writable, allocated, executable = flags & 1, flags & 2, flags & 4
        if allocated and executable:
            code += size
        elif allocated and writable:
            variables += size
        elif allocated:
            constants += size
    return code, constants, variables


def compilers() -> dict[str, list[str]]:
    """Name of the machine -> command."""
    found = {}
    host = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if host:
        found["host"] = [host]
    if importlib.util.find_spec("ziglang"):
        zig = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-fno-sanitize=undefined",
            "-target",
            "thumb-freestanding-eabi",
        ]
        for cpu in ("cortex_m0", "cortex_m4"):
            found[cpu] = [*zig, f"-mcpu={cpu}"]
    return found


def main() -> int:
    """Print the tables; 1 if nothing could be compiled."""
    machines = compilers()
    if not machines:
        print("no C compiler found", file=sys.stderr)
        return 1
    print(f"{'bytes of cwb.c at -Os':24}{'code':>8}{'const':>8}{'variables':>11}")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "cwb.o")
        for machine, command in machines.items():
            for label, extra in (("", []), (", no float", ["-DCWB_NO_FLOAT"])):
                done = subprocess.run([*command, *FLAGS, *extra, "-c", SOURCE, "-o", output])
                if done.returncode:
                    return 1
                try:
                    code, constants, variables = section_sizes(output)
                except ValueError as error:  # macOS, Windows
                    print(f"{machine + label:24} {error}")
                    continue
                print(f"{machine + label:24}{code:8}{constants:8}{variables:11}")
    if "cortex_m0" not in machines:
        print("(for Thumb code sizes: pip install -e '.[size]')")
    print(f"\n{'symbols K':24}" + "".join(f"{k:>8}" for k in SYMBOLS))
    print(f"{'bytes of scratch':24}" + "".join(f"{2 * (k + 1):>8}" for k in SYMBOLS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
