"""``compress``: the stages in order. Each stage is a function of its own, so that sweeps can reuse what they share."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cerwu_onnx import __version__
from cerwu_onnx.allocate import allocate, blind
from cerwu_onnx.calibration import (
    CalibrationSpec,
    ImageOptions,
    Source,
    collect,
    identity_stats,
    model_inputs,
    open_source,
)
from cerwu_onnx.config import Settings
from cerwu_onnx.container import format as f
from cerwu_onnx.container import writer
from cerwu_onnx.container.in_place import margin
from cerwu_onnx.entropy.tables import entropy
from cerwu_onnx.entropy.trellis import to_indices
from cerwu_onnx.files import check_target, write_atomic
from cerwu_onnx.fold import check_folding, fold_batch_norm
from cerwu_onnx.graph import Graph, analyse, load_model
from cerwu_onnx.onnx_io import with_tensors
from cerwu_onnx.quantize.bound import gaussian_rate
from cerwu_onnx.quantize.floats import quantize_floats
from cerwu_onnx.quantize.methods import quantize
from cerwu_onnx.report import LayerReport, ParameterReport, Report
from cerwu_onnx.skeleton import container_tensors, split, stored_tensor
from cerwu_onnx.storage import storage
from cerwu_onnx.types import Kept, Layer, LayerStats, QuantizedTensor

log = logging.getLogger(__name__)

LOST = 0.5
"""Root-mean-square output error, relative, above which a layer is worth a warning."""

Progress = Callable[[str, int, int | None, str], None]
"""``progress(stage, done, total, item)``; total is None where it is not known."""


def _silent(stage: str, done: int, total: int | None, item: str) -> None:
    """The progress of callers that want none."""


@dataclass(slots=True)
class Coded:
    """A file ready to write, and what is to be said about it."""

    content: bytes
    layers: tuple[LayerReport, ...]
    parameters: tuple[ParameterReport, ...]
    kept: tuple[Kept, ...]
    other_bytes: dict[str, int]


def compress(
    model: str | Path,
    output: str | Path,
    *,
    calib: CalibrationSpec | None = None,
    settings: Settings | None = None,
    images: ImageOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compress an ONNX file into a .cwb file.

    Args:
        model: path of the ONNX model.
        output: path of the .cwb file.
        calib: calibration data: a .npz, a directory, ``module:function``, ``file.py:function``, a callable, an
            iterable of feed dicts or a dict of arrays. None quantises data-free (identity Hessian), with a warning.
        settings: method and numbers; the defaults of :class:`~cerwu_onnx.config.Settings` when None.
        images: how a directory of images becomes inputs.
        force: overwrite ``output``.
        progress: called as the stages advance.

    Returns:
        What was done, layer by layer.

    Raises:
        UsageError: a path cannot be read or written.
        ModelError: the model is invalid.
        CalibrationError: the calibration data does not fit the model.
    """
    settings = settings or Settings()
    progress = progress or _silent
    check_target(output, overwrite=force, source=model)
    clock = Clock()
    with logged_warnings() as warnings:
        with clock("load"):
            progress("load", 0, None, str(model))
            graph, folded, source = prepare(model, settings, calib, images)
            digest = hashlib.sha256(Path(model).read_bytes())
        done = quantize_model(graph, source, settings, progress, clock)
        with clock("encode"):
            progress("encode", 0, None, str(output))
            metadata: dict[str, Any] = {
                "tool": f"cerwu-onnx {__version__}",
                "method": settings.method,
                "lambda": settings.price,
                "calibration": "data" if done.samples else "none",
                "model": digest.hexdigest()[:16],
            }
            if folded:
                metadata["folded"] = len(folded)
            if settings.method != "trellis":
                metadata["levels"] = settings.levels
            coded = encode(done.graph, done.quantized, metadata, settings)
            write_atomic(output, coded.content, overwrite=force)
    return Report(
        model_bytes=Path(model).stat().st_size,
        file_bytes=len(coded.content),
        method=settings.method,
        lambda_=settings.price,
        levels=None if settings.method == "trellis" else settings.levels,
        calibration="data" if done.samples else "none",
        calibration_samples=done.samples,
        output_loss=done.loss,
        folded=folded,
        layers=tuple(
            replace(layer, above_bound=layer.bits_per_weight - done.bounds[layer.name]) for layer in coded.layers
        ),
        parameters=coded.parameters,
        kept=coded.kept,
        other_bytes=coded.other_bytes,
        warnings=tuple(warnings),
        seconds=clock.seconds,
    )


def prepare(
    model: str | Path, settings: Settings, calib: CalibrationSpec | None = None, images: ImageOptions | None = None
) -> tuple[Graph, tuple[str, ...], Source | None]:
    """Load the model, open the calibration data, fold BatchNormalization if asked, and find the layers.

    Returns:
        The graph, the names of the folded BatchNormalization nodes, and the opened data (None without ``calib``).
    """
    loaded = load_model(model)
    source = None if calib is None else open_source(calib, model_inputs(loaded), images=images)
    if not settings.folds_bn:
        return analyse(loaded), (), source
    folded, names = fold_batch_norm(loaded)
    check_folding(loaded, folded, source.first() if source else None)
    return analyse(folded), names, source


def statistics(
    graph: Graph, source: Source | None, settings: Settings, progress: Progress = _silent
) -> tuple[dict[str, LayerStats], int]:
    """Input statistics of every layer, and the number of samples they come from (0: identity Hessians)."""
    if source is None:
        log.warning(
            "no calibration data: every input counts the same (identity Hessian), which costs accuracy; "
            "give --calib for results worth shipping"
        )
        return {layer.weight: identity_stats(layer) for layer in graph.layers}, 0
    return collect(
        graph,
        source,
        batch_size=settings.batch_size,
        memory=settings.memory,
        progress=lambda done, total: progress("calibrate", done, total, "samples"),
    )


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantised model.

    Attributes:
        graph: the graph to write: that of the float model but for float parameters that moved.
        quantized: weights and parameters on their grids, by name.
        bounds: bits per weight by the rate-distortion function of each weight, at its distortion.
        samples: calibration samples, 0 without data.
        loss: at the model's outputs on the calibration data; None where the method does not measure it.
    """

    graph: Graph
    quantized: dict[str, QuantizedTensor]
    bounds: dict[str, float]
    samples: int
    loss: float | None = None


def quantize_model(
    graph: Graph,
    source: Source | None,
    settings: Settings,
    progress: Progress = _silent,
    clock: Clock | None = None,
) -> Quantized:
    """Quantise a model by the method of ``settings``; warn of layers that lose most of their output."""
    clock = clock or Clock()
    if settings.method == "trellis" and source is not None and graph.layers:
        with clock("quantize"):
            found = allocate(graph, source, settings, progress)
        exact = {name: values for name, values in found.values.items() if name not in found.quantized}
        moved = replace(graph, model=with_tensors(graph.model, exact)) if exact else graph
        result = Quantized(moved, found.quantized, found.bounds, found.samples, found.loss)
    else:
        with clock("calibrate"):
            stats, samples = statistics(graph, source, settings, progress)
        with clock("quantize"):
            quantized = quantize_layers(graph, stats, settings, progress)
            bounds = {layer.weight: _bound(graph, layer, stats[layer.weight], quantized) for layer in graph.layers}
        result = Quantized(graph, quantized, bounds, samples)
    for layer in graph.layers:
        _warn_if_lost(layer, result.quantized[layer.weight], settings)
    return result


def _bound(graph: Graph, layer: Layer, stats: LayerStats, quantized: Mapping[str, QuantizedTensor]) -> float:
    matrix = layer.layout.to_matrix(graph.array(layer.weight).astype(np.float64))
    return gaussian_rate(matrix, stats.hessian, quantized[layer.weight].distortion)


def _warn_if_lost(layer: Layer, result: QuantizedTensor, settings: Settings) -> None:
    if settings.method != "trellis" and result.distortion > LOST**2 * result.energy:
        log.warning(
            "layer %s loses %.0f %% of its output: weights differ by orders of magnitude, or the rate is too low; "
            "raise --levels or lower --lambda",
            layer.weight,
            100 * (result.distortion / result.energy) ** 0.5,
        )


def quantize_layers(
    graph: Graph, stats: Mapping[str, LayerStats], settings: Settings, progress: Progress = _silent
) -> dict[str, QuantizedTensor]:
    """Quantise every layer by itself, with given statistics: the papers' methods, or any without data.

    Biases and normalisation parameters are among the results where ``settings`` and the error allow it.
    """
    quantized = {}
    for index, layer in enumerate(graph.layers):
        progress("quantize", index, len(graph.layers), layer.weight)
        tensors = {name: graph.array(name) for name in (layer.weight, *layer.parameters)}
        weight = tensors[layer.weight].astype(np.float64)
        if settings.method == "trellis":
            result = blind(layer, graph, stats[layer.weight], settings)
        else:
            result = quantize(weight, layer.layout, stats[layer.weight], settings, layer.weight)
        quantized[layer.weight] = result
        if settings.float_params == "auto":
            quantized |= quantize_floats(layer, tensors, stats[layer.weight], result)
    progress("quantize", len(graph.layers), len(graph.layers), "")
    return quantized


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
        order = storage(layers[name], settings.weight_layout).order if name in layers else f.Order.ROW_MAJOR
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
        entropy=_entropy(quantized, part.record.order),
        step=quantized.step,
        symbols=len(np.unique(symbols)),
        relative_error=quantized.distortion / quantized.energy if quantized.energy else 0.0,
        damping=quantized.damping,
    )


def _entropy(quantized: QuantizedTensor, order: f.Order) -> float:
    """Order-0 entropy of what is coded, bits per weight: of the indices on each grid, where there is a trellis."""
    if not quantized.run:
        return entropy(quantized.symbols)
    indices, grids = to_indices(order.store(quantized.symbols), quantized.run)
    parts = [indices[grids == grid] for grid in (0, 1)]
    return float(sum(part.size * entropy(part) for part in parts if part.size) / indices.size)


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


class Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a ``with`` block under ``stage``."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)


@contextmanager
def logged_warnings() -> Iterator[list[str]]:
    """Collect the warnings that the library logs inside a ``with`` block."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Collector(logging.WARNING)
    logger = logging.getLogger(__package__)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
