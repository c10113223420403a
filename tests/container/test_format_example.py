"""The worked example of docs/format.md: its bytes decode, and every row says what its bytes mean."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cerwu_onnx import native
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader
from cerwu_onnx.entropy import adaptive, step

PAGE = (Path(__file__).parents[2] / "docs/format.md").read_text(encoding="utf-8")
EXAMPLE, STEPPED, DELTA = PAGE.split("## Worked example")[1:]


def rows(example: str) -> list[tuple[str, ...]]:
    """The rows of the table of bytes."""
    return re.findall(r"^\| (\d+) \| `([0-9A-F ]+)` \| (\w+) \| (.+?) \| (.+?) \|$", example, re.MULTILINE)


def bytes_of(example: str) -> bytes:
    """The file that the table shows."""
    return bytes.fromhex("".join(row[1] for row in rows(example)))


ROWS, DATA = rows(EXAMPLE), bytes_of(EXAMPLE)
SYMBOLS = [0, 2, 1, 0, -1, -3, 0, 1]
VALUES = np.array([[0, 0.25, -0.25, 0], [0.5, 0, -0.75, 0.25]], np.float32)


def number(kind: str, data: bytes) -> int:
    """What bytes of a type of the table mean."""
    if kind == "varint":
        value = sum((byte & 127) << 7 * index for index, byte in enumerate(data))
        assert f.varint(value) == data
        return value
    assert len(data) == {"u8": 1, "u16": 2, "u32": 4}[kind]
    return int.from_bytes(data, "little")


@pytest.mark.parametrize("example", [EXAMPLE, STEPPED, DELTA], ids=["whole", "steps of rows", "delta"])
def test_rows_follow_each_other_and_say_what_they_hold(example: str) -> None:
    assert len(rows(example)) > 15
    position = 0
    for offset, text, kind, field, value in rows(example):
        content = bytes.fromhex(text)
        assert int(offset) == position, field
        position += len(content)
        if kind == "bytes":
            assert value == "-"
        elif kind == "f32":
            assert float(value) == struct.unpack("<f", content)[0]
        elif "CRC" in field:
            assert int(value, 16) == number(kind, content)
        else:
            assert float(value) == number(kind, content), field


def test_python_reads_what_the_rows_say() -> None:
    container = reader.parse(DATA)
    container.check_sections()
    w, b = container.tensors
    said = {field: (kind, bytes.fromhex(text)) for _, text, kind, field, _ in ROWS}
    assert number(*said["number of records"]) == len(container.records) == 4
    assert number(*said["size of the file"]) == len(DATA)
    assert step.SHORT + (number(*said["step: 0.25"]) << 20) == step.bits_of(w.step)
    assert w.kind == f.Kind.ADAPTIVE
    form = f.form_number(w.order, w.run, w.shape)
    assert form is not None
    assert 192 + 8 * form + len(w.shape) == number(*said["head: adaptive tensor, 192 + 8 x form + rank"])
    assert w.reach == number(*said["R"])
    assert w.crc == number(*said["CRC-32 of the payload and the values"])
    assert (w.name, b.name) == ("w", "b")
    assert container.metadata() == {"tool": "example"}
    assert container.symbols(w).tolist() == SYMBOLS
    assert ", ".join(map(str, SYMBOLS)) in EXAMPLE
    assert (container.decode_python(w) == VALUES).all()
    assert container.decode_python(b).tolist() == [0.5, -2.0]
    shown = [line.split() for line in EXAMPLE.splitlines() if line.startswith("    ")]
    assert [[float(number) for number in line] for line in shown] == VALUES.tolist()


def test_steps_of_rows() -> None:
    container = reader.parse(bytes_of(STEPPED))
    (record,) = container.tensors
    assert container.symbols(record).tolist() == [2, 4, 0, 6, 0, -1]
    assert container.steps(record).tolist() == [[0.25], [0.0625]]
    shown = [line.split() for line in STEPPED.splitlines() if line.startswith("    ")]
    assert [[float(number) for number in line] for line in shown] == container.decode(record).tolist()
    assert container.decode_python(record).tolist() == container.decode(record).tolist()


def test_a_delta() -> None:
    base = reader.parse(DATA)
    container = reader.parse(bytes_of(DELTA), base)
    w, b = container.tensors
    symbols = container.symbols(w).tolist()
    assert (w.kind, b.kind) == (f.Kind.CHANGED, f.Kind.UNCHANGED)
    assert f"become {', '.join(map(str, symbols))}." in " ".join(DELTA.split())
    changes = (container.symbols(w) - base.symbols(base.tensors[0])).tolist()
    assert f"changes are {', '.join(map(str, changes))}, so" in " ".join(DELTA.split())
    assert container.decode(b).tolist() == [0.5, -2.0]
    assert (container.decode(w) == container.decode_python(w)).all()


def test_c_reads_the_same() -> None:
    if not native.available():
        pytest.skip("the C decoder was not built: no compiler at install time")
    native.verify(DATA)
    assert native.decode_symbols(DATA, 0).tolist() == SYMBOLS
    assert (reader.parse(DATA).decode(reader.parse(DATA).tensors[0]) == VALUES).all()
    assert [native.File(DATA).name(index) for index in range(2)] == ["w", "b"]


def test_the_steps_of_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    took: list[tuple[int, int, int, int]] = []
    split = adaptive._Decoder.split

    def recorded(self: adaptive._Decoder, bound: int) -> int:
        before = self.range, self.code, bound
        took.append((*before, split(self, bound)))
        return took[-1][-1]

    monkeypatch.setattr(adaptive._Decoder, "split", recorded)
    container = reader.parse(DATA)
    container.symbols(container.tensors[0])
    rows = re.findall(r"^\| (?:bit\(\d, \d\)|sign) \| (\w+) \| (\w+) \| (\w+) \| (\d) \|$", EXAMPLE, re.MULTILINE)
    assert [tuple(int(cell, 0) for cell in row) for row in rows] == took[: len(rows)]
    assert len(rows) == 5
    found = re.search(
        r"0x(\w{4}) has c = (\d), t = (\d), z = (\d+), g = (\d+), s = (\d+), h = (\d+)", " ".join(EXAMPLE.split())
    )
    assert found is not None
    word = int(found[1], 16)
    assert adaptive.Header.parse(word) == adaptive.Header(*map(int, found.groups()[1:]))
    assert word == int.from_bytes(container.payload(container.tensors[0])[:2], "big")


def test_rebuild_puts_the_matrix_into_onnx_order(tmp_path: Path) -> None:
    """The C program of decoder_c/examples on the same bytes: file to floats without any Python of ours."""
    cc = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if cc is None:
        pytest.skip("no C compiler: install one (cc, gcc or clang) or set CC to compile cwb-rebuild")
    decoder = Path(__file__).parents[2] / "decoder_c"
    sources = [decoder / "examples/rebuild.c", decoder / "cwb.c"]
    subprocess.run([cc, "-std=c99", f"-I{decoder}", *sources, "-o", tmp_path / "rebuild"], check=True)
    (tmp_path / "f.cwb").write_bytes(DATA)
    subprocess.run([tmp_path / "rebuild", tmp_path / "f.cwb", tmp_path / "out"], check=True, capture_output=True)
    expected = [*VALUES.ravel().tolist(), 0.5, -2.0]
    assert np.frombuffer((tmp_path / "out").read_bytes(), "<f4").tolist() == expected
