"""Which values of a model say how good it is: its outputs, unless how many values they hold depends on the data.

How many boxes non-maximum suppression leaves may change with any weight, and then nothing can be compared. What goes
into it can: boxes and scores.
"""

from __future__ import annotations

import onnx

from cerwu_onnx.model.tensors import constant_tensors, model_inputs, subgraph_reads

_UNCOUNTED = ("NonMaxSuppression", "NonZero", "Compress", "Unique")
"""Operators whose outputs' shapes depend on values."""

_STANDARD = ("", "ai.onnx")


def compared_values(model: onnx.ModelProto) -> list[str]:
    """Names of values of the main graph, in its order: outputs, or what the nodes before them read instead.

    An output that depends on operators whose results have no fixed number of values stands back for what was computed
    before the first of these and is read by them, or by nodes behind them.
    """
    graph = model.graph
    uncounted: set[str] = set()
    known = {info.name for info in model_inputs(model)} | constant_tensors(model).keys()
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    writer = {name: node for node in graph.node for name in node.output if name}
    for node in graph.node:
        inputs = {*node.input, *subgraph_reads(node)}
        if (node.op_type in _UNCOUNTED and node.domain in _STANDARD) or not inputs.isdisjoint(uncounted):
            uncounted.update(node.output)
    found: dict[str, None] = {}
    seen: set[str] = set()
    pending = [value.name for value in reversed(graph.output)]
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in uncounted:
            found[name] = None
            continue
        node = writer[name]
        pending += sorted({*node.input, *subgraph_reads(node)} - {""} - known, reverse=True)
    return list(found)


def ancestors(model: onnx.ModelProto, names: list[str]) -> frozenset[str]:
    """The values, constants among them, on which some values of the main graph depend."""
    found = set(names)
    for node in reversed(model.graph.node):
        if not found.isdisjoint(node.output):
            found |= {*node.input, *subgraph_reads(node)}
    return frozenset(found)
