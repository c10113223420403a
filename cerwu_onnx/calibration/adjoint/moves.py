"""Rules of operators that only move, repeat, drop or choose elements."""

from __future__ import annotations

from onnx import TensorProto

from cerwu_onnx.calibration.adjoint.calls import Call, Rule, first_only
from cerwu_onnx.calibration.adjoint.values import Blocked, Value, joined


def reshape(call: Call) -> Value:
    """Reshape, Flatten, Squeeze, Unsqueeze."""
    return call.g.reshape(call.x.shape)


def identity(call: Call) -> Value:
    """Identity; Dropout outside training."""
    if call.optional(2) is not None:
        raise Blocked("it may be in training mode")
    return call.g


def transpose(call: Call) -> Value:
    """Transpose: the axes go back to their order."""
    perm = call.attributes.get("perm", [])
    return call.g.transpose(*sorted(range(len(perm)), key=lambda axis: perm[axis]))


def concat(call: Call, index: int) -> Value:
    """Concat: the input's part of the gradient."""
    axis = call.attributes["axis"]
    begin = call.tape.constant([0], [1], TensorProto.INT64)
    for before in range(index):
        begin = begin + call.input(before).dim(axis)
    end = begin + call.input(index).dim(axis)
    return call.tape.emit("Slice", call.g, begin, end, [axis], dtype=call.g.dtype)


def split(call: Call) -> Value:
    """Split: the parts side by side, with zeros for a part that is not used."""
    parts = []
    for y, g in zip(call.outputs, call.gradients, strict=True):
        if y is None:
            raise Blocked("one of its outputs has no name")
        parts.append(y.filled(0) if g is None else g)
    return joined(parts, call.attributes.get("axis", 0))


def expand(call: Call) -> Value:
    """Expand: the sum over all copies."""
    return call.g.sum_to(call.x)


def max_pool(call: Call) -> Value:
    """MaxPool: the gradient goes to the element that was the largest."""
    if call.attributes.get("storage_order", 0):
        raise Blocked("storage_order is 1")
    found = call.tape.emit("MaxPool", call.x, dtype=TensorProto.INT64, output=1, **call.attributes)
    return _put_back(call.g, found + 1, call.x)


def moved(call: Call) -> Value:
    """Operators that only move, repeat or drop elements: applied to 1, 2, 3, ... they show where each comes from."""
    if call.node.op_type == "Resize" and call.text("mode", "nearest") != "nearest":
        raise Blocked("it interpolates")
    tape, x, op = call.tape, call.x, call.node.op_type
    # Types that onnxruntime's kernels accept.
    dtype = {"Resize": TensorProto.INT32, "DepthToSpace": TensorProto.DOUBLE, "SpaceToDepth": TensorProto.DOUBLE}
    first, step = (tape.constant([1], [], TensorProto.INT64) for _ in range(2))
    numbers = tape.emit("Range", first, x.size + 1, step).reshape(x.shape).cast(dtype.get(op, TensorProto.INT64))
    rest = [*call.inputs[1:]]
    if op == "Pad" and len(rest) > 1:
        rest[1] = None  # the value to pad with: 0
    result = tape.emit(op, numbers, *rest, dtype=numbers.dtype, **call.attributes)
    return _put_back(call.g, result.cast(TensorProto.INT64), x)


def _put_back(g: Value, origin: Value, x: Value) -> Value:
    """Sum the gradients of all copies of each element of x; ``origin`` counts these elements from 1, and 0 is none."""
    dtype = TensorProto.DOUBLE if g.dtype == TensorProto.DOUBLE else TensorProto.FLOAT  # float16 cannot be scattered
    zeros = g.tape.constant([0], [1], dtype).expand(x.size.reshape([1]) + 1)
    flat = (origin.reshape([-1]), g.cast(dtype).reshape([-1]))
    summed = g.tape.emit("ScatterElements", zeros, *flat, dtype=dtype, axis=0, reduction="add")
    return g.tape.emit("Slice", summed, [1], [1 << 62], dtype=dtype).reshape(x.shape).cast(g.dtype)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), first_only(reshape)),
    **dict.fromkeys(("Identity", "Dropout"), first_only(identity)),
    "Transpose": first_only(transpose),
    "Concat": concat,
    "Split": first_only(split),
    "Expand": first_only(expand),
    "MaxPool": first_only(max_pool),
    **dict.fromkeys(("Slice", "Gather", "GatherElements", "GatherND", "Tile", "Pad"), first_only(moved)),
    **dict.fromkeys(("Resize", "DepthToSpace", "SpaceToDepth", "Trilu"), first_only(moved)),
}
