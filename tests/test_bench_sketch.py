"""The sketch for boards: it builds with and without a program that runs the model, and prints what an issue needs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cerwu_onnx.firmware.export import export, write_folder

from .inference.programs import STRICT, compiler, compressed, firmware, net

BENCH = Path(__file__).resolve().parents[1] / "decoder_c/examples/Bench/bench.c"


@pytest.mark.parametrize("runs", [False, True])
def test_bench(tmp_path: Path, runs: bool) -> None:
    if runs:
        pytest.importorskip("emx_onnx_cgen", reason="no C generator: pip install -e '.[inference]'")
    container = compressed(net(), tmp_path, method="rtn")
    folder = tmp_path / "c"
    write_folder(firmware(container) if runs else export(container, "model"), folder, force=False)
    sources = sorted(folder.glob("*.c"))
    command = [compiler("cc", "gcc", "clang"), *STRICT, f"-I{folder}", BENCH, *sources, "-lm", "-o", tmp_path / "bench"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = subprocess.run([tmp_path / "bench"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "cwb bench 1"
    assert lines[-1] == "result: no error"
    for line, start in zip(lines[4:6], ("check", "decode"), strict=True):
        assert re.fullmatch(start + r": \d+ ticks of clock\(\), \d+\.\d per weight", line), line
    assert any(line.startswith("run: ") for line in lines) == runs


def test_counters_of_processors(tmp_path: Path) -> None:
    """On a Cortex-M4 and on RISC-V the sketch reads the processor's counter, and compiles."""
    pytest.importorskip("ziglang", reason="no cross-compiler: pip install -e '.[emu]'")
    pytest.importorskip("unicorn", reason="no emulation of microcontrollers: pip install -e '.[emu]'")
    from .emu import build, targets

    write_folder(export(compressed(net(), tmp_path, method="rtn"), "model"), tmp_path / "c", force=False)
    for target in targets.RUNNERS:
        flags = ["-Os", f"-I{tmp_path / 'c'}", *(["-U__linux__"] if target.name == "RV32IMC" else [])]
        built = build.compile_object(target.headers, BENCH, tmp_path / f"{target.name}.o", *flags)
        assert b"ticks of clock" not in built.read_bytes()
