"""The graph in C and in Python take and refuse the same fields: of every message, with every wire type, also twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from cerwu_onnx.container import writer
from cerwu_onnx.container.dictionary import deflate

from ..fuzz.wire import varint
from ..hostile import make
from ..hostile.make import field
from .conftest import DECODER
from .onnx_library import Given
from .test_onnx import check, graph_section, program

__all__ = ["program"]

UNKNOWN = (5000, 2**29 - 1)
"""Numbers of fields that no message of ONNX has."""

CONTENTS = (b"", b"a", b"\xff", b"\x08\x01", b"\x0b\x0c", b"\x0c", b"\x07", b"\x0a\x02a", b"\x00\x01", b"\x80")
"""What a field may hold: texts and not, messages and not, groups, a tag without a number, half a number."""

LONG = b"\xff" * 9
VALUES = {
    0: (b"\0", b"\x80\0", LONG + b"\1", LONG + b"\2", LONG + b"\xff\1", b""),
    1: (bytes(8), bytes(7)),
    2: (*(varint(len(c)) + c for c in CONTENTS), b"\2a", b"\x80\0", b"\x80\x80\x80\x80\0", b"\x80\x80\x80\x80\x80\0"),
    3: (b"", b"\x0b"),
    4: (b"",),
    5: (bytes(4), bytes(3)),
    6: (b"",),
    7: (b"",),
}
"""By wire type, what may follow a tag."""

TAGS = (
    b"\x88\0\1",
    b"\x88\x80\x80\x80\0\1",
    b"\x88\x80\x80\x80\x10\1",
    b"\x88\x80\x80\x80\x80\0\1",
    b"\0\1",
    b"\x02\0",
)
"""Fields whose tags are longer than need be, too long, or have no number."""

Way = tuple[int, ...]


def places() -> Iterator[tuple[Any, Way]]:
    """Every message of ONNX, and the numbers of the fields through which one comes to it."""
    todo: list[tuple[Any, Way]] = [(onnx.ModelProto.DESCRIPTOR, ())]
    found = set()
    for kind, way in todo:
        if kind.full_name not in found:
            found.add(kind.full_name)
            yield kind, way
            todo += [(inner.message_type, (*way, inner.number)) for inner in kind.fields if inner.message_type]


KINDS = list(places())
WAYS = {kind.name: way for kind, way in KINDS}
every_message = pytest.mark.parametrize(("kind", "way"), KINDS, ids=[kind.full_name for kind, _ in KINDS])


def within(content: bytes, way: Way) -> bytes:
    """A model in which a message has this content."""
    for number in reversed(way):
        content = field(number, content)
    return b"\x08\x08" + content


def fields(number: int) -> Iterator[bytes]:
    """A field of this number, in every way that it may or may not be read."""
    for wire, values in VALUES.items():
        tag = varint(number << 3 | wire)
        yield from (tag + value for value in values)
        if wire == 3:
            yield from (
                tag + inner + varint(end << 3 | 4) for inner in (b"", b"\x08\1") for end in (number, number + 1)
            )


def read(program: Path, contents: list[bytes]) -> list[Given]:
    """What both make of graph sections, which must be the same."""
    return check(program, [(writer.assemble([graph_section(content)]), b"") for content in contents])


@every_message
def test_every_number_with_every_wire_type(program: Path, kind: Any, way: Way) -> None:
    numbers = [*range(1, max(kind.fields_by_number) + 2), *UNKNOWN]
    contents = [*TAGS, *(content for number in numbers for content in fields(number))]
    found = read(program, [within(content, way) for content in contents])
    assert {bool(given.error) for given in found} == {True, False}


@every_message
def test_fields_that_come_twice(program: Path, kind: Any, way: Way) -> None:
    """The last one counts, is added, or goes on with the first; of a oneof it takes the place of another one."""
    delimited = [f for f in kind.fields if f.type in (f.TYPE_STRING, f.TYPE_MESSAGE, f.TYPE_BYTES)]
    pairs = [
        within(field(a.number, first) + field(b.number, second), way)
        for a, b in product(delimited, repeat=2)
        if a is b or (a.containing_oneof and a.containing_oneof is b.containing_oneof)
        for first, second in product(CONTENTS[:6], repeat=2)
    ]
    found = read(program, pairs)
    assert not pairs or {bool(given.error) for given in found} == {True, False}


@every_message
def test_no_group_is_read(program: Path, kind: Any, way: Way) -> None:
    numbers = [*range(1, max(kind.fields_by_number) + 2), *UNKNOWN]
    groups = [varint(number << 3 | 3) + varint(number << 3 | 4) for number in numbers]
    assert all(given.error for given in read(program, [within(group, way) for group in groups]))


@every_message
def test_every_string_must_be_utf8(program: Path, kind: Any, way: Way) -> None:
    strings = [f.number for f in kind.fields if f.type == f.TYPE_STRING]
    assert all(given.error for given in read(program, [within(field(number, b"a\xff"), way) for number in strings]))


def test_a_message_that_another_one_replaces_counts(program: Path) -> None:
    """What is in it must be sound, and its strings are none of the model's."""
    text = field(7, field(1, b"\xff")) + field(4, b"")
    nested = field(4, field(1, field(1, b"\x0b\x0c"))) + field(1, b"")
    found = read(program, [within(content, WAYS["TypeProto"]) for content in (text, nested)])
    assert [bool(given.error) for given in found] == [False, True]


@pytest.mark.parametrize("number", [1, 4], ids=["a shape", "a sequence that is replaced"])
def test_fields_of_a_message_that_another_one_replaces_count(program: Path, number: int) -> None:
    shape = field(1, field(2, field(1, b"") * 200_000))
    content = within(shape if number == 1 else shape + field(number, b""), WAYS["TypeProto"])
    section = make.record(make.GRAPH, deflate(content, 9))
    (given,) = check(program, [(make.seal(section, version=1), b"")])
    assert given.error


def test_invented_names_differ_from_the_producer(program: Path) -> None:
    node = helper.make_node("Conv", [], ["0"])
    model = helper.make_model(helper.make_graph([node], "", [], []), producer_name="Conv_0")
    (given,) = read(program, [model.SerializeToString()])
    assert given.model
    rebuilt = onnx.ModelProto.FromString(given.model[0])
    assert rebuilt.graph.node[0].output == ["Conv_0_"]
    assert rebuilt.producer_name == "cerwu-onnx"


def test_texts_of_the_schema_are_those_of_onnx() -> None:
    """STRING fields must be UTF-8; TEXT ones are bytes that an invented name differs from: those of AttributeProto."""
    rows = re.findall(
        r"^    \{(\w+), (\d+), ([A-Z0-9_ |]+), \w+\},$", (DECODER / "host/cwb_schema.h").read_text(), re.MULTILINE
    )
    texts = {(message, int(number)) for message, number, kind in rows if "STRING" in kind.split(" | ")}
    strings = sorted(f.number for kind, _ in KINDS for f in kind.fields if f.type == f.TYPE_STRING)
    assert sorted(number for _, number in texts) == strings or onnx.__version__ < "1.2"
    loose = [(message, number) for message, number, kind in rows if "TEXT" in kind.split(" | ")]
    assert loose == [("CWB_ATTRIBUTE", "4"), ("CWB_ATTRIBUTE", "9")]
