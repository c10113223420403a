"""Write files so that nothing is ever lost or half-written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cerwu_onnx.errors import UsageError


def check_target(path: str | Path, *, overwrite: bool, source: str | Path | None = None) -> Path:
    """Check before long work that ``path`` can be written.

    Raises:
        UsageError: it exists and ``overwrite`` is not set, it is ``source`` itself or not a regular file, or its folder
            is missing or not writable.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target} is a folder: give a file name")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is not a regular file: devices and pipes are not replaced, give another output")
    if source is not None and target.exists() and Path(source).exists() and target.samefile(source):
        raise UsageError(f"{target} is the input itself: give another output")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists: use -f (force=True) to overwrite it")
    folder = target.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"folder {folder} does not exist: create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"folder {folder} is not writable")
    return target


def write_atomic(path: str | Path, content: bytes, *, overwrite: bool) -> None:
    """Write ``content`` with :func:`atomic`.

    Raises:
        UsageError: see :func:`atomic`.
    """
    with atomic(path, overwrite=overwrite) as stream:
        stream.write(content)


@contextmanager
def atomic(path: str | Path, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """Open a file beside ``path``; at the end it is flushed to disk and renamed to ``path``, or removed after an error.

    A killed process leaves ``.NAME.xxxxxxxx.tmp``, which nothing reads. A link stays; the file it points to is
    replaced.

    Raises:
        UsageError: as for :func:`check_target`, or the file cannot be written.
    """
    target = check_target(path, overwrite=overwrite).resolve()
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(".tmp", f".{target.name[:50]}.", target.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(f"cannot write {target}: {error.strerror}") from None
        raise


def _mode(target: Path) -> int:
    """Permission bits for the new file: those of the file it replaces, else the user's default."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
