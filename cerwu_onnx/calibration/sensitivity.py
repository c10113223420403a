"""Sensitivities from noise: how much each layer's error costs at the model's outputs, and the loss there.

This is for layers that gradients do not reach, and for costs around a quantised model. Forward runs with random
perturbations estimate the second derivative of the output loss. They see the whole network: non-linearities, branches,
and the errors that other layers already make.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from cerwu_onnx.calibration.collect import batch_that_fits, open_session, run_session
from cerwu_onnx.calibration.compared import ancestors, compared_values
from cerwu_onnx.calibration.kinds import answers_of
from cerwu_onnx.calibration.source import Source, some_feeds
from cerwu_onnx.model.elements import from_float32
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.model.tensors import keep, value_of, with_tensors
from cerwu_onnx.types import Float64Array, FloatArray

BATCH = 32
"""Samples per run."""

ACTIVATIONS = 1 << 31
"""Bytes of activations that one evaluation may compute; it bounds the number of samples for large inputs."""

MEMORY = 512 << 20
"""About how many bytes of activations and gradients are held at once."""

SAMPLES = 256
"""The most samples of one evaluation."""

LEAST = 32
"""The fewest samples of one evaluation, however large they are (if the data has so many)."""

LARGEST = float(np.finfo(np.float32).max)
"""The largest value of a weight with noise."""

FLOOR = 0.01
"""The least sensitivity of a layer, per relative weight noise, as a share of the mean: the measurement is noisy."""


class OutputLoss:
    """The loss at a model's outputs, against the float model, when some of its weights have other values.

    The sum of :meth:`~cerwu_onnx.calibration.answers.Answer.loss` over the values that
    :func:`~cerwu_onnx.calibration.compared.compared_values` and :func:`~cerwu_onnx.calibration.kinds.comparable`
    choose, on calibration samples from everywhere.

    Args:
        graph: the analysed model.
        source: where the feeds come from.
        kind: kinds of outputs, as for :func:`~cerwu_onnx.calibration.kinds.answers_of`.

    Attributes:
        feeds: of the model; in batches whose activations take about :data:`MEMORY` bytes at most.
        samples: in each feed.
        reference: values of the float model that are compared, by name, one array per feed.
        answers: what they answer, by name.
        sees: names of all values on which they depend.
        layouts: of the layers' weights, by name.

    Raises:
        ModelError: onnxruntime cannot load the model.
        CalibrationError: the data does not fit, or no output holds numbers.
    """

    def __init__(self, graph: Graph, source: Source, kind: str = "auto") -> None:
        self._model = graph.model
        names = compared_values(graph.model)
        self.sees = ancestors(graph.model, names)
        self.layouts = {layer.weight: layer.layout for layer in graph.layers}
        samples, batch = affordable(graph, source, SAMPLES)
        self.feeds = some_feeds(source, samples, min(BATCH, batch))
        self.samples = [source.count(feed) for feed in self.feeds]
        found = self._outputs(self._model, names, self.feeds)
        self.answers = answers_of(found, graph.model, kind)
        self.reference = {name: found[name] for name in self.answers}

    def __call__(self, weights: Mapping[str, FloatArray], part: int = 0, parts: int = 1) -> float:
        """The loss with these float32 values of weights and parameters, by name; all others stay as they are.

        Args:
            weights: rounded to their own types.
            part: measure on one of so many parts of the samples.
            parts: their number; no more count than there are feeds.
        """
        parts = min(parts, len(self.feeds))
        mine = slice(part % parts, None, parts)
        outputs = self._outputs(with_tensors(self._model, weights), list(self.answers), self.feeds[mine])
        return sum(answer.loss(self.reference[name][mine], outputs[name]) for name, answer in self.answers.items())

    @staticmethod
    def _outputs(
        model: onnx.ModelProto, names: list[str], feeds: Sequence[dict[str, Any]]
    ) -> dict[str, list[npt.NDArray[Any]]]:
        session = open_session(model, names)  # constants are faster than inputs: onnxruntime packs them once
        runs = [run_session(session, names, feed) for feed in feeds]
        return {name: [run[name] for run in runs] for name in names}


def as_fed(values: FloatArray, element: int) -> Any:
    """Float32 values of a tensor in its own element type, in a form that onnxruntime accepts."""
    rounded = from_float32(values, element)
    if element != onnx.TensorProto.BFLOAT16:
        return rounded
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(rounded, element)


def noise_sensitivity(
    loss: OutputLoss,
    weights: Mapping[str, FloatArray],
    variance: Mapping[str, float | FloatArray],
    base: Mapping[str, FloatArray] | None = None,
    *,
    repeats: int = 2,
) -> dict[str, float]:
    """Measure the increase of the loss per unit of the mean variance of noise on each weight tensor, one at a time.

    Around a ``base`` the noise is added and subtracted, so that the first derivative cancels.

    Args:
        loss: what to measure.
        weights: the float model's weights, in the shape of the ONNX tensors.
        variance: variance of the noise on each element, by name; arrays broadcast.
        base: values of weights and parameters around which to measure; the float model when None.
        repeats: how many draws of the noise to average.

    Returns:
        Positive numbers by name.
    """
    generator = np.random.default_rng(0)
    base = base or {}
    before = loss(base) if base else 0.0
    found = {}
    for name, weight in weights.items():
        if name not in loss.sees:  # its outputs cannot be compared: it counts as much as any other
            found[name] = np.inf
            continue
        centre = base.get(name, weight)
        increases = []
        for _ in range(repeats):
            noise = generator.normal(size=weight.shape) * np.sqrt(variance[name])
            for sign in (1, -1) if base else (1,):
                increases.append(loss({**base, name: noisy(centre, sign * noise)}) - before)
        mean = mean_variance(variance[name], weight)
        found[name] = float(np.mean(increases)) / mean if mean > 0 else 0.0
    return bounded(found, weights)


def mean_variance(variance: float | FloatArray, weight: FloatArray) -> float:
    """The mean over the elements of a weight."""
    return float(np.broadcast_to(variance, weight.shape).mean(dtype=np.float64))


def noisy(weight: FloatArray, noise: Float64Array) -> FloatArray:
    """A weight with noise on it, as float32."""
    return np.clip(weight + noise, -LARGEST, LARGEST).astype(np.float32)


def bounded(
    found: Mapping[str, float], weights: Mapping[str, FloatArray], shares: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Make sensitivities positive and finite.

    Each is at least :data:`FLOOR` of the mean over weights, in units of each tensor's mean square, or of a share of it.
    """
    squares = {name: float(np.square(weights[name], dtype=np.float64).mean()) for name in found}
    squares = {name: max((shares or {}).get(name, 1.0) * square, 1e-300) for name, square in squares.items()}
    relative = {name: value * squares[name] for name, value in found.items()}
    sizes = [weights[name].size for name in relative]
    good = [max(value, 0.0) if np.isfinite(value) else 0.0 for value in relative.values()]
    mean = float(np.average(good, weights=sizes)) if good else 0.0
    largest = max(good, default=0.0) or 1.0
    bound = {name: value if np.isfinite(value) else largest for name, value in relative.items()}
    return {name: max(value, FLOOR * mean, 1e-12) / squares[name] for name, value in bound.items()}


def with_inputs(original: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """A copy of a model with some constants as inputs that have defaults, so that feeds can replace them."""
    model = onnx.ModelProto()
    model.CopyFrom(original)
    model.ir_version = max(model.ir_version, 4)  # before version 4, every initializer had to be an input
    values = {node.output[0]: value_of(node) for node in model.graph.node if not set(names).isdisjoint(node.output[:1])}
    moved = {name: tensor for name, tensor in values.items() if tensor is not None}
    for name, tensor in moved.items():
        model.graph.initializer.add().CopyFrom(tensor)
        model.graph.initializer[-1].name = name
    keep(model.graph.node, lambda node: moved.keys().isdisjoint(node.output))
    fed = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name in names and tensor.name not in fed:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(info)
    return model


def affordable(graph: Graph, source: Source, most: int) -> tuple[int, int]:
    """How many samples an evaluation may use, at most ``most``, and in batches of how many.

    One sample runs, and the bytes of layers' inputs are counted.
    """
    constants = graph.tensors.keys()
    names = {site.activation for layer in graph.layers for site in layer.sites} - constants
    feed = source.first()
    fetched = sorted(names - feed.keys())
    session = open_session(graph.observed, fetched)
    values = run_session(session, fetched, feed) if fetched else {}
    needed = sum(value.nbytes for value in {**feed, **values}.values()) // max(source.count(feed), 1)
    return min(max(ACTIVATIONS // max(needed, 1), LEAST), most), batch_that_fits(needed, MEMORY)
