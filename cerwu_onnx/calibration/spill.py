"""A store for arrays that are read again later: in memory up to a budget, then in files of a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cerwu_onnx.errors import CalibrationError

Held: TypeAlias = Any
"""What :meth:`Spill.put` returns: the value itself, or the path of the file that holds it."""


class Spill:
    """A store for arrays, for any thread. Use it in a ``with`` block, which removes the files at its end.

    Args:
        memory: bytes of arrays that stay in memory. Values that are not plain arrays (sequences, strings) always stay.
    """

    def __init__(self, memory: int) -> None:
        self._left = memory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = count()
        self._lock = Lock()

    def __enter__(self) -> Spill:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()

    def put(self, value: Any) -> Held:
        """Keep a value.

        Raises:
            CalibrationError: it cannot be written.
        """
        size = _size(value)
        try:
            with self._lock:
                if size <= self._left or not size:
                    self._left -= size
                    return value
                if self._folder is None:
                    self._folder = tempfile.TemporaryDirectory(prefix="cerwu-")
                path = Path(self._folder.name) / f"{next(self._numbers)}.npy"
            np.save(path, value, allow_pickle=False)
        except OSError as error:
            raise CalibrationError(
                f"activations beyond the memory budget cannot be written ({error}): make room, allow more memory or "
                "use fewer samples"
            ) from error
        return path

    def get(self, held: Held) -> Any:
        """The value; it is read anew if it is in a file."""
        return np.load(held, allow_pickle=False) if isinstance(held, Path) else held

    def drop(self, held: Held) -> None:
        """Forget a value."""
        if isinstance(held, Path):
            held.unlink()
        else:
            with self._lock:
                self._left += _size(held)


class Batches(Sequence[Any]):
    """The values of one output, batch by batch; valid while their :class:`Spill` is open."""

    def __init__(self, spill: Spill, held: Sequence[Held]) -> None:
        self._spill, self._held = spill, held

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._spill.get(held) for held in self._held[index]]
        return self._spill.get(self._held[index])


def _size(value: npt.NDArray[Any] | Any) -> int:
    """Bytes that count towards the budget."""
    return value.nbytes if isinstance(value, np.ndarray) and not value.dtype.hasobject else 0
