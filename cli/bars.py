"""Progress bars on stderr: one line per stage of the pipeline, removed at the end of the run."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from .lines import ITEM_WIDTH, LABELS, OUTER, counted
from .text import shorten


class Bars:
    """A :data:`cerwu_onnx.jobs.progress.Progress` that draws on stderr."""

    def __init__(self) -> None:
        self._drawing = Progress(
            SpinnerColumn("line", finished_text=" "),
            TextColumn("{task.description:<17}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[count]:>11}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[item]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._stage = ""

    def __enter__(self) -> Bars:
        """Start drawing."""
        self._drawing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wipe the bars."""
        self._drawing.stop()

    def __call__(self, stage: str, done: int, total: int | None, item: str) -> None:
        """Draw a step of a stage; earlier stages are finished."""
        if stage not in self._tasks:
            self._tasks[stage] = self._drawing.add_task(LABELS.get(stage, stage), total=total, count="", item="")
        elif stage not in (self._stage, *OUTER):  # it begins again, and so does its time
            self._drawing.reset(self._tasks[stage])
        if stage != self._stage:
            for other, task in self._tasks.items():
                if other not in (stage, *OUTER):
                    self._finish(task)
        self._stage, count = stage, counted(done, total)
        # With total=None, the bar of a stage pulses: its end is unknown.
        self._drawing.update(
            self._tasks[stage], completed=done, total=total, count=count, item=shorten(item, ITEM_WIDTH)
        )

    def _finish(self, task: TaskID) -> None:
        """Fill the bar and forget its item."""
        shown = self._drawing.tasks[self._drawing.task_ids.index(task)]
        self._drawing.update(task, total=shown.total or 1, completed=shown.total or 1, item="")
