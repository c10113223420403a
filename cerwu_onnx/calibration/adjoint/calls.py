"""The node that a rule differentiates: its inputs, outputs, attributes and gradients; and helpers to write rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx

from cerwu_onnx.calibration.adjoint.values import Blocked, Tape, Value


@dataclass(frozen=True, slots=True)
class Call:
    """A node of the forward graph, as its rule sees it.

    Attributes:
        tape: the nodes to which the rule appends.
        node: the node.
        attributes: its attributes as Python values.
        inputs: its inputs; None for an optional one that is absent.
        outputs: its outputs; None for an optional one that is absent.
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
        """An input that must be present.

        Raises:
            Blocked: it is absent.
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
        """An attribute that is text."""
        value = self.attributes.get(name, b"").decode()
        return value or default

    def number(self, name: str, default: float) -> float:
        """An attribute that is a number."""
        return float(self.attributes.get(name, default))

    def some(self, *names: str) -> dict[str, Any]:
        """Those of the named attributes that the node has."""
        return {name: self.attributes[name] for name in names if name in self.attributes}

    def fit(self, gradient: Value, index: int) -> Value:
        """Sum a gradient from the shape of the output to the shape of an input that was broadcast to it."""
        dims = self.input(index).dims
        known = dims is not None and "" not in dims
        return gradient if known and dims == self.y.dims else gradient.sum_to(self.input(index))


Rule: TypeAlias = Callable[[Call, int], Value]
"""A rule computes the gradient with respect to the input of this index. It raises Blocked where there is none."""


def elementwise(formula: Callable[[Value, Value, Value], Value]) -> Rule:
    """The rule of an operator with one input, from a formula in g, x and y."""
    return lambda call, index: formula(call.g, call.x, call.y)


def first_only(rule: Callable[[Call], Value]) -> Rule:
    """A rule for the first input; the others have no gradient."""

    def checked(call: Call, index: int) -> Value:
        if index:
            raise Blocked(f"its input {index} is not constant")
        return rule(call)

    return checked
