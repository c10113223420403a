"""Analyse a model: the weights that can be quantised, where they are used, and why other constants stay exact."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from cerwu_onnx.container.format import ElementType
from cerwu_onnx.entropy.step import LEAST_STEP
from cerwu_onnx.errors import UsageError
from cerwu_onnx.model.affine import with_parameters
from cerwu_onnx.model.elements import FLOATS, floats_of, stored_floats
from cerwu_onnx.model.loading import load_model
from cerwu_onnx.model.roles import layer_of, reason_by_value
from cerwu_onnx.model.sites import node_label, node_name, with_hidden_states
from cerwu_onnx.model.tensors import (
    InputInfo,
    bodies,
    constant_tensors,
    get_tensor,
    model_inputs,
    tensor_bytes,
    type_name,
    value_of,
    with_tensors,
)
from cerwu_onnx.model.uses import Uses
from cerwu_onnx.types import FloatArray, Kept, Layer

__all__ = [
    "Graph",
    "InputInfo",
    "analyse",
    "get_tensor",
    "load_model",
    "model_inputs",
    "node_label",
    "weights_of",
    "with_tensors",
]

log = logging.getLogger(__name__)

SMALLEST = 256 * LEAST_STEP
"""A weight without larger values stays exact: multiples of the format's smallest step would be too far apart."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A model and the result of its analysis.

    Attributes:
        model: the model itself; do not change it.
        layers: its quantisable weights, initializers first, then Constant nodes, in the model's order.
        kept: all other constants in the same order, then those inside bodies and local functions. They include the
            biases and normalisation parameters of layers.
        tensors: the main graph's dense constants by name.

    Raises:
        ModelError: two constants share a name.
    """

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    kept: tuple[Kept, ...]
    tensors: Mapping[str, onnx.TensorProto] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", constant_tensors(self.model))

    def array(self, name: str) -> FloatArray:
        """A copy of a float constant's values as float32; float64 is rounded.

        Raises:
            UsageError: the main graph has no such constant, or it holds no floats.
        """
        if name not in self.tensors or self.tensors[name].data_type not in FLOATS:
            raise UsageError(f"the model has no constant tensor {name!r} of floats")
        return floats_of(self.tensors[name])

    def element(self, name: str) -> ElementType:
        """The element type of a float constant."""
        return ElementType(self.tensors[name].data_type)

    @property
    def nodes(self) -> dict[str, int]:
        """The places of the main graph's nodes, by name."""
        return {node_name(node): index for index, node in enumerate(self.model.graph.node)}

    @property
    def observed(self) -> onnx.ModelProto:
        """The model that computes the activations of all sites: a copy with more outputs, or the model itself."""
        return with_hidden_states(self.model)

    @property
    def parameters(self) -> dict[str, Layer]:
        """The layer of each bias and normalisation parameter that may be coded."""
        return {name: layer for layer in self.layers for name in layer.parameters}


def analyse(model: onnx.ModelProto) -> Graph:
    """Find every quantisable weight of the main graph, and the reason why every other constant stays exact.

    Raises:
        ModelError: two constants share a name.
    """
    tensors = constant_tensors(model)
    constants = set(tensors) | {sparse.values.name for sparse in model.graph.sparse_initializer}
    uses = Uses(with_hidden_states(model), tensors)
    found: dict[str, Layer | str] = {}
    for name, tensor in tensors.items():
        layer = reason_by_value(name, tensor) or uses.returned(name) or layer_of(name, tensor, uses, constants)
        if isinstance(layer, Layer):
            largest = _largest(tensor)
            if not np.isfinite(largest):
                log.warning("weight %r holds NaN or infinity: it is left exactly as it is", name)
                layer = "holds NaN or infinity"
            elif 0 < largest < SMALLEST:
                layer = "its values are too small for the format's steps"
        found[name] = layer
    completed = with_parameters(model, [layer for layer in found.values() if isinstance(layer, Layer) and layer.sites])
    parameters = {name: layer for layer in completed for name in layer.parameters}
    for layer in completed:
        found[layer.weight] = layer
    for name, layer in parameters.items():
        if layer.bias is not None and name == layer.bias.name:
            found[name] = f"bias of {layer.sites[0].op} {layer.sites[0].node!r}"
        elif isinstance(found[name], Layer):
            found[name] = f"normalises the outputs of {layer.sites[0].op} {layer.sites[0].node!r}"
    layers = tuple(layer for layer in found.values() if isinstance(layer, Layer))
    kept = [_kept(name, tensors[name], reason) for name, reason in found.items() if isinstance(reason, str)]
    return Graph(model, layers, (*kept, *_kept_elsewhere(model)))


def _largest(tensor: onnx.TensorProto) -> float:
    """The largest magnitude of a tensor of floats that is not empty, in its own type; NaN if it holds NaN."""
    if tensor.data_type != onnx.TensorProto.DOUBLE:
        return float(np.abs(floats_of(tensor)).max())
    largest = float(np.abs(stored_floats(tensor)).max())
    return largest if largest <= np.finfo(np.float32).max else np.inf  # it is rounded to float32


def weights_of(graph: Graph, names: Iterable[str] | None = None) -> dict[str, FloatArray]:
    """The weights of some layers (default: all), as float32, each in the shape of its ONNX tensor.

    Raises:
        UsageError: a name is not one of the layers.
    """
    known = dict.fromkeys(layer.weight for layer in graph.layers)
    wanted = known if names is None else list(names)
    for name in wanted:
        if name not in known:
            raise UsageError(f"{name!r} is not a quantisable weight of this model")
    return {name: graph.array(name) for name in wanted}


def _kept(name: str, tensor: onnx.TensorProto, reason: str) -> Kept:
    return Kept(name, tuple(tensor.dims), type_name(tensor.data_type), tensor_bytes(tensor), reason)


def _kept_elsewhere(model: onnx.ModelProto) -> Iterator[Kept]:
    """Sparse constants, and constants inside bodies and local functions."""
    yield from _sparse(model.graph.sparse_initializer, model.graph.node, "sparse tensor")
    for node in model.graph.node:
        yield from _kept_in_bodies(node)
    for function in model.functions:
        where = f"inside the local function {function.name!r}"
        yield from _kept_in_nodes(function.node, where)


def _kept_in_bodies(node: onnx.NodeProto) -> Iterator[Kept]:
    for body in bodies(node):
        where = f"inside the body of {node_label(node)}"
        for tensor in body.initializer:
            yield _kept(tensor.name, tensor, where)
        yield from _sparse(body.sparse_initializer, (), where)
        yield from _kept_in_nodes(body.node, where)


def _kept_in_nodes(nodes: Iterable[onnx.NodeProto], where: str) -> Iterator[Kept]:
    for node in nodes:
        tensor = value_of(node)
        if tensor is not None:
            yield _kept(node.output[0], tensor, where)
        yield from _kept_in_bodies(node)


def _sparse(
    initializers: Iterable[onnx.SparseTensorProto], nodes: Iterable[onnx.NodeProto], reason: str
) -> Iterator[Kept]:
    named = [(sparse.values.name, sparse) for sparse in initializers]
    for node in nodes:
        named += [(node.output[0], a.sparse_tensor) for a in node.attribute if a.HasField("sparse_tensor")]
    for name, sparse in named:
        size = tensor_bytes(sparse.values) + tensor_bytes(sparse.indices)
        log.warning("sparse tensor %r is left exactly as it is", name)
        yield Kept(name, tuple(sparse.dims), type_name(sparse.values.data_type), size, reason)
