"""Build the adjoint of a model: visit its nodes from the outputs back to activations, with one rule per node."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper, version_converter

from cerwu_onnx.calibration.adjoint.calls import Call
from cerwu_onnx.calibration.adjoint.rules import RULES
from cerwu_onnx.calibration.adjoint.types import value_types
from cerwu_onnx.calibration.adjoint.values import Blocked, Tape, Value
from cerwu_onnx.errors import ModelError, first_line
from cerwu_onnx.model.elements import FLOATS
from cerwu_onnx.model.sites import node_label
from cerwu_onnx.model.tensors import all_messages, attributes_of, subgraph_reads

log = logging.getLogger(__name__)

_STANDARD = ("", "ai.onnx")
_OPSET = 16
"""The rules are written for this opset and later ones."""

_ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear")
"""Operators that give integers, but that gradients should pass (straight through)."""


@dataclass(frozen=True, slots=True)
class Adjoint:
    """A model that computes gradients of the sum over outputs of the inner product of a seed and an output.

    Attributes:
        model: its inputs are those of the differentiated model and the seeds, its outputs the gradients.
        seeds: for each output that depends on a target, the input for its seed: an array of the output's shape
            and type.
        gradients: for each target, the output that gives its gradient.
        unsupported: for each target whose gradient would have to pass a node that cannot be differentiated, that node.
            Targets on which no output depends are neither here nor in ``gradients``.
    """

    model: onnx.ModelProto
    seeds: dict[str, str]
    gradients: dict[str, str]
    unsupported: dict[str, str]


def adjoint(model: onnx.ModelProto, outputs: Sequence[str], targets: Iterable[str]) -> Adjoint:
    """Differentiate a model's outputs with respect to some of its activations.

    Integers and truth values have no gradient: what depends on a target only through them counts as constant. At a kink
    the derivative is that of one side; Max and Min, which reach ties more often, give each of the tied inputs the whole
    gradient.

    Args:
        model: the model. Only its main graph is differentiated; nodes with bodies, of other domains and calls of local
            functions are passed by no gradient.
        outputs: names of activations of the main graph; those that hold no floats are left out.
        targets: names of activations of the main graph.

    Raises:
        ModelError: the model is older than opset 16 and cannot be converted, or its types cannot be inferred.
    """
    backward = _Backward(_modern(model), outputs, list(dict.fromkeys(targets)))
    backward.run()
    return backward.result()


class _Backward:
    """The backward pass: gradients of names, from the last node to the first."""

    def __init__(self, model: onnx.ModelProto, outputs: Sequence[str], targets: Sequence[str]) -> None:
        self._model, self._targets = model, targets
        self._types = value_types(model)
        taken = {name for message in all_messages(model.graph) for name in _names(message)}
        self._tape = Tape(taken)
        self._active = self._depending(targets)
        self._parts: dict[str, list[Value]] = defaultdict(list)
        self._blocked: dict[str, str] = {}
        self._seeds: dict[str, Value] = {}
        for name in outputs:
            value = self._value(name)
            if name in self._active and value.dtype in FLOATS:
                seed = Value(self._tape, self._tape.fresh(f"{name}/seed"), value.dtype, value.dims)
                self._seeds[name] = seed
                self._parts[name].append(seed)

    def _value(self, name: str) -> Value:
        return Value(self._tape, name, *self._types.get(name, (0, None)))

    def _depending(self, targets: Iterable[str]) -> set[str]:
        """Names of floats, or of values of unknown type, that depend on targets only through such values."""
        active = set(targets)
        for node in self._model.graph.node:
            if not active.isdisjoint(_reads(node)):
                through = node.op_type in _ROUNDING
                active.update(n for n in node.output if n and (through or self._value(n).dtype in (0, *FLOATS)))
        return active

    def run(self) -> None:
        """Visit the nodes in reverse order, so that all readers of a node's outputs come before the node."""
        for node in reversed(self._model.graph.node):
            reads = [name for name in dict.fromkeys(_reads(node)) if name in self._active]
            outputs = [name for name in node.output if name in self._active]
            if not reads or not any(name in self._parts or name in self._blocked for name in outputs):
                continue
            reason = next((self._blocked[name] for name in outputs if name in self._blocked), "")
            if not reason:
                try:
                    self._pass(node)
                    continue
                except Blocked as error:
                    reason = f"{node_label(node)}: {error}"
            for name in reads:
                self._blocked.setdefault(name, reason)

    def _pass(self, node: onnx.NodeProto) -> None:
        """Add to the gradients of a node's inputs.

        Raises:
            Blocked: it cannot be differentiated.
        """
        if node.op_type not in RULES or node.domain not in _STANDARD or subgraph_reads(node):
            raise Blocked("the operator cannot be differentiated")
        call = Call(
            self._tape,
            node,
            attributes_of(node),
            tuple(self._value(name) if name else None for name in node.input),
            tuple(self._value(name) if name else None for name in node.output),
            tuple(self._gradient(name) for name in node.output),
        )
        found = [
            (name, RULES[node.op_type](call, index)) for index, name in enumerate(node.input) if name in self._active
        ]
        for name, value in found:
            self._parts[name].append(value)

    def _gradient(self, name: str) -> Value | None:
        """The sum of all contributions to a gradient; None if there are none."""
        parts = self._parts.get(name)
        if not parts:
            return None
        while len(parts) > 1:
            parts[:2] = [parts[0] + parts[1]]
        return parts[0]

    def result(self) -> Adjoint:
        """The adjoint, without nodes that no gradient needs."""
        found = {name: self._gradient(name) for name in self._targets if name not in self._blocked}
        seeds = {name: seed.name for name, seed in self._seeds.items()}
        gradients: dict[str, str] = {}
        for name, value in found.items():
            if value is not None:  # several targets may share a gradient, or have a seed for it
                own = value.name not in (*seeds.values(), *gradients.values())
                gradients[name] = value.name if own else self._tape.emit("Identity", value).name
        nodes = _needed([*self._model.graph.node, *self._tape.nodes], gradients.values())
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for field in (model.graph.node, model.graph.output, model.graph.value_info):
            del field[:]
        model.graph.node.extend(nodes)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in gradients.values())
        for seed in self._seeds.values():
            model.graph.input.append(helper.make_tensor_value_info(seed.name, seed.dtype, None))
        unsupported = {name: self._blocked[name] for name in self._targets if name in self._blocked}
        for name, reason in unsupported.items():
            log.debug("no gradient of %r: %s", name, reason)
        return Adjoint(model, seeds, gradients, unsupported)


def _modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a model to opset 16, if it is older."""
    version = max((entry.version for entry in model.opset_import if entry.domain in _STANDARD), default=1)
    if version >= _OPSET:
        return model
    try:
        return version_converter.convert_version(model, _OPSET)
    except Exception as error:  # of several types, from C++ behind Python
        raise ModelError(f"the model cannot be brought to opset {_OPSET}: {first_line(error)}") from error


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names of the main graph that a node and its bodies read."""
    return [name for name in node.input if name] + sorted(subgraph_reads(node))


def _names(message: object) -> list[str]:
    """All names that a message of a graph defines or uses."""
    if isinstance(message, onnx.NodeProto):
        return [*message.input, *message.output]
    return [str(getattr(message, "name", ""))]


def _needed(nodes: Sequence[onnx.NodeProto], names: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes on which some names depend, in order."""
    wanted, kept = set(names), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(_reads(node))
    return kept[::-1]
