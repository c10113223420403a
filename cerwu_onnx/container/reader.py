"""Read a .cwb file. The whole structure is checked before anything is decoded; nothing in the file is trusted."""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.container import format as f
from cerwu_onnx.entropy import adaptive, ans
from cerwu_onnx.entropy.tables import FrequencyTable
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
        return native.File(self.data), {record.name: index for index, record in enumerate(self.tensors)}

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
        """The decompressed content of a section; None when the file has none.

        Raises:
            CorruptFileError: its CRC or its deflate stream is damaged.
        """
        for record in self.records:
            if record.kind is kind:
                inflate = zlib.decompressobj(-15)
                try:
                    content = inflate.decompress(self.payload(record), MAX_SECTION)
                except zlib.error as error:
                    raise CorruptFileError(f"{_where(record)}: {error}") from None
                if not inflate.eof or inflate.unused_data:
                    raise CorruptFileError(f"{_where(record)}: the deflate stream does not end with the section")
                return content
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

    def symbols(self, record: f.Record) -> npt.NDArray[np.int32]:
        """The symbols of a coded tensor in its shape, int32, decoded in Python.

        Raises:
            CorruptFileError: any check fails.
        """
        payload = self.payload(record)
        try:
            if record.kind is f.Kind.ANS:
                table, used = FrequencyTable.from_bytes(payload, record.lo, record.symbols)
                symbols = ans.decode(payload[used:], table, record.count)
            else:
                hi = record.lo + record.symbols - 1
                symbols = adaptive.decode_plain(payload, record.count, record.lo, hi)
        except CorruptFileError as error:
            raise CorruptFileError(f"{_where(record)}: {error}") from None
        return symbols.astype(np.int32).reshape(record.shape)

    def decode_python(self, record: f.Record) -> npt.NDArray[Any]:
        """Like :meth:`decode`, never with the C library."""
        if record.kind is f.Kind.RAW:
            return np.frombuffer(self.payload(record), dtype=f.STORAGE[record.element]).reshape(record.shape)
        values: npt.NDArray[np.float32] = np.float32(record.step) * self.symbols(record).astype(np.float32)
        if f.crc32(np.ascontiguousarray(values, dtype="<f4")) != record.decoded_crc:
            raise CorruptFileError(f"{_where(record)}: CRC mismatch of the decoded values: the file is damaged")
        return values

    def decode(self, record: f.Record) -> npt.NDArray[Any]:
        """The tensor: float32 for coded tensors, the stored dtype (bfloat16 as uint16 bits) for raw tensors.

        The C decoder does the work where it was built.

        Raises:
            CorruptFileError: any check fails.
        """
        if record.is_coded and native.available():
            file, indices = self._native
            return file.decode_f32(indices[record.name]).reshape(record.shape)
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
    return Container(data, _directory(directory, count, f.HEADER.size + directory_size, len(data)))


def _directory(directory: bytes, count: int, payloads: int, end: int) -> tuple[f.Record, ...]:
    """Parse ``count`` records that must fill ``directory``, with payloads from byte ``payloads`` to ``end``."""
    records: list[f.Record] = []
    names: set[str] = set()
    cursor = _Cursor(directory)
    while len(records) < count:
        record = _record(cursor, payloads)
        if record.is_tensor:
            if record.name in names:
                raise CorruptFileError(f"directory: two tensors are named {record.name!r}")
            if records and not records[-1].is_tensor:
                raise CorruptFileError("directory: a tensor follows a section")
            names.add(record.name)
        elif any(other.kind is record.kind for other in records):
            raise CorruptFileError(f"directory: two sections of kind {record.kind}")
        records.append(record)
        payloads += record.size
    if cursor.position != len(directory) or payloads != end:
        raise CorruptFileError("directory: records or payloads do not fill the file exactly")
    return tuple(records)


class _Cursor:
    """Reads structs one after the other and never past the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def unpack(self, layout: str) -> tuple[Any, ...]:
        size = struct.calcsize(layout)
        return struct.unpack(layout, self.take(size))

    def take(self, size: int) -> bytes:
        chunk = self.data[self.position : self.position + size]
        if len(chunk) != size:
            raise CorruptFileError(f"directory: record cut short at byte {f.HEADER.size + self.position}")
        self.position += size
        return chunk


def _record(cursor: _Cursor, offset: int) -> f.Record:
    """Parse one record whose payload starts at ``offset``."""
    code, size, crc = cursor.unpack("<BII")
    if code not in list(f.Kind):
        raise CorruptFileError(f"directory: record kind {code} is unknown: update cerwu-onnx")
    kind = f.Kind(code)
    if kind in (f.Kind.GRAPH, f.Kind.METADATA):
        return f.Record(kind, offset, size, crc)
    element, rank = cursor.unpack("<BB")
    if element not in list(f.ElementType) or (kind is not f.Kind.RAW and element != f.ElementType.FLOAT32):
        raise CorruptFileError(f"directory: element type {element} is unknown: update cerwu-onnx")
    if rank > f.MAX_RANK:
        raise CorruptFileError(f"directory: rank {rank} exceeds {f.MAX_RANK}")
    *shape, name_length = cursor.unpack(f"<{rank}IH")
    if math.prod(dim for dim in shape if dim) > f.MAX_ELEMENTS:
        raise CorruptFileError(f"directory: the elements of shape {shape} exceed {f.MAX_ELEMENTS}")
    count = math.prod(shape)
    if not 1 <= name_length <= f.MAX_NAME:
        raise CorruptFileError(f"directory: a name of {name_length} bytes")
    raw_name = cursor.take(name_length)
    try:
        name = raw_name.decode()
    except UnicodeDecodeError:
        raise CorruptFileError("directory: a name is not UTF-8") from None
    if "\0" in name:
        raise CorruptFileError("directory: a name has a NUL byte")
    element = f.ElementType(element)
    if kind is f.Kind.RAW:
        if size != count * f.item_size(element):
            raise CorruptFileError(f"tensor {name!r}: payload of {size} bytes for {count} elements")
        return f.Record(kind, offset, size, crc, element, tuple(shape), name)
    step, lo, symbols, decoded_crc = cursor.unpack("<fiHI")
    if not (math.isfinite(step) and step > 0 and count > 0 and 1 <= symbols <= f.MAX_SYMBOLS):
        raise CorruptFileError(f"tensor {name!r}: step, element count or table size out of range")
    if lo < f.MIN_SYMBOL or lo + symbols - 1 > f.MAX_SYMBOL:
        raise CorruptFileError(f"tensor {name!r}: symbols {lo}..{lo + symbols - 1} out of range")
    return f.Record(kind, offset, size, crc, element, tuple(shape), name, step, lo, symbols, decoded_crc)


def _where(record: f.Record) -> str:
    return f"tensor {record.name!r}" if record.is_tensor else f"{record.kind.name.lower()} section"
