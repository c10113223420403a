# SPDX-License-Identifier: Apache-2.0
"""Build src/cwb.wasm from the C sources, with the compiler in the wheel of ziglang: ``python js/wasm/build.py [output]``.

The same sources and the same ziglang give the same bytes, wherever they stand.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUTPUT = HERE.parent / "src" / "cwb.wasm"

SOURCES = ("decoder_c/cwb.c", "js/wasm/cwb_wasm.c")

FLAGS = (
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-std=c99", "-O2", "-DNDEBUG", "-DCWB_CRC32=cwb_wasm_crc32"),
    *("-Wall", "-Wextra", "-Werror", "-Idecoder_c"),
    *("-Wl,--strip-all", "-Wl,-z,stack-size=65536"),
)


def build(output: Path) -> None:
    """Write the WebAssembly module to ``output``."""
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *SOURCES, "-o", str(output.resolve())]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    build(target)
    print(f"{target}: {target.stat().st_size:,} bytes")
