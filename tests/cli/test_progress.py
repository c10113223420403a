"""What a user sees of a run's progress: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import cerwu_onnx
from cerwu_onnx import Target
from cerwu_onnx.cli import console, lines
from cerwu_onnx.cli.bars import Bars
from cerwu_onnx.cli.lines import EVERY, ITEM_WIDTH, Lines
from cerwu_onnx.compression.target_search import TRIALS

from ..classifiers import clouds, trained
from .conftest import Run

DATA = {"x": clouds(100, 4)[0]}


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
    assert shown.startswith(f"progress: {3 * EVERY:.0f} s, searching 2, about 40 s to go, quantising 4/9 aaa")
    assert shown.count("a" * 3 + "…") == 1
    assert at(4 * EVERY, "search", 3, None, "about 20 s to go").endswith(" s, searching 3, about 20 s to go\n")
    assert at(4 * EVERY + 1, "search", 3, 3, "") == ""
    assert at(5 * EVERY, "encode", 0, None, "").endswith(" s, writing\n")


def test_what_a_search_says_of_its_time_comes_soon(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Times()
    progress = Lines(console.note, clock)
    for seconds, item, said in (
        (1, "about 9 s to go", False),  # over before anybody wonders
        (6, "", False),
        (7, "about 40 s to go", True),
        (14, "about 30 s to go", False),  # told once; then the usual lines
        (7 + EVERY, "about 20 s to go", True),
    ):
        clock.now = 100 + seconds
        progress("search", 2, None, item)
        expected = f"progress: {seconds:.0f} s, searching 2, {item}\n" if said else ""
        assert capfd.readouterr().err == expected


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
        if stage == "search":
            seen.append((done, total, item))
            clock.now += seconds

    onnx.save(trained(), tmp_path / "m.onnx")
    cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib=DATA, progress=progress)
    assert seen[0] == (1, None, "")
    assert {item for _, total, item in seen[1:] if total is None} == {said}
    assert len(said) <= ITEM_WIDTH
    assert seen[-1] == (len(seen) - 1, len(seen) - 1, "")


@pytest.mark.parametrize(
    ("target", "most"),
    [(Target(size=600), TRIALS), (Target(max_drop=0.2, metric="agreement", metric_data=DATA), TRIALS)],
)
def test_the_time_of_a_target_is_told_ahead(
    target: Target, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file takes 10 seconds; the most that the search may try are still to come."""
    clock, seen = Times(), []
    monkeypatch.setattr("cerwu_onnx.compression.trials.time.monotonic", clock)
    monkeypatch.setattr(Times, "now", 100.0)

    def progress(stage: str, done: int, total: int | None, item: str) -> None:
        if stage == "search":
            seen.append(item)
        elif stage == "encode" and len(seen) >= written[0]:
            clock.now += 10
            written[0] = len(seen) + 1

    written = [0]
    onnx.save(trained(), tmp_path / "m.onnx")
    cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib=DATA, target=target, progress=progress)
    left = [10 * (most - tried) for tried in range(1, len(seen) + 1)]
    assert seen == [f"up to {s} s to go" if s < 100 else f"up to {s / 60:.0f} min to go" for s in left]
    assert len(seen) > 1
    assert max(map(len, seen)) <= ITEM_WIDTH


def test_a_log_gets_a_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "EVERY", 0.0)
    onnx.save(trained(), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=clouds(100, 4)[0])
    words = ("compress", tmp_path / "m.onnx", tmp_path / "m.cwb", "-f", "--calib", tmp_path / "x.npz")
    shown = run(*words).err.splitlines()
    assert all(line.startswith("progress: ") for line in shown)
    assert any("searching 2, about " in line and "quantising" in line for line in shown)
    assert run(*words, "-q").err == ""
