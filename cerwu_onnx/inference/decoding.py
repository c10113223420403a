"""Which tensors are decoded for which node, and how their elements are brought into the order of ONNX."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cerwu_onnx.container import format as f
from cerwu_onnx.inference.generator import Call, Program


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements that are decoded at one time, to floats.

    Attributes:
        array: what the generator calls them.
        index: the tensor's number in the file.
        name: the tensor's name.
        count: elements: all of the tensor, or the next ones.
        inner, moved: stored are ``[outer][inner][moved]`` elements, wanted ``[outer][moved][inner]``.
        tiled: whether they are part of the tensor.
        rows: steps that the tensor has, one row after the other and then again from the first.
        row: elements of a row, as they are stored.
    """

    array: str
    index: int
    name: str
    count: int
    inner: int
    moved: int
    tiled: bool = False
    rows: int = 1
    row: int = 0

    @property
    def size(self) -> int:
        """Bytes, decoded."""
        return 4 * self.count


def piece(array: str, index: int, record: f.Record, shape: Sequence[int], *, tiled: bool = False) -> Piece:
    """How to decode a tensor, or a part of this ONNX shape."""
    count = math.prod(shape)
    inner, moved = 1, count
    if record.order is not f.Order.ROW_MAJOR:
        axis = record.order.axes(len(shape))[-1]
        inner, moved = math.prod(shape[axis + 1 :]), shape[axis]
    rows, row = steps(record)
    return Piece(array, index, record.name, count, inner, count if inner == 1 else moved, tiled, rows, row)


def steps(record: f.Record) -> tuple[int, int]:
    """How many steps a tensor has, and after how many stored elements the next row begins."""
    if not record.stepped:
        return 1, record.count
    rows = math.prod(record.row_shape)
    if not record.run and record.order is f.Order.AXIS0_LAST:
        return rows, 1
    return rows, record.count // rows


def pieces(program: Program, records: Mapping[str, tuple[int, f.Record]]) -> dict[str, tuple[Piece, ...]]:
    """What is decoded for each node, by its function: whole tensors first, then the weights of which it takes parts.

    Args:
        program: the nodes.
        records: number in the file and record of what each array stands for.
    """
    return {call.function: _pieces(call, records) for call in program.calls}


def _pieces(call: Call, records: Mapping[str, tuple[int, f.Record]]) -> tuple[Piece, ...]:
    read = dict(zip(call.arguments, call.parameters, strict=True))
    found = []
    for array, parameter in read.items():
        if array in records:
            index, record = records[array]
            tiled = array == call.tiled
            found.append(piece(array, index, record, parameter.dims if tiled else record.shape, tiled=tiled))
    return tuple(sorted(found, key=lambda piece: piece.tiled))
