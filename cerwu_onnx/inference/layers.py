"""Lists the layers of a model for its header: shapes, strides, pads, in the order in which the graph runs."""

from __future__ import annotations

import math

import onnx

from cerwu_onnx.container.reader import Container
from cerwu_onnx.firmware.layers import Layer
from cerwu_onnx.model.tensors import attributes_of, constant_tensors
from cerwu_onnx.opened import CompressedModel

_NUMBERS = ("strides", "pads", "dilations", "group", "transA", "transB", "axis", "hidden_size")


def layers_of(container: Container) -> tuple[Layer, ...]:
    """The nodes with tensors of the file, in topological order; none if the file has no graph.

    Raises:
        CorruptFileError: the file is damaged.
    """
    opened = CompressedModel(container)
    return model_layers(opened.to_onnx(), frozenset(opened)) if opened.has_graph else ()


def model_layers(model: onnx.ModelProto, names: frozenset[str]) -> tuple[Layer, ...]:
    """The nodes of a model's main graph that read these constants, in its order, which is topological."""
    shapes, constants = value_shapes(model), constant_tensors(model)
    found = []
    for node in model.graph.node:
        tensors = tuple(name for name in node.input if name in names)
        if not tensors:
            continue
        weight = max(tensors, key=lambda name: len(constants[name].dims))
        shape = tuple(constants[weight].dims)
        first = next((name for name in node.input if name and name not in constants), None)
        found.append(
            Layer(
                op=node.op_type,
                tensors=(weight, *(name for name in tensors if name != weight)),
                shape=shape,
                numbers=_numbers(node, shape),
                input=shapes.get(first) if first else None,
                output=shapes.get(node.output[0]) if node.output else None,
            )
        )
    return tuple(found)


def value_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Dimensions of values as far as ONNX infers them, 0 where they are open."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # of the C++ code, of many types; a model beyond 2 GB
        graph = model.graph
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def multiply_adds(model: onnx.ModelProto) -> int:
    """Products of weights with values, per run: 0 where shapes are unknown, and for what only adds or scales."""
    shapes, constants = value_shapes(model), constant_tensors(model)
    total = 0
    for node in model.graph.node:
        read = shapes.get(node.input[0], (0,)) if node.input else (0,)
        written = shapes.get(node.output[0], (0,)) if node.output else (0,)
        sizes = [math.prod(constants[name].dims) for name in node.input[:3] if name in constants]
        if not sizes:
            continue
        if node.op_type in ("Conv", "FusedConv"):
            total += sizes[0] * written[0] * math.prod(written[2:])
        elif node.op_type == "ConvTranspose":
            total += sizes[0] * read[0] * math.prod(read[2:])
        elif node.op_type in ("Gemm", "MatMul", "FusedGemm", "FusedMatMul"):
            total += sizes[0] * math.prod(written[:-1])
        elif node.op_type in ("GRU", "LSTM", "RNN"):  # W and R, at each step
            total += sum(sizes) * math.prod(read[:2])
    return total


def _numbers(node: onnx.NodeProto, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Integers among the node's attributes; of a convolution also the defaults."""
    given = attributes_of(node)
    axes = len(shape) - 2
    if node.op_type in ("Conv", "ConvTranspose", "FusedConv") and axes > 0:
        given = {"strides": [1] * axes, "dilations": [1] * axes, "group": 1} | given
        if given.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"):
            given.setdefault("pads", [0] * 2 * axes)
    numbers: dict[str, tuple[int, ...]] = {}
    for key in _NUMBERS:
        value = given.get(key)
        if isinstance(value, int):
            numbers[key] = (value,)
        elif isinstance(value, list) and value and all(isinstance(item, int) for item in value):
            numbers[key] = tuple(value)
    return numbers
