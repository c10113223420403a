"""Read a .cwb file. The whole structure is checked before anything is decoded; nothing in the file is trusted."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.container import format as f
from cerwu_onnx.container.dictionary import inflate
from cerwu_onnx.container.payload import decode as decode_payload
from cerwu_onnx.errors import CorruptFileError, UsageError

MAX_SECTION = 2**31 - 1
"""Largest decompressed section: protobuf's own limit."""


@dataclass(frozen=True)
class Container:
    """A parsed file: ``data`` is the whole file, ``records`` its directory in order."""

    data: bytes
    records: tuple[f.Record, ...]

    @cached_property
    def tensors(self) -> tuple[f.Record, ...]:
        """The tensor records, in file order."""
        return tuple(record for record in self.records if record.is_tensor)

    @cached_property
    def _native(self) -> tuple[native.File, dict[str, int]]:
        """The file as the C decoder sees it, and the index of each tensor there."""
        names = [record.name for record in self.tensors]
        return native.File(self.data, names), {name: index for index, name in enumerate(names)}

    def payload(self, record: f.Record) -> bytes:
        """The payload of a record, its CRC checked.

        Raises:
            CorruptFileError: the CRC does not match.
        """
        payload = self.data[record.offset : record.offset + record.size]
        if f.crc32(payload) != record.crc:
            raise CorruptFileError(
                f"{_where(record)}: payload CRC mismatch at byte {record.offset}: the file is damaged"
            )
        return payload

    def section(self, kind: f.Kind) -> bytes | None:
        """The content of a section, decompressed if its kind is deflated; None when the file has none.

        Raises:
            CorruptFileError: its CRC or its deflate stream is damaged.
        """
        for record in self.records:
            if record.kind == kind:
                payload = self.payload(record)
                try:
                    return inflate(payload, MAX_SECTION) if kind.is_deflated else payload
                except CorruptFileError as error:
                    raise CorruptFileError(f"{_where(record)}: {error}") from None
        return None

    def metadata(self) -> dict[str, Any]:
        """The metadata object; empty when the file has none.

        Raises:
            CorruptFileError: it is not a JSON object.
        """
        content = self.section(f.Kind.METADATA)
        if content is None:
            return {}
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise CorruptFileError("metadata section: not a JSON object")
        return value

    def check_sections(self) -> None:
        """Check the CRC of every section, and that the metadata is what it must be.

        Raises:
            CorruptFileError: a section is damaged.
        """
        for record in self.records:
            if not record.is_tensor:
                self.payload(record)
        self.metadata()

    def margins(self) -> dict[str, int] | None:
        """How much a buffer for decoding in place must exceed each coded tensor, in bytes; None if unknown.

        Raises:
            CorruptFileError: the section is damaged.
        """
        content = self.section(f.Kind.MARGINS)
        if content is None:
            return None
        cursor = _Cursor(content, "margins section")
        margins = {record.name: cursor.varint() for record in self.tensors if record.is_coded}
        if cursor.left:
            raise CorruptFileError("margins section: more margins than coded tensors")
        for record in self.tensors:
            if record.is_coded and not record.size - record.count <= margins[record.name] <= record.size:
                raise CorruptFileError(
                    f"margins section: {_where(record)} cannot have the margin {margins[record.name]}"
                )
        return margins

    def symbols(self, record: f.Record) -> npt.NDArray[np.int32]:
        """A coded tensor in units of its step, in stored order: int32, flat, decoded in Python.

        Raises:
            CorruptFileError: any check fails, or it has more elements than :data:`native.MAX_ELEMENTS`.
        """
        if record.count > native.MAX_ELEMENTS:
            raise CorruptFileError(
                f"{_where(record)}: {record.count} elements exceed the limit of {native.MAX_ELEMENTS}"
            )
        try:
            return decode_payload(record, self.payload(record))
        except CorruptFileError as error:
            raise CorruptFileError(f"{_where(record)}: {error}") from None

    def decode_python(self, record: f.Record) -> npt.NDArray[Any]:
        """Like :meth:`decode`, never with the C library."""
        if record.kind is f.Kind.RAW:
            return np.frombuffer(self.payload(record), dtype=f.STORAGE[record.element]).reshape(record.shape)
        values: npt.NDArray[np.float32] = np.float32(record.step) * self.symbols(record).astype(np.float32)
        if f.crc32(np.ascontiguousarray(values, dtype="<f4")) != record.decoded_crc:
            raise CorruptFileError(f"{_where(record)}: CRC mismatch of the decoded values: the file is damaged")
        return record.order.restore(values, record.shape)

    def decode(self, record: f.Record) -> npt.NDArray[Any]:
        """The tensor: float32 for coded tensors, the stored dtype (bfloat16 as uint16 bits) for raw tensors.

        The C decoder does the work where it was built.

        Raises:
            CorruptFileError: any check fails.
        """
        if record.is_coded and native.available():
            file, indices = self._native
            return record.order.restore(file.decode_f32(indices[record.name]), record.shape)
        return self.decode_python(record)


def read(path: str | Path) -> Container:
    """Read and check a file.

    Raises:
        UsageError: it cannot be read.
        CorruptFileError: it is not a .cwb file, damaged or too new.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    try:
        return parse(data)
    except CorruptFileError as error:
        raise CorruptFileError(f"{path}: {error}") from None


def parse(data: bytes) -> Container:
    """Check header and directory of a file.

    Raises:
        CorruptFileError: see docs/format.md for every rule.
    """
    if len(data) < len(f.MAGIC) or data[: len(f.MAGIC)] != f.MAGIC:
        raise CorruptFileError("not a .cwb file (wrong magic)")
    if len(data) < f.HEADER.size:
        raise CorruptFileError("header cut short: the file is truncated")
    _, version, flags, count, directory_size, file_size, directory_crc, header_crc = f.HEADER.unpack_from(data)
    if f.crc32(data[: f.HEADER.size - 4]) != header_crc:
        raise CorruptFileError("header CRC mismatch: the file is damaged")
    if version != f.VERSION or flags:
        raise CorruptFileError(f"format version {version} (flags {flags}) is too new: update cerwu-onnx")
    if file_size != len(data):
        raise CorruptFileError(f"the file has {len(data)} bytes and should have {file_size}: truncated or extended")
    if count > f.MAX_RECORDS:
        raise CorruptFileError(f"the directory has {count} records, the format allows {f.MAX_RECORDS}")
    directory = data[f.HEADER.size : f.HEADER.size + directory_size]
    if len(directory) != directory_size or f.crc32(directory) != directory_crc:
        raise CorruptFileError("directory CRC mismatch or directory cut short: the file is damaged")
    records = _directory(directory, count, f.HEADER.size + directory_size, len(data))
    return Container(data, _named(Container(data, records)))


def _directory(directory: bytes, count: int, payloads: int, end: int) -> tuple[f.Record, ...]:
    """Parse ``count`` records that must fill ``directory``, with payloads from byte ``payloads`` to ``end``."""
    records: list[f.Record] = []
    cursor = _Cursor(directory, "directory")
    while len(records) < count:
        record = _record(cursor, payloads, len(records))
        if record.is_tensor:
            if records and not records[-1].is_tensor:
                raise CorruptFileError("directory: a tensor follows a section")
        elif records and records[-1].kind >= record.kind:
            raise CorruptFileError(
                f"directory: section {record.kind} follows {records[-1].kind}: not in ascending order"
            )
        records.append(record)
        payloads += record.size
    if cursor.left or payloads != end:
        raise CorruptFileError("directory: records or payloads do not fill the file exactly")
    return tuple(records)


def _named(container: Container) -> tuple[f.Record, ...]:
    """The records with the names that the file gives its tensors, if it does."""
    kinds = [record.kind for record in container.records]
    if f.Kind.NAMES in kinds and f.Kind.PACKED_NAMES in kinds:
        raise CorruptFileError("directory: two sections of names")
    content = container.section(f.Kind.NAMES if f.Kind.NAMES in kinds else f.Kind.PACKED_NAMES)
    if content is None:
        return container.records
    cursor = _Cursor(content, "names section")
    names: set[str] = set()
    records = list(container.records)
    for index, record in enumerate(container.tensors):
        name = cursor.name()
        if name in names:
            raise CorruptFileError(f"names section: two tensors are named {name!r}")
        names.add(name)
        records[index] = replace(record, name=name)
    if cursor.left:
        raise CorruptFileError("names section: more names than tensors")
    return tuple(records)


class _Cursor:
    """Reads fields one after the other and never past the end."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self.data) - self.position

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise CorruptFileError(f"{self.where}: cut short at byte {self.position}")
        self.position += size
        return self.data[self.position - size : self.position]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def varint(self) -> int:
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


def _record(cursor: _Cursor, offset: int, index: int) -> f.Record:
    """Parse record ``index``, whose payload starts at ``offset``."""
    code = cursor.take(1)[0]
    try:
        kind = f.Kind(code)
    except ValueError:
        raise CorruptFileError(f"directory: record kind {code} is unknown: update cerwu-onnx") from None
    size, crc = cursor.varint(), cursor.u32()
    if kind >= f.Kind.GRAPH:
        return f.Record(kind, offset, size, crc)
    name = f"#{index}"
    form = cursor.take(1)[0]
    if form >> 4 >= (len(f.ELEMENT_CODES) if kind is f.Kind.RAW else 2 * f.TRELLIS):
        raise CorruptFileError(f"tensor {name!r}: element type or variant {form >> 4} is unknown: update cerwu-onnx")
    if form & 15 > f.MAX_RANK:
        raise CorruptFileError(f"tensor {name!r}: rank {form & 15} exceeds {f.MAX_RANK}")
    shape = tuple(cursor.varint() for _ in range(form & 15))
    if math.prod(dim for dim in shape if dim) > f.MAX_ELEMENTS:
        raise CorruptFileError(f"tensor {name!r}: the elements of shape {shape} exceed {f.MAX_ELEMENTS}")
    count = math.prod(shape)
    if kind is f.Kind.RAW:
        element = f.ELEMENT_CODES[form >> 4]
        if size != count * f.item_size(element):
            raise CorruptFileError(f"tensor {name!r}: payload of {size} bytes for {count} elements")
        return f.Record(kind, offset, size, crc, element, shape, name)
    return f.Record(kind, offset, size, crc, f.ElementType.FLOAT32, shape, name, *_grid(cursor, form >> 4, shape, name))


def _grid(
    cursor: _Cursor, variant: int, shape: tuple[int, ...], name: str
) -> tuple[float, int, int, int, f.Order, int]:
    """What follows the dimensions of a coded tensor: step, lo, K, CRC, and its order and run."""
    order, count = f.Order(variant & f.TRELLIS - 1), math.prod(shape)
    if len(shape) < order.min_rank:
        raise CorruptFileError(f"tensor {name!r}: rank {len(shape)} is too low for order {order}")
    step: float = struct.unpack("<f", cursor.take(4))[0]
    lo, symbols = f.unzigzag(cursor.varint()), cursor.varint() + 1
    run, most, scale = (cursor.varint(), f.MAX_INDICES, 2) if variant & f.TRELLIS else (0, f.MAX_SYMBOLS, 1)
    decoded_crc = cursor.u32()
    if not (math.isfinite(step) and step > 0 and count > 0 and symbols <= most):
        raise CorruptFileError(f"tensor {name!r}: step, element count or number of symbols out of range")
    if scale * lo < f.MIN_SYMBOL or scale * (lo + symbols - 1) > f.MAX_SYMBOL:
        raise CorruptFileError(f"tensor {name!r}: symbols {lo}..{lo + symbols - 1} out of range")
    if variant & f.TRELLIS and (run < 1 or count % run):
        raise CorruptFileError(f"tensor {name!r}: runs of {run} do not divide {count} elements")
    return step, lo, symbols, decoded_crc, order, run


def _where(record: f.Record) -> str:
    return f"tensor {record.name!r}" if record.is_tensor else f"{record.kind.name.lower()} section"
