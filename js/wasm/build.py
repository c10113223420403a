# SPDX-License-Identifier: Apache-2.0
"""Build src/cwb-wasm.js, the WebAssembly module as text in a script, from the C sources: ``python js/wasm/build.py``.

The compiler is that in the wheel of ziglang. The same sources and the same ziglang give the same bytes, wherever they
stand.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUTPUT = HERE.parent / "src" / "cwb-wasm.js"

SOURCES = ("js/wasm/cwb_wasm.c", "decoder_c/cwb.c", "decoder_c/host/cwb_*.c")
WHEEL_ONLY = ("cwb_columns.c", "cwb_crc.c", "cwb_encode.c", "cwb_host.c", "cwb_search.c")

FLAGS = (
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-std=c99", "-Os", "-DNDEBUG", "-DCWB_CRC32=cwb_wasm_crc32"),
    *("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-Idecoder_c", "-Idecoder_c/host"),
    *("-Wl,--strip-all", "-Wl,-z,stack-size=65536"),
)


def build(root: Path = ROOT) -> bytes:
    """The WebAssembly module, from the sources below ``root``."""
    found = sorted(path.relative_to(root) for pattern in SOURCES for path in root.glob(pattern))
    sources = [path.as_posix() for path in found if path.name not in WHEEL_ONLY]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "cwb.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *sources, "-o", str(output)]
        subprocess.run(command, cwd=root, check=True)
        return output.read_bytes()


def script(module: bytes) -> str:
    """The module as a script: bundlers and pages then have no further file to find."""
    text = base64.b64encode(module).decode()
    return f"// Written by `make wasm` from decoder_c and js/wasm.\nexport default '{text}';\n"


if __name__ == "__main__":
    module = build()
    OUTPUT.write_text(script(module), encoding="utf-8")
    print(f"{OUTPUT.relative_to(ROOT)}: {len(module):,} bytes of WebAssembly")
