"""Deltas: round trips through three readers, and deltas that must be refused."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cerwu_onnx import native
from cerwu_onnx.container import deltas, reader, writer
from cerwu_onnx.container import format as f
from cerwu_onnx.entropy import adaptive, trellis
from cerwu_onnx.errors import BaseError, CorruptFileError

from ..deltas import base, change, coded, delta, example
from ..spec import container as spec
from ..spec.refused import Refused

needs_library = pytest.mark.skipif(
    not native.available(), reason=f"the C decoder is not available: {native.unavailable_reason()}"
)


def specified(record: spec.Record, file: spec.File) -> np.ndarray:
    """Values of a coded tensor by the decoder that was made from the specification."""
    shape = file.in_base(record).dims
    return np.array(file.values(record)).astype(np.float32).reshape(shape)


tensors = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=7), elements=st.integers(-300, 300))
changes = st.sampled_from((0, 1, 9, 2047))


@settings(deadline=None)
@given(
    st.lists(st.tuples(tensors, st.booleans(), st.sampled_from(("ans", "adaptive")), changes), min_size=1, max_size=3),
    st.integers(0, 9),
)
def test_round_trip(before: list[tuple[np.ndarray, bool, str, int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = []
    for index, (values, on_trellis, coder, _) in enumerate(before):
        run = values.shape[-1] if on_trellis else 0
        path = trellis.to_values(values, run).reshape(values.shape) if on_trellis else values
        parts.append(coded(f"{index}", path, coder, run=run))
    content = writer.assemble([*parts, writer.names_section([part.record.name for part in parts])])
    container = reader.parse(content)
    changed, expected = [], []
    for record, (_, _, _, largest) in zip(container.tensors, before, strict=True):
        old = container.symbols(record)
        new = np.clip(old + random.integers(-largest, largest + 1, old.size), -2047, 2047)
        part = deltas.changed(record, container.payload(record), old, new)
        if part is None:
            assert np.abs(new - old).max() > 2047
            part, new = deltas.unchanged(record), old
        changed.append(part)
        expected.append(np.float32(0.25) * new.reshape(record.shape).astype(np.float32))
    data = delta(content, changed)
    found, by_spec = reader.parse(data, container), spec.read(data, content)
    assert [record.name for record in found.tensors] == [record.name for record in container.tensors]
    for record, other, values in zip(found.tensors, by_spec.tensors, expected, strict=True):
        assert found.decode(record).tobytes() == values.tobytes()
        assert found.decode_python(record).tobytes() == values.tobytes()
        assert specified(other, by_spec).tobytes() == values.tobytes()


def test_every_kind_of_record() -> None:
    content, data = example()
    container = reader.parse(content)
    found, by_spec = reader.parse(data, container), spec.read(data, content)
    by_spec.check()
    found.check_sections()
    assert found.metadata() == {"tool": "delta"}
    assert by_spec.names() == [record.name for record in found.tensors]
    kinds = [record.kind.name for record in found.tensors]
    assert kinds == ["CHANGED", "CHANGED", "ADAPTIVE", "UNCHANGED", "UNCHANGED", "RAW", "CHANGED"]
    for index, (record, other) in enumerate(zip(found.tensors, by_spec.tensors, strict=True)):
        values = found.decode(record)
        assert values.tobytes() == found.decode_python(record).tobytes()
        assert (record.shape, record.element) == (container.tensors[index].shape, container.tensors[index].element)
        if record.is_coded:
            assert values.tobytes() == specified(other, by_spec).tobytes()
        same = values.tobytes() == container.decode(container.tensors[index]).tobytes()
        assert same == (record.kind is f.Kind.UNCHANGED)
    assert found.tensors[3].value_bytes == 0
    assert len(found.tensors[3].to_bytes()) == 1


def test_a_base_of_version_1() -> None:
    content = (Path(__file__).parents[1] / "golden" / "v1" / "forms.cwb").read_bytes()
    container = reader.parse(content)
    parts = [change(container, index, 0.2, 2, index) for index in range(len(container.tensors))]
    data = delta(content, parts)
    found, by_spec = reader.parse(data, container), spec.read(data, content)
    for record, other in zip(found.tensors, by_spec.tensors, strict=True):
        values = found.decode(record)
        assert values.tobytes() == found.decode_python(record).tobytes()
        assert record.order.store(values).ravel().tolist() == [record.step * v for v in by_spec.symbols(other)]


@needs_library
@given(hnp.arrays(np.int16, st.integers(0, 400), elements=st.integers(-9, 9)), st.data())
def test_both_encoders_make_the_same(symbols: np.ndarray, data: st.DataObject) -> None:
    grids = data.draw(hnp.arrays(np.uint8, symbols.shape, elements=st.integers(0, 1)))
    header = int(adaptive.Header(1, data.draw(st.integers(0, 1)), 3, 4, data.draw(st.integers(0, 2)), 8))
    by = [
        coder(symbols, 9, header, grids, far=adaptive.FAR_CHANGE)
        for coder in (native.encode_adaptive, adaptive.encode_plain)
    ]
    assert by[0] == by[1]
    assert adaptive.decode_changes(by[0], grids.astype(np.int32), 9).tolist() == symbols.tolist()


def test_what_does_not_change_costs_a_bit_of_a_byte() -> None:
    container = reader.parse(base())
    record = container.tensors[0]
    before = container.symbols(record)
    after = before.copy()
    after[300] += 1
    part = deltas.changed(record, container.payload(record), before, after)
    assert part is not None
    assert part.record.size < 14


def resealed(data: bytes) -> bytes:
    """The file with the CRC of its header and directory set right."""
    (size,) = struct.unpack_from("<I", data, 8)
    return data[:16] + struct.pack("<I", zlib.crc32(data[:16] + data[20 : 20 + size])) + data[20:]


def hostile() -> dict[str, tuple[bytes, bytes | None, type[Exception], str, str]]:
    """By name: a file, its base, the error in Python and its text, the error in C (empty: not tried)."""
    content, data = example()
    container = reader.parse(content)
    parts = [deltas.unchanged(record) for record in container.tensors]
    twice = writer.assemble([*parts, deltas.base_section(data, reader.parse(data, container).records)])
    first = change(container, 0, 0.1, 3)
    beyond = replace(first, record=replace(first.record, reach=2048))
    wrong = writer.section(f.Kind.BASE, b"1234567")
    fewer = replace(first, record=replace(first.record, reach=1))
    far, near = coded("far", np.full((3, 4), 2040), "ans"), coded("far", np.full((3, 4), 2000), "ans")
    edge = [writer.assemble([one, writer.names_section(["far"])]) for one in (far, near)]
    record = reader.parse(edge[1]).tensors[0]
    raised = deltas.changed(record, b"", np.full(12, 2000), np.full(12, 2047))
    assert raised is not None
    version_1 = resealed(data[:4] + b"\1" + data[5:])
    raw = replace(deltas.unchanged(container.tensors[4]).record, kind=f.Kind.CHANGED)
    other = writer.encode_tensor(writer.RawTensor("half", f.ElementType.BFLOAT16, np.ones(6, "<u2")))
    wide = coded("zeros", np.zeros((5, 7)), "ans")
    damaged = bytearray(data)
    damaged[len(data) - 100] ^= 1
    plain = writer.assemble([writer.encode_tensor(writer.RawTensor("r", f.ElementType.FLOAT32, np.ones(1, "<f4")))])
    damaged_base = bytearray(content)
    damaged_base[container.tensors[0].offset + 20] ^= 8
    other_exponents = bytearray(content)
    other_exponents[container.tensors[6].offset] ^= 1
    corrupt, missing = CorruptFileError, BaseError
    return {
        "no base": (data, None, missing, "a delta, which needs its base, the .cwb that inspect calls", "VERSION"),
        "another base": (data, base(1), missing, "a delta for another base: for [0-9A-F]{8}-", "BASE"),
        "a base of another size": (data, plain, missing, "a delta for another base", "BASE"),
        "a base that is a delta": (twice, data, missing, "which needs its base", ""),
        "a base for a file that is none": (content, content, missing, "no delta: it needs no base", "BASE"),
        "fewer tensors": (delta(content, parts[:-1]), content, corrupt, "6 tensors, where the base has 7", "SHAPE"),
        "more tensors": (
            delta(content, [*parts, replace(parts[0], record=replace(parts[0].record, name="more"))]),
            content,
            corrupt,
            "8 tensors, where the base has 7",
            "SHAPE",
        ),
        "another shape": (
            delta(content, [*parts[:3], wide, *parts[4:]]), content, corrupt, "another shape or type", "SHAPE",
        ),
        "another type": (
            delta(content, [*parts[:5], other, parts[6]]), content, corrupt, "another shape or type", "SHAPE",
        ),
        "changes of a raw tensor": (
            delta(content, [*parts[:4], writer.Encoded(raw, b""), *parts[5:]]),
            content,
            corrupt,
            "changes of a raw tensor",
            "SHAPE",
        ),
        "changes of 2048": (delta(content, [beyond, *parts[1:]]), content, corrupt, "largest change", "GRID"),
        "a change beyond R": (
            delta(content, [fewer, *parts[1:]]), content, corrupt, "CRC mismatch|is not in", "PAYLOAD_CRC STREAM",
        ),
        "a value beyond 2047": (
            delta(edge[0], [raised]), edge[0], corrupt, "a changed value exceeds 2047", "STREAM",
        ),
        "no base section": (writer.assemble(parts), content, corrupt, "and no base section", "DIRECTORY"),
        "no base section, no base": (writer.assemble(parts), None, corrupt, "and no base section", "VERSION"),
        "a base section of 7 bytes": (
            writer.assemble([*parts, wrong]), content, corrupt, "base section: CRC mismatch, or not", "PAYLOAD_CRC",
        ),
        "names": (
            delta(content, parts, writer.names_section([record.name for record in container.tensors])),
            content,
            corrupt,
            "a delta with a graph or names of its own",
            "DIRECTORY",
        ),
        "a graph": (delta(content, parts, writer.graph_section([], b"")), content, corrupt, "a graph", "DIRECTORY"),
        "an unknown section": (
            delta(content, parts, writer.Encoded(replace(wrong.record, kind=36), b"1234567")),  # type: ignore[arg-type]
            content,
            corrupt,
            "section 36 is unknown",
            "VERSION",
        ),
        "version 1": (version_1, content, corrupt, "section 6[01] is unknown", "VERSION"),
        "damage": (bytes(damaged), content, corrupt, "CRC mismatch|coded stream", "PAYLOAD_CRC STREAM"),
        "a damaged base": (data, bytes(damaged_base), corrupt, "CRC mismatch|coded stream", "PAYLOAD_CRC STREAM TABLE"),
        "other exponents in the base": (
            data, bytes(other_exponents), corrupt, "CRC mismatch|exponent", "PAYLOAD_CRC GRID",
        ),
        "cut short": (data[:-1], content, corrupt, "truncated", "TRUNCATED"),
    }  # fmt: skip


HOSTILE = hostile()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_in_python(name: str) -> None:
    data, of, error, text, _ = HOSTILE[name]

    def read() -> None:
        container = reader.parse(data, None if of is None else reader.parse(of))
        for record in container.tensors:
            container.decode_python(record)
        container.check_sections()

    with pytest.raises(error, match=text):
        read()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_by_the_specification(name: str) -> None:
    data, of, *_ = HOSTILE[name]

    def read() -> None:
        file = spec.read(data, of)
        file.check()
        assert file.base is not None
        file.base.check()
        for record in file.tensors:
            if file.in_base(record).is_coded:
                file.symbols(record)

    with pytest.raises(Refused):
        read()


def test_a_base_that_is_a_delta_is_called_so(tmp_path: Path) -> None:
    content, data = example()
    for name, bytes_ in (("base", content), ("delta", data), ("twice", HOSTILE["a base that is a delta"][0])):
        (tmp_path / f"{name}.cwb").write_bytes(bytes_)
    with pytest.raises(BaseError, match=r"delta\.cwb is itself a delta, which cannot be a base"):
        reader.read(tmp_path / "twice.cwb", tmp_path / "delta.cwb")
    with pytest.raises(BaseError, match=r"twice\.cwb: a delta for another base"):
        reader.read(tmp_path / "twice.cwb", tmp_path / "base.cwb")
    with pytest.raises(BaseError, match=r"delta\.cwb: a delta, which needs its base"):
        reader.read(tmp_path / "delta.cwb")
    assert len(reader.read(tmp_path / "delta.cwb", tmp_path / "base.cwb").tensors) == 7
