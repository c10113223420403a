"""Run independent jobs on threads or processes of this machine, or on the workers of a cluster.

joblib is the common interface to all of them. This module adds an order (largest first, so that
no large job is left for the end), errors and warnings of the jobs as if they had run here, one thread for each job
(sums round differently on more), and another run of jobs whose worker was lost.
A job for another process is a single pickle. It travels with the task, not beside it, so that a scheduler can
give it to another worker. A digest travels with it and with its result: what arrives damaged counts as lost.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from contextvars import Context, copy_context
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from itertools import takewhile
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from cerwu_onnx.errors import UsageError, WorkerError
from cerwu_onnx.jobs.progress import logged_warnings
from cerwu_onnx.jobs.threads import asked_threads, one_thread

log = logging.getLogger(__name__)

J = TypeVar("J")
R = TypeVar("R")

RETRIES = 3
"""The run ends with the next loss of a worker after so many losses without a result between them."""

ANSWER = 10
"""Seconds within which a scheduler must answer, and then its first worker."""

SCHEMES = ("dask", "ray")
"""Kinds of clusters, by their names in URLs and in the package's extras."""

_ROUND = 8
"""Jobs for each worker in one call of a backend that returns all results at once: the most that a loss repeats."""

_Found = tuple[Any, "Exception | None", "tuple[str, ...]"]
"""The outcome of a job: its result, or the error that it raised, and its warnings."""


class Pool:
    """Where jobs run. Use it in a ``with`` block, in which the cluster, if there is one, is connected.

    Args:
        jobs: jobs at a time on this machine; None takes OMP_NUM_THREADS or, without that, all cores.
        cluster: ``dask://host:port`` or ``ray://host:port`` instead.

    Raises:
        UsageError: both are given, an argument is out of range, or a package is missing.
        WorkerError: nothing answers at the address.
    """

    def __init__(self, jobs: int | None = None, cluster: str | None = None) -> None:
        if jobs is not None and jobs < 1:
            raise UsageError(f"jobs {jobs} is out of range: give at least 1")
        if jobs is not None and cluster is not None:
            raise UsageError("jobs and a cluster exclude each other: a cluster has as many workers as it has")
        self._jobs, self.cluster = jobs, cluster
        self._scheme, self._address = ("", "") if cluster is None else _parsed(cluster)
        self._settings: dict[str, Any] = {}
        self._stack = ExitStack()

    @property
    def workers(self) -> int:
        """Jobs at a time on this machine."""
        return self._jobs or _cores()

    def __enter__(self) -> Pool:
        if self._scheme == "dask":
            self._settings = self._stack.enter_context(_dask(self._address))
        elif self._scheme == "ray":
            self._settings = self._stack.enter_context(_ray(self._address))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def results(
        self,
        function: Callable[[J], R],
        load: Callable[[int], J],
        sizes: Sequence[float],
        *,
        most: int | None = None,
        apart: bool = False,
    ) -> Iterator[tuple[int, R]]:
        """Run jobs, the largest first, and yield index and result of each as soon as it is done.

        Args:
            function: does a job. Another process must be able to import it by name.
            load: index -> job; called as late as possible, so that few jobs are in memory.
            sizes: work for each job, in any unit.
            most: the most jobs at a time on this machine.
            apart: jobs hold Python's lock for long, or need a process for themselves: each runs in a process.

        Raises:
            WorkerError: workers were lost again and again.
        """
        left = dict.fromkeys(sorted(range(len(sizes)), key=lambda index: -sizes[index]))
        count = min(filter(None, (self.workers, most, len(sizes) or 1)))
        if self.cluster is None and count == 1:
            with one_thread():
                for index in left:
                    yield index, function(load(index))
            return
        lost, failed = 0, _First()
        while left and failed.error is None:
            found = self._found(function, load, failed.until(left), count, apart)
            try:
                while (item := _next(found)) is not None:
                    index, (result, error, messages) = item
                    del left[index]
                    lost = 0
                    for message in messages:
                        log.warning("%s", message)
                    if error is not None:
                        failed.note(error)
                    elif failed.error is None:
                        yield index, result
            except _Lost as loss:
                lost += 1
                if lost > RETRIES:
                    where = self.cluster or "this machine"
                    raise WorkerError(f"{where}: workers were lost {lost} times without a result: {loss}") from loss
                log.info("a worker was lost, its jobs run again: %s", loss)
            finally:
                with warnings.catch_warnings():  # joblib warns of results that are no longer wanted
                    warnings.simplefilter("ignore")
                    found.close()
        if failed.error is not None:
            raise failed.error

    def _found(
        self, function: Callable[[J], R], load: Callable[[int], J], order: Iterator[int], count: int, apart: bool
    ) -> Generator[Any]:
        """The outcomes of the jobs of ``order``, by joblib's backend for this pool."""
        from joblib import Parallel, delayed, parallel_config

        if self.cluster is None and not apart:
            context = copy_context()  # joblib calls load in its own threads
            with one_thread():
                jobs = (delayed(_here)(context.copy(), function, load, index) for index in order)
                yield from Parallel(count, backend="threading", pre_dispatch=count, **_UNORDERED)(jobs)
            return
        away = (delayed(_away)(index, _packed(function, load, index)) for index in order)
        settings = self._settings or {"backend": "loky", "n_jobs": count, "inner_max_num_threads": 1}
        with parallel_config(**settings), warnings.catch_warnings(), _safe_path():
            warnings.filterwarnings("ignore", "Sending large graph")  # dask warns of jobs that hold arrays
            warnings.filterwarnings("ignore", r"\d+ tasks ")  # joblib warns of results that nobody needs any more
            if self._scheme != "ray":
                with _deaf():
                    found = Parallel(**_UNORDERED)(away)
                with closing(found):
                    yield from map(_unsealed, found)
                return
            while part := [job for job, _ in zip(away, range(_ROUND * settings["n_jobs"]), strict=False)]:
                yield from map(_unsealed, Parallel(batch_size=1)(part))


_UNORDERED: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1}


class _First:
    """The first error of a job. After it no job starts; running ones finish: backends do not stop them cleanly."""

    error: Exception | None = None

    def note(self, error: Exception) -> None:
        self.error = self.error or error

    def until(self, order: Iterable[int]) -> Iterator[int]:
        """The indices of ``order``, until there is an error."""
        return takewhile(lambda _: self.error is None, list(order))


class _Lost(Exception):
    """A backend failed, not a job."""


class _Versions(NamedTuple):
    """Versions on which results depend, in addition to the job."""

    cerwu_onnx: str
    numpy: str
    scipy: str
    onnxruntime: str


@contextmanager
def _deaf() -> Iterator[None]:
    """Start processes that ignore Ctrl-C: this process receives it, and ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_SAFE, _OURS = "PYTHONSAFEPATH", "cerwu-onnx"


@contextmanager
def _safe_path() -> Iterator[None]:
    """Processes that start here import nothing from the working directory, which Python 3.11 and newer can do.

    joblib starts them by ``python -m``. What they start in turn does as it did: :func:`_away` takes the mark away.
    """
    if _SAFE in os.environ:
        yield
        return
    os.environ[_SAFE] = _OURS
    try:
        yield
    finally:
        os.environ.pop(_SAFE, None)


def _next(found: Iterator[Any]) -> Any:
    """The next item, None at the end. Each backend raises another error when it loses a worker."""
    try:
        return next(found, None)
    except _Lost:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise _Lost(f"{type(error).__name__}{reason and f': {reason}'}") from error


def _here(context: Context, function: Callable[[J], R], load: Callable[[int], J], index: int) -> tuple[int, _Found]:
    """Run a job on a thread of this process; its warnings go to the caller's list."""
    try:
        return index, (context.run(lambda: function(load(index))), None, ())
    except Exception as error:
        return index, (None, error, ())


def _packed(function: Callable[[J], R], load: Callable[[int], J], index: int) -> bytes | Exception:
    """Pickle a job. An error is returned, not raised: raised here, it would look like an error of the backend."""
    try:
        return _sealed((_versions(), function, load(index)))
    except Exception as error:
        return error


def _sealed(content: Any) -> bytes:
    """Pickle something, and put the SHA-256 of the pickle in front."""
    import cloudpickle

    packed: bytes = cloudpickle.dumps(content, protocol=5)
    return sha256(packed).digest() + packed


def _unsealed(sealed: bytes) -> Any:
    """Give back what :func:`_sealed` was called with.

    Raises:
        _Lost: the bytes are not those that were sent.
    """
    size = sha256().digest_size
    if not isinstance(sealed, bytes) or sha256(memoryview(sealed)[size:]).digest() != sealed[:size]:
        raise _Lost("what it sent or was sent arrived damaged")
    return pickle.loads(memoryview(sealed)[size:])  # noqa: S301 - this process and its workers send each other code


def _away(index: int, packed: bytes | Exception) -> bytes:
    """Run a job in another process; returns its index and what became of it, sealed."""
    messages: list[str] = []
    if os.environ.get(_SAFE) == _OURS:
        del os.environ[_SAFE]
    sent: Any = None if isinstance(packed, Exception) else _unsealed(packed)
    try:
        if isinstance(packed, Exception):
            raise packed
        versions, function, job = sent
        if versions != _versions():
            raise UsageError(f"a worker has other versions than this machine: {_versions()} there, {versions} here")
        with one_thread(), logged_warnings() as messages:
            result = function(job)
        return _sealed((index, (result, None, tuple(messages))))
    except Exception as error:
        return _sealed((index, (None, _portable(error), tuple(messages))))


def _portable(error: Exception) -> Exception:
    """The exception, or one that survives pickling."""
    with suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error):  # noqa: S301 - our own
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")


@cache
def _versions() -> _Versions:
    return _Versions(*map(version, ("cerwu-onnx", "numpy", "scipy", "onnxruntime")))


def _cores() -> int:
    """The default number of jobs at a time."""
    from joblib import cpu_count

    return asked_threads() or int(cpu_count())


def _parsed(cluster: str) -> tuple[str, str]:
    """Kind and ``host:port`` of a cluster.

    Raises:
        UsageError: it is not such a URL.
    """
    with suppress(ValueError):
        url = urlsplit(cluster)
        if url.scheme in SCHEMES and url.hostname and url.port and not (url.path or url.query or url.username):
            return url.scheme, url.netloc
    raise UsageError(f"cluster {cluster!r} is not understood: give dask://HOST:PORT or ray://HOST:PORT")


@contextmanager
def _dask(address: str) -> Iterator[dict[str, Any]]:
    """Connect to a dask scheduler, and yield the settings of joblib for its workers."""
    try:
        from dask import distributed
    except ImportError:
        raise _missing("dask") from None
    connect: Any = distributed.Client  # it has no types
    try:
        client = connect(f"tcp://{address}", timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError) as error:
        raise _silent(f"dask://{address}", "dask scheduler", error) from None
    try:
        try:
            client.wait_for_workers(1, timeout=ANSWER)
        except TimeoutError as error:
            raise _silent(f"dask://{address}", f"dask worker tcp://{address}", error) from None
        yield {"backend": "dask", "n_jobs": -1, "client": client}
    finally:
        client.close()


@contextmanager
def _ray(address: str) -> Iterator[dict[str, Any]]:
    """Connect to a ray cluster, and yield the settings of joblib for its workers."""
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise _missing("ray") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error tells everything
            ray.init(f"ray://{address}", log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise _silent(f"ray://{address}", "ray start --head", error) from None
    try:
        register_ray()
        yield {"backend": "ray", "n_jobs": max(int(ray.cluster_resources().get("CPU", 1)), 1)}
    finally:
        ray.shutdown()


def _missing(extra: str) -> UsageError:
    return UsageError(f"{extra}:// needs packages that are not here: pip install 'cerwu-onnx[{extra}]'")


def _silent(cluster: str, command: str, error: Exception) -> WorkerError:
    """The error for an address that does not answer."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return WorkerError(f"{cluster} does not answer ({reason}): is `{command}` running there?")
