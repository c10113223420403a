"""Encode a quantised model as the bytes of a .cwb file, with a report on each of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from cerwu_onnx.compression.storage_order import fits_element, raw_cost, stored_order
from cerwu_onnx.config import Settings
from cerwu_onnx.container import format as f
from cerwu_onnx.container import writer
from cerwu_onnx.container.in_place import margin
from cerwu_onnx.entropy.trellis import coded_entropy
from cerwu_onnx.errors import ModelError
from cerwu_onnx.model.bounds import fits
from cerwu_onnx.model.elements import FLOATS
from cerwu_onnx.model.exact_tensors import coded_table, is_redundant
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.model.placeholders import placeholder
from cerwu_onnx.model.references import name_bytes
from cerwu_onnx.model.skeleton import fits_directory, split, stored_tensor
from cerwu_onnx.model.tensors import tensor_bytes, type_name
from cerwu_onnx.report import Delta, LayerReport, ParameterReport
from cerwu_onnx.types import Kept, Layer, QuantizedTensor

_SECTIONS = 8
"""The most records of a file that are not tensors."""


@dataclass(slots=True)
class Coded:
    """The bytes of a file, and the parts of the report that describe them.

    Attributes:
        content: the whole file.
        layers: one report for each coded weight.
        parameters: one report for each coded bias or normalisation parameter.
        kept: constants that stay exact.
        other_bytes: bytes of everything that is not a coded weight, by kind.
        delta: what the file takes from its base, if it is a delta.
    """

    content: bytes
    layers: tuple[LayerReport, ...]
    parameters: tuple[ParameterReport, ...]
    kept: tuple[Kept, ...]
    other_bytes: dict[str, int]
    delta: Delta | None = None


@dataclass(slots=True)
class Tensors:
    """The tensors of a file that is being put together.

    Attributes:
        parts: tensors of the directory, by name.
        placeholders: what stands in the graph section for each coded tensor, by name.
        coded: names of coded tensors by kind: weights, their parameters, tables of integers.
        layers: one report for each coded weight.
        parameters: one report for each coded bias or normalisation parameter.
        unchanged: tensors that stay exact although they are on a grid.
    """

    parts: dict[str, writer.Encoded] = field(default_factory=dict)
    placeholders: dict[str, onnx.TensorProto] = field(default_factory=dict)
    coded: dict[str, set[str]] = field(default_factory=lambda: {"weights": set(), "parameters": set(), "tables": set()})
    layers: list[LayerReport] = field(default_factory=list)
    parameters: list[ParameterReport] = field(default_factory=list)
    unchanged: list[Kept] = field(default_factory=list)

    def put(self, name: str, part: writer.Encoded, stand_in: onnx.TensorProto | None = None, kind: str = "") -> None:
        """Add a tensor; a coded one comes with its placeholder and its kind."""
        self.parts[name] = part
        if stand_in is not None:
            self.placeholders[name] = stand_in
            self.coded[kind].add(name)

    def limit(self, most: int) -> None:
        """Keep at most so many tensors in the directory: the smallest exact ones stay in the graph section instead."""
        exact = [name for name, part in self.parts.items() if part.record.kind is f.Kind.RAW]
        exact.sort(key=lambda name: self.parts[name].record.size)
        for name in exact[: max(0, len(self.parts) - most)]:
            del self.parts[name]

    def masks(self, names: Sequence[str]) -> dict[str, str]:
        """The metadata's masks of coded tensors that are no weights, for a file with tensors of these names."""
        found = {}
        for key, kind in (("params", "parameters"), ("tables", "tables")):
            if self.coded[kind]:
                mask = sum(1 << index for index, name in enumerate(names) if name in self.coded[kind])
                found[key] = f"{mask:x}"
        return found

    def kept(self, graph: Graph) -> tuple[Kept, ...]:
        """The constants that stay exact."""
        replaced = self.coded["parameters"] | {tensor.name for tensor in self.unchanged}
        return tuple([tensor for tensor in graph.kept if tensor.name not in replaced] + self.unchanged)


def encode(
    graph: Graph,
    quantized: Mapping[str, QuantizedTensor],
    metadata: Mapping[str, Any],
    settings: Settings | None = None,
) -> Coded:
    """Code tensors, graph and metadata. A tensor whose coded form is not smaller than its float form stays exact.

    The parameters of a weight that stays exact stay exact too: their error would not be small beside an error of 0.

    Args:
        graph: the graph to write.
        quantized: weights and parameters on their grids, by name.
        metadata: JSON-ready.
        settings: those that concern the file are used; the defaults when None.
    """
    settings = settings or Settings()
    file = code_tensors(graph, quantized, settings)
    if not settings.weights_only:
        file.limit(f.MAX_RECORDS - _SECTIONS)
    names = [name for name in graph.tensors if name in file.parts]
    parts = [file.parts[name] for name in names]
    if settings.weights_only:
        graph_part = writer.names_section(names)
    else:
        graph_part = _graph_section(names, split(graph.model, names, file.placeholders), name_bytes(graph.model))
    metadata_part = writer.metadata_section({**metadata, **file.masks(names)})
    sections = [graph_part, metadata_part]
    if settings.in_place:
        sections.append(writer.margins_section([margin(part) for part in parts if part.record.is_coded]))
    content = writer.assemble([*parts, *sections])
    other = {
        "exact tensors": sum(
            part.record.value_bytes
            for name, part in zip(names, parts, strict=True)
            if part.record.kind is f.Kind.RAW or name in file.coded["tables"]
        ),
        "float parameters": sum(parameter.coded_bytes for parameter in file.parameters),
        "graph": graph_part.record.value_bytes,
        "metadata": metadata_part.record.value_bytes,
    }
    other["directory"] = len(content) - sum(other.values()) - sum(report.coded_bytes for report in file.layers)
    return Coded(content, tuple(file.layers), tuple(file.parameters), file.kept(graph), other)


def code_tensors(
    graph: Graph,
    quantized: Mapping[str, QuantizedTensor],
    settings: Settings,
    made: Mapping[str, writer.Encoded] | None = None,
) -> Tensors:
    """Code the tensors of a file; arguments are those of :func:`encode`, and tensors that are coded already."""
    layers, owners = {layer.weight: layer for layer in graph.layers}, graph.parameters
    file = Tensors()
    candidates = {name: tensor for name, tensor in graph.tensors.items() if fits_directory(name, tensor)}
    for name in sorted(candidates, key=owners.__contains__):  # weights before their parameters
        tensor = candidates[name]
        if tensor.data_type not in FLOATS:
            found = coded_table(name, tensor, settings.coder, weights_only=settings.weights_only)
            if found is not None:
                file.put(name, *found, kind="tables")
            continue
        element = graph.element(name)
        if name in quantized and not (name in owners and owners[name].weight not in file.coded["weights"]):
            result = quantized[name]
            order = f.Order.ROW_MAJOR
            if name in layers:
                order = stored_order(layers[name], settings.weight_layout, result)
            part = (made or {}).get(name) or writer.encode_tensor(
                writer.CodedTensor(name, result, settings.coder, order, settings.max_decode_cost)
            )
            if part.cost < raw_cost(element, result.symbols.shape) and fits_element(result, element):
                file.put(name, part, placeholder(tensor), kind="parameters" if name in owners else "weights")
                if name in owners:
                    file.parameters.append(_parameter_report(owners[name], result, part))
                else:
                    file.layers.append(_layer_report(layers[name], result, part))
                continue
            reason = "its coded form would not be smaller than exact floats"
            file.unchanged.append(Kept(name, tuple(tensor.dims), type_name(element), tensor_bytes(tensor), reason))
        if settings.weights_only or not is_redundant(tensor):
            file.put(name, writer.encode_tensor(writer.RawTensor(name, element, stored_tensor(tensor)[1])))
    nodes = graph.nodes
    file.layers.sort(key=lambda report: layers[report.name].position(nodes))
    return file


def _graph_section(names: list[str], skeleton: bytes, spelled: int) -> writer.Encoded:
    """The graph, whose nodes spell so many bytes of names; not compressed if that broke docs/format.md, "Limits".

    Raises:
        ModelError: the names break a limit in any case.
    """
    for compress in (True, False):
        part = writer.graph_section(names, skeleton, compress=compress)
        if fits(skeleton, spelled, part.record.size):
            return part
    raise ModelError(f"the names in the model's nodes take {spelled} bytes: shorten those of its values")


def _layer_report(layer: Layer, quantized: QuantizedTensor, part: writer.Encoded) -> LayerReport:
    """The report on one coded weight."""
    symbols = quantized.symbols
    return LayerReport(
        name=layer.weight,
        op=layer.op,
        shape=symbols.shape,
        weights=symbols.size,
        coder=part.record.kind.name.lower(),
        coded_bytes=part.record.value_bytes,
        bits_per_weight=8 * part.record.value_bytes / symbols.size,
        entropy=coded_entropy(part.record.order.store(symbols), quantized.run),
        step=quantized.step,
        symbols=len(np.unique(symbols)),
        relative_error=quantized.distortion / quantized.energy if quantized.energy else 0.0,
        damping=quantized.damping,
        blocks=layer.blocks,
        node=next(iter(layer.nodes), ""),
    )


def _parameter_report(layer: Layer, quantized: QuantizedTensor, part: writer.Encoded) -> ParameterReport:
    """The report on one coded float parameter."""
    return ParameterReport(
        name=part.record.name,
        layer=layer.weight,
        shape=quantized.symbols.shape,
        coder=part.record.kind.name.lower(),
        coded_bytes=part.record.value_bytes,
        step=quantized.step,
    )
