"""Choose the values of a model by which it is compared: its outputs, or what feeds outputs of variable size.

The number of boxes that non-maximum suppression leaves may change with any weight, so these boxes cannot be compared.
The boxes and scores that go into it can.
"""

from __future__ import annotations

import onnx

from cerwu_onnx.model.tensors import constant_tensors, model_inputs, subgraph_reads

_UNCOUNTED = ("NonMaxSuppression", "NonZero", "Compress", "Unique")
"""Operators whose outputs' shapes depend on values."""

_STANDARD = ("", "ai.onnx")


def compared_values(model: onnx.ModelProto) -> list[str]:
    """Names of the values of the main graph to compare, in its order: outputs, or what is computed before them.

    If an output depends on operators whose results have no fixed number of values, it is replaced by the values that
    are computed before the first of these operators and read by them, or by nodes behind them.
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
    """All values, constants included, on which some values of the main graph depend."""
    found = set(names)
    for node in reversed(model.graph.node):
        if not found.isdisjoint(node.output):
            found |= {*node.input, *subgraph_reads(node)}
    return frozenset(found)
