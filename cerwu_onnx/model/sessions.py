"""Open onnxruntime sessions of models of any size: large tensors are passed beside the model, not inside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from cerwu_onnx.errors import ModelError, first_line, raise_if_out_of_memory
from cerwu_onnx.model.elements import elsewhere, storage_dtype, where
from cerwu_onnx.model.native_sessions import default_options, open_session
from cerwu_onnx.model.tensors import subgraph_reads, tensor_bytes, without_initializers

_LARGE = 1 << 16
"""A tensor of at least so many bytes is taken out of a model that is too large."""

_HEAVY = 1 << 27
"""A model of more bytes of initializers is too large: in a message, each would have two more copies for a while."""


def new_session(
    model: onnx.ModelProto,
    options: ort.SessionOptions | None = None,
    elements: Mapping[str, bytes | memoryview] | None = None,
    **keywords: Any,
) -> ort.InferenceSession:
    """Open a session, on the CPU unless the keywords name another provider, with ``session_threads`` threads.

    Args:
        model: from :mod:`cerwu_onnx.model.loading`, or a part of such a model.
        options: they may be changed.
        elements: elements of initializers that have none, by name, in the form of ``raw_data``.
        keywords: arguments for ``InferenceSession``.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    options = default_options() if options is None else options
    outside = _outside(model, elements or {})
    if not outside:
        return _opened(model, options, keywords)
    bare = without_initializers(model, outside)
    read = {value.name for value in model.graph.output}.union(
        *({*n.input, *subgraph_reads(n)} for n in model.graph.node)
    )
    values = []
    outside = {name: found for name, found in outside.items() if name in read}  # onnxruntime refuses others
    for tensor, array in outside.values():
        reference = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        reference.data_location = onnx.TensorProto.EXTERNAL
        reference.external_data.add(key="location", value="in memory")
        bare.graph.initializer.append(reference)
        values.append(ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, tensor.data_type))
    options.add_external_initializers(list(outside), values)
    session = _opened(bare, options, keywords)
    session._cerwu_arrays = [array for _, array in outside.values()]  # the session reads them while it lives
    return session


def loads(model: onnx.ModelProto) -> bool:
    """Whether onnxruntime accepts a model. Nothing is optimised, so no node runs."""
    options = default_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        new_session(model, options)
    except ModelError:
        return False
    return True


def _opened(model: onnx.ModelProto, options: ort.SessionOptions, keywords: dict[str, Any]) -> ort.InferenceSession:
    try:
        content = model.SerializeToString()
    except Exception as error:  # protobuf's exceptions have no common base but this
        raise_if_out_of_memory(error)
        raise ModelError(f"onnxruntime cannot load the model: {first_line(error)}") from error
    return open_session(content, options, keywords)


def _outside(
    model: onnx.ModelProto, elements: Mapping[str, bytes | memoryview]
) -> dict[str, tuple[onnx.TensorProto, np.ndarray[Any, Any]]]:
    """The initializers that are not in the model message (in files, given apart, or too large), and their elements."""
    tensors = list(model.graph.initializer)
    inside = sum(tensor_bytes(tensor) for tensor in tensors if not elsewhere(tensor))
    found: dict[str, tuple[onnx.TensorProto, np.ndarray[Any, Any]]] = {}
    for tensor in tensors:
        dtype, shape = storage_dtype(tensor.data_type), tuple(tensor.dims)
        if dtype is None:
            continue
        if tensor.name in elements:
            found[tensor.name] = tensor, np.frombuffer(elements[tensor.name], dtype).reshape(shape)
        elif elsewhere(tensor):
            path, offset, _ = where(tensor)
            found[tensor.name] = tensor, np.memmap(path, dtype, "r", offset, shape)
        elif inside > _HEAVY and len(tensor.raw_data) >= _LARGE:
            found[tensor.name] = tensor, np.frombuffer(tensor.raw_data, dtype).reshape(shape)
    return found
