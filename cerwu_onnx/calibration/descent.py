"""The loss at a model's outputs as a function of one layer, and its gradient, on two disjoint halves of the samples.

Layers before it have the values that a walk has given them so far; all others are those of the float model. The first
part of the model, up to the layer, runs once; what comes behind it runs for every value to try.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from cerwu_onnx.calibration.adjoint import Adjoint, adjoint, halves
from cerwu_onnx.calibration.answers import Answer
from cerwu_onnx.calibration.collect import Feed, open_session, run_session
from cerwu_onnx.calibration.compared import compared_values
from cerwu_onnx.calibration.fisher import TEMPERATURE, layer_node
from cerwu_onnx.calibration.kinds import answers_of
from cerwu_onnx.calibration.sensitivity import BATCH, affordable, as_fed, with_inputs
from cerwu_onnx.calibration.source import Source, some_feeds
from cerwu_onnx.calibration.stacks import beside_columns
from cerwu_onnx.errors import CalibrationError, ModelError
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.model.tensors import keep, with_tensors
from cerwu_onnx.types import Float64Array, FloatArray, Layer

log = logging.getLogger(__name__)

SAMPLES = 512
"""The most samples, of both halves together."""

Array: TypeAlias = npt.NDArray[Any]
Values: TypeAlias = "Mapping[str, FloatArray]"
"""Float32 values of a layer's weight and, if they move, of its parameters, by name."""


class Descent:
    """Follows a walk, and looks from each of its layers to the outputs.

    Batch number i belongs to half ``i % 2``. The loss is that of :meth:`~cerwu_onnx.calibration.answers.Answer.loss`,
    summed over outputs, where the logits of classes are divided by
    :data:`~cerwu_onnx.calibration.fisher.TEMPERATURE`: with less, only the few samples count that the model is unsure
    of.

    Args:
        graph: the analysed model.
        source: where the feeds come from; samples are taken from everywhere.
        kind: kinds of outputs, as for :func:`~cerwu_onnx.calibration.kinds.answers_of`.

    Raises:
        ModelError: onnxruntime cannot load the model.
        CalibrationError: the data does not fit, or no output holds numbers.
    """

    def __init__(self, graph: Graph, source: Source, kind: str = "auto") -> None:
        self._graph = graph
        self._values: dict[str, FloatArray] = {}
        samples, fits = affordable(graph, source, min(SAMPLES, source.samples or SAMPLES))
        self._feeds = some_feeds(source, samples, max(1, min(BATCH, fits, samples // 2)))
        names = compared_values(graph.model)
        session = open_session(graph.model, names)
        runs = [run_session(session, names, feed) for feed in self._feeds]
        self._reference = {name: [run[name] for run in runs] for name in names}
        self._answers = {
            name: replace(answer, temperature=TEMPERATURE * answer.temperature)
            for name, answer in answers_of(self._reference, graph.model, kind).items()
        }

    def commit(self, values: Values) -> None:
        """Give constants of the quantised model new float32 values, by name; later layers see them."""
        self._values |= values

    def at(self, layer: Layer, moving: Sequence[str]) -> View | None:
        """Look from a layer.

        Args:
            layer: a layer of the graph whose own values are not committed yet.
            moving: names of what may take new values: its weight, and parameters.

        Returns:
            None where gradients do not reach, where nothing has changed yet, or with a single batch of samples.
        """
        node = layer_node(self._graph, layer)
        if node is None or node.op_type == "ConvTranspose" or not self._values or len(self._feeds) < 2:
            return None
        try:
            return self._view(layer, node, moving)
        except (ModelError, CalibrationError) as error:  # the model itself runs, so its adjoint has failed
            log.debug("no gradient for %r: %s", layer.weight, error)
            return None

    def _view(self, layer: Layer, node: onnx.NodeProto, moving: Sequence[str]) -> View | None:
        model = with_inputs(with_tensors(self._graph.model, self._values), moving)
        keep(model.graph.initializer, lambda tensor: tensor.name not in moving)
        activation = layer.sites[0].activation
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (*self._answers, activation))
        early, late = halves(model, moving)
        passed = [value.name for value in early.graph.output]
        session = open_session(early) if passed else None
        backward = adjoint(late, list(self._answers), [node.output[0]])
        if node.output[0] not in backward.gradients:
            return None
        names = list(backward.seeds)
        rest = open_session(late, names)
        read = [value.name for value in late.graph.input if value.name not in moving]
        given, inputs = [], []
        for feed in self._feeds:
            known = {**feed, **(run_session(session, passed, feed) if session else {})}
            given.append({name: known[name] for name in read})
            inputs.append(np.asarray(known[activation]))
        elements = {name: self._graph.tensors[name].data_type for name in moving}
        answers = {name: self._answers[name] for name in names}
        return View(layer, node, elements, backward, rest, given, inputs, self._reference, answers)


@dataclass(frozen=True, slots=True)
class View:
    """What the outputs do where one layer has other values.

    Attributes:
        layer: the layer.
        node: its node.
        elements: types of the constants that may take new values, by name.
        backward: the adjoint of what depends on these constants.
        session: runs what depends on these constants.
        given: what both are fed, but for the constants.
        inputs: what the layer reads.
        reference: outputs of the float model, one array per batch.
        answers: what the outputs answer that depend on the layer.
    """

    layer: Layer
    node: onnx.NodeProto
    elements: Mapping[str, int]
    backward: Adjoint
    session: ort.InferenceSession
    given: Sequence[Feed]
    inputs: Sequence[Array]
    reference: Mapping[str, Sequence[Array]]
    answers: Mapping[str, Answer]

    def loss(self, values: Values, half: int) -> float:
        """The loss on one half.

        Args:
            values: of all constants that may take new ones.
            half: 0 or 1.

        Raises:
            CalibrationError: onnxruntime fails.
        """
        return self._loss(self._outputs(self._fed(values), half), half)

    def slope(self, values: Values, half: int, mean: Float64Array | None) -> tuple[float, Float64Array]:
        """The loss on one half, and its gradient with respect to the layer's matrix, ``(G, M, N)``.

        Args:
            values: as for :meth:`loss`.
            half: 0 or 1.
            mean: ``(G, N)`` the mean of the layer's inputs, if a parameter makes up for what a change of the matrix
                does to the mean outputs; else None.

        Returns:
            Both; zeros where the loss is zero or infinite.

        Raises:
            ModelError: onnxruntime cannot load the adjoint.
            CalibrationError: it fails, or its positions are not those of the layer's input.
        """
        layout, constants = self.layer.layout, self._fed(values)
        outputs = self._outputs(constants, half)
        loss, total = self._loss(outputs, half), np.zeros((layout.groups, layout.rows, layout.cols))
        if not 0 < loss < np.inf:
            return loss, total
        found, session = self.backward.gradients[self.node.output[0]], open_session(self.backward.model)
        for given, x, seeds in zip(self.given[half::2], self.inputs[half::2], self._seeds(outputs, half), strict=True):
            gradient = run_session(session, [found], {**given, **constants, **seeds})[found]
            with np.errstate(over="ignore", invalid="ignore"):  # nobody steps along such a gradient
                for by_row, read in beside_columns(self.layer, self.node, gradient, x):
                    if by_row is None:
                        raise CalibrationError("gradients are not in the order of the inputs")
                    total += by_row @ read
                    if mean is not None:
                        total -= by_row.sum(axis=2, dtype=np.float64)[:, :, None] * mean[:, None, :]
        return loss, total

    def _outputs(self, constants: Feed, half: int) -> list[dict[str, Array]]:
        names = list(self.answers)
        return [run_session(self.session, names, {**given, **constants}) for given in self.given[half::2]]

    def _loss(self, outputs: Sequence[Mapping[str, Array]], half: int) -> float:
        return sum(
            answer.loss(self.reference[name][half::2], [output[name] for output in outputs])
            for name, answer in self.answers.items()
        )

    def _seeds(self, outputs: Sequence[Mapping[str, Array]], half: int) -> Iterator[dict[str, Array]]:
        """The gradient of the loss with respect to outputs on each feed, by inputs of the adjoint."""
        references = {name: self.reference[name][half::2] for name in self.answers}
        counts = {name: sum(map(answer.losses_of, references[name])) for name, answer in self.answers.items()}
        for index, output in enumerate(outputs):
            seeds = {}
            for name, answer in self.answers.items():
                reference = references[name][index]
                largest = float(np.finfo(reference.dtype).max)
                slope = np.clip(answer.slope(reference, output[name]) / max(counts[name], 1), -largest, largest)
                seeds[self.backward.seeds[name]] = slope.astype(reference.dtype)
            yield seeds

    def _fed(self, values: Values) -> dict[str, Any]:
        return {name: as_fed(value, self.elements[name]) for name, value in values.items()}
