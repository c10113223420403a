"""Jobs that do not depend on each other: on threads or processes of this machine, or on the workers of a cluster.

joblib is the one abstraction over all of them; this module adds what it leaves open: an order (largest first, so that
no large job is left for the end), errors and warnings of the jobs as if they had run here, one thread for each job
(sums round differently on more), and jobs that run again where their worker was lost.

A job that goes to another process is a single pickle. It travels with the task, not beside it, so that a scheduler can
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
"""Losses of workers, without a single result between them, after which the run ends at the next."""

ANSWER = 10
"""Seconds that a scheduler has to answer, and then the first worker to come."""

SCHEMES = ("dask", "ray")
"""Kinds of clusters, as URLs and extras of the package call them."""

_ROUND = 8
"""Jobs for each worker in a call of a backend that returns all results at once: what a loss may cost."""

_Found = tuple[Any, "Exception | None", "tuple[str, ...]"]
"""What became of a job: its result, or the error that it raised, and its warnings."""


class Pool:
    """Where jobs run. A context: inside it the cluster, if there is one, is connected.

    Args:
        jobs: at a time on this machine; None takes OMP_NUM_THREADS or, without that, all cores.
        cluster: ``dask://host:port`` or ``ray://host:port`` instead.

    Raises:
        UsageError: these make no sense, or a package is missing.
        WorkerError: nobody answers at the address.
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
            function: does a job. Of jobs that leave this process it must be found by name there.
            load: index -> job; called late, so that few of them are in memory.
            sizes: how long each job takes, in any unit.
            most: at a time on this machine.
            apart: jobs hold Python's lock for long or need a process for themselves: here they get processes.

        Raises:
            WorkerError: workers were lost again and again.
        """
        left = dict.fromkeys(sorted(range(len(sizes)), key=lambda index: -sizes[index]))
        count = min(filter(None, (self._jobs or _cores(), most, len(sizes) or 1)))
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
                with warnings.catch_warnings():  # joblib's, about results that nobody wants any more
                    warnings.simplefilter("ignore")
                    found.close()
        if failed.error is not None:
            raise failed.error

    def _found(
        self, function: Callable[[J], R], load: Callable[[int], J], order: Iterator[int], count: int, apart: bool
    ) -> Generator[Any]:
        """What became of the jobs of ``order``, by joblib's backend for this pool."""
        from joblib import Parallel, delayed, parallel_config

        if self.cluster is None and not apart:
            context = copy_context()  # joblib asks for jobs in threads of its own
            with one_thread():
                jobs = (delayed(_here)(context.copy(), function, load, index) for index in order)
                yield from Parallel(count, backend="threading", pre_dispatch=count, **_UNORDERED)(jobs)
            return
        away = (delayed(_away)(index, _packed(function, load, index)) for index in order)
        settings = self._settings or {"backend": "loky", "n_jobs": count, "inner_max_num_threads": 1}
        with parallel_config(**settings), warnings.catch_warnings(), _safe_path():
            warnings.filterwarnings("ignore", "Sending large graph")  # dask's, about jobs that are arrays
            warnings.filterwarnings("ignore", r"\d+ tasks which")  # joblib's, about results that nobody wants any more
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
    """The first error of a job. No job begins after it; those that have begun end: backends do not like to be torn."""

    error: Exception | None = None

    def note(self, error: Exception) -> None:
        self.error = self.error or error

    def until(self, order: Iterable[int]) -> Iterator[int]:
        """The indices of ``order``, as long as there is no error."""
        return takewhile(lambda _: self.error is None, list(order))


class _Lost(Exception):
    """The machinery failed, not a job."""


class _Versions(NamedTuple):
    """What results depend on, besides the job."""

    cerwu_onnx: str
    numpy: str
    scipy: str
    onnxruntime: str


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that start here do not hear of Ctrl-C: this one does, and ends them."""
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
    """The next item, None at the end. Each backend names the loss of a worker in its own way."""
    try:
        return next(found, None)
    except _Lost:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise _Lost(f"{type(error).__name__}{reason and f': {reason}'}") from error


def _here(context: Context, function: Callable[[J], R], load: Callable[[int], J], index: int) -> tuple[int, _Found]:
    """A job on a thread of this process, whose warnings are collected where the caller's are."""
    try:
        return index, (context.run(lambda: function(load(index))), None, ())
    except Exception as error:
        return index, (None, error, ())


def _packed(function: Callable[[J], R], load: Callable[[int], J], index: int) -> bytes | Exception:
    """A job as it travels; what went wrong instead, for here an error would be one of the backend's."""
    try:
        return _sealed((_versions(), function, load(index)))
    except Exception as error:
        return error


def _sealed(content: Any) -> bytes:
    """A pickle behind its SHA-256."""
    import cloudpickle

    packed: bytes = cloudpickle.dumps(content, protocol=5)
    return sha256(packed).digest() + packed


def _unsealed(sealed: bytes) -> Any:
    """What was sealed.

    Raises:
        _Lost: it is not what was sent.
    """
    size = sha256().digest_size
    if not isinstance(sealed, bytes) or sha256(memoryview(sealed)[size:]).digest() != sealed[:size]:
        raise _Lost("what it sent or was sent arrived damaged")
    return pickle.loads(memoryview(sealed)[size:])  # noqa: S301 - from a process that works for this one, or it does


def _away(index: int, packed: bytes | Exception) -> bytes:
    """A job in another process: its index and what became of it, sealed."""
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
            return _sealed((index, (function(job), None, tuple(messages))))
    except Exception as error:
        return _sealed((index, (None, _portable(error), tuple(messages))))


def _portable(error: Exception) -> Exception:
    """An exception that survives pickling."""
    with suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error):  # noqa: S301 - our own
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")


@cache
def _versions() -> _Versions:
    return _Versions(*map(version, ("cerwu-onnx", "numpy", "scipy", "onnxruntime")))


def _cores() -> int:
    """Jobs at a time that nobody has asked otherwise for."""
    from joblib import cpu_count

    return asked_threads() or int(cpu_count())


def _parsed(cluster: str) -> tuple[str, str]:
    """Kind and ``host:port`` of a cluster.

    Raises:
        UsageError: it is no such URL.
    """
    with suppress(ValueError):
        url = urlsplit(cluster)
        if url.scheme in SCHEMES and url.hostname and url.port and not (url.path or url.query or url.username):
            return url.scheme, url.netloc
    raise UsageError(f"cluster {cluster!r} is not understood: give dask://HOST:PORT or ray://HOST:PORT")


@contextmanager
def _dask(address: str) -> Iterator[dict[str, Any]]:
    """Settings of joblib for the workers of a dask scheduler."""
    try:
        from dask import distributed
    except ImportError:
        raise _missing("dask") from None
    connect: Any = distributed.Client  # which has no types
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
    """Settings of joblib for the workers of a ray cluster."""
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise _missing("ray") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says it all
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
    """An address that does not answer."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return WorkerError(f"{cluster} does not answer ({reason}): is `{command}` running there?")
