"""What the graph section of a file may become, bounded before it is built (docs/format.md, "Limits")."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import onnx

from cerwu_onnx.errors import CorruptFileError, ModelError

FIELDS, FIELDS_PER_BYTE = 2**17, 32
"""Fields that a graph may have, and how many more for each byte of its section."""

NAMES, NAMES_PER_BYTE = 2**20, 1024
"""Bytes of names that references may stand for, and how many more for each byte of the section."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf; the others are the ends of groups, which ONNX does not have, and readers refuse."""

_DEPTH = 100
"""Messages within each other that protobuf reads."""


def most_fields(section: int) -> int:
    """How many fields a graph may have whose section takes so many bytes of the file."""
    return FIELDS + FIELDS_PER_BYTE * section


def most_names(section: int) -> int:
    """How many bytes of names the references of such a graph may stand for, all together."""
    return NAMES + NAMES_PER_BYTE * section


def fits(skeleton: bytes, names: int, section: int) -> bool:
    """Whether a graph, whose references stand for so many bytes of names, may be a section of so many bytes.

    Raises:
        ModelError: it has a group, which no reader reads.
    """
    try:
        fields = count_fields(skeleton, most_fields(section))
    except CorruptFileError:
        raise ModelError("the model has groups of protobuf, which ONNX does not have: export it again") from None
    return fields <= most_fields(section) and names <= most_names(section)


def check_fields(content: bytes, section: int) -> None:
    """Check how many fields the messages of a serialized model have, all together. No message is built.

    Raises:
        CorruptFileError: they exceed the limit, or the bytes are no protobuf messages of ONNX.
    """
    if count_fields(content, most_fields(section)) > most_fields(section):
        raise CorruptFileError(
            f"the graph section of {section} bytes has more than {most_fields(section)} fields: do not trust it"
        )


def count_fields(content: bytes, most: int) -> int:
    """The fields in all messages of a serialized model, repeated ones each time; not counted further beyond ``most``.

    Raises:
        CorruptFileError: the bytes are no protobuf messages, or have groups.
    """
    count, at, end, inside = 0, 0, len(content), _messages(onnx.ModelProto.DESCRIPTOR)
    outer: list[tuple[int, Mapping[int, Any]]] = []
    try:
        while count <= most:
            while at == end and outer:
                end, inside = outer.pop()
            if at == end:
                return count
            tag, at = (content[at], at + 1) if content[at] < 128 else _varint(content, at)
            count += 1
            wire = tag & 7
            if wire == _VARINT:
                _, at = _varint(content, at)
            elif wire == _BYTES:
                size, at = (content[at], at + 1) if content[at] < 128 else _varint(content, at)
                child = inside.get(tag >> 3)
                if child is None or at + size > end or len(outer) == _DEPTH:
                    at += size
                else:
                    outer.append((end, inside))
                    end, inside = at + size, _messages(child)
            elif wire in (_FIXED64, _FIXED32):
                at += 8 if wire == _FIXED64 else 4
            else:
                at = end + 1
            if at > end:
                raise IndexError
    except IndexError:
        raise CorruptFileError("the graph section is not an ONNX model: the file is damaged") from None
    return count


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number at a place, and where the next one is."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise IndexError


@functools.cache
def _messages(descriptor: Any) -> Mapping[int, Any]:
    """By number, the fields of a message that hold messages, and what these are."""
    return {field.number: field.message_type for field in descriptor.fields if field.message_type is not None}
