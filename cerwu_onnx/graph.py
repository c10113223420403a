"""Which weights of a model can be quantised, where they are used, and why other constants are kept."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from cerwu_onnx.affine import with_parameters
from cerwu_onnx.container.format import ElementType
from cerwu_onnx.elements import FLOATS, floats_of
from cerwu_onnx.errors import UsageError
from cerwu_onnx.onnx_io import (
    InputInfo,
    bodies,
    constant_tensors,
    get_tensor,
    load_model,
    model_inputs,
    subgraph_reads,
    tensor_bytes,
    type_name,
    value_of,
    with_tensors,
)
from cerwu_onnx.sites import Product, find_product, node_label, with_hidden_states
from cerwu_onnx.skeleton import fits_directory
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

_STANDARD = ("", "ai.onnx")
_CHAINS = ("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "DequantizeLinear")
_PARAMETERS = {
    "BatchNormalization": ("data", "scale", "bias", "mean", "variance"),
    "InstanceNormalization": ("data", "scale", "bias"),
    "LayerNormalization": ("data", "scale", "bias"),
    "GroupNormalization": ("data", "scale", "bias"),
    "LSTM": (
        "data",
        "weight",
        "recurrence weight",
        "bias",
        "length",
        "initial state",
        "initial cell",
        "peephole",
    ),
    "GRU": ("data", "weight", "recurrence weight", "bias", "length", "initial state"),
    "RNN": ("data", "weight", "recurrence weight", "bias", "length", "initial state"),
    "ConvTranspose": ("data", "weight", "bias"),
    "Conv": ("data", "weight", "bias"),
    "Gemm": ("A", "B", "bias"),
    "PRelu": ("data", "slope"),
    "Gather": ("table", "index"),
}


@dataclass(frozen=True, slots=True)
class Graph:
    """A model and what was found in it.

    Attributes:
        model: the model itself; treat it as read-only.
        layers: its quantisable weights, initializers first, then Constant nodes, in the model's order.
        kept: all other constants, likewise, then those inside bodies and local functions. The biases and
            normalisation parameters of layers are among them.
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
    def observed(self) -> onnx.ModelProto:
        """The model that computes the activations of all sites: a copy that returns more, or the model itself."""
        return with_hidden_states(self.model)

    @property
    def parameters(self) -> dict[str, Layer]:
        """The layer of each bias and normalisation parameter that may be coded."""
        return {name: layer for layer in self.layers for name in layer.parameters}


@dataclass(frozen=True, slots=True)
class _Use:
    node: onnx.NodeProto
    index: int


def analyse(model: onnx.ModelProto) -> Graph:
    """Find every quantisable weight of the main graph and a reason for every other constant.

    Raises:
        ModelError: two constants share a name.
    """
    tensors = constant_tensors(model)
    constants = set(tensors) | {sparse.values.name for sparse in model.graph.sparse_initializer}
    outputs = {value.name for value in model.graph.output}
    uses: dict[str, list[_Use]] = defaultdict(list)
    captured: dict[str, str] = {}
    for node in with_hidden_states(model).graph.node:
        for index, name in enumerate(node.input):
            uses[name].append(_Use(node, index))
        for name in subgraph_reads(node):
            captured.setdefault(name, node_label(node))

    layers: list[Layer] = []
    kept: list[Kept] = []
    for name, tensor in tensors.items():
        found = _reason_by_value(name, tensor)
        if found is None and name in outputs:
            found = "is also an output of the model"
        if found is None and name in captured:
            found = f"read inside the body of {captured[name]}"
        layer = _layer(name, tuple(tensor.dims), uses[name], constants) if found is None else found
        if isinstance(layer, Layer) and not np.isfinite(floats_of(tensor)).all():
            log.warning("weight %r holds NaN or infinity: it is left exactly as it is", name)
            layer = "holds NaN or infinity"
        if isinstance(layer, Layer):
            layers.append(layer)
        else:
            kept.append(_kept(name, tensor, layer))
    kept.extend(_kept_elsewhere(model))
    completed = with_parameters(model, layers)
    biases = {layer.bias.name: layer for layer in completed if layer.bias}
    for index, constant in enumerate(kept):
        if constant.name in biases:
            site = biases[constant.name].sites[0]
            kept[index] = replace(constant, reason=f"bias of {site.op} {site.node!r}")
    return Graph(model, completed, tuple(kept))


def weights_of(graph: Graph, names: Iterable[str] | None = None) -> dict[str, FloatArray]:
    """The weights of some layers, as float32 (all by default), each in the shape of its ONNX tensor.

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


def _reason_by_value(name: str, tensor: onnx.TensorProto) -> str | None:
    """Why the tensor is kept whoever reads it."""
    kind = type_name(tensor.data_type)
    if tensor.data_type not in FLOATS:
        return f"{kind} tensor (shape, index or flag)" if kind in ("int64", "int32", "bool") else f"{kind} tensor"
    if 0 in tensor.dims:
        return "empty tensor"
    if all(dim == 1 for dim in tensor.dims):
        return "a single value"
    if not fits_directory(name, tensor):
        return "more than 8 axes, or a name of more than 1024 bytes"
    return None


def _layer(name: str, shape: tuple[int, ...], uses: list[_Use], constants: set[str]) -> Layer | str:
    """The layer of a float32 tensor, or the reason why it is none."""
    if not uses:
        return "no node reads it"
    found = [_product(use, shape, constants) for use in uses]
    good = [product for product in found if not isinstance(product, str)]
    reasons = [reason for reason in found if isinstance(reason, str)]
    if reasons:
        return f"also: {reasons[0]}" if good else reasons[0]
    first = good[0]
    for other in good[1:]:
        if other.layout != first.layout:
            pair = " and ".join(f"{product.sites[0].op} {product.sites[0].node!r}" for product in (first, other))
            return f"{pair} read it as different matrices"
    return Layer(name, first.layout, tuple(dict.fromkeys(site for product in good for site in product.sites)))


def _product(use: _Use, shape: tuple[int, ...], constants: set[str]) -> Product | str:
    """How a node multiplies the tensor with activations, or the reason why it does not."""
    try:
        found = find_product(use.node, use.index, shape)
    except ValueError as error:
        return f"weight of {node_label(use.node)}: {error}"
    if found is None:
        return _reason_by_use(use)
    sites = tuple(site for site in found.sites if site.activation and site.activation not in constants)
    if not sites:
        return f"the other operand of {node_label(use.node)} is constant too"
    return Product(sites, found.layout)


def _reason_by_use(use: _Use) -> str:
    """Why a reader outside the table of products keeps a tensor exact."""
    node, label = use.node, node_label(use.node)
    roles = _PARAMETERS.get(node.op_type, ()) if node.domain in _STANDARD else ()
    if use.index < len(roles):
        return f"{roles[use.index]} of {label}"
    if node.op_type in _CHAINS:
        return f"read through {label} (not followed yet)"
    if node.domain not in _STANDARD:
        return f"operand of {label} of the domain {node.domain!r}"
    return f"operand of {label}, which is not a matrix product"


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
        yield Kept(name, tuple(sparse.dims), type_name(sparse.values.data_type), size, reason)
