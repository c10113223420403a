"""The WebAssembly module: its size, what it takes from its host, and that the same sources make the same bytes."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Node
from .site import JS, ROOT

pytest.importorskip("ziglang", reason="no compiler for WebAssembly: pip install ziglang")

BUILD = runpy.run_path(str(JS / "wasm/build.py"))

DECODER = (
    "cwb_open",
    "cwb_tensor_at",
    "cwb_find",
    "cwb_name",
    "cwb_section",
    "cwb_check",
    "cwb_decode_f32",
    "cwb_strerror",
)


def test_the_same_sources_make_the_same_bytes_wherever_they_stand(tmp_path: Path) -> None:
    for folder in ("decoder_c", "decoder_c/host", "js/wasm"):
        (tmp_path / folder).mkdir(parents=True)
        for path in (ROOT / folder).glob("*.[ch]"):
            shutil.copy(path, tmp_path / folder)
    assert BUILD["build"](tmp_path) == BUILD["build"]()


def test_the_module_is_small_and_imports_nothing(node: Node, tmp_path: Path) -> None:
    module = BUILD["build"]()
    assert len(module) < 52 << 10
    (tmp_path / "cwb.wasm").write_bytes(module)
    (tmp_path / "cwb.js").write_text(BUILD["script"](module))
    imports, packed = node(
        "import { readFileSync } from 'node:fs'; import { brotliCompressSync } from 'node:zlib';"
        "const bytes = readFileSync(process.argv[1]);"
        "const imports = WebAssembly.Module.imports(new WebAssembly.Module(bytes));"
        "console.log(JSON.stringify([imports, brotliCompressSync(readFileSync(process.argv[2])).length]));",
        tmp_path / "cwb.wasm",
        tmp_path / "cwb.js",
    )
    assert imports == []
    assert packed < 33_000  # over the wire


def test_the_decoder_alone_takes_less_than_12_kilobytes(tmp_path: Path) -> None:
    output = tmp_path / "decoder.wasm"
    exports = [f"-Wl,--export={name}" for name in DECODER]
    flags = (
        "-target",
        "wasm32-freestanding",
        "-std=c99",
        "-Os",
        "-DNDEBUG",
        "-nostdlib",
        "-Wl,--no-entry",
        "-Wl,--strip-all",
    )
    command = [sys.executable, "-m", "ziglang", "cc", *flags, *exports, ROOT / "decoder_c/cwb.c", "-o", output]
    subprocess.run(command, check=True)
    assert output.stat().st_size < 12_000


def test_the_script_holds_the_module(node: Node, tmp_path: Path) -> None:
    (tmp_path / "module.mjs").write_text(BUILD["script"](b"\x00asm\x01\x00\x00\x00"))
    found = node(f"import code from '{(tmp_path / 'module.mjs').as_uri()}'; console.log(JSON.stringify(code))")
    assert found == "AGFzbQEAAAA="
