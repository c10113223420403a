"""Texts and tables."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from cerwu_onnx.cli import console, tables
from cerwu_onnx.cli import text as texts


def draw(renderable: object, width: int) -> list[str]:
    """The lines a terminal of that width shows."""
    stream = io.StringIO()
    Console(file=stream, width=width).print(renderable)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("abcdefgh", 8, "abcdefgh"),
        ("abcdefghi", 8, "abc…fghi"),
        ("abcdefghi", 5, "ab…hi"),
        ("a\nb", 9, "a\\nb"),
    ],
)
def test_names_are_cut_in_the_middle(text: str, width: int, expected: str) -> None:
    assert texts.shorten(text, width) == expected


def test_names_are_cut_where_they_stay_different() -> None:
    names = [f"network/conv_{index}/BiasAdd_weights_fused_bn" for index in range(9)]
    assert texts.shorten_all(names, 24)[4] == "network/conv_4…_fused_bn"
    assert texts.shorten_all(["a" * 30, "short"], 8) == ["aaa…aaaa", "short"]
    assert texts.shorten_all([], 8) == []


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, "0%"),
        (1e-9, "<0.01%"),
        (0.00012345, "0.0123%"),
        (0.0123, "1.23%"),
        (0.5, "50.0%"),
        (0.9996, "100%"),
        (12.0, "1200%"),
        (float("nan"), "NaN"),
        (float("inf"), "inf%"),
    ],
)
def test_percentages(share: float, expected: str) -> None:
    assert texts.percent(share) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1,024 bytes (1 KiB)"),
        (1103541, "1,103,541 bytes (1.05 MiB)"),
        (1023 << 10, "1,047,552 bytes (1023 KiB)"),
        (5 << 40, "5,497,558,138,880 bytes (5120 GiB)"),
    ],
)
def test_sizes(count: int, expected: str) -> None:
    assert texts.size(count) == expected


def test_shapes_and_counts() -> None:
    assert [texts.dims(shape) for shape in ((), (3,), (16, 3, 3, 3))] == ["scalar", "3", "16x3x3x3"]
    assert [texts.counted(n, "layer") for n in (0, 1, 1000)] == ["0 layers", "1 layer", "1,000 layers"]


def test_only_flexible_columns_give_way() -> None:
    columns = [
        tables.Column("name", flexible=True),
        tables.Column("shape"),
        tables.Column("bytes", right=True),
    ]
    rows = [("x" * 100, "512x512x3x3", "2,359,296"), ("short", "1", "4")]
    lines = draw(tables.grid(columns, {"": rows}, 50, total=("2 layers", "", "2,359,300")), 50)
    assert max(map(len, lines)) == 50
    assert lines[2].endswith("…" + "x" * 13 + "  512x512x3x3  2,359,296")
    assert lines[-1].startswith("2 layers")
    assert lines[-1].endswith("2,359,300")


def test_two_flexible_columns_share() -> None:
    columns = [tables.Column("a", flexible=True), tables.Column("b", flexible=True)]
    lines = draw(tables.grid(columns, {"": [("x" * 100, "y" * 20)]}, 60), 60)
    assert lines[-1].split() == ["x" * 18 + "…" + "x" * 19, "y" * 20]


def test_json_is_strict() -> None:
    value = {"a": np.float32(1.5), "b": (np.int64(2), float("nan")), "c": float("inf"), "d": None, "e": True}
    assert json.loads(json.dumps(console._strict(value), allow_nan=False)) == {
        "a": 1.5,
        "b": [2, None],
        "c": None,
        "d": None,
        "e": True,
    }
