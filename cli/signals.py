"""Handle the signals that end a run: Ctrl-C, ``kill``, a terminal that closes. Temporary files are removed."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

CODES = {
    129: "the terminal went away (SIGHUP); no output was written",
    130: "interrupted (Ctrl-C); no output was written",
    143: "terminated (SIGTERM); no output was written",
}
"""Exit codes, as shells count them: 128 and the number of the signal."""

_WORDS = {129: "hung up", 130: "interrupted", 143: "terminated"}
_OTHERS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP


class Ended(KeyboardInterrupt):
    """A signal that ends the run; code that handles Ctrl-C handles it, too.

    Attributes:
        code: the exit code.
    """

    def __init__(self, number: int) -> None:
        super().__init__(_WORDS[128 + number])
        self.code = 128 + number


def install() -> None:
    """Let SIGTERM and SIGHUP end the run like Ctrl-C, unless the caller ignores them, as ``nohup`` does."""
    for number in _OTHERS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> None:
    """End the run. While it removes temporary files, only another Ctrl-C or SIGKILL can stop it.

    From now on, errors of threads only tell that they were interrupted, so they are not shown.
    """
    threading.excepthook = lambda _: None
    logging.disable()
    for other in _OTHERS:
        signal.signal(other, signal.SIG_IGN)
    raise Ended(number)


def code_of(error: KeyboardInterrupt) -> int:
    """The exit code of a run that a signal ended."""
    return error.code if isinstance(error, Ended) else 128 + signal.SIGINT


def word_of(code: int) -> str:
    """The word for an exit code on stderr."""
    return _WORDS[code]
