"""Progress for logs and pipes: a line on stderr now and then; and how stages are called, on a terminal, too."""

from __future__ import annotations

import time
from collections.abc import Callable

from .text import shorten

LABELS = {
    "load": "reading the model",
    "calibrate": "calibrating",
    "measure": "measuring",
    "search": "searching",
    "sweep": "sweeping",
    "quantize": "quantising",
    "encode": "writing",
}

OUTER = ("search", "sweep")
"""Stages during which others begin and end, again and again."""

ITEM_WIDTH = 23
"""What bars leave of 80 columns."""

EVERY = 30.0
"""Seconds between two lines."""

SOON = 1 / 6
"""After such a part of :data:`EVERY`, what a search says about its time is told at once, the first time."""


class Lines:
    """A :data:`cerwu_onnx.jobs.progress.Progress` that prints a line every :data:`EVERY` seconds.

    The first that a search says about its time comes sooner.

    Args:
        note: prints a line: what kind it is, and what it says.
        clock: tells seconds.
    """

    def __init__(self, note: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._note, self._clock, self._started = note, clock, clock()
        self._last = self._started
        self._outer: dict[str, str] = {}
        self._told = False

    def __call__(self, stage: str, done: int, total: int | None, item: str) -> None:
        """Say what is being done, if nothing was said for long."""
        comma = "," if item and stage in OUTER else ""
        parts = (LABELS.get(stage, stage), counted(done, total) + comma, shorten(item, ITEM_WIDTH))
        said = " ".join(part for part in parts if part)
        if stage in OUTER:
            self._outer[stage] = said
            if done == total:
                del self._outer[stage]
        now = self._clock()
        ahead = stage in OUTER and item.endswith("to go") and not self._told
        if now - self._last >= (EVERY * SOON if ahead else EVERY):
            self._last, self._told = now, self._told or ahead
            inside = dict.fromkeys((*self._outer.values(), said))
            self._note("progress", f"{now - self._started:.0f} s, {', '.join(inside)}")


def counted(done: int, total: int | None) -> str:
    """How much is done, and of how much, where there is something to count."""
    return f"{done}/{total}" if total else str(done or "")
