"""Set how many threads matrix products and onnxruntime use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

LARGE = 1024
"""Products and factors of Hessians of at least so many columns gain from more than one thread.

With smaller ones, threads wait for each other more than they compute, and twenty times as long if other processes use a
core.
"""


def blas_threads(columns: int) -> AbstractContextManager[object]:
    """A context with one thread if matrices have fewer than :data:`LARGE` columns."""
    limits: AbstractContextManager[object] = _libraries().limit(limits=1 if columns < LARGE else None, user_api="blas")
    return limits


@contextmanager
def one_thread() -> Iterator[None]:
    """A context with one thread for each product and session of this process; contexts may overlap in several threads.

    Results then do not depend on the number of cores, and workers do not take cores from each other.
    """
    _single.enter()
    try:
        yield
    finally:
        _single.leave()


def session_threads() -> int | None:
    """How many threads a session of onnxruntime may take; None leaves it to onnxruntime."""
    return 1 if _single.inside else asked_threads()


def asked_threads() -> int | None:
    """OMP_NUM_THREADS, if that is a number."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else None


def shared(sizes: Sequence[int], workers: int) -> list[list[int]]:
    """Indices of jobs of such sizes for each worker: the largest first, to the one who has the least to do."""
    shares: list[list[int]] = [[] for _ in range(workers)]
    load = [0] * workers
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        worker = load.index(min(load))
        shares[worker].append(index)
        load[worker] += sizes[index]
    return shares


class _Single:
    """Counts the contexts of :func:`one_thread`: the first sets the process's limit, the last lifts it.

    threadpoolctl lets no thread lift a limit that another one has set and may still use; then the limit stays.
    """

    def __init__(self) -> None:
        self.inside = 0
        self._lock = Lock()
        self._limit: Any = None

    def enter(self) -> None:
        with self._lock:
            if not self.inside:
                self._limit = _libraries().limit(limits=1, user_api="blas")
                self._limit.__enter__()
            self.inside += 1

    def leave(self) -> None:
        with self._lock:
            self.inside -= 1
            if not self.inside:
                self._limit.__exit__(None, None, None)


_single = _Single()


@cache
def _libraries() -> ThreadpoolController:
    """The thread pools of numpy and scipy. Finding them takes a millisecond."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
