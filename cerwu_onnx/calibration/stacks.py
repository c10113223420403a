"""Gradients with respect to a node's output as gradients with respect to the rows of its layer's matrix.

With x the columns that the matrix reads (:mod:`cerwu_onnx.calibration.patches`) and g the gradient of its rows at the
same positions, the gradient with respect to the matrix is ``sum g x^T``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from cerwu_onnx.calibration.patches import columns, iter_columns, positions
from cerwu_onnx.model.tensors import attributes_of
from cerwu_onnx.types import ConvPatch, Layer

Array: TypeAlias = npt.NDArray[Any]

CHUNK = 64 << 20
"""Bytes of columns held at once."""


def beside_columns(
    layer: Layer, node: onnx.NodeProto, gradient: Array, x: Array
) -> Iterator[tuple[Array | None, Array]]:
    """The gradients of rows and the columns at the same positions, in pieces.

    Args:
        layer: a layer of one site.
        node: its node: Conv, ConvTranspose, Gemm or MatMul.
        gradient: with respect to the node's output.
        x: what the layer reads.

    Yields:
        ``(G, M, P)`` and ``(G, P, N)``; None instead of the gradients if they are not in the order of the columns.
    """
    patch, groups, rows = layer.sites[0].patch, layer.layout.groups, layer.layout.rows
    stack = None if node.op_type == "ConvTranspose" else next(stacks(layer, node, gradient))
    if stack is not None and positions(patch, x) != stack.shape[0] * stack.shape[3]:
        stack = None
    cuts = 1  # the samples of a convolution run in several cuts if all columns at once would take too much memory
    if node.op_type == "Conv":
        cuts = min(len(x), 1 + 4 * groups * layer.layout.cols * positions(patch, x) // CHUNK)
    parts = [None] * cuts if stack is None else np.array_split(stack, cuts)
    for part, inputs in zip(parts, np.array_split(x, cuts) if cuts > 1 else [x], strict=True):
        by_row = None if part is None else part.transpose(1, 2, 0, 3).reshape(groups, rows, -1)
        yield by_row, columns(patch, inputs)


def stacks(layer: Layer, node: onnx.NodeProto, gradient: Array) -> Iterator[Array]:
    """The gradient with respect to a layer's rows, as arrays ``(any, G, M, positions)``."""
    groups, rows = layer.layout.groups, layer.layout.rows
    attributes = attributes_of(node)
    if node.op_type == "Conv":
        yield gradient.reshape(len(gradient), groups, rows, -1)
    elif node.op_type == "ConvTranspose":  # each tap is a row: it reads the output where a convolution would
        yield from (columns.swapaxes(1, 2)[None] for columns in iter_columns(_taps(layer, attributes), gradient))
    elif node.op_type == "Gemm":
        by_row = gradient if layer.sites[0].activation == node.input[1] else gradient.T
        yield attributes.get("alpha", 1.0) * by_row[None, None]
    else:
        yield _matmul_stack(layer, node, gradient)


def _taps(layer: Layer, attributes: Mapping[str, Any]) -> ConvPatch:
    """How the taps of a transposed convolution read its output."""
    kernel = layer.layout.shape[2:]
    ones, zeros = (1,) * len(kernel), (0,) * (2 * len(kernel))
    return ConvPatch(
        layer.layout.groups,
        kernel,
        tuple(attributes.get("strides", ones)),
        tuple(attributes.get("dilations", ones)),
        tuple(attributes.get("pads", zeros)),
    )


def _matmul_stack(layer: Layer, node: onnx.NodeProto, gradient: Array) -> Array:
    """The stack for a gradient ``(batch..., P, M)`` or, with the constant on the left, ``(batch..., M, P)``.

    Vectors lack an axis.
    """
    groups, rows = layer.layout.groups, layer.layout.rows
    if rows == groups == 1:
        return gradient.reshape(1, 1, 1, -1)
    batch: tuple[int, ...] = layer.sites[0].patch.batch  # type: ignore[union-attr]
    if gradient.ndim == len(batch) + 1:  # the other operand is a vector
        gradient = gradient[..., None]
    elif layer.sites[0].activation == node.input[0]:
        gradient = gradient.swapaxes(-1, -2)
    # Move the constant's batch axes in front of the rows; axes along which it is broadcast are positions like others.
    lead = gradient.ndim - 2 - len(batch)
    own = [lead + axis for axis, length in enumerate(batch) if length > 1]
    rest = [axis for axis in range(gradient.ndim - 2) if axis not in own]
    moved = gradient.transpose(*rest, *own, -2 + gradient.ndim, -1 + gradient.ndim)
    stacked: Array = moved.reshape(-1, groups, rows, gradient.shape[-1])
    return stacked
