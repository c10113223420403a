"""The base of a delta: whether a model fits it, and its tensors, whose changes a delta codes (docs/deltas.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from cerwu_onnx.compression.storage_order import stored_order
from cerwu_onnx.config import Settings
from cerwu_onnx.container import deltas, writer
from cerwu_onnx.container import format as f
from cerwu_onnx.container.payload import exponents_of
from cerwu_onnx.container.reader import Container
from cerwu_onnx.model.elements import FLOATS
from cerwu_onnx.model.exact_tensors import coded_table
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.model.placeholders import placeholder
from cerwu_onnx.model.skeleton import split, stored_tensor
from cerwu_onnx.model.tensors import constant_tensors
from cerwu_onnx.quantize import changes
from cerwu_onnx.types import FloatArray, Layer, QuantizedTensor

_GRAPHS = (f.Kind.GRAPH, f.Kind.NAMES)


@dataclass(frozen=True, slots=True)
class Before:
    """A coded tensor of the base.

    Attributes:
        record: its record.
        stored: its values, int32, flat, in stored order.
        payload: its payload.
    """

    record: f.Record
    stored: npt.NDArray[np.int32]
    payload: bytes

    @property
    def tensor(self) -> QuantizedTensor:
        """The tensor on its grid; its run says whether there is a trellis."""
        record = self.record
        exponents = exponents_of(record, self.payload)[0] if record.stepped else None
        symbols = record.order.restore(self.stored, record.shape)
        return QuantizedTensor(symbols, record.step, 0.0, 0.0, 0.0, record.run, exponents=exponents)

    def encode(self, tensor: QuantizedTensor) -> writer.Encoded | None:
        """A tensor as changes of this one; None if it has another grid, or the format does not hold them."""
        if tensor.symbols.shape != self.record.shape or not np.array_equal(tensor.steps, self.tensor.steps):
            return None
        stored = self.record.order.store(tensor.symbols).ravel()
        if np.array_equal(stored, self.stored):
            return deltas.unchanged(self.record)
        return deltas.changed(self.record, self.payload, self.stored, stored)

    def cost(self, tensor: QuantizedTensor) -> int | None:
        """The bytes of that."""
        part = self.encode(tensor)
        return None if part is None else part.cost


class Base:
    """A file from which deltas start.

    Args:
        container: the file, which is no delta.
    """

    def __init__(self, container: Container) -> None:
        self.container = container
        self._records = {record.name: record for record in container.tensors}

    def __contains__(self, name: object) -> bool:
        """Whether the base's directory has a tensor of this name."""
        return name in self._records

    @property
    def names(self) -> list[str]:
        """Names of the tensors, in order."""
        return list(self._records)

    @property
    def identity(self) -> tuple[int, int]:
        """What a delta says of it: bytes of its tensors, and CRC of their records."""
        return deltas.identity(self.container.data, self.container.records)

    @property
    def weights_only(self) -> bool:
        """Whether it has no graph."""
        return not self.container.section_size(f.Kind.GRAPH)

    @property
    def graph_bytes(self) -> int:
        """The bytes that its graph takes, or its names."""
        return sum(len(record.to_bytes()) + record.size for record in self.container.records if record.kind in _GRAPHS)

    def before(self, name: str) -> Before | None:
        """A coded tensor; None if the base has none of this name."""
        record = self._records.get(name)
        if record is None or not record.is_coded:
            return None
        return Before(record, self.container.values(record), self.container.payload(record))

    def changed(self, name: str, tensor: QuantizedTensor) -> writer.Encoded | None:
        """A tensor as changes of the base's; None if that is not possible."""
        before = self.before(name)
        return None if before is None else before.encode(tensor)

    def misfit(self, graph: Graph, coder: str) -> str:
        """Why a model cannot be a delta of this base, in words; empty if it can."""
        constants = constant_tensors(graph.model)
        if [name for name in constants if name in self] != self.names:
            return "it has not the tensors of the base"
        placeholders = {}
        for name, record in self._records.items():
            tensor = constants[name]
            if tensor.data_type in FLOATS:
                if record.shape != tuple(tensor.dims):
                    return f"tensor {name!r} has another shape than in the base"
                if not record.is_coded and record.element != tensor.data_type:
                    return f"tensor {name!r} has another type than in the base"
                if record.is_coded:
                    placeholders[name] = placeholder(tensor)
                continue
            found = coded_table(name, tensor, coder, weights_only=self.weights_only)
            if found is None or found[0].record.shape != record.shape or not record.is_coded:
                return f"the integers of tensor {name!r} are not those of the base"
            placeholders[name] = found[1]
        if self.weights_only:
            return "" if _floats(constants) <= set(self.names) else "it has tensors that the base has not"
        same = split(graph.model, self.names, placeholders) == self.container.graph()
        return "" if same else "its graph, or a constant inside it, is not that of the base"

    def part(
        self, name: str, part: writer.Encoded | None, tensor: QuantizedTensor | None, graph: Graph
    ) -> writer.Encoded:
        """The smallest record for a tensor of a delta.

        Args:
            name: of the tensor.
            part: the tensor as a file without a base has it; None if such a file has it in its graph section.
            tensor: on its grid, if it is coded.
            graph: with its exact values.
        """
        record = self._records[name]
        if part is not None and part.record.is_coded and record.element is f.ElementType.FLOAT32:
            changed = None if tensor is None else self.changed(name, tensor)
            if tensor is None and (record.crc, record.size) == (part.record.crc, part.record.size):  # a table
                changed = deltas.unchanged(record)
            return part if changed is None else min(part, changed, key=lambda found: found.cost)
        element = graph.element(name)
        if record.element is element:
            exact = writer.RawTensor(name, element, stored_tensor(graph.tensors[name])[1])
        else:  # a coded tensor, of another type by its placeholder
            exact = writer.RawTensor(name, f.ElementType.FLOAT32, graph.array(name))
        part = writer.encode_tensor(exact)
        same = not record.is_coded and self.container.payload(record) == part.payload
        return deltas.unchanged(record) if same else part


def _floats(constants: Mapping[str, onnx.TensorProto]) -> set[str]:
    return {name for name, tensor in constants.items() if tensor.data_type in FLOATS and 0 not in tensor.dims}


def over(before: Before | None, layer: Layer, settings: Settings) -> changes.Base | None:
    """What the quantiser needs of a weight's tensor in the base."""
    if before is None:
        return None

    def alone(tensor: QuantizedTensor) -> int:
        order = stored_order(layer, settings.weight_layout, tensor)
        coded = writer.CodedTensor(layer.weight, tensor, settings.coder, order, settings.max_decode_cost)
        return writer.encode_tensor(coded).cost

    return changes.Base(before.tensor, before.cost, alone)


def parameters_over(
    base: Base | None,
    coded: Mapping[str, QuantizedTensor],
    values: Mapping[str, FloatArray],
) -> dict[str, QuantizedTensor]:
    """Float parameters on the grids of the base, where that is as fine and takes fewer bytes.

    A value of the base stays if it is as near as the nearest of the parameter's own grid may be.

    Args:
        base: None changes nothing.
        coded: the parameters on their own grids, by name.
        values: what they should be, by name.
    """
    found = dict(coded)
    for name, tensor in coded.items():
        before = None if base is None else base.before(name)
        if before is None:
            continue
        old = before.tensor
        error = values[name].astype(np.float64) / old.steps - old.symbols
        near = np.abs(error) * old.steps <= tensor.steps / 2
        if not (near | (old.steps <= tensor.steps)).all():
            continue
        symbols = old.symbols + np.where(near, 0, np.rint(error)).astype(np.int32)
        moved = replace(old, symbols=symbols, distortion=tensor.distortion, energy=tensor.energy, run=0)
        part = before.encode(moved)
        if part is not None and part.cost < writer.encode_tensor(writer.CodedTensor(name, tensor)).cost:
            found[name] = moved
    return found
