"""Write to the terminal: data to stdout, everything else to stderr, and decoration only to terminals."""

from __future__ import annotations

import ctypes
import io
import json
import logging
import math
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

import typer

from cerwu_onnx.errors import UsageError

from .text import inert, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cerwu_onnx.jobs.progress import Progress

_COLOURS = {"error": "red", "warning": "yellow", "info": "blue", "debug": "blue"}
_HALF = 400
"""The fewest characters of a line that are shown before and after a cut."""

_log = logging.getLogger("cerwu_onnx")

_ours: TextIO | None = None
"""Where :func:`write` writes while stdout is stderr for everybody else."""


class _Handler(logging.Handler):
    """Shows the library's messages on stderr, each once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[tuple[str, str]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        key = (record.levelname.lower(), record.getMessage())
        if key not in self._seen:
            self._seen.add(key)
            note(*key)


def start() -> None:
    """Show each warning, the library's and Python's, as one line; replace characters that the terminal lacks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: >&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - lives as long as the program
        if hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="replace")
    _log.handlers[:] = [_Handler()]
    _log.setLevel(logging.WARNING)
    _log.propagate = False
    warnings.showwarning = lambda message, *_args, **_kwargs: _log.warning("%s", message)


@contextmanager
def own_stdout() -> Iterator[None]:
    """Within this context only :func:`write` writes to stdout.

    What libraries print there, those in C++ as well, and functions of the user, goes to stderr.
    """
    global _ours
    before, shown = sys.stdout, _apart(sys.stdout)
    try:
        _ours = shown
        sys.stdout = sys.stderr
        yield
    finally:
        _ours, sys.stdout = None, before
        if shown is not before:
            with suppress(Exception):  # Windows has no library of this kind, which would hold back what was printed
                ctypes.CDLL(None).fflush(None)
            os.dup2(shown.fileno(), _STDOUT)
            shown.close()


_STDOUT, _STDERR = 1, 2


def _apart(stream: TextIO) -> TextIO:
    """A stream to where stdout goes, whose own descriptor goes to stderr from now on; in tests it may be another."""
    try:
        stream.flush()
        if stream.fileno() != _STDOUT:
            return stream
        kept = os.dup(_STDOUT)
    except (OSError, ValueError):
        return stream
    try:
        os.dup2(_STDERR, _STDOUT)
    except OSError:  # closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
    return open(kept, "w", encoding=stream.encoding, errors=stream.errors)


def _stdout() -> TextIO:
    return _ours or sys.stdout


def set_verbose() -> None:
    """Show debug messages and tracebacks from now on."""
    _log.setLevel(logging.DEBUG)


def is_verbose() -> bool:
    """Whether ``-v`` was given."""
    return _log.isEnabledFor(logging.DEBUG)


def note(kind: str, text: str) -> None:
    """``kind: text`` as one line on stderr, whatever line breaks ``text`` has."""
    label = f"{kind}:"
    if is_terminal(sys.stderr) and "NO_COLOR" not in os.environ:
        label = typer.style(label, fg=_COLOURS.get(kind), bold=True)
    say(f"{label} {_cut(printable(' '.join(text.split())))}")


def _cut(text: str) -> str:
    """Cut the middle out of a very long ``text``, because names may have any length; not with ``-v``."""
    left_out = len(text) - 2 * _HALF
    return text if left_out <= 0 or is_verbose() else f"{text[:_HALF]}... ({left_out} characters) ...{text[-_HALF:]}"


def say(line: str) -> None:
    """Print a line on stderr; a closed stderr is ignored."""
    with suppress(OSError):
        typer.echo(inert(line), err=True)


def print_traceback() -> None:
    """Print the traceback of the current exception on stderr."""
    for line in traceback.format_exc().splitlines():
        say(printable(line))


def is_terminal(stream: TextIO) -> bool:
    """Whether the stream is a terminal that can redraw lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def silence_stdout() -> None:
    """Discard what is still buffered for a closed pipe; otherwise the interpreter prints an error at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _stdout().fileno())


def write(text: str) -> None:
    """Print on stdout; no line of it is a command to a system that runs builds.

    Raises:
        BrokenPipeError: the reader has closed it.
        UsageError: it cannot be written.
    """
    try:
        _stdout().write(inert(text))
        _stdout().flush()
    except OSError as error:
        silence_stdout()
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"cannot write to stdout: {error.strerror}") from None


def show(draw: Callable[[int], RenderableType]) -> None:
    """Print on stdout what ``draw`` returns for the width of the terminal."""
    from rich.console import Console

    sheet = _Sheet()
    console = Console(file=sheet, highlight=False)
    console.print(draw(console.width))
    lines = (line.rstrip(" ") for line in sheet.getvalue().split("\n"))  # rich pads lines with spaces
    write("\n".join(lines))


class _Sheet(io.StringIO):
    """Holds what rich draws for stdout, so that only :func:`write` writes there."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of stdout, by which rich chooses box characters."""
        return _stdout().encoding

    def isatty(self) -> bool:
        """Whether stdout is a terminal, by which rich chooses colours."""
        return _stdout().isatty()


def show_json(value: Any) -> None:
    """Print one JSON object on stdout. Where :func:`write` would change a text, JSON has other words for the same."""
    write(re.sub(r"#(?=#)", r"\\u0023", json.dumps(_strict(value), indent=2)) + "\n")


def _strict(value: Any) -> Any:
    """``value`` in JSON's types: numpy scalars become numbers, NaN and infinity null."""
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def progress(*, enabled: bool) -> Iterator[Progress | None]:
    """Draw the pipeline's progress on stderr; where that is not a terminal, print a line now and then."""
    if not enabled:
        yield None
        return
    if not is_terminal(sys.stderr):
        from .lines import Lines

        yield Lines(note)
        return
    from .bars import Bars

    with Bars() as bars:
        yield bars


@contextmanager
def status(text: str, *, enabled: bool) -> Iterator[None]:
    """Show a spinner on stderr while something takes long; nothing if that is not a terminal."""
    if not (enabled and is_terminal(sys.stderr)):
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
