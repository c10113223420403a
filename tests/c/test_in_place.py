"""Decoding over the payload: the margin that the encoder states suffices, and one byte less does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from cerwu_onnx import native
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.container.in_place import margin, margin_plain
from cerwu_onnx.entropy import adaptive, ans
from cerwu_onnx.entropy.tables import FrequencyTable
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.types import QuantizedTensor

from .conftest import DECODER, ROOT, Compile


def tensors() -> list[np.ndarray]:
    """Symbols of int8: sparse, dense, growing and shrinking, incompressible, tiny.

    Those that need a margin beyond their own size are sparse first and dense, more than a byte each, towards the end.
    """
    rng = np.random.default_rng(12)
    n = np.arange(1500)
    found = [rng.laplace(size=size) * scale for size in (1, 2, 40, 700, 2000) for scale in (0, 0.2, 2, 20)]
    found += [rng.normal(size=1500) * 0.02 * n, rng.normal(size=1500) * 0.02 * n[::-1]]
    found += [rng.integers(-127, 128, 1200), np.where(n < 700, rng.integers(-127, 128, 1500), 0), np.full(300, 5)]
    found += [np.where(n < start, 0, rng.integers(-127, 128, 1500)) for start in range(300, 1500, 100)]
    return [np.clip(np.rint(values), -127, 127).astype(np.int32) for values in found]


def parts() -> list[writer.Encoded]:
    return [
        writer.encode_tensor(
            writer.CodedTensor(f"{coder} {index}", QuantizedTensor(symbols, 0.5, 0.0, 1.0, 0.0), coder)
        )
        for coder in ("ans", "adaptive")
        for index, symbols in enumerate(tensors())
    ]


def unread(part: writer.Encoded) -> list[int]:
    """Bytes still to be read after each symbol."""
    found: list[int] = []
    record = part.record
    if record.kind == f.Kind.ANS:
        table, used = FrequencyTable.from_bytes(part.payload, record.reach)
        ans.decode_plain(part.payload[used:], table, count=record.count, unread=found)
    else:
        adaptive.decode_plain(part.payload, record.count, record.reach, found)
    return found


def simulated(part: writer.Encoded, room: int) -> list[int] | None:
    """The symbols if a byte is overwritten only after it has been read, else None; docs/format.md by hand."""
    start = room - len(part.payload)
    for position, left in enumerate(unread(part)):
        if left and position >= start + len(part.payload) - left:
            return None
    return []


def test_the_margin_is_the_least_that_is_safe() -> None:
    for part in parts():
        least = margin_plain(part)
        count, size = part.record.count, part.record.size
        assert simulated(part, count + least) is not None
        assert least == max(0, size - count) or simulated(part, count + least - 1) is None


def test_c_finds_the_same_margins() -> None:
    if not native.available():
        pytest.skip("the C decoder was not built: no compiler at install time")
    for part in parts():
        assert margin(part) == margin_plain(part), part.record


@pytest.fixture(scope="module")
def program(compile_c: Compile) -> Path:
    return compile_c("in_place", "-Wall", "-Wextra", "-Werror", ROOT / "tests/c/in_place.c", DECODER / "cwb.c")


def test_decoding_in_place(program: Path, tmp_path: Path) -> None:
    made = parts()
    path = tmp_path / "f.cwb"
    margins = [margin_plain(part) for part in made]
    path.write_bytes(writer.assemble([*made, writer.margins_section(margins)]))
    container = reader.read(path)
    assert container.margins() == dict(zip([r.name for r in container.tensors], margins, strict=True))
    spoilt = 0
    for index, (part, record) in enumerate(zip(made, container.tensors, strict=True)):
        expected = container.symbols(record).astype(np.int8).tobytes()
        for piece in (0, 1, 7, 1000):
            done = subprocess.run([program, path, str(index), str(piece), "0"], capture_output=True)
            assert (done.returncode, done.stdout) == (0, expected), (record.name, piece)
        if margins[index] == max(0, record.size - record.count):
            continue  # a smaller buffer would hold neither payload nor symbols
        done = subprocess.run([program, path, str(index), "1", "1"], capture_output=True)
        assert done.returncode in (0, 1), done.stderr.decode()
        if done.stdout != expected:
            spoilt += 1
            continue
        # Nothing was spoilt: then each byte that was overwritten too early was by chance overwritten by itself.
        start = record.count + margins[index] - 1 - record.size
        for position, left in enumerate(unread(part)):
            place = position - start
            if left and place >= record.size - left:
                assert part.payload[place] == expected[position]
    assert spoilt > 20


def test_files_without_margins(program: Path, tmp_path: Path) -> None:
    container = reader.parse(writer.assemble(parts()[:1]))
    assert container.margins() is None
    (tmp_path / "f.cwb").write_bytes(container.data)
    assert subprocess.run([program, tmp_path / "f.cwb", "0", "0", "0"]).returncode == 2


def test_margins_out_of_range_are_refused(program: Path, tmp_path: Path) -> None:
    """A buffer of such a margin would not hold the payload, or more than payload and symbols need."""
    by_size = sorted(parts(), key=lambda part: part.record.size - part.record.count)
    small, large = (part.record.size for part in (by_size[0], by_size[-1]))
    count = by_size[-1].record.count
    assert small < 100 < by_size[0].record.count
    assert large > count
    for part, stated, refused in (
        (by_size[0], small, False),
        (by_size[0], small + 1, True),
        (by_size[0], 2**32 - 1, True),  # whose difference to the size is a small number of 32 bits
        (by_size[-1], large - count - 1, True),
        (by_size[-1], large - count, False),
        (by_size[-1], large, False),
        (by_size[-1], large + 1, True),
    ):
        data = writer.assemble([part, writer.margins_section([stated])])
        (tmp_path / "f.cwb").write_bytes(data)
        done = subprocess.run([program, tmp_path / "f.cwb", "0", "0", "0"], capture_output=True)
        assert (done.returncode == 2) == refused, (part.record, stated)
        if refused:
            with pytest.raises(CorruptFileError, match="margin"):
                reader.parse(data).margins()
