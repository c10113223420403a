"""The directory of a .cwb file, record by record, and the fields that it is made of."""

from __future__ import annotations

import math
import struct

from cerwu_onnx.container import format as f
from cerwu_onnx.entropy import exponents
from cerwu_onnx.entropy.step import BEYOND, LEAST, SHORT
from cerwu_onnx.errors import CorruptFileError

_SECTIONS = {
    1: (f.Kind.GRAPH, f.Kind.METADATA, f.Kind.NAMES),
    2: (f.Kind.GRAPH, f.Kind.METADATA, f.Kind.NAMES, f.Kind.BASE),
}
"""The critical sections of each version."""


class Cursor:
    """Reads fields one after the other, and never past the end.

    Args:
        data: what holds the fields.
        where: what messages call it.

    Each of its functions raises CorruptFileError where there is no such field.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self.data) - self.position

    def take(self, size: int) -> bytes:
        """So many bytes."""
        if size > self.left:
            raise CorruptFileError(f"{self.where}: cut short at byte {self.position}")
        self.position += size
        return self.data[self.position - size : self.position]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(self.left)

    def u32(self) -> int:
        """A number of four bytes, the least first."""
        return int.from_bytes(self.take(4), "little")

    def varint(self) -> int:
        """A number of up to 32 bits, seven in each byte, in its shortest form."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                if value >> 32 or (shift and not byte):
                    break
                return value
        raise CorruptFileError(f"{self.where}: a number is not in its shortest form or exceeds 32 bits")

    def name(self) -> str:
        """A name in UTF-8, after its length."""
        size = self.varint()
        if not 1 <= size <= f.MAX_NAME:
            raise CorruptFileError(f"{self.where}: a name of {size} bytes")
        try:
            name = self.take(size).decode()
        except UnicodeDecodeError:
            raise CorruptFileError(f"{self.where}: a name is not UTF-8") from None
        if "\0" in name:
            raise CorruptFileError(f"{self.where}: a name has a NUL byte")
        return name


def parse_directory(directory: bytes, count: int, payloads: int, end: int, version: int) -> tuple[f.Record, ...]:
    """Parse ``count`` records that must fill ``directory``, with payloads from byte ``payloads`` to ``end``.

    Raises:
        CorruptFileError: see docs/format.md for every rule.
    """
    records: list[f.Record] = []
    cursor = Cursor(directory, "directory")
    while len(records) < count:
        record = _record(cursor, payloads, len(records), version)
        if record.is_tensor:
            if records and not records[-1].is_tensor:
                raise CorruptFileError("directory: a tensor follows a section")
        elif records and not records[-1].is_tensor and records[-1].kind >= record.kind:
            raise CorruptFileError(
                f"directory: section {record.kind} follows {records[-1].kind}: not in ascending order"
            )
        records.append(record)
        payloads += record.size
    if cursor.left or payloads != end:
        raise CorruptFileError("directory: records or payloads do not fill the file exactly")
    elements, most = f.coded_elements(records), f.most_elements(end)
    if elements > most:
        raise CorruptFileError(
            f"directory: {elements} coded elements exceed {most}, the limit in a file of {end} bytes: do not trust it"
        )
    return tuple(records)


def _record(cursor: Cursor, offset: int, index: int, version: int) -> f.Record:
    """Parse record ``index``, whose payload starts at ``offset``."""
    head = cursor.take(1)[0]
    if head == f.Kind.UNCHANGED and version > 1:
        return f.Record(f.Kind.UNCHANGED, offset, 0, 0, version=version)
    stepped = head == f.EXPONENTS and version > 1
    if stepped:
        head = cursor.take(1)[0]
        if head < f.CODED or head >> 3 & 7 < f.FIRST_STEPPED:
            raise CorruptFileError(f"directory: exponents before a record of head {head}: the file is damaged")
    size, crc = cursor.varint(), cursor.u32()
    if head == f.Kind.CHANGED and version > 1:
        reach = cursor.varint()
        if reach > f.MAX_SYMBOL:
            raise CorruptFileError(f"tensor '#{index}': largest change out of range")
        return f.Record(f.Kind.CHANGED, offset, size, crc, reach=reach, version=version)
    if f.Kind.GRAPH <= head < f.CODED:
        if head not in _SECTIONS[version] and head < f.Kind.MARGINS:
            raise CorruptFileError(f"directory: section {head} is unknown: update cerwu-onnx")
        return f.Record(f.Kind(head), offset, size, crc, version=version)
    name = f"#{index}"
    shape = tuple(cursor.varint() for _ in range(head & 7))
    if math.prod(dim for dim in shape if dim) > f.MAX_ELEMENTS:
        raise CorruptFileError(f"tensor {name!r}: the elements of shape {shape} exceed {f.MAX_ELEMENTS}")
    count = math.prod(shape)
    if head < f.CODED:
        element = f.ELEMENT_CODES[head >> 3]
        if size != count * f.item_size(element):
            raise CorruptFileError(f"tensor {name!r}: payload of {size} bytes for {count} elements")
        return f.Record(f.Kind.RAW, offset, size, crc, element, shape, name, version=version)
    form = f.FORMS[head >> 3 & 7]
    if len(shape) < form.min_rank or not count:
        raise CorruptFileError(f"tensor {name!r}: a coded tensor of this order cannot have the shape {shape}")
    number = cursor.take(1)[0]
    bits = SHORT + (number << 20) if number else cursor.u32()
    reach = cursor.varint()
    if not LEAST <= bits < BEYOND or reach > (f.MAX_INDEX if form.run else f.MAX_SYMBOL):
        raise CorruptFileError(f"tensor {name!r}: step or largest symbol out of range")
    kind = f.Kind.ADAPTIVE if head & f.CODER else f.Kind.ANS
    step: float = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
    if stepped and step < exponents.LEAST_STEP:
        raise CorruptFileError(f"tensor {name!r}: a step of {step:g} is too small for exponents")
    run = form.run_length(shape)
    float32 = f.ElementType.FLOAT32
    return f.Record(kind, offset, size, crc, float32, shape, name, step, reach, form.order, run, version, stepped)
