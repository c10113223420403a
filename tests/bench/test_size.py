"""The table of differences that ``make size`` prints, on made-up figures."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .size_changes import FIGURES, HEADER, changes
from .size_rows import Row, committed

ROW = {
    "target": "Cortex-M4",
    "level": "-Os",
    "option": "",
    "coder": "ans",
    "payload": "2 bits",
    "weights": 100,
    "entropy": 2.25,
    "bits_per_weight": 2.3,
    "instructions": 24.7,
    "instructions_checked": 59.6,
    "instructions_float": None,
    "code": 2368,
    "const": 88,
    "code_whole": 5554,
    "const_whole": 866,
    "ram": 456,
    "stack": 184,
    "stack_checked": 408,
}
BUILD = ["Cortex-M4", "-Os", ""]


def row(**changed: Any) -> dict[str, Any]:
    return ROW | changed


def lines(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[list[str]]:
    header, *rest = changes(old, new)
    assert header == HEADER
    return rest


def test_every_figure_of_a_row_is_compared() -> None:
    keys = {"target", "level", "option", "coder", "payload"}
    assert {field.name for field in dataclasses.fields(Row)} == keys | FIGURES.keys()
    assert ROW.keys() == keys | FIGURES.keys()


def test_no_difference_is_said_of_each_build() -> None:
    both = [row(), row(payload="3 bits"), row(level="-O2"), row(option="CWB_NO_TRELLIS")]
    assert lines(both, list(reversed(both))) == [
        ["Cortex-M4", "-Os", "CWB_NO_TRELLIS", "", "", "no difference", "", "", ""],
        ["Cortex-M4", "-O2", "", "", "", "no difference", "", "", ""],
        [*BUILD, "", "", "no difference", "", "", ""],
    ]


def test_old_and_new_and_difference() -> None:
    old = [row(), row(coder="adaptive", code=2558, stack=228), row(level="-O2")]
    new = [
        row(code=2380, code_whole=5566, instructions=24.4),
        row(coder="adaptive", code=2558, code_whole=5566, stack=220),
        row(level="-O2"),
    ]
    assert lines(old, new) == [
        [*BUILD, "", "", "all code", "5,554", "5,566", "+12"],
        [*BUILD, "ans", "", "least code", "2,368", "2,380", "+12"],
        [*BUILD, "adaptive", "", "stack", "228", "220", "-8"],
        [*BUILD, "ans", "2 bits", "instructions", "24.7", "24.4", "-0.3"],
        ["Cortex-M4", "-O2", "", "", "", "no difference", "", "", ""],
    ]


@pytest.mark.parametrize("field", FIGURES)
def test_no_figure_is_passed_over(field: str) -> None:
    value: float = ROW[field] if ROW[field] is not None else 1.0  # type: ignore[assignment]
    ((*_, figure, old, new, difference),) = lines([row(**{field: value})], [row(**{field: value + 1})])
    assert (figure, old, new, difference) == (FIGURES[field][0], f"{value:,}", f"{value + 1:,}", f"{type(value)(1):+}")


def test_stack_is_the_most_of_all_payloads() -> None:
    old = [row(stack=100), row(payload="3 bits", stack=184)]
    assert lines(old, [row(stack=120), row(payload="3 bits", stack=184)])[0][5] == "no difference"
    assert lines(old, [row(stack=100), row(payload="3 bits", stack=188)]) == [
        [*BUILD, "ans", "", "stack", "184", "188", "+4"]
    ]


def test_what_only_one_side_has() -> None:
    old, new = [row(), row(target="MIPS32")], [row(), row(target="RV32IMC")]
    found = lines(old, new)
    assert found[0] == [*BUILD, "", "", "no difference", "", "", ""]
    assert ["RV32IMC", "-Os", "", "ans", "", "least code", "-", "2,368", ""] in found
    assert ["MIPS32", "-Os", "", "ans", "", "least code", "2,368", "-", ""] in found
    assert not any("float32" in line[5] for line in found)  # neither has it
    assert lines([row()], [row(instructions_float=150.0)]) == [
        [*BUILD, "ans", "2 bits", "instructions, float32", "-", "150.0", ""]
    ]


def test_compared_with_the_last_commit_not_with_the_file(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    path = tmp_path / "size.json"
    path.write_text(json.dumps({"rows": [ROW]}))
    assert committed(path) is None
    try:
        subprocess.run([*git, "init", "-q"], check=True)
    except FileNotFoundError:
        pytest.skip("no git: install it to read committed figures")
    assert committed(path) is None
    subprocess.run([*git, "add", "size.json"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "a"], check=True)
    path.write_text(json.dumps({"rows": [row(code=1)]}))
    assert committed(path) == [ROW]
