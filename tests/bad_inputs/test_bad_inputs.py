"""Each bad input: the documented exit code, one clear line on stderr, no traceback, nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import onnx
import pytest

from ..cli.conftest import Run, run_process, small_model
from . import calls, data, models
from .case import Case, Place

CASES = [*models.CASES, *data.CASES, *calls.CASES]
PYTHON = re.compile(
    r"\w=(True|False|None)\b|\w=\)|\b[a-z]+_[a-z_]+=|\b[A-Z]\w+(Error|Exception)\b|NoneType|<class|cerwu_onnx\.|\.cpp|\.h:"
)
"""What only people know who write programs: arguments, exceptions, modules, places in sources."""

LONGEST = 1200
"""Characters of a line that somebody should read."""


@pytest.fixture
def place(tmp_path: Path, _calib: Path, _cwb: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "secret").write_bytes(bytes(4000))
    found = Place(tmp_path / "place")
    found.folder.mkdir()
    onnx.save(small_model(), found.model)
    shutil.copy(_calib, found.calib)
    shutil.copy(_cwb, found.cwb)
    monkeypatch.chdir(found.folder)
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # __pycache__ of the user's functions is Python's
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    paths = (Path(top) / name for top, folders, files in os.walk(folder) for name in (*folders, *files))
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in paths}


def check(case: Case, code: int, out: str, err: str) -> None:
    """What every answer has in common."""
    assert code == case.code, err
    assert not out
    lines = err.removesuffix("\n").split("\n")
    assert lines[-1].startswith("error: ")
    assert not lines[:-1] or (case.warned and all(line.startswith("warning: ") for line in lines[:-1])), err
    assert re.search(case.says, lines[-1]), err
    assert len(lines[-1]) <= LONGEST
    assert all(char.isprintable() for line in lines for char in line)
    assert "unexpected" not in err
    assert "Traceback" not in err
    assert not PYTHON.search(err) or "user.py" in err, err  # a function of the user's says what it says


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{n:03d} {case.title}" for n, case in enumerate(CASES, 1)])
def test_one_line_and_nothing_left(number: int, place: Place, tmp_path: Path, run: Run) -> None:
    case = CASES[number]
    arguments = case.arguments(place)
    before = contents(tmp_path)
    result = run(*arguments)
    check(case, result.code, result.out, result.err)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("title", ["a text for a model", "a data file that exits", "verify of a file cut in half"])
def test_the_same_as_a_process(title: str, place: Place) -> None:
    case = next(case for case in CASES if case.title == title)
    result = run_process(*case.arguments(place))
    check(case, result.code, result.out, result.err)


def test_numbers_stay() -> None:
    assert len(CASES) >= 180
    assert len({case.title for case in CASES}) == len(CASES)
