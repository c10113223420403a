"""The index of a firmware's tensors: the C identifier of each, and the memory that it needs."""

from __future__ import annotations

from dataclasses import dataclass

from cerwu_onnx.container import format as f
from cerwu_onnx.container import writer
from cerwu_onnx.container.in_place import margin
from cerwu_onnx.container.reader import Container
from cerwu_onnx.firmware import c_source

ORDERS = {
    f.Order.ROW_MAJOR: "row-major",
    f.Order.AXIS1_LAST: "axis 1 last (OHWI)",
    f.Order.AXIS0_LAST: "axis 0 last (IHWO)",
    f.Order.LAST_TWO_SWAPPED: "last two axes swapped",
}


@dataclass(frozen=True, slots=True)
class FirmwareTensor:
    """A tensor in firmware, and its bytes of memory.

    Attributes:
        name: its name, "#3" for the fourth tensor of a file without names.
        identifier: its part of C identifiers.
        shape: ONNX dimensions.
        coding: "ans", "adaptive" or "exact".
        order: the order in which its elements are stored and decoded.
        flash: bytes of record and payload.
        elements: number of elements.
        scratch: bytes of memory for decoding, in addition to input and output; 0 for exact tensors.
        in_place: bytes of a buffer in which it can be decoded to int8 over its own payload; None if it is exact or its
            symbols do not fit int8.
    """

    name: str
    identifier: str
    shape: tuple[int, ...]
    coding: str
    order: f.Order
    flash: int
    elements: int
    scratch: int
    in_place: int | None


def firmware_tensors(container: Container) -> tuple[FirmwareTensor, ...]:
    """The tensors of a file with their memory, in file order.

    Raises:
        CorruptFileError: a tensor or the margins are damaged.
    """
    names = c_source.identifiers(record.name for record in container.tensors)
    margins = container.margins()

    def in_place(record: f.Record) -> int | None:
        if not fits_int8(record):
            return None
        part = writer.Encoded(record, container.payload(record))
        return record.count + (margin(part) if margins is None else margins[record.name])

    return tuple(
        FirmwareTensor(
            name=record.name,
            identifier=identifier,
            shape=record.shape,
            coding=record.kind.name.lower() if record.is_coded else "exact",
            order=record.order,
            flash=len(record.to_bytes()) + record.size,
            elements=record.count,
            scratch=scratch_bytes(record),
            in_place=in_place(record),
        )
        for record, identifier in zip(container.tensors, names, strict=True)
    )


def scratch_bytes(record: f.Record) -> int:
    """The result of the C function ``cwb_scratch_size`` for a tensor."""
    if record.kind == f.Kind.ANS:
        tables = 2 if record.run else 1
        return 2 * tables * (6 * (record.reach + 1) + 128)
    return 152 if record.kind == f.Kind.ADAPTIVE else 0


def fits_int8(record: f.Record) -> bool:
    """Whether a tensor is coded and all its symbols fit int8."""
    return record.is_coded and record.largest <= 127
