"""Find the nodes that read a constant: directly, behind nodes that only move its elements, or inside bodies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from cerwu_onnx.model.elements import FLOATS, raw_bytes
from cerwu_onnx.model.layout import Move
from cerwu_onnx.model.sites import node_label
from cerwu_onnx.model.tensors import attributes_of, bodies

MOVERS = ("Identity", "Cast", "Transpose", "Flatten", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that only move the elements of their first input."""

_STANDARD = ("", "ai.onnx")
_Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """One reader of a constant.

    Attributes:
        node: the reader.
        index: index of the input.
        shape: shape of the constant as the reader sees it.
        moves: reshapes and transposes of the constant on the way to the reader.
        inside: label of the main graph's node whose body holds the reader; None for a reader in the main graph itself.
    """

    node: onnx.NodeProto
    index: int
    shape: _Shape
    moves: tuple[Move, ...] = ()
    inside: str | None = None


class Uses:
    """The readers of a model's values.

    Args:
        model: the model; its main graph is searched, and bodies of nodes for what they read of the main graph.
        tensors: the main graph's dense constants by name.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Mapping[str, onnx.TensorProto]) -> None:
        self._tensors = tensors
        self._outputs = {value.name for value in model.graph.output}
        self._readers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
        self._inner: dict[str, list[Use]] = defaultdict(list)
        self._returned: dict[str, str] = {}
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                self._readers[name].append((node, index))
            for body in bodies(node):
                self._search(body, node_label(node), set())

    def returned(self, name: str) -> str | None:
        """The name of the output that a value is; None if it is not an output."""
        if name in self._outputs:
            return "is also an output of the model"
        return self._returned.get(name)

    def of(self, name: str, shape: _Shape, moves: tuple[Move, ...] = ()) -> Iterator[Use]:
        """The readers of a constant; a node that only moves its elements is replaced by the readers behind it.

        Args:
            name: name of the constant.
            shape: its dimensions.
            moves: reshapes and transposes of it so far.
        """
        for node, index in self._readers[name]:
            carried = _carried(node, index)
            if carried is not None and not self.returned(carried.after):
                yield from (Use(*reader, shape, moves, node_label(node)) for reader in carried.readers)
                yield from self.of(carried.after, shape, moves) if carried.after else ()
                continue
            move = self._move(node, index, shape)
            after = node.output[0] if move else ""
            if move is None or self.returned(after):
                yield Use(node, index, shape, moves)
            else:
                yield from self.of(after, move.apply(shape), (*moves, move))
        for use in self._inner[name]:
            yield Use(use.node, use.index, shape, moves, use.inside)

    def _move(self, node: onnx.NodeProto, index: int, shape: _Shape) -> Move | None:
        """The move of a node that only moves the elements of its first input; None for other nodes."""
        if index or node.domain not in _STANDARD or len(node.output) != 1:
            return None
        attributes = attributes_of(node)
        if node.op_type == "Identity" or (node.op_type == "Cast" and attributes["to"] in FLOATS):
            return Move(shape=shape)
        if node.op_type == "Transpose":
            return Move(perm=tuple(attributes.get("perm", range(len(shape))[::-1])))
        if node.op_type == "Flatten":
            axis = attributes.get("axis", 1)
            return Move(shape=(math.prod(shape[:axis]), math.prod(shape[axis:])))
        if node.op_type in ("Reshape", "Squeeze", "Unsqueeze"):
            given = attributes.get("shape" if node.op_type == "Reshape" else "axes")
            if len(node.input) > 1 and node.input[1]:
                given = self._integers(node.input[1])
                if given is None:
                    return None
            changed = _reshaped(node.op_type, shape, given, bool(attributes.get("allowzero", 0)))
            return None if changed is None or math.prod(changed) != math.prod(shape) else Move(shape=changed)
        return None

    def _integers(self, name: str) -> list[int] | None:
        tensor = self._tensors.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.INT64:
            return None
        return [int(value) for value in np.frombuffer(raw_bytes(tensor), "<i8")]

    def _search(self, body: onnx.GraphProto, inside: str, hidden: set[str]) -> None:
        """Note what the nodes of a body read of the graphs around it; ``hidden`` names are the body's own."""
        own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        own |= {sparse.values.name for sparse in body.sparse_initializer}
        own |= {name for node in body.node for name in node.output}
        hidden = hidden | own
        for value in body.output:
            if value.name not in hidden:
                self._returned.setdefault(value.name, f"is also an output of the body of {inside}")
        for node in body.node:
            for index, name in enumerate(node.input):
                if name and name not in hidden:
                    self._inner[name].append(Use(node, index, (), (), inside))
            for inner in bodies(node):
                self._search(inner, inside, hidden)


@dataclass(frozen=True, slots=True)
class _Carried:
    """A value that a Loop or Scan carries from one iteration to the next without changing it.

    Attributes:
        readers: the nodes of its body that read the value, each with the index of the input.
        after: the node's output that holds it in the end; empty if there is none.
    """

    readers: list[tuple[onnx.NodeProto, int]]
    after: str


def _carried(node: onnx.NodeProto, index: int) -> _Carried | None:
    """The value that enters a Loop or Scan at an input, if its body hands it on as it is; else None."""
    if node.op_type not in ("Loop", "Scan") or node.domain not in _STANDARD:
        return None
    (body,) = bodies(node)
    first = 2 if node.op_type == "Loop" else 0  # a Loop's number of iterations and condition come first
    given = len(body.input) - int(attributes_of(node).get("num_scan_inputs", 0))
    place = index - first
    returned = place + (node.op_type == "Loop")  # the condition is the first output of its body
    if place < 0 or index >= given or index >= len(body.input) or returned >= len(body.output):
        return None
    name, last = body.input[index].name, body.output[returned].name
    copies = {inner.output[0]: inner for inner in body.node if inner.op_type == "Identity" and inner.input[0] == name}
    if last != name and last not in copies:
        return None
    readers = [(reader, i) for reader, i in _reading(body, name) if reader is not copies.get(last)]
    if last != name and any(_reading(body, last)):
        return None  # the copy is read as well
    return _Carried(readers, node.output[place] if place < len(node.output) else "")


def _reading(body: onnx.GraphProto, name: str) -> Iterator[tuple[onnx.NodeProto, int]]:
    """The nodes of a body, and of those within it that do not define the name themselves, that read a name."""
    for node in body.node:
        yield from ((node, index) for index, read in enumerate(node.input) if read == name)
        for inner in bodies(node):
            own = {value.name for value in inner.input} | {tensor.name for tensor in inner.initializer}
            if name not in own.union(*(other.output for other in inner.node)):
                yield from _reading(inner, name)


def _reshaped(op: str, shape: _Shape, given: list[int] | None, allow_zero: bool) -> _Shape | None:
    """The shape after Reshape, Squeeze or Unsqueeze."""
    if op == "Squeeze":
        axes = {axis % len(shape) for axis in given} if given else {i for i, dim in enumerate(shape) if dim == 1}
        return tuple(dim for axis, dim in enumerate(shape) if axis not in axes)
    if given is None:
        return None
    if op == "Unsqueeze":
        rank = len(shape) + len(given)
        axes = {axis % rank for axis in given}
        rest = iter(shape)
        return tuple(1 if axis in axes else next(rest) for axis in range(rank)) if len(axes) == len(given) else None
    known = [shape[i] if dim == 0 and not allow_zero and i < len(shape) else dim for i, dim in enumerate(given)]
    left = math.prod(dim for dim in known if dim >= 0)
    return tuple(math.prod(shape) // max(left, 1) if dim < 0 else dim for dim in known)
