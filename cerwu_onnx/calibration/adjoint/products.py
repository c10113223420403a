"""Rules of matrix products, of convolutions, and of average pooling, which is a convolution with ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Lengths along the spatial axes of a convolution, all known.

    Attributes:
        kernel: taps.
        strides: positions from one window to the next.
        dilations: positions from one tap to the next.
        given: of the output.
        wanted: of the input.
        begins: zeros before the input.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    given: list[int]
    wanted: list[int]
    begins: list[int]

    @property
    def spans(self) -> list[int]:
        """From the first tap to the last."""
        return [(taps - 1) * apart for taps, apart in zip(self.kernel, self.dilations, strict=True)]

    @property
    def full(self) -> list[int]:
        """What all windows read, padding included."""
        windows = zip(self.given, self.strides, self.spans, strict=True)
        return [(given - 1) * stride + span + 1 for given, stride, span in windows]

    @property
    def ends(self) -> list[int]:
        """Zeros behind the input that windows read; negative where strides leave input behind the last window."""
        return [full - want - begin for full, want, begin in zip(self.full, self.wanted, self.begins, strict=True)]


def _sizes(call: Call, weight: Value, like: Value) -> _Sizes | None:
    """Sizes of the call's convolution; None where they depend on the data."""
    if weight.dims is None or call.y.dims is None or like.dims is None:
        return None
    parts = (weight.dims[2:], call.y.dims[2:], like.dims[2:])
    kernel, given, wanted = ([size for size in part if isinstance(size, int)] for part in parts)
    rank, auto_pad = len(parts[0]), call.text("auto_pad", "NOTSET")
    if not len(kernel) == len(given) == len(wanted) == rank:
        return None
    strides, dilations = (call.attributes.get(name, [1] * rank) for name in ("strides", "dilations"))
    pads = call.attributes.get("pads", []) if auto_pad == "NOTSET" else []
    sizes = _Sizes(kernel, strides, dilations, given, wanted, pads[:rank] or [0] * rank)
    if not auto_pad.startswith("SAME"):
        return sizes
    return replace(sizes, begins=[(max(end, 0) + (auto_pad == "SAME_LOWER")) // 2 for end in sizes.ends])


def _spread(call: Call, g: Value, weight: Value, like: Value) -> Value:
    """The adjoint of a convolution with the call's attributes, in the shape of its input ``like``."""
    attributes = call.some("strides", "dilations", "group")
    strides, auto_pad = attributes.get("strides", []), call.text("auto_pad", "NOTSET")
    if sizes := _sizes(call, weight, like):
        if mirrored := _mirrored(call, g, weight, sizes):
            return mirrored
        behind = [max(-end, 0) for end in sizes.ends]
        if min(sizes.begins) >= 0 and all(more < stride for more, stride in zip(behind, sizes.strides, strict=True)):
            pads = [*sizes.begins, *(max(end, 0) for end in sizes.ends)]
            return call.tape.emit("ConvTranspose", g, weight, pads=pads, output_padding=behind, **attributes)
    pads = call.attributes.get("pads", []) if auto_pad == "NOTSET" else []
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


def _mirrored(call: Call, g: Value, weight: Value, sizes: _Sizes) -> Value | None:
    """The same as a convolution with mirrored taps, which onnxruntime computes faster: of stride 1, or of one channel.

    With strides, zeros come between the gradients. None where the sizes do not allow it.
    """
    rows, columns, *_ = weight.dims or ()
    group, rank, strided = call.attributes.get("group", 1), len(sizes.kernel), max(sizes.strides) > 1
    if not (isinstance(rows, int) and isinstance(columns, int)) or (strided and not rows == group > columns == 1):
        return None
    begins = [span - begin for span, begin in zip(sizes.spans, sizes.begins, strict=True)]
    lasts = zip(sizes.spans, sizes.ends, sizes.strides, strict=True)
    ends = [span - end - (stride - 1) for span, end, stride in lasts]
    if min(*begins, *ends) < 0:
        return None
    if strided:
        g = _apart(call, g, sizes.given, sizes.strides)
    axes, kernel = list(range(2, 2 + rank)), sizes.kernel
    turned = weight.reshape([group, rows // group, columns, *kernel]).transpose(0, 2, 1, *(axis + 1 for axis in axes))
    turned = turned.reshape([group * columns, rows // group, *kernel])
    backward, ones = [-1] * rank, [-(1 << 31)] * rank
    turned = call.tape.emit("Slice", turned, backward, ones, axes, backward, dtype=weight.dtype)
    attributes = {"kernel_shape": kernel, "group": group, "dilations": sizes.dilations}
    return call.tape.emit("Conv", g, turned, pads=[*begins, *ends], **attributes)


def _apart(call: Call, g: Value, sizes: Sequence[int], strides: Sequence[int]) -> Value:
    """Put zeros behind each number along the spatial axes of these sizes, so that it takes a stride.

    Along the last axis by a product with a matrix of zeros and ones: padding would copy one number at a time.
    """
    *outer, last = sizes
    wide = last * strides[-1]
    ones = [float(column == strides[-1] * row) for row in range(last) for column in range(wide)]
    g = call.tape.emit("MatMul", g, call.tape.constant(ones, [last, wide], g.dtype)) if wide > last else g
    if max(strides[:-1], default=1) == 1:
        return g
    ends = [0, 0, *(number for stride in strides[:-1] for number in (0, stride - 1)), 0]
    zeros = call.tape.constant([0] * len(ends) + ends, [2 * len(ends)], TensorProto.INT64)
    padded = call.tape.emit("Pad", g.unsqueeze([3 + 2 * axis for axis in range(len(outer))]), zeros, dtype=g.dtype)
    return padded.reshape([0, 0, *(size * stride for size, stride in zip(sizes, strides, strict=True))])


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
    x, kernel = call.x, tuple[int, ...](call.attributes["kernel_shape"])
    g = call.g / math.prod(kernel)
    padded = same or any(call.attributes.get("pads", ()))
    if (x.dims or ())[2:] == kernel and not padded:  # one window
        return g.expand(x.shape)
    if padded and not call.attributes.get("count_include_pad", 0):
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
