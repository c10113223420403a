"""Take the tensors out of a model (its skeleton remains), and put them back (docs/format.md, "Graph section")."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from cerwu_onnx.errors import CorruptFileError, ModelError, UsageError, raise_if_out_of_memory
from cerwu_onnx.model.bounds import check_fields, most_names
from cerwu_onnx.model.elements import FLOATS, UNLOADED, loaded, stored_floats
from cerwu_onnx.model.placeholders import fill_coded, placeholder
from cerwu_onnx.model.references import restore_names, shorten_names, strings_of
from cerwu_onnx.model.tensors import all_messages, all_tensors, constant_tensors, value_of, without_initializers

_EXTERNAL = onnx.TensorProto.EXTERNAL
_MAX_RANK = 8
_MAX_NAME = 1024
_STANDARD = ("", "ai.onnx")


Elements: TypeAlias = bytes | memoryview
"""The elements of a tensor in the form of ``raw_data``."""


def container_tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The float tensors that the directory may hold, by name, in the order of their placeholders.

    These are the main graph's float constants (float32, float16, float64, bfloat16) that :func:`fits_directory`:
    initializers, then Constant nodes.
    """
    constants = constant_tensors(model).items()
    return {name: tensor for name, tensor in constants if tensor.data_type in FLOATS and fits_directory(name, tensor)}


def fits_directory(name: str, tensor: onnx.TensorProto) -> bool:
    """Whether the directory can hold a tensor: not empty, rank at most 8, a name of at most 1024 bytes."""
    return (
        len(tensor.dims) <= _MAX_RANK
        and 0 < math.prod(tensor.dims) < 2**31
        and 0 < len(name.encode()) <= _MAX_NAME
        and "\0" not in name
    )


def stored_tensor(tensor: onnx.TensorProto) -> tuple[int, npt.NDArray[Any]]:
    """A float tensor in the exact form of the directory.

    Returns:
        The element type (a number of ``TensorProto.DataType``) and the values, little-endian, bit for bit;
        bfloat16 as uint16.

    Raises:
        UsageError: it holds no floats.
    """
    if tensor.data_type not in FLOATS:
        raise UsageError(f"the tensor {tensor.name!r} holds no floats")
    return tensor.data_type, stored_floats(tensor)


def split(model: onnx.ModelProto, names: Iterable[str], coded: Mapping[str, onnx.TensorProto] | None = None) -> bytes:
    """Serialize the model with placeholders in place of some of its tensors.

    Whatever programs do not need to run the model or to address its values is left out: documentation, inferred
    types (``value_info``), the producer, names of graphs, nodes and tensors inside attributes. The names of tensors
    become short references. :func:`join` restores the names of inputs, outputs, initializers, the constants taken out,
    and all that the model mentions elsewhere (quantization annotations, sharding, bodies of custom operators); it makes
    up the other names. Attributes are sorted by name. Equal models give equal bytes.

    Args:
        model: the model; it is not changed.
        names: constants of the main graph, initializers first, in the model's order.
        coded: placeholders (:func:`cerwu_onnx.model.placeholders.placeholder`) of the tensors that are coded.

    Raises:
        UsageError: a name is unknown, given twice or out of order.
        ModelError: the model's own tensors look like placeholders, or a name is not UTF-8.
    """
    given = list(names)
    exact = placeholder(onnx.TensorProto(data_type=onnx.TensorProto.FLOAT))
    placeholders = dict.fromkeys(given, exact) | dict(coded or {})
    order = [name for name in constant_tensors(model) if name in placeholders]
    if order != given:
        raise UsageError("the tensors to take out must be constants of the main graph, each once, in its order")
    initializers = [tensor.name for tensor in model.graph.initializer]
    skeleton = without_initializers(model, initializers)
    for tensor in model.graph.initializer:
        skeleton.graph.initializer.add().CopyFrom(onnx.TensorProto() if tensor.name in placeholders else loaded(tensor))
    for tensor in all_tensors(skeleton):
        if tensor.data_location == _EXTERNAL:
            tensor.CopyFrom(loaded(tensor))
            if tensor.data_location == _EXTERNAL:
                raise ModelError(f"tensor {tensor.name!r} {UNLOADED}")
    for name, tensor, _ in _places(skeleton, initializers):
        if name in placeholders:
            tensor.CopyFrom(placeholders[name])
    _strip(skeleton)
    try:
        shorten_names(skeleton, initializers)
    except UnicodeError as error:
        raise ModelError(f"a name in the model is broken: {error}") from None
    return bytes(skeleton.SerializeToString(deterministic=True))


def join(
    skeleton: bytes,
    tensors: Iterable[tuple[str, int, npt.NDArray[Any]]],
    keep: Callable[[onnx.TensorProto, Elements], bool] | None = None,
    *,
    section: int | None = None,
) -> onnx.ModelProto:
    """Put tensors back in place of the placeholders.

    Args:
        skeleton: from :func:`split`.
        tensors: name, element type and values (dtypes of :func:`stored_tensor`) in the order of the
                placeholders; coded ones as float32. The iterator is read one tensor at a time.
        keep: called with each initializer and its elements; true if it has stored them elsewhere. (Protobuf frees the
            memory of fields only together with the message.)
        section: bytes that the skeleton takes in the file, which bound what may become of it; None if it is not
            deflated.

    Raises:
        CorruptFileError: the bytes are not a model, its placeholders or references do not match the tensors, it
            refers to files, or it exceeds a limit of docs/format.md.
    """
    section = len(skeleton) if section is None else section
    check_fields(skeleton, section)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(skeleton)
        strings = strings_of(model)
    except (DecodeError, UnicodeError) as error:
        raise_if_out_of_memory(error)
        raise CorruptFileError("the graph section is not an ONNX model: the file is damaged") from error
    places = [(tensor, node) for _, tensor, node in _places(model) if _is_placeholder(tensor)]
    outside = sum(tensor.data_location == _EXTERNAL for tensor in all_tensors(model)) - len(places)
    given = 0
    constants = []
    for given, (name, element, values) in enumerate(tensors, 1):
        if given > len(places):
            continue
        tensor, node = places[given - 1]
        raw = _fill(tensor, "" if node is not None else name, element, values)
        if keep is None or node is not None or not keep(tensor, raw):
            tensor.raw_data = bytes(raw)
        if node is not None and node.output:
            constants.append((node, name))
    if given != len(places):
        raise CorruptFileError(
            f"the graph section has {len(places)} placeholders for {given} tensors: the file is damaged"
        )
    if outside:
        raise CorruptFileError("the graph section refers to data outside the file: do not trust it")
    restore_names(model, constants, strings, most_names(section))
    model.producer_name = "cerwu-onnx"
    for message in all_messages(model):
        if isinstance(message, onnx.GraphProto) and not message.name:
            message.name = "graph"
    return model


def _fill(tensor: onnx.TensorProto, name: str, element: int, values: npt.NDArray[Any]) -> Elements:
    """Turn a placeholder into a tensor without elements, and return the elements, if possible without a copy."""
    dtype = FLOATS.get(element)
    if dtype is None or values.dtype.itemsize != dtype.itemsize:
        raise CorruptFileError(f"tensor {name!r}: {values.dtype} values do not fit element type {element}")
    if tensor.data_type:
        try:
            if element != onnx.TensorProto.FLOAT:
                raise ValueError("values that are not float32")
            raw: Elements = fill_coded(tensor, values)
        except ValueError as error:
            raise CorruptFileError(
                f"tensor {name!r}: the graph section asks for {error}: the file is damaged"
            ) from None
    else:
        tensor.Clear()
        tensor.data_type = element
        tensor.dims.extend(values.shape)
        raw = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
    tensor.name = name
    return raw


def _places(
    model: onnx.ModelProto, initializers: Iterable[str] | None = None
) -> Iterator[tuple[str, onnx.TensorProto, onnx.NodeProto | None]]:
    """All places where placeholders may stand, in order: name, tensor, and the Constant node around it.

    ``initializers`` are names for initializers that may have lost their own.
    """
    tensors = model.graph.initializer
    for name, tensor in zip([t.name for t in tensors] if initializers is None else initializers, tensors, strict=True):
        yield name, tensor, None
    for node in model.graph.node:
        value = value_of(node)
        if value is not None:
            yield node.output[0] if node.output else "", value, node


def _is_placeholder(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == _EXTERNAL and not tensor.external_data


def _strip(model: onnx.ModelProto) -> None:
    """Remove what a program does not need to run the model, and sort attributes, wherever they are."""
    for message in all_messages(model):
        fields = message.DESCRIPTOR.fields_by_name
        for field in ("doc_string", "value_info"):
            if field in fields:
                message.ClearField(field)
        if isinstance(message, onnx.ModelProto):
            message.ClearField("producer_name")
            message.ClearField("producer_version")
        elif "metadata_props" in fields:
            message.ClearField("metadata_props")  # notes of exporters and optimisers; those of the model are its user's
        if isinstance(message, onnx.GraphProto | onnx.NodeProto):
            message.ClearField("name")
        if isinstance(message, onnx.NodeProto):
            message.attribute.sort(key=lambda attribute: attribute.name)
            if not message.domain:
                message.ClearField("domain")  # absent and empty are the same
            if message.domain in _STANDARD:
                for attribute in message.attribute:
                    if attribute.HasField("t"):
                        attribute.t.ClearField("name")


__all__ = ["Elements", "container_tensors", "fits_directory", "join", "split", "stored_tensor"]
