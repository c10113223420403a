"""Cut a model in two: the first half does not depend on some inputs, so it runs once for many values of these."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx
from onnx import TensorProto, helper

from cerwu_onnx.calibration.adjoint.types import value_types
from cerwu_onnx.model.tensors import constant_tensors, subgraph_reads, without_initializers


def halves(model: onnx.ModelProto, late: Collection[str]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Cut a model into the part that does not depend on some inputs, and the rest.

    Args:
        model: the model.
        late: names of inputs.

    Returns:
        The first model lacks these inputs and returns what the second one reads of it. The second model has these
        inputs, and reads outputs or inputs of the first. Constants, and what is computed from constants only, are in
        both.

    Raises:
        ModelError: the types of what is passed on cannot be inferred.
    """
    graph = model.graph
    constants = constant_tensors(model).keys() | {sparse.values.name for sparse in graph.sparse_initializer}
    fed = {value.name for value in graph.input} - constants
    early = _reached(graph.node, fed - set(late))
    after = _reached(graph.node, late)
    given = fed | {name for node in graph.node for name in node.output if name in early}
    first = [node for node in graph.node if after.isdisjoint(node.output)]
    second = [node for node in graph.node if not after.isdisjoint(node.output) or early.isdisjoint(node.output)]
    outputs = [value.name for value in graph.output]
    wanted = dict.fromkeys(name for node in second for name in _reads(node) if name in given - after)
    wanted |= dict.fromkeys(name for name in outputs if name in given - after)
    one = _part(
        model,
        first,
        [value for value in graph.input if value.name not in late],
        [name for name in wanted if name not in fed],
    )
    own = [value for value in graph.input if value.name in late or value.name in constants]
    types = {name: dtype or TensorProto.FLOAT for name, (dtype, _) in value_types(model).items()}
    passed = [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), None) for name in wanted]
    return one, _part(model, second, [*own, *passed], outputs)


def _part(
    model: onnx.ModelProto,
    nodes: Iterable[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Iterable[str],
) -> onnx.ModelProto:
    """Make a model of some nodes of a model."""
    part = without_initializers(model, ())
    for field in (part.graph.node, part.graph.input, part.graph.output):
        del field[:]
    part.graph.node.extend(nodes)
    part.graph.input.extend(inputs)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return part


def _reads(node: onnx.NodeProto) -> set[str]:
    return ({*node.input} | subgraph_reads(node)) - {""}


def _reached(nodes: Iterable[onnx.NodeProto], names: Iterable[str]) -> set[str]:
    """Some names, and all names that depend on them."""
    found = set(names)
    for node in nodes:
        if not found.isdisjoint(_reads(node)):
            found.update(name for name in node.output if name)
    return found
