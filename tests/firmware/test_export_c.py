"""``export-c``: what it writes compiles under strict warnings and decodes to the same tensors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cerwu_onnx
from cerwu_onnx.cli.app import run as run_app
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.errors import CorruptFileError, UsageError
from cerwu_onnx.firmware import c_source
from cerwu_onnx.firmware.export import DECODER_FILES, decoder_file, default_name, export, write_folder
from cerwu_onnx.firmware.index import firmware_tensors, fits_int8
from cerwu_onnx.firmware.kernels import KernelScales, kernel_constants, read_scales
from cerwu_onnx.types import QuantizedTensor

ROOT = Path(__file__).resolve().parents[2]
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
HOSTILE = [
    "*/ int x; /*",
    "a",
    "A",
    "count_a",
    "",
    "??/",
    'quote"\\',
    "\n#error",
    "é",
    "日本",
    "int",
    "9",
    "_",
    "x" * 99,
]


def file(*, packed: bool = False, coder: str = "adaptive") -> bytes:
    """Coded tensors in every order, exact ones, and names made to hurt."""
    rng = np.random.default_rng(4)
    names = [name or "unnamed" for name in HOSTILE]
    parts = []
    for index, name in enumerate(names):
        if index % 4 == 3:
            values = rng.normal(size=(2, 5)).astype(np.float32)
            parts.append(writer.encode_tensor(writer.RawTensor(name, f.ElementType.FLOAT32, values)))
            continue
        symbols = np.rint(rng.laplace(size=(4, 3, 2, 2)) * (2 if index else 90)).astype(np.int32)
        tensor = QuantizedTensor(symbols, float(np.float32(0.1 * 1.7**index)), 0.0, 1.0, 0.0)
        order = f.Order(index % 3)
        parts.append(writer.encode_tensor(writer.CodedTensor(name, tensor, coder, order)))
    named = writer.graph_section(names, b"graph" * 100) if packed else writer.names_section(names)
    sections = [named, writer.metadata_section({"model": "*/0123", "lambda": 0.1})]
    return writer.assemble([*parts, *sections])


def main_c(container: reader.Container) -> str:
    """A program that writes every tensor as float32 in stored order and checks what the header says of it."""
    checks = []
    for tensor in firmware_tensors(container):
        name = tensor.identifier
        step = f"|| cwb_step(&t) != MODEL_STEP_{name}" if tensor.coding != "exact" else ""
        if tensor.in_place is not None:
            step += f"|| MODEL_IN_PLACE_{name} != {tensor.in_place}"
        checks.append(
            f"if (cwb_tensor_at(&file, MODEL_TENSOR_{name}, &t) != CWB_OK || t.count != MODEL_COUNT_{name} "
            f"{step} || cwb_scratch_size(&t) != {tensor.scratch}) return {len(checks) + 2};"
        )
    return """
#include "model.h"
#include <stdio.h>
static uint16_t scratch[MODEL_SCRATCH_BYTES / sizeof(uint16_t)];
static float out[MODEL_LARGEST];
int main(void)
{
    cwb_file file;
    cwb_tensor t;
    uint32_t i;
    if (cwb_open(&file, model_cwb, sizeof model_cwb) != CWB_OK || file.tensors != MODEL_TENSORS) return 1;
    CHECKS
    for (i = 0; i < MODEL_TENSORS; i++) {
        if (cwb_tensor_at(&file, i, &t) != CWB_OK) return 100;
        if (t.kind == CWB_RAW) {
            fwrite(t.payload, 1, t.payload_size, stdout);
        } else {
            if (cwb_decode_f32(&t, scratch, sizeof scratch, out, MODEL_LARGEST) != CWB_OK) return 101;
            fwrite(out, sizeof *out, t.count, stdout);
        }
    }
    return 0;
}
""".replace("CHECKS", "\n    ".join(checks))


def compiler() -> str:
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("no C compiler: install one (cc, gcc or clang) or set CC to compile what export-c writes")
    return found


@pytest.mark.parametrize("packed", [False, True], ids=["names", "graph"])
@pytest.mark.parametrize("coder", ["ans", "adaptive"])
def test_compiles_and_decodes(tmp_path: Path, packed: bool, coder: str) -> None:
    container = reader.parse(file(packed=packed, coder=coder))
    firmware = export(container, "model")
    write_folder(firmware, tmp_path / "model", force=False)
    (tmp_path / "main.c").write_text(main_c(container))
    sources = [tmp_path / "main.c", tmp_path / "model/model.c", tmp_path / "model/cwb.c"]
    command = [compiler(), *STRICT, "-O1", f"-I{tmp_path / 'model'}", *sources, "-o", tmp_path / "main"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    done = subprocess.run([tmp_path / "main"], capture_output=True)
    assert done.returncode == 0
    expected = b"".join(record.order.store(container.decode(record)).tobytes() for record in container.tensors)
    assert done.stdout == expected


def test_what_c_cannot_use_is_left_out() -> None:
    whole, bare = reader.parse(file(packed=True)), export(reader.parse(file(packed=True)), "model")
    assert bare.flash < len(whole.data) - 60
    plain = reader.parse(file())
    assert bare.flash < export(plain, "model").flash < len(plain.data)  # names stay, metadata goes


@pytest.mark.parametrize(("largest", "fits"), [(126, True), (127, True), (128, False), (2047, False)])
def test_symbols_of_int8(largest: int, fits: bool) -> None:
    symbols = QuantizedTensor(np.array([0, largest, -largest], np.int32), 0.5, 0.0, 1.0, 0.0)
    assert fits_int8(writer.encode_tensor(writer.CodedTensor("w", symbols, "adaptive")).record) == fits
    exact = writer.RawTensor("w", f.ElementType.FLOAT32, np.zeros(3, np.float32))
    assert not fits_int8(writer.encode_tensor(exact).record)


def test_headers_are_c_plus_plus(tmp_path: Path) -> None:
    found = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler: install one to compile the header as sketches do")
    write_folder(export(reader.parse(file()), "model"), tmp_path, force=False)
    (tmp_path / "use.cpp").write_text('#include "model.h"\nint main() { return model_cwb[0] + MODEL_TENSORS; }\n')
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    made = subprocess.run([found, *flags, "-c", "use.cpp"], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


@given(st.lists(st.text(max_size=60)))
def test_identifiers_differ(names: list[str]) -> None:
    found = c_source.identifiers(names)
    assert len(set(found)) == len(names) == len({name.lower() for name in found})
    assert all(name and name.isascii() and name.replace("_", "a").isalnum() for name in found)


def test_identifiers_of_names_that_look_like_repeats() -> None:
    assert c_source.identifiers(["a", "a_2", "A", "a.", "a_2"]) == ("A", "A_2", "A_3", "A_4", "A_2_2")


@given(st.text())
def test_comments_cannot_be_left(text: str) -> None:
    safe = c_source.comment_text(text)
    assert safe.isprintable()
    assert safe.isascii()
    assert not any(mark in safe for mark in ("*", "?", "\\", '"', "'"))


@given(st.floats(2.0**-149, 2.0**127, width=32))
def test_float_literals_are_exact(value: float) -> None:
    literal = c_source.float_literal(value)
    assert np.float32(literal.removesuffix("f")) == np.float32(value)
    assert "." in literal or "e" in literal


def test_names_of_models() -> None:
    names = {"a-b c.cwb": "a_b_c", "9.cwb": "model_9", "cwb.cwb": "model_cwb", "é.cwb": "model", "X" * 50: "x" * 32}
    for given_name, expected in names.items():
        assert default_name(Path(given_name)) == expected
        export(reader.parse(file()), expected)
    for bad in ("cwb", "cwb_err", "", "A", "9", "a-b", "x" * 33, "a\n"):
        with pytest.raises(UsageError, match="does not fit"):
            export(reader.parse(file()), bad)


@pytest.mark.parametrize(
    "word", ["stdint", "stddef", "limits", "errno", "main", "int", "class", "co_await", "string", "con"]
)
def test_headers_and_keywords_are_no_names_of_models(word: str, tmp_path: Path) -> None:
    """A file ``stdint.h`` on the include path would stand before the compiler's own, in C and in C++."""
    container = reader.parse(file())
    with pytest.raises(UsageError, match="does not fit"):
        export(container, word)
    name = default_name(Path(f"{word.upper()}.cwb"))
    assert name == f"model_{word}"
    write_folder(export(container, name), tmp_path, force=False)
    (tmp_path / "main.c").write_text(f'#include <stdint.h>\n#include <errno.h>\n#include "{name}.h"\nint used;\n')
    for compiler, options in (("cc", STRICT), ("c++", ["-std=c++17", "-x", "c++", "-Wall", "-Wextra", "-Werror"])):
        if shutil.which(compiler):
            line = [compiler, *options, "-fsyntax-only", "-I", ".", f"{name}.c", "main.c"]
            subprocess.run(line, cwd=tmp_path, check=True)


HEADERS = "#include <bits/stdc++.h>\n#include <unistd.h>\n"
"""All of the standard library, as g++ has it."""


def test_no_name_is_that_of_a_header_that_the_compiler_reads() -> None:
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    line = ["g++", "-std=c++20", "-M", "-x", "c++", "-"]
    done = subprocess.run(line, input=HEADERS, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"g++ cannot read its headers: {done.stderr[:200]}")
    read = [Path(word) for word in done.stdout.replace("\\\n", " ").split() if word.endswith(".h")]
    top = {path.stem for path in read if path.parent.name in ("include", "include-fixed", "x86_64-linux-gnu")}
    assert {"stdint", "errno"} <= top
    assert not [name for name in top if c_source.is_model_name(name)]


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(-127, 127), min_size=2, max_size=40))
def test_kernel_constants(values: list[int]) -> None:
    symbols = np.array([values, values[::-1]], np.int32)
    parts = [
        writer.encode_tensor(writer.CodedTensor(name, QuantizedTensor(symbols, 0.5, 0.0, 1.0, 0.0), order=order))
        for name, order in (("rows", f.Order.ROW_MAJOR), ("columns", f.Order.AXIS0_LAST))
    ]
    bias = writer.encode_tensor(writer.RawTensor("bias", f.ElementType.FLOAT16, np.array([1.0, -3.0], np.float16)))
    container = reader.parse(writer.assemble([*parts, bias, writer.names_section(["rows", "columns", "bias"])]))
    found = kernel_constants(
        container, {"rows": KernelScales(0.25, 0.125, "bias"), "columns": KernelScales(0.25, 0.125)}
    )
    assert found["rows"] == {"multiplier": (2**30,) * 2, "shift": (1,) * 2, "bias": (8, -24)}
    assert found["columns"] == {"multiplier": (2**30,) * len(values), "shift": (1,) * len(values)}


def test_rows_with_steps_of_their_own() -> None:
    """Multipliers follow the steps; exponents are counted for cwb_exponents."""
    tensor = QuantizedTensor(np.zeros((3, 4), np.int32), 0.5, 0.0, 1.0, 0.0, 4, exponents=np.array([[0], [2], [1]]))
    part = writer.encode_tensor(writer.CodedTensor("w", tensor, "adaptive"))
    container = reader.parse(writer.assemble([part, writer.names_section(["w"])]))
    found = kernel_constants(container, {"w": KernelScales(0.25, 0.125, axis=0)})
    assert found["w"] == {"multiplier": (2**30,) * 3, "shift": (1, -1, 0)}
    with pytest.raises(UsageError, match="may be outputs or inputs: give the axis"):
        kernel_constants(container, {"w": KernelScales(0.25, 0.125)})
    with pytest.raises(UsageError, match="have several steps"):
        kernel_constants(container, {"w": KernelScales(0.25, 0.125, axis=1)})
    header = export(container, "model").files["model.h"].decode()
    assert "#define MODEL_EXPONENTS_W UINT32_C(3)" in header


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        ('{"a": 1}', "give input and output"),
        ('{"a": {"input": 1}}', "give input and output"),
        ('{"a": {"input": 1, "output": 1, "typo": 1}}', "give input and output"),
        ('{"a": {"input": "1", "output": 1}}', "input and output must be numbers"),
        ('{"a": {"input": true, "output": 1}}', "input and output must be numbers"),
        ('{"a": {"input": 1, "output": 1, "bias": 3}}', "bias must be a tensor's name"),
        ('{"a": {"input": 1%s, "output": 1}}' % ("0" * 400), "exceeds every float"),
    ],
)
def test_scales_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "scales.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_scales(tmp_path / "scales.json")


def test_scales_that_do_not_fit() -> None:
    container = reader.parse(file())
    wrong = {
        "nothing": ("nothing", KernelScales(1, 1)),
        "no coded tensor": ("count_a", KernelScales(1, 1)),
        "do not fit int8": (HOSTILE[0], KernelScales(1, 1)),
        "axis 4": ("a", KernelScales(1, 1, axis=4)),
        "not a float tensor of 4": ("a", KernelScales(1, 1, bias="count_a")),
        "out of range": ("a", KernelScales(0, 1)),
    }
    for message, (name, scales) in wrong.items():
        with pytest.raises(UsageError, match=message):
            kernel_constants(container, {name: scales})


def test_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, folder = tmp_path / "my net.cwb", tmp_path / "out"
    path.write_bytes(file())
    (tmp_path / "s.json").write_text('{"a": {"input": 0.5, "output": 0.25}}')
    command = ["export-c", str(path), str(folder), "--scales", str(tmp_path / "s.json")]
    assert run_app([*command, "--json"]) == 0
    body = json.loads(capfd.readouterr().out)
    assert sorted(body["files"]) == ["cwb.c", "cwb.h", "my_net.c", "my_net.h", "my_net.md"]
    assert {name: (folder / name).stat().st_size for name in body["files"]} == body["files"]
    assert "extern const int32_t my_net_multiplier_a[4];" in (folder / "my_net.h").read_text()
    assert len(body["tensors"]) == len(HOSTILE)

    before = {name: (folder / name).read_bytes() for name in body["files"]}
    (folder / "cwb.h").write_text("mine")
    assert run_app(command) == 2
    assert "exists: use -f" in capfd.readouterr().err
    assert (folder / "cwb.h").read_text() == "mine"
    assert run_app([*command, "-f"]) == 0
    assert "my_net.h" in capfd.readouterr().out
    assert {name: (folder / name).read_bytes() for name in body["files"]} == before

    assert run_app(["export-c", str(path), str(path)]) == 2
    assert "is a file" in capfd.readouterr().err
    assert run_app(["export-c", str(path), str(tmp_path / "a" / "b")]) == 0  # parents are made
    assert run_app(["export-c", str(path), str(path / "b")]) == 2
    assert run_app(["export-c", str(path), str(folder), "--name", "a b"]) == 2
    path.write_bytes(file()[:-1])
    assert run_app(["export-c", str(path), str(tmp_path / "other")]) == 4
    assert not (tmp_path / "other").exists()


def test_decoder_files_are_those_of_the_repository() -> None:
    for path in DECODER_FILES:
        assert decoder_file(path) == (ROOT / "decoder_c" / path).read_bytes()
    with pytest.raises(UsageError, match="lacks decoder_c/nothing"):
        decoder_file("nothing.c")


def test_compressed_models_export(tmp_path: Path) -> None:
    """From ONNX to C: the array alone opens and holds every tensor of the .cwb file."""
    from ..compression.test_storage_order import every_kind_of_weight

    (tmp_path / "m.onnx").write_bytes(every_kind_of_weight().SerializeToString())
    for weights_only in (True, False):
        chosen = cerwu_onnx.Settings(weights_only=weights_only, weight_layout="cmsis")
        cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", settings=chosen, force=True)
        container = reader.read(tmp_path / "m.cwb")
        firmware = export(container, "m")
        text = firmware.files["m.c"].decode()
        array = bytes(int(byte, 16) for byte in text[text.index("= {") :].strip("= {};\n").replace(",", " ").split())
        assert len(array) == firmware.flash
        exported = reader.parse(array)
        assert [container.decode(r).tobytes() for r in container.tensors] == [
            exported.decode(r).tobytes() for r in exported.tensors
        ]
        assert [r.name for r in exported.tensors] == [
            r.name if weights_only else f"#{i}" for i, r in enumerate(container.tensors)
        ]


def test_wheels_hold_the_decoder() -> None:
    """As the build is configured; a wheel in dist/ is looked into as well."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml")
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scikit-build"]["wheel"]
    assert options["packages"]["cerwu_onnx/decoder_c"] == "decoder_c"
    paths = {f"cerwu_onnx/decoder_c/{path}" for path in DECODER_FILES}
    assert not any(fnmatch(path, pattern) for path in paths for pattern in options["exclude"])
    for wheel in (ROOT / "dist").glob("cerwu_onnx-*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            assert paths <= set(archive.namelist())


@pytest.mark.parametrize("coder", ["ans", "adaptive"])
def test_damage_does_not_reach_firmware(coder: str) -> None:
    whole = file(coder=coder)
    for record in reader.parse(whole).tensors:
        bad = bytearray(whole)
        bad[record.offset + record.size // 2] ^= 4
        with pytest.raises(CorruptFileError):
            export(reader.parse(bytes(bad)), "model")
