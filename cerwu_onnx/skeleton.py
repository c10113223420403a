"""A model without its tensors, and the way back: docs/format.md, "Graph section" (before compression)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from cerwu_onnx.errors import CorruptFileError, ModelError, UsageError
from cerwu_onnx.onnx_io import all_messages, all_tensors, constant_tensors, value_of

_EXTERNAL = onnx.TensorProto.EXTERNAL
_STORED: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype("<f4"),
    onnx.TensorProto.FLOAT16: np.dtype("<f2"),
    onnx.TensorProto.DOUBLE: np.dtype("<f8"),
    onnx.TensorProto.BFLOAT16: np.dtype("<u2"),
}
"""Element types of the directory and how their bits are held; bfloat16 as uint16."""

_MAX_RANK = 8
_MAX_NAME = 1024


def container_tensors(model: onnx.ModelProto) -> list[str]:
    """Names of the tensors that belong in the directory, in the order of their placeholders.

    These are the main graph's float constants (float32, float16, float64, bfloat16) that are not empty:
    initializers, then Constant nodes. What the directory cannot express (rank above 8, names of more than
    1024 bytes) stays in the skeleton, as do integers.
    """
    return [name for name, tensor in constant_tensors(model).items() if _fits_directory(name, tensor)]


def stored_tensor(model: onnx.ModelProto, name: str) -> tuple[int, npt.NDArray[Any]]:
    """A constant of the main graph as the directory stores it.

    Returns:
        The element type (a number of ``TensorProto.DataType``) and the values, little-endian, bit for bit;
        bfloat16 as uint16.

    Raises:
        UsageError: there is no such float constant.
    """
    tensor = constant_tensors(model).get(name)
    if tensor is None or tensor.data_type not in _STORED:
        raise UsageError(f"the model has no float constant {name!r}")
    dtype = _STORED[tensor.data_type]
    values: npt.NDArray[Any]
    if tensor.HasField("raw_data"):
        values = np.frombuffer(tensor.raw_data, dtype)
    elif tensor.data_type == onnx.TensorProto.FLOAT:
        values = np.asarray(tensor.float_data, dtype)
    elif tensor.data_type == onnx.TensorProto.DOUBLE:
        values = np.asarray(tensor.double_data, dtype)
    else:
        values = np.asarray(tensor.int32_data, np.int32).astype("<u2").view(dtype)
    return tensor.data_type, values.reshape(tuple(tensor.dims))


def split(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """Serialize the model with placeholders instead of some of its tensors.

    Documentation strings and inferred types (``value_info``) are left out everywhere; ``metadata_props``
    stay. Equal models give equal bytes.

    Args:
        model: the model; it is not changed.
        names: float constants of the main graph in the order of :func:`container_tensors`.

    Raises:
        UsageError: a name is unknown, twice or out of order.
        ModelError: the model's own tensors carry the mark of placeholders.
    """
    for tensor in all_tensors(model):
        if tensor.data_location == _EXTERNAL:
            raise ModelError(
                f"tensor {tensor.name!r} keeps its data in another file: load it into the model first "
                "(onnx.load does so)"
            )
    wanted = set(names)
    order = [name for name in constant_tensors(model) if name in wanted]
    if order != list(names):
        raise UsageError("the tensors to take out must be constants of the main graph, each once, in its order")
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model)
    for name, tensor, in_node in _places(skeleton):
        if name in wanted:
            kept_name = tensor.name if in_node else ""
            tensor.Clear()
            tensor.data_location = _EXTERNAL
            if kept_name:
                tensor.name = kept_name
    _strip(skeleton)
    return bytes(skeleton.SerializeToString(deterministic=True))


def join(skeleton: bytes, tensors: Iterable[tuple[str, int, npt.NDArray[Any]]]) -> onnx.ModelProto:
    """Put tensors back in the place of the placeholders.

    Args:
        skeleton: from :func:`split`.
        tensors: name, element type and values (dtypes of :func:`stored_tensor`) in the order of the
            placeholders.

    Raises:
        CorruptFileError: the bytes are no model, its placeholders do not match the tensors, or it refers to
            files.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(skeleton)
    except DecodeError as error:
        raise CorruptFileError("the graph section is not an ONNX model: the file is damaged") from error
    places = [(tensor, in_node) for _, tensor, in_node in _places(model) if _is_placeholder(tensor)]
    given = list(tensors)
    if len(places) != len(given):
        raise CorruptFileError(
            f"the graph section has {len(places)} placeholders for {len(given)} tensors: the file is damaged"
        )
    for (tensor, in_node), (name, element, values) in zip(places, given, strict=True):
        _fill(tensor, tensor.name if in_node else name, element, values)
    for tensor in all_tensors(model):
        if tensor.data_location == _EXTERNAL:
            raise CorruptFileError("the graph section refers to data outside the file: do not trust it")
    return model


def _fill(tensor: onnx.TensorProto, name: str, element: int, values: npt.NDArray[Any]) -> None:
    dtype = _STORED.get(element)
    if dtype is None or values.dtype.itemsize != dtype.itemsize:
        raise CorruptFileError(f"tensor {name!r}: {values.dtype} values do not fit element type {element}")
    tensor.Clear()
    tensor.name = name
    tensor.data_type = element
    tensor.dims.extend(values.shape)
    tensor.raw_data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _places(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto, bool]]:
    """Where placeholders may stand, in order: name, tensor, whether it sits in a Constant node."""
    for tensor in model.graph.initializer:
        yield tensor.name, tensor, False
    for node in model.graph.node:
        value = value_of(node)
        if value is not None:
            yield node.output[0] if node.output else "", value, True


def _is_placeholder(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == _EXTERNAL and not tensor.external_data


def _fits_directory(name: str, tensor: onnx.TensorProto) -> bool:
    return (
        tensor.data_type in _STORED
        and len(tensor.dims) <= _MAX_RANK
        and 0 < math.prod(tensor.dims) < 2**31
        and 0 < len(name.encode()) <= _MAX_NAME
        and "\0" not in name
    )


def _strip(model: onnx.ModelProto) -> None:
    """Remove what a program does not need to run the model, wherever it is."""
    for message in all_messages(model):
        fields = message.DESCRIPTOR.fields_by_name
        for field in ("doc_string", "value_info"):
            if field in fields:
                message.ClearField(field)


__all__ = ["container_tensors", "join", "split", "stored_tensor"]
