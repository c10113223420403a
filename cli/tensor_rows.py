"""The rows of ``inspect``: what a .cwb file tells about each of its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cerwu_onnx.container.reader import Container


@dataclass(frozen=True, slots=True)
class TensorRow:
    """The facts about a tensor of a .cwb file; order, steps and symbols are None for exact tensors.

    ``step`` is the largest of its rows, ``least_step`` the smallest.
    ``parameter`` marks coded biases and BatchNormalization parameters, ``table`` integers coded without loss: neither
    counts as weights. ``trellis`` says whether the values follow a trellis.
    """

    name: str
    coding: str
    type: str
    shape: tuple[int, ...]
    weights: int
    bytes: int
    bits_per_weight: float
    order: str | None = None
    step: float | None = None
    least_step: float | None = None
    largest: int | None = None
    parameter: bool = False
    table: bool = False
    trellis: bool = False


def tensor_rows(container: Container) -> list[TensorRow]:
    """The tensors of a file, in its order; their bytes are those of the values, without the directory."""
    from cerwu_onnx.runtime import CompressedModel, coded_parameters, coded_tables

    parameters, tables = coded_parameters(container), coded_tables(container)
    types = CompressedModel(container).dtypes or {}
    rows = []
    for record in container.tensors:
        coded = record.is_coded
        cost, steps = record.value_bytes, container.steps(record) if coded else None
        row = TensorRow(
            name=record.name,
            coding=record.kind.name.lower() if coded else "exact",
            type=types.get(record.name, record.element.name.lower()),
            shape=record.shape,
            weights=record.count,
            bytes=cost,
            bits_per_weight=8 * cost / record.count if record.count else 0.0,
            order=record.order.name.lower() if coded else None,
            step=None if steps is None else float(steps.max()),
            least_step=None if steps is None else float(steps.min()),
            largest=record.largest if coded else None,
            parameter=record.name in parameters,
            table=record.name in tables,
            trellis=record.run > 0,
        )
        rows.append(row)
    return rows
