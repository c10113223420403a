"""Writing and reading .cwb files; damage and hostile files."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cerwu_onnx import native
from cerwu_onnx.config import CODERS
from cerwu_onnx.container import ahead, reader, writer
from cerwu_onnx.container import format as f
from cerwu_onnx.container.dictionary import deflate, inflate
from cerwu_onnx.entropy.adaptive import encode_plain as adaptive_encode
from cerwu_onnx.errors import CorruptFileError, ModelError, UsageError
from cerwu_onnx.types import QuantizedTensor

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "v1"


def quantized(symbols: np.ndarray, step: float = 0.125) -> QuantizedTensor:
    return QuantizedTensor(symbols.astype(np.int32), float(np.float32(step)), 0.0, 1.0, 0.01)


def small_file() -> bytes:
    """Two coded tensors, one exact, graph and metadata."""
    rng = np.random.default_rng(11)
    parts = [
        writer.encode_tensor(
            writer.CodedTensor("conv.weight", quantized(np.rint(rng.laplace(size=(4, 3, 2, 2)) * 2)), "ans")
        ),
        writer.encode_tensor(writer.RawTensor("conv.bias", f.ElementType.FLOAT32, np.arange(4, dtype=np.float32))),
        writer.encode_tensor(writer.CodedTensor("flat", quantized(np.full((3, 5), -7)), "ans")),
        writer.encode_tensor(writer.CodedTensor("fc", quantized(np.rint(rng.laplace(size=(7, 9)) * 3)), "adaptive")),
        writer.graph_section(["conv.weight", "conv.bias", "flat", "fc"], b"not a real graph, but bytes all the same"),
        writer.metadata_section({"tool": "test", "lambda": 0.5}),
    ]
    return writer.assemble(parts)


coded = st.tuples(
    hnp.arrays(np.int32, hnp.array_shapes(max_dims=4, max_side=9), elements=st.integers(-300, 300)),
    st.floats(2.0**-60, 2.0**60, width=32),
    st.sampled_from(CODERS),
)


@settings(deadline=None)
@given(st.lists(coded, max_size=4), st.lists(st.sampled_from(list(f.ElementType)), max_size=4))
def test_round_trip(tensors: list[tuple[np.ndarray, float, str]], elements: list[f.ElementType]) -> None:
    rng = np.random.default_rng(0)
    expected: list[np.ndarray] = []
    parts = []
    for index, (symbols, step, coder) in enumerate(tensors):
        parts.append(writer.encode_tensor(writer.CodedTensor(f"coded {index}", quantized(symbols, step), coder)))
        expected.append(quantized(symbols, step).values())
    for index, element in enumerate(elements):
        values = np.frombuffer(rng.bytes(6 * f.item_size(element)), dtype=f.STORAGE[element]).reshape(2, 3)
        parts.append(writer.encode_tensor(writer.RawTensor(f"exakt é {index}", element, values)))
        expected.append(values)
    container = reader.parse(writer.assemble([*parts, writer.metadata_section({"a": 1})]))
    assert container.metadata() == {"a": 1}
    assert container.graph() is None
    assert len(container.tensors) == len(expected)
    for record, values in zip(container.tensors, expected, strict=True):
        for decoded in (container.decode(record), container.decode_python(record)):
            assert decoded.shape == values.shape
            assert decoded.tobytes() == values.tobytes()


def test_the_record_costs_what_it_says() -> None:
    parts = [writer.encode_tensor(writer.CodedTensor("w", quantized(np.arange(9))))]
    assert len(writer.assemble(parts)) == f.HEADER.size + parts[0].cost


def test_bytes_are_the_same_every_time() -> None:
    assert small_file() == small_file()


def decode_everything(data: bytes) -> None:
    container = reader.parse(data)
    for record in container.tensors:
        container.decode_python(record)
        container.decode(record)
    container.check_sections()
    container.graph()
    container.margins()


def test_every_flipped_bit_is_detected() -> None:
    data = small_file()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptFileError):
            decode_everything(bytes(damaged))


def test_every_truncation_and_extension_is_detected() -> None:
    data = small_file()
    for length in range(len(data)):
        with pytest.raises(CorruptFileError):
            decode_everything(data[:length])
    with pytest.raises(CorruptFileError, match="truncated or extended"):
        decode_everything(data + b"\0")


def seal(directory: bytes, count: int, payload: bytes = b"", version: int = 2, size: int = -1) -> bytes:
    """A file with right CRCs around whatever is inside."""
    size = f.HEADER.size + len(directory) + len(payload) if size < 0 else size
    header = struct.pack("<4sHHII", f.MAGIC, version, count, len(directory), size)
    return header + struct.pack("<I", zlib.crc32(header + directory)) + directory + payload


def section_record(head: int, payload: bytes, values: bytes = b"") -> bytes:
    """The directory record of a section, or the beginning of that of a tensor."""
    return bytes([head]) + f.varint(len(payload)) + zlib.crc32(payload + values).to_bytes(4, "little")


ONES = b"\xf1\x04"
"""An ANS payload: a table of -1, 0, 1 of which only 1 occurs, and no words."""


def coded_record(
    payload: bytes = ONES,
    *,
    adaptive: bool = False,
    form: int = 0,
    shape: tuple[int, ...] = (2,),
    step: float = 1.0,
    largest: int = 1,
    values: bytes = b"\1\0" * 2,
    rank: int | None = None,
    before: bytes = b"",
) -> bytes:
    """The directory record of a hostile file, any field free."""
    head = 128 + 64 * adaptive + 8 * form + (len(shape) if rank is None else rank)
    dims = b"".join(f.varint(dim) for dim in shape)
    return before + section_record(head, payload, values) + dims + b"\0" + struct.pack("<f", step) + f.varint(largest)


def raw_record(payload: bytes, shape: tuple[int, ...]) -> bytes:
    """The same of an exact tensor."""
    return section_record(len(shape), payload) + b"".join(f.varint(dim) for dim in shape)


def one(payload: bytes = ONES, version: int = 2, **fields: object) -> bytes:
    """A sealed file with one record."""
    return seal(coded_record(payload, **fields), 1, payload, version)  # type: ignore[arg-type]


STEPPED = {"before": b"\x3e", "form": 3, "largest": 0, "values": bytes(4)}
"""Fields of a tensor of zeros that has one exponent; its payload is that."""


def names(content: bytes, tensors: int = 1) -> bytes:
    """A sealed file of some equal tensors and a section of plain names."""
    directory = coded_record() * tensors + section_record(f.Kind.NAMES, content)
    return seal(directory, tensors + 1, ONES * tensors + content)


def test_the_hostile_template_is_itself_valid() -> None:
    container = reader.parse(one())
    assert container.decode_python(container.tensors[0]).tolist() == [1.0, 1.0]
    assert container.tensors[0].name == "#0"
    container = reader.parse(one(b"\0", **STEPPED))
    assert container.decode_python(container.tensors[0]).tolist() == [0.0, 0.0]
    assert [record.name for record in reader.parse(names(b"\1a\2bc", 2)).tensors] == ["a", "bc"]


metadata = writer.metadata_section({"tool": "test"})
stream = deflate(b"{}")
HOSTILE = {
    "not a cwb": (b"PK\3\4" + bytes(60), "wrong magic"),
    "empty": (b"", "wrong magic"),
    "too new": (seal(b"", 0, version=3), "too new"),
    "size too small": (seal(b"", 0, size=5), "truncated or extended"),
    "more records than directory": (seal(b"", 3), "cut short"),
    "65535 records": (seal(b"", 2**16 - 1), "the format allows 16384"),
    "16385 records": (seal(b"", 16385), "the format allows 16384"),
    "fewer records than directory": (seal(coded_record() * 2, 1, ONES * 2), "do not fill"),
    "payload missing": (seal(coded_record(), 1), "do not fill"),
    "payload left over": (seal(coded_record(), 1, ONES + b"zz"), "do not fill"),
    "unknown critical section": (seal(section_record(36, b"x"), 1, b"x"), "section 36 is unknown"),
    "last critical section": (seal(section_record(63, b"x"), 1, b"x"), "section 63 is unknown"),
    "ancillary section damaged": (seal(section_record(100, b"x"), 1, b"y"), "ancillary_100 section: payload CRC"),
    "ancillary section twice": (seal(section_record(100, b"x") * 2, 2, b"xx"), "section 100 follows 100"),
    "tensor after ancillary section": (
        seal(section_record(100, b"x") + coded_record(), 2, b"x" + ONES),
        "follows a section",
    ),
    "margins cut short": (seal(coded_record() + section_record(64, b""), 2, ONES), "cut short"),
    "margins left over": (
        seal(coded_record() + section_record(64, b"\0\0"), 2, ONES + b"\0\0"),
        "more margins than coded tensors",
    ),
    "last two axes of two swapped": (one(form=7, shape=(2, 1)), "cannot have the shape"),
    "exponents of version 1": (one(b"\0", 1, **STEPPED), "section 62 is unknown"),
    "exponents of a raw tensor": (seal(b"\x3e" + raw_record(b"", ()), 1), "exponents before"),
    "exponents of a section": (seal(b"\x3e" + section_record(64, b""), 1), "exponents before"),
    "exponents twice": (one(b"\0", **{**STEPPED, "before": b"\x3e\x3e"}), "exponents before"),
    "exponents and no more": (seal(b"\x3e", 1), "cut short"),
    "exponents of form 1": (
        one(b"\0", **{**STEPPED, "form": 1, "shape": (2, 1, 1)}),
        "exponents before a record",
    ),
    "exponents, step too small": (one(b"\0", **STEPPED, step=2.0**-96), "too small"),
    "exponents, empty": (one(b"", **STEPPED), "cut short or out of range"),
    "exponents cut short": (one(b"\xe0", **STEPPED), "cut short or out of range"),
    "exponent above 31": (one(b"\x3f", **STEPPED), "exponent is out of range"),
    "exponent below 0": (one(b"\x60", **STEPPED), "exponent is out of range"),
    "exponent of ones": (one(b"\xe0" + b"\xff" * 9, **STEPPED), "cut short or out of range"),
    "bits behind exponents": (one(b"\x80", **STEPPED), "not 0"),
    "exponents and words for zeros": (one(b"\0\1", **STEPPED), "does not end"),
    "axis 1 last of two": (one(form=1, shape=(2, 1)), "cannot have the shape"),
    "axis 0 last of one": (one(form=2), "cannot have the shape"),
    "a run of no axis": (one(form=3, shape=()), "cannot have the shape"),
    "adaptive, nothing": (one(b"", adaptive=True), "empty"),
    "adaptive, zero byte": (one(b"\1\x38\0", adaptive=True), "the last byte is 0"),
    "adaptive, symbol out of range": (
        one(adaptive_encode(np.array([20]), 20, 1), adaptive=True, largest=13),
        "not in -13..13",
    ),
    "adaptive, bytes left over": (one(b"\7\x38" + b"\xff" * 10, adaptive=True), "does not end"),
    "adaptive, longest escape": (one(b"\x3f\xff" + b"\0" * 40 + b"\1", adaptive=True, largest=2047), "not in"),
    "rank beyond the record": (one(rank=7), "elements of shape|shortest form|cut short"),
    "2^31 elements": (one(shape=(2**16, 2**15)), "elements of shape"),
    "elements overflow 64 bits": (one(shape=(2**32 - 1,) * 7), "elements of shape"),
    "no elements": (one(shape=(0,)), "cannot have the shape"),
    "empty but huge": (seal(raw_record(b"", (0, 2**16, 2**15)), 1), "elements of shape"),
    "dimension of 33 bits": (one(shape=(2**32,)), "shortest form or exceeds 32 bits"),
    "dimension with a needless byte": (
        seal(coded_record().replace(b"\2\0\0\0\x80\x3f", b"\x82\0\0\0\0\x80\x3f"), 1, ONES),
        "shortest form",
    ),
    "number of 33 bits": (
        seal(coded_record()[:-1] + b"\x81\x80\x80\x80\x10", 1, ONES),
        "exceeds 32 bits",
    ),
    "name empty": (names(b"\0"), "name of 0 bytes"),
    "name too long": (names(b"\x81\x08" + b"n" * 1025), "name of 1025 bytes"),
    "name not UTF-8": (names(b"\1\xff"), "not UTF-8"),
    "name with NUL": (names(b"\3a\0b"), "NUL"),
    "name cut short": (names(b"\3ab"), "cut short"),
    "same name twice": (names(b"\1w\1w", 2), "two tensors are named"),
    "a name too few": (names(b"\1w", 2), "cut short"),
    "a name too many": (names(b"\1v\1w"), "more names than tensors"),
    "names damaged": (names(b"\1w")[:-1] + b"v", "CRC"),
    "step 0": (one(step=0.0), "out of range"),
    "step negative": (one(step=-1.0), "out of range"),
    "step NaN": (one(step=math.nan), "out of range"),
    "step infinite": (one(step=math.inf), "out of range"),
    "step subnormal": (one(step=2.0**-127), "out of range"),
    "step too large": (one(step=2.0**117), "out of range"),
    "symbol too large": (one(largest=2048), "out of range"),
    "index too large": (one(form=3, largest=1024), "out of range"),
    "raw size": (seal(raw_record(b"x", (2,)), 1, b"x"), "payload of 1 bytes for 2 elements"),
    "table cut short": (one(b"\xf0"), "cut short"),
    "table's level out of range": (one(b"\xf0\xff\xff\xff\xff\0"), "is not in 0..12"),
    "table begins and ends with level 0": (one(b"\x34\x0b"), "first or last level"),
    "table's bits left over": (one(b"\xf1\x84"), "last byte's bits"),
    "words for zeros": (one(b"\1\0\0\0", largest=0), "does not end"),
    "nothing but a word 0": (one(ONES + b"\0\0"), "does not end"),
    "first word 0": (one(ONES + b"\0\0\1\0"), "does not end"),
    "stream does not end": (one(ONES + b"\1\2\3\4\5\6\7\x08\x09\1\2\3"), "does not end"),
    "other symbols": (one(values=b"\1\0\0\0"), "payload and values"),
    "tensor after section": (
        seal(metadata.record.to_bytes() + coded_record(), 2, metadata.payload + ONES),
        "follows a section",
    ),
    "two metadata sections": (seal(metadata.record.to_bytes() * 2, 2, metadata.payload * 2), "section 33 follows 33"),
    "metadata is a list": (writer.assemble([writer.packed_section(f.Kind.METADATA, b"[]")]), "not a JSON object"),
    "metadata is nested in 65 levels": (
        writer.assemble([writer.packed_section(f.Kind.METADATA, b'{"a":' * 65 + b"{}" + b"}" * 65)]),
        "nested deeper than 64 levels",
    ),
    "metadata is nested in 900 lists": (
        writer.assemble([writer.packed_section(f.Kind.METADATA, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}")]),
        "nested deeper than 64 levels",
    ),
    "metadata is not JSON": (writer.assemble([writer.packed_section(f.Kind.METADATA, b"{")]), "not a JSON object"),
    "metadata is not UTF-8": (writer.assemble([writer.packed_section(f.Kind.METADATA, b"\xff")]), "not a JSON object"),
    "metadata is deep": (
        writer.assemble([writer.packed_section(f.Kind.METADATA, b"[" * 100_000)]),
        "not a JSON object",
    ),
    "deflate stream cut short": (
        seal(section_record(32, stream[:1]), 1, stream[:1], version=1),
        "graph section",
    ),
    "deflate stream and more": (
        seal(section_record(33, stream + b"x"), 1, stream + b"x", version=1),
        "does not end with the section",
    ),
    "deflate stream is noise": (seal(section_record(32, b"\xff" * 4), 1, b"\xff" * 4, version=1), "section"),
    "packed section cut short": (
        seal(section_record(33, metadata.payload[:-1]), 1, metadata.payload[:-1]),
        "metadata section",
    ),
    "packed section and more": (
        seal(section_record(33, metadata.payload + b"x"), 1, metadata.payload + b"x"),
        "metadata section: the packed section is damaged",
    ),
    "packed section is noise": (seal(section_record(32, b"\xff" * 4), 1, b"\xff" * 4), "section"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(case: str) -> None:
    data, message = HOSTILE[case]
    with pytest.raises(CorruptFileError, match=message):
        decode_everything(data)


ONLY_IN_PYTHON = (
    "metadata",
    "deflate",
    "packed section",
    "margins",
    "ancillary section damaged",
    "name not UTF-8",
    "name with NUL",
    "same",
)


@pytest.mark.parametrize("case", [case for case in HOSTILE if not case.startswith(ONLY_IN_PYTHON)])
def test_the_c_decoder_refuses_the_same_files(case: str) -> None:
    """All but those with bad content inside a section, which C does not look into; names are bytes there."""
    if not native.available():
        pytest.skip("the C decoder was not built: no compiler at install time")
    with pytest.raises(CorruptFileError):
        native.verify(HOSTILE[case][0])


def test_auto_takes_the_smaller_coder() -> None:
    for values in (np.full((40, 50), -7), np.rint(np.random.default_rng(1).laplace(size=3000) * 3)):
        sizes = {c: writer.encode_tensor(writer.CodedTensor("w", quantized(values), c)).cost for c in CODERS}
        assert sizes["auto"] == min(sizes["ans"], sizes["adaptive"])
        assert sizes["ans"] != sizes["adaptive"]


def test_the_writer_refuses_what_the_format_cannot_hold() -> None:
    values = np.zeros((1,) * 8, dtype=np.float32)
    with pytest.raises(ModelError, match="exceeds the format"):
        writer.encode_tensor(writer.RawTensor("w", f.ElementType.FLOAT32, values))
    for name in ("", "a\0b", "n" * 1025):
        with pytest.raises(ModelError, match="tensor name"):
            writer.encode_tensor(writer.RawTensor(name, f.ElementType.FLOAT32, values[0]))
    with pytest.raises(ModelError, match="exceed the format"):
        writer.encode_tensor(writer.CodedTensor("w", quantized(np.array([0, 2048]))))
    with pytest.raises(ModelError, match="exceed the format"):  # an index of 1024
        writer.encode_tensor(writer.CodedTensor("w", replace(quantized(np.array([2048, 0])), run=2)))
    part = writer.encode_tensor(writer.RawTensor("w", f.ElementType.FLOAT32, values[0]))
    with pytest.raises(ModelError, match="share a name"):
        writer.assemble([part, part])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        reader.read(tmp_path / "missing.cwb")
    with pytest.raises(UsageError, match="cannot read"):
        reader.read(tmp_path)
    (tmp_path / "x.cwb").write_bytes(b"hello")
    with pytest.raises(CorruptFileError, match=r"x\.cwb: not a \.cwb file"):
        reader.read(tmp_path / "x.cwb")


def test_golden_file_decodes_for_ever() -> None:
    container = reader.read(GOLDEN / "kinds.cwb")
    expected = np.load(GOLDEN / "kinds.npz")
    assert sorted(expected.files) == sorted(record.name for record in container.tensors)
    for record in container.tensors:
        assert container.decode_python(record).tobytes() == expected[record.name].tobytes()
        assert container.decode(record).tobytes() == expected[record.name].tobytes()
    assert container.metadata() == {"tool": "golden", "lambda": 0.25}
    assert container.graph() == b"golden graph"


def test_limits_of_metadata_and_elements_hold_for_writers_and_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = [
        writer.encode_tensor(writer.CodedTensor(f"z{i}", quantized(np.zeros((2, 2**15))), "ans")) for i in range(3)
    ]
    metadata = writer.metadata_section({"a": "b" * 1000})
    data = writer.assemble([*zeros, metadata])
    assert len(reader.parse(data).tensors) == 3
    monkeypatch.setattr(f, "CODED_ELEMENTS", 3 * 2**16 - 1)
    monkeypatch.setattr(f, "CODED_ELEMENTS_PER_BYTE", 0)
    with pytest.raises(ModelError, match="196608 elements"):
        writer.assemble([*zeros, metadata])
    with pytest.raises(CorruptFileError, match="196608 coded elements exceed 196607"):
        reader.parse(data)
    monkeypatch.setattr(f, "MAX_METADATA", 1007)
    with pytest.raises(ModelError, match="the metadata take 1008 bytes"):
        writer.metadata_section({"a": "b" * 1000})
    monkeypatch.setitem(reader.MAX_SECTION, f.Kind.METADATA, 1007)
    monkeypatch.setattr(f, "CODED_ELEMENTS_PER_BYTE", 2**15)
    with pytest.raises(CorruptFileError, match="metadata section"):
        reader.parse(data).metadata()


class _Eager:
    """An executor that does each job at once, so that what was asked for can be counted."""

    def __init__(self, workers: int) -> None:
        pass

    def __enter__(self) -> _Eager:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[[list[f.Record]], object], records: list[f.Record]) -> Future[object]:
        done: Future[object] = Future()
        done.set_result(function(records))
        return done


def test_tensors_decoded_ahead_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all tensors of a large file are in memory before the first one is taken."""
    sizes = [4, 3, 3, 50, 4, 4, 4]
    tensors = [writer.CodedTensor(f"{index}", quantized(np.arange(size))) for index, size in enumerate(sizes)]
    container = reader.parse(writer.assemble([writer.encode_tensor(tensor) for tensor in tensors]))
    decoded: list[int] = []
    decode = reader.Container.decode_list

    def counted(self: reader.Container, records: list[f.Record]) -> list[np.ndarray]:
        decoded.extend(record.count for record in records)
        return decode(self, records)

    monkeypatch.setattr(ahead, "BATCH", 10)
    monkeypatch.setattr(ahead, "ThreadPoolExecutor", _Eager)
    monkeypatch.setattr(reader.Container, "decode_list", counted)
    held = []
    for index, values in enumerate(container.decode_all()):
        assert values.size == sizes[index]
        held.append(sum(decoded) - sum(sizes[:index]))
    assert sorted(decoded) == sorted(sizes)
    assert held == [60, 56, 53, 58, 12, 8, 4]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_find_the_same_tensors_and_the_same_damage(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever share of the tensors a thread gets: all in file order, and the first damaged one is named."""
    monkeypatch.setattr(ahead, "session_threads", lambda: workers)
    random = np.random.default_rng(3)
    tensors: list[writer.CodedTensor | writer.RawTensor] = [
        writer.CodedTensor(f"{index}", quantized(random.integers(-9, 10, size)), ("ans", "adaptive")[index % 2])
        for index, size in enumerate((5, 700, 30, 4000, 1, 60))
    ]
    tensors.insert(2, writer.RawTensor("raw", f.ElementType.FLOAT32, np.arange(6, dtype=np.float32)))
    data = writer.assemble([writer.encode_tensor(tensor) for tensor in tensors])
    container = reader.parse(data)
    alone = [container.decode(record) for record in container.tensors]
    for found, expected in zip(container.decode_all(), alone, strict=True):
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()
    damaged = bytearray(data)
    for record in (container.tensors[4], container.tensors[6]):
        damaged[record.offset + record.size - 1] ^= 1
    with pytest.raises(CorruptFileError, match=f"tensor {container.tensors[4].name!r}"):
        list(reader.parse(bytes(damaged)).decode_all())


def test_a_section_is_no_larger_than_its_limit() -> None:
    stream = deflate(bytes(100))
    assert inflate(stream, 100) == bytes(100)
    with pytest.raises(CorruptFileError, match="holds more than 99 bytes"):
        inflate(stream, 99)
