"""Tensors of an ONNX graph under construction: arithmetic on them appends nodes to the graph.

The rules of :mod:`cerwu_onnx.calibration.adjoint.rules` are written with them. Operators are those of opset 16, whose
forms later opsets kept. This module does not import onnxruntime.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import onnx
from onnx import TensorProto, helper

Dims: TypeAlias = "tuple[int | str, ...]"
Operand: TypeAlias = "Value | float | Sequence[int] | None"
"""A tensor; a number, which takes the type of the tensors beside it; integers, as an int64 vector; or nothing."""


class Blocked(Exception):
    """A node cannot be differentiated; the message says why."""


class Tape:
    """A list of nodes to which arithmetic appends.

    Args:
        taken: names that new tensors must not have.

    Attributes:
        nodes: the nodes appended so far, in topological order.
    """

    def __init__(self, taken: Collection[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """A name that is not used yet."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def emit(self, op: str, *operands: Operand, dtype: int | None = None, output: int = 0, **attributes: Any) -> Value:
        """Append a node.

        Args:
            op: the operator.
            operands: its inputs.
            dtype: the result's element type; None if it is that of the last tensor among the operands.
            output: which of the node's outputs is wanted.
            attributes: those of the node.

        Raises:
            Blocked: a number stands beside tensors of unknown type.
        """
        like = next((operand.dtype for operand in reversed(operands) if isinstance(operand, Value)), 0)
        inputs = ["" if operand is None else self._value(operand, like).name for operand in operands]
        while inputs and not inputs[-1]:
            inputs.pop()
        names = [self.fresh(f"adjoint/{len(self.nodes)}") for _ in range(output + 1)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return Value(self, names[output], like if dtype is None else dtype)

    def _value(self, operand: Value | float | Sequence[int], like: int) -> Value:
        if isinstance(operand, Value):
            return operand
        if isinstance(operand, Sequence):
            return self.constant(operand, [len(operand)], TensorProto.INT64)
        if not like:
            raise Blocked("its element type is unknown")
        return self.constant([operand], [], like)

    def constant(self, values: Sequence[float], dims: Sequence[int], dtype: int) -> Value:
        """A tensor with these elements."""
        name = self.fresh(f"adjoint/{len(self.nodes)}")
        tensor = helper.make_tensor(name, dtype, list(dims), list(values))
        self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return Value(self, name, dtype)


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor.

    Attributes:
        tape: the list to which operations on this tensor append nodes.
        name: its name.
        dtype: its ONNX element type; 0 if unknown.
        dims: lengths or symbols of its axes, "" where neither is known; None if not even their number is.
    """

    tape: Tape = field(repr=False)
    name: str
    dtype: int
    dims: Dims | None = None

    def __add__(self, other: Value | float) -> Value:
        return self.tape.emit("Add", self, other)

    def __radd__(self, other: float) -> Value:
        return self.tape.emit("Add", other, self)

    def __sub__(self, other: Value | float) -> Value:
        return self.tape.emit("Sub", self, other)

    def __rsub__(self, other: float) -> Value:
        return self.tape.emit("Sub", other, self)

    def __mul__(self, other: Value | float) -> Value:
        return self.tape.emit("Mul", self, other)

    def __rmul__(self, other: float) -> Value:
        return self.tape.emit("Mul", other, self)

    def __truediv__(self, other: Value | float) -> Value:
        """The quotient; for integers, rounded towards zero."""
        return self.tape.emit("Div", self, other)

    def __neg__(self) -> Value:
        return self.tape.emit("Neg", self)

    def apply(self, op: str) -> Value:
        """Apply an operator with one input and no attributes."""
        return self.tape.emit(op, self)

    @property
    def rank(self) -> int:
        """How many axes it has.

        Raises:
            Blocked: the number is unknown.
        """
        if self.dims is None:
            raise Blocked("its shape is unknown")
        return len(self.dims)

    @property
    def shape(self) -> Value:
        """Lengths of the axes, int64."""
        return self.tape.emit("Shape", self, dtype=TensorProto.INT64)

    @property
    def size(self) -> Value:
        """Number of elements, int64."""
        return self.tape.emit("Size", self, dtype=TensorProto.INT64)

    def dim(self, axis: int) -> Value:
        """Length of one axis, an int64 vector of one element."""
        return self.tape.emit("Gather", self.shape, [axis], dtype=TensorProto.INT64)

    def cast(self, dtype: int) -> Value:
        """The same numbers in another type."""
        return self if self.dtype == dtype else self.tape.emit("Cast", self, dtype=dtype, to=dtype)

    def reshape(self, shape: Value | Sequence[int]) -> Value:
        """The same elements in another shape."""
        return self.tape.emit("Reshape", self, shape, dtype=self.dtype)

    def transpose(self, *perm: int) -> Value:
        """The same elements with axes in another order; in reverse order if none is given."""
        attributes: dict[str, Any] = {"perm": perm} if perm else {}
        return self.tape.emit("Transpose", self, **attributes)

    def unsqueeze(self, axes: Value | Sequence[int]) -> Value:
        """The same elements with additional axes of length 1."""
        return self.tape.emit("Unsqueeze", self, axes, dtype=self.dtype)

    def expand(self, shape: Value) -> Value:
        """Repeat the tensor along the axes in which ``shape`` is longer."""
        return self.tape.emit("Expand", self, shape, dtype=self.dtype)

    def filled(self, number: float) -> Value:
        """A tensor of the same shape and type, with one number everywhere."""
        return self.tape.constant([number], [], self.dtype).expand(self.shape)

    def sum(self, axes: Value | Sequence[int]) -> Value:
        """Sums over some axes, which stay with length 1; without axes, the value itself."""
        return self.tape.emit("ReduceSum", self, axes, dtype=self.dtype, keepdims=1, noop_with_empty_axes=1)

    def sum_to(self, like: Value) -> Value:
        """Sum to the shape of ``like``, over the axes along which broadcasting repeats ``like``."""
        lacking = self.shape.shape - like.shape.shape  # axes; a vector of one element
        ends = self.tape.constant([0], [1], TensorProto.INT64)
        padded = self.tape.emit("Pad", like.shape, joined([lacking, ends], 0), 1)
        differs = self.tape.emit("Equal", padded, self.shape, dtype=TensorProto.BOOL).apply("Not")
        axes = self.tape.emit("NonZero", differs, dtype=TensorProto.INT64).reshape([-1])
        return self.sum(axes).reshape(like.shape)

    def above(self, other: Value | float) -> Value:
        """Truth values: where it is larger than another value."""
        return self.tape.emit("Greater", self, other, dtype=TensorProto.BOOL)

    def step(self) -> Value:
        """1 where it is above zero, 0 elsewhere, in its own type; for values of which none is negative."""
        if not self.dtype:
            return self.apply("Sign")
        return self.above(0).cast(self.dtype)  # several times faster than Sign

    def equals(self, other: Value) -> Value:
        """1 where it equals another value, 0 elsewhere, in its own type."""
        return self.tape.emit("Equal", self, other, dtype=TensorProto.BOOL).cast(self.dtype)

    def where(self, other: Value | float, condition: Value) -> Value:
        """The value where a condition holds, another one elsewhere."""
        return self.tape.emit("Where", condition, self, other)


def joined(values: Sequence[Value], axis: int) -> Value:
    """Concatenate values along an axis."""
    return values[0].tape.emit("Concat", *values, axis=axis)
