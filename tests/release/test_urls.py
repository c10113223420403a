"""One address of the project, in every place that names one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from . import urls

PLACES = (
    *("pyproject.toml", "reader/pyproject.toml", "js/package.json", "CITATION.cff", "SECURITY.md"),
    *("decoder_c/library.json", "decoder_c/library.properties", "decoder_c/idf_component.yml"),
    *("docs/ci.md", "docs/releasing.md", ".github/ISSUE_TEMPLATE/config.yml"),
)
"""Files that must say where the project lives."""

ELSEWHERE = re.compile(r"(?:https?|git)\S*//(?!example\.com/OWNER/|github\.com/YOU/)[\w./-]*/cerwu-onnx\b")

needs_git = pytest.mark.skipif(
    shutil.which("git") is None or not (urls.ROOT / ".git").exists(), reason="no clone: git lists the files"
)


def address_in(text: str, address: str) -> bool:
    return address in text or urls.slug(address) in text


@pytest.mark.parametrize("place", PLACES)
def test_every_place_names_the_address(place: str) -> None:
    assert address_in((urls.ROOT / place).read_text(encoding="utf-8"), urls.current())


@needs_git
def test_no_other_address() -> None:
    address, found = urls.current(), []
    for path, text in urls.texts().items():
        rest = urls.moved(text, address, "https://example.com/OWNER/cerwu-onnx")
        found += [f"{path.relative_to(urls.ROOT)}: {match[0]}" for match in ELSEWHERE.finditer(rest)]
    assert [line for line in found if "pypi.org" not in line and "npmjs.com" not in line] == []


@needs_git
def test_moving_there_and_back() -> None:
    """Every file that names the address names the new one after the move, and is as it was after the way back."""
    old, new = urls.current(), "https://git.example.org/some-body/weights"
    for path, text in urls.texts().items():
        there = urls.moved(text, old, new)
        assert old not in there
        if address_in(text, old):
            assert there != text, path
        assert urls.moved(there, new, old) == text, path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uses: OWNER/cerwu-onnx@v1", "uses: me/small@v1"),
        ("see https://example.com/OWNER/cerwu-onnx/issues", "see https://github.com/me/small/issues"),
        ("git+https://example.com/OWNER/cerwu-onnx.git", "git+https://github.com/me/small.git"),
        ("OWNER/cerwu-onnx-reader and bin/OWNER/cerwu-onnx", "OWNER/cerwu-onnx-reader and bin/OWNER/cerwu-onnx"),
    ],
)
def test_what_moves(text: str, expected: str) -> None:
    old, new = "https://example.com/OWNER/cerwu-onnx", "https://github.com/me/small"
    assert urls.moved(text, old, new) == expected


@pytest.mark.parametrize("address", ["", "github.com/me/small", "https://github.com", "https://github.com/small"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(SystemExit, match="no address of a repository"):
        urls.main(address)


def test_main_writes_what_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, page = tmp_path / "pyproject.toml", tmp_path / "page.md"
    project.write_text('Repository = "https://example.com/OWNER/cerwu-onnx"\n')
    page.write_bytes(b"uses: OWNER/cerwu-onnx@v1\r\n")
    monkeypatch.setattr(urls, "ROOT", tmp_path)
    monkeypatch.setattr(urls, "current", lambda: "https://example.com/OWNER/cerwu-onnx")
    monkeypatch.setattr(urls, "texts", lambda: {path: path.read_bytes().decode() for path in (project, page)})
    urls.main("https://github.com/me/small.git")
    assert project.read_text() == 'Repository = "https://github.com/me/small"\n'
    assert page.read_bytes() == b"uses: me/small@v1\r\n"
