"""Constants, records and byte layouts of docs/format.md, shared by writer and reader."""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx.types import MatrixLayout

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
MAX_INDICES = 2048
"""K at most, where a trellis doubles the values."""


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
    LAST_TWO_SWAPPED = 3

    def axes(self, rank: int) -> list[int]:
        """The ONNX axes of a tensor, one after the other as they are stored."""
        axes = list(range(rank))
        if self is not Order.ROW_MAJOR:
            axes.append(axes.pop((1, 0, -2)[self - 1]))
        return axes

    @property
    def min_rank(self) -> int:
        """Tensors of smaller rank cannot be stored in this order (or would be the same in another)."""
        return (0, 3, 2, 3)[self]

    def store(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``values`` in ONNX order with its axes in the stored order."""
        stored: npt.NDArray[Any] = values.transpose(self.axes(values.ndim))
        return stored

    def restore(self, stored: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Invert :meth:`store`: a contiguous array of the ONNX ``shape`` from elements in stored order, any shape."""
        axes = self.axes(len(shape))
        restored = stored.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))
        return np.ascontiguousarray(restored).reshape(shape)


def row_order(layout: MatrixLayout) -> Order | None:
    """The first order that stores each row of ``layout``'s matrices in one piece, its columns in order; else None.

    The rows themselves may follow each other in any order.
    """
    # Digits of a mixed radix in which both the tensor's axes and those of the layout's split are groups of digits.
    places = sorted({math.prod(axes[i:]) for axes in (layout.shape, layout.split) for i in range(len(axes) + 1)})
    if not layout.size or any(larger % place for place, larger in itertools.pairwise(places)):
        return None
    radix = {place: larger // place for place, larger in itertools.pairwise(places)}

    def digits(axes: tuple[int, ...], order: Iterable[int]) -> list[int]:
        """The digits, by their place value, of an array of ``axes`` transposed to ``order``; those of 1 have none."""
        ends = [(math.prod(axes[axis + 1 :]), math.prod(axes[axis:])) for axis in order]
        return [place for low, high in ends for place in reversed(places) if low <= place < high]

    columns: list[int] = []
    rows = digits(layout.split, layout.perm)
    while rows and math.prod(radix[place] for place in columns) < layout.cols:
        columns.insert(0, rows.pop())
    rank = len(layout.shape)
    for candidate in Order:
        if rank >= candidate.min_rank:
            stored = digits(layout.shape, candidate.axes(rank))
            if stored[len(stored) - len(columns) :] == columns:
                return candidate
    return None


class ElementType(IntEnum):
    """Element types, numbered as ONNX ``TensorProto.DataType``."""

    FLOAT32 = 1
    FLOAT16 = 10
    FLOAT64 = 11
    BFLOAT16 = 16


TRELLIS = 4
"""The bit of a coded tensor's variant that says that it is trellis coded; the lower ones are its order."""

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
        run: elements between two restarts of the trellis, 0 without one (coded tensors). With one, ``lo`` and
            ``symbols`` are those of the indices.
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
    run: int = 0

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
    def lowest(self) -> int:
        """Least value that a coded tensor may have, in units of its step."""
        return 2 * self.lo - (self.lo > 0) if self.run else self.lo

    @property
    def highest(self) -> int:
        """Largest value that a coded tensor may have, in units of its step."""
        hi = self.lo + self.symbols - 1
        return 2 * hi + (hi < 0) if self.run else hi

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
            variant = self.order | TRELLIS * bool(self.run) if self.is_coded else ELEMENT_CODES.index(self.element)
            out += bytes([variant << 4 | len(self.shape)])
            out += b"".join(varint(dim) for dim in self.shape)
        if self.is_coded:
            out += self.grid_bytes() + self.decoded_crc.to_bytes(4, "little")
        return out

    def grid_bytes(self) -> bytes:
        """What the record of a coded tensor says about its values: step, range of symbols, and the trellis."""
        run = varint(self.run) if self.run else b""
        return struct.pack("<f", self.step) + varint(zigzag(self.lo)) + varint(self.symbols - 1) + run


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
