"""Rules of reductions, of softmax, and of normalisations."""

from __future__ import annotations

from collections.abc import Sequence

from cerwu_onnx.calibration.adjoint.calls import Call, Rule, first_only
from cerwu_onnx.calibration.adjoint.values import Blocked, Value


def reduce_sum(call: Call) -> Value:
    """ReduceSum: every element gets the gradient."""
    return _kept(call, call.g).expand(call.x.shape)


def reduce_mean(call: Call) -> Value:
    """ReduceMean, GlobalAveragePool: every element gets the gradient, divided by their number."""
    return _kept(call, call.g / (call.x.size / call.y.size).cast(call.g.dtype)).expand(call.x.shape)


def reduce_extreme(call: Call) -> Value:
    """ReduceMax, ReduceMin: the elements that are the largest or smallest share the gradient equally."""
    y = _kept(call, call.y)
    chosen = call.x.equals(y)
    return chosen * (_kept(call, call.g) / chosen.sum_to(y))


def reduce_l2(call: Call) -> Value:
    """ReduceL2: x over the norm."""
    y = _kept(call, call.y)
    return _kept(call, call.g) * (call.x / (y + _is_zero(y)))


def reduce_l1(call: Call) -> Value:
    """ReduceL1: the sign of each element."""
    return _kept(call, call.g) * call.x.apply("Sign")


def reduce_sum_square(call: Call) -> Value:
    """ReduceSumSquare: 2 x."""
    return _kept(call, call.g) * (2 * call.x)


def reduce_log_sum_exp(call: Call) -> Value:
    """ReduceLogSumExp: the softmax e^(x - y)."""
    return _kept(call, call.g) * (call.x - _kept(call, call.y)).apply("Exp")


def lp_normalization(call: Call) -> Value:
    """LpNormalization of order 2: (g - y sum g y) over the norm."""
    if call.attributes.get("p", 2) != 2:
        raise Blocked("its order is not 2")
    axis = [call.attributes.get("axis", -1)]
    norm = (call.x * call.x).sum(axis).apply("Sqrt")
    return (call.g - call.y * (call.g * call.y).sum(axis)) / (norm + _is_zero(norm))


def _is_zero(value: Value) -> Value:
    return value.equals(value - value)


def _kept(call: Call, value: Value) -> Value:
    """Give a value in the shape of a reduction's output the reduced axes again, if the reduction dropped them."""
    axes = call.attributes.get("axes") or call.optional(1)
    return value if call.attributes.get("keepdims", 1) or axes is None else value.unsqueeze(axes)


def softmax(call: Call) -> Value:
    """Softmax: y (g - sum g y)."""
    axis = [call.attributes.get("axis", -1)]
    return call.y * (call.g - (call.g * call.y).sum(axis))


def log_softmax(call: Call) -> Value:
    """LogSoftmax: g - e^y sum g."""
    return call.g - call.y.apply("Exp") * call.g.sum([call.attributes.get("axis", -1)])


def batch_norm(call: Call) -> Value:
    """BatchNormalization: the gradient is scaled as in the forward direction, without the shifts."""
    if call.attributes.get("training_mode", 0):
        raise Blocked("it is in training mode")
    scale, average, variance = call.input(1), call.input(3), call.input(4)
    zero = average - average
    return call.tape.emit("BatchNormalization", call.g, scale, zero, zero, variance, **call.some("epsilon"))


def layer_norm(call: Call) -> Value:
    """LayerNormalization: over the last axes, from ``axis`` on, then scaled."""
    axis = call.attributes.get("axis", -1)
    axes = range(axis, 0 if axis < 0 else call.x.rank)
    return _normalised(call, call.g * call.input(1), axes)


def instance_norm(call: Call) -> Value:
    """InstanceNormalization: over all axes but the first two, then scaled by channel."""
    axes = range(2, call.x.rank)
    return _normalised(call, call.g * call.input(1).unsqueeze([axis - 1 for axis in axes]), axes)


def _normalised(call: Call, g: Value, axes: Sequence[int]) -> Value:
    """The gradient of (x - mean) / deviation over some axes: g without its mean and its part along the result."""
    x = call.x
    total = x.sum(axes)
    count = (x.size / total.size).cast(x.dtype)
    centred = x - total / count
    deviation = ((centred * centred).sum(axes) / count + call.number("epsilon", 1e-5)).apply("Sqrt")
    normal = centred / deviation
    return (g - g.sum(axes) / count - normal * ((g * normal).sum(axes) / count)) / deviation


RULES: dict[str, Rule] = {
    "ReduceSum": first_only(reduce_sum),
    **dict.fromkeys(("ReduceMean", "GlobalAveragePool"), first_only(reduce_mean)),
    "ReduceL1": first_only(reduce_l1),
    "ReduceL2": first_only(reduce_l2),
    "ReduceSumSquare": first_only(reduce_sum_square),
    "ReduceLogSumExp": first_only(reduce_log_sum_exp),
    "LpNormalization": first_only(lp_normalization),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "GlobalMaxPool"), first_only(reduce_extreme)),
    "Softmax": first_only(softmax),
    "LogSoftmax": first_only(log_softmax),
    "BatchNormalization": first_only(batch_norm),
    "LayerNormalization": first_only(layer_norm),
    "InstanceNormalization": first_only(instance_norm),
}
