"""The order in which a file stores a weight's elements, and whether coding a tensor makes the file smaller."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cerwu_onnx.container import writer
from cerwu_onnx.container.format import ElementType, Kind, Order, Record, item_size, row_order
from cerwu_onnx.entropy.adaptive import reach_of
from cerwu_onnx.model.layout import conv_layout
from cerwu_onnx.types import Layer, QuantizedTensor

SURE = 64
"""A tensor pays for sure if symbols of fixed length, twice over, and so many bytes take less than its exact form: no
coder takes more, so it need not be coded to find out."""

_OVERFLOW = {ElementType.FLOAT16: 65520.0, ElementType.BFLOAT16: 3.39e38}
"""The least values that rounding to the type turns into infinity."""


@dataclass(frozen=True, slots=True)
class Storage:
    """How a weight is stored.

    Attributes:
        order: the order's code in the file.
        columns: ``(N,)`` the columns of the weight's matrices in the order in which each row is stored; None if the
            elements of a row are not stored one after the other, so that a trellis cannot follow them.
        stepped: whether its rows may have steps of their own.
        across: the order in which each column is stored in one piece, so that columns may have steps of their own; None
            if there is none.
    """

    order: Order
    columns: npt.NDArray[np.intp] | None
    stepped: bool
    across: Order | None = None


def storage(layer: Layer, weight_layout: str) -> Storage:
    """The order in which a layer's weight is stored.

    Args:
        layer: the weight.
        weight_layout: "onnx" takes the first order that keeps rows together, "cmsis" the one that CMSIS-NN's kernels
            read: rows of a convolution may have steps of their own there, those of a matrix may not.
    """
    layout = layer.layout
    rows = row_order(layout)
    natural = np.arange(layout.cols)
    if weight_layout == "onnx":
        turned = None if 1 in (layout.rows, layout.cols) else layout.transposed
        across = None if turned is None else row_order(turned)
        return Storage(Order.ROW_MAJOR, None, False) if rows is None else Storage(rows, natural, True, across)
    order = cmsis_order(layer)
    if order is Order.AXIS1_LAST:  # OHWI: taps, then channels
        return Storage(order, np.ascontiguousarray(natural.reshape(layout.shape[1], -1).T).ravel(), True)
    depthwise = order is Order.AXIS0_LAST and layer.op == "Conv"
    return Storage(order, natural if order is rows else None, depthwise)


def pays(
    name: str,
    quantized: QuantizedTensor,
    coder: str,
    order: Order = Order.ROW_MAJOR,
    element: ElementType = ElementType.FLOAT32,
    max_decode_cost: float | None = None,
) -> bool:
    """Whether a tensor is smaller coded than exact, with finite values; if not, the file holds it exactly.

    Args:
        name: name of the tensor.
        quantized: the tensor on its grid.
        coder: one of :data:`cerwu_onnx.config.CODERS`.
        order: the order in which it would be stored.
        element: the type to which its values will be rounded.
        max_decode_cost: that of the settings.
    """
    if not fits_element(quantized, element):
        return False
    most, bits = raw_cost(element, quantized.symbols.shape), (2 * reach_of(quantized.symbols)).bit_length()
    if quantized.symbols.size * bits // 4 + SURE < most:
        return True
    return writer.encode_tensor(writer.CodedTensor(name, quantized, coder, order, max_decode_cost)).cost < most


def raw_cost(element: ElementType, shape: tuple[int, ...]) -> int:
    """Bytes that an exact tensor adds to a file: record and payload."""
    size = math.prod(shape) * item_size(element)
    return size + len(Record(Kind.RAW, 0, size, 0, element, shape).to_bytes())


def fits_element(quantized: QuantizedTensor, element: ElementType) -> bool:
    """Whether all values stay finite when they are rounded to the type."""
    largest = float((quantized.steps * np.abs(quantized.symbols)).max(initial=0))
    return largest < _OVERFLOW.get(element, math.inf)


def stored_order(layer: Layer, weight_layout: str, quantized: QuantizedTensor) -> Order:
    """The order of a quantised weight: ONNX's own where neither a trellis nor a kernel needs that of :func:`storage`.

    Args:
        layer: the weight.
        weight_layout: as for :func:`storage`.
        quantized: the weight on its grid.
    """
    if weight_layout == "onnx" and not quantized.run:
        return Order.ROW_MAJOR
    where = storage(layer, weight_layout)
    return where.across if quantized.across and where.across is not None else where.order


def cmsis_order(layer: Layer) -> Order:
    """The order in which the kernels of CMSIS-NN read a weight.

    Convolutions: outputs, taps, input channels (OHWI); depthwise ones: taps, outputs. Matrices: outputs, inputs.
    """
    layout = layer.layout
    if layer.op == "Conv" and len(layout.shape) > 2 and layout == conv_layout(layout.shape, layout.groups):
        depthwise = layout.groups > 1 and layout.shape[1] == 1
        return Order.AXIS0_LAST if depthwise else Order.AXIS1_LAST
    transposed = len(layout.shape) == 2 and layout.perm != tuple(sorted(layout.perm))
    return Order.AXIS0_LAST if transposed else Order.ROW_MAJOR
