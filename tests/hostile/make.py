"""The hostile files, byte by byte: no compressor and no encoder is involved, so they are the same everywhere."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAGIC = b"\x89CWB"
GRAPH, METADATA, NAMES, MARGINS = 32, 33, 34, 64
ANS, ADAPTIVE = 128, 192
"""First bytes of coded tensors, to which 8 times the form and the rank are added."""
TRELLIS = 3
"""The form of a row-major tensor whose runs are its last axis."""


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


def record(
    head: int,
    payload: bytes,
    fields: bytes = b"",
    *,
    size: int | None = None,
    values: bytes = b"",
    crc: int | None = None,
) -> tuple[bytes, bytes]:
    """A record and its payload; ``fields`` is what follows the CRC, which is that of the payload and ``values``."""
    length = varint(len(payload) if size is None else size)
    crc = zlib.crc32(payload + values) if crc is None else crc
    return bytes([head]) + length + struct.pack("<I", crc) + fields, payload


def coded(
    payload: bytes = b"\xf1\x04",
    dims: Sequence[int] = (2,),
    *,
    kind: int = ANS,
    form: int = 0,
    largest: int = 1,
    step: float = 1.0,
    crc: int | None = None,
) -> tuple[bytes, bytes]:
    """A coded tensor; as it stands, two elements that are both 1.0."""
    fields = b"".join(map(varint, dims)) + b"\0" + struct.pack("<f", step) + varint(largest)
    return record(kind + 8 * form + len(dims), payload, fields, values=b"\1\0" * 2, crc=crc)


def raw(dims: Sequence[int], payload: bytes) -> tuple[bytes, bytes]:
    """A float32 tensor."""
    return record(len(dims), payload, b"".join(map(varint, dims)))


def seal(
    *records: tuple[bytes, bytes],
    version: int = 2,
    count: int | None = None,
    directory_size: int | None = None,
    size: int | None = None,
) -> bytes:
    """A file with right CRCs around whatever is inside."""
    directory = b"".join(head for head, _ in records)
    body = directory + b"".join(payload for _, payload in records)
    header = MAGIC + struct.pack(
        "<HHII",
        version,
        len(records) if count is None else count,
        len(directory) if directory_size is None else directory_size,
        20 + len(body) if size is None else size,
    )
    return header + struct.pack("<I", zlib.crc32(header + directory)) + body


def stored(content: bytes) -> bytes:
    """A packed section that stores its content."""
    return b"\0" + content


def deflated(*parts: bytes | tuple[int, int]) -> bytes:
    """A deflate stream, with fixed codes, of these bytes; a part (n, d) is n times 258 bytes from d <= 4 bytes back."""
    bits = ["1" + "10"]  # the last block, of fixed codes; each number lowest bit first, each code highest bit first
    for part in parts:
        if isinstance(part, bytes):
            bits += [f"{0x30 + c:08b}" if c < 144 else f"{0x100 + c:09b}" for c in part]
        else:
            bits += ["11000101" + f"{part[1] - 1:05b}"] * part[0]
    text = "".join([*bits, "0" * 7])
    return int(text[::-1], 2).to_bytes((len(text) + 7) // 8, "little")


def repeated(before: bytes, byte: int, times: int, after: bytes = b"") -> bytes:
    """A deflate stream in which ``byte`` stands 1 + ``times`` (258 n) times."""
    return deflated(before, bytes([byte]), (times // 258, 1), after)


def empty_nodes(times: int) -> bytes:
    """A graph section of 1 + 129 ``times`` nodes without content, of two bytes each."""
    return deflated(b"\x3a" + varint(2 + 258 * times) + b"\x0a\0", (times, 2))


def copied_name(times: int, uses: int) -> bytes:
    """A graph section with an input's name of 1 + 258 ``times`` bytes, to which a node refers 1 + 86 ``uses`` times."""
    name, node = varint(1 + 258 * times), varint(3 + 258 * uses)
    value = varint(len(name) + 2 + 258 * times)
    inputs = b"\x5a" + value + b"\x0a" + name
    size = len(inputs) + 1 + 258 * times + 1 + len(node) + 3 + 258 * uses
    return deflated(b"\x3a" + varint(size) + inputs + b"a", (times, 1), b"\x0a" + node + b"\x0a\x011", (uses, 3))


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
    yield Case("version", "header: a later format", seal(version=3), "VERSION", "too new")
    yield Case(
        "records-64k", "header: 65535 records", seal(good, count=2**16 - 1), "DIRECTORY", "the format allows 16384"
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
    yield Case(
        "critical", "a critical section that nobody knows", seal(record(50, b"")), "VERSION", "section 50 is unknown"
    )
    yield Case(
        "varint-long",
        "a number in more bytes than it needs",
        seal((good[0].replace(b"\2\0\0\0\x80", b"\x82\0\0\0\0\x80"), good[1])),
        "DIRECTORY",
        "shortest form",
    )
    yield Case("varint-33", "a number of 33 bits", seal(coded(dims=(2**32,))), "DIRECTORY", "exceeds 32 bits")
    yield Case(
        "rank-2", "a matrix stored as if it had three axes", seal(coded(dims=(1, 2), form=1)), "SHAPE", "cannot have"
    )
    yield Case("elements-2-31", "2^31 elements", seal(coded(dims=(2**16, 2**15))), "SHAPE", "exceed 2147483647")
    yield Case("elements-wrap", "2^64 elements: 0 in 64 bits", seal(coded(dims=(2**16,) * 4)), "SHAPE", "exceed")
    yield Case("raw-wrap", "2^30 floats, 0 bytes in 32 bits", seal(raw((2**30,), b"")), "SHAPE", "payload of 0 bytes")
    yield Case(
        "ans-2g",
        "17 bytes of directory declare 8 GiB of one symbol",
        seal(coded(b"", (2**31 - 1,), largest=0)),
        "SPACE",
        "exceed",
    )
    yield Case(
        "adaptive-2g",
        "2 bytes of payload decode to 2^31 - 1 elements",
        seal(coded(b"\0\0", (2**31 - 1,), kind=ADAPTIVE)),
        "SPACE",
        "exceed",
    )
    yield Case("step-nan", "a step that is no number", seal(coded(step=float("nan"))), "GRID", "out of range")
    yield Case("step-tiny", "a step that some machines take for 0", seal(coded(step=2.0**-127)), "GRID", "out of range")
    yield Case("symbol-2048", "a table beyond the scratch memory", seal(coded(largest=2048)), "GRID", "out of range")
    yield Case(
        "index-2^31",
        "a largest index whose double is 0",
        seal(coded(form=TRELLIS, largest=2**31)),
        "GRID",
        "out of range",
    )
    yield Case("run-0", "division by a dimension of 0", seal(coded(dims=(0, 2), form=4)), "SHAPE", "cannot have")
    yield Case("table-ones", "a level in unary without end", seal(coded(b"\xf0" + b"\xff" * 300)), "TABLE", "level")
    yield Case("table-cut", "a table of 4095 symbols in two bytes", seal(coded(largest=2047)), "TABLE", "cut short")
    yield Case(
        "words-left", "words that no symbol needs", seal(coded(b"\xf1\x04" + b"\1\2" * 20)), "STREAM", "does not end"
    )
    yield Case(
        "escape",
        "the longest escape code, for a magnitude of 4106",
        seal(coded(b"\xff\x3f" + bytes(40) + b"\1", kind=ADAPTIVE, largest=2047)),
        "STREAM",
        "not in -2047..2047",
    )
    yield Case("values", "other symbols than were encoded", seal(coded(crc=1)), "PAYLOAD_CRC", "payload and values")
    yield Case(
        "name-4g", "a name of 2^32 - 1 bytes", seal(good, record(NAMES, varint(2**32 - 1) + b"w")), "NAME", "a name of"
    )
    yield Case(
        "name-end",
        "a name beyond its section",
        seal(good, record(NAMES, b"\3w"), record(100, b"xy")),
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
        "STREAM",
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
        seal(record(100, b"x"))[:-1] + b"y",
        "PAYLOAD_CRC",
        "payload CRC mismatch",
    )
    yield Case(
        "graph-bomb",
        "20 KiB of graph inflate to 3 MB",
        seal(good, record(GRAPH, repeated(b"\1", 97, 258 * 12_000)), version=1),
        "OK",
        "placeholders",
    )
    yield Case(
        "metadata-deep",
        "3 MB of opening brackets in 20 KiB",
        seal(record(METADATA, repeated(b"", 91, 258 * 12_000)), version=1),
        "OK",
        "metadata",
    )
    yield Case(
        "metadata-digits",
        "a number of 3 million digits: quadratic to convert",
        seal(record(METADATA, repeated(b'{"params":', 49, 258 * 12_000, b"}")), version=1),
        "OK",
        "metadata",
    )
    yield Case(
        "deflate-cut",
        "a deflate stream without end",
        seal(record(METADATA, b"\0\5\0\xfa\xff{}"), version=1),
        "OK",
        "does not end",
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
        "refers to a name that it does not have",
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
    yield Case(
        "graph-nodes",
        "516,001 empty nodes in 7 KB: gigabytes of messages if the file were larger",
        seal(record(GRAPH, empty_nodes(4000)), version=1),
        "OK",
        "fields",
    )
    yield Case(
        "names-copied",
        "a name of 51,601 bytes, and 1979 references to it: 102 MB",
        seal(record(GRAPH, copied_name(200, 23)), version=1),
        "OK",
        "names of the graph section exceed",
    )
    yield Case(
        "packed-bomb",
        "5 bytes that say they stand for 4 GB",
        seal(good, record(GRAPH, varint(2**32 - 1) + b"x")),
        "OK",
        "more than",
    )
    yield Case("packed-cut", "a packed section without content", seal(record(METADATA, b"\x20")), "OK", "metadata")
    yield Case(
        "packed-size", "a packed section that ends in its size", seal(record(METADATA, b"\x80")), "OK", "its size"
    )
    yield Case(
        "zeros",
        "16,000 tensors of 2^20 zeros each, for which 12 bytes of directory do",
        seal(*[coded(b"", (2**20,), largest=0)] * 16_000),
        "SPACE",
        "coded elements exceed",
    )
