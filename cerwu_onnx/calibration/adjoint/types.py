"""Infer the element types and dimensions of a graph's values, as far as ONNX can."""

from __future__ import annotations

from typing import TypeAlias

import onnx
from onnx import shape_inference

from cerwu_onnx.calibration.adjoint.values import Dims
from cerwu_onnx.errors import ModelError, first_line

Types: TypeAlias = "dict[str, tuple[int, Dims | None]]"


def value_types(model: onnx.ModelProto) -> Types:
    """Element types and dimensions of the main graph's values by name; 0 and None where they are unknown.

    Raises:
        ModelError: the types contradict each other, or the model is too large for ONNX's type inference.
    """
    model = _without_negative(model)
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # of several types, from C++ behind Python
        raise ModelError(f"the types of the model's values are unknown: {first_line(error)}") from error
    found: Types = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        tensor = info.type.tensor_type
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim)
        found[info.name] = (tensor.elem_type, dims if tensor.HasField("shape") else None)
    found.update((tensor.name, (tensor.data_type, tuple(tensor.dims))) for tensor in graph.initializer)
    return found


def _without_negative(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy in which axes of length -1 are free: type inference would compute with that number."""

    def negative(graph: onnx.GraphProto) -> list[onnx.TensorShapeProto.Dimension]:
        infos = (*graph.input, *graph.value_info, *graph.output)
        return [dim for info in infos for dim in info.type.tensor_type.shape.dim if dim.dim_value < 0]

    if not negative(model.graph):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for dim in negative(copy.graph):
        dim.Clear()
    return copy
