"""A model without its tensors, and the way back: docs/format.md, "Graph section" (before compression)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from cerwu_onnx.elements import FLOATS, UNLOADED, fill_coded, loaded, placeholder, stored_floats
from cerwu_onnx.errors import CorruptFileError, ModelError, UsageError
from cerwu_onnx.onnx_io import (
    MAX_BYTES,
    all_messages,
    all_tensors,
    bodies,
    constant_tensors,
    value_of,
    without_initializers,
)

_EXTERNAL = onnx.TensorProto.EXTERNAL
_MAX_RANK = 8
_MAX_NAME = 1024
_STANDARD = ("", "ai.onnx")
_MAX_OPERATOR = 32
_REFERENCE = re.compile(r"([+-])?([0-9]{0,9})", re.ASCII)


def container_tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The float tensors that may stand in the directory by name, in the order of their placeholders.

    These are the main graph's float constants (float32, float16, float64, bfloat16) that :func:`fits_directory`:
    initializers, then Constant nodes.
    """
    constants = constant_tensors(model).items()
    return {name: tensor for name, tensor in constants if tensor.data_type in FLOATS and fits_directory(name, tensor)}


def fits_directory(name: str, tensor: onnx.TensorProto) -> bool:
    """Whether the directory can express a tensor: not empty, of rank 8 at most, with a name of at most 1024 bytes."""
    return (
        len(tensor.dims) <= _MAX_RANK
        and 0 < math.prod(tensor.dims) < 2**31
        and 0 < len(name.encode()) <= _MAX_NAME
        and "\0" not in name
    )


def stored_tensor(tensor: onnx.TensorProto) -> tuple[int, npt.NDArray[Any]]:
    """A float tensor as the directory stores it exactly.

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
    """Serialize the model with placeholders instead of some of its tensors.

    What a program needs neither to run the model nor to address it is left out everywhere: documentation, inferred
    types (``value_info``), the producer, names of graphs, nodes and tensors inside attributes. The names of tensors
    become short references; :func:`join` restores those of inputs, outputs, initializers, the constants taken out, and
    all that the model mentions elsewhere (quantization annotations, sharding, bodies of custom operators), and invents
    the others. Attributes are sorted by name. Equal models give equal bytes.

    Args:
        model: the model; it is not changed.
        names: constants of the main graph, initializers first, in the model's order.
        coded: placeholders of those that are not stored as they are (:func:`cerwu_onnx.elements.placeholder`).

    Raises:
        UsageError: a name is unknown, twice or out of order.
        ModelError: the model's own tensors carry the mark of placeholders, or a name is not UTF-8.
    """
    given = list(names)
    marks = dict.fromkeys(given, placeholder(onnx.TensorProto(data_type=onnx.TensorProto.FLOAT))) | dict(coded or {})
    order = [name for name in constant_tensors(model) if name in marks]
    if order != given:
        raise UsageError("the tensors to take out must be constants of the main graph, each once, in its order")
    initializers = [tensor.name for tensor in model.graph.initializer]
    skeleton = without_initializers(model, initializers)
    for tensor in model.graph.initializer:
        skeleton.graph.initializer.add().CopyFrom(onnx.TensorProto() if tensor.name in marks else loaded(tensor))
    for tensor in all_tensors(skeleton):
        if tensor.data_location == _EXTERNAL:
            tensor.CopyFrom(loaded(tensor))
            if tensor.data_location == _EXTERNAL:
                raise ModelError(f"tensor {tensor.name!r} {UNLOADED}")
    for name, tensor, _ in _places(skeleton, initializers):
        if name in marks:
            tensor.CopyFrom(marks[name])
    _strip(skeleton)
    try:
        _shorten(skeleton, initializers)
    except UnicodeError as error:
        raise ModelError(f"a name in the model is broken: {error}") from None
    return bytes(skeleton.SerializeToString(deterministic=True))


def join(
    skeleton: bytes,
    tensors: Iterable[tuple[str, int, npt.NDArray[Any]]],
    keep: Callable[[onnx.TensorProto, bytes], bool] | None = None,
) -> onnx.ModelProto:
    """Put tensors back in the place of the placeholders.

    Args:
        skeleton: from :func:`split`.
        tensors: name, element type and values (dtypes of :func:`stored_tensor`) in the order of the
            placeholders; coded ones as float32. They are asked for one after the other.
        keep: called with each initializer and its elements; true if it has put them elsewhere. (Protobuf gives memory
            of fields back with the message only.)

    Raises:
        CorruptFileError: the bytes are no model, its placeholders or references do not match the tensors, or it
            refers to files.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(skeleton)
        strings = _strings(model)
    except (DecodeError, UnicodeError) as error:
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
            tensor.raw_data = raw
        if node is not None and node.output:
            constants.append((node, name))
    if given != len(places):
        raise CorruptFileError(
            f"the graph section has {len(places)} placeholders for {given} tensors: the file is damaged"
        )
    if outside:
        raise CorruptFileError("the graph section refers to data outside the file: do not trust it")
    _lengthen(model, constants, strings)
    model.producer_name = "cerwu-onnx"
    for message in all_messages(model):
        if isinstance(message, onnx.GraphProto) and not message.name:
            message.name = "graph"
    return model


def _fill(tensor: onnx.TensorProto, name: str, element: int, values: npt.NDArray[Any]) -> bytes:
    """Make a placeholder a tensor without elements; these are returned."""
    dtype = FLOATS.get(element)
    if dtype is None or values.dtype.itemsize != dtype.itemsize:
        raise CorruptFileError(f"tensor {name!r}: {values.dtype} values do not fit element type {element}")
    if tensor.data_type:
        try:
            if element != onnx.TensorProto.FLOAT:
                raise ValueError("values that are not float32")
            raw = fill_coded(tensor, values)
        except ValueError as error:
            raise CorruptFileError(
                f"tensor {name!r}: the graph section asks for {error}: the file is damaged"
            ) from None
    else:
        tensor.Clear()
        tensor.data_type = element
        tensor.dims.extend(values.shape)
        raw = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    tensor.name = name
    return raw


def _places(
    model: onnx.ModelProto, initializers: Iterable[str] | None = None
) -> Iterator[tuple[str, onnx.TensorProto, onnx.NodeProto | None]]:
    """Where placeholders may stand, in order: name, tensor, the Constant node it sits in.

    ``initializers`` are names that take the places of those that tensors may have lost.
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
        elif isinstance(message, onnx.GraphProto | onnx.NodeProto):
            message.ClearField("name")
        if isinstance(message, onnx.NodeProto):
            message.attribute.sort(key=lambda attribute: attribute.name)
            if not message.domain:
                message.ClearField("domain")  # absent and empty are the same
            if message.domain in _STANDARD:
                for attribute in message.attribute:
                    if attribute.HasField("t"):
                        attribute.t.ClearField("name")


def _rename(model: onnx.ModelProto, change: Callable[[str], str]) -> None:
    """Pass every name that the skeleton codes through ``change``, in the order of docs/format.md.

    These are the inputs and outputs of nodes, of functions, and of the bodies of standard operators, which all
    bind by position. Empty names stand for nothing and stay.
    """

    def values(infos: Iterable[onnx.ValueInfoProto]) -> None:
        for info in infos:
            info.name = info.name and change(info.name)

    def strings(names: Any) -> None:
        names[:] = [name and change(name) for name in names]

    def nodes(of: Iterable[onnx.NodeProto]) -> None:
        for node in of:
            strings(node.input)
            for body in bodies(node):
                by_position = node.domain in _STANDARD
                values(body.input if by_position else ())
                nodes(body.node)
                values(body.output if by_position else ())
            strings(node.output)

    nodes(model.graph.node)
    for function in model.functions:
        strings(function.input)
        nodes(function.node)
        strings(function.output)


def _ends(model: onnx.ModelProto) -> list[str]:
    """The names known before the first node: outputs, then inputs of the main graph, each once."""
    return list(dict.fromkeys(value.name for value in (*model.graph.output, *model.graph.input)))


def _strings(model: onnx.ModelProto) -> set[str]:
    """Every string in the model, whatever it means; not those of string tensors.

    Raises:
        UnicodeError: one is not UTF-8.
    """
    found: set[str] = set()
    for message in all_messages(model):
        for field, value in message.ListFields():
            if field.type == field.TYPE_STRING:
                texts: Any = (value,) if isinstance(value, str | bytes) else value
                if any(isinstance(text, bytes) for text in texts):  # what protobuf makes of strings it cannot decode
                    raise UnicodeError(f"{field.full_name} is not UTF-8")
                found.update(texts)
        if isinstance(message, onnx.AttributeProto):
            found.update(text.decode(errors="replace") for text in (message.s, *message.strings))
    return found


def _shorten(model: onnx.ModelProto, initializers: Sequence[str]) -> None:
    """Replace names by references, as docs/format.md describes them.

    The references follow the names alone, never what they mean where: equal names have equal references resolved to
    equal names, in whatever scopes they stand, so that no rule of ONNX about scopes needs to be known here.
    """
    others = onnx.ModelProto()
    others.CopyFrom(model)
    _rename(others, lambda _: "")
    fixed = _strings(others)
    index = {name: i for i, name in enumerate(initializers)}
    seen = {name: i for i, name in enumerate(_ends(model))}
    last = -1

    def shorten(name: str) -> str:
        nonlocal last
        if name in index:
            step, last = index[name] - last, index[name]
            return {1: "+", -1: "-"}.get(step, f"{step:+}")
        if name in seen:
            return str(len(seen) - seen[name])
        if name in fixed:
            return f"'{name}"
        seen[name] = len(seen)
        return "0"

    _rename(model, shorten)


def _lengthen(model: onnx.ModelProto, constants: Sequence[tuple[onnx.NodeProto, str]], strings: set[str]) -> None:
    """Replace references by names; names that were lost become operator and number.

    Args:
        model: the skeleton with all else restored.
        constants: the Constant nodes that define a tensor of the directory, and its name.
        strings: those of the skeleton.

    Raises:
        CorruptFileError: a reference leads nowhere, or the names would not fit a model.
    """
    initializers = [tensor.name for tensor in model.graph.initializer]
    names = {str(i): name for i, name in enumerate(_ends(model))}
    known, last = len(names), -1

    def identify(reference: str) -> str:
        """A reference that does not depend on where it stands: a number, that of an initializer with a sign."""
        nonlocal known, last
        if reference.startswith("'"):
            return reference
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise CorruptFileError(f"the graph section has a malformed name {reference[:40]!r}: the file is damaged")
        sign, digits = match.groups()
        if sign:
            last += int(sign + (digits or "1"))
            if not 0 <= last < len(initializers):
                raise CorruptFileError("the graph section refers to an initializer it has not: the file is damaged")
            return f"+{last}"
        back = int(digits)
        if back > known:
            raise CorruptFileError("the graph section refers to a name it has not: the file is damaged")
        known += not back
        return str(known - (back or 1))

    _rename(model, identify)
    names |= {f"+{i}": name for i, name in enumerate(initializers)}
    for node, name in constants:
        names.setdefault(node.output[0], name)
    taken = strings | {text[1:] for text in strings} | set(names.values())
    for part in (model.graph, *model.functions):
        for node in all_messages(part):
            for identity in node.output if isinstance(node, onnx.NodeProto) else ():
                if identity not in names:
                    names[identity] = _free(f"{node.op_type[:_MAX_OPERATOR]}_{identity}", taken)
    size = 0

    def lengthen(identity: str) -> str:
        nonlocal size
        literal = identity.startswith("'")
        name = identity[1:] if literal else names.get(identity, "")
        if not (name or literal):  # once: a file may make it collide with many others
            name = names[identity] = _free(f"input_{identity}", taken)
        size += len(name)
        if size > MAX_BYTES:
            raise CorruptFileError("the names of the graph section exceed 2 GB: the file is damaged")
        return name

    _rename(model, lengthen)


def _free(name: str, taken: set[str]) -> str:
    """The name, lengthened until it is not among those taken."""
    while name in taken:
        name += "_"
    return name


__all__ = ["container_tensors", "fits_directory", "join", "split", "stored_tensor"]
