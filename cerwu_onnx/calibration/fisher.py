"""Fisher matrices: how much errors of a layer's outputs cost at the model's outputs, one matrix per layer.

With g the gradient of the square root of the output loss with respect to the product of a layer's matrix at one
position, the Fisher matrix ``F = E[g g^T]`` weighs the rows of the matrix and relates them. Beside ``H = E[x x^T]`` it
is the other factor of the loss' second derivative with respect to the layer's weights (K-FAC: Martens & Grosse,
"Optimizing Neural Networks with Kronecker-factored Approximate Curvature", 2015): an error ``E`` of the matrix costs
about ``tr(F E H E^T) / 2``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from cerwu_onnx.calibration.adjoint import adjoint, halves
from cerwu_onnx.calibration.answers import Answer
from cerwu_onnx.calibration.collect import Feed, fetched_activations, open_session, run_session
from cerwu_onnx.calibration.patches import positions
from cerwu_onnx.calibration.sensitivity import SAMPLES, OutputLoss
from cerwu_onnx.calibration.stacks import beside_columns, stacks
from cerwu_onnx.errors import CalibrationError, ModelError
from cerwu_onnx.jobs.threads import blas_threads
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.model.sites import node_name
from cerwu_onnx.model.tensors import tensor_bytes
from cerwu_onnx.types import Float64Array, Layer

log = logging.getLogger(__name__)

Array: TypeAlias = npt.NDArray[Any]

TEMPERATURE = 4.0
"""Classes are drawn from the softmax of log p / T. With T = 1, only the few samples count that the model is unsure of,
which generalises worse from few samples."""

DRAWS = 4
"""The most gradients per sample: one for each class if there are no more classes, else of random sums of classes; for
other outputs, of random sums of values. Their noise is less than that of the samples. One of each sample is too few
where a layer has a single position."""

FOLDS = 2
"""Disjoint sets of batches, for cross-validation."""

LARGEST = 1 << 22
"""The most elements of a layer's matrix; of layers with more outputs, only its diagonal is computed."""

ENOUGH, FEW = 128, 32
"""Positions for each row, and for at least so many rows, that suffice for a Fisher matrix."""

HEAVY = 128 << 20
"""Bytes of weights from which on no session stays open that runs only now and then: each has its own copy of them."""

WHOLE = 4
"""One batch of so many, but two at least, serve the sums of whole layers: these are no more than a number each."""


@dataclass(frozen=True, slots=True)
class Curvature:
    """What gradients tell about one layer.

    Attributes:
        fishers: ``(G, M, M)`` matrices F of the layer's outputs at single positions, each from other samples. They sum
            to the mean over all samples of the sum over positions. Empty if they would be larger than :data:`LARGEST`.
        rows: ``(G, M)`` the diagonal of their sum.
        inputs: ``(G,)`` the trace of ``E[x x^T]`` over positions.
        energy: mean over samples of the squared norm of the gradient with respect to the weights (the sum over
            positions is squared, not each position); None where it is not known.
    """

    fishers: tuple[Float64Array, ...]
    rows: Float64Array
    inputs: Float64Array
    energy: float | None


def row_fishers(graph: Graph, loss: OutputLoss, most: int = DRAWS * SAMPLES) -> dict[str, Curvature]:
    """Compute the Fisher matrices of the outputs of each layer that gradients reach, from disjoint sets of samples.

    This covers layers with one site, of Conv, ConvTranspose, Gemm or MatMul, and no other reader. With H the mean over
    positions, ``tr(F E H E^T) / 2`` is what an error E adds to the loss, if positions are independent, and but for the
    temperature of classes. White noise of variance v on the weights adds ``v energy / 2`` whether they are or not.

    Args:
        graph: the analysed model.
        loss: at its outputs, with the samples on which it is measured.
        most: about how many gradients to compute of :data:`~cerwu_onnx.calibration.sensitivity.SAMPLES` samples, as
            many of each and up to :data:`DRAWS`; if these are more samples than gradients, of as many samples.

    Returns:
        By weight name; :data:`FOLDS` matrices ``(G, M, M)``, or one with a single batch of samples, for the groups G
        and rows M of the layer's layout: symmetric, finite, not zero; none for layers of too many rows. Layers are
        missing where gradients cannot be computed: all of them, if onnxruntime cannot run the adjoint.
    """
    nodes = {layer.weight: node for layer in graph.layers if (node := layer_node(graph, layer)) is not None}
    feeds = [
        feed for feed, before in zip(loss.feeds, accumulate(loss.samples, initial=0), strict=False) if before < most
    ]
    samples = sum(loss.samples[: len(feeds)])
    draws = max(1, min(DRAWS, most // SAMPLES))
    outputs = {
        name: _Output(loss.reference[name][: len(feeds)], samples, answer, draws)
        for name, answer in loss.answers.items()
        if any(map(np.size, loss.reference[name]))
    }
    if not nodes:
        return {}
    try:
        found, whole = _sums(graph, nodes, outputs, feeds, draws)
    except (ModelError, CalibrationError) as error:  # the model itself runs, so its adjoint has failed
        log.debug("no gradients: %s", error)
        return {}
    curvatures = {}
    for name, parts in found.items():
        if all(np.isfinite(part).all() and part.any() for part in parts):
            fishers = tuple(part / samples for part in parts)
            total: Float64Array = np.sum(fishers, axis=0)
            fishers, rows = ((), total) if total.ndim == 2 else (fishers, np.einsum("gmm->gm", total))
            curvatures[name] = Curvature(fishers, rows, whole.inputs(name), whole.energy(name, loss.samples))
    return curvatures


def layer_node(graph: Graph, layer: Layer) -> onnx.NodeProto | None:
    """The node of a layer, if the gradients of its outputs are all that is needed; else None."""
    if len(layer.sites) != 1 or layer.readers:
        return None
    site = layer.sites[0]
    if site.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    found = [
        node
        for node in graph.model.graph.node
        if (node_name(node), node.op_type) == (site.node, site.op) and site.activation in node.input
    ]
    return found[0] if len(found) == 1 else None


def _sums(
    graph: Graph,
    nodes: Mapping[str, onnx.NodeProto],
    outputs: Mapping[str, _Output],
    feeds: Sequence[dict[str, Array]],
    draws: int,
) -> tuple[dict[str, list[Float64Array]], _Whole]:
    """Sum over samples and positions, by weight; batch number i belongs to part ``i % FOLDS``. And whole layers.

    Raises:
        ModelError: there is no adjoint, or onnxruntime cannot load it.
        CalibrationError: onnxruntime cannot run it.
    """
    backward = adjoint(graph.model, list(outputs), [node.output[0] for node in nodes.values()])
    layers = {layer.weight: layer for layer in graph.layers if layer.weight in nodes}
    sources = {weight: backward.gradients.get(nodes[weight].output[0]) for weight in layers}
    reached = {weight: name for weight, name in sources.items() if name is not None}
    whole = _Whole([layers[weight] for weight in reached], nodes, graph)
    seldom = max(1, min(WHOLE, len(feeds) // 2))
    if not reached:
        return {}, whole
    fed_seeds = list(backward.seeds.values())
    early, late = halves(backward.model, fed_seeds) if draws > 1 else (onnx.ModelProto(), backward.model)
    passed = [value.name for value in early.graph.output]
    once, often = open_session(early) if passed else None, open_session(late)
    read = [value.name for value in often.get_inputs() if value.name not in fed_seeds]
    sums: dict[str, list[Float64Array]] = {weight: [] for weight in reached}
    seeded, random = [outputs[name] for name in backward.seeds], np.random.default_rng(0)
    del backward, early, late  # each holds a copy of all weights; the sessions have their own
    for batch, feed in enumerate(feeds):
        for parts in sums.values() if batch < FOLDS else ():
            parts.append(np.zeros(()))
        known = {**feed, **(run_session(once, passed, feed) if once else {})}
        given = {name: np.asarray(known[name]) for name in read}
        del known
        together: dict[str, Array] = {}
        for draw in zip_longest(*(output.seeds(batch, random) for output in seeded)):
            seeds = [output.zero(batch) if seed is None else seed for output, seed in zip(seeded, draw, strict=True)]
            fed = dict(zip(fed_seeds, map(np.asarray, seeds), strict=True))
            gradients = run_session(often, list(reached.values()), {**given, **fed})
            for weight, name in reached.items():
                gradient, part = gradients.pop(name), batch % FOLDS
                with blas_threads(layers[weight].layout.rows):
                    found = _products(layers[weight], nodes[weight], gradient, len(feeds) * draws, random)
                with np.errstate(over="ignore", invalid="ignore"):  # such matrices are left out
                    sums[weight][part] = sums[weight][part] + found
                    if batch % seldom == 0:
                        together[weight] = gradient + together[weight] if weight in together else gradient
        del given
        if together:
            whole.add(batch, feed, together)
    return sums, whole


class _Whole:
    """Sums for whole layers: energies of their inputs, and squared norms of gradients with respect to weights.

    Gradients of a batch's samples and draws are summed, each with a random sign. The square of the sum is the sum of
    squares, apart from products that vanish on average.

    Args:
        layers: the layers that gradients reach.
        nodes: their nodes, by weight.
        graph: the analysed model.
    """

    def __init__(self, layers: Sequence[Layer], nodes: Mapping[str, onnx.NodeProto], graph: Graph) -> None:
        self._layers, self._nodes, self._model = layers, nodes, graph.model
        self._names = fetched_activations(graph.model, (layer.sites[0].activation for layer in layers))
        self._stays = sum(map(tensor_bytes, graph.tensors.values())) < HEAVY
        self._session: ort.InferenceSession | None = None
        self._gradients = {layer.weight: 0.0 for layer in layers}
        self._inputs = {layer.weight: np.zeros(layer.layout.groups) for layer in layers}
        self._positions = dict.fromkeys(self._inputs, 0)
        self._batches: list[int] = []

    def add(self, batch: int, feed: Feed, gradients: Mapping[str, Array]) -> None:
        """Add a batch by its number; ``gradients`` are with respect to the nodes' outputs, summed over its draws."""
        self._batches.append(batch)
        activations = {**feed, **(self._run(feed) if self._names else {})}
        for layer in self._layers:
            x, node = np.asarray(activations[layer.sites[0].activation]), self._nodes[layer.weight]
            with blas_threads(max(layer.layout.rows, layer.layout.cols)):
                norm, energy = _one_batch(layer, node, gradients[layer.weight], x)
            self._gradients[layer.weight] += norm
            self._inputs[layer.weight] += energy
            self._positions[layer.weight] += positions(layer.sites[0].patch, x)

    def _run(self, feed: Feed) -> dict[str, Array]:
        session = self._session or open_session(self._model, self._names)
        if self._stays:
            self._session = session
        return run_session(session, self._names, feed)

    def energy(self, weight: str, samples: Sequence[int]) -> float | None:
        """The mean over samples, of which each batch has so many; None if it is not known, not positive or infinite."""
        total = self._gradients[weight]
        return total / sum(samples[batch] for batch in self._batches) if 0 < total < np.inf else None

    def inputs(self, weight: str) -> Float64Array:
        """The trace of ``E[x x^T]`` over positions, ``(G,)``."""
        return self._inputs[weight] / max(self._positions[weight], 1)


def _one_batch(layer: Layer, node: onnx.NodeProto, gradient: Array, x: Array) -> tuple[float, Float64Array]:
    """The squared norm of ``sum g x^T`` over positions, NaN if g and x are not in the same order; and ``sum |x|^2``."""
    groups, known = layer.layout.groups, True
    total = np.zeros((groups, layer.layout.rows, layer.layout.cols))
    energy = np.zeros(groups)
    with np.errstate(over="ignore", invalid="ignore"):
        for by_row, read in beside_columns(layer, node, gradient, x):
            flat = read.swapaxes(1, 2).reshape(groups, 1, read[0].size)  # in the order of memory
            energy += (flat @ flat.swapaxes(1, 2)).ravel()
            if by_row is None:
                known = False
            else:
                total += by_row @ read
        return (float(np.square(total).sum()) if known else np.nan), energy


def _products(
    layer: Layer, node: onnx.NodeProto, gradient: Array, times: int, random: np.random.Generator
) -> Float64Array:
    """``g g^T`` summed over positions, ``(G, M, M)``, from the gradient with respect to the node's output.

    Of matrices larger than :data:`LARGEST` only the diagonal, ``(G, M)``. Where there are more than enough positions,
    they are estimated from every second one, say.

    Args:
        layer: the layer.
        node: its node.
        gradient: of one batch.
        times: how many such gradients there are.
        random: chooses where to begin.
    """
    groups, rows = layer.layout.groups, layer.layout.rows
    diagonal = groups * rows**2 > LARGEST
    total = np.zeros((groups, rows) if diagonal else (groups, rows, rows))
    with np.errstate(over="ignore", invalid="ignore"):
        for stack in stacks(layer, node, gradient):
            step = max(1, times * len(stack) * stack.shape[3] // (ENOUGH * max(FEW, rows)))
            some = stack[..., random.integers(0, min(step, stack.shape[3])) :: step]
            by_row = some.transpose(1, 2, 0, 3).reshape(groups, rows, -1)  # one product, not one for each sample
            product = np.square(by_row).sum(axis=2) if diagonal else by_row @ by_row.swapaxes(1, 2)
            total += (stack.shape[3] / some.shape[3]) * product
    return total


class _Output:
    """One output on all feeds, and gradients of the square root of its loss.

    Args:
        batches: its values, one array per feed.
        samples: how many samples these are.
        answer: what it answers.
        draws: gradients per sample.
    """

    def __init__(self, batches: Sequence[Array], samples: int, answer: Answer, draws: int) -> None:
        self._batches, self._answer, self._draws = batches, answer, draws
        self._scale = (samples / max(sum(map(answer.rows_of, batches)), 1)) ** 0.5

    def zero(self, batch: int) -> Array:
        """A seed that asks for nothing."""
        return np.zeros_like(self._batches[batch])

    def seeds(self, batch: int, random: np.random.Generator) -> Iterator[Array]:
        """Draws whose squares add up to the second derivative of the loss, times the number of samples."""
        output = self._batches[batch]
        largest = float(np.finfo(output.dtype).max)  # outputs near zero have a scale near infinity
        for draw in self._answer.seeds(output, self._scale, self._draws, TEMPERATURE, random):
            yield np.clip(draw, -largest, largest).astype(output.dtype)
