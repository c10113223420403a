"""Rules of matrix products, of convolutions, and of average pooling, which is a convolution with ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx import TensorProto

from cerwu_onnx.calibration.adjoint.calls import Call, Rule, first_only
from cerwu_onnx.calibration.adjoint.values import Blocked, Value, joined


def gemm(call: Call, index: int) -> Value:
    """Y = alpha A' B' + beta C, where A' is A or, with transA, its transpose."""
    alpha = call.number("alpha", 1.0)
    trans_a, trans_b = (call.attributes.get(name, 0) for name in ("transA", "transB"))
    if index == 2:
        return (call.g * call.number("beta", 1.0)).sum_to(call.input(2))
    if index == 0:
        operands, flags = [call.g, call.input(1)], (0, 1 - trans_b)
        flags = (trans_b, 1) if trans_a else flags
        transposed = trans_a
    else:
        operands, flags = [call.x, call.g], (1 - trans_a, 0)
        flags = (1, trans_a) if trans_b else flags
        transposed = trans_b
    return call.tape.emit(
        "Gemm", *(operands[::-1] if transposed else operands), alpha=alpha, transA=flags[0], transB=flags[1]
    )


def mat_mul(call: Call, index: int) -> Value:
    """Y = A B over broadcast batches; a vector is a matrix whose other axis Y lacks."""
    a, b, g = call.input(0), call.input(1), call.g
    if index == 0 and b.dims is not None and b.rank == 2:  # however many axes A has
        return call.tape.emit("MatMul", g, b.transpose(1, 0))
    rank = {0: a.rank, 1: b.rank}
    lacking = [axis for axis, operand in ((-2, 0), (-1, 1)) if rank[operand] == 1]
    g = g.unsqueeze(lacking) if lacking else g
    whole = [a.unsqueeze([0]) if rank[0] == 1 else a, b.unsqueeze([1]) if rank[1] == 1 else b]
    other = whole[1 - index].transpose(*_swapped(max(rank[1 - index], 2)))
    result = call.tape.emit("MatMul", *((other, g) if index else (g, other)))
    if rank[1 - index] <= 2 and rank[index] >= 2 and (index == 0 or rank[0] <= 2):
        return result  # no batch of the other operand that this one was broadcast to
    return result.sum_to(whole[index]).reshape(call.input(index).shape)


def einsum(call: Call, index: int) -> Value:
    """Einsum of one or two operands: the product of the gradient and the other operand, summed to this one's axes."""
    equation = call.text("equation", "").replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    term, rest = terms[index], [name for place, name in enumerate(terms) if place != index]
    axes = [*terms, out]
    if not arrow or "." in equation or len(terms) > 2 or any(len(set(one)) < len(one) for one in axes):
        raise Blocked(f"its equation is {equation!r}")
    if not set(term) <= {*out, *"".join(rest)}:
        raise Blocked(f"its equation {equation!r} sums over an axis of one operand alone")
    others = [call.input(place) for place in range(len(terms)) if place != index]
    return call.tape.emit("Einsum", call.g, *others, equation=f"{','.join([out, *rest])}->{term}")


def _swapped(rank: int) -> list[int]:
    """The order of all axes, with the last two exchanged."""
    return [*range(rank - 2), rank - 1, rank - 2]


def conv(call: Call) -> Value:
    """Conv: its gradient is a transposed convolution."""
    return _spread(call, call.g, call.input(1), call.x)


def _spread(call: Call, g: Value, weight: Value, like: Value) -> Value:
    """The adjoint of a convolution with the call's attributes, in the shape of its input ``like``."""
    attributes = call.some("strides", "dilations", "group")
    strides, auto_pad = attributes.get("strides", []), call.text("auto_pad", "NOTSET")
    pads = call.attributes.get("pads", []) if auto_pad == "NOTSET" else []
    if not auto_pad.startswith("SAME") and (mirrored := _mirrored(call, g, weight, like, pads)):
        return mirrored
    if max(strides, default=1) == 1 and not auto_pad.startswith("SAME"):
        attributes |= {"pads": pads} if pads else {}
        return call.tape.emit("ConvTranspose", g, weight, **attributes)
    # Strides may leave input behind the last window, and SAME depends on the size: so crop and pad at run time.
    full = call.tape.emit("ConvTranspose", g, weight, **attributes)
    excess = full.shape - like.shape
    if auto_pad.startswith("SAME"):
        total = call.tape.emit("Max", excess, 0)
        begins = (total if auto_pad == "SAME_UPPER" else total + 1) / 2
    else:
        rank = len(strides)
        begins = call.tape.constant([0, 0, *(pads or [0] * rank)[:rank]], [rank + 2], TensorProto.INT64)
    return call.tape.emit("Pad", full, joined([-begins, begins - excess], 0), dtype=g.dtype)


def _mirrored(call: Call, g: Value, weight: Value, like: Value, pads: Sequence[int]) -> Value | None:
    """The same as a convolution with mirrored taps, which onnxruntime computes faster: of stride 1, or of one channel.

    With strides, zeros come between the gradients. None where the sizes do not allow it.
    """
    if weight.dims is None or call.y.dims is None or like.dims is None:
        return None
    known = (*weight.dims, *call.y.dims[2:], *like.dims[2:])
    sizes = [size for size in known if isinstance(size, int)]
    kernel, rank, group = sizes[2 : len(weight.dims)], len(weight.dims) - 2, call.attributes.get("group", 1)
    strides = call.attributes.get("strides", [1] * rank)
    if len(sizes) < len(known) or (max(strides) > 1 and not sizes[0] == group > sizes[1] == 1):
        return None
    dilations = call.attributes.get("dilations", [1] * rank)
    spans = [(taps - 1) * apart for taps, apart in zip(kernel, dilations, strict=True)]
    begins = [span - pad for span, pad in zip(spans, pads or [0] * rank, strict=False)]
    spread = [size * stride for size, stride in zip(sizes[-2 * rank : -rank], strides, strict=True)]
    ends = [
        size - given - begin + span
        for size, given, begin, span in zip(sizes[-rank:], spread, begins, spans, strict=True)
    ]
    if min(*begins, *ends) < 0:
        return None
    axes = list(range(2, 2 + rank))
    if max(strides) > 1:
        after = [number for stride in strides for number in (0, stride - 1)]
        zeros = call.tape.constant([0] * (4 + 2 * rank) + after, [4 + 4 * rank], TensorProto.INT64)
        apart = call.tape.emit("Pad", g.unsqueeze([3 + 2 * axis for axis in range(rank)]), zeros, dtype=g.dtype)
        g = apart.reshape([0, 0, *spread])
    rows, columns = sizes[:2]
    turned = weight.reshape([group, rows // group, columns, *kernel]).transpose(0, 2, 1, *(axis + 1 for axis in axes))
    turned = turned.reshape([group * columns, rows // group, *kernel])
    backward, ones = [-1] * rank, [-(1 << 31)] * rank
    turned = call.tape.emit("Slice", turned, backward, ones, axes, backward, dtype=weight.dtype)
    return call.tape.emit(
        "Conv", g, turned, kernel_shape=kernel, group=group, dilations=dilations, pads=[*begins, *ends]
    )


def conv_transpose(call: Call) -> Value:
    """ConvTranspose: its gradient is a convolution."""
    if call.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in call.attributes:
        raise Blocked("its padding is computed from the output's shape")
    return call.tape.emit("Conv", call.g, call.input(1), **call.some("strides", "dilations", "group", "pads"))


def average_pool(call: Call) -> Value:
    """AveragePool: a convolution of each channel with ones, divided by the number of elements in the window."""
    same = call.text("auto_pad", "NOTSET").startswith("SAME")
    if call.attributes.get("ceil_mode", 0) or (same and max(call.attributes.get("dilations", [1])) > 1):
        raise Blocked("how it pads is not certain")
    x, kernel = call.x, call.attributes["kernel_shape"]
    g = call.g / math.prod(kernel)
    if (same or any(call.attributes.get("pads", ()))) and not call.attributes.get("count_include_pad", 0):
        inside = call.tape.emit("AveragePool", x.filled(1), **{**call.attributes, "count_include_pad": 1})
        g = g / inside
    weight = call.tape.constant([1.0] * math.prod(kernel), [1, 1, *kernel], x.dtype)
    return _spread(call, _one_channel(g), weight, _one_channel(x)).reshape(x.shape)


def _one_channel(value: Value) -> Value:
    """Make each channel a sample of one channel."""
    spatial = value.tape.emit("Slice", value.shape, [2], [1 << 30], [0], dtype=TensorProto.INT64)
    return value.reshape(joined([value.tape.constant([-1, 1], [2], TensorProto.INT64), spatial], 0))


RULES: dict[str, Rule] = {
    "Gemm": gemm,
    "MatMul": mat_mul,
    "Einsum": einsum,
    "Conv": first_only(conv),
    "ConvTranspose": first_only(conv_transpose),
    "AveragePool": first_only(average_pool),
}
