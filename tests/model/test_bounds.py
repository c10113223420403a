"""What a graph section may become is bounded before it is built, and what the writer writes keeps to the bounds."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest
from onnx import helper

from cerwu_onnx.compression import encode as encoder
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader
from cerwu_onnx.errors import CorruptFileError, ModelError
from cerwu_onnx.model import bounds
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.model.references import name_bytes
from cerwu_onnx.model.skeleton import join, split
from cerwu_onnx.model.tensors import all_messages
from cerwu_onnx.opened import CompressedModel

from ..models import build, conv_net, value


def fields(message: object) -> int:
    """Fields that a message and those in it have, by protobuf's own account."""
    count = 0
    for field, found in message.ListFields():
        parts = found if isinstance(found, list) or hasattr(found, "append") or hasattr(found, "add") else [found]
        count += 1 if field.GetOptions().packed else len(parts)
        count += sum(fields(part) for part in parts) if field.message_type is not None else 0
    return count


def chain(length: int, name: str = "x") -> onnx.ModelProto:
    """Relus one after the other, whose values are called ``name`` and a number."""
    names = ["x", *(f"{name}{i}" for i in range(length - 1)), "y"]
    return build(
        [helper.make_node("Relu", [names[i]], [names[i + 1]]) for i in range(length)], [value("x")], [value("y")], {}
    )


def test_fields_are_counted_without_building_messages() -> None:
    for model in (conv_net(), chain(50)):
        content = model.SerializeToString()
        assert bounds.count_fields(content, 10**6) == fields(model)
        assert bounds.count_fields(content, 20) == 21, "counting ends where the limit is exceeded"


@pytest.mark.parametrize("content", [b"\x0a", b"\x0a\x05a", b"\x80" * 11, b"\x0b\x0c", b"\x3a\x02\x0a\x01", b"\x0d\0"])
def test_what_is_no_protobuf_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptFileError, match="not an ONNX model"):
        bounds.count_fields(content, 100)


@pytest.mark.parametrize("inner", [b"\x12\x02ab", b"\x0a\x02\x08\x01"], ids=["a name", "a node"])
def test_what_ends_beyond_its_message_is_refused_at_once(inner: bytes) -> None:
    """Not when the bytes run out: the limit may be exceeded before."""
    with pytest.raises(CorruptFileError, match="not an ONNX model"):
        bounds.count_fields(b"\x3a\x02" + inner + b"\x08\x01" * 10, 2)


def test_empty_nodes_are_refused_before_they_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = b"\x0a\x00" * bounds.most_fields(1000)
    content = b"\x08\x08\x3a" + f.varint(len(nodes)) + nodes
    monkeypatch.setattr("cerwu_onnx.model.skeleton.onnx", None)
    with pytest.raises(CorruptFileError, match="more than 163072 fields"):
        join(content, [], section=1000)


def test_a_limit_on_names_holds_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build([helper.make_node("Sum", ["ü" * 500] * 3, ["y"])], [value("ü" * 500)], [value("y")], {})
    skeleton = split(model, [])
    monkeypatch.setattr(bounds, "NAMES_PER_BYTE", 0)
    monkeypatch.setattr(bounds, "NAMES", 3001)
    assert join(skeleton, []).graph.node[0].input[2] == "ü" * 500
    monkeypatch.setattr(bounds, "NAMES", 3000)
    with pytest.raises(CorruptFileError, match="exceed 3000 bytes"):
        join(skeleton, [])


def test_names_that_readers_invent_are_within_what_writers_count() -> None:
    model = chain(300)
    rebuilt = join(split(model, []), [])
    spelled = sum(len(name) for node in rebuilt.graph.node for name in (*node.input, *node.output))
    assert spelled < name_bytes(model)


def coded(model: onnx.ModelProto) -> bytes:
    return encoder.encode(analyse(model), {}, {}).content


def test_a_graph_that_compresses_like_a_bomb_is_written_without_compression(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain(2000)
    small = coded(model)
    monkeypatch.setattr(bounds, "FIELDS", 100)
    with pytest.raises(CorruptFileError, match="fields"):
        CompressedModel(reader.parse(small)).to_onnx()
    large = coded(model)
    assert len(large) > 20 * len(small)
    assert len(CompressedModel(reader.parse(large)).to_onnx().graph.node) == 2000


def test_a_model_of_endless_names_is_refused_when_it_is_written() -> None:
    model = build([helper.make_node("Sum", ["x" * 200_000] * 1000, ["y"])], [value("x" * 200_000)], [value("y")], {})
    skeleton = split(model, [])
    with pytest.raises(CorruptFileError, match="names of the graph section"):
        join(skeleton, [], section=1000)
    model.graph.node[0].input.extend(["x" * 200_000] * 2000)
    with pytest.raises(ModelError, match="shorten those of its values"):
        coded(model)


def test_a_model_with_a_group_is_refused_when_it_is_written() -> None:
    """No reader would read it."""
    model = conv_net()
    model.graph.node[0].MergeFromString(b"\xc3\xb8\x02\xc4\xb8\x02")
    with pytest.raises(ModelError, match="groups of protobuf"):
        coded(model)


@pytest.mark.parametrize("reference", ["00", "01", "1" * 10, "+" + "1" * 10, "x", "-x", "1x"])
def test_references_have_one_form(reference: str) -> None:
    model = build([helper.make_node("Relu", [reference], ["1"])], [value("x")], [value("y")], {})
    with pytest.raises(CorruptFileError, match="malformed name"):
        join(model.SerializeToString(), [])


def recursive(message: object) -> Iterator[object]:
    yield message
    for field, found in message.ListFields():
        if field.message_type is not None:
            for part in found if hasattr(found, "add") else [found]:
                yield from recursive(part)


def test_all_messages_are_visited_parents_first() -> None:
    model = conv_net()
    inner = model.graph
    for _ in range(30):
        node = helper.make_node("If", ["c"], ["d"])
        node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        inner.node.append(node)
        inner = inner.node[-1].attribute[0].g
    assert [str(m) for m in all_messages(model)] == [str(m) for m in recursive(model)]
