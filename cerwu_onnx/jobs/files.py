"""Write files so that nothing is ever lost or half-written."""

from __future__ import annotations

import contextlib
import os
import secrets
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
        raise UsageError(f"{target} exists: use -f (force) to overwrite it")
    folder = target.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"folder {folder} does not exist: create it first")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
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
        before = target.stat().st_mode & 0o777 if target.exists() else None
        handle, temporary = _create(target, 0o666 if before is None else 0o600)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if before is not None:
            os.chmod(temporary, before)
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(f"cannot write {target}: {error.strerror}") from None
        raise


@contextmanager
def output_folder(path: Path) -> Iterator[None]:
    """Make a folder for outputs if there is none; after an error it is removed again unless something is in it.

    Raises:
        UsageError: it cannot be made.
    """
    new = not path.exists()
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"folder {path}: {error.strerror}") from None
    try:
        yield
    finally:
        if new:
            with contextlib.suppress(OSError):  # it holds files
                path.rmdir()


def _create(target: Path, mode: int) -> tuple[int, Path]:
    """A new file beside ``target``, open for writing, with these permission bits less those of the user's mask."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)  # Windows would change line ends
    while True:
        path = target.with_name(f".{target.name[:50]}.{secrets.token_hex(4)}.tmp")
        with contextlib.suppress(FileExistsError):
            return os.open(path, flags, mode), path
