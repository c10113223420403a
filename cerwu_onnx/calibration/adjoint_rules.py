"""How gradients pass through ONNX operators, from outputs to one input: a table of rules.

A rule is a formula in :class:`~cerwu_onnx.calibration.adjoint_values.Value`: ``g`` is the gradient with respect to the
output ``y``, ``x`` the first input, all of them tensors of the graph under construction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx
from onnx import TensorProto

from cerwu_onnx.calibration.adjoint_values import Blocked, Tape, Value, joined


@dataclass(frozen=True, slots=True)
class Call:
    """A node of the forward graph as its rule sees it.

    Attributes:
        tape: where the rule appends nodes.
        node: the node.
        attributes: its attributes as Python values.
        inputs: None where an optional one is absent.
        outputs: likewise.
        gradients: with respect to each output; None where it is zero.
    """

    tape: Tape
    node: onnx.NodeProto
    attributes: dict[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    gradients: tuple[Value | None, ...]

    def optional(self, index: int) -> Value | None:
        """An input that may be absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def input(self, index: int) -> Value:
        """An input that must be there.

        Raises:
            Blocked: it is not.
        """
        value = self.optional(index)
        if value is None:
            raise Blocked(f"its input {index} is missing")
        return value

    @property
    def x(self) -> Value:
        """The first input."""
        return self.input(0)

    @property
    def y(self) -> Value:
        """The first output."""
        if self.outputs[0] is None:
            raise Blocked("its first output is not used")
        return self.outputs[0]

    @property
    def g(self) -> Value:
        """The gradient with respect to the first output.

        Raises:
            Blocked: other outputs have gradients too.
        """
        first, *rest = self.gradients
        if first is None or any(rest):
            raise Blocked("more than its first output is used")
        return first

    def text(self, name: str, default: str) -> str:
        """An attribute of text."""
        value = self.attributes.get(name, b"").decode()
        return value or default

    def number(self, name: str, default: float) -> float:
        """An attribute that is a number."""
        return float(self.attributes.get(name, default))

    def some(self, *names: str) -> dict[str, Any]:
        """Those of these attributes that are given."""
        return {name: self.attributes[name] for name in names if name in self.attributes}

    def fit(self, gradient: Value, index: int) -> Value:
        """A gradient in the shape of the output, summed to the shape of an input that was broadcast to it."""
        dims = self.input(index).dims
        known = dims is not None and "" not in dims
        return gradient if known and dims == self.y.dims else gradient.sum_to(self.input(index))


Rule: TypeAlias = Callable[[Call, int], Value]
"""The gradient with respect to the input of this index. Raises Blocked where there is none."""


def elementwise(formula: Callable[[Value, Value, Value], Value]) -> Rule:
    """The rule of an operator of one input, from a formula in g, x and y."""
    return lambda call, index: formula(call.g, call.x, call.y)


def first_only(rule: Callable[[Call], Value]) -> Rule:
    """A rule for the first input; others have none."""

    def checked(call: Call, index: int) -> Value:
        if index:
            raise Blocked(f"its input {index} is not constant")
        return rule(call)

    return checked


# Broadcasting arithmetic


def add(call: Call, index: int) -> Value:
    """Add, Sum."""
    return call.fit(call.g, index)


def sub(call: Call, index: int) -> Value:
    """A - b."""
    return call.fit(-call.g if index else call.g, index)


def mean(call: Call, index: int) -> Value:
    """(a + b + ...) / n."""
    return call.fit(call.g / len(call.inputs), index)


def mul(call: Call, index: int) -> Value:
    """A * b."""
    return call.fit(call.g * call.input(1 - index), index)


def div(call: Call, index: int) -> Value:
    """A / b."""
    quotient = call.g / call.input(1)
    return call.fit(-(quotient * call.y) if index else quotient, index)


def extreme(call: Call, index: int) -> Value:
    """Max, Min: to whichever input the output is."""
    return call.fit(call.g * call.y.equals(call.input(index)), index)


def power(call: Call) -> Value:
    """x^p: p x^(p - 1)."""
    p = call.input(1).cast(call.x.dtype)
    return call.fit(call.g * p * call.tape.emit("Pow", call.x, p - 1), 0)


def where(call: Call, index: int) -> Value:
    """To the input that was chosen."""
    chosen = (call.g, 0) if index == 1 else (0, call.g)
    return call.fit(call.tape.emit("Where", call.input(0), *chosen), index)


# Functions of one number


def leaky_relu(call: Call) -> Value:
    """Slope alpha below 0."""
    return call.g.where(call.g * call.number("alpha", 0.01), call.x.above(0))


def p_relu(call: Call) -> Value:
    """Slope from the second input below 0."""
    return call.g.where(call.g * call.input(1), call.x.above(0))


def elu(call: Call) -> Value:
    """Alpha (e^x - 1) below 0, whose derivative is y + alpha."""
    return call.g.where(call.g * (call.y + call.number("alpha", 1.0)), call.x.above(0))


def hard_sigmoid(call: Call) -> Value:
    """A line between 0 and 1: y (1 - y) is positive on its slope, 0 beyond."""
    return call.g * call.number("alpha", 0.2) * (call.y * (1 - call.y)).apply("Sign")


def hard_swish(g: Value, x: Value, y: Value) -> Value:
    """X h(x) with the line h(x) = x / 6 + 1/2 between 0 and 1."""
    h = g.tape.emit("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    return g * (h + x * (h * (1 - h)).apply("Sign") / 6)


def gelu(call: Call) -> Value:
    """X P(x), P the normal distribution or its approximation by tanh."""
    x = call.x
    if call.text("approximate", "none") == "tanh":
        scale = math.sqrt(2 / math.pi)
        tanh = (scale * (x + 0.044715 * x * x * x)).apply("Tanh")
        return call.g * (0.5 * (1 + tanh) + 0.5 * scale * x * (1 - tanh * tanh) * (1 + 3 * 0.044715 * x * x))
    density = (-0.5 * x * x).apply("Exp") / math.sqrt(2 * math.pi)
    return call.g * (0.5 * (1 + (x / math.sqrt(2)).apply("Erf")) + x * density)


def cast(call: Call) -> Value:
    """Back to the type of the input."""
    if not call.x.dtype:
        raise Blocked("its element type is unknown")
    return call.g.cast(call.x.dtype)


def clip(call: Call) -> Value:
    """To what was left as it is."""
    return call.g * call.y.equals(call.x)


# Matrix products


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
    rank = {0: a.rank, 1: b.rank}
    lacking = [axis for axis, operand in ((-2, 0), (-1, 1)) if rank[operand] == 1]
    g = g.unsqueeze(lacking) if lacking else g
    whole = [a.unsqueeze([0]) if rank[0] == 1 else a, b.unsqueeze([1]) if rank[1] == 1 else b]
    other = whole[1 - index].transpose(*_swapped(max(rank[1 - index], 2)))
    result = call.tape.emit("MatMul", *((other, g) if index else (g, other)))
    if rank[1 - index] <= 2 and rank[index] >= 2 and (index == 0 or rank[0] <= 2):
        return result  # no batch of the other operand that this one was broadcast to
    return result.sum_to(whole[index]).reshape(call.input(index).shape)


def _swapped(rank: int) -> list[int]:
    """All axes, the last two exchanged."""
    return [*range(rank - 2), rank - 1, rank - 2]


# Convolution and pooling


def conv(call: Call) -> Value:
    """The transposed convolution."""
    return _spread(call, call.g, call.input(1), call.x)


def _spread(call: Call, g: Value, weight: Value, like: Value) -> Value:
    """The adjoint of a convolution with the call's attributes, in the shape of its input ``like``."""
    attributes = call.some("strides", "dilations", "group")
    strides, auto_pad = attributes.get("strides", []), call.text("auto_pad", "NOTSET")
    pads = call.attributes.get("pads", []) if auto_pad == "NOTSET" else []
    if max(strides, default=1) == 1 and not auto_pad.startswith("SAME"):
        attributes |= {"pads": pads} if pads else {}
        return call.tape.emit("ConvTranspose", g, weight, **attributes)
    # Strides may leave input behind the last window, and SAME depends on the size: cropped and padded at run time.
    full = call.tape.emit("ConvTranspose", g, weight, **attributes)
    excess = full.shape - like.shape
    if auto_pad.startswith("SAME"):
        total = call.tape.emit("Max", excess, 0)
        begins = (total if auto_pad == "SAME_UPPER" else total + 1) / 2
    else:
        rank = len(strides)
        begins = call.tape.constant([0, 0, *(pads or [0] * rank)[:rank]], [rank + 2], TensorProto.INT64)
    return call.tape.emit("Pad", full, joined([-begins, begins - excess], 0), dtype=g.dtype)


def conv_transpose(call: Call) -> Value:
    """The convolution."""
    if call.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in call.attributes:
        raise Blocked("its padding is computed from the output's shape")
    return call.tape.emit("Conv", call.g, call.input(1), **call.some("strides", "dilations", "group", "pads"))


def average_pool(call: Call) -> Value:
    """A convolution of each channel with ones, over the number of elements in the window."""
    if call.attributes.get("ceil_mode", 0):
        raise Blocked("ceil_mode is 1")
    x, kernel = call.x, call.attributes["kernel_shape"]
    g = call.g / math.prod(kernel)
    padded = any(call.attributes.get("pads", ())) or call.text("auto_pad", "NOTSET").startswith("SAME")
    if padded and not call.attributes.get("count_include_pad", 0):
        inside = call.tape.emit("AveragePool", x.filled(1), **{**call.attributes, "count_include_pad": 1})
        g = g / inside
    weight = call.tape.constant([1.0] * math.prod(kernel), [1, 1, *kernel], x.dtype)
    return _spread(call, _one_channel(g), weight, _one_channel(x)).reshape(x.shape)


def _one_channel(value: Value) -> Value:
    """Channels as samples of their own."""
    spatial = value.tape.emit("Slice", value.shape, [2], [1 << 30], [0], dtype=TensorProto.INT64)
    return value.reshape(joined([value.tape.constant([-1, 1], [2], TensorProto.INT64), spatial], 0))


def max_pool(call: Call) -> Value:
    """To the element that was the largest."""
    if call.attributes.get("storage_order", 0):
        raise Blocked("storage_order is 1")
    found = call.tape.emit("MaxPool", call.x, dtype=TensorProto.INT64, output=1, **call.attributes)
    return _put_back(call.g, found + 1, call.x)


# Reductions and normalisations


def reduce_sum(call: Call) -> Value:
    """To every element."""
    return _kept(call, call.g).expand(call.x.shape)


def reduce_mean(call: Call) -> Value:
    """ReduceMean, GlobalAveragePool: to every element, over their number."""
    return _kept(call, call.g / (call.x.size / call.y.size).cast(call.g.dtype)).expand(call.x.shape)


def reduce_extreme(call: Call) -> Value:
    """To the elements that are the largest or smallest, in equal shares."""
    y = _kept(call, call.y)
    chosen = call.x.equals(y)
    return chosen * (_kept(call, call.g) / chosen.sum_to(y))


def _kept(call: Call, value: Value) -> Value:
    """A value in the shape of a reduction's output, with the axes that were reduced if these were dropped."""
    axes = call.attributes.get("axes") or call.optional(1)
    return value if call.attributes.get("keepdims", 1) or axes is None else value.unsqueeze(axes)


def softmax(call: Call) -> Value:
    """Y (g - sum g y)."""
    axis = [call.attributes.get("axis", -1)]
    return call.y * (call.g - (call.g * call.y).sum(axis))


def log_softmax(call: Call) -> Value:
    """G - e^y sum g."""
    return call.g - call.y.apply("Exp") * call.g.sum([call.attributes.get("axis", -1)])


def batch_norm(call: Call) -> Value:
    """Scaled as in the forward direction, without the shifts."""
    if call.attributes.get("training_mode", 0):
        raise Blocked("it is in training mode")
    scale, average, variance = call.input(1), call.input(3), call.input(4)
    zero = average - average
    return call.tape.emit("BatchNormalization", call.g, scale, zero, zero, variance, **call.some("epsilon"))


def layer_norm(call: Call) -> Value:
    """Normalised over the last axes, from ``axis`` on, then scaled."""
    axis = call.attributes.get("axis", -1)
    axes = range(axis, 0 if axis < 0 else call.x.rank)
    return _normalised(call, call.g * call.input(1), axes)


def instance_norm(call: Call) -> Value:
    """Normalised over all axes but the first two, then scaled by channel."""
    axes = range(2, call.x.rank)
    return _normalised(call, call.g * call.input(1).unsqueeze([axis - 1 for axis in axes]), axes)


def _normalised(call: Call, g: Value, axes: Sequence[int]) -> Value:
    """(x - mean) / deviation over some axes: what g has in common with constants and with the result is lost."""
    x = call.x
    total = x.sum(axes)
    count = (x.size / total.size).cast(x.dtype)
    centred = x - total / count
    deviation = ((centred * centred).sum(axes) / count + call.number("epsilon", 1e-5)).apply("Sqrt")
    normal = centred / deviation
    return (g - g.sum(axes) / count - normal * ((g * normal).sum(axes) / count)) / deviation


# Moving elements


def reshape(call: Call) -> Value:
    """Reshape, Flatten, Squeeze, Unsqueeze."""
    return call.g.reshape(call.x.shape)


def identity(call: Call) -> Value:
    """Identity; Dropout outside training."""
    if call.optional(2) is not None:
        raise Blocked("it may be in training mode")
    return call.g


def transpose(call: Call) -> Value:
    """Axes in the order they had before."""
    perm = call.attributes.get("perm", [])
    return call.g.transpose(*sorted(range(len(perm)), key=lambda axis: perm[axis]))


def concat(call: Call, index: int) -> Value:
    """The input's part of the output."""
    axis = call.attributes["axis"]
    begin = call.tape.constant([0], [1], TensorProto.INT64)
    for before in range(index):
        begin = begin + call.input(before).dim(axis)
    end = begin + call.input(index).dim(axis)
    return call.tape.emit("Slice", call.g, begin, end, [axis], dtype=call.g.dtype)


def split(call: Call) -> Value:
    """The parts side by side; zero where one is not used."""
    parts = []
    for y, g in zip(call.outputs, call.gradients, strict=True):
        if y is None:
            raise Blocked("one of its outputs has no name")
        parts.append(y.filled(0) if g is None else g)
    return joined(parts, call.attributes.get("axis", 0))


def expand(call: Call) -> Value:
    """The sum over copies."""
    return call.g.sum_to(call.x)


def moved(call: Call) -> Value:
    """Operators that only move, repeat or drop elements: where each comes from is what they do to numbers 1, 2, ..."""
    if call.node.op_type == "Resize" and call.text("mode", "nearest") != "nearest":
        raise Blocked("it interpolates")
    tape, x, op = call.tape, call.x, call.node.op_type
    # Types that onnxruntime's kernels take.
    dtype = {"Resize": TensorProto.INT32, "DepthToSpace": TensorProto.DOUBLE, "SpaceToDepth": TensorProto.DOUBLE}
    first, step = (tape.constant([1], [], TensorProto.INT64) for _ in range(2))
    numbers = tape.emit("Range", first, x.size + 1, step).reshape(x.shape).cast(dtype.get(op, TensorProto.INT64))
    rest = [*call.inputs[1:]]
    if op == "Pad" and len(rest) > 1:
        rest[1] = None  # the value to pad with: 0
    result = tape.emit(op, numbers, *rest, dtype=numbers.dtype, **call.attributes)
    return _put_back(call.g, result.cast(TensorProto.INT64), x)


def _put_back(g: Value, origin: Value, x: Value) -> Value:
    """Sums of the gradients of all that came from an element of x, which ``origin`` counts from 1; 0 is nowhere."""
    zeros = g.tape.constant([0], [1], x.dtype).expand(x.size.reshape([1]) + 1)
    flat = (origin.reshape([-1]), g.reshape([-1]))
    summed = g.tape.emit("ScatterElements", zeros, *flat, dtype=x.dtype, axis=0, reduction="add")
    return g.tape.emit("Slice", summed, [1], [1 << 62], dtype=x.dtype).reshape(x.shape)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Add", "Sum"), add),
    **dict.fromkeys(("Max", "Min"), extreme),
    "Sub": sub,
    "Mean": mean,
    "Mul": mul,
    "Div": div,
    "Pow": first_only(power),
    "Where": where,
    "Relu": elementwise(lambda g, x, y: g * y.apply("Sign")),
    "Sigmoid": elementwise(lambda g, x, y: g * y * (1 - y)),
    "Tanh": elementwise(lambda g, x, y: g * (1 - y * y)),
    "Erf": elementwise(lambda g, x, y: g * (-(x * x)).apply("Exp") * (2 / math.sqrt(math.pi))),
    "Softplus": elementwise(lambda g, x, y: g * x.apply("Sigmoid")),
    "Exp": elementwise(lambda g, x, y: g * y),
    "Log": elementwise(lambda g, x, y: g / x),
    "Sqrt": elementwise(lambda g, x, y: g / (2 * y)),
    "Reciprocal": elementwise(lambda g, x, y: -(g * y * y)),
    "Neg": elementwise(lambda g, x, y: -g),
    "Abs": elementwise(lambda g, x, y: g * x.apply("Sign")),
    "HardSwish": elementwise(hard_swish),
    "LeakyRelu": first_only(leaky_relu),
    "PRelu": first_only(p_relu),
    "Elu": first_only(elu),
    "HardSigmoid": first_only(hard_sigmoid),
    "Gelu": first_only(gelu),
    "Clip": first_only(clip),
    **dict.fromkeys(("Cast", "CastLike"), first_only(cast)),
    "Gemm": gemm,
    "MatMul": mat_mul,
    "Conv": first_only(conv),
    "ConvTranspose": first_only(conv_transpose),
    "AveragePool": first_only(average_pool),
    "MaxPool": first_only(max_pool),
    "ReduceSum": first_only(reduce_sum),
    **dict.fromkeys(("ReduceMean", "GlobalAveragePool"), first_only(reduce_mean)),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "GlobalMaxPool"), first_only(reduce_extreme)),
    "Softmax": first_only(softmax),
    "LogSoftmax": first_only(log_softmax),
    "BatchNormalization": first_only(batch_norm),
    "LayerNormalization": first_only(layer_norm),
    "InstanceNormalization": first_only(instance_norm),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), first_only(reshape)),
    **dict.fromkeys(("Identity", "Dropout"), first_only(identity)),
    "Transpose": first_only(transpose),
    "Concat": concat,
    "Split": first_only(split),
    "Expand": first_only(expand),
    **dict.fromkeys(("Slice", "Gather", "GatherElements", "GatherND", "Tile", "Pad"), first_only(moved)),
    **dict.fromkeys(("Resize", "DepthToSpace", "SpaceToDepth", "Trilu"), first_only(moved)),
}
"""By operator of the standard domain, opset 16 or later."""
