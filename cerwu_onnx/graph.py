"""Which weights of a model can be quantised, where they are used, and why other constants are kept."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

from cerwu_onnx.affine import with_parameters
from cerwu_onnx.errors import UsageError
from cerwu_onnx.layout import conv_layout, gemm_layout, matmul_layout
from cerwu_onnx.onnx_io import (
    InputInfo,
    attributes_of,
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
from cerwu_onnx.types import ConvPatch, FloatArray, Kept, Layer, MatMulPatch, MatrixLayout, Site

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

_FLOAT = onnx.TensorProto.FLOAT
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
_LATER = {"LSTM", "GRU", "RNN", "ConvTranspose"}


@dataclass(frozen=True, slots=True)
class Graph:
    """A model and what was found in it.

    Attributes:
        model: the model itself; treat it as read-only.
        layers: its quantisable weights, initializers first, then Constant nodes, in the model's order.
        kept: all other constants, likewise, then those inside bodies and local functions. The biases and
            normalisation parameters of layers are among them.
    """

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    kept: tuple[Kept, ...]

    @property
    def parameters(self) -> dict[str, Layer]:
        """The layer of each bias and normalisation parameter that may be coded."""
        return {name: layer for layer in self.layers for name in layer.parameters}


@dataclass(frozen=True, slots=True)
class _Use:
    node: onnx.NodeProto
    index: int


_Candidate: TypeAlias = "tuple[Site, MatrixLayout]"


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
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            uses[name].append(_Use(node, index))
        for name in subgraph_reads(node):
            captured.setdefault(name, node_label(node))

    layers: list[Layer] = []
    kept: list[Kept] = []
    for name, tensor in tensors.items():
        found = _reason_by_value(tensor)
        if found is None and name in outputs:
            found = "is also an output of the model"
        if found is None and name in captured:
            found = f"read inside the body of {captured[name]}"
        layer = _layer(name, tuple(tensor.dims), uses[name], constants) if found is None else found
        if isinstance(layer, Layer) and not np.isfinite(numpy_helper.to_array(tensor)).all():
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
    """The float32 weights of some layers (all by default), each in the shape of its ONNX tensor.

    Raises:
        UsageError: a name is not one of the layers.
    """
    known = [layer.weight for layer in graph.layers]
    wanted = known if names is None else list(names)
    for name in wanted:
        if name not in known:
            raise UsageError(f"{name!r} is not a quantisable weight of this model")
    tensors = constant_tensors(graph.model)
    return {name: np.array(numpy_helper.to_array(tensors[name])) for name in wanted}


def node_label(node: onnx.NodeProto) -> str:
    """``Conv 'conv1'``: how messages call a node; one without a name goes by its first output."""
    return f"{node.op_type} {_node_name(node)!r}"


def _node_name(node: onnx.NodeProto) -> str:
    return node.name or next((name for name in node.output if name), "")


def _kept(name: str, tensor: onnx.TensorProto, reason: str) -> Kept:
    return Kept(name, tuple(tensor.dims), type_name(tensor.data_type), tensor_bytes(tensor), reason)


def _reason_by_value(tensor: onnx.TensorProto) -> str | None:
    """Why the tensor is kept whoever reads it."""
    kind = type_name(tensor.data_type)
    if tensor.data_type != _FLOAT:
        if kind.startswith("float") or kind == "bfloat16":
            return f"{kind} is left exact (only float32 is quantised)"
        return f"{kind} tensor (shape, index or flag)" if kind in ("int64", "int32", "bool") else f"{kind} tensor"
    if 0 in tensor.dims:
        return "empty tensor"
    if all(dim == 1 for dim in tensor.dims):
        return "a single value"
    return None


def _layer(name: str, shape: tuple[int, ...], uses: list[_Use], constants: set[str]) -> Layer | str:
    """The layer of a float32 tensor, or the reason why it is none."""
    if not uses:
        return "no node reads it"
    found = [_site(use, shape, constants) for use in uses]
    good = [candidate for candidate in found if not isinstance(candidate, str)]
    reasons = [reason for reason in found if isinstance(reason, str)]
    if reasons:
        return f"also: {reasons[0]}" if good else reasons[0]
    site, layout = good[0]
    for other, other_layout in good[1:]:
        if other_layout != layout:
            return f"{site.op} {site.node!r} and {other.op} {other.node!r} read it as different matrices"
    return Layer(name, layout, tuple(dict.fromkeys(site for site, _ in good)))


def _site(use: _Use, shape: tuple[int, ...], constants: set[str]) -> _Candidate | str:
    """The site where a node multiplies the tensor with an activation, or the reason why it does not."""
    node, index = use.node, use.index
    weight_inputs = {"Conv": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}.get(node.op_type, ())
    if node.domain not in _STANDARD or index not in weight_inputs:
        return _reason_by_use(use)
    activation = node.input[1 - index]
    if activation in constants or not activation:
        return f"the other operand of {node_label(node)} is constant too"
    attributes = attributes_of(node)
    patch: ConvPatch | MatMulPatch
    try:
        if node.op_type == "Conv":
            patch = _conv_patch(attributes, shape)
            layout = conv_layout(shape, patch.groups)
        elif node.op_type == "Gemm":
            side: Literal["A", "B"] = "A" if index == 0 else "B"
            layout = gemm_layout(shape, side, bool(attributes.get(f"trans{side}", 0)))
            patch = _gemm_patch(attributes, index)
        else:
            layout = matmul_layout(shape, "left" if index == 0 else "right")
            patch = MatMulPatch(axis=-2 if index == 0 else -1, batch=shape[:-2])
    except ValueError as error:
        return f"weight of {node_label(node)}: {error}"
    return Site(_node_name(node), node.op_type, activation, patch), layout


def _gemm_patch(attributes: dict[str, Any], index: int) -> MatMulPatch:
    """Rows of A if B is constant (index 1), columns of B if A is; a transposed activation swaps them."""
    transposed = bool(attributes.get("transA" if index == 1 else "transB", 0))
    summed_last = transposed == (index == 0)
    return MatMulPatch(axis=-1 if summed_last else -2)


def _conv_patch(attributes: dict[str, Any], shape: tuple[int, ...]) -> ConvPatch:
    """The attributes of Conv with their defaults.

    Raises:
        ValueError: they do not fit the weight, or are outside what is supported.
    """
    kernel = shape[2:]
    rank = len(kernel)
    if not 1 <= rank <= 3:
        raise ValueError(f"convolutions of {rank} spatial axes are not supported")
    given = tuple(attributes.get("kernel_shape", kernel))
    strides = tuple(attributes.get("strides", (1,) * rank))
    dilations = tuple(attributes.get("dilations", (1,) * rank))
    pads = tuple(attributes.get("pads", (0,) * (2 * rank)))
    auto_pad: Any = attributes.get("auto_pad", b"NOTSET").decode() or "NOTSET"
    if given != kernel:
        raise ValueError(f"kernel_shape {given} differs from the weight's {kernel}")
    if (len(strides), len(dilations), len(pads)) != (rank, rank, 2 * rank):
        raise ValueError("strides, dilations or pads have the wrong length")
    if min(strides + dilations) < 1 or min(pads) < 0:
        raise ValueError("negative pads, strides or dilations are not supported")
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"unknown auto_pad {auto_pad!r}")
    groups = int(attributes.get("group", 1))
    return ConvPatch(groups, kernel, strides, dilations, pads, auto_pad)


def _reason_by_use(use: _Use) -> str:
    """Why a reader outside the table of products keeps a tensor exact."""
    node, label = use.node, node_label(use.node)
    roles = _PARAMETERS.get(node.op_type, ()) if node.domain in _STANDARD else ()
    if use.index < len(roles):
        later = " (not supported yet)" if node.op_type in _LATER and "weight" in roles[use.index] else ""
        return f"{roles[use.index]} of {label}{later}"
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
