"""A quantised model as the bytes of a file, and what is to be said about each part of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cerwu_onnx.config import Settings
from cerwu_onnx.container import format as f
from cerwu_onnx.container import writer
from cerwu_onnx.container.in_place import margin
from cerwu_onnx.entropy.trellis import coded_entropy
from cerwu_onnx.graph import Graph
from cerwu_onnx.report import LayerReport, ParameterReport
from cerwu_onnx.skeleton import container_tensors, split, stored_tensor
from cerwu_onnx.storage import stored_order
from cerwu_onnx.types import Kept, Layer, QuantizedTensor


@dataclass(slots=True)
class Coded:
    """A file ready to write, and what is to be said about it."""

    content: bytes
    layers: tuple[LayerReport, ...]
    parameters: tuple[ParameterReport, ...]
    kept: tuple[Kept, ...]
    other_bytes: dict[str, int]


def encode(
    graph: Graph,
    quantized: Mapping[str, QuantizedTensor],
    metadata: Mapping[str, Any],
    settings: Settings | None = None,
) -> Coded:
    """Code tensors, graph and metadata. A tensor whose coded form is not smaller than its float form stays exact.

    So do the parameters of a weight that stays exact: there is no error beside which theirs would be small. Of the
    ``settings`` (the defaults when None), those that concern the file count.
    """
    settings = settings or Settings()
    layers, owners = {layer.weight: layer for layer in graph.layers}, graph.parameters
    reports, parameters, unchanged, places = [], [], [], {}
    coded_weights: set[str] = set()
    tensors = container_tensors(graph.model)
    names = list(tensors)
    for name in sorted(names, key=owners.__contains__):  # weights before their parameters
        element, values = stored_tensor(tensors[name])
        places[name] = writer.encode_tensor(writer.RawTensor(name, f.ElementType(element), values))
        if name not in quantized or (name in owners and owners[name].weight not in coded_weights):
            continue
        run = quantized[name].run
        order = stored_order(layers[name], settings.weight_layout, run) if name in layers else f.Order.ROW_MAJOR
        part = writer.encode_tensor(writer.CodedTensor(name, quantized[name], settings.coder, order))
        if part.cost >= places[name].cost:
            reason = "its coded form would not be smaller than exact floats"
            unchanged.append(Kept(name, values.shape, "float32", values.nbytes, reason))
            continue
        places[name] = part
        if name in owners:
            parameters.append(_parameter_report(owners[name], quantized[name], part))
        else:
            reports.append(_layer_report(layers[name], quantized[name], part))
            coded_weights.add(name)
    parts = [places[name] for name in names]
    coded_parameters = {parameter.name for parameter in parameters}
    if coded_parameters:
        mask = sum(1 << index for index, name in enumerate(names) if name in coded_parameters)
        metadata = {**metadata, "params": f"{mask:x}"}
    replaced = coded_parameters | {tensor.name for tensor in unchanged}
    kept = [tensor for tensor in graph.kept if tensor.name not in replaced] + unchanged
    graph_parts = [writer.names_section(names, packed=not settings.weights_only)]
    if not settings.weights_only:
        graph_parts.append(writer.packed_section(f.Kind.GRAPH, split(graph.model, names)))
    metadata_part = writer.metadata_section(metadata)
    sections = [*graph_parts, metadata_part]
    if settings.in_place:
        sections.append(writer.margins_section([margin(part) for part in parts if part.record.is_coded]))
    content = writer.assemble([*parts, *sections])
    other = {
        "exact tensors": sum(part.record.value_bytes for part in parts if part.record.kind is f.Kind.RAW),
        "float parameters": sum(parameter.coded_bytes for parameter in parameters),
        "graph": sum(part.record.value_bytes for part in graph_parts),
        "metadata": metadata_part.record.value_bytes,
    }
    other["directory"] = len(content) - sum(other.values()) - sum(report.coded_bytes for report in reports)
    return Coded(content, tuple(reports), tuple(parameters), tuple(kept), other)


def _layer_report(layer: Layer, quantized: QuantizedTensor, part: writer.Encoded) -> LayerReport:
    """What is to be said about one quantised weight."""
    symbols = quantized.symbols
    return LayerReport(
        name=layer.weight,
        op=layer.sites[0].op,
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
    )


def _parameter_report(layer: Layer, quantized: QuantizedTensor, part: writer.Encoded) -> ParameterReport:
    """What is to be said about one coded float parameter."""
    return ParameterReport(
        name=part.record.name,
        layer=layer.weight,
        shape=quantized.symbols.shape,
        coder=part.record.kind.name.lower(),
        coded_bytes=part.record.value_bytes,
        step=quantized.step,
    )
