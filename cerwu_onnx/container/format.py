"""Constants, records and byte layouts of docs/format.md, shared by writer and reader."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"\x89CWB\r\n\x1a\n"
VERSION = 0
HEADER = struct.Struct("<8sHHIIIII")
MAX_RECORDS = 16384
MAX_RANK = 8
MAX_NAME = 1024
MAX_ELEMENTS = 2**31 - 1
MAX_FILE = 2**32 - 1
MIN_SYMBOL, MAX_SYMBOL = -32768, 32767
MAX_SYMBOLS = 4096


class Kind(IntEnum):
    """What a directory record describes.

    The kinds 128 ... 254 are ancillary sections, of which a reader skips those it does not know: each of these
    numbers is a member, ``Kind(200)`` say, known or not. Compare kinds by ``==``.
    """

    RAW = 0
    ANS = 1
    ADAPTIVE = 2
    GRAPH = 16
    METADATA = 17
    NAMES = 18
    PACKED_NAMES = 19
    MARGINS = 128

    @classmethod
    def _missing_(cls, value: object) -> Kind | None:
        if not isinstance(value, int) or not 128 <= value <= 254:
            return None
        member = int.__new__(cls, value)
        member._name_, member._value_ = f"ANCILLARY_{value}", value
        return member

    @property
    def is_deflated(self) -> bool:
        """Whether the payload of such a section is a deflate stream."""
        return self in (Kind.GRAPH, Kind.METADATA, Kind.PACKED_NAMES)


class Order(IntEnum):
    """The order in which a coded tensor's symbols stand in its payload, given its ONNX shape."""

    ROW_MAJOR = 0
    AXIS1_LAST = 1
    AXIS0_LAST = 2

    @property
    def moved_axis(self) -> int | None:
        """The axis that is moved to the end; None if none is."""
        return (None, 1, 0)[self]

    @property
    def min_rank(self) -> int:
        """Tensors of smaller rank cannot be stored in this order (or would be the same in row-major order)."""
        return (0, 3, 2)[self]

    def store(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``values`` in ONNX order with its axes in the stored order."""
        return values if self.moved_axis is None else np.moveaxis(values, self.moved_axis, -1)

    def restore(self, stored: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Invert :meth:`store`: a contiguous array of the ONNX ``shape`` from elements in stored order, any shape."""
        if self.moved_axis is None:
            return stored.reshape(shape)
        axes = self.store(np.empty(shape, np.bool_)).shape
        return np.ascontiguousarray(np.moveaxis(stored.reshape(axes), -1, self.moved_axis))


class ElementType(IntEnum):
    """Element types, numbered as ONNX ``TensorProto.DataType``."""

    FLOAT32 = 1
    FLOAT16 = 10
    FLOAT64 = 11
    BFLOAT16 = 16


ELEMENT_CODES = tuple(ElementType)
"""Element types in the order of their number in a directory record."""

STORAGE: dict[ElementType, npt.DTypeLike] = {
    ElementType.FLOAT32: "<f4",
    ElementType.FLOAT16: "<f2",
    ElementType.FLOAT64: "<f8",
    ElementType.BFLOAT16: "<u2",  # numpy has no bfloat16: its bits
}
"""Little-endian numpy dtype of each element type as stored."""


def item_size(element: ElementType) -> int:
    """Bytes per element."""
    return np.dtype(STORAGE[element]).itemsize


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the directory; sections use only the first four fields.

    Attributes:
        kind: what it is.
        offset: where its payload starts in the file.
        size: bytes of the payload.
        crc: CRC-32 of the payload.
        element: element type of the decoded tensor.
        shape: dimensions.
        name: tensor name; "#3" for the fourth tensor of a file without names.
        step: grid step (coded tensors).
        lo: smallest symbol (coded tensors).
        symbols: K, the largest symbol is ``lo + K - 1`` (coded tensors).
        decoded_crc: CRC-32 of the decoded little-endian float32 bytes in stored order (coded tensors).
        order: how the symbols follow each other in the payload (coded tensors).
    """

    kind: Kind
    offset: int
    size: int
    crc: int
    element: ElementType = ElementType.FLOAT32
    shape: tuple[int, ...] = ()
    name: str = ""
    step: float = 1.0
    lo: int = 0
    symbols: int = 0
    decoded_crc: int = 0
    order: Order = Order.ROW_MAJOR

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor rather than a section."""
        return self.kind is Kind.RAW or self.is_coded

    @property
    def is_coded(self) -> bool:
        """Whether it is a tensor of entropy-coded symbols."""
        return self.kind in (Kind.ANS, Kind.ADAPTIVE)

    @property
    def count(self) -> int:
        """Number of elements of a tensor."""
        return math.prod(self.shape)

    @property
    def value_bytes(self) -> int:
        """Bytes that say a tensor's values: payload and, when it is coded, step and range of symbols.

        The rest of what it costs is directory: kind, shape, sizes and CRCs.
        """
        return self.size + (len(self.grid_bytes()) if self.is_coded else 0)

    def to_bytes(self) -> bytes:
        """The record as it stands in the directory."""
        out = bytes([self.kind]) + varint(self.size) + self.crc.to_bytes(4, "little")
        if self.is_tensor:
            variant = self.order if self.is_coded else ELEMENT_CODES.index(self.element)
            out += bytes([variant << 4 | len(self.shape)])
            out += b"".join(varint(dim) for dim in self.shape)
        if self.is_coded:
            out += self.grid_bytes() + self.decoded_crc.to_bytes(4, "little")
        return out

    def grid_bytes(self) -> bytes:
        """What the record of a coded tensor says about its values: step and range of symbols."""
        return struct.pack("<f", self.step) + varint(zigzag(self.lo)) + varint(self.symbols - 1)


def varint(value: int) -> bytes:
    """LEB128 of a number of 0 ... 2^32 - 1 in its shortest form."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def zigzag(value: int) -> int:
    """0, -1, 1, -2, 2 ... as 0, 1, 2, 3, 4 ..."""
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(value: int) -> int:
    """Invert :func:`zigzag`."""
    return -(value >> 1) - 1 if value & 1 else value >> 1


def crc32(data: Any) -> int:
    """CRC-32, as zip and PNG define it, of any contiguous buffer."""
    return zlib.crc32(data)
