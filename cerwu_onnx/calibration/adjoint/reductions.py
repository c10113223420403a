"""Rules of reductions, and of the normalisations that contain them."""

from __future__ import annotations

from collections.abc import Sequence

from cerwu_onnx.calibration.adjoint.calls import Call, Rule, first_only
from cerwu_onnx.calibration.adjoint.values import Blocked, Value


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
    """Of the exponentials over their sum: y (g - sum g y)."""
    axis = [call.attributes.get("axis", -1)]
    return call.y * (call.g - (call.g * call.y).sum(axis))


def log_softmax(call: Call) -> Value:
    """Of the logarithm of that: g - e^y sum g."""
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


RULES: dict[str, Rule] = {
    "ReduceSum": first_only(reduce_sum),
    **dict.fromkeys(("ReduceMean", "GlobalAveragePool"), first_only(reduce_mean)),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "GlobalMaxPool"), first_only(reduce_extreme)),
    "Softmax": first_only(softmax),
    "LogSoftmax": first_only(log_softmax),
    "BatchNormalization": first_only(batch_norm),
    "LayerNormalization": first_only(layer_norm),
    "InstanceNormalization": first_only(instance_norm),
}
