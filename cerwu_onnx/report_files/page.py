"""The content of a report: the numbers of a compression, or of a .cwb file, and histograms of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from cerwu_onnx._version import __version__
from cerwu_onnx.config import MAX_LEVELS
from cerwu_onnx.container import format as f
from cerwu_onnx.container.reader import Container, read
from cerwu_onnx.entropy.trellis import coded_entropy
from cerwu_onnx.model.graph import Graph, analyse
from cerwu_onnx.opened import CompressedModel, coded_parameters, coded_tables
from cerwu_onnx.report import LayerReport, ParameterReport, Report
from cerwu_onnx.report_files.grids import Histogram, grid_points, histogram
from cerwu_onnx.types import Kept, Layer

UNKNOWN = math.nan
"""Stands for a number that a file does not tell about a layer."""

NOT_SMALLER = "its coded form would not be smaller than exact floats"


@dataclass(frozen=True, slots=True)
class Page:
    """The content of a report.

    Attributes:
        output: path of the .cwb file, as the user gave it.
        report: the numbers.
        histograms: histogram of each quantised weight, by name.
        from_file: the report was read from the .cwb file: errors are unknown, and ``model_bytes`` is the size of the
            model that it decompresses to (of its float tensors, if it holds weights only).
        model: how the model is called; "" if nobody says.
        tool: what made the file: name and version.
        day: when the report was made, as 2026-01-31.
    """

    output: str
    report: Report
    histograms: Mapping[str, Histogram]
    from_file: bool = False
    model: str = ""
    tool: str = f"cerwu-onnx {__version__}"
    day: str = field(default_factory=lambda: date.today().isoformat())

    @property
    def name(self) -> str:
        """Name of the .cwb file."""
        return Path(self.output).name

    @property
    def origin(self) -> str:
        """What the file was made from and by, and the day of the report."""
        return " · ".join(filter(None, (self.model, self.tool, self.day)))


def page_of(report: Report, model: str | Path, output: str | Path, base: str | Path | None = None) -> Page:
    """Make the content for a compression of ``model`` that has just written ``output``, maybe a delta of ``base``.

    Raises:
        UsageError, CorruptFileError: the file has gone, or has changed since it was written.
    """
    container = read(output, base if report.delta else None)
    records = {record.name: record for record in container.tensors}
    counted = {
        layer.name: histogram(grid_points(container, records[layer.name]), layer.step) for layer in report.layers
    }
    return Page(str(output), report, counted, model=Path(model).name)


def describe(path: str | Path, base: str | Path | None = None) -> Page:
    """Make the content from what a .cwb file, maybe a delta of ``base``, tells of its compression.

    Raises:
        UsageError: it cannot be read.
        CorruptFileError: a check fails.
    """
    container = read(path, base)
    container.check_sections()
    metadata = container.metadata()
    graph, model_bytes = _graph(container)
    known = {layer.weight: layer for layer in graph.layers} if graph else {}
    owners = {name: layer.weight for name, layer in graph.parameters.items()} if graph else {}
    marked, tables = coded_parameters(container), coded_tables(container)
    layers: list[LayerReport] = []
    parameters: list[ParameterReport] = []
    counted = {}
    for record in container.tensors:
        if not record.is_coded or record.name in tables:
            continue
        symbols = grid_points(container, record)
        if record.name in marked:
            parameters.append(_parameter(record, owners.get(record.name, "")))
        else:
            layers.append(_layer(record, symbols, known.get(record.name)))
            counted[record.name] = histogram(symbols, record.step)
    if graph is not None:
        nodes = graph.nodes
        layers.sort(key=lambda layer: known[layer.name].position(nodes) if layer.name in known else len(nodes))
    report = Report(
        model_bytes=model_bytes,
        file_bytes=len(container.data),
        method=_text(metadata, "method"),
        lambda_=_number(metadata, "lambda"),
        levels=_levels(metadata),
        calibration=_text(metadata, "calibration"),
        calibration_samples=0,
        output_loss=None,
        folded=(),
        layers=tuple(layers),
        parameters=tuple(parameters),
        kept=_kept(container, graph),
        other_bytes=_other_bytes(container, layers, parameters),
        warnings=(),
        seconds={},
    )
    about = metadata.get("about")
    name = _text(about, "name") if isinstance(about, dict) else ""
    return Page(str(path), report, counted, from_file=True, model=name, tool=_text(metadata, "tool"))


def _graph(container: Container) -> tuple[Graph | None, int]:
    """The analysed graph, if the file holds one, and the size of the model without compression."""
    if any(record.kind == f.Kind.GRAPH for record in container.records):
        model = CompressedModel(container).to_onnx()
        return analyse(model), model.ByteSize()
    return None, sum(record.count * f.item_size(record.element) for record in container.tensors)


def _layer(record: f.Record, symbols: Any, layer: Layer | None) -> LayerReport:
    return LayerReport(
        name=record.name,
        op="" if layer is None else layer.op,
        shape=record.shape,
        weights=record.count,
        coder=record.kind.name.lower(),
        coded_bytes=record.value_bytes,
        bits_per_weight=8 * record.value_bytes / record.count,
        entropy=coded_entropy(record.order.store(symbols), record.run if record.has_symbols else 0),
        step=record.step,
        symbols=len(np.unique(symbols)),
        relative_error=UNKNOWN,
        damping=UNKNOWN,
    )


def _parameter(record: f.Record, layer: str) -> ParameterReport:
    coder = record.kind.name.lower()
    return ParameterReport(record.name, layer, record.shape, coder, record.value_bytes, record.step)


def _kept(container: Container, graph: Graph | None) -> tuple[Kept, ...]:
    """The exact tensors, with reasons from the graph if there is one."""
    tables = coded_tables(container)
    exact = {record.name: record for record in container.tensors if not record.is_coded or record.name in tables}
    if graph is None:
        return tuple(_exact(record, "") for record in exact.values())
    coded = {record.name for record in container.tensors} - exact.keys()
    left = [_exact(exact[layer.weight], NOT_SMALLER) for layer in graph.layers if layer.weight in exact]
    return (*(tensor for tensor in graph.kept if tensor.name not in coded), *left)


def _exact(record: f.Record, reason: str) -> Kept:
    return Kept(record.name, record.shape, record.element.name.lower(), record.size, reason)


def _other_bytes(container: Container, layers: list[LayerReport], parameters: list[ParameterReport]) -> dict[str, int]:
    """Other bytes as ``compress`` counts them: names belong to the graph, and the rest to the directory."""

    def size(*kinds: f.Kind) -> int:
        return sum(record.size for record in container.records if record.kind in kinds)

    tables = coded_tables(container)

    other = {
        "exact tensors": size(f.Kind.RAW)
        + sum(record.value_bytes for record in container.tensors if record.name in tables),
        "float parameters": sum(parameter.coded_bytes for parameter in parameters),
        "graph": size(f.Kind.GRAPH, f.Kind.NAMES),
        "metadata": size(f.Kind.METADATA),
    }
    used = sum(other.values()) + sum(layer.coded_bytes for layer in layers)
    return other | {"directory": len(container.data) - used}


def _text(metadata: dict[str, Any], key: str) -> str:
    value = metadata.get(key)
    return value if isinstance(value, str) else ""


def _number(metadata: dict[str, Any], key: str) -> float:
    value = metadata.get(key)
    try:
        return float(value) if isinstance(value, (int, float)) else UNKNOWN
    except OverflowError:
        return UNKNOWN


def _levels(metadata: dict[str, Any]) -> int | None:
    value = metadata.get("levels")
    return value if type(value) is int and 2 <= value <= MAX_LEVELS else None
