"""What differs between two sets of rows of docs/benchmarks/size.json: a table for reviewers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

HEADER = ["target", "level", "option", "coder", "weights", "figure", "old", "new", "difference"]
BUILD = ("target", "level", "option")
"""What tells one build of the decoder from another."""

FIGURES = {
    # field of a row: its name, and what it depends on beside the build
    "code_whole": ("all code", ()),
    "const_whole": ("all const", ()),
    "code": ("least code", ("coder",)),
    "const": ("least const", ("coder",)),
    "stack": ("stack", ("coder",)),
    "stack_checked": ("stack, checked", ("coder",)),
    "instructions": ("instructions", ("coder", "payload")),
    "instructions_checked": ("instructions, checked", ("coder", "payload")),
    "instructions_float": ("instructions, float32", ("coder", "payload")),
    "ram": ("RAM", ("coder", "payload")),
    "weights": ("number", ("coder", "payload")),
    "entropy": ("entropy", ("coder", "payload")),
    "bits_per_weight": ("bits/weight", ("coder", "payload")),
}
"""Where rows differ in what a figure does not depend on, the largest counts, as in the tables of docs/mcu.md."""

Key = tuple[str, str, str]
"""Coder, payload (both empty where the figure does not depend on them), field."""


def changes(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """One line for each figure that differs; for a build without any, one that says so. The first line is the header.

    Args:
        old: rows, fields by name; fields that are none of a row's are passed over.
        new: the same. What only one of the two has is shown as "-" in the other.
    """
    before, after = _by_build(old), _by_build(new)
    table = [HEADER]
    for build in dict.fromkeys([*after, *before]):
        one, other = before.get(build, {}), after.get(build, {})
        lines = [
            [*build, *key[:2], FIGURES[key[2]][0], *_cells(one.get(key), other.get(key))]
            for key in sorted({**other, **one}, key=lambda key: list(FIGURES).index(key[2]))
            if one.get(key) != other.get(key)
        ]
        table += lines or [[*build, "", "", "no difference", "", "", ""]]
    return table


def _by_build(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, ...], dict[Key, float]]:
    """The figures of each build."""
    found: dict[tuple[str, ...], dict[Key, float]] = {}
    for row in rows:
        figures = found.setdefault(tuple(row[name] for name in BUILD), {})
        for field, (_, depends) in FIGURES.items():
            value = row.get(field)
            if value is not None:
                key = (*(row[name] if name in depends else "" for name in ("coder", "payload")), field)
                figures[key] = max(value, figures.get(key, value))
    return found


def _cells(old: float | None, new: float | None) -> list[str]:
    """Old, new, and new - old."""
    difference = "" if old is None or new is None else f"{round(new - old, 4):+,}"
    return [*("-" if value is None else f"{value:,}" for value in (old, new)), difference]
