"""A cache: results that take long to compute, kept in a folder and found by everything that they depend on.

An entry is a file named by the SHA-256 of its key. It holds another SHA-256, of name and content, and a ``.npz`` of
arrays and a JSON text. It is written to a temporary file and then renamed, so that runs may share a folder; a damaged
entry is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.errors import UsageError
from cerwu_onnx.jobs.files import atomic
from cerwu_onnx.jobs.progress import logged_warnings

log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the whole package: a change in any of its rooms may change what is computed."""

Entry: TypeAlias = tuple[Any, list[npt.NDArray[Any]]]
"""A JSON-ready value, and arrays."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of results; without a folder, every result is computed.

    Attributes:
        folder: folder of the entries; None keeps nothing.
        base: digest of what all results depend on.
    """

    folder: Path | None = None
    base: str = ""

    def get(self, what: str, depends: Any, compute: Callable[[], Entry]) -> Entry:
        """Get a result, which is computed if the folder does not have it. A result with warnings is not kept.

        Args:
            what: kind of result.
            depends: JSON-ready; everything it depends on in addition to :attr:`base`.
            compute: computes it.
        """
        found = self.find(what, depends)
        if found is None:
            with logged_warnings() as warnings:
                found = compute()
            if not warnings:
                self.keep(what, depends, found)
        return found

    def find(self, what: str, depends: Any) -> Entry | None:
        """Find a result; None if the folder does not have it. Arguments as for :meth:`get`."""
        return None if self.folder is None else _read(self._path(self.folder, what, depends))

    def keep(self, what: str, depends: Any, found: Entry) -> None:
        """Keep a result; call it only if there was no warning."""
        if self.folder is not None:
            _write(self._path(self.folder, what, depends), found)

    def remove(self) -> None:
        """Remove the results, and the folder unless it holds something else."""
        if self.folder is not None:
            for path in self.folder.iterdir():
                if re.fullmatch(r"[0-9a-f]{64}\.entry|\.[0-9a-f]{50}\..*\.tmp", path.name):
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def _path(self, folder: Path, what: str, depends: Any) -> Path:
        return folder / f"{digest(self.base, what, json.dumps(depends, sort_keys=True))}.entry"


_DIGEST = 64
"""Hexadecimal digits of a SHA-256."""

NO_CACHE = Cache()
"""Keeps nothing."""


def open_cache(folder: str | os.PathLike[str], *parts: str) -> Cache:
    """Open the cache of a folder, which is made if it does not exist, for results that depend on these parts.

    They also depend on the package's own code, the versions of the packages it uses, and the number of threads
    (rounding).

    Raises:
        UsageError: the folder cannot be made or used, or others may put results there.
    """
    path = Path(folder)
    try:
        path.mkdir(0o700, parents=True, exist_ok=True)
        state = path.stat()
    except OSError as error:
        raise UsageError(f"cache {path}: {error.strerror}") from None
    if hasattr(os, "geteuid"):  # Windows has other rights
        if state.st_uid not in (0, os.geteuid()):
            raise UsageError(f"cache {path} belongs to another user, whose results would be believed: give your own")
        if state.st_mode & 0o022:
            raise UsageError(f"cache {path}: other users may put results there, which would be believed: chmod go-w it")
    threads = [os.environ.get(f"{name}_NUM_THREADS", "") for name in ("OMP", "OPENBLAS", "MKL")]
    return Cache(path.resolve(), digest(_code(), str(os.cpu_count()), *threads, *parts))


def digest(*parts: str | bytes | memoryview) -> str:
    """SHA-256 of some texts and of where each ends."""
    found = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        found.update(len(content).to_bytes(8, "little"))
        found.update(content)
    return found.hexdigest()


@lru_cache(maxsize=1)
def _code() -> str:
    """What computes: the package's files, whether there is a native library, the versions of what they rest on."""
    from importlib.metadata import version

    files = sorted(_PACKAGE.rglob("*.py"))
    versions = map(version, ("numpy", "scipy", "onnx", "onnxruntime"))
    return digest(*(path.read_bytes() for path in files), *versions, str(native.unavailable_reason()))


def _read(path: Path) -> Entry | None:
    """Read an entry; None if there is none, or it cannot be read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("cache entry %s cannot be read (%s): it is computed again", path, error.strerror)
        return None
    entry = memoryview(content)[_DIGEST:]
    if content[:_DIGEST] != digest(path.name, entry).encode():
        log.warning("cache entry %s is damaged: it is computed again", path)
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with np.load(io.BytesIO(entry), allow_pickle=False) as stored:
        text, *arrays = (stored[name] for name in stored.files)
    return json.loads(text.tobytes()), arrays


def _write(path: Path, entry: Entry) -> None:
    text, arrays = entry
    stream = io.BytesIO()
    np.savez(stream, np.frombuffer(json.dumps(text).encode(), np.uint8), *arrays)
    try:
        content = stream.getbuffer()  # no copies: an entry may hold half a gigabyte
        with atomic(path, overwrite=True) as file:
            file.write(digest(path.name, content).encode())
            file.write(content)
    except UsageError as error:
        reason = str(error).replace(str(path), "entries")  # without the name: one warning for all entries
        log.warning("cache %s: %s; results are not kept", path.parent, reason)
