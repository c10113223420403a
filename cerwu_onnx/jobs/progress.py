"""Tell the caller about the stages: progress, seconds per stage, and the warnings logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[str, int, int | None, str], None]
"""``progress(stage, done, total, item)``; total is None where it is not known."""


_open: ContextVar[tuple[list[str], ...]] = ContextVar("_open", default=())
"""Lists that collect warnings, of this thread or of the one for which it works."""


def silent(stage: str, done: int, total: int | None, item: str) -> None:
    """Show no progress."""


class Clock:
    """Measures wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of a ``with`` block to ``stage``."""
        start = time.perf_counter()
        yield
        taken = time.perf_counter() - start
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + taken, 3)


@contextmanager
def logged_warnings() -> Iterator[list[str]]:
    """Collect the warnings that the library logs inside a ``with`` block.

    Warnings of other threads count only if these run in a copy of this thread's context.
    """
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if any(found is messages for found in _open.get()):
                messages.append(record.getMessage())

    handler = Collector(logging.WARNING)
    logger = logging.getLogger("cerwu_onnx")
    logger.addHandler(handler)
    token = _open.set((*_open.get(), messages))
    try:
        yield messages
    finally:
        _open.reset(token)
        logger.removeHandler(handler)


def duration(seconds: float) -> str:
    """Seconds, or minutes if they are many."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
