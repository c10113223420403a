"""Writing and reading .cwb files; damage and hostile files."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cerwu_onnx import native
from cerwu_onnx.config import CODERS
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.errors import CorruptFileError, ModelError, UsageError
from cerwu_onnx.types import QuantizedTensor

GOLDEN = Path(__file__).parent / "golden"


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
        writer.packed_section(f.Kind.GRAPH, b"not a real graph, but bytes all the same"),
        writer.names_section(["conv.weight", "conv.bias", "flat", "fc"], packed=True),
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
    assert container.section(f.Kind.GRAPH) is None
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
    container.section(f.Kind.GRAPH)
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


def seal(directory: bytes, count: int, payload: bytes = b"", version: int = 0, flags: int = 0, size: int = -1) -> bytes:
    """A file with right CRCs around whatever is inside."""
    size = f.HEADER.size + len(directory) + len(payload) if size < 0 else size
    header = struct.pack("<8sHHIIII", f.MAGIC, version, flags, count, len(directory), size, zlib.crc32(directory))
    return header + struct.pack("<I", zlib.crc32(header)) + directory + payload


def section_record(kind: int, payload: bytes) -> bytes:
    """The directory record of a section."""
    return bytes([kind]) + f.varint(len(payload)) + zlib.crc32(payload).to_bytes(4, "little")


def ans_record(
    payload: bytes = b"\x50",
    *,
    kind: int = 1,
    element: int = 0,
    shape: tuple[int, ...] = (2,),
    step: float = 1.0,
    lo: int = 3,
    symbols: int = 2,
    decoded_crc: int | None = None,
    rank: int | None = None,
) -> bytes:
    """The directory record of a hostile file, any field free."""
    if decoded_crc is None and math.prod(shape) > 1 << 20:
        decoded_crc = 0  # refused before anyone decodes
    if decoded_crc is None:
        decoded_crc = zlib.crc32(np.full(math.prod(shape), np.float32(step) * np.float32(lo), "<f4").tobytes())
    out = section_record(kind, payload) + bytes([element << 4 | (len(shape) if rank is None else rank)])
    out += b"".join(f.varint(dim) for dim in shape)
    if kind == 0:
        return out
    grid = struct.pack("<f", step) + f.varint(f.zigzag(lo)) + f.varint(symbols - 1)
    return out + grid + decoded_crc.to_bytes(4, "little")


def one(payload: bytes = b"\x50", **fields: object) -> bytes:
    """A sealed file with one record."""
    return seal(ans_record(payload, **fields), 1, payload)  # type: ignore[arg-type]


def names(content: bytes, tensors: int = 1) -> bytes:
    """A sealed file of some equal tensors and a section of plain names."""
    directory = ans_record() * tensors + section_record(18, content)
    return seal(directory, tensors + 1, b"\x50" * tensors + content)


def test_the_hostile_template_is_itself_valid() -> None:
    container = reader.parse(one())
    assert container.decode_python(container.tensors[0]).tolist() == [3.0, 3.0]
    assert container.tensors[0].name == "#0"
    assert [record.name for record in reader.parse(names(b"\1a\2bc", 2)).tensors] == ["a", "bc"]


metadata = writer.metadata_section({})
HOSTILE = {
    "not a cwb": (b"PK\3\4" + bytes(60), "wrong magic"),
    "empty": (b"", "wrong magic"),
    "too new": (seal(b"", 0, version=1), "too new"),
    "unknown flag": (seal(b"", 0, flags=1), "too new"),
    "size too small": (seal(b"", 0, size=5), "truncated or extended"),
    "more records than directory": (seal(b"", 3), "cut short"),
    "2^32 records": (seal(b"", 2**32 - 1), "the format allows 16384"),
    "16385 records": (seal(b"", 16385), "the format allows 16384"),
    "fewer records than directory": (seal(ans_record() * 2, 1, b"\x50" * 2), "do not fill"),
    "payload missing": (seal(ans_record(), 1), "do not fill"),
    "payload left over": (seal(ans_record(), 1, b"\x50zz"), "do not fill"),
    "unknown kind": (one(kind=3), "kind 3 is unknown"),
    "unknown critical section": (seal(section_record(20, b"x"), 1, b"x"), "kind 20 is unknown"),
    "last critical section": (seal(section_record(127, b"x"), 1, b"x"), "kind 127 is unknown"),
    "kind 255": (seal(section_record(255, b"x"), 1, b"x"), "kind 255 is unknown"),
    "ancillary section damaged": (seal(section_record(200, b"x"), 1, b"y"), "ancillary_200 section: payload CRC"),
    "ancillary section twice": (seal(section_record(200, b"x") * 2, 2, b"xx"), "section 200 follows 200"),
    "tensor after ancillary section": (
        seal(section_record(200, b"x") + ans_record(), 2, b"x\x50"),
        "follows a section",
    ),
    "margins cut short": (seal(ans_record() + section_record(128, b""), 2, b"\x50"), "cut short"),
    "margins left over": (
        seal(ans_record() + section_record(128, b"\0\0"), 2, b"\x50\0\0"),
        "more margins than coded tensors",
    ),
    "adaptive, unknown variant": (one(kind=2, element=8), "variant 8 is unknown"),
    "unknown variant": (one(element=12, shape=(1, 1, 1)), "variant 12 is unknown"),
    "last two axes of two swapped": (one(element=3, shape=(2, 1)), "rank 2 is too low for order 3"),
    "axis 1 last of two": (one(element=1, shape=(2, 1)), "rank 2 is too low for order 1"),
    "axis 0 last of one": (one(element=2), "rank 1 is too low for order 2"),
    "adaptive, nothing": (one(b"", kind=2), "no header"),
    "adaptive, zero digit": (one(b"\x38\x01\0\0", kind=2), "the last is 0"),
    "adaptive, half a digit": (one(b"\x38\x01\1", kind=2), "not a whole number of digits"),
    "adaptive, symbol out of range": (one(b"\x00\0\xff\xff\xff\xff", kind=2), "not in 3..4"),
    "adaptive, digits left over": (one(b"\x38\7" + b"\xff" * 10, kind=2, lo=0), "does not end"),
    "adaptive, longest escape": (one(b"\xff\x1f" + b"\0" * 40 + b"\1\0", kind=2, lo=0, symbols=4096), "not in"),
    "unknown element": (one(b"", kind=0, element=4), "element type or variant 4"),
    "rank 9": (one(shape=(1,) * 9), "rank 9"),
    "rank beyond the record": (one(rank=8), "elements of shape|shortest form|cut short"),
    "2^31 elements": (one(shape=(2**16, 2**15)), "elements of shape"),
    "elements overflow 64 bits": (one(shape=(2**32 - 1,) * 8), "elements of shape"),
    "no elements": (one(shape=(0,)), "out of range"),
    "empty but huge": (one(b"", kind=0, shape=(0, 2**16, 2**15)), "elements of shape"),
    "dimension of 33 bits": (one(shape=(2**32,)), "shortest form or exceeds 32 bits"),
    "dimension with a needless byte": (
        seal(ans_record().replace(b"\1\2\0\0\x80\x3f", b"\1\x82\0\0\0\x80\x3f"), 1, b"\x50"),
        "shortest form",
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
    "names plain and packed": (
        seal(ans_record() + section_record(18, b"\1w") + section_record(19, b""), 3, b"\x50\1w"),
        "two sections of names",
    ),
    "step 0": (one(step=0.0), "out of range"),
    "step negative": (one(step=-1.0), "out of range"),
    "step NaN": (one(step=math.nan, decoded_crc=0), "out of range"),
    "step infinite": (one(step=math.inf, decoded_crc=0), "out of range"),
    "too many symbols": (one(symbols=4097), "out of range"),
    "symbol below int16": (one(lo=-32769), "out of range"),
    "symbol above int16": (one(lo=32768), "out of range"),
    "raw size": (one(kind=0), "payload of 1 bytes for 2 elements"),
    "table cut short": (one(b"\xf0"), "cut short"),
    "table's level out of range": (one(b"\xf0\xff\xff\xff\xff\0"), "is not in 0..12"),
    "table begins with level 0": (one(b"\x40"), "first or last level"),
    "table's bits left over": (one(b"\xd0\x81"), "last byte's bits"),
    "words for one symbol": (one(b"\1\0\0\0", symbols=1), "does not end"),
    "first word 0": (one(b"\x50\0\0\1\0"), "does not end"),
    "stream does not end": (one(b"\x50\1\2\3\4\5\6\7\x08\x09\1\2\3"), "does not end"),
    "decoded CRC": (one(decoded_crc=1), "decoded values"),
    "tensor after section": (
        seal(metadata.record.to_bytes() + ans_record(), 2, metadata.payload + b"\x50"),
        "follows a section",
    ),
    "two metadata sections": (seal(metadata.record.to_bytes() * 2, 2, metadata.payload * 2), "section 17 follows 17"),
    "metadata is a list": (writer.assemble([writer.packed_section(f.Kind.METADATA, b"[]")]), "not a JSON object"),
    "metadata is not JSON": (writer.assemble([writer.packed_section(f.Kind.METADATA, b"{")]), "not a JSON object"),
    "metadata is not UTF-8": (writer.assemble([writer.packed_section(f.Kind.METADATA, b"\xff")]), "not a JSON object"),
    "metadata is deep": (
        writer.assemble([writer.packed_section(f.Kind.METADATA, b"[" * 100_000)]),
        "not a JSON object",
    ),
    "deflate stream cut short": (
        seal(section_record(16, metadata.payload[:1]), 1, metadata.payload[:1]),
        "graph section",
    ),
    "deflate stream is noise": (seal(section_record(16, b"\xff" * 4), 1, b"\xff" * 4), "section"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(case: str) -> None:
    data, message = HOSTILE[case]
    with pytest.raises(CorruptFileError, match=message):
        decode_everything(data)


ONLY_IN_PYTHON = (
    "metadata",
    "deflate",
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
    values = np.zeros((1,) * 9, dtype=np.float32)
    with pytest.raises(ModelError, match="exceeds the format"):
        writer.encode_tensor(writer.RawTensor("w", f.ElementType.FLOAT32, values))
    for name in ("", "a\0b", "n" * 1025):
        with pytest.raises(ModelError, match="tensor name"):
            writer.encode_tensor(writer.RawTensor(name, f.ElementType.FLOAT32, values[0]))
    with pytest.raises(ModelError, match="exceed the format"):
        writer.encode_tensor(writer.CodedTensor("w", quantized(np.array([0, 4096]))))
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
    """The file is written by ``python -m tests.golden`` while the format is a draft (docs/format.md)."""
    container = reader.read(GOLDEN / "draft0.cwb")
    expected = np.load(GOLDEN / "draft0.npz")
    assert sorted(expected.files) == sorted(record.name for record in container.tensors)
    for record in container.tensors:
        assert container.decode_python(record).tobytes() == expected[record.name].tobytes()
        assert container.decode(record).tobytes() == expected[record.name].tobytes()
    assert container.metadata() == {"tool": "golden", "lambda": 0.25}
    assert container.section(f.Kind.GRAPH) == b"golden graph"


def test_golden_tensors_are_what_the_writer_writes() -> None:
    """Coded tensors are the same bytes on every machine; sections are not compared, zlib builds differ."""
    from .golden.__main__ import golden_file

    now, then = reader.parse(golden_file()[0]), reader.read(GOLDEN / "draft0.cwb")
    assert len(now.tensors) == 19
    assert [now.payload(r) for r in now.tensors] == [then.payload(r) for r in then.tensors]
