"""Which weights of a model can be quantised, where they are used, and why other constants are kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from cerwu_onnx.affine import with_parameters
from cerwu_onnx.container.format import ElementType
from cerwu_onnx.elements import FLOATS, floats_of, raw_bytes
from cerwu_onnx.errors import UsageError
from cerwu_onnx.layout import moved_layout, operand_layout
from cerwu_onnx.loading import load_model
from cerwu_onnx.lossless import deflated_size
from cerwu_onnx.onnx_io import (
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
from cerwu_onnx.sites import Product, find_product, node_label, node_name, with_hidden_states
from cerwu_onnx.skeleton import fits_directory
from cerwu_onnx.types import FloatArray, Kept, Layer, Reader
from cerwu_onnx.uses import Use, Uses

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


_VECTORS = ("LayerNormalization", "InstanceNormalization", "GroupNormalization")
_OPERANDS: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Concat", "Sum", "Max", "Min", "Mean")),
    **dict.fromkeys(("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast"), (0,)),
    **dict.fromkeys(("Div", "Expand", "Tile", "Slice", "Split", "Gather", "GatherElements", "GatherND", "Pad"), (0,)),
    **dict.fromkeys(("ScatterElements", "ScatterND"), (0, 2)),
    **dict.fromkeys(_VECTORS, (1, 2)),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"), (0, 1)),
    "PRelu": (1,),
    "Where": (1, 2),
}
"""Operators whose outputs an error of such an input changes as little as itself, and these inputs; None: all."""

LEAST_OPERAND = 256
"""Elements from which on a tensor is quantised that no product reads."""

ORDERLY = 0.5
"""Deflated size, relative to the size, below which such a tensor is not quantised: masks, tables of few values."""


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


def analyse(model: onnx.ModelProto) -> Graph:
    """Find every quantisable weight of the main graph and a reason for every other constant.

    Raises:
        ModelError: two constants share a name.
    """
    tensors = constant_tensors(model)
    constants = set(tensors) | {sparse.values.name for sparse in model.graph.sparse_initializer}
    uses = Uses(with_hidden_states(model), tensors)
    found: dict[str, Layer | str] = {}
    for name, tensor in tensors.items():
        layer = _reason_by_value(name, tensor) or uses.returned(name) or _layer(name, tensor, uses, constants)
        if isinstance(layer, Layer) and not np.isfinite(floats_of(tensor)).all():
            log.warning("weight %r holds NaN or infinity: it is left exactly as it is", name)
            layer = "holds NaN or infinity"
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


def _layer(name: str, tensor: onnx.TensorProto, uses: Uses, constants: set[str]) -> Layer | str:
    """The layer of a float tensor, or the reason why it is none."""
    shape = tuple(tensor.dims)
    products: list[Product] = []
    readers: list[Reader] = []
    reasons: list[str] = []
    small = math.prod(shape) < LEAST_OPERAND
    for use in uses.of(name, shape):
        if use.node.op_type in ("Shape", "Size") and use.node.domain in _STANDARD:
            continue
        found = _product(use, shape, constants)
        if isinstance(found, Product):
            products.append(found)
        if isinstance(found, str) or not found.sites:
            readers.append(Reader(node_name(use.node), use.node.op_type, use.inside))
        if isinstance(found, str) and (small or not _is_operand(use)):
            reasons.append(found)
    if not products and not readers:
        return "no node reads it"
    if reasons:
        return f"also: {reasons[0]}" if products else reasons[0]
    if not products:
        if deflated_size(raw_bytes(tensor)) < ORDERLY * tensor_bytes(tensor):
            return "no factor of a product, and so regular that deflate does better"
        return Layer(name, operand_layout(shape), (), readers=tuple(readers))
    # Rows of a table that are looked up say less about it than the product whose other operand is known.
    first = min(products, key=lambda product: (not product.sites, any(site.op == "Gather" for site in product.sites)))
    same = [product for product in products if product.layout == first.layout]
    readers += [Reader(s.node, s.op) for product in products if product not in same for s in product.sites]
    sites = tuple(dict.fromkeys(site for product in same for site in product.sites))
    return Layer(name, first.layout, sites, readers=tuple(dict.fromkeys(readers)))


def _product(use: Use, shape: tuple[int, ...], constants: set[str]) -> Product | str:
    """How a node multiplies a tensor of this shape, or the reason why it does not.

    Inside bodies the activations are out of reach: then there are no sites.
    """
    try:
        found = find_product(use.node, use.index, use.shape or shape)
        if found is None:
            return _reason_by_use(use)
        layout = moved_layout(found.layout, shape, use.moves)
    except ValueError as error:
        return f"weight of {node_label(use.node)}: {error}"
    if use.inside is not None:
        return Product((), layout)
    sites = tuple(site for site in found.sites if site.activation and site.activation not in constants)
    if not sites:
        return f"the other operand of {node_label(use.node)} is constant too"
    return Product(sites, layout)


def _is_operand(use: Use) -> bool:
    """Whether the reader does nothing to the tensor that makes small errors large."""
    inputs = _OPERANDS.get(use.node.op_type, ()) if use.node.domain in _STANDARD else ()
    return inputs is None or use.index in inputs


def _reason_by_use(use: Use) -> str:
    """Why a reader outside the table of products keeps a tensor exact."""
    node, label = use.node, node_label(use.node)
    roles = _PARAMETERS.get(node.op_type, ()) if node.domain in _STANDARD else ()
    if use.index < len(roles):
        return f"{roles[use.index]} of {label}"
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
        log.warning("sparse tensor %r is left exactly as it is", name)
        yield Kept(name, tuple(sparse.dims), type_name(sparse.values.data_type), size, reason)
