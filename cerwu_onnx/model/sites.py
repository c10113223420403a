"""Find how a node multiplies a constant with an activation, one function per operator.

The table is in docs/architecture.md, "The canonical layer".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import onnx

from cerwu_onnx.model.layout import (
    Move,
    conv_layout,
    conv_transpose_layout,
    einsum_layout,
    gather_layout,
    gemm_layout,
    matmul_layout,
    moved_layout,
    recurrent_layout,
)
from cerwu_onnx.model.tensors import all_messages, attributes_of
from cerwu_onnx.types import ConvPatch, EinsumPatch, GatherPatch, HiddenPatch, MatMulPatch, MatrixLayout, Site

_STANDARD = ("", "ai.onnx")
MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's own operators."""

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_REVERSE = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_Shape = tuple[int, ...]


class Product(NamedTuple):
    """A constant operand as matrices, and the sites with the activations that they multiply."""

    sites: tuple[Site, ...]
    layout: MatrixLayout


def node_label(node: onnx.NodeProto) -> str:
    """``Conv 'conv1'``: a node in messages; a node without a name is called by its first output."""
    return f"{node.op_type} {node_name(node)!r}"


def find_product(node: onnx.NodeProto, index: int, shape: tuple[int, ...]) -> Product | None:
    """The product that a node computes with the tensor at an input; None if it does not use it as a matrix.

    Args:
        node: a node of a model that :func:`with_hidden_states` returned.
        index: index of the input.
        shape: shape of the tensor there.

    Raises:
        ValueError: the shape or an attribute is wrong or not supported.
    """
    known = _PRODUCTS if node.domain in _STANDARD else _FUSED if node.domain == MICROSOFT else {}
    found = known.get((node.op_type, index))
    return found(node, attributes_of(node), shape) if found else None


def with_hidden_states(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model in which each LSTM, GRU and RNN of the main graph returns its hidden states Y.

    Where a node leaves that output out, this is a copy in which the output has an unused name, the same at every call;
    else it is the model itself.
    """
    missing = [index for index, node in enumerate(model.graph.node) if _is_recurrent(node) and not any(node.output[:1])]
    if not missing:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    taken: set[str] = set()
    for message in all_messages(copy.graph):
        taken.update(message.output if isinstance(message, onnx.NodeProto) else [getattr(message, "name", "")])
    for index in missing:
        node = copy.graph.node[index]
        name = f"{node_name(node)}:Y"
        while name in taken:
            name += "'"
        taken.add(name)
        del node.output[:1]
        node.output.insert(0, name)
    return copy


def node_name(node: onnx.NodeProto) -> str:
    """A node's name, or its first output."""
    return node.name or next((name for name in node.output if name), "")


def _is_recurrent(node: onnx.NodeProto) -> bool:
    return node.op_type in _GATES and node.domain in _STANDARD


def _site(node: onnx.NodeProto, activation: str, patch: ConvPatch | MatMulPatch) -> Site:
    return Site(node_name(node), node.op_type, activation, patch)


def _conv(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape) -> Product:
    patch = _conv_patch(attributes, shape)
    return Product((_site(node, node.input[0], patch),), conv_layout(shape, patch.groups))


def _conv_transpose(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape) -> Product:
    """All taps multiply every input pixel, like the rows of a convolution with kernel 1.

    This is exact if outputs of different taps are rows of their own. It ignores that they are added where they overlap,
    and cut off at the border by ``pads``.
    """
    rank = _spatial_rank(shape)
    groups = int(attributes.get("group", 1))
    _check_kernel(attributes, shape[2:])
    ones = (1,) * rank
    patch = ConvPatch(groups, ones, ones, ones, (0,) * (2 * rank))
    return Product((_site(node, node.input[0], patch),), conv_transpose_layout(shape, groups))


def _gemm_a(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape) -> Product:
    """A is constant: its inputs are columns of B, or rows of B if it is transposed."""
    patch = MatMulPatch(axis=-1 if attributes.get("transB", 0) else -2)
    layout = gemm_layout(shape, "A", bool(attributes.get("transA", 0)))
    return Product((_site(node, node.input[1], patch),), layout)


def _gemm_b(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape) -> Product:
    """B is constant: its inputs are rows of A, or columns of A if it is transposed."""
    patch = MatMulPatch(axis=-2 if attributes.get("transA", 0) else -1)
    layout = gemm_layout(shape, "B", bool(attributes.get("transB", 0)))
    return Product((_site(node, node.input[0], patch),), layout)


def _matmul_left(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape) -> Product:
    patch = MatMulPatch(axis=-2, batch=shape[:-2])
    return Product((_site(node, node.input[1], patch),), matmul_layout(shape, "left"))


def _matmul_right(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape) -> Product:
    patch = MatMulPatch(axis=-1, batch=shape[:-2])
    return Product((_site(node, node.input[0], patch),), matmul_layout(shape, "right"))


def _fused_matmul(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape, index: int) -> Product | None:
    """MatMul that transposes the last two axes of an operand first; other transpositions are not products here."""
    if attributes.get("transBatchA", 0) or attributes.get("transBatchB", 0):
        return None
    transposed = [bool(attributes.get("transA", 0)), bool(attributes.get("transB", 0))]
    swap = Move(perm=(*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)) if len(shape) > 1 else None
    moves = (swap,) if swap is not None and transposed[index] else ()
    seen = moves[0].apply(shape) if moves else shape
    layout = moved_layout(matmul_layout(seen, "right" if index else "left"), shape, moves)
    axis: Literal[-1, -2] = -1 if (index == 1) != transposed[1 - index] else -2  # that the other operand is summed over
    return Product((_site(node, node.input[1 - index], MatMulPatch(axis=axis, batch=shape[:-2])),), layout)


def _einsum(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape, index: int) -> Product | None:
    """Two operands; both must have all letters that are summed over. The variable one may have an ellipsis.

    Raises:
        ValueError: the equation has another form.
    """
    equation = attributes["equation"].decode().replace(" ", "")
    left, arrow, result = equation.partition("->")
    operands = left.split(",")
    if not arrow or len(operands) != 2:
        raise ValueError(f"the equation {equation!r} does not have two operands and a result")
    labels, operand = operands[index], operands[1 - index]
    before, _, after = operand.partition("...")
    if "." in labels + before + after or ("..." in operand) != ("..." in result):
        raise ValueError(f"in the equation {equation!r} an ellipsis stands in the constant or is summed over")
    if len(set(labels)) < len(labels) or len({*before, *after}) < len(before + after):
        raise ValueError(f"the equation {equation!r} repeats a letter in an operand")
    if alone := {*before, *after} - {*labels, *result}:
        raise ValueError(f"a sum over {', '.join(sorted(alone))} of one operand alone is not supported")
    axes = {label: axis for axis, label in enumerate(before)}
    axes |= {label: axis - len(after) for axis, label in enumerate(after)}
    layout = einsum_layout(shape, labels, before + after, result)
    groups = tuple(axes[label] for label in labels if label in axes and label in result)
    columns = tuple(axes[label] for label in labels if label in axes and label not in result)
    if not columns:
        return None
    patch = EinsumPatch(-1, (layout.groups,), groups, columns)
    return Product((_site(node, node.input[1 - index], patch),), layout)


def _gather(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape) -> Product | None:
    """An embedding: rows along the first axis. Lookups of single numbers or along other axes are not products."""
    if len(shape) < 2 or int(attributes.get("axis", 0)) not in (0, -len(shape)):
        return None
    return Product((_site(node, node.input[1], GatherPatch(-1, shape[:1])),), gather_layout(shape))


def _input_weight(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape) -> Product:
    """W multiplies the input of each step, which all directions share.

    Steps beyond a sequence's length (``sequence_lens``) count as well: they hold the caller's padding.
    """
    layout = recurrent_layout(shape, "W")
    _check_recurrent(node, attributes, shape, int(attributes.get("hidden_size", shape[1] // _GATES[node.op_type])))
    return Product((_site(node, node.input[0], MatMulPatch(axis=-1)),), layout)


def _recurrence_weight(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape) -> Product:
    """R multiplies the hidden state at the beginning of a step: that of the step before, or the initial one.

    Absent initial states are zero, and constant ones are left out. With ``linear_before_reset`` = 0, the hidden gate of
    GRU multiplies the state times the reset gate; the state itself is taken here.
    Steps beyond a sequence's length count as the zeros that Y holds there.
    """
    layout = recurrent_layout(shape, "R")
    reverse = _check_recurrent(node, attributes, shape, hidden=shape[2])
    patch = HiddenPatch(-1, (shape[0], 1), reverse, bool(attributes.get("layout", 0)))
    states = (node.output[0], *node.input[5:6])
    return Product(tuple(_site(node, name, patch) for name in states if name), layout)


def _check_recurrent(node: onnx.NodeProto, attributes: dict[str, Any], shape: _Shape, hidden: int) -> tuple[bool, ...]:
    """For each direction, whether it runs backwards through the sequence.

    Raises:
        ValueError: the weight has not as many directions and rows as the attributes say.
    """
    direction = attributes.get("direction", b"forward").decode()
    if direction not in _REVERSE:
        raise ValueError(f"unknown direction {direction!r}")
    expected = (len(_REVERSE[direction]), _GATES[node.op_type] * hidden)
    if shape[:2] != expected:
        raise ValueError(f"its directions and rows should be {expected}, got shape {shape}")
    return _REVERSE[direction]


def _conv_patch(attributes: dict[str, Any], shape: _Shape) -> ConvPatch:
    """The attributes of Conv with their defaults.

    Raises:
        ValueError: they do not fit the weight, or are not supported.
    """
    rank = _spatial_rank(shape)
    strides = tuple(attributes.get("strides", (1,) * rank))
    dilations = tuple(attributes.get("dilations", (1,) * rank))
    pads = tuple(attributes.get("pads", (0,) * (2 * rank)))
    auto_pad: Literal["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]
    auto_pad = attributes.get("auto_pad", b"NOTSET").decode() or "NOTSET"
    _check_kernel(attributes, shape[2:])
    if (len(strides), len(dilations), len(pads)) != (rank, rank, 2 * rank):
        raise ValueError("strides, dilations or pads have the wrong length")
    if min(strides + dilations) < 1 or min(pads) < 0:
        raise ValueError("negative pads, strides or dilations are not supported")
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"unknown auto_pad {auto_pad!r}")
    return ConvPatch(int(attributes.get("group", 1)), shape[2:], strides, dilations, pads, auto_pad)


def _spatial_rank(shape: _Shape) -> int:
    rank = len(shape) - 2
    if not 1 <= rank <= 3:
        raise ValueError(f"convolutions of {rank} spatial axes are not supported")
    return rank


def _check_kernel(attributes: dict[str, Any], kernel: _Shape) -> None:
    given = tuple(attributes.get("kernel_shape", kernel))
    if given != kernel:
        raise ValueError(f"kernel_shape {given} differs from the weight's {kernel}")


_PRODUCTS: dict[tuple[str, int], Callable[[onnx.NodeProto, dict[str, Any], _Shape], Product | None]] = {
    ("Conv", 1): _conv,
    ("ConvTranspose", 1): _conv_transpose,
    ("Einsum", 0): partial(_einsum, index=0),
    ("Einsum", 1): partial(_einsum, index=1),
    ("Gather", 0): _gather,
    ("Gemm", 0): _gemm_a,
    ("Gemm", 1): _gemm_b,
    ("MatMul", 0): _matmul_left,
    ("MatMul", 1): _matmul_right,
    **{(op, 1): _input_weight for op in _GATES},
    **{(op, 2): _recurrence_weight for op in _GATES},
}

_FUSED: dict[tuple[str, int], Callable[[onnx.NodeProto, dict[str, Any], _Shape], Product | None]] = {
    ("FusedConv", 1): _conv,
    ("FusedGemm", 0): _gemm_a,
    ("FusedGemm", 1): _gemm_b,
    ("FusedMatMul", 0): partial(_fused_matmul, index=0),
    ("FusedMatMul", 1): partial(_fused_matmul, index=1),
}
"""Operators of :data:`MICROSOFT`: a plain one, and an activation or a transposition that goes with it."""

PLAIN = {"FusedConv": "Conv", "FusedGemm": "Gemm", "FusedMatMul": "MatMul"}
"""The plain operator in each of them."""
