"""The graph section: the model that a file holds. The second half of docs/format.md, with protobuf messages of onnx."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

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
HALVES = {T.UINT4: (0, 15), T.INT4: (-8, 7), T.FLOAT4E2M1: (0, 15)}
"""Least and largest number of each type of half a byte."""
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
    source = container.Bytes(container.inflate(section))
    names = file.names()
    if file.section(container.NAMES) is None:
        names = container.read_names(source, len(file.tensors))
    assert names is not None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(source.data[source.at :])
    except DecodeError:
        raise Refused("not an ONNX model") from None
    constants = [
        (node, attribute.t)
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value" and is_placeholder(attribute.t)
    ]
    marks = [tensor for tensor in model.graph.initializer if is_placeholder(tensor)]
    refuse_if(len(marks) + len(constants) != len(file.tensors), "placeholders for other tensors")
    for mark, record, name in zip(marks, file.tensors, names, strict=False):
        fill(mark, file, record)
        mark.name = name
    own = {}
    for (node, mark), record, name in zip(constants, file.tensors[len(marks) :], names[len(marks) :], strict=True):
        fill(mark, file, record)
        own[id(node)] = name
    refuse_if(any(t.data_location == T.EXTERNAL for t in tensors(model)), "data outside the file")
    References(model, {id(node): own[id(node)] for node, _ in constants}).resolve()
    for graph in graphs(model):
        graph.name = graph.name or "graph"
    return model


def is_placeholder(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == T.EXTERNAL and not tensor.external_data and not tensor.name


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


def fill(mark: onnx.TensorProto, file: container.File, record: container.Record) -> None:
    """Put a tensor of the directory in its place."""
    kind, dims, offsets = mark.data_type, list(mark.dims), list(mark.int64_data)
    said = onnx.TensorProto(data_type=kind, dims=dims, int64_data=offsets, data_location=T.EXTERNAL)
    if record.is_coded:
        refuse_if(mark != said and said.SerializeToString() != mark.SerializeToString(), "a placeholder that says more")
        values = file.values(record)
        kind, dims, content = converted(record, values, kind, dims, offsets)
    else:
        name, dims, content = container.ELEMENT_TYPES[record.head >> 3][0], record.dims, record.payload
        kind = T.DOUBLE if name == "float64" else T.DataType.Value("FLOAT" if name == "float32" else name.upper())
    mark.Clear()
    mark.data_type, mark.raw_data = kind, content
    mark.dims.extend(dims)


def converted(
    record: container.Record, values: list[int], kind: int, dims: list[int], offsets: list[int]
) -> tuple[int, list[int], bytes]:
    """Type, dimensions and bytes of a coded tensor in the type that its placeholder says."""
    floats = [struct.unpack("<f", struct.pack("<f", record.step * v))[0] for v in values]
    if kind in (0, T.FLOAT, T.BFLOAT16, *FLOATS):
        refuse_if(bool(dims or offsets), "integers asked of a float type")
        return kind or T.FLOAT, record.dims, b"".join(rounded(v, kind) for v in floats)
    refuse_if(len(offsets) > 1, "more than one number to add")
    refuse_if(any(v != int(v) for v in floats), "values that are no integers")
    numbers = [int(v) + (offsets[0] if offsets else 0) for v in floats]
    if dims:
        refuse_if(kind != T.UINT8, "halves of another type")
        product = 1
        for dim in dims:
            refuse_if(dim < 0, "a dimension below 0")
            product *= dim
        refuse_if(product * 2 != len(numbers), "halves for other bytes")
        refuse_if(not all(0 <= v <= 15 for v in numbers), "a half that does not fit")
        return kind, dims, halves(numbers)
    if kind in HALVES:
        least, most = HALVES[kind]
        refuse_if(not all(least <= v <= most for v in numbers), "a number that does not fit its type")
        return kind, record.dims, halves([v & 15 for v in numbers] + [0] * (len(numbers) % 2))
    if kind == T.BOOL or kind in BITS_OF_A_BYTE:
        size, least, most = 1, 0, 1 if kind == T.BOOL else 255
    else:
        refuse_if(kind not in INTEGERS, "a type that is no type of numbers")
        size, least, most = INTEGERS[kind]
    refuse_if(not all(least <= v <= most for v in numbers), "a number that does not fit its type")
    return kind, record.dims, b"".join(v.to_bytes(size, "little", signed=least < 0) for v in numbers)


def halves(numbers: list[int]) -> bytes:
    return bytes(low | high << 4 for low, high in zip(numbers[::2], numbers[1::2], strict=True))


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


class References:
    """Names from references, by a visit of the model."""

    def __init__(self, model: onnx.ModelProto, constants: dict[int, str]) -> None:
        self.model, self.constants = model, constants
        self.known = list(dict.fromkeys(v.name for v in [*model.graph.output, *model.graph.input]))
        self.initializers = [tensor.name for tensor in model.graph.initializer]
        self.last = -1
        self.lost = 0

    def resolve(self) -> None:
        for node in self.model.graph.node:
            self.node(node, self.constants.get(id(node)))
        for function in self.model.functions:
            self.each(function.input)
            for node in function.node:
                self.node(node)
            self.each(function.output)

    def node(self, node: onnx.NodeProto, own: str | None = None) -> None:
        self.each(node.input)
        for body in bodies(node):
            coded = node.domain in ("", "ai.onnx")
            for value in body.input if coded else []:
                value.name = self.name(value.name)
            for inner in body.node:
                self.node(inner)
            for value in body.output if coded else []:
                value.name = self.name(value.name)
        self.each(node.output, own)

    def each(self, references: list[str], first: str | None = None) -> None:
        for i, reference in enumerate(references):
            references[i] = self.name(reference, first if i == 0 else None)

    def name(self, reference: str, new: str | None = None) -> str:
        """The name that a reference stands for; ``new`` is the name of a tensor that `0` stands for."""
        if reference == "":
            return ""
        if reference == "0":
            if new is None:
                new, self.lost = f"{LOST}{self.lost}", self.lost + 1
            self.known.append(new)
            return new
        if reference[0] == "'":
            return reference[1:]
        if re.fullmatch(r"[+-][0-9]{0,9}", reference):
            self.last += int(reference[0] + (reference[1:] or "1"))
            refuse_if(not 0 <= self.last < len(self.initializers), "a reference to no initializer")
            return self.initializers[self.last]
        refuse_if(not re.fullmatch(r"[1-9][0-9]*", reference), "damage in place of a reference")
        refuse_if(int(reference) > len(self.known), "a reference to a name it has not")
        return self.known[-int(reference)]
