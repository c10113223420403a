"""The examples of decoder_c/examples: compiled under strict warnings and run, here and on an emulated Cortex-M4."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.firmware.export import export, write_folder
from cerwu_onnx.firmware.kernels import KernelScales, kernel_constants
from cerwu_onnx.types import QuantizedTensor

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "decoder_c/examples"
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
SCALES = {"fc.weight": KernelScales(0.02, 0.3, "fc.bias")}
OUTPUTS, INPUTS = 12, 150


@pytest.fixture(scope="module")
def container() -> reader.Container:
    """What the examples ask for: a fully connected layer, besides a convolution of the other coder."""
    rng = np.random.default_rng(8)
    symbols = {"conv": rng.laplace(size=(4, 3, 3, 3)) * 3, "fc.weight": rng.laplace(size=(OUTPUTS, INPUTS)) * 4}
    parts = [
        writer.encode_tensor(
            writer.CodedTensor(name, QuantizedTensor(np.rint(values).astype(np.int32), 0.0625, 0.0, 1.0, 0.0), coder)
        )
        for (name, values), coder in zip(symbols.items(), ("ans", "adaptive"), strict=True)
    ]
    bias = rng.normal(size=OUTPUTS).astype(np.float32)
    parts.append(writer.encode_tensor(writer.RawTensor("fc.bias", f.ElementType.FLOAT32, bias)))
    return reader.parse(writer.assemble([*parts, writer.names_section([*symbols, "fc.bias"])]))


@pytest.fixture(scope="module")
def model(container: reader.Container, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_folder(export(container, "model", SCALES), folder, force=False)
    return folder


def expected_outputs(container: reader.Container) -> list[int]:
    """The layer of stream_layer.c in Python's integers."""
    constants = kernel_constants(container, SCALES)["fc.weight"]
    weight = container.symbols(container.tensors[1]).reshape(OUTPUTS, INPUTS).astype(int)
    inputs = np.arange(INPUTS) * 37 % 256 - 128
    out = []
    for row, bias, multiplier, shift in zip(
        weight.tolist(), constants["bias"], constants["multiplier"], constants["shift"], strict=True
    ):
        total = bias + sum(w * int(x) for w, x in zip(row, inputs, strict=True))
        half = 1 << 30 - shift
        scaled = (abs(total * multiplier) + half) >> 31 - shift
        out.append(max(-128, min(127, scaled if total >= 0 else -scaled)))
    assert len(set(out)) > OUTPUTS // 2  # neither all 0 nor all clipped
    return out


def compiler(name: str, *others: str) -> str:
    found = next(filter(None, map(shutil.which, (name, *others))), None)
    if found is None:
        pytest.skip(f"no {name}: install a C and C++ compiler to build the examples")
    return found


def build(command: list[object]) -> None:
    made = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("name", ["bare_metal", "stream_layer"])
def test_on_this_machine(name: str, model: Path, container: reader.Container, tmp_path: Path) -> None:
    cc = os.environ.get("CC") or compiler("cc", "gcc", "clang")
    (tmp_path / "main.c").write_text(
        f'#define main example\n#include "{EXAMPLES / name}.c"\n#undef main\n#include <stdio.h>\n'
        "int main(void)\n{\n    int result = example();\n"
        + ("    fwrite(layer_output, 1, sizeof layer_output, stdout);\n" if name == "stream_layer" else "")
        + "    return result;\n}\n"
    )
    sources = [tmp_path / "main.c", model / "model.c", model / "cwb.c"]
    build([cc, "-std=c99", *STRICT, "-Wno-missing-prototypes", f"-I{model}", *sources, "-o", tmp_path / "main"])
    done = subprocess.run([tmp_path / "main"], capture_output=True)
    assert done.returncode == 0
    if name == "stream_layer":
        assert np.frombuffer(done.stdout, np.int8).tolist() == expected_outputs(container)


@pytest.mark.parametrize("name", ["bare_metal", "stream_layer"])
def test_on_an_emulated_cortex_m4(name: str, model: Path, container: reader.Container, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="no emulation of microcontrollers: pip install -e '.[emu]'")
    pytest.importorskip("unicorn", reason="no emulation of microcontrollers: pip install -e '.[emu]'")
    from .emu import build as emu
    from .emu.machine import Machine
    from .emu.targets import M4

    sources = [EXAMPLES / f"{name}.c", model / "model.c", model / "cwb.c"]
    objects = [
        emu.compile_object(M4.zig, source, tmp_path / f"{source.stem}.o", "-Os", f"-I{model}") for source in sources
    ]
    machine = Machine(M4, emu.link(M4, objects, ["main"], tmp_path / f"{name}.elf"))
    assert machine.call("main") == 0
    if name == "bare_metal":
        assert machine.read_words(machine.elf.address("model_state"), 1) == (2,)
    else:
        out = machine.read(machine.elf.address("layer_output"), OUTPUTS)
        assert list(struct.unpack(f"{OUTPUTS}b", out)) == expected_outputs(container)


def test_esp_idf_example(model: Path, tmp_path: Path) -> None:
    """Built without ESP-IDF, of which it uses no more than the name of its entry."""
    cc = os.environ.get("CC") or compiler("cc", "gcc", "clang")
    (tmp_path / "main.c").write_text("void app_main(void);\nint main(void)\n{\n    app_main();\n    return 0;\n}\n")
    sources = [tmp_path / "main.c", EXAMPLES / "esp_idf/main/main.c", model / "model.c", model / "cwb.c"]
    build([cc, "-std=c99", *STRICT, f"-I{model}", *sources, "-o", tmp_path / "main"])
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True)
    counts = (108, OUTPUTS * INPUTS, OUTPUTS)
    assert done.stdout.splitlines() == [f"tensor {i}: {n} values" for i, n in enumerate(counts)] + ["no error"]


def test_the_c_of_the_tutorial_compiles(model: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs/firmware.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```c\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    blocks = [block for block in blocks if "model_run" not in block]  # tests/test_docs_examples.py has such a model
    assert len(blocks) >= 3
    cc = os.environ.get("CC") or compiler("cc", "gcc", "clang")
    for block in blocks:
        (tmp_path / "page.c").write_text(f'#include <string.h>\n#include "model.h"\n{block}')
        build([cc, "-std=c99", *STRICT, f"-I{model}", "-c", tmp_path / "page.c", "-o", tmp_path / "page.o"])


ARDUINO = """
#include <cstdint>
#include <cstdio>
#define HEX 16
struct Printer {
    void begin(unsigned long) {}
    void print(const char *text) { std::printf("%s", text); }
    void print(uint32_t number) { std::printf("%lu", (unsigned long)number); }
    void println(const char *text) { std::printf("%s\\n", text); }
    void println(double number, int digits) { std::printf("%.*f\\n", digits, number); }
};
static Printer Serial;
void setup();
void loop();
"""


def test_arduino_sketch(model: Path, container: reader.Container, tmp_path: Path) -> None:
    """Built as the Arduino IDE does: Arduino.h in front, the library's src/ as include folder, all of src/ compiled."""
    cc, cxx = compiler("cc", "gcc", "clang"), compiler("c++", "g++", "clang++")
    (tmp_path / "Arduino.h").write_text(ARDUINO)
    for suffix in ("h", "c"):
        shutil.copy(model / f"model.{suffix}", tmp_path)
    (tmp_path / "main.cpp").write_text("int main() { setup(); loop(); return 0; }\n")
    sketch = EXAMPLES / "DecodeModel/DecodeModel.ino"
    library = ROOT / "decoder_c/src"
    flags = [f"-I{library}", f"-I{tmp_path}", "-Wall", "-Wextra", "-Werror"]
    objects = []
    for source in [tmp_path / "model.c", *sorted(library.glob("*.c"))]:
        objects.append(tmp_path / f"{source.stem}.o")
        build([cc, "-std=gnu11", *flags, "-c", source, "-o", objects[-1]])
    with_arduino = ["-std=gnu++11", *flags, "-include", tmp_path / "Arduino.h"]
    (tmp_path / "sketch.cpp").write_text(f'#include "{sketch}"\n#include "{tmp_path / "main.cpp"}"\n')
    build([cxx, *with_arduino, tmp_path / "sketch.cpp", *objects, "-o", tmp_path / "sketch"])
    done = subprocess.run([tmp_path / "sketch"], capture_output=True, text=True)
    sums = [int(container.symbols(record).sum()) for record in container.tensors[:2]]
    assert done.stdout.splitlines() == [
        f"0: 108 weights, sum of symbols {sums[0]}",
        f"1: {OUTPUTS * INPUTS} weights, sum of symbols {sums[1]}",
        f"2: {OUTPUTS} exact values",
        "no error",
    ]
