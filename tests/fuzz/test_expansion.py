"""The short form of the table of expansion in ``make torture``."""

from __future__ import annotations

import pytest

from cerwu_onnx.model import bounds

from . import expansion
from .expansion import Row

SCALE = 300


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return expansion.bombs(SCALE)


def test_names_that_references_stand_for_are_bounded(files: dict[str, bytes]) -> None:
    row = expansion.measure("decompress", "one name", files["one name"])
    assert row.code == 0
    assert row.written > bounds.NAMES / 2, "it goes to the limit"
    assert row.written < bounds.most_names(row.read) + 1032 * row.read


def test_a_bomb_ends_before_it_is_built(files: dict[str, bytes]) -> None:
    idle = expansion.measure("verify", "", files["raw tensors"])
    for bomb in ("too much of one name", "too many nodes"):
        row = expansion.measure("verify", bomb, files[bomb], idle.memory)
        assert row.code == 4
        assert row.written == 0
        assert row.memory < 32 << 20
        assert row.lines < 20 * bounds.most_fields(row.read)


def test_the_table_has_the_worst_of_each() -> None:
    rows = [Row("verify", "a", 10, 100, 1000, 50, 0), Row("verify", "b", 100, 200, 20_000, 100, 0)]
    rows += [Row(entry, "c", 1, 2, 3, 4, 0) for entry in expansion.ENTRIES if entry != "verify"]
    lines = {line[:18].strip(): line.split() for line in expansion.table(rows).splitlines()}
    assert lines["verify"][1:] == ["10", "(a)", "200", "(b)", "5", "(a)"]
    assert set(lines) == {"entry point", *expansion.ENTRIES}
