"""Deltas: files that say how the tensors of another file, their base, change (docs/format.md, "Deltas")."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cerwu_onnx.container import format as f
from cerwu_onnx.container.payload import exponents_of
from cerwu_onnx.container.writer import Encoded, section
from cerwu_onnx.entropy import adaptive
from cerwu_onnx.errors import BaseError, CorruptFileError
from cerwu_onnx.types import IntArray

_IDENTITY = struct.Struct("<II")
_DIRECTORY = 8
"""Where the header says how large the directory is."""


def identity(data: bytes, records: Sequence[f.Record]) -> tuple[int, int]:
    """What a base section says of a file, given its directory: bytes of its tensors, and CRC of their records."""
    sections = sum(len(record.to_bytes()) for record in records if not record.is_tensor)
    (directory,) = struct.unpack_from("<I", data, _DIRECTORY)
    tensors = data[f.HEADER.size : f.HEADER.size + directory - sections]
    return len(tensors) + sum(record.size for record in records if record.is_tensor), f.crc32(tensors)


def called(size: int, crc: int) -> str:
    """A base in words."""
    return f"{crc:08X}-{size}"


def base_section(data: bytes, records: Sequence[f.Record]) -> Encoded:
    """The section that names a file, given with its directory, as the base."""
    return section(f.Kind.BASE, _IDENTITY.pack(*identity(data, records)))


def named_base(data: bytes, records: Sequence[f.Record]) -> tuple[int, int] | None:
    """The identity of the base of a delta; None for a file that is none.

    Raises:
        CorruptFileError: the section that says so is damaged.
    """
    for where in records:
        if where.kind is f.Kind.BASE:
            payload = data[where.offset : where.offset + where.size]
            if where.size != _IDENTITY.size or f.crc32(payload) != where.crc:
                raise CorruptFileError("base section: CRC mismatch, or not of 8 bytes: the file is damaged")
            size, crc = _IDENTITY.unpack(payload)
            return size, crc
    return None


def unchanged(base: f.Record) -> Encoded:
    """A tensor that is the base's."""
    return Encoded(replace(base, kind=f.Kind.UNCHANGED, offset=0, size=0, crc=0, reach=0, base=base), b"")


def changed(base: f.Record, base_payload: bytes, before: IntArray, after: IntArray) -> Encoded | None:
    """A coded tensor that differs from the base's by changes of its values.

    Args:
        base: the base's record.
        base_payload: its payload.
        before: the base's values, flat, in stored order.
        after: those of the new tensor.

    Returns:
        None if a value or a change exceeds the format.
    """
    changes = after.astype(np.int32) - before
    reach = adaptive.reach_of(changes)
    if max(reach, adaptive.reach_of(after)) > f.MAX_SYMBOL:
        return None
    shape = [base.shape[axis] for axis in base.order.axes(len(base.shape))]
    payload = adaptive.encode(changes.reshape(shape), (before != 0).astype(np.uint8), far=adaptive.FAR_CHANGE)
    crc = f.crc32(np.ascontiguousarray(after, dtype="<i2"), crc_of(base, base_payload, payload))
    record = replace(base, kind=f.Kind.CHANGED, offset=0, size=len(payload), crc=crc, reach=reach, base=base)
    return Encoded(record, payload)


def crc_of(base: f.Record, base_payload: bytes, payload: bytes) -> int:
    """The CRC of a changed tensor's payload and of the exponents that it takes from the base: values follow."""
    exponents = base_payload[: exponents_of(base, base_payload)[1]] if base.stepped else b""
    return f.crc32(exponents, f.crc32(payload))


def values(record: f.Record, payload: bytes, before: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The values of a changed tensor, flat, in stored order, without a look at the CRC.

    Args:
        record: the delta's record.
        payload: its payload.
        before: the base's values.

    Raises:
        CorruptFileError: the payload breaks a rule of the format.
    """
    after = before + adaptive.decode_changes(payload, before, record.reach)
    if adaptive.reach_of(after) > f.MAX_SYMBOL:
        raise CorruptFileError(f"coded stream: a changed value exceeds {f.MAX_SYMBOL}")
    return after


def resolve(
    named: tuple[int, int], records: tuple[f.Record, ...], base: bytes | None, directory: Sequence[f.Record]
) -> tuple[f.Record, ...]:
    """Complete the records of a delta by those of its base.

    Args:
        named: identity of the base that the delta names.
        records: the delta's directory.
        base: the base; None if there is none.
        directory: that of the base.

    Raises:
        BaseError: the base is missing, or another file.
        CorruptFileError: the directory breaks a rule of the format.
    """
    if any(record.kind in (f.Kind.GRAPH, f.Kind.NAMES) for record in records):
        raise CorruptFileError("directory: a delta with a graph or names of its own")
    if base is None:
        raise BaseError(f"a delta, which needs its base, the .cwb that inspect calls {called(*named)}: give --base")
    given = identity(base, directory)
    if given != named:
        raise BaseError(f"a delta for another base: for {called(*named)}, not for {called(*given)}, as inspect says")
    tensors = [record for record in directory if record.is_tensor]
    own = [record for record in records if record.is_tensor]
    if len(own) != len(tensors):
        raise CorruptFileError(f"directory: {len(own)} tensors, where the base has {len(tensors)}")
    completed = [_completed(record, other) for record, other in zip(own, tensors, strict=True)]
    return (*completed, *records[len(own) :])


def _completed(record: f.Record, base: f.Record) -> f.Record:
    """A tensor's record with its name and with what the base says of it."""
    if record.kind is f.Kind.CHANGED:
        if not base.is_coded:
            raise CorruptFileError(f"tensor {base.name!r}: changes of a raw tensor")
        offset, size, crc, reach = record.offset, record.size, record.crc, record.reach
        return replace(base, kind=f.Kind.CHANGED, offset=offset, size=size, crc=crc, reach=reach, base=base)
    if record.kind is f.Kind.UNCHANGED:
        return replace(base, kind=f.Kind.UNCHANGED, offset=record.offset, size=0, crc=0, reach=0, base=base)
    if (record.shape, record.element) != (base.shape, base.element):
        raise CorruptFileError(f"tensor {base.name!r}: another shape or type than in the base")
    return replace(record, name=base.name)
