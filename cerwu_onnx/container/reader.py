"""Read a .cwb file: all of its structure is checked before anything is decoded, and no part of it is trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.container import deltas
from cerwu_onnx.container import format as f
from cerwu_onnx.container.ahead import decode_all
from cerwu_onnx.container.directory import Cursor, parse_directory
from cerwu_onnx.container.packed import unpack
from cerwu_onnx.container.payload import decode as decode_payload
from cerwu_onnx.container.payload import exponents_of
from cerwu_onnx.errors import BaseError, CorruptFileError
from cerwu_onnx.jobs.inputs import content_of

MAX_SECTION = {f.Kind.GRAPH: 2**31 - 1, f.Kind.METADATA: f.MAX_METADATA}
"""Largest content of packed sections: for the graph it is protobuf's own limit."""


@dataclass(frozen=True)
class Container:
    """A parsed file: ``data`` is the whole file, ``records`` its directory in order, ``base`` that of a delta."""

    data: bytes
    records: tuple[f.Record, ...]
    base: Container | None = None

    @property
    def version(self) -> int:
        """Of the format."""
        return int.from_bytes(self.data[4:6], "little")

    @cached_property
    def tensors(self) -> tuple[f.Record, ...]:
        """The tensor records, in file order."""
        return tuple(record for record in self.records if record.is_tensor)

    @cached_property
    def _native(self) -> tuple[native.File, dict[str, int]]:
        """The file opened by the C decoder, and the index of each tensor there."""
        names = [record.name for record in self.tensors]
        base = None if self.base is None else self.base._native[0]
        return native.File(self.data, names, base), {name: index for index, name in enumerate(names)}

    def payload(self, record: f.Record) -> bytes:
        """The payload of a record, with its CRC checked; not for a coded tensor, whose CRC also covers its values.

        Raises:
            CorruptFileError: the CRC does not match.
        """
        payload = self.data[record.offset : record.offset + record.size]
        if not record.is_coded and f.crc32(payload) != record.crc:
            raise CorruptFileError(
                f"{_where(record)}: payload CRC mismatch at byte {record.offset}: the file is damaged"
            )
        return payload

    def section(self, kind: f.Kind) -> bytes | None:
        """The content of a section, unpacked if its kind is packed; None if the file has no such section.

        Raises:
            CorruptFileError: its CRC or its code is damaged.
        """
        for record in self.records:
            if record.kind == kind:
                payload = self.payload(record)
                if not kind.is_packed:
                    return payload
                try:
                    return (unpack if self.version > 1 else _inflate)(payload, MAX_SECTION[kind])
                except CorruptFileError as error:
                    raise CorruptFileError(f"{_where(record)}: {error}") from None
        return None

    def section_size(self, kind: f.Kind) -> int:
        """The bytes that a section takes in the file, packed if its kind is; 0 without one."""
        return sum(record.size for record in self.records if record.kind == kind)

    @property
    def has_names(self) -> bool:
        """Whether the file has a section of names; else the names are in front of the graph, if there is a graph."""
        return any(record.kind == f.Kind.NAMES for record in self.records)

    def graph(self) -> bytes | None:
        """The graph without its tensors; None if the file has no graph. That of a delta is the base's.

        Raises:
            CorruptFileError: as for :meth:`section`.
        """
        if self.base is not None:
            return self.base.graph()
        content = self.section(f.Kind.GRAPH)
        if content is None or self.has_names:
            return content
        cursor = Cursor(content, "graph section")
        for _ in self.tensors:
            cursor.name()
        return cursor.rest()

    def metadata(self) -> dict[str, Any]:
        """The metadata object; empty if the file has none.

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
        if not isinstance(value, dict) or _nests(value, f.MAX_NESTING):
            raise CorruptFileError(f"metadata section: not a JSON object, or nested deeper than {f.MAX_NESTING} levels")
        return value

    def check_sections(self) -> None:
        """Check the CRC of every section, those of the base too, and that the metadata is a JSON object.

        Raises:
            CorruptFileError: a section is damaged.
        """
        if self.base is not None:
            self.base.check_sections()
        for record in self.records:
            if not record.is_tensor:
                self.payload(record)
        self.metadata()

    def margins(self) -> dict[str, int] | None:
        """Bytes by which a buffer for decoding in place must exceed each coded tensor; None if the file does not tell.

        Raises:
            CorruptFileError: the section is damaged.
        """
        content = self.section(f.Kind.MARGINS)
        if content is None:
            return None
        cursor = Cursor(content, "margins section")
        margins = {record.name: cursor.varint() for record in self.tensors if record.has_symbols}
        if cursor.left:
            raise CorruptFileError("margins section: more margins than coded tensors")
        for record in self.tensors:
            if record.has_symbols and not record.size - record.count <= margins[record.name] <= record.size:
                raise CorruptFileError(
                    f"margins section: {_where(record)} cannot have the margin {margins[record.name]}"
                )
        return margins

    def symbols(self, record: f.Record) -> npt.NDArray[np.int32]:
        """Decode a coded tensor, in Python, in units of its step and in stored order: int32, flat.

        Raises:
            CorruptFileError: any check fails, or it has more elements than :data:`native.MAX_ELEMENTS`.
        """
        if record.count > native.MAX_ELEMENTS:
            raise CorruptFileError(
                f"{_where(record)}: {record.count} elements exceed the limit of {native.MAX_ELEMENTS}"
            )
        if self.base is not None and record.base is not None:
            before = self.base.symbols(record.base)
            if record.kind is f.Kind.UNCHANGED:
                return before
        payload = self.payload(record)
        try:
            if self.base is not None and record.base is not None:
                symbols = deltas.values(record, payload, before)
                crc = deltas.crc_of(record.base, self.base.payload(record.base), payload)
            else:
                symbols, crc = decode_payload(record, payload), f.crc32(payload)
        except CorruptFileError as error:
            raise CorruptFileError(f"{_where(record)}: {error}") from None
        if f.crc32(symbols.astype("<i2"), crc) != record.crc:
            raise CorruptFileError(f"{_where(record)}: CRC mismatch of payload and values: the file is damaged")
        return symbols

    def values(self, record: f.Record) -> npt.NDArray[np.int32]:
        """Like :meth:`symbols`, but by the C decoder if it was built."""
        if native.available():
            file, indices = self._native
            return file.decode_symbols(indices[record.name]).astype(np.int32)
        return self.symbols(record)

    def steps(self, record: f.Record) -> npt.NDArray[np.float32]:
        """The steps of a coded tensor's rows, to which its shape broadcasts; of shape () if it has one for all rows.

        Its CRC is not checked.

        Raises:
            CorruptFileError: its exponents break a rule of the format.
        """
        step = np.asarray(record.step, np.float32)
        if not record.stepped:
            return step
        if self.base is not None and record.base is not None:
            return self.base.steps(record.base)
        try:
            rows, _ = exponents_of(record, self.payload(record))
        except CorruptFileError as error:
            raise CorruptFileError(f"{_where(record)}: {error}") from None
        return np.ldexp(step, -rows.astype(np.int32))

    def decode_python(self, record: f.Record) -> npt.NDArray[Any]:
        """Like :meth:`decode`, but never with the C library."""
        if self.base is not None and record.base is not None and not record.is_coded:
            return self.base.decode_python(record.base)
        if not record.is_coded:
            return np.frombuffer(self.payload(record), dtype=f.STORAGE[record.element]).reshape(record.shape)
        symbols = record.order.restore(self.symbols(record), record.shape)
        values: npt.NDArray[np.float32] = self.steps(record) * symbols.astype(np.float32)
        return values

    def decode(self, record: f.Record) -> npt.NDArray[Any]:
        """Decode a tensor: float32 for coded tensors, the stored dtype (bfloat16 as uint16 bits) for raw tensors.

        The C decoder does this if it was built.

        Raises:
            CorruptFileError: any check fails.
        """
        return self.decode_list([record])[0]

    def decode_list(self, records: Sequence[f.Record]) -> list[npt.NDArray[Any]]:
        """Several tensors as :meth:`decode` returns them; the C decoder gets them all in one call."""
        if not native.available():
            return [self.decode_python(record) for record in records]
        file, indices = self._native
        values = iter(file.decode_list([indices[record.name] for record in records if record.is_coded]))
        return [
            record.order.restore(next(values), record.shape) if record.is_coded else self.decode_python(record)
            for record in records
        ]

    def decode_all(self) -> Iterator[npt.NDArray[Any]]:
        """Every tensor as :meth:`decode` returns it, in file order; threads decode them ahead."""
        return decode_all(self)


def read(path: str | Path, base: str | Path | Container | None = None) -> Container:
    """Read and check a file, and the base of a delta.

    Raises:
        UsageError: a file cannot be read, or has a base although it is no delta.
        BaseError: it is a delta, and this is not its base.
        CorruptFileError: it is not a .cwb file, damaged or too new.
    """
    base = read_base(base) if isinstance(base, (str, Path)) else base
    data = content_of(path)
    try:
        return parse(data, base)
    except (CorruptFileError, BaseError) as error:
        raise type(error)(f"{path}: {error}") from None


def read_base(path: str | Path) -> Container:
    """Read and check a file that is to be the base of a delta.

    Raises:
        UsageError, CorruptFileError: as for :func:`read`.
        BaseError: it is itself a delta.
    """
    try:
        return read(path)
    except BaseError:
        raise BaseError(f"{path} is itself a delta, which cannot be a base") from None


def parse(data: bytes, base: Container | None = None) -> Container:
    """Check header and directory of a file; of a delta, with its base.

    Raises:
        BaseError: it is a delta, and this is not its base, or it has a base although it is no delta.
        CorruptFileError: see docs/format.md for every rule.
    """
    if len(data) < len(f.MAGIC) or data[: len(f.MAGIC)] != f.MAGIC:
        raise CorruptFileError("not a .cwb file (wrong magic)")
    if len(data) < f.HEADER.size:
        raise CorruptFileError("header cut short: the file is truncated")
    _, version, count, directory_size, file_size, crc = f.HEADER.unpack_from(data)
    if version not in f.READABLE:
        raise CorruptFileError(
            f"format version {version} is too new: update cerwu-onnx" if version else "there is no format version 0"
        )
    if file_size != len(data):
        raise CorruptFileError(f"the file has {len(data)} bytes and should have {file_size}: truncated or extended")
    directory = data[f.HEADER.size : f.HEADER.size + directory_size]
    if len(directory) != directory_size:
        raise CorruptFileError("directory cut short: the file is damaged")
    if f.crc32(directory, f.crc32(data[: f.HEADER.size - f.CRC_SIZE])) != crc:
        raise CorruptFileError("CRC mismatch of header and directory: the file is damaged")
    if count > f.MAX_RECORDS:
        raise CorruptFileError(f"the directory has {count} records, the format allows {f.MAX_RECORDS}")
    records = parse_directory(directory, count, f.HEADER.size + directory_size, len(data), version)
    named = deltas.named_base(data, records)
    if named is not None:
        given = (None, ()) if base is None else (base.data, base.records)
        return Container(data, deltas.resolve(named, records, *given), base)
    if any(record.kind in (f.Kind.UNCHANGED, f.Kind.CHANGED) for record in records):
        raise CorruptFileError("directory: tensors of a base, and no base section")
    if base is not None:
        raise BaseError("no delta: it needs no base")
    return Container(data, _named(Container(data, records)))


def _named(container: Container) -> tuple[f.Record, ...]:
    """The records, with the names that the file gives its tensors, if it does."""
    where = f.Kind.NAMES if container.has_names else f.Kind.GRAPH
    content = container.section(where)
    if content is None:
        return container.records
    cursor = Cursor(content, f"{where.name.lower()} section")
    names: set[str] = set()
    records = list(container.records)
    for index, record in enumerate(container.tensors):
        name = cursor.name()
        if name in names:
            raise CorruptFileError(f"{cursor.where}: two tensors are named {name!r}")
        names.add(name)
        records[index] = replace(record, name=name)
    if cursor.left and container.has_names:
        raise CorruptFileError("names section: more names than tensors")
    return tuple(records)


def _nests(value: dict[str, Any] | list[Any], levels: int) -> bool:
    """Whether arrays and objects lie within each other in more levels."""
    items = value.values() if isinstance(value, dict) else value
    return not levels or any(_nests(item, levels - 1) for item in items if isinstance(item, (dict, list)))


def _inflate(payload: bytes, most: int) -> bytes:
    """The content of a section of version 1."""
    from cerwu_onnx.container.dictionary import inflate

    return inflate(payload, most)


def _where(record: f.Record) -> str:
    return f"tensor {record.name!r}" if record.is_tensor else f"{record.kind.name.lower()} section"
