"""Encode a quantised model as a delta of a base (docs/format.md, "Deltas")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cerwu_onnx.compression.delta_base import Base
from cerwu_onnx.compression.encode import Coded, code_tensors
from cerwu_onnx.config import Settings
from cerwu_onnx.container import deltas, writer
from cerwu_onnx.container import format as f
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.report import Delta
from cerwu_onnx.types import QuantizedTensor


def encode_delta(
    graph: Graph,
    quantized: Mapping[str, QuantizedTensor],
    metadata: Mapping[str, Any],
    settings: Settings,
    base: Base,
) -> Coded:
    """Code tensors and metadata; each tensor takes the fewest bytes: unchanged, changed, or as in a file of its own.

    Args:
        graph: the graph to write, which fits the base.
        quantized: weights and parameters on their grids, by name.
        metadata: JSON-ready.
        settings: those that concern the file are used.
        base: the base.
    """
    file = code_tensors(
        graph, quantized, replace(settings, weights_only=base.weights_only), _only_changes(quantized, base)
    )
    parts = {name: base.part(name, file.parts.get(name), quantized.get(name), graph) for name in base.names}
    metadata_part = writer.metadata_section({**metadata, **file.masks(base.names)})
    base_part = deltas.base_section(base.container.data, base.container.records)
    content = writer.assemble([*parts.values(), metadata_part, base_part])
    sizes = {name: part.record.value_bytes for name, part in parts.items()}
    coders = {name: part.record.kind.name.lower() for name, part in parts.items()}
    layers = tuple(
        replace(
            report,
            coder=coders[report.name],
            coded_bytes=sizes[report.name],
            bits_per_weight=8 * sizes[report.name] / report.weights,
        )
        for report in file.layers
    )
    parameters = tuple(
        replace(report, coder=coders[report.name], coded_bytes=sizes[report.name]) for report in file.parameters
    )
    weights = {report.name for report in layers} | {report.name for report in parameters}
    other = {
        "exact tensors": sum(size for name, size in sizes.items() if name not in weights),
        "float parameters": sum(parameter.coded_bytes for parameter in parameters),
        "graph": 0,
        "metadata": metadata_part.record.value_bytes,
    }
    other["directory"] = len(content) - sum(other.values()) - sum(report.coded_bytes for report in layers)
    alone = sum(_alone(part, quantized.get(name)) for name, part in file.parts.items())
    kinds = [part.record.kind for part in parts.values()]
    delta = Delta(
        deltas.called(*base.identity),
        unchanged=kinds.count(f.Kind.UNCHANGED),
        changed=kinds.count(f.Kind.CHANGED),
        anew=sum(kind not in (f.Kind.UNCHANGED, f.Kind.CHANGED) for kind in kinds),
        full_bytes=f.HEADER.size + alone + metadata_part.cost + base.graph_bytes,
    )
    return Coded(content, layers, parameters, file.kept(graph), other, delta)


def _only_changes(quantized: Mapping[str, QuantizedTensor], base: Base) -> dict[str, writer.Encoded]:
    """Changes of tensors that a file of their own may be unable to hold: on no trellis, with a step for each row."""
    found = {
        name: base.changed(name, tensor)
        for name, tensor in quantized.items()
        if tensor.exponents is not None and not tensor.run
    }
    return {name: part for name, part in found.items() if part is not None}


def _alone(part: writer.Encoded, tensor: QuantizedTensor | None) -> int:
    """The bytes of a tensor in a file of its own."""
    return part.cost if tensor is None or tensor.alone is None else tensor.alone
