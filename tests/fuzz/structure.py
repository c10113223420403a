"""Damage with a knowledge of the format: mutants of every kind of section, one or two fields changed at a time.

A mutant is a file without its CRCs. verdicts.c makes them right, so that readers look at what is inside. The number of
a mutant determines it.
"""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import onnx

from cerwu_onnx.container.dictionary import deflate
from cerwu_onnx.container.packed import pack, unpack

from ..spec import container as spec
from . import wire

EDGES = (
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    31,
    32,
    64,
    127,
    128,
    255,
    1023,
    1024,
    2047,
    2048,
    4096,
    16384,
    2**29,
    2**31 - 1,
    2**32 - 1,
)


@dataclass
class Part:
    """A record and its payload. ``numbers`` are the fields behind the CRC: how many bytes each has (0: a varint), and
    its value; ``size`` is what the record says of the payload, the truth if None; ``stepped`` if it has exponents;
    ``version`` is that of the file it comes from."""

    head: int
    payload: bytes
    numbers: list[tuple[int, int]] = field(default_factory=list)
    size: int | None = None
    long_form: bool = False
    stepped: bool = False
    version: int = 2

    @property
    def content(self) -> bytes:
        """What is packed in a graph or in metadata."""
        return spec.inflate(self.payload) if self.version == 1 else unpack(self.payload, 1 << 22)

    def hold(self, content: bytes) -> None:
        """Pack another content."""
        self.payload = (deflate if self.version == 1 else pack)(content)


@dataclass
class Mutant:
    """A file: ``sealed`` if its CRCs are to be made right before it is read."""

    target: str
    data: bytes
    sealed: bool = True


def parts_of(data: bytes) -> list[Part]:
    """The records of a sound file."""
    file, found = spec.read(data), []
    for record in file.records:
        numbers = [(0, dim) for dim in record.dims]
        if record.is_coded:
            bits = struct.unpack("<I", struct.pack("<f", record.step))[0]
            numbers += [(1, 0), (4, bits), (0, record.largest)]
        found.append(Part(record.head, record.payload, numbers, stepped=record.stepped, version=file.version))
    return found


def copied(part: Part) -> Part:
    return replace(part, numbers=list(part.numbers))


def varint(value: int, *, long_form: bool = False) -> bytes:
    """LEB128; in the long form it has a byte more than it needs."""
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + (bytes([value | 128, 0]) if long_form else bytes([value]))


def assembled(parts: Sequence[Part]) -> bytes:
    """The file of these records; its CRCs are 0 but for the header's."""
    directory = b""
    for part in parts:
        size = len(part.payload) if part.size is None else part.size
        directory += b"\x3e" * part.stepped + bytes([part.head]) + varint(size, long_form=part.long_form) + bytes(4)
        for width, value in part.numbers:
            directory += value.to_bytes(width, "little") if width else varint(value)
    body = b"".join(part.payload for part in parts)
    version, size = parts[0].version if parts else 2, 20 + len(directory) + len(body)
    header = struct.pack("<4sHHII", b"\x89CWB", version, len(parts), len(directory), size)
    return header + struct.pack("<I", zlib.crc32(header + directory)) + directory + body


def edge(rng: random.Random, value: int, bits: int = 32) -> int:
    """Another number: near by, a bit away, small, or at some edge."""
    choices = (
        lambda: value + rng.choice((-2, -1, 1, 2)),
        lambda: value ^ 1 << rng.randrange(bits),
        lambda: rng.randrange(256),
        lambda: rng.choice(EDGES) + rng.choice((-1, 0, 1)),
    )
    return rng.choice(choices)() % 2**bits


def hurt(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, taken out, put in or moved."""
    out = bytearray(content)
    at, length = rng.randrange(len(out) + 1), rng.randint(1, 4)
    choice = rng.randrange(6)
    if choice == 0:
        del out[at : at + length]
    elif choice == 1:
        out[at:at] = rng.choice((rng.randbytes(length), bytes(length), b"\xff" * length))
    elif choice == 2:
        start = rng.randrange(len(out) + 1)
        out[at:at] = out[start : start + length]
    elif at < len(out):
        out[at] = rng.choice((rng.randrange(256), out[at] ^ 1 << rng.randrange(8)))
    return bytes(out)


# ---- targets: each takes the records of a file and changes them ----------------------------------------------------


def directory(parts: list[Part], rng: random.Random) -> None:
    """A field of a record, or a record as a whole."""
    i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
    part = parts[i]
    choice = rng.randrange(10)
    if choice == 0:
        parts[i], parts[j] = parts[j], part
    elif choice == 1:
        parts.insert(j, copied(part))
    elif choice == 2:
        del parts[i]
    elif choice == 3:
        part.head = rng.choice((part.head ^ 1 << rng.randrange(8), rng.randrange(256)))
    elif choice == 4:
        part.size = edge(rng, len(part.payload))
    elif choice == 5 and rng.random() < 0.5:
        part.long_form = True
    elif choice == 5:
        part.stepped = not part.stepped
    elif part.numbers:
        k = rng.randrange(len(part.numbers))
        width, value = part.numbers[k]
        part.numbers[k] = width, edge(rng, value, 8 * width or 32)


def step(parts: list[Part], rng: random.Random) -> None:
    """The step of a coded tensor: short, long, at the edges of what is allowed."""
    numbers = pick(parts, rng, lambda part: part.head >= 128).numbers
    if rng.random() < 0.5:
        numbers[-3:-1] = [(1, rng.randrange(1, 256))]
    else:
        edges = (0x00800000, 0x007FFFFF, 0x7A000000, 0x79FFFFFF, 0x7F800000, 0x7FC00000, 0, 0x80000000 | 0x3F800000)
        numbers[-3:-1] = [(1, 0), (4, rng.choice((*edges, rng.randrange(2**32))))]


def ans(parts: list[Part], rng: random.Random) -> None:
    """Table or words of an ANS payload, or R."""
    coded(pick(parts, rng, lambda part: 128 <= part.head < 192), rng, [(0, 2), (2, 2)])


def adaptive(parts: list[Part], rng: random.Random) -> None:
    """A field of the header of an adaptive payload, its code, or R."""
    fields = [(7, 1), (6, 1), (2, 4), (9, 1), (8 + 7, 1), (0, 2), (8 + 4, 3), (8, 4), (16, 4), (20, 4)]
    coded(pick(parts, rng, lambda part: part.head >= 192), rng, fields)


def coded(part: Part, rng: random.Random, fields: Sequence[tuple[int, int]]) -> None:
    """``fields`` of the payload: the first bit, lowest first in each byte, and how many."""
    choice = rng.randrange(4)
    bits = int.from_bytes(part.payload, "little")
    if choice == 0:
        part.numbers[-1] = (0, edge(rng, part.numbers[-1][1], 12))
    elif choice == 1:
        at, width = rng.choice(fields)
        mask = (1 << width) - 1 << at
        bits = bits & ~mask | rng.getrandbits(width) << at
        part.payload = bits.to_bytes(max(len(part.payload), 3), "little")
    elif choice == 2 and part.payload:  # mostly where tables are
        at = int(8 * len(part.payload) * rng.random() ** 2)
        part.payload = (bits ^ 1 << at).to_bytes(len(part.payload), "little")
    else:
        part.payload = hurt(part.payload, rng)


def raw(parts: list[Part], rng: random.Random) -> None:
    """Elements of a raw tensor: any are right."""
    part = pick(parts, rng, lambda part: part.head < 32)
    part.payload = bytes(byte ^ rng.getrandbits(8) for byte in part.payload)


def names(parts: list[Part], rng: random.Random) -> None:
    """Lengths and bytes of names."""
    part = pick(parts, rng, lambda part: part.head == spec.NAMES)
    part.payload = changed_names(part.payload, sum(p.head < 32 or p.head >= 128 for p in parts), rng)


def changed_names(content: bytes, count: int, rng: random.Random) -> bytes:
    source = spec.Bytes(content)
    found = [source.take(source.varint()) for _ in range(count)]
    rest = content[source.at :]
    i = rng.randrange(count)
    choice = rng.randrange(5)
    if choice == 0:
        found[i] = hurt(found[i], rng)
    elif choice == 1:
        found[i] = rng.choice((b"", b"a\0b", b"\xff", "ü€".encode(), found[i - 1], b"n" * 1024, b"n" * 1025))
    elif choice == 2:
        del found[i]
    elif choice == 3:
        found.append(b"more")
    lengths = [len(name) for name in found]
    if choice == 4:
        lengths[i] = edge(rng, lengths[i])
    return b"".join(varint(n) + name for n, name in zip(lengths, found, strict=True)) + rest


def margins(parts: list[Part], rng: random.Random) -> None:
    """Margins, near those that are allowed."""
    part = pick(parts, rng, lambda part: part.head == spec.MARGINS)
    source, found = spec.Bytes(part.payload), []
    while source.at < len(part.payload):
        found.append(source.varint())
    tensors = [p for p in parts if p.head >= 128]
    i = rng.randrange(len(found))
    size = len(tensors[i % len(tensors)].payload)
    choice = rng.randrange(4)
    if choice == 0:
        found[i] = edge(rng, found[i])
    elif choice == 1:
        found[i] = max(0, size + rng.choice((-1, 0, 1)))
    elif choice == 2:
        del found[i]
    else:
        found.append(size)
    part.payload = b"".join(map(varint, found))


def other(parts: list[Part], rng: random.Random) -> None:
    """A section that nobody knows, where it belongs or anywhere."""
    head = rng.randrange(32, 128)
    at = next((i for i, part in enumerate(parts) if head <= part.head < 128), len(parts))
    parts.insert(
        at if rng.random() < 0.8 else rng.randrange(len(parts) + 1), Part(head, rng.randbytes(rng.randrange(9)))
    )


def stream(parts: list[Part], rng: random.Random) -> None:
    """The packed bytes of graph or metadata."""
    part = pick(parts, rng, lambda part: part.head in (spec.GRAPH, spec.METADATA))
    part.payload = hurt(part.payload, rng)


def metadata(parts: list[Part], rng: random.Random) -> None:
    """The text of the metadata."""
    part = pick(parts, rng, lambda part: part.head == spec.METADATA)
    content = part.content
    if rng.random() < 0.3:
        values = (0, None, [], {}, [[]] * 3, "x", -1e308, True, "ffff", {"a": {"b": [1, 2]}})
        content = json.dumps(
            rng.choice((values[0], {"params": rng.choice(values), "tool": rng.choice(values)}))
        ).encode()
    part.hold(hurt(content, rng) if rng.random() < 0.7 else content)


def graph(parts: list[Part], rng: random.Random) -> None:
    """Fields of the messages in the graph, or the names in front of them."""
    part = pick(parts, rng, lambda part: part.head == spec.GRAPH)
    content = part.content
    count = sum(p.head < 32 or p.head >= 128 for p in parts)
    names = b""
    if not any(p.head == spec.NAMES for p in parts):
        if rng.random() < 0.1:
            part.hold(changed_names(content, count, rng))
            return
        source = spec.Bytes(content)
        spec.read_names(source, count)
        names, content = content[: source.at], content[source.at :]
    message = wire.parsed(content, onnx.ModelProto.DESCRIPTOR)
    for _ in range(rng.randint(1, 2)):
        wire.change(message, rng)
    part.hold(names + message.to_bytes())


def pick(parts: list[Part], rng: random.Random, wanted: Callable[[Part], bool]) -> Part:
    """One of the wanted records."""
    return rng.choice([part for part in parts if wanted(part)])


TARGETS: dict[str, Callable[[list[Part], random.Random], None]] = {
    "directory": directory,
    "step": step,
    "ANS payload": ans,
    "adaptive payload": adaptive,
    "raw payload": raw,
    "names": names,
    "margins": margins,
    "other section": other,
    "packed section": stream,
    "metadata": metadata,
    "graph": graph,
}
KINDS = ("header", *TARGETS)


def mutant(number: int, files: Sequence[Sequence[Part]]) -> Mutant:
    """Mutant ``number`` of some files, given as records."""
    rng = random.Random(number)
    target = KINDS[number % len(KINDS)]
    while True:
        parts = [copied(part) for part in files[rng.randrange(len(files))]]
        if target == "header":
            return header(parts, rng)
        try:
            TARGETS[target](parts, rng)
        except IndexError:  # a file without such a section
            continue
        if rng.random() < 0.1 and parts:
            directory(parts, rng)
        return Mutant(target, assembled(parts))


def header(parts: list[Part], rng: random.Random) -> Mutant:
    """A field of the header, its CRC included, which is right again in half of the others."""
    data = bytearray(assembled(parts))
    at, width = rng.choice(((0, 4), (4, 2), (6, 2), (8, 4), (12, 4), (16, 4)))
    value = int.from_bytes(data[at : at + width], "little")
    data[at : at + width] = edge(rng, value, 8 * width).to_bytes(width, "little")
    return Mutant("header", bytes(data), at != 16 and rng.random() < 0.5)
