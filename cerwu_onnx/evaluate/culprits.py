"""Find the layers of a compressed model that cost most: each layer's error, and the loss if only it is compressed.

onnxruntime runs the original model with the tensors of the file in place of its own: all layers together, and one layer
at a time. Errors measured alone do not add up, but they rank the layers.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cerwu_onnx.calibration import CalibrationSpec, ImageOptions, OutputLoss, Source, model_inputs, open_data
from cerwu_onnx.calibration.collect import choose_batch, open_session, run_session
from cerwu_onnx.calibration.output_errors import OutputError
from cerwu_onnx.config import Target
from cerwu_onnx.errors import CheckFailed
from cerwu_onnx.evaluate.metrics import open_scorer
from cerwu_onnx.jobs.inputs import own_files, reading, unchanged_inputs
from cerwu_onnx.model.elements import floats_of, raw_bytes
from cerwu_onnx.model.graph import Graph, analyse, load_model
from cerwu_onnx.model.rebuilt import fold_again, with_directory
from cerwu_onnx.model.tensors import constant_tensors, with_tensors
from cerwu_onnx.runtime import CompressedModel, compare
from cerwu_onnx.runtime import open as open_cwb
from cerwu_onnx.types import FloatArray

MEMORY = 512 << 20
"""Bound in bytes on the outputs of layers held at once."""

LOSS = "loss"
"""Name of the measure without a metric: KL divergence (nats) or relative squared error at the outputs."""

Values = Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Culprit:
    """One layer.

    Attributes:
        name: its weight.
        op: operator that uses it.
        weights: number of elements.
        error: error of the layer's output, root of (squared error / energy), with all layers compressed.
        alone: the loss, in units of the metric, if only this layer (with its float parameters) is
            compressed; negative where the model gets better.
    """

    name: str
    op: str
    weights: int
    error: float
    alone: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of a compressed model with the original.

    Attributes:
        outputs: how far each output is from the original's.
        metric: "loss", or the name of the metric.
        lost: loss of the whole compression: the loss at the outputs, or the original's score minus the compressed
            one's.
        layers: the layers, those that cost most alone first.
    """

    outputs: tuple[OutputError, ...]
    metric: str
    lost: float
    layers: tuple[Culprit, ...]


def find_culprits(
    model: str | Path,
    file: str | Path,
    data: CalibrationSpec,
    *,
    base: str | Path | None = None,
    target: Target | None = None,
    images: ImageOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare a .cwb file with its model, layer by layer.

    The loss uses at most the first 256 samples; everything else uses all.

    Args:
        model: path of the ONNX model.
        file: path of the .cwb file.
        data: inputs, as for calibration.
        base: path of its base, if it is a delta.
        target: its metric, if it has one, takes the place of the loss.
        images: how a directory of images becomes inputs.
        progress: called with the layers done and their number.

    Raises:
        CheckFailed: the file is not of this model.
        UsageError, ModelError, CalibrationError, CorruptFileError: the files, the metric or the data have a fault.
        InputChangedError: one of the files was replaced or written while it was in use.
    """
    with unchanged_inputs() as check_inputs:
        found = _comparison(model, file, base, data, target or Target(), images, progress)
        check_inputs()
    return found


def _comparison(
    model: str | Path,
    file: str | Path,
    base: str | Path | None,
    data: CalibrationSpec,
    target: Target,
    images: ImageOptions | None,
    progress: Callable[[int, int], None] | None,
) -> Comparison:
    """What :func:`find_culprits` gives."""
    original = load_model(model)
    data = _without_labels(data, {info.name for info in model_inputs(original)}, target.metric_labels)
    outputs = compare(file, model, data, base=base, images=images)
    compressed = open_cwb(file, base=base)
    graph = analyse(fold_again(original, compressed.container))
    values = _values(graph, compressed, file)
    source = open_data(data, original, images=images)
    errors = _errors(graph, source, values)
    metric, lost = _measure(model, graph, source, target, images)
    found = []
    layers = [layer for layer in graph.layers if layer.weight in values]
    for done, layer in enumerate(layers):
        if progress is not None:
            progress(done, len(layers))
        own = {name: values[name] for name in (layer.weight, *layer.parameters) if name in values}
        alone = lost(own)
        found.append(Culprit(layer.weight, layer.op, layer.layout.size, errors[layer.weight], alone))
    found.sort(key=lambda culprit: -culprit.alone)
    return Comparison(outputs, metric, lost(values), tuple(found))


def _without_labels(data: CalibrationSpec, inputs: Collection[str], labels: str) -> CalibrationSpec:
    """Take the labels out of a ``.npz`` file; other data is returned as it is."""
    if not isinstance(data, (str, Path)) or Path(data).suffix != ".npz" or labels in inputs:
        return data
    reading(data)
    try:
        with np.load(data, allow_pickle=False) as arrays:
            if labels in arrays.files:
                return {name: arrays[name] for name in arrays.files if name != labels}
    except (OSError, ValueError, zipfile.BadZipFile):  # open_data raises the error that says what is wrong
        pass
    return data


def _values(graph: Graph, compressed: CompressedModel, file: str | Path) -> dict[str, FloatArray]:
    """The tensors of layers that differ between the file and the model, as float32 by name.

    Raises:
        CheckFailed: the file is not of this model.
    """
    values = {}
    whole = compressed.to_onnx() if compressed.has_graph else with_directory(compressed.container, graph.model)
    rebuilt = constant_tensors(whole)
    for name in (name for layer in graph.layers for name in (layer.weight, *layer.parameters)):
        tensor, own = rebuilt.get(name), graph.tensors[name]
        if tensor is None or (tensor.data_type, tensor.dims) != (own.data_type, own.dims):
            raise CheckFailed(f"{file} has no tensor {name!r} of shape {tuple(own.dims)}: it is not of this model")
        if raw_bytes(tensor) != raw_bytes(own):
            values[name] = floats_of(tensor)
    return values


def _errors(graph: Graph, source: Source, values: Values) -> dict[str, float]:
    """Relative error of each layer's outputs, by weight."""
    written: dict[str, list[str]] = {
        layer.weight: [
            next(name for name in node.output if name) for node in graph.model.graph.node if layer.weight in node.input
        ]
        for layer in graph.layers
    }
    names = list(dict.fromkeys(name for outputs in written.values() for name in outputs))
    before, after = open_session(graph.model, names), open_session(with_tensors(graph.model, values), names)
    error, energy = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for feed in source.batches(choose_batch(before, source, names, MEMORY)):
        x, y = run_session(before, names, feed), run_session(after, names, feed)
        for name in names:
            reference = np.asarray(x[name], np.float64)
            error[name] += float(((y[name] - reference) ** 2).sum())
            energy[name] += float((reference**2).sum())
    found = {}
    for weight, outputs in written.items():
        wrong, whole = (sum(part[name] for name in outputs) for part in (error, energy))
        found[weight] = (wrong / whole) ** 0.5 if whole else float(wrong > 0)
    return found


def _measure(
    model: str | Path, graph: Graph, source: Source, target: Target, images: ImageOptions | None
) -> tuple[str, Callable[[Values], float]]:
    """The name of the metric, and a function: new values of some tensors -> what the metric then loses."""
    if target.metric is None:
        return LOSS, OutputLoss(graph, source)
    score = open_scorer(target, model, images)
    whole = score(model)

    def lost(values: Values) -> float:
        with own_files(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(with_tensors(graph.model, values).SerializeToString())
            return whole - score(path)

    return score.name, lost
