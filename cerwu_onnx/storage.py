"""In which order a file stores a weight, whether a trellis can follow its rows there, and whether coding it pays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cerwu_onnx.container import writer
from cerwu_onnx.container.format import ElementType, Order, row_order
from cerwu_onnx.types import Layer, QuantizedTensor


@dataclass(frozen=True, slots=True)
class Storage:
    """How a weight is stored.

    Attributes:
        order: the file's code for it.
        columns: ``(N,)`` the columns of the weight's matrices in the order in which each row is stored; None if rows
            are not stored in one piece.
    """

    order: Order
    columns: npt.NDArray[np.intp] | None


def storage(layer: Layer, weight_layout: str) -> Storage:
    """Where a layer's weights go.

    Args:
        layer: the weight.
        weight_layout: "onnx" takes the first order that keeps rows together, "cmsis" the one that CMSIS-NN's kernels
            read.
    """
    layout = layer.layout
    rows = row_order(layout)
    natural = np.arange(layout.cols)
    if weight_layout == "onnx":
        return Storage(Order.ROW_MAJOR, None) if rows is None else Storage(rows, natural)
    order = cmsis_order(layer)
    if order is Order.AXIS1_LAST:  # OHWI: taps, then channels
        return Storage(order, np.ascontiguousarray(natural.reshape(layout.shape[1], -1).T).ravel())
    return Storage(order, natural if order is rows else None)


def pays(name: str, quantized: QuantizedTensor, coder: str, order: Order = Order.ROW_MAJOR) -> bool:
    """Whether a tensor is smaller coded than as float32; if not, the file holds it exactly.

    Args:
        name: of the tensor.
        quantized: the tensor on its grid.
        coder: one of :data:`cerwu_onnx.config.CODERS`.
        order: in which it would be stored.
    """
    coded = writer.encode_tensor(writer.CodedTensor(name, quantized, coder, order))
    return coded.cost < writer.encode_tensor(writer.RawTensor(name, ElementType.FLOAT32, quantized.values())).cost


def stored_order(layer: Layer, weight_layout: str, run: int) -> Order:
    """The order of a quantised weight: that of :func:`storage`, but ONNX's own where neither trellis nor kernel asks.

    Args:
        layer: the weight.
        weight_layout: as for :func:`storage`.
        run: elements between two restarts of the weight's trellis, 0 without one.
    """
    return Order.ROW_MAJOR if weight_layout == "onnx" and not run else storage(layer, weight_layout).order


def cmsis_order(layer: Layer) -> Order:
    """The order in which the kernels of CMSIS-NN read a weight.

    Convolutions: outputs, taps, input channels (OHWI); depthwise ones: taps, outputs. Matrices: outputs, inputs.
    """
    layout = layer.layout
    if layer.sites[0].op == "Conv":
        depthwise = layout.groups > 1 and layout.shape[1] == 1
        return Order.AXIS0_LAST if depthwise else Order.AXIS1_LAST
    transposed = len(layout.shape) == 2 and layout.perm != tuple(sorted(layout.perm))
    return Order.AXIS0_LAST if transposed else Order.ROW_MAJOR
