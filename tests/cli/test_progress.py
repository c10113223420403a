"""What a user sees of a run's progress: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx.cli import console, lines
from cerwu_onnx.cli.bars import Bars
from cerwu_onnx.cli.lines import EVERY, ITEM_WIDTH, Lines

from ..classifiers import clouds, trained
from .conftest import Run


class Times:
    """A clock that is told the time."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_now_and_then(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Times()
    progress = Lines(console.note, clock)

    def at(seconds: float, *step: object) -> str:
        clock.now = 100 + seconds
        progress(*step)  # type: ignore[arg-type]
        return capfd.readouterr().err

    assert at(0, "load", 0, None, "m.onnx") == ""
    assert at(EVERY - 1, "measure", 0, None, "sensitivities") == ""
    assert at(EVERY, "measure", 0, None, "noise") == f"progress: {EVERY:.0f} s, measuring noise\n"
    assert at(EVERY + 1, "search", 1, None, "") == ""
    assert at(2 * EVERY, "quantize", 3, 9, "conv") == f"progress: {2 * EVERY:.0f} s, searching 1, quantising 3/9 conv\n"
    assert at(2 * EVERY + 1, "search", 2, None, "about 40 s to go") == ""
    shown = at(3 * EVERY, "quantize", 4, 9, "a" * 100)
    assert shown.startswith(f"progress: {3 * EVERY:.0f} s, searching 2 about 40 s to go, quantising 4/9 aaa")
    assert shown.count("a" * 3 + "…") == 1
    assert at(4 * EVERY, "search", 3, None, "about 20 s to go").endswith(" s, searching 3 about 20 s to go\n")
    assert at(4 * EVERY + 1, "search", 3, 3, "") == ""
    assert at(5 * EVERY, "encode", 0, None, "").endswith(" s, writing\n")


def test_nothing_but_lines_where_nobody_can_redraw(monkeypatch: pytest.MonkeyPatch) -> None:
    with console.progress(enabled=False) as progress:
        assert progress is None
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with console.progress(enabled=True) as progress:
        assert isinstance(progress, Lines)


def rows(bars: Bars) -> dict[str, tuple[bool, str, str]]:
    """Stage by stage: is it finished, its count, its item."""
    tasks = bars._drawing.tasks
    return {task.description: (task.finished, task.fields["count"], task.fields["item"]) for task in tasks}


def test_a_search_goes_on_while_layers_are_quantised() -> None:
    bars = Bars()
    bars("search", 1, None, "")
    bars("quantize", 9, 9, "")
    assert rows(bars) == {"searching": (False, "1", ""), "quantising": (True, "9/9", "")}
    bars("search", 2, None, "about 40 s to go")
    bars("quantize", 0, 9, "conv")
    assert rows(bars) == {"searching": (False, "2", "about 40 s to go"), "quantising": (False, "0/9", "conv")}
    bars("search", 2, 2, "")
    bars("encode", 0, None, "")
    assert [finished for finished, *_ in rows(bars).values()] == [True, True, False]


@pytest.mark.parametrize(("seconds", "said"), [(20.0, "about 40 s to go"), (600.0, "about 20 min to go")])
def test_the_time_of_a_search_is_told_ahead(
    seconds: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each judgement takes so long; the next one and the file take as long each."""
    clock, seen = Times(), []
    monkeypatch.setattr("cerwu_onnx.compression.model_quantizer.time.monotonic", clock)

    def progress(stage: str, done: int, total: int | None, item: str) -> None:
        if stage == "search" and "bytes" not in item:
            seen.append((done, total, item))
            clock.now += seconds

    onnx.save(trained(), tmp_path / "m.onnx")
    data = {"x": clouds(100, 4)[0]}
    cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib=data, progress=progress)
    assert seen[0] == (1, None, "")
    assert {item for _, total, item in seen[1:] if total is None} == {said}
    assert len(said) <= ITEM_WIDTH
    assert seen[-1] == (len(seen) - 1, len(seen) - 1, "")


def test_a_log_gets_a_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "EVERY", 0.0)
    onnx.save(trained(), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=clouds(100, 4)[0])
    words = ("compress", tmp_path / "m.onnx", tmp_path / "m.cwb", "-f", "--calib", tmp_path / "x.npz")
    shown = run(*words).err.splitlines()
    assert all(line.startswith("progress: ") for line in shown)
    assert any("searching 2 about " in line and "quantising" in line for line in shown)
    assert run(*words, "-q").err == ""
