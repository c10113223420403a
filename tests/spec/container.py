"""Header, directory, payloads, names, margins and packed sections of a file: the first half of docs/format.md."""

from __future__ import annotations

import ast
import base64
import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import coders, packed
from .refused import Refused, refuse_if

GRAPH, METADATA, NAMES, BASE, MARGINS = 32, 33, 34, 35, 64
UNCHANGED, CHANGED = 60, 61
ELEMENT_TYPES = {0: ("float32", 4), 1: ("float16", 2), 2: ("float64", 8), 3: ("bfloat16", 2)}
RANK_AT_LEAST = (0, 3, 2, 1, 1, 3, 2, 3)
MOST_ELEMENTS = 2**31 - 1


@dataclass
class Record:
    """A record of the directory with its payload; the fields from ``dims`` on are those of tensors."""

    head: int
    crc: int
    payload: bytes = b""
    size: int = 0
    dims: list[int] = field(default_factory=list)
    step: float = 0.0
    largest: int = 0
    stepped: bool = False

    @property
    def is_tensor(self) -> bool:
        return self.head < 32 or self.head >= 128 or self.head in (UNCHANGED, CHANGED)

    @property
    def is_coded(self) -> bool:
        return self.head >= 128

    @property
    def form(self) -> int:
        return self.head >> 3 & 7

    @property
    def rows(self) -> int:
        """How many there are of a tensor with exponents."""
        stored = stored_dims(self.form, self.dims)
        if self.form == 2:
            return stored[-1]
        return stored[0] if self.form in (4, 5) else self.elements // stored[-1]

    @property
    def elements(self) -> int:
        product = 1
        for dim in self.dims:
            product *= dim
        return product


class Bytes:
    """Bytes that are read from the beginning to the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        refuse_if(self.at + count > len(self.data), "cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 127) << shift
            refuse_if(value >= 2**32 or shift > 28, "a varint of more than 32 bits")
            if byte < 128:
                refuse_if(byte == 0 and shift > 0, "a varint that is not in its shortest form")
                return value
            shift += 7

    def end(self) -> None:
        refuse_if(self.at != len(self.data), "bytes left over")


@dataclass
class File:
    """What a file says. ``values`` reads tensors."""

    records: list[Record]
    version: int
    base: File | None = None

    @property
    def tensors(self) -> list[Record]:
        return [record for record in self.records if record.is_tensor]

    def section(self, head: int) -> bytes | None:
        """The payload of a section; None if there is none."""
        return next((record.payload for record in self.records if record.head == head), None)

    def names(self) -> list[str] | None:
        """The tensors' names; None for a file of nameless ones."""
        if self.base is not None:
            return self.base.names()
        section, graph = self.section(NAMES), self.section(GRAPH)
        if section is not None:
            source = Bytes(section)
            names = read_names(source, len(self.tensors))
            source.end()
            return names
        return None if graph is None else read_names(Bytes(self.unpacked(graph)), len(self.tensors))

    def margins(self) -> list[int] | None:
        """The margin of each coded tensor; None without the section."""
        section = self.section(MARGINS)
        if section is None:
            return None
        source, margins = Bytes(section), []
        for record in self.tensors:
            if record.is_coded:
                margin, size = source.varint(), len(record.payload)
                refuse_if(margin > size or margin < size - record.elements, "a margin that cannot be")
                margins.append(margin)
        source.end()
        return margins

    def unpacked(self, section: bytes, most: int = 2**31 - 1) -> bytes:
        """The content of the graph or metadata section."""
        return inflate(section, most) if self.version == 1 else packed.unpack(section, most)

    def metadata(self) -> dict[str, Any]:
        """The metadata, empty without the section."""
        section = self.section(METADATA)
        if section is None:
            return {}
        try:
            value = json.loads(self.unpacked(section, 2**20).decode())
        except (ValueError, RecursionError):
            raise Refused("metadata that are no JSON") from None
        refuse_if(not isinstance(value, dict), "metadata that are no object")
        return dict(value)

    def check(self) -> None:
        """All that a reader checks which checks the whole file, but for the tensors' values."""
        for record in self.records:
            if not record.is_coded and record.head not in (UNCHANGED, CHANGED):
                refuse_if(zlib.crc32(record.payload) != record.crc, "CRC of a payload")

    def symbols(self, record: Record) -> list[int]:
        """The values of a coded tensor's symbols in stored order; its CRC is checked."""
        if record.head in (UNCHANGED, CHANGED):
            assert self.base is not None
            before = self.base.symbols(self.in_base(record))
            if record.head == UNCHANGED:
                return before
            values = coders.decode_changes(record.payload, before, record.largest)
            other = self.in_base(record)
            exponents = other.payload[: coders.exponents(other.payload, other.rows)[1]] if other.stepped else b""
            content = record.payload + exponents + struct.pack(f"<{len(values)}h", *values)
            refuse_if(zlib.crc32(content) != record.crc, "CRC of changes, exponents and values")
            return values
        payload = record.payload
        if record.stepped:
            payload = payload[coders.exponents(payload, record.rows)[1] :]
        values = coders.decode(
            payload, record.head, stored_dims(record.form, record.dims), record.largest, self.version
        )
        content = record.payload + struct.pack(f"<{len(values)}h", *values)
        refuse_if(zlib.crc32(content) != record.crc, "CRC of payload and values")
        return values

    def in_base(self, record: Record) -> Record:
        """The record that says a tensor's dimensions, form, step and exponents: its own, or that of the base."""
        if record.head not in (UNCHANGED, CHANGED):
            return record
        assert self.base is not None
        return self.base.tensors[next(i for i, other in enumerate(self.tensors) if other is record)]

    def values(self, record: Record) -> list[float]:
        """The elements of a coded tensor in the order of the tensor, not yet rounded to float32."""
        symbols = self.symbols(record)
        record = self.in_base(record)
        stored: list[float] = [record.step * value for value in symbols]
        if record.stepped:
            exponents, _ = coders.exponents(record.payload, record.rows)
            run = record.elements // record.rows
            for i in range(len(stored)):
                stored[i] *= 2.0 ** -exponents[i % record.rows if record.form == 2 else i // run]
        return [stored[i] for i in places(record.form, record.dims)]


def read(data: bytes, base: bytes | None = None) -> File:
    """The header and the directory of a file, and where the payloads are. A delta is read with its base.

    Raises:
        Refused: A reader must refuse the file.
    """
    refuse_if(len(data) < 20, "too short for a header")
    magic, version, count, directory_size, file_size, crc = struct.unpack("<4sHHIII", data[:20])
    refuse_if(magic != b"\x89CWB", "not a .cwb")
    refuse_if(version not in (1, 2), "another version")
    refuse_if(20 + directory_size > len(data), "the directory exceeds the file")
    refuse_if(file_size != len(data), "another size")
    directory = data[20 : 20 + directory_size]
    refuse_if(zlib.crc32(data[:16] + directory) != crc, "CRC of the header and the directory")
    refuse_if(count > 16384, "too many records")
    source = Bytes(directory)
    records = [read_record(source, version) for _ in range(count)]
    source.end()
    last = -1
    for record in records:
        refuse_if(record.is_tensor and last >= 0, "a tensor behind a section")
        if not record.is_tensor:
            refuse_if(record.head <= last, "sections that do not ascend")
            known = (GRAPH, METADATA, NAMES) if version == 1 else (GRAPH, METADATA, NAMES, BASE)
            refuse_if(record.head < 64 and record.head not in known, "an unknown critical section")
            last = record.head
    at = 20 + directory_size
    for record in records:
        record.payload = data[at : at + record.size]
        at += record.size
    refuse_if(at != len(data), "payloads that do not fill the file")
    elements = sum(record.elements for record in records if record.is_coded)
    refuse_if(elements > 2**27 + 2**15 * len(data), "limit of coded elements")
    file = File(records, version)
    section = file.section(BASE)
    if section is None:
        refuse_if(base is not None, "no delta")
        refuse_if(any(record.head in (UNCHANGED, CHANGED) for record in records), "a delta's tensors in another file")
    else:
        refuse_if(len(section) != 8, "another size of the base section")
        refuse_if(base is None, "a delta without its base")
        assert base is not None
        file.base = read(base)
        refuse_if(struct.unpack("<II", section) != identity(base, file.base), "another base")
        check_delta(file, file.base)
    return file


def identity(data: bytes, file: File) -> tuple[int, int]:
    """What a delta says of its base: bytes of the tensors' records and payloads, and CRC of the records."""
    source = Bytes(data[20:])
    for _ in file.tensors:
        read_record(source, file.version)
    records = data[20 : 20 + source.at]
    return len(records) + sum(record.size for record in file.tensors), zlib.crc32(records)


def check_delta(file: File, base: File) -> None:
    """What a delta may say of the tensors of its base."""
    refuse_if(file.section(GRAPH) is not None or file.section(NAMES) is not None, "a delta with graph or names")
    refuse_if(len(file.tensors) != len(base.tensors), "another number of tensors")
    for record, other in zip(file.tensors, base.tensors, strict=True):
        if record.head == CHANGED:
            refuse_if(not other.is_coded, "changes of a raw tensor")
        elif record.head != UNCHANGED:
            types = [0 if one.is_coded else one.head >> 3 for one in (record, other)]
            refuse_if(record.dims != other.dims or types[0] != types[1], "another shape or type")


def read_record(source: Bytes, version: int) -> Record:
    head = source.u8()
    refuse_if(version == 1 and head in (UNCHANGED, CHANGED), "a delta's tensor in version 1")
    if head == UNCHANGED:
        return Record(head, 0)
    stepped = version > 1 and head == 62
    if stepped:
        head = source.u8()
        refuse_if(head < 128 or head >> 3 & 7 < 2, "exponents of what cannot have any")
    size = source.varint()
    record = Record(head, struct.unpack("<I", source.take(4))[0], size=size, stepped=stepped)
    if head == CHANGED:
        record.largest = source.varint()
        refuse_if(record.largest > 2047, "R out of range")
        return record
    if not record.is_tensor:
        return record
    record.dims = [source.varint() for _ in range(head & 7)]
    product = 1
    for dim in record.dims:
        refuse_if(dim == 0 and record.is_coded, "a coded tensor without elements")
        product *= dim or 1
    refuse_if(product > MOST_ELEMENTS, "too many elements")
    if not record.is_coded:
        refuse_if(size != record.elements * ELEMENT_TYPES[head >> 3][1], "a raw tensor of another size")
        return record
    refuse_if(len(record.dims) < RANK_AT_LEAST[record.form], "a form that the rank does not allow")
    b = source.u8()
    if b:
        record.step = (1 + b % 8 / 8) * 2.0 ** (b // 8 - 25)
    else:
        record.step = struct.unpack("<f", source.take(4))[0]
        refuse_if(not 2.0**-126 <= record.step < 2.0**117, "a step out of range")
    refuse_if(stepped and record.step < 2.0**-95, "a step too small for exponents")
    record.largest = source.varint()
    refuse_if(record.largest > (1023 if coders.has_trellis(record.form) else 2047), "R out of range")
    return record


def stored_axes(form: int, rank: int) -> list[int]:
    """The axes of the tensor in the order in which they are stored."""
    axes = list(range(rank))
    if form in (1, 5):
        axes.append(axes.pop(1))
    elif form in (2, 6):
        axes.append(axes.pop(0))
    elif form == 7:
        axes[-2:] = [axes[-1], axes[-2]]
    return axes


def stored_dims(form: int, dims: list[int]) -> list[int]:
    return [dims[axis] for axis in stored_axes(form, len(dims))]


def places(form: int, dims: list[int]) -> list[int]:
    """For each element of the tensor, row-major, its index in stored order."""
    stride_of, stride = {}, 1
    for axis in reversed(stored_axes(form, len(dims))):
        stride_of[axis] = stride
        stride *= dims[axis]
    indices = [0]
    for axis, dim in enumerate(dims):
        indices = [at + i * stride_of[axis] for at in indices for i in range(dim)]
    return indices


def read_names(source: Bytes, count: int) -> list[str]:
    names = []
    for _ in range(count):
        length = source.varint()
        refuse_if(not 1 <= length <= 1024, "a name's length")
        try:
            names.append(source.take(length).decode())
        except UnicodeDecodeError:
            raise Refused("a name that is not UTF-8") from None
        refuse_if("\0" in names[-1], "a name with NUL")
    refuse_if(len(set(names)) != len(names), "two tensors of one name")
    return names


def dictionary() -> bytes:
    """The dictionary of deflated sections, from the text of the file that the page names: zlib, then base 85."""
    text = (Path(__file__).parents[2] / "cerwu_onnx/container/dictionary.py").read_text()
    assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    packed = next(ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == "_PACKED")
    content = zlib.decompress(base64.b85decode(packed))
    assert (len(content), zlib.crc32(content)) == (11344, 0x9FB8725C)
    return content


def inflate(section: bytes, most: int = 2**31 - 1) -> bytes:
    """The content of a deflated section."""
    stream = zlib.decompressobj(-15, zdict=dictionary())
    try:
        content = stream.decompress(section, most + 1)
    except zlib.error:
        raise Refused("not a deflate stream") from None
    refuse_if(len(content) > most, "too large a content")
    refuse_if(not stream.eof or bool(stream.unused_data), "a stream that does not end where its section ends")
    return content
