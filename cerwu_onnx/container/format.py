"""Constants, records and byte layouts of docs/format.md, for both reader and writer."""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx.entropy.step import to_bytes as step_bytes

if TYPE_CHECKING:
    from cerwu_onnx.types import MatrixLayout

MAGIC = b"\x89CWB"
VERSION = 2
"""Of the files that are written."""
READABLE = (1, 2)
HEADER = struct.Struct("<4sHHIII")
CRC_SIZE = 4
MAX_RECORDS = 16384
MAX_RANK = 7
MAX_NESTING = 64
"""Most arrays and objects within each other in the metadata's JSON."""
MAX_NAME = 1024
MAX_ELEMENTS = 2**31 - 1
MAX_FILE = 2**32 - 1
MAX_METADATA = 2**20
"""Most bytes of the metadata's JSON."""
CODED_ELEMENTS, CODED_ELEMENTS_PER_BYTE = 2**27, 2**15
"""Elements that the coded tensors of a file may have, all together, and how many more for each byte of the file.

No coder makes more than 23,000 elements of a byte, tensors of zeros apart."""
MAX_SYMBOL = 2047
"""Largest magnitude of a symbol."""
MAX_INDEX = 1023
"""Largest magnitude of an index; a trellis doubles the values."""


class Kind(IntEnum):
    """What a directory record describes.

    ``UNCHANGED`` and ``CHANGED`` are tensors of deltas (:mod:`cerwu_onnx.container.deltas`). The kinds 64 ... 127 are
    ancillary sections; a reader skips those that it does not know. Each of these numbers is a member, for example
    ``Kind(100)``, whether known or not. Compare kinds by ``==``.
    """

    RAW = 0
    ANS = 1
    ADAPTIVE = 2
    GRAPH = 32
    METADATA = 33
    NAMES = 34
    BASE = 35
    UNCHANGED = 60
    CHANGED = 61
    MARGINS = 64

    @classmethod
    def _missing_(cls, value: object) -> Kind | None:
        if not isinstance(value, int) or not 64 <= value <= 127:
            return None
        member = int.__new__(cls, value)
        member._name_, member._value_ = f"ANCILLARY_{value}", value
        return member

    @property
    def is_packed(self) -> bool:
        """Whether the payload of this kind is packed: in version 1, a deflate stream."""
        return self in (Kind.GRAPH, Kind.METADATA)


class Order(IntEnum):
    """The order of a coded tensor's symbols in its payload, given its ONNX shape."""

    ROW_MAJOR = 0
    AXIS1_LAST = 1
    AXIS0_LAST = 2
    LAST_TWO_SWAPPED = 3

    def axes(self, rank: int) -> list[int]:
        """The ONNX axes of a tensor in the order in which they are stored."""
        axes = list(range(rank))
        if self is not Order.ROW_MAJOR:
            axes.append(axes.pop((1, 0, -2)[self - 1]))
        return axes

    @property
    def min_rank(self) -> int:
        """Tensors of smaller rank cannot be stored in this order (or would be the same in another)."""
        return (0, 3, 2, 3)[self]

    def store(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring ``values`` from ONNX order to the stored order of axes."""
        stored: npt.NDArray[Any] = values.transpose(self.axes(values.ndim))
        return stored

    def restore(self, stored: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The inverse of :meth:`store`: elements in stored order, of any shape -> a contiguous array of ``shape``."""
        axes = self.axes(len(shape))
        restored = stored.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))
        return np.ascontiguousarray(restored).reshape(shape)


@dataclass(frozen=True, slots=True)
class Form:
    """How a coded tensor is stored.

    Attributes:
        order: the order of its elements.
        run: the axes that a run of its trellis spans: "" without a trellis, the "last" stored axis, or the "rest" after
            the first.
    """

    order: Order
    run: str = ""

    @property
    def min_rank(self) -> int:
        """Tensors of smaller rank cannot have this form."""
        return max(self.order.min_rank, 1 if self.run else 0)

    def run_length(self, shape: tuple[int, ...]) -> int:
        """Elements between two restarts of the trellis for a tensor of this ONNX shape; 0 without a trellis."""
        if not self.run:
            return 0
        stored = [shape[axis] for axis in self.order.axes(len(shape))]
        return stored[-1] if self.run == "last" else math.prod(stored[1:])

    def row_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A tensor's ONNX shape, with 1 for the axes that a row spans: there is an exponent for each row.

        Rows are the runs of the trellis; without one, the elements of equal index on axis 0.
        """
        axes = self.order.axes(len(shape))
        kept = {"": (0,), "last": axes[:-1], "rest": axes[:1]}[self.run]
        return tuple(dim if axis in kept else 1 for axis, dim in enumerate(shape))


FORMS = (
    Form(Order.ROW_MAJOR),
    Form(Order.AXIS1_LAST),
    Form(Order.AXIS0_LAST),
    Form(Order.ROW_MAJOR, "last"),
    Form(Order.ROW_MAJOR, "rest"),
    Form(Order.AXIS1_LAST, "rest"),
    Form(Order.AXIS0_LAST, "last"),
    Form(Order.LAST_TWO_SWAPPED, "last"),
)
"""The forms, by their number in a record."""


def form_number(order: Order, run: int, shape: tuple[int, ...]) -> int | None:
    """The number of the form in which a tensor is stored; None if there is none."""
    for number, form in enumerate(FORMS):
        fits = (form.order, bool(form.run)) == (order, bool(run)) and len(shape) >= form.min_rank
        if fits and form.run_length(shape) == run:
            return number
    return None


def row_order(layout: MatrixLayout) -> Order | None:
    """The first order in which a trellis can follow the rows of ``layout``'s matrices; else None.

    Each row must be stored in one piece, with its columns in order, and be a run of one of the :data:`FORMS`. The order
    of the rows does not matter.
    """
    # A mixed radix in whose digits both the tensor's axes and those of the layout's split are groups of digits.
    places = sorted({math.prod(axes[i:]) for axes in (layout.shape, layout.split) for i in range(len(axes) + 1)})
    if not layout.size or any(larger % place for place, larger in itertools.pairwise(places)):
        return None
    radix = {place: larger // place for place, larger in itertools.pairwise(places)}

    def digits(axes: tuple[int, ...], order: Iterable[int]) -> list[int]:
        """The digits, by place value, of an array of ``axes`` transposed to ``order``; axes of length 1 have none."""
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
            in_one_piece = stored[len(stored) - len(columns) :] == columns
            if in_one_piece and form_number(candidate, layout.cols, layout.shape) is not None:
                return candidate
    return None


class ElementType(IntEnum):
    """Element types, with the numbers of ONNX ``TensorProto.DataType``."""

    FLOAT32 = 1
    FLOAT16 = 10
    FLOAT64 = 11
    BFLOAT16 = 16


CODED, CODER = 128, 64
"""First bytes of records: those of coded tensors start at CODED; CODER is the bit of the adaptive coder."""

EXPONENTS, FIRST_STEPPED = 62, 2
"""The byte in front of the record of a tensor with exponents, and the first form that can have them."""

ELEMENT_CODES = tuple(ElementType)
"""Element types in the order of their number in a directory record."""

STORAGE: dict[ElementType, npt.DTypeLike] = {
    ElementType.FLOAT32: "<f4",
    ElementType.FLOAT16: "<f2",
    ElementType.FLOAT64: "<f8",
    ElementType.BFLOAT16: "<u2",  # its bits: numpy has no bfloat16
}
"""Little-endian numpy dtype of each element type as stored."""


def item_size(element: ElementType) -> int:
    """Bytes per element."""
    return np.dtype(STORAGE[element]).itemsize


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the directory; sections use only the first four fields.

    Attributes:
        kind: what the record describes.
        offset: where its payload starts in the file.
        size: bytes of the payload.
        crc: CRC-32 of the payload. For a coded tensor, it also covers, after the payload, the values in units of the
            step as little-endian int16 in stored order.
        element: element type of the decoded tensor.
        shape: dimensions.
        name: tensor name; "#3" for the fourth tensor of a file without names.
        step: grid step (coded tensors).
        reach: largest magnitude of a symbol, or of an index if there is a trellis (coded tensors).
        order: order of the symbols in the payload (coded tensors).
        run: elements between two restarts of the trellis, 0 without a trellis (coded tensors).
        version: of the format of the file.
        base: of a tensor that is unchanged or changed, the base's tensor; so are the fields from ``element`` on, but
            ``reach``, which is the largest magnitude of a change.
        stepped: whether the rows have steps of their own: ``step * 2^-e`` with exponents e, with which the payload
            begins (coded tensors).
    """

    kind: Kind
    offset: int
    size: int
    crc: int
    element: ElementType = ElementType.FLOAT32
    shape: tuple[int, ...] = ()
    name: str = ""
    step: float = 1.0
    reach: int = 0
    order: Order = Order.ROW_MAJOR
    run: int = 0
    version: int = VERSION
    stepped: bool = False
    base: Record | None = None

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor rather than a section."""
        return self.kind in (Kind.RAW, Kind.ANS, Kind.ADAPTIVE, Kind.UNCHANGED, Kind.CHANGED)

    @property
    def is_coded(self) -> bool:
        """Whether it is a tensor of entropy-coded symbols."""
        if self.kind is Kind.UNCHANGED:
            return self.base is not None and self.base.is_coded
        return self.has_symbols or self.kind is Kind.CHANGED

    @property
    def has_symbols(self) -> bool:
        """Whether its payload, without that of another file, tells the symbols of a tensor."""
        return self.kind in (Kind.ANS, Kind.ADAPTIVE)

    @property
    def count(self) -> int:
        """Number of elements of a tensor."""
        return math.prod(self.shape)

    @property
    def form(self) -> Form:
        """The form of a coded tensor.

        Raises:
            ValueError: no form stores runs of this length.
        """
        return FORMS[self._form()]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a coded tensor's exponents, to which ``shape`` broadcasts (:meth:`Form.row_shape`)."""
        return self.form.row_shape(self.shape)

    @property
    def largest(self) -> int:
        """Largest magnitude that a coded tensor may have, in units of its step."""
        if self.base is not None:
            return min(self.base.largest + self.reach, MAX_SYMBOL)
        return 2 * self.reach if self.run else self.reach

    @property
    def value_bytes(self) -> int:
        """Bytes that hold a tensor's values: the payload and, for a coded tensor, step and range of symbols.

        The tensor's other bytes count as directory: kind, shape, sizes and CRCs.
        """
        return self.size + len(self.grid_bytes())

    def to_bytes(self) -> bytes:
        """The record's bytes in the directory."""
        if self.kind is Kind.UNCHANGED:
            return bytes([self.kind])
        out = bytes([EXPONENTS]) if self.stepped and self.has_symbols else b""
        out += bytes([self._head()]) + varint(self.size) + self.crc.to_bytes(4, "little")
        if self.kind is Kind.RAW or self.has_symbols:
            out += b"".join(varint(dim) for dim in self.shape)
        return out + self.grid_bytes()

    def _head(self) -> int:
        """The first byte."""
        if self.has_symbols:
            return CODED + CODER * (self.kind is Kind.ADAPTIVE) + 8 * self._form() + len(self.shape)
        return 8 * ELEMENT_CODES.index(self.element) + len(self.shape) if self.kind is Kind.RAW else int(self.kind)

    def _form(self) -> int:
        form = form_number(self.order, self.run, self.shape)
        if form is None:
            raise ValueError(f"no form stores runs of {self.run} in order {self.order} of shape {self.shape}")
        return form

    def grid_bytes(self) -> bytes:
        """The bytes of a coded tensor's record that describe its grid: step, unless it is the base's, and reach."""
        if self.kind is Kind.CHANGED:
            return varint(self.reach)
        return step_bytes(self.step) + varint(self.reach) if self.has_symbols else b""


def coded_elements(records: Iterable[Record]) -> int:
    """The elements of all coded tensors together whose records say how many they have."""
    return sum(record.count for record in records if record.has_symbols)


def most_elements(size: int) -> int:
    """How many elements the coded tensors of a file of so many bytes may have, all together."""
    return CODED_ELEMENTS + CODED_ELEMENTS_PER_BYTE * size


def varint(value: int) -> bytes:
    """LEB128 of a number 0 ... 2^32 - 1, in its shortest form."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def crc32(data: Any, before: int = 0) -> int:
    """CRC-32, as zip and PNG define it, of a contiguous buffer; ``before`` is the CRC of the bytes in front of it."""
    return zlib.crc32(data, before)
