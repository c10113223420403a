"""Choose the values of a model by which it is compared: its outputs, or values that feed them and say more.

The number of boxes that non-maximum suppression leaves may change with any weight, so these boxes cannot be compared.
The boxes and scores that go into it can. What goes into a Softmax at the end says more than what comes out: float32
rounds the probabilities of a model that is sure to 0 and 1. A model that gives nothing but decisions (labels, maps from
labels to scores) is compared by the numbers that it decides by: a label says nothing until it flips. A model that
corrects its input (a denoiser, a forecast from the last value) is compared by the correction: the input, which it gives
back exactly, may vary far more.
"""

from __future__ import annotations

import math

import onnx

from cerwu_onnx.model.elements import FLOATS
from cerwu_onnx.model.tensors import attributes_of, constant_tensors, model_inputs, subgraph_reads

_UNCOUNTED = ("NonMaxSuppression", "NonZero", "Compress", "Unique")
"""Operators whose outputs' shapes depend on values."""

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN")
"""Operators of layers."""

_DECISIONS = (
    *("ArgMax", "ArgMin", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not", "And", "Or", "Xor"),
    *("ZipMap", "ArrayFeatureExtractor", "LabelEncoder", "CastMap", "Binarizer"),
)
"""Operators whose outputs jump where their inputs hardly change, or are no tensors."""

_MOVERS = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Slice", "Gather")
"""Operators that make decisions of decisions."""

_SQUASHING = ("Softmax", "Sigmoid", "HardSigmoid")
"""Operators that give probabilities, which show by their values."""

_CUTTING = ("Clip", "Relu", "Min", "Max")
"""Operators that cut numbers off at a limit."""

_CARRIERS = (
    *(
        "Identity",
        "Cast",
        "Slice",
        "Gather",
        "Split",
        "Concat",
        "Reshape",
        "Flatten",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
    ),
    *("Expand", "Tile", "Pad", "Resize", "Upsample", "AveragePool", "GlobalAveragePool", "ReduceMean", "DepthToSpace"),
    *("SpaceToDepth", "Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Pow", "Clip", "Shape", "ConstantOfShape", "Range"),
)
"""Operators that give back what they read, perhaps at another place, size or scale."""

_EXACT = 256
"""Constants of fewer values than this are on no grid."""

_STANDARD = ("", "ai.onnx")


def compared_values(model: onnx.ModelProto) -> list[str]:
    """Names of the values of the main graph to compare, in its order: outputs, or what is computed before them.

    If an output depends on operators whose results have no fixed number of values, or, behind the last layer, on which
    values are the largest (TopK), it is replaced by the values that are computed before the first of these operators
    and read by them, or by nodes behind them: places in an order change with any weight. If an output is a
    Softmax, its input takes its place (:func:`softmax_inputs`); if it corrects what the model reads, the correction
    does (:func:`corrections`). If all outputs are decisions, the values that they are made from do.
    """
    graph = model.graph
    instead = corrections(model) | {output: name for name, (output, _) in softmax_inputs(model).items()}
    known = {info.name for info in model_inputs(model)} | constant_tensors(model).keys()
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    writer = {name: node for node in graph.node for name in node.output if name}
    uncounted = _sorted_at_the_end(model)
    for node in graph.node:
        inputs = {*node.input, *subgraph_reads(node)}
        if (node.op_type in _UNCOUNTED and node.domain in _STANDARD) or not inputs.isdisjoint(uncounted):
            uncounted.update(node.output)
    told = _gives_more_than_decisions(model)
    if not told:  # an output of integers is a decision, whatever writes it
        uncounted |= _decisions(model) | {value.name for value in graph.output if value.name in writer}
    found: dict[str, None] = {}
    seen: set[str] = set()
    pending = [value.name for value in reversed(graph.output)]
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in uncounted:
            found[instead.get(name, name)] = None
            continue
        node = writer[name]
        pending += sorted({*node.input, *subgraph_reads(node)} - {""} - known, reverse=True)
    return list(found) if found or told else [value.name for value in graph.output]


def _sorted_at_the_end(model: onnx.ModelProto) -> set[str]:
    """What TopK gives where no layer reads anything made of it."""
    layers = [name for node in model.graph.node if node.op_type in _PRODUCTS for name in node.input]
    inside = ancestors(model, layers)
    sorts = [node for node in model.graph.node if node.op_type == "TopK" and node.domain in _STANDARD]
    return {name for node in sorts if inside.isdisjoint(node.output) for name in node.output if name}


def _gives_more_than_decisions(model: onnx.ModelProto) -> bool:
    decisions = _decisions(model)
    return any(value.name not in decisions and _holds_floats(value) for value in model.graph.output)


def _decisions(model: onnx.ModelProto) -> set[str]:
    """Values that are made by :data:`_DECISIONS`, by rounding to integers, or of such values alone."""
    found: set[str] = set()
    for node in model.graph.node:
        rounds = node.op_type == "Cast" and attributes_of(node).get("to") not in FLOATS
        if rounds or node.op_type in _DECISIONS:
            found.update(node.output)
        elif node.op_type == "TopK":
            found.update(node.output[1:])
        elif node.op_type in _MOVERS and not found.isdisjoint(node.input):
            found.update(node.output)
    return found


def _holds_floats(value: onnx.ValueInfoProto) -> bool:
    """Whether an output is a tensor of floats, or of a type that the model does not tell."""
    kind = value.type.WhichOneof("value")
    return kind is None or (kind == "tensor_type" and value.type.tensor_type.elem_type in (0, *FLOATS))


def class_scores(model: onnx.ModelProto) -> dict[str, tuple[str, int]]:
    """Values that are logits by what the model makes of them; that output, and the axis of the classes, -1 if the last.

    Those of :func:`softmax_inputs`, and, in a model that gives nothing but decisions, what ArgMax chooses from.
    """
    found = {}
    if not _gives_more_than_decisions(model):
        squashed = {name for node in model.graph.node if node.op_type in _SQUASHING for name in node.output}
        for node in model.graph.node:
            axis = attributes_of(node).get("axis", 0) if node.op_type == "ArgMax" else 0
            if axis in (-1, 1) and node.input[0] not in squashed:
                found[node.input[0]] = (node.output[0], axis)
    return found | softmax_inputs(model)


def squashed_values(model: onnx.ModelProto) -> set[str]:
    """Values that the model makes probabilities, and what it moves or cuts them to."""
    return _made_by(model, _SQUASHING, (*_MOVERS, *_CUTTING, "Concat"))


def cut_values(model: onnx.ModelProto) -> set[str]:
    """Numbers that the model cuts off at a limit, and what it moves them to."""
    return _made_by(model, _CUTTING, _MOVERS) - squashed_values(model)


def _made_by(model: onnx.ModelProto, makers: tuple[str, ...], movers: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type in makers or (node.op_type in movers and not found.isdisjoint(node.input)):
            found.update(node.output)
    return found


def joined_axes(model: onnx.ModelProto) -> dict[str, int]:
    """The axis along which a value puts several computed ones side by side, by name."""
    constants, found = constant_tensors(model), {}
    for node in model.graph.node:
        if node.op_type == "Concat" and len(set(node.input) - constants.keys()) > 1:
            found[node.output[0]] = int(attributes_of(node)["axis"])
        elif node.op_type in ("Identity", "Cast") and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def softmax_inputs(model: onnx.ModelProto) -> dict[str, tuple[str, int]]:
    """Logits of the model: values whose Softmax is an output; that output, and the axis of the classes, -1 if the last.

    Before opset 13 Softmax flattens all axes from its own on: only those along the last axis count.
    """
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.output if _has_rank(value)}
    old = any(entry.domain in _STANDARD and entry.version < 13 for entry in model.opset_import)
    known = {info.name for info in model_inputs(model)} | constant_tensors(model).keys()
    found = {}
    for node in model.graph.node:
        if node.op_type not in ("Softmax", "LogSoftmax") or node.domain not in _STANDARD or node.input[0] in known:
            continue
        output, rank = node.output[0], ranks.get(node.output[0])
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1 if old else -1)
        if rank is not None and axis in (-1, rank - 1):
            found[node.input[0]] = (output, -1)
        elif rank is not None and axis == 1 and not old:
            found[node.input[0]] = (output, 1)
    return found


def corrections(model: onnx.ModelProto) -> dict[str, str]:
    """What the model adds to values that it only carries from its inputs, or subtracts from them, by output."""
    constants = constant_tensors(model)
    exact = {name for name, tensor in constants.items() if math.prod(tensor.dims) < _EXACT} | {""}
    carried = {info.name for info in model_inputs(model)}
    writer: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        writer.update(dict.fromkeys(node.output, node))
        read = set(node.input) - exact
        if node.op_type in _CARRIERS and node.domain in _STANDARD and read and read <= carried:
            carried.update(node.output)
    found = {}
    for output in (value.name for value in model.graph.output):
        name = output
        while name in writer and writer[name].op_type in ("Identity", "Clip", "Squeeze", "Unsqueeze"):
            name = writer[name].input[0]
        added = writer[name].input if name in writer and writer[name].op_type in ("Add", "Sub") else ()
        parts = [part for part in added if part not in carried and part not in constants]
        if len(parts) == 1 and not carried.isdisjoint(added):
            found[output] = parts[0]
    return found


def _has_rank(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.HasField("shape"))


def ancestors(model: onnx.ModelProto, names: list[str]) -> frozenset[str]:
    """All values, constants included, on which some values of the main graph depend."""
    found = set(names)
    for node in reversed(model.graph.node):
        if not found.isdisjoint(node.output):
            found |= {*node.input, *subgraph_reads(node)}
    return frozenset(found)
