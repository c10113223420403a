"""``sweep``: compress one model at many lambdas side by side, with measurements that are made once."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cerwu_onnx.calibration import CalibrationSpec, ImageOptions
from cerwu_onnx.compression.fingerprint import data_digest, model_digest
from cerwu_onnx.compression.model_quantizer import ModelQuantizer
from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.compression.prepare import prepare
from cerwu_onnx.config import UNPRICED, Settings, Target
from cerwu_onnx.errors import UsageError
from cerwu_onnx.jobs.cache import Cache, Entry, digest, open_cache
from cerwu_onnx.jobs.files import check_target, output_folder, write_atomic
from cerwu_onnx.jobs.inputs import unchanged_inputs
from cerwu_onnx.jobs.parallel import Pool
from cerwu_onnx.jobs.progress import Progress, logged_warnings, silent
from cerwu_onnx.jobs.threads import one_thread
from cerwu_onnx.report import Report

log = logging.getLogger(__name__)

MEASURED = ("noise", "statistics")
"""Cache entries that do not depend on lambda."""


@dataclass(frozen=True, slots=True)
class Swept:
    """One file of a sweep.

    Attributes:
        path: path of the .cwb file.
        report: the report of its compression.
    """

    path: Path
    report: Report


def sweep(
    model: str | Path,
    folder: str | Path,
    lambdas: Sequence[float],
    *,
    calib: CalibrationSpec | None = None,
    settings: Settings | None = None,
    target: Target | None = None,
    images: ImageOptions | None = None,
    cache: str | Path | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Swept]:
    """Compress an ONNX file at several lambdas, into ``NAME-LAMBDA.cwb`` in a folder.

    Each file is the one that :func:`~cerwu_onnx.compress` writes at that lambda with one thread.

    Args:
        model: path of the ONNX model; workers of a cluster read it, and data in files, under the same path.
        folder: where the files go; it is made if it does not exist.
        lambdas: prices of rate, all different.
        calib: as for :func:`~cerwu_onnx.compress`.
        settings: all settings but lambda.
        target: a metric and its data to score each file; it may hold nothing else.
        images: how a directory of images becomes inputs.
        cache: folder that keeps what was measured and, where this machine does the work, what was quantised.
        jobs: lambdas at a time, each in a process of its own; None takes OMP_NUM_THREADS or all cores.
        cluster: ``dask://host:port`` or ``ray://host:port``, whose workers do the work instead.
        force: overwrite files.
        progress: called as the stages advance.

    Returns:
        The files with their reports, in the order of ``lambdas``.

    Raises:
        UsageError: a lambda is given twice, the target has a limit or something to search, or a path cannot be read or
            written.
        ModelError: as for :func:`~cerwu_onnx.compress`.
        CalibrationError: as for :func:`~cerwu_onnx.compress`.
        WorkerError: the cluster does not answer, or workers were lost again and again.
        InputChangedError: the model or the data was replaced or written while it was in use.
    """
    settings, target, progress = settings or Settings(), target or Target(), progress or silent
    with output_folder(Path(folder)):
        paths = _paths(Path(model), Path(folder), lambdas, settings, target, force=force)
        if isinstance(calib, Iterator):
            calib = list(calib)  # every process reads all of it
        scratch_folder = tempfile.TemporaryDirectory(prefix="cerwu-")
        with Pool(jobs, cluster) as pool, scratch_folder as scratch, unchanged_inputs() as check_inputs:
            measured = _measure(model, calib, settings, images, cache, progress)
            job = _Job(
                model=_absolute(model),
                calib=_absolute(calib),
                settings=settings,
                target=replace(target, metric=_absolute(target.metric), metric_data=_absolute(target.metric_data)),
                images=images,
                measured=measured if cluster is None else replace(measured, folder=None),
                scratch=scratch if cluster is None else None,
            )
            done: dict[int, Swept] = {}

            def load(index: int) -> _Job:
                return replace(job, settings=replace(settings, lambda_=float(lambdas[index])))

            progress("sweep", 0, len(paths), "")
            for index, (report, content) in pool.results(_compress, load, [1.0] * len(paths), apart=True):
                check_inputs()
                write_atomic(paths[index], content, overwrite=force)
                done[index] = Swept(paths[index], report)
                progress("sweep", len(done), len(paths), f"{lambdas[index]:g}: {len(content):,} bytes")
        return [done[index] for index in range(len(paths))]


@dataclass(frozen=True, slots=True)
class _Measured(Cache):
    """A cache that holds the measurements in memory, with their warnings, so that they travel with a job."""

    entries: dict[str, tuple[Entry, tuple[str, ...]]] = field(default_factory=dict)

    def get(self, what: str, depends: Any, compute: Callable[[], Entry]) -> Entry:
        """Get a result from memory or from the folder, or compute it."""
        if what not in MEASURED:
            return Cache.get(self, what, depends, compute)
        key = digest(what, json.dumps(depends, sort_keys=True))
        if key in self.entries:
            (text, arrays), messages = self.entries[key]
            for message in messages:
                log.warning("%s", message)
            return text, list(arrays)
        with logged_warnings() as warnings:
            text, arrays = Cache.get(self, what, depends, compute)
        self.entries[key] = (text, list(arrays)), tuple(warnings)
        return text, arrays


@dataclass(frozen=True, slots=True)
class _Job:
    """The compression at one lambda.

    Attributes:
        model, calib, settings, target, images: as for :func:`~cerwu_onnx.compress`.
        measured: the measurements that all lambdas share.
        scratch: folder for temporary files; the parent removes it even if this process is killed. None takes the
            system's.
    """

    model: Any
    calib: Any
    settings: Settings
    target: Target
    images: ImageOptions | None
    measured: _Measured
    scratch: str | None


def _compress(job: _Job) -> tuple[Report, bytes]:
    """Compress, and return the report and the bytes of the file."""
    with _temporary(job.scratch), tempfile.TemporaryDirectory(prefix="cerwu-") as folder:
        output = Path(folder) / "model.cwb"
        report = compress(
            job.model,
            output,
            calib=job.calib,
            settings=job.settings,
            target=job.target,
            images=job.images,
            cache=job.measured,
            jobs=1,
        )
        return report, output.read_bytes()


@contextmanager
def _temporary(folder: str | None) -> Iterator[None]:
    """Make this process put its temporary files into a folder."""
    before = tempfile.tempdir
    if folder is not None:
        tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def _measure(
    model: str | Path,
    calib: CalibrationSpec | None,
    settings: Settings,
    images: ImageOptions | None,
    cache: str | Path | None,
    progress: Progress,
) -> _Measured:
    """Measure what does not depend on lambda, on one thread: the number of cores then changes nothing."""
    if calib is None:
        return _Measured()
    with one_thread():
        progress("load", 0, None, str(model))
        graph, _, source = prepare(model, settings, calib, images)
        kept = _Measured()
        if cache is not None and source is not None:
            opened = open_cache(cache, model_digest(graph), data_digest(source), "one thread")
            kept = _Measured(opened.folder, opened.base)
        ModelQuantizer(graph, source, settings, progress, cache=kept)
    return kept


def _paths(
    model: Path, folder: Path, lambdas: Sequence[float], settings: Settings, target: Target, *, force: bool
) -> list[Path]:
    """The path of each lambda's file, in a folder that exists."""
    if settings.method in UNPRICED:
        raise UsageError(f"method {settings.method} has no lambda to sweep: its size follows from --levels alone")
    if target.searches or target.fail_above is not None or target.fail_drop is not None:
        raise UsageError("a sweep has no target and no limit: only a metric, to score its files")
    if not lambdas:
        raise UsageError("a sweep needs at least one lambda")
    paths = [folder / f"{model.stem}-{replace(settings, lambda_=float(price)).price:g}.cwb" for price in lambdas]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"two lambdas would both give {path}: give each once, apart in six digits")
    for path in paths:
        check_target(path, overwrite=force, source=model)
    return paths


def _absolute(spec: Any) -> Any:
    """Make a path, or the path inside ``file.py:function``, absolute: workers have other working directories."""
    if not isinstance(spec, str | Path):
        return spec
    path, colon, function = str(spec).rpartition(":")
    if colon and path.endswith(".py") and function.isidentifier():
        return f"{Path(path).absolute()}:{function}"
    return str(Path(spec).absolute()) if Path(spec).exists() else spec
