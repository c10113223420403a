"""Set how many threads matrix products and onnxruntime use, and share independent work among threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

J = TypeVar("J")
R = TypeVar("R")

LARGE = 4096
"""Products and factors of Hessians of at least so many columns gain from more than one thread.

With smaller ones, threads wait for each other more than they compute, and twenty times as long if other processes use a
core: of 3,072 columns, two of five processor seconds went into waiting.
"""


def blas_threads(columns: int) -> AbstractContextManager[object]:
    """A context with one thread if matrices have fewer than :data:`LARGE` columns, otherwise with all of BLAS's own."""
    count = 1 if takes_one(columns) else _own_threads()
    limits: AbstractContextManager[object] = _libraries().limit(limits=count, user_api="blas")
    return limits


def takes_one(columns: int) -> bool:
    """Whether products of matrices of so many columns take one thread, so that several may run side by side."""
    return columns < LARGE or _limit.alone > 0 or _own_threads() == 1


def one_thread() -> AbstractContextManager[None]:
    """A context with one thread for each product and session of this process; contexts may overlap in several threads.

    Results then do not depend on the number of cores, and workers do not take cores from each other.
    """
    return _limit.held(alone=True)


def few_threads() -> AbstractContextManager[None]:
    """A context with one thread for each product outside of :func:`blas_threads`; contexts may overlap, too.

    BLAS starts its threads for small products as well, and between two of them they wait at full speed: that doubles
    the processor time of a compression, for nothing.
    """
    return _limit.held(alone=False)


@contextmanager
def workers(count: int) -> Iterator[None]:
    """A context in which :func:`side_by_side` takes so many threads."""
    token = _workers.set(count)
    try:
        yield
    finally:
        _workers.reset(token)


def side_by_side(function: Callable[[J], R], jobs: Sequence[J], most: int | None = None) -> list[R]:
    """Call a function for each job, on as many threads as :func:`workers` says; one by one outside of its contexts.

    The jobs must be independent, and their products such as :func:`takes_one` allows: results then do not depend on the
    number of threads. Each job has its share of the workers.

    Args:
        function: does a job.
        jobs: what it is called with.
        most: the most threads.

    Returns:
        The results, in the order of the jobs.

    Raises:
        Exception: that of the first job in order which fails.
    """
    have = _workers.get()
    count = min(have, len(jobs), most or have)
    if count < 2:
        return [function(job) for job in jobs]

    stop = Event()

    def call(job: J) -> R:
        _stops.set((*_stops.get(), stop))
        with workers(have // count):
            return function(job)

    with few_threads(), ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(copy_context().run, call, job) for job in jobs]
        try:
            wait(futures)
        except BaseException:  # Ctrl-C, which only the main thread receives
            stop.set()
            raise
    return [future.result() for future in futures]


def end_if_stopped() -> None:
    """End a job of :func:`side_by_side` whose caller was interrupted; long ones ask now and then.

    Raises:
        InterruptedError: it was.
    """
    if any(stop.is_set() for stop in _stops.get()):
        raise InterruptedError


def session_threads() -> int | None:
    """How many threads a session of onnxruntime may take; None leaves it to onnxruntime."""
    return 1 if _limit.alone else asked_threads()


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


_workers: ContextVar[int] = ContextVar("_workers", default=1)
_stops: ContextVar[tuple[Event, ...]] = ContextVar("_stops", default=())


class _Limit:
    """Counts the contexts that keep BLAS to one thread: the first sets the process's limit, the last lifts it.

    threadpoolctl lets no thread lift a limit that another one has set and may still use; then the limit stays.

    Attributes:
        alone: how many of them allow no more threads to large products and sessions either.
    """

    def __init__(self) -> None:
        self.alone = self._inside = 0
        self._lock = Lock()
        self._set: Any = None

    @contextmanager
    def held(self, *, alone: bool) -> Iterator[None]:
        """Count a ``with`` block."""
        with self._lock:
            if not self._inside:
                _own_threads()  # asked before there is a limit
                self._set = _libraries().limit(limits=1, user_api="blas")
                self._set.__enter__()
            self._inside += 1
            self.alone += alone
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                self.alone -= alone
                if not self._inside:
                    self._set.__exit__(None, None, None)


_limit = _Limit()


@cache
def _own_threads() -> int:
    """How many threads BLAS takes if nobody limits it."""
    return max((found["num_threads"] for found in _libraries().info() if found["user_api"] == "blas"), default=1)


@cache
def _libraries() -> ThreadpoolController:
    """The thread pools of numpy and scipy. Finding them takes a millisecond."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
