"""What a model is made of, in a form that two models can be compared by; apart from the library's own code for that.

Names inside a graph may change on the way, so values are numbered in the order of their definition, scope by scope.
Documentation, inferred types and the names of nodes do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import AttributeProto, numpy_helper

from .case import is_float

Scope = dict[str, int]


class Contents:
    """A model taken apart.

    Attributes:
        structure: operators, attributes, wiring, interface: everything but elements of tensors, in order.
        tensors: every dense tensor with the name that the graph knows it by, in the same order.
        readers: types of the operators that read a float constant of more than one element.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.structure: list[Any] = []
        self.tensors: list[tuple[str, onnx.TensorProto]] = []
        self.readers: set[str] = set()
        self._count = 0
        opsets = sorted((opset.domain or "ai.onnx", opset.version) for opset in model.opset_import)
        metadata = sorted((entry.key, entry.value) for entry in model.metadata_props)
        self.structure += [model.ir_version, opsets, metadata]
        self.structure += [[value.SerializeToString() for value in _plain(model.graph.input)]]
        self.structure += [[value.SerializeToString() for value in _plain(model.graph.output)]]
        self._graph(model.graph, {})
        for function in model.functions:
            scope = self._define([*function.input], {})
            self.structure += [function.domain, function.name, list(function.attribute), len(function.output)]
            scope = self._nodes(function.node, scope)
            self.structure += [[scope[name] for name in function.output]]

    def _define(self, names: list[str], scope: Scope) -> Scope:
        """The scope with these names, each a new value."""
        inner = dict(scope)
        for name in filter(None, names):
            self._count += 1
            inner[name] = self._count
        return inner

    def _graph(self, graph: onnx.GraphProto, scope: Scope) -> None:
        constants = [tensor.name for tensor in graph.initializer]
        constants += [sparse.values.name for sparse in graph.sparse_initializer]
        inputs = [value.name for value in graph.input]
        scope = self._define([*inputs, *(name for name in constants if name not in inputs)], scope)
        self.structure += [[scope[name] for name in inputs], [scope[name] for name in constants]]
        for tensor in graph.initializer:
            self._tensor(tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            self._sparse(sparse.values.name, sparse)
        scope = self._nodes(graph.node, scope)
        self.structure += [[scope[value.name] for value in graph.output]]

    def _nodes(self, nodes: Any, scope: Scope) -> Scope:
        floats = {name for name, tensor in self.tensors if _is_weight(tensor)}
        scope = self._define([name for node in nodes for name in node.output], scope)
        for node in nodes:
            values = [[scope.get(name, 0) for name in names] for names in (node.input, node.output)]
            self.structure += [node.domain if node.domain != "ai.onnx" else "", node.op_type, *values]
            for attribute in sorted(node.attribute, key=lambda a: a.name):
                self._attribute(node, attribute, scope)
            if node.op_type == "Constant" and _is_weight(next((a.t for a in node.attribute if a.HasField("t")), None)):
                floats.add(node.output[0])
            if floats.intersection(node.input):
                self.readers.add(node.op_type)
        return scope

    def _attribute(self, node: onnx.NodeProto, attribute: AttributeProto, scope: Scope) -> None:
        self.structure += [attribute.name, attribute.type, attribute.ref_attr_name]
        name = node.output[0] if node.op_type == "Constant" else attribute.name
        if attribute.HasField("t"):
            self._tensor(name, attribute.t)
        elif attribute.HasField("g"):
            self._graph(attribute.g, scope)
        elif attribute.HasField("sparse_tensor"):
            self._sparse(name, attribute.sparse_tensor)
        elif not attribute.ref_attr_name:
            for tensor in attribute.tensors:
                self._tensor(name, tensor)
            for graph in attribute.graphs:
                self._graph(graph, scope)
            if not (attribute.tensors or attribute.graphs):
                self.structure.append(onnx.helper.get_attribute_value(attribute))

    def _tensor(self, name: str, tensor: onnx.TensorProto) -> None:
        self.structure += [tensor.data_type, list(tensor.dims)]
        self.tensors.append((name, tensor))

    def _sparse(self, name: str, sparse: onnx.SparseTensorProto) -> None:
        self.structure.append(list(sparse.dims))
        self._tensor(name, sparse.values)
        self._tensor(f"{name}:indices", sparse.indices)


def differing(before: Contents, after: Contents) -> list[str]:
    """Names of the tensors whose elements differ in a bit. Both models have the same structure."""
    pairs = zip(before.tensors, after.tensors, strict=True)
    return [name for (name, ours), (_, theirs) in pairs if elements(ours) != elements(theirs)]


def elements(tensor: onnx.TensorProto) -> Any:
    """The elements of a tensor: bytes, or a list of strings."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return list(tensor.string_data)
    return tensor.raw_data or numpy_helper.to_array(tensor).tobytes()


def float_elements(contents: Contents) -> int:
    """How many floating-point numbers (16 to 64 bits) the tensors of a model hold."""
    return sum(_count(tensor) for _, tensor in contents.tensors if is_float(tensor.data_type))


def _count(tensor: onnx.TensorProto) -> int:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count


def _is_weight(tensor: onnx.TensorProto | None) -> bool:
    return tensor is not None and is_float(tensor.data_type) and _count(tensor) > 1


def _plain(values: Any) -> Iterator[onnx.ValueInfoProto]:
    """Values of the interface without documentation and exporters' notes."""
    for value in values:
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(value)
        copy.ClearField("doc_string")
        copy.ClearField("metadata_props")
        yield copy
