"""Move weights from the bodies of nodes and from local functions to the main graph, where layers are looked for.

The model computes the same as before. A body (If, Loop, Scan) reads the main graph's values by name, so its constants
can move to the main graph. Those of a local function cannot; if one holds or receives weights, all are inlined.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator

import onnx
from onnx import inliner

from cerwu_onnx.errors import first_line
from cerwu_onnx.model.elements import FLOATS, raw_bytes
from cerwu_onnx.model.tensors import all_messages, bodies, constant_tensors, value_of

log = logging.getLogger(__name__)

LEAST = 64
"""A constant of at least so many elements counts as a weight here."""

_STANDARD = ("", "ai.onnx")


def flattened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move all weights to the main graph; the model is changed, or replaced, if there are any elsewhere."""
    if model.functions and _functions_hold_weights(model):
        try:
            model = _inlined(model)
        except Exception as error:  # the inliner's exceptions have no common base but this
            log.warning("local functions cannot be inlined, so their tensors stay as they are: %s", first_line(error))
    if model.ir_version >= 4:  # before version 4, an initializer had to be an input as well
        _hoist(model)
    return model


def _is_weight(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in FLOATS and math.prod(tensor.dims) >= LEAST


def _functions_hold_weights(model: onnx.ModelProto) -> bool:
    """Whether a function has a constant that counts as a weight, or a call of a function reads such a constant."""
    for function in model.functions:
        for message in all_messages(function):
            if isinstance(message, onnx.TensorProto) and _is_weight(message):
                return True
    called = {(function.domain, function.name) for function in model.functions}
    weights = {name for name, tensor in constant_tensors(model).items() if _is_weight(tensor)}
    return any(
        isinstance(node, onnx.NodeProto)
        and (node.domain, node.op_type) in called
        and not weights.isdisjoint(node.input)
        for node in all_messages(model.graph)
    )


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all functions inlined. Constants that several calls repeat become one initializer."""
    before = {node.output[0] for node in model.graph.node if value_of(node) is not None}
    result = inliner.inline_local_functions(model)
    if result.ir_version < 4:
        return result
    graph, seen, renamed = result.graph, dict[tuple[object, ...], str](), dict[str, str]()
    nodes = []
    for node in graph.node:
        tensor = value_of(node)
        if tensor is None or node.output[0] in before or not _is_weight(tensor):
            nodes.append(node)
            continue
        name = node.output[0]
        first = seen.setdefault((tensor.data_type, tuple(tensor.dims), raw_bytes(tensor)), name)
        renamed[name] = first
        if first == name:
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = name
    outputs = {value.name for value in graph.output}
    if not renamed or not outputs.isdisjoint(renamed):
        return inliner.inline_local_functions(model)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    _rename(graph.node, {old: new for old, new in renamed.items() if old != new})
    return result


def _hoist(model: onnx.ModelProto) -> None:
    """Move the weights of bodies to the main graph, under names that are not used."""
    holders = [node for node in model.graph.node if any(bodies(node))]
    if not any(_is_weight(t) for node in holders for t in all_messages(node) if isinstance(t, onnx.TensorProto)):
        return
    defined = Counter[str]()
    for message in all_messages(model.graph):
        if isinstance(message, onnx.NodeProto):
            defined.update(message.output)
        elif isinstance(message, onnx.GraphProto):
            defined.update(item.name for item in (*message.input, *message.initializer))
            defined.update(sparse.values.name for sparse in message.sparse_initializer)
    for node in holders:
        for body in _bodies_within(node):
            renamed = {}
            for name, tensor in _own_weights(body):
                defined[name] -= 1
                new = name
                while defined[new]:
                    new = f"{new}_"
                defined[new] += 1
                model.graph.initializer.add().CopyFrom(tensor)
                model.graph.initializer[-1].name = new
                renamed[name] = new
            if renamed:
                _remove(body, renamed)
                _rename(body.node, renamed)


def _bodies_within(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of a node of standard operators, and those inside them."""
    if node.domain not in _STANDARD:
        return
    for body in bodies(node):
        yield body
        for inner in body.node:
            yield from _bodies_within(inner)


def _own_weights(body: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """The weights that a body defines and neither returns nor lists as an input, by name."""
    pinned = {value.name for value in (*body.input, *body.output)}
    named = [(tensor.name, tensor) for tensor in body.initializer]
    named += [(node.output[0], tensor) for node in body.node if (tensor := value_of(node)) is not None]
    return ((name, tensor) for name, tensor in named if name not in pinned and _is_weight(tensor))


def _remove(body: onnx.GraphProto, names: dict[str, str]) -> None:
    """Take initializers and Constant nodes out of a body."""
    for index in reversed(range(len(body.initializer))):
        if body.initializer[index].name in names:
            del body.initializer[index]
    for index in reversed(range(len(body.node))):
        if value_of(body.node[index]) is not None and body.node[index].output[0] in names:
            del body.node[index]


def _rename(nodes: Iterable[onnx.NodeProto], names: dict[str, str]) -> None:
    """Rename what nodes and their bodies read, except where a body defines the old name itself."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        for body in bodies(node):
            own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
            own |= {name for inner in body.node for name in inner.output}
            left = {old: new for old, new in names.items() if old not in own}
            _rename(body.node, left)
            for value in body.output:
                if value.name in left:  # returned as it is: by a node of its own, for a body's outputs are its names
                    body.node.append(onnx.helper.make_node("Identity", [left[value.name]], [value.name]))
