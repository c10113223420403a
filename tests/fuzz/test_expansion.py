"""The short form of the table of expansion in ``make torture``."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from cerwu_onnx.container import packed, reader
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.model import bounds
from cerwu_onnx.opened import CompressedModel

from . import bombs, expansion
from .expansion import Row

SCALE = 300
REFUSED = bombs.refused(SCALE)
TOO_LARGE = ("a content of a thousand times the section", "metadata of the same", "metadata of 2 MB")


@cache
def files() -> dict[str, bytes]:
    return bombs.bombs(SCALE)


def payload_of(data: bytes) -> bytes:
    """That of the only packed section."""
    (record,) = (record for record in reader.parse(data).records if record.kind.is_packed)
    return data[record.offset :][: record.size]


@pytest.mark.parametrize("name", [*bombs.GRAPHS, *bombs.TEXTS, *(f"padded {name}" for name in bombs.PADDED)])
def test_bombs_are_packed_and_go_to_a_limit(name: str) -> None:
    """To that of the content's size, or to that of the fields."""
    payload = payload_of(files()[name])
    assert payload[:1] != packed.STORED
    most = packed.most_content(len(payload))
    content = packed.unpack(payload, most)
    if name.removeprefix("padded ") in bombs.GRAPHS:
        fields = bounds.count_fields(content, most)
        assert fields > 0.95 * bounds.most_fields(len(payload)) or len(content) > 0.95 * most
    else:
        assert len(content) > 0.95 * min(most, bombs.METADATA)


def test_bombs_are_read() -> None:
    for name, data in files().items():
        CompressedModel(reader.parse(data)).verify()
        assert len(data) < 3 * SCALE, name


@pytest.mark.parametrize("name", list(REFUSED))
def test_beyond_the_limits_they_are_refused(name: str) -> None:
    with pytest.raises(CorruptFileError, match=r"more than|exceed|deeper"):
        CompressedModel(reader.parse(REFUSED[name])).verify()


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_content_beyond_its_limit_is_refused_before_a_byte_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for decoder in ("native.unpack", "decode_plain"):
        monkeypatch.setattr(f"cerwu_onnx.container.packed.{decoder}", None)
    with pytest.raises(CorruptFileError, match="do not trust it"):
        CompressedModel(reader.parse(REFUSED[name])).verify()


def test_names_that_references_stand_for_are_bounded() -> None:
    row = expansion.measure("decompress", "one name", files()["one name"])
    assert row.code == 0
    assert row.written > 0.98 * bounds.NAMES, "it goes to the limit"
    assert row.written < bounds.most_names(row.read) + packed.most_content(row.read)


def test_a_bomb_ends_before_it_is_built() -> None:
    idle = expansion.measure("verify", "", files()["raw tensors"])
    for bomb in ("too much of one name", "too many nodes"):
        row = expansion.measure("verify", bomb, REFUSED[bomb], idle=idle)
        assert row.code == 4
        assert row.written == 0
        assert row.memory < 32 << 20
        assert row.lines < 20 * bounds.most_fields(row.read)


def test_the_graph_in_c_keeps_to_the_limits(tmp_path: Path) -> None:
    command = expansion.compiled(tmp_path)
    row = expansion.measure(expansion.C, "zeros", files()["zeros in the graph"], command)
    assert row.code == 0
    assert row.written > 60_000
    assert row.written < row.memory < 64 << 20, "its own, not that of the parent"
    graphs = [name for name in REFUSED if not name.startswith("metadata")]
    assert [expansion.measure(expansion.C, name, REFUSED[name], command).code for name in graphs] == [4] * 3


def test_the_table_has_the_worst_of_each() -> None:
    rows = [Row("verify", "a", 10, 100, 1000, 0.5, 0, 0), Row("verify", "b", 100, 200, 20_000, 1.0, 0, 0)]
    rows += [Row(expansion.C, "c", 1, 2, 3, 0.004, 0, 0)]
    assert expansion.table(rows).splitlines()[2:] == [
        "| verify | 10 (a) | 200 (b) | 50.0 (a) |",
        f"| {expansion.C} | 2 (c) | 3 (c) | 4.0 (c) |",
    ]
