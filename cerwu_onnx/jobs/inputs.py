"""Files that a run reads: none of them may change before it has written what it made of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from cerwu_onnx.errors import CerwuError, InputChangedError, UsageError


class _State(NamedTuple):
    """What tells a file from another one, or from itself before it was written. No clock has to go forward for that."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


_watched: ContextVar[tuple[dict[Path, _State | None], ...]] = ContextVar("_watched", default=())
"""Files that the runs of this thread, or of the one that it works for, have begun to read."""


def reading(path: str | os.PathLike[str]) -> None:
    """Note a file that is about to be read, as it is now; of several times the first counts."""
    for noted in _watched.get():
        noted.setdefault(Path(path).absolute(), _state(path))


def content_of(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        UsageError: it cannot be read.
    """
    reading(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


@contextmanager
def unchanged_inputs() -> Iterator[Callable[[], None]]:
    """Within this context, files that are read are noted; what it gives raises if one of them has changed since.

    So does whatever goes wrong within it after such a change: that is the reason which helps.

    Raises:
        InputChangedError: a file was replaced, written or removed.
    """
    noted: dict[Path, _State | None] = {}

    def check() -> None:
        for path, state in noted.items():
            if _state(path) != state:
                raise InputChangedError(f"{path}: changed while it was in use; nothing was written, run again")

    token = _watched.set((*_watched.get(), noted))
    try:
        yield check
    except InputChangedError:
        raise
    except Exception as error:
        try:
            check()
        except CerwuError as change:
            raise change from error
        raise
    finally:
        _watched.reset(token)


@contextmanager
def own_files() -> Iterator[None]:
    """Within this context nothing is noted: the run reads files that it has made itself."""
    token = _watched.set(())
    try:
        yield
    finally:
        _watched.reset(token)


def _state(path: str | os.PathLike[str]) -> _State | None:
    """The state of a file; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return _State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
