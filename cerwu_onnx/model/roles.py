"""Decide from the readers of a constant whether it is a layer, or why it stays exact."""

from __future__ import annotations

import math

import numpy as np
import onnx

from cerwu_onnx.model.elements import FLOATS, floats_of, raw_bytes
from cerwu_onnx.model.exact_tensors import deflated_size
from cerwu_onnx.model.layout import moved_layout, operand_layout
from cerwu_onnx.model.sites import Product, find_product, node_label, node_name
from cerwu_onnx.model.skeleton import fits_directory
from cerwu_onnx.model.tensors import tensor_bytes, type_name
from cerwu_onnx.model.uses import Use, Uses
from cerwu_onnx.types import Layer, Reader

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
"""Operators whose output changes no more than one of these inputs does, and these inputs; None: all inputs."""

LEAST_OPERAND = 32
"""A tensor that no product reads is quantised if it has at least so many elements: a record takes some 15 bytes.

A small transformer's scales and shifts of LayerNormalization are a fifth of its file as exact floats."""

LARGE_OPERAND, EVEN = 256, 256.0
"""A smaller one that scales values is quantised only if its own differ by no more than this factor. One grid for all
would lose its small values, and with them whole channels."""

ORDERLY = 0.5
"""Such a tensor is not quantised if deflate brings it below this share of its size: masks, tables of few values."""


def reason_by_value(name: str, tensor: onnx.TensorProto) -> str | None:
    """Why the tensor stays exact, whoever reads it; None if nothing in its values says so."""
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


def layer_of(name: str, tensor: onnx.TensorProto, uses: Uses, constants: set[str]) -> Layer | str:
    """The layer of a float tensor, or the reason why it is not a layer."""
    shape = tuple(tensor.dims)
    products: list[Product] = []
    readers: list[Reader] = []
    reasons: list[str] = []
    small = math.prod(shape) < LEAST_OPERAND
    uneven = math.prod(shape) < LARGE_OPERAND and _spread(tensor) > EVEN
    for use in uses.of(name, shape):
        if use.node.op_type in ("Shape", "Size") and use.node.domain in _STANDARD:
            continue
        found = _product(use, shape, constants)
        if isinstance(found, Product):
            products.append(found)
        if isinstance(found, str) or not found.sites:
            readers.append(Reader(node_name(use.node), use.node.op_type, use.inside))
        if isinstance(found, str) and (small or not _is_operand(use) or (uneven and _scales(use))):
            reasons.append(found)
    if not products and not readers:
        return "no node reads it"
    if reasons:
        return f"also: {reasons[0]}" if products else reasons[0]
    if not products:
        if deflated_size(raw_bytes(tensor)) < ORDERLY * tensor_bytes(tensor):
            return "not a factor of a product, and so regular that deflate does better"
        return Layer(name, operand_layout(shape), (), readers=tuple(readers))
    # A product whose other operand is known tells more about a table than the lookup of its rows.
    first = min(products, key=lambda product: (not product.sites, any(site.op == "Gather" for site in product.sites)))
    same = [product for product in products if product.layout == first.layout]
    readers += [Reader(s.node, s.op) for product in products if product not in same for s in product.sites]
    sites = tuple(dict.fromkeys(site for product in same for site in product.sites))
    return Layer(name, first.layout, sites, readers=tuple(dict.fromkeys(readers)))


def _product(use: Use, shape: tuple[int, ...], constants: set[str]) -> Product | str:
    """How a node multiplies a tensor of this shape, or the reason why it does not.

    Inside bodies the activations cannot be computed, so there are no sites.
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
    """Whether the reader does not make small errors of the tensor large."""
    inputs = _OPERANDS.get(use.node.op_type, ()) if use.node.domain in _STANDARD else ()
    return inputs is None or use.index in inputs


def _scales(use: Use) -> bool:
    """Whether the reader multiplies values by the tensor."""
    return use.node.op_type in ("Mul", "Div", "PRelu") or (use.node.op_type in _VECTORS and use.index == 1)


def _spread(tensor: onnx.TensorProto) -> float:
    """The largest magnitude over the smallest that is not 0."""
    sizes = np.abs(floats_of(tensor).astype(np.float64))
    sizes = sizes[sizes > 0]
    return float(sizes.max() / sizes.min()) if sizes.size else 1.0


def _reason_by_use(use: Use) -> str:
    """Why a reader that is not in the table of products keeps a tensor exact."""
    node, label = use.node, node_label(use.node)
    roles = _PARAMETERS.get(node.op_type, ()) if node.domain in _STANDARD else ()
    if use.index < len(roles):
        return f"{roles[use.index]} of {label}"
    if node.domain not in _STANDARD:
        return f"operand of {label} of the domain {node.domain!r}"
    return f"operand of {label}, which is not a matrix product"
