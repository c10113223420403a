"""Split layers by outputs, so that their weights need not be decoded all at once.

The generator is asked for a node that computes some of the outputs; the program calls it in a loop, each time with
other weights and for other outputs. Outputs lie one after the other as long as they are of one sample.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from cerwu_onnx.container import format as f
from cerwu_onnx.errors import GeneratorError
from cerwu_onnx.inference.generator import PACKAGE, Call, Program
from cerwu_onnx.inference.prepared import CODED, Prepared
from cerwu_onnx.model.tensors import attributes_of, constant_tensors

TILE = 4096
"""Bytes of decoded weights at one time that are worth a split."""


def split(prepared: Prepared, program: Program, orders: dict[str, f.Order]) -> Prepared:
    """The model with some nodes in place of which the generator shall write one for some of their outputs.

    Args:
        prepared: the model.
        program: what the generator made of it.
        orders: in which each coded tensor is stored, by original name.
    """
    model = onnx.ModelProto()
    model.CopyFrom(prepared.model)
    coded, constants = list(prepared.coded), constant_tensors(prepared.model)
    reads = [name for node in model.graph.node for name in node.input]
    nodes = []
    for node, call in zip(model.graph.node, _calls(model, program), strict=True):
        nodes.append(node)
        cut = _cut(node, call, prepared, orders) if call is not None else None
        if cut is None or any(reads.count(name) > 1 for name in node.input[1:]):
            continue
        axis, parts = cut
        for name in node.input[1:]:
            place = _place(name)
            values = coded[place][1] if place is not None else numpy_helper.to_array(constants[name])
            which = axis if name == node.input[1] else 0
            first = values.take(range(values.shape[which] // parts), axis=which)
            if place is not None:
                coded[place] = coded[place][0], first
            _replace(model, name, first)
        whole, part = node.output[0], f"{node.output[0]}_part{parts}"
        node.output[0] = part
        channels = 1 if node.op_type == "Conv" else -1
        nodes.append(onnx.helper.make_node("Concat", [part] * parts, [whole], f"{node.name}_whole", axis=channels))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return Prepared(model, tuple(coded), prepared.names)


def merged(program: Program, plain: Program) -> Program:
    """What the generator made of a split model, with loops in place of the nodes that put outputs together.

    Args:
        program: what it made of the split model.
        plain: what it made of the model, which has whole biases where they are not coded.

    Raises:
        GeneratorError: it has not kept the weights of such a node as they were.
    """
    wholes, constants = {}, dict(program.constants)
    originals = {_label(name): name for name in plain.constants}
    for call in program.calls:
        if call.op == "Concat" and (part := re.fullmatch(r"tmp\d+_\w+_part(\d+)", call.arguments[0])):
            wholes[call.arguments[0]] = call.arguments[-1], int(part[1])
    calls = []
    for call in program.calls:
        if call.arguments[0] in wholes:
            continue
        if call.arguments[-1] in wholes:
            whole, parts = wholes[call.arguments[-1]]
            for name in call.arguments[1:-1]:
                if name in constants and _label(name) in originals:
                    text, size = plain.constants[originals[_label(name)]]
                    constants[name] = text.replace(f" {originals[_label(name)]}[", f" {name}[", 1), size
                elif name not in program.coded:
                    raise GeneratorError(f"{PACKAGE} {program.version} changed the weights of {call.function}()")
            if call.arguments[1] not in program.coded:
                raise GeneratorError(f"{PACKAGE} {program.version} changed the weights of {call.function}()")
            call = replace(call, arguments=(*call.arguments[:-1], whole), parts=parts, tiled=call.arguments[1])
        calls.append(call)
    temporaries = {name: array for name, array in program.temporaries.items() if name not in wholes}
    return replace(program, calls=tuple(calls), temporaries=temporaries, constants=constants)


def _label(array: str) -> str:
    """The name of a value in the name of its array: numbers of arrays differ between programs."""
    return array.partition("_")[2]


def _place(name: str) -> int | None:
    """The place of a coded tensor; None for other values."""
    found = re.fullmatch(rf"{CODED}(\d+)", name)
    return int(found[1]) if found is not None else None


def _calls(model: onnx.ModelProto, program: Program) -> list[Call | None]:
    """The call of each node that is a product with weights, found by the weights' array; None for other nodes."""
    by_weight = {place: call for call in program.calls for array, place in program.coded.items() if _reads(call, array)}
    places = [_place(node.input[1]) if len(node.input) > 1 else None for node in model.graph.node]
    return [by_weight.get(place) if place is not None else None for place in places]


def _reads(call: Call, array: str) -> bool:
    return len(call.arguments) > 1 and call.arguments[1] == array


def _cut(node: onnx.NodeProto, call: Call, prepared: Prepared, orders: dict[str, f.Order]) -> tuple[int, int] | None:
    """The axis of a node's weight that counts its outputs, and in how many parts to cut it; None to leave it whole."""
    if (
        node.domain not in ("", "ai.onnx")
        or call.op != node.op_type
        or call.written.index(True) != len(call.written) - 1
    ):
        return None
    name, values = prepared.coded[int(node.input[1].removeprefix(CODED))]
    given, output = attributes_of(node), call.parameters[-1]
    fitting: tuple[f.Order, ...] = (f.Order.ROW_MAJOR,)
    if node.op_type == "Conv" and given.get("group", 1) == 1:
        axis, samples, fitting = 0, output.dims[0], (f.Order.ROW_MAJOR, f.Order.AXIS1_LAST)
    elif node.op_type == "Gemm" and given.get("transB", 0):
        axis, samples = 0, output.dims[0]
    elif node.op_type in ("Gemm", "MatMul") and values.ndim == 2:
        axis, samples, fitting = 1, math.prod(output.dims[:-1]), (f.Order.AXIS0_LAST,)
    else:
        return None
    outputs, size = values.shape[axis], 4 * values.size
    if samples != 1 or orders[name] not in fitting or size <= TILE:
        return None
    constants = constant_tensors(prepared.model)
    for bias in node.input[2:]:
        tensor = constants.get(bias)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or tuple(tensor.dims) != (outputs,):
            return None
    parts = next(n for n in range(1, outputs + 1) if outputs % n == 0 and (size // n <= TILE or n == outputs))
    return (axis, parts) if parts > 1 else None


def _replace(model: onnx.ModelProto, name: str, values: npt.NDArray[np.float32]) -> None:
    """Give a constant other values, in place."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(values, name))
            return
    for node in model.graph.node:
        if list(node.output) == [name]:
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(values, name)))
