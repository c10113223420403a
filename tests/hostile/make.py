"""The hostile files, byte by byte: no compressor and no encoder is involved, so they are the same everywhere."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAGIC = b"\x89CWB\r\n\x1a\n"
RAW, ANS, ADAPTIVE, GRAPH, METADATA, NAMES, PACKED_NAMES, MARGINS = 0, 1, 2, 16, 17, 18, 19, 128


@dataclass(frozen=True)
class Case:
    """A file: what it attacks, the error of the C decoder (CWB_ERR_...), what CorruptFileError says in Python.

    "OK" where a reader has nothing to object to, and the attack must come to nothing in another way.
    """

    name: str
    attack: str
    data: bytes
    c: str
    python: str


def varint(value: int) -> bytes:
    """LEB128 in its shortest form."""
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def record(kind: int, payload: bytes, fields: bytes = b"", *, size: int | None = None) -> tuple[bytes, bytes]:
    """A record and its payload; ``fields`` is what follows the payload's CRC."""
    length = varint(len(payload) if size is None else size)
    return bytes([kind]) + length + struct.pack("<I", zlib.crc32(payload)) + fields, payload


def coded(
    payload: bytes = b"\x50",
    dims: Sequence[int] = (2,),
    *,
    kind: int = ANS,
    lo: int = 3,
    symbols: int = 2,
    step: float = 1.0,
    run: int | None = None,
    crc: int | None = None,
) -> tuple[bytes, bytes]:
    """A coded tensor; as it stands, two elements that are both 3 * 1.0."""
    count = 1
    for dim in dims:
        count *= dim
    if crc is None:
        crc = zlib.crc32(struct.pack("<f", step * lo) * count) if count < 1000 else 0
    fields = bytes([(run is not None) << 6 | len(dims)]) + b"".join(map(varint, dims)) + struct.pack("<f", step)
    fields += varint(2 * lo if lo >= 0 else -2 * lo - 1) + varint(symbols - 1)
    fields += (b"" if run is None else varint(run)) + struct.pack("<I", crc)
    return record(kind, payload, fields)


def raw(dims: Sequence[int], payload: bytes) -> tuple[bytes, bytes]:
    """A float32 tensor."""
    return record(RAW, payload, bytes([len(dims)]) + b"".join(map(varint, dims)))


def seal(
    *records: tuple[bytes, bytes],
    version: int = 0,
    count: int | None = None,
    directory_size: int | None = None,
    size: int | None = None,
) -> bytes:
    """A file with right CRCs around whatever is inside."""
    directory = b"".join(head for head, _ in records)
    body = directory + b"".join(payload for _, payload in records)
    header = MAGIC + struct.pack(
        "<HHIIII",
        version,
        0,
        len(records) if count is None else count,
        len(directory) if directory_size is None else directory_size,
        32 + len(body) if size is None else size,
        zlib.crc32(directory),
    )
    return header + struct.pack("<I", zlib.crc32(header)) + body


def stored(content: bytes) -> bytes:
    """A deflate stream that compresses nothing."""
    pieces = [content[i : i + 65535] for i in range(0, len(content), 65535)] or [b""]
    return b"".join(
        bytes([piece is pieces[-1]]) + struct.pack("<HH", len(piece), len(piece) ^ 0xFFFF) + piece for piece in pieces
    )


def repeated(before: bytes, byte: int, times: int, after: bytes = b"") -> bytes:
    """A deflate stream, with fixed codes, of bytes below 144: ``byte`` stands there 1 + ``times`` (258 n) times."""
    bits = ["1" + "10"]  # the last block, of fixed codes; each number lowest bit first, each code highest bit first
    bits += [f"{0x30 + c:08b}" for c in (*before, byte)]
    bits += ["11000101" + "00000"] * (times // 258)  # 258 bytes from one byte back
    bits += [f"{0x30 + c:08b}" for c in after] + ["0" * 7]
    text = "".join(bits)
    return int(text[::-1], 2).to_bytes((len(text) + 7) // 8, "little")


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def graph(*fields: bytes) -> bytes:
    """A model whose graph consists of these fields."""
    return b"\x08\x08" + field(7, b"".join(fields)) + field(8, b"\x10\x11")


def nested(depth: int) -> bytes:
    """Graphs in attributes of nodes of graphs, ``depth`` times."""
    content = b""
    for _ in range(depth):
        content = field(1, field(4, b"Loop") + field(5, field(1, b"g") + field(6, content)))
    return content


def packed_graph(content: bytes) -> tuple[bytes, bytes]:
    """A graph section."""
    return record(GRAPH, stored(content))


def cases() -> Iterator[Case]:
    """All of them, in the order of their numbers."""
    good = coded()
    yield Case("size-4g", "header: a file of 4 GiB", seal(good, size=2**32 - 1), "TRUNCATED", "truncated or extended")
    yield Case("version", "header: a later format", seal(version=1), "VERSION", "too new")
    yield Case(
        "records-4g", "header: 2^32 - 1 records", seal(good, count=2**32 - 1), "DIRECTORY", "the format allows 16384"
    )
    yield Case(
        "directory-4g", "header: a directory of 4 GiB", seal(good, directory_size=2**32 - 1), "LAYOUT", "cut short"
    )
    yield Case(
        "sizes-wrap",
        "payload sizes that add up to the file's modulo 2^32",
        seal(record(GRAPH, b"x" * 8, size=2**31 + 4), record(METADATA, b"", size=2**31 + 4)),
        "LAYOUT",
        "do not fill",
    )
    yield Case("kind", "a kind of tensor that nobody defined", seal(record(15, b"")), "VERSION", "kind 15 is unknown")
    yield Case(
        "critical", "a critical section that nobody knows", seal(record(100, b"")), "VERSION", "kind 100 is unknown"
    )
    yield Case(
        "varint-long",
        "a number in more bytes than it needs",
        seal((good[0].replace(b"\1\2\0\0", b"\1\x82\0\0\0"), good[1])),
        "DIRECTORY",
        "shortest form",
    )
    yield Case("varint-33", "a number of 33 bits", seal(coded(dims=(2**32,))), "DIRECTORY", "exceeds 32 bits")
    yield Case("rank-15", "more dimensions than a reader keeps", seal(coded(dims=(1,) * 15)), "SHAPE", "rank 15")
    yield Case("elements-2-31", "2^31 elements", seal(coded(dims=(2**16, 2**15))), "SHAPE", "exceed 2147483647")
    yield Case("elements-wrap", "2^64 elements: 0 in 64 bits", seal(coded(dims=(2**16,) * 4)), "SHAPE", "exceed")
    yield Case("raw-wrap", "2^30 floats, 0 bytes in 32 bits", seal(raw((2**30,), b"")), "SHAPE", "payload of 0 bytes")
    yield Case(
        "ans-2g",
        "27 bytes of directory declare 8 GiB of one symbol",
        seal(coded(b"", (2**31 - 1,), symbols=1)),
        "SPACE",
        "exceed",
    )
    yield Case(
        "adaptive-2g",
        "2 bytes of payload decode to 2^31 - 1 elements",
        seal(coded(b"\0\0", (2**31 - 1,), kind=ADAPTIVE, lo=0)),
        "SPACE",
        "exceed",
    )
    yield Case("step-nan", "a step that is no number", seal(coded(step=float("nan"))), "GRID", "out of range")
    yield Case("symbols-4097", "a table beyond the scratch memory", seal(coded(symbols=4097)), "GRID", "out of range")
    yield Case("symbols-int16", "symbols beyond int16", seal(coded(lo=32767)), "GRID", "out of range")
    yield Case("run-0", "division by a run of 0", seal(coded(run=0)), "GRID", "run")
    yield Case("run-3", "a run that leaves a rest", seal(coded(run=3)), "GRID", "run")
    yield Case("table-ones", "a level in unary without end", seal(coded(b"\xf0" + b"\xff" * 300)), "TABLE", "level")
    yield Case("table-cut", "a table of 4096 symbols in one byte", seal(coded(symbols=4096)), "TABLE", "cut short")
    yield Case(
        "words-left", "words that no symbol needs", seal(coded(b"\x50" + b"\1\2" * 20)), "STREAM", "does not end"
    )
    yield Case(
        "escape",
        "the longest escape code, for a magnitude of 65546",
        seal(coded(b"\xff\x1f" + bytes(40) + b"\1\0", kind=ADAPTIVE, lo=0, symbols=4096)),
        "STREAM",
        "not in 0..4095",
    )
    yield Case(
        "trellis-0",
        "negative indices on a trellis whose smallest is 0",
        seal(coded(bytes.fromhex("5594aa6b5d0a"), (20,), kind=ADAPTIVE, lo=0, symbols=13, run=10)),
        "STREAM",
        "not in 0..12",
    )
    yield Case("values", "other values behind a right payload CRC", seal(coded(crc=1)), "DECODED_CRC", "decoded values")
    yield Case(
        "name-4g", "a name of 2^32 - 1 bytes", seal(good, record(NAMES, varint(2**32 - 1) + b"w")), "NAME", "a name of"
    )
    yield Case(
        "name-end",
        "a name beyond its section",
        seal(good, record(NAMES, b"\3w"), record(200, b"xy")),
        "NAME",
        "cut short",
    )
    yield Case("name-nul", "a name that ends early for C strings", seal(good, record(NAMES, b"\3a\0b")), "OK", "NUL")
    yield Case(
        "name-twice",
        "two tensors of one name",
        seal(good, good, record(NAMES, b"\1w\1w")),
        "OK",
        "two tensors are named",
    )
    yield Case(
        "names-many",
        "4000 tensors whose names differ in the last byte only",
        seal(*[raw((0,), b"")] * 4000, record(NAMES, b"".join(b"\x20" + f"{i:032d}".encode() for i in range(4000)))),
        "OK",
        "OK",
    )
    yield Case(
        "margins-cut", "margins for fewer tensors", seal(good, record(MARGINS, b"")), "OK", "margins section: cut short"
    )
    yield Case(
        "margin-0",
        "a margin that leaves no room for the payload in a buffer of n + margin bytes",
        seal(coded(b"\1" * 4097), record(MARGINS, b"\0")),
        "TABLE",
        "cannot have the margin 0",
    )
    yield Case(
        "margin-4g",
        "a margin with which n + margin is small in 32 bits",
        seal(good, record(MARGINS, varint(2**32 - 1))),
        "OK",
        "cannot have the margin 4294967295",
    )
    yield Case(
        "section-crc",
        "an ancillary section damaged",
        seal(record(200, b"x"))[:-1] + b"y",
        "PAYLOAD_CRC",
        "payload CRC mismatch",
    )
    yield Case(
        "names-bomb",
        "20 KiB of packed names inflate to 3 MB",
        seal(good, record(PACKED_NAMES, repeated(b"\1", 97, 258 * 12_000))),
        "OK",
        "names",
    )
    yield Case(
        "metadata-deep",
        "3 MB of opening brackets in 20 KiB",
        seal(record(METADATA, repeated(b"", 91, 258 * 12_000))),
        "OK",
        "metadata",
    )
    yield Case(
        "metadata-digits",
        "a number of 3 million digits: quadratic to convert",
        seal(record(METADATA, repeated(b'{"params":', 49, 258 * 12_000, b"}"))),
        "OK",
        "metadata",
    )
    yield Case(
        "deflate-cut", "a deflate stream without end", seal(record(METADATA, b"\0\5\0\xfa\xff{}")), "OK", "does not end"
    )
    yield Case(
        "graph-deep",
        "5000 graphs within each other",
        seal(packed_graph(graph(nested(5000)))),
        "OK",
        "not an ONNX model",
    )
    outside = field(13, field(1, b"location") + field(2, b"/etc/hostname")) + b"\x70\1"
    yield Case(
        "graph-external",
        "a tensor that names a file of the reader's machine",
        seal(packed_graph(graph(field(5, b"\x08\2\x10\1" + field(8, b"w") + outside)))),
        "OK",
        "outside the file",
    )
    yield Case(
        "section-order",
        "a graph behind the names",
        seal(good, record(NAMES, b"\1w"), packed_graph(b"")),
        "DIRECTORY",
        "not in ascending order",
    )
    yield Case(
        "graph-placeholders",
        "two placeholders for one tensor",
        seal(good, packed_graph(graph(*[field(5, b"\x70\1")] * 2)), record(NAMES, b"\1w")),
        "OK",
        "2 placeholders for 1 tensors",
    )
    yield Case(
        "graph-reference",
        "a reference to a name that is not there",
        seal(packed_graph(graph(field(1, field(1, b"99") + field(2, b"0") + field(4, b"Relu"))))),
        "OK",
        "refers to a name it has not",
    )
    chain = b"".join(field(1, field(4, b"Relu") + field(2, b"'input_0" + b"_" * i)) for i in range(400))
    uses = field(1, field(4, b"Sum") + field(1, b"0") + field(1, b"1") * 4000)
    yield Case(
        "graph-names",
        "invented names that collide with 400 others, 4000 times",
        seal(packed_graph(graph(chain, uses))),
        "OK",
        "OK",
    )
