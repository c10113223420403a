"""Cut a model's main graph into segments: its nodes with the names they read and write, and models made of some nodes.

A node with bodies (If, Loop, Scan) is one node: it reads whatever its bodies read of the main graph. Nodes that do not
depend on a model input are *fixed*: every segment that needs their values takes a copy of them, which onnxruntime
evaluates when it loads the segment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import onnx

from cerwu_onnx.calibration.compared import compared_values
from cerwu_onnx.errors import ModelError
from cerwu_onnx.model.tensors import bodies, constant_tensors, model_inputs, subgraph_reads, value_of

_STANDARD = ("", "ai.onnx")
_RANDOM = {
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_ELEMENTS = {"float": onnx.TensorProto.FLOAT, "double": onnx.TensorProto.DOUBLE}


class Nodes:
    """The nodes of a model's main graph by index, in the model's order, which ONNX demands to be topological.

    Constants held in Constant nodes count as tensors, not as nodes.

    Attributes:
        tensors: the dense constants by name.
        reads: for each node, the names it and its bodies read.
        writes: for each node, the names of its outputs.
        read_names: all the names that some node reads.
        fixed: the nodes that depend only on constants.
        fixed_names: names of constants and of the outputs of fixed nodes.
        inputs: types of the inputs that a caller feeds, by name.
        outputs: names of the values to compare (:mod:`calibration.compared`).

    Raises:
        ModelError: two constants share a name, or an input is not a tensor.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._model = model
        self._nodes = [node for node in graph.node if value_of(node) is None]
        self._sparse = {sparse.values.name: sparse for sparse in graph.sparse_initializer}
        self.tensors = constant_tensors(model)
        self.reads = [frozenset(node.input) - {""} | subgraph_reads(node) for node in self._nodes]
        self.writes = [frozenset(node.output) - {""} for node in self._nodes]
        self.read_names = self.read_by(range(len(self._nodes)))
        fed = {info.name for info in model_inputs(model)}
        self.inputs = {value.name: value.type for value in graph.input if value.name in fed}
        self.outputs = compared_values(model)
        self.fixed_names = {*self.tensors, *self._sparse}
        self.fixed: set[int] = set()
        for index, node in enumerate(self._nodes):
            if self.reads[index] <= self.fixed_names and _is_fixed(node):
                self.fixed.add(index)
                self.fixed_names |= self.writes[index]

    def __len__(self) -> int:
        return len(self._nodes)

    def read_by(self, nodes: Iterable[int]) -> frozenset[str]:
        """All names that these nodes read."""
        return frozenset[str]().union(*(self.reads[index] for index in nodes))

    def written_by(self, nodes: Iterable[int]) -> frozenset[str]:
        """All names that these nodes compute."""
        return frozenset[str]().union(*(self.writes[index] for index in nodes))

    def ancestors(self, names: Iterable[str], among: Collection[int]) -> list[int]:
        """The nodes among these, in order, that are needed to compute the named values."""
        needed = set(names)
        found = []
        for index in sorted(among, reverse=True):
            if not needed.isdisjoint(self.writes[index]):
                needed |= self.reads[index]
                found.append(index)
        return found[::-1]

    def reached(self, names: Iterable[str], among: Collection[int]) -> set[str]:
        """The names themselves, and the outputs of the nodes among these that depend on them."""
        reached = set(names)
        for index in sorted(among):
            if not reached.isdisjoint(self.reads[index]):
                reached |= self.writes[index]
        return reached

    def submodel(
        self,
        nodes: Collection[int],
        outputs: Collection[str],
        tensors: Mapping[str, onnx.TensorProto],
        types: Mapping[str, onnx.TypeProto],
    ) -> onnx.ModelProto:
        """Make a model of some nodes.

        Its inputs are the values that they read but do not compute. Initializers that a caller of the whole model could
        override are constants here.

        Args:
            nodes: indices of the nodes; fixed ones join them where they are needed.
            outputs: names of the values to return.
            tensors: the dense constants by name.
            types: the types of the values that may become inputs.
        """
        chosen = sorted({*nodes, *self.ancestors(self.read_by(nodes).union(outputs), self.fixed)})
        read = self.read_by(chosen).union(outputs)
        inputs = sorted(read - self.written_by(chosen) - tensors.keys() - self._sparse.keys())
        graph = onnx.GraphProto(name=self._model.graph.name or "segment")
        graph.node.extend(self._nodes[index] for index in chosen)
        graph.input.extend(onnx.ValueInfoProto(name=name, type=types[name]) for name in inputs)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        for name in sorted(read & tensors.keys()):
            graph.initializer.add().CopyFrom(tensors[name])
            graph.initializer[-1].name = name
        graph.sparse_initializer.extend(self._sparse[name] for name in sorted(read & self._sparse.keys()))
        # Before IR version 4, every initializer had to be an input, too.
        return onnx.ModelProto(
            ir_version=max(self._model.ir_version, 4),
            opset_import=self._model.opset_import,
            functions=self._model.functions,
            graph=graph,
        )


def _is_fixed(node: onnx.NodeProto) -> bool:
    """Whether a node with constant inputs always gives the same values: a standard one without bodies or randomness."""
    return node.domain in _STANDARD and node.op_type not in _RANDOM and not any(bodies(node))


def value_type(name: str, text: str) -> onnx.TypeProto:
    """The type, without a shape, that onnxruntime describes as ``tensor(float)`` or ``seq(tensor(int64))``.

    Raises:
        ModelError: the value is of another kind and cannot be handed from one segment to the next.
    """
    kind, _, inner = text.removesuffix(")").partition("(")
    result = onnx.TypeProto()
    if kind == "seq":
        result.sequence_type.elem_type.CopyFrom(value_type(name, inner))
        return result
    known = {**_ELEMENTS, **{str(key).lower(): number for key, number in onnx.TensorProto.DataType.items()}}
    if kind != "tensor" or inner not in known:
        raise ModelError(f"the value {name!r} is of type {text}: only tensors and sequences of them can be kept")
    result.tensor_type.elem_type = known[inner]
    return result
