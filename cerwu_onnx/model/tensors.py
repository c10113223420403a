"""Look up and change the tensors, nodes' attributes and inputs in a model's protobuf messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from cerwu_onnx.errors import ModelError, UsageError
from cerwu_onnx.model.elements import FLOATS, float_tensor, loaded

Array: TypeAlias = npt.NDArray[Any]

MAX_BYTES = 2**31 - 1
"""Bytes of the largest model: protobuf cannot serialise more in one message."""

_BITS = {
    2: 8,
    3: 8,
    9: 8,
    4: 16,
    5: 16,
    10: 16,
    16: 16,
    1: 32,
    6: 32,
    12: 32,
    7: 64,
    11: 64,
    13: 64,
    14: 64,
    15: 128,
}
_BITS |= dict.fromkeys((17, 18, 19, 20, 24), 8) | dict.fromkeys((21, 22, 23), 4) | dict.fromkeys((25, 26), 2)


@dataclass(frozen=True, slots=True)
class InputInfo:
    """An input that a caller must feed.

    Attributes:
        name: the graph input's name.
        dtype: the numpy type that onnxruntime expects; object for strings.
        shape: one entry per axis, an int where the model fixes it, else the symbol's name or None; None if
            the model does not even say how many axes there are.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None


def all_messages(message: Any) -> Iterator[Any]:
    """The message itself and every protobuf message inside it, parents first."""
    open_messages = [iter((message,))]
    while open_messages:  # no recursion: work does not depend on the depth
        found = next(open_messages[-1], None)
        if found is None:
            open_messages.pop()
            continue
        yield found
        open_messages.append(_inside(found))


def _inside(message: Any) -> Iterator[Any]:
    for field, value in message.ListFields():
        if field.message_type is not None:
            yield from value if isinstance(value, Iterable) else (value,)


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every dense tensor: in initializers, attributes, bodies and local functions."""
    return (message for message in all_messages(model) if isinstance(message, onnx.TensorProto))


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Size in bytes of the tensor's elements, stored raw; strings count their text."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(len(text) for text in tensor.string_data)
    return (int(math.prod(tensor.dims)) * _BITS.get(tensor.data_type, 0) + 7) // 8


def type_name(elem_type: int) -> str:
    """``float32``, ``int64``, ...: the element type as people write it."""
    name = str(onnx.TensorProto.DataType.Name(elem_type)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def without_initializers(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """A copy of a model without some initializers of its main graph; their elements are never copied."""
    copy = onnx.ModelProto()
    _copy_fields(copy, model, "graph")
    _copy_fields(copy.graph, model.graph, "initializer")
    copy.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name not in names)
    return copy


def _copy_fields(target: Any, source: Any, without: str) -> None:
    for field, value in source.ListFields():
        if field.name == without:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def keep(items: Any, wanted: Callable[[Any], bool]) -> None:
    """Filter a repeated protobuf field in place."""
    kept = [item for item in items if wanted(item)]
    if len(kept) != len(items):
        copies = [type(item).FromString(item.SerializeToString()) for item in kept]
        del items[:]
        items.extend(copies)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def value_of(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor in a Constant node's ``value``; None for any other node or form."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    return next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)


def constant_tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The main graph's dense constants by name: initializers, then Constant nodes (by the node's output).

    Raises:
        ModelError: two of them share a name.
    """
    tensors: dict[str, onnx.TensorProto] = {}
    named = [(tensor.name, tensor) for tensor in model.graph.initializer]
    named += [(node.output[0], tensor) for node in model.graph.node if (tensor := value_of(node)) is not None]
    for name, tensor in named:
        if name in tensors:
            raise ModelError(f"the model defines the tensor {name!r} twice")
        tensors[name] = tensor
    return tensors


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def subgraph_reads(node: onnx.NodeProto) -> set[str]:
    """Names of the surrounding graph that the bodies of a node (If, Loop, Scan) read."""
    return set().union(*(_free_names(body) for body in bodies(node)))


def _free_names(body: onnx.GraphProto) -> set[str]:
    """Names that a body reads or returns without defining them."""
    defined = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    defined |= {sparse.values.name for sparse in body.sparse_initializer}
    read = {value.name for value in body.output}
    for node in body.node:
        defined.update(node.output)
        read.update(node.input)
        for inner in bodies(node):
            read |= _free_names(inner)
    return read - defined - {""}


def get_tensor(model: onnx.ModelProto, name: str) -> Array:
    """A copy of the main graph's constant ``name``.

    Raises:
        UsageError: there is none.
    """
    tensor = constant_tensors(model).get(name)
    if tensor is None:
        raise UsageError(f"the model has no constant tensor {name!r}")
    return np.array(numpy_helper.to_array(loaded(tensor)))


def with_tensors(model: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy of the model with new values of some constants, of the same type and shape.

    Values of any float type may be given as float32, which is rounded.

    Raises:
        UsageError: a name is unknown, or a value's shape or dtype differs from the tensor's.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = constant_tensors(copy)
    for name, value in values.items():
        if name not in tensors:
            raise UsageError(f"the model has no constant tensor {name!r}")
        tensor = tensors[name]
        if value.dtype == np.float32 and value.shape == tuple(tensor.dims) and tensor.data_type in FLOATS:
            tensor.CopyFrom(float_tensor(value, tensor.data_type, tensor.name))
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if value.shape != tuple(tensor.dims) or value.dtype != dtype:
            raise UsageError(
                f"tensor {name!r} is {dtype} {tuple(tensor.dims)}, its new value {value.dtype} {value.shape}"
            )
        set_tensor(tensor, value)
    return copy


def set_tensor(tensor: onnx.TensorProto, value: Array) -> None:
    """Replace shape, type and elements; name and documentation stay."""
    fresh = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), tensor.name)
    fresh.doc_string = tensor.doc_string
    tensor.CopyFrom(fresh)


def model_inputs(model: onnx.ModelProto) -> tuple[InputInfo, ...]:
    """The graph inputs that a caller must feed: those without an initializer.

    Raises:
        ModelError: an input is not a tensor, or of no type that ONNX knows.
    """
    given = {tensor.name for tensor in model.graph.initializer}
    given |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    return tuple(_input_info(value) for value in model.graph.input if value.name not in given)


def _input_info(value: onnx.ValueInfoProto) -> InputInfo:
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"the model's input {value.name!r} is not a tensor; only tensors can be fed")
    tensor = value.type.tensor_type
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        raise ModelError(f"the model's input {value.name!r} has the unknown element type {tensor.elem_type}") from None
    if not tensor.HasField("shape"):
        return InputInfo(value.name, dtype, None)
    return InputInfo(value.name, dtype, tuple(_length(dim) for dim in tensor.shape.dim))


def _length(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """The length of an axis, its symbol, or None; -1, which Paddle writes, stands for any length."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return dim.dim_param or None
