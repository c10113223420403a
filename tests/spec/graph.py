"""The graph section: the model that a file holds. The second half of docs/format.md, with protobuf messages of onnx."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from . import container
from .refused import Refused, refuse_if

T = onnx.TensorProto
FLOATS = {T.FLOAT16: "<e", T.DOUBLE: "<d"}
INTEGERS = {
    T.INT8: (1, -(2**7), 2**7 - 1),
    T.INT16: (2, -(2**15), 2**15 - 1),
    T.INT32: (4, -(2**31), 2**31 - 1),
    T.INT64: (8, -(2**63), 2**63 - 1),
    T.UINT8: (1, 0, 2**8 - 1),
    T.UINT16: (2, 0, 2**16 - 1),
    T.UINT32: (4, 0, 2**32 - 1),
    T.UINT64: (8, 0, 2**64 - 1),
}
"""Bytes, least and largest number of each type of whole bytes."""
BITS_OF_A_BYTE = (T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ, getattr(T, "FLOAT8E8M0", 24))
PARTS = {
    T.UINT4: (4, 0, 15),
    T.INT4: (4, -8, 7),
    T.FLOAT4E2M1: (4, 0, 15),
    25: (2, 0, 3),
    26: (2, -2, 1),
}
"""Bits, least and largest number of each type of which several share a byte; 25 and 26 are UINT2 and INT2."""
STANDARD = ("", "ai.onnx")
LOST = "\0lost "
"""What an invented name begins with here: no model's own name does, as NUL is in none that onnx reads."""


def model(file: container.File) -> onnx.ModelProto:
    """The model of a file; names that are lost are LOST and a number.

    Raises:
        Refused: A reader must refuse the file, or there is no model in it.
    """
    section = file.section(container.GRAPH)
    if section is None:
        raise Refused("a file without a graph")
    source = container.Bytes(file.unpacked(section))
    names = file.names()
    if file.section(container.NAMES) is None:
        names = container.read_names(source, len(file.tensors))
    assert names is not None
    content = source.data[source.at :]
    refuse_if(fields(content, onnx.ModelProto.DESCRIPTOR) > 2**17 + 32 * len(section), "limit of fields")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
        check_strings(model)
    except DecodeError:
        raise Refused("not an ONNX model") from None
    constants = [(node, value) for node in model.graph.node for value in value_of(node) if is_placeholder(value)]
    marks = [tensor for tensor in model.graph.initializer if is_placeholder(tensor)]
    places = [*marks, *(value for _, value in constants)]
    refuse_if(len(places) != len(file.tensors), "placeholders for other tensors")
    for mark, record in zip(places, file.tensors, strict=True):
        fill(mark, file, record)
    for mark, name in zip(marks, names, strict=False):
        mark.name = name
    refuse_if(any(t.data_location == T.EXTERNAL for t in tensors(model)), "data outside the file")
    resolve(
        model,
        [(node, name) for (node, _), name in zip(constants, names[len(marks) :], strict=True)],
        2**20 + 1024 * len(section),
    )
    for graph in graphs(model):
        graph.name = graph.name or "graph"
    return model


def fields(content: bytes, kind: Any) -> int:
    """The fields of a serialized message and of the messages in it."""
    source, count = container.Bytes(content), 0
    while source.at < len(content):
        tag = long_varint(source)
        count += 1
        inside = kind.fields_by_number.get(tag >> 3)
        if tag & 7 == 0:
            long_varint(source)
        elif tag & 7 == 2:
            part = source.take(long_varint(source))
            count += fields(part, inside.message_type) if inside is not None and inside.message_type else 0
        else:
            refuse_if(tag & 7 not in (1, 5), "a group")
            source.take(8 if tag & 7 == 1 else 4)
    return count


def long_varint(source: container.Bytes) -> int:
    """A varint of protobuf: up to 64 bits, in any form."""
    value = 0
    for shift in range(0, 70, 7):
        byte = source.u8()
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise Refused("a varint without end")


def value_of(node: onnx.NodeProto) -> list[onnx.TensorProto]:
    """The tensor in the `value` of a Constant node of ONNX's own domain; none for others."""
    if node.op_type != "Constant" or node.domain not in STANDARD:
        return []
    return [a.t for a in node.attribute if a.name == "value" and a.HasField("t")][:1]


def is_placeholder(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == T.EXTERNAL and not tensor.external_data


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and all bodies."""
    stack = [(model.graph, model.graph.node), *((None, function.node) for function in model.functions)]
    while stack:
        graph, nodes = stack.pop()
        if graph is not None:
            yield graph
        stack += [(body, body.node) for node in nodes for body in bodies(node)]


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [g for a in node.attribute for g in ([a.g] if a.HasField("g") else []) + list(a.graphs)]


def tensors(message: object) -> Iterator[onnx.TensorProto]:
    """All tensors in a message, at any depth."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for descriptor, value in message.ListFields():  # type: ignore[attr-defined]
        if descriptor.type == descriptor.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from tensors(part)


def check_strings(message: object) -> None:
    """All strings must be UTF-8; protobuf gives the others as bytes."""
    for descriptor, value in message.ListFields():  # type: ignore[attr-defined]
        parts = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        if descriptor.type == descriptor.TYPE_STRING:
            refuse_if(any(isinstance(part, bytes) for part in parts), "a string that is not UTF-8")
        elif descriptor.type == descriptor.TYPE_MESSAGE:
            for part in parts:
                check_strings(part)


def fill(mark: onnx.TensorProto, file: container.File, record: container.Record) -> None:
    """Put a tensor of the directory in its place."""
    kind, dims, offsets = mark.data_type, list(mark.dims), list(mark.int64_data)
    name = "float32" if record.is_coded else container.ELEMENT_TYPES[record.head >> 3][0]
    if kind:
        refuse_if(name != "float32", "another type asked of values that are not float32")
        kind, dims, content = converted(floats(file, record), record.dims, kind, dims, offsets)
    elif record.is_coded:
        kind, dims = T.FLOAT, record.dims
        content = struct.pack(f"<{record.elements}f", *floats(file, record))
    else:
        dims, content = record.dims, record.payload
        kind = T.DOUBLE if name == "float64" else T.DataType.Value("FLOAT" if name == "float32" else name.upper())
    mark.Clear()
    mark.data_type, mark.raw_data = kind, content
    mark.dims.extend(dims)


def floats(file: container.File, record: container.Record) -> list[float]:
    """The values of a coded tensor, or of a raw one of float32."""
    if record.is_coded:
        return [struct.unpack("<f", struct.pack("<f", v))[0] for v in file.values(record)]
    return list(struct.unpack(f"<{record.elements}f", record.payload))


def converted(
    values: list[float], shape: list[int], kind: int, dims: list[int], offsets: list[int]
) -> tuple[int, list[int], bytes]:
    """Type, dimensions and bytes of values of this shape in the type that their placeholder says."""
    if kind in (T.FLOAT, T.BFLOAT16, *FLOATS):
        refuse_if(bool(dims) or offsets not in ([], [0]), "integers asked of a float type")
        refuse_if(not all(math.isfinite(v) for v in values), "a value that is not finite")
        return kind, shape, b"".join(rounded(v, kind) for v in values)
    refuse_if(len(offsets) > 1, "more than one number to add")
    refuse_if(not all(math.isfinite(v) and v == int(v) for v in values), "values that are no integers")
    numbers = [int(v) + (offsets[0] if offsets else 0) for v in values]
    if dims:
        refuse_if(kind != T.UINT8, "halves of another type")
        product = 1
        for dim in dims:
            refuse_if(dim < 0, "a dimension below 0")
            product *= dim
        refuse_if(product * 2 != len(numbers), "halves for other bytes")
        refuse_if(not all(0 <= v <= 15 for v in numbers), "a half that does not fit")
        return kind, dims, packed(numbers, 4)
    if kind in PARTS:
        bits, least, most = PARTS[kind]
        refuse_if(not all(least <= v <= most for v in numbers), "a number that does not fit its type")
        return kind, shape, packed([v & 2**bits - 1 for v in numbers], bits)
    if kind == T.BOOL or kind in BITS_OF_A_BYTE:
        size, least, most = 1, 0, 1 if kind == T.BOOL else 255
    else:
        refuse_if(kind not in INTEGERS, "a type that is no type of numbers")
        size, least, most = INTEGERS[kind]
    refuse_if(not all(least <= v <= most for v in numbers), "a number that does not fit its type")
    return kind, shape, b"".join(v.to_bytes(size, "little", signed=least < 0) for v in numbers)


def packed(numbers: list[int], bits: int) -> bytes:
    """Numbers of so many bits in bytes, the first one lowest; zeros fill the last byte."""
    whole = sum(number << bits * i for i, number in enumerate(numbers))
    return whole.to_bytes((bits * len(numbers) + 7) // 8, "little")


def rounded(value: float, kind: int) -> bytes:
    """A float32 number in another type of floats, rounded to nearest even."""
    if kind == T.BFLOAT16:
        bits = int.from_bytes(struct.pack("<f", value), "little")
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        refuse_if(bits & 0x7F80 == 0x7F80, "a value that is not finite in its type")
        return struct.pack("<H", bits)
    try:
        return struct.pack(FLOATS.get(kind, "<f"), value)
    except OverflowError:
        raise Refused("a value that is not finite in its type") from None


def visit(model: onnx.ModelProto, change: Callable[[str], str]) -> None:
    """Put another text in the place of each reference, in the order of the page."""

    def texts(of: list[str]) -> None:
        of[:] = [text and change(text) for text in of]

    def node(of: onnx.NodeProto) -> None:
        texts(of.input)
        for body in bodies(of):
            coded = of.domain in STANDARD
            for value in body.input if coded else []:
                value.name = value.name and change(value.name)
            for inner in body.node:
                node(inner)
            for value in body.output if coded else []:
                value.name = value.name and change(value.name)
        texts(of.output)

    for outer in model.graph.node:
        node(outer)
    for function in model.functions:
        texts(function.input)
        for inner in function.node:
            node(inner)
        texts(function.output)


def resolve(model: onnx.ModelProto, constants: list[tuple[onnx.NodeProto, str]], most: int) -> None:
    """Names from references. ``constants`` are nodes whose first output has the name of a tensor;
    ``most`` bounds the bytes of all names."""
    known = list(dict.fromkeys(value.name for value in [*model.graph.output, *model.graph.input]))
    ends = len(known)
    initializers = [tensor.name for tensor in model.graph.initializer]
    last = -1

    def name(reference: str) -> str:
        nonlocal last
        if reference == "0":
            known.append(f"{LOST}{len(known) - ends}")
            return known[-1]
        if reference[0] == "'":
            return reference[1:]
        if re.fullmatch(r"[+-][0-9]{0,9}", reference):
            last += int(reference[0] + (reference[1:] or "1"))
            refuse_if(not 0 <= last < len(initializers), "a reference to no initializer")
            return initializers[last]
        refuse_if(not re.fullmatch(r"[1-9][0-9]{0,8}", reference), "damage in place of a reference")
        refuse_if(int(reference) > len(known), "a reference to a name it has not")
        return known[-int(reference)]

    visit(model, name)
    own: dict[str, str] = {}
    for node, tensor in constants:
        if node.output and node.output[0].startswith(LOST):
            own.setdefault(node.output[0], tensor)
    size = 0

    def final(text: str) -> str:
        nonlocal size
        size += len(own.get(text, text).encode())
        refuse_if(size > most, "limit of names")
        return own.get(text, text)

    visit(model, final)
