"""docs/security.md: promises are numbered from 1, and each names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs/security.md").read_text()


def names(path: Path) -> set[str]:
    """``test_x`` and ``TestY::test_z`` of a file."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def promises() -> list[str]:
    """The paragraphs that begin with a number."""
    return re.findall(r"^\d+\. .*?(?=^\d+\. |^#|^\S)", TEXT.partition("## Promises")[2], re.MULTILINE | re.DOTALL)


def test_promises_are_numbered() -> None:
    numbers = [int(promise.partition(".")[0]) for promise in promises()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 10


def test_each_promise_names_its_tests() -> None:
    for promise in promises():
        tests = re.findall(r"`(tests/\w[\w/]*\.py)(?:::([\w:]+))?`", promise.partition("Tests:")[2])
        assert tests, promise
        for file, name in tests:
            path = ROOT / file
            assert path.is_file(), file
            assert not name or name in names(path), f"{file} has no {name}"
            assert name or names(path)


def test_commands_are_those_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)`", TEXT)) <= targets
