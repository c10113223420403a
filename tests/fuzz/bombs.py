"""Files that say much in few bytes: each goes to a limit of docs/format.md, or beyond it.

Contents of packed sections are coded whatever :func:`cerwu_onnx.container.packed.pack` would do with them. A content
that compresses well exceeds what its few bytes may stand for, so there are two kinds: *small* files as they are, and
*padded* ones, to which noise is added until the limits that grow with a section count for more than their constants.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from functools import cache

from cerwu_onnx import native
from cerwu_onnx.container.packed import encode_plain, most_content
from cerwu_onnx.container.primer import PRIMER
from cerwu_onnx.model import bounds

from ..hostile import make

METADATA = 2**20
"""Bytes that the metadata's content may have."""

DEPTH = 64
"""Levels of its objects and arrays."""

Build = Callable[[int, int], bytes]
"""Makes a content of at most so many bytes, so many of which are noise."""


def packed(content: bytes) -> bytes:
    """The payload of a section whose content is coded, at any ratio."""
    code = (native.pack if native.available() else encode_plain)(content, PRIMER)
    return make.varint(len(content)) + code


@cache
def full(build: Build, noise: int, most: int = 2**31) -> bytes:
    """A payload with so many bytes of noise, whose content is as long as the format allows."""
    size = len(packed(build(min(most, most_content(noise)), noise)))
    content = build(min(most, most_content(size)), noise)
    payload = packed(content)
    assert len(content) <= most_content(len(payload)), "nothing that readers refuse for its size"
    return payload


def graph(repeated: bytes, around: Callable[[bytes], bytes] = lambda nodes: nodes, each: int = 1) -> Build:
    """A graph in which a field is repeated, as often as the limits allow.

    Args:
        repeated: the field.
        around: makes of the repeated fields what the graph has.
        each: fields of protobuf that one of them is.
    """

    def build(size: int, noise: int) -> bytes:
        filling = make.field(5000, random.Random(noise).randbytes(noise)) if noise else b""
        fields = (bounds.most_fields(noise) - 30) // each
        count = max(0, min(fields, (size - noise - 200) // len(repeated)))
        return make.graph(around(repeated * count)) + filling

    return build


def zeros(size: int, noise: int) -> bytes:
    """A graph with a tensor of zeros inside."""
    filling = random.Random(noise).randbytes(noise)
    count = (size - noise - 100) // 4 * 4
    tensor = make.field(1, make.varint(count // 4)) + b"\x10\1" + make.field(8, b"t") + make.field(9, bytes(count))
    return make.graph(make.field(5, tensor)) + make.field(5000, filling)


def text(before: str, repeated: str, after: str) -> Build:
    """Metadata in which a text is repeated; noise are hexadecimal digits."""

    def build(size: int, noise: int) -> bytes:
        filling = random.Random(noise).randbytes(noise).hex()
        head = '{"n":"' + filling + '","tool":[' + before
        return (head + repeated * ((size - len(head) - len(after) - 2) // len(repeated)) + after + "]}").encode()

    return build


def io_value(number: int, name: bytes) -> bytes:
    """An input (11) or output (12) of the graph: a float."""
    return make.field(number, make.field(1, name) + make.field(2, make.field(1, b"\x08\x01\x12\x00")))


ENDS = io_value(11, b"x") + io_value(12, b"y")
RELU = make.field(1, make.field(1, b"1") + make.field(2, b"0") + make.field(4, b"Relu"))
IF = 22
"""Graphs within each other: protobuf reads a hundred messages, of which each takes four."""
GRAPHS: dict[str, Build] = {
    "empty nodes": graph(b"\x0a\0"),
    "nodes": graph(RELU, lambda nodes: nodes + ENDS, each=4),
    "deep graphs": graph(b"\x0a\0", lambda nodes: deep(IF, nodes)),
    "strings": graph(make.field(1, make.field(3, b"_")), each=2),
    "zeros in the graph": zeros,
}
TEXTS: dict[str, Build] = {
    "metadata of lists": text("", "[],", "[]"),
    "deep metadata": text("", "[" * (DEPTH - 2) + "]" * (DEPTH - 2) + ",", "[]"),
    "metadata of controls": text('"', "\\u001b", '"'),
}
PADDED = ("empty nodes", "deep metadata")
"""Those that are worst as they are, once more with noise."""


def deep(levels: int, inner: bytes) -> bytes:
    """The fields of a graph, within bodies of nodes."""
    for _ in range(levels):
        inner = make.field(1, make.field(4, b"Loop") + make.field(5, make.field(1, b"g") + make.field(6, inner)))
    return inner


def one_name(section: int) -> Build:
    """References to one long name, as many as may stand for as much as a graph of so many bytes allows."""

    def build(_: int, noise: int) -> bytes:
        long = b"n" * 5000
        many = (bounds.most_names(section) - 10_000) // len(long)
        users = make.field(1, make.field(1, b"1") * many + make.field(2, b"'y") + make.field(4, b"Sum"))
        filling = make.field(5000, random.Random(noise).randbytes(noise))
        return make.graph(io_value(11, long) + io_value(12, b"y") + users) + filling

    return build


def names_in_the_graph(scale: int) -> bytes:
    """Tensors without elements, whose names of 1024 bytes stand in the graph section."""
    count = scale // 8
    names = b"".join(make.varint(1024) + b"\x1b" * 1018 + b"%06d" % i for i in range(count))
    noise = random.Random(1).randbytes(len(names) // 1000)
    places = make.field(5, b"\x70\1") * count
    section = packed(names + make.graph(places + ENDS) + make.field(5000, noise))
    return make.seal(*[make.raw((0,), b"")] * count, make.record(make.GRAPH, section))


def coded_zeros(count: int) -> bytes:
    """A tensor of zeros that takes no payload."""
    fields = make.varint(count) + b"\0" + struct.pack("<f", 1.0) + make.varint(0)
    tensor = make.record(make.ANS + 1, b"", fields, values=bytes(2 * count))
    section = packed(make.graph(make.field(5, b"\x70\1") + ENDS))
    return make.seal(tensor, make.record(make.GRAPH, section), make.record(make.NAMES, b"\x01w"))


def raw_tensors(scale: int) -> bytes:
    """Many names of control characters."""
    many = scale // 140 + 1
    wide = [b"\x1b" * 100 + str(i).encode() for i in range(many)]
    named = make.record(make.NAMES, b"".join(make.varint(len(name)) + name for name in wide))
    return make.seal(*[make.raw((4,), bytes(16))] * many, named)


def bombs(scale: int) -> dict[str, bytes]:
    """Files within the limits, of some dozens of bytes or about ``scale``, by what is in them."""
    files = {name: make.seal(make.record(make.GRAPH, full(build, 0))) for name, build in GRAPHS.items()}
    files |= {name: make.seal(make.record(make.METADATA, full(build, 0, METADATA))) for name, build in TEXTS.items()}
    for name in PADDED:
        build = GRAPHS.get(name) or TEXTS[name]
        kind, most = (make.GRAPH, 2**31) if name in GRAPHS else (make.METADATA, METADATA)
        files[f"padded {name}"] = make.seal(make.record(kind, full(build, scale, most)))
    return files | {
        "one name": make.seal(make.record(make.GRAPH, full(one_name(40), 0))),
        "padded one name": make.seal(make.record(make.GRAPH, full(one_name(scale), scale))),
        "names in the graph": names_in_the_graph(scale),
        "coded zeros": coded_zeros(scale << 9),
        "raw tensors": raw_tensors(scale),
    }


def refused(scale: int) -> dict[str, bytes]:
    """Files beyond a limit, by which one; packed contents are what their sizes say."""
    lists = TEXTS["metadata of lists"]
    noise = make.field(5000, random.Random(2).randbytes(scale))
    empty = make.graph(b"\x0a\0" * (bounds.most_fields(scale) + 100 * scale)) + noise
    name = make.graph(io_value(11, b"n" * 1000) + make.field(1, make.field(1, b"1") * (1100 + 2 * scale))) + noise
    return {
        "a content of a thousand times the section": make.seal(make.record(make.GRAPH, packed(bytes(2**17)))),
        "metadata of the same": make.seal(make.record(make.METADATA, packed(lists(2**18, 0)))),
        "metadata of 2 MB": make.seal(make.record(make.METADATA, packed(lists(2**21, scale)))),
        "too many nodes": make.seal(make.record(make.GRAPH, packed(empty))),
        "too much of one name": make.seal(make.record(make.GRAPH, packed(name))),
        "metadata too deep": make.seal(
            make.record(make.METADATA, packed(json.dumps({"a": 0}).encode()[:5] + b"[" * 60_000))
        ),
    }
