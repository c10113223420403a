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
