"""``compress``: run all stages in order, from an ONNX file to a .cwb file and its report."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cerwu_onnx._version import __version__
from cerwu_onnx.array_files.files import is_array_file
from cerwu_onnx.calibration import CalibrationSpec, ImageOptions
from cerwu_onnx.compression.arrays import compress_arrays
from cerwu_onnx.compression.delta_base import Base
from cerwu_onnx.compression.encode import Coded
from cerwu_onnx.compression.fidelity import Found
from cerwu_onnx.compression.fingerprint import data_digest, model_digest
from cerwu_onnx.compression.left_exact import warn_if_much_is_exact
from cerwu_onnx.compression.limits import broken_limits, check_delta, check_request, check_samples, check_size
from cerwu_onnx.compression.lost_rows import warn_of_lost_rows
from cerwu_onnx.compression.model_quantizer import ModelQuantizer, QuantizedModel
from cerwu_onnx.compression.prepare import prepare
from cerwu_onnx.compression.target_search import Search, most_trials
from cerwu_onnx.compression.trials import Trials, is_ample, look
from cerwu_onnx.config import FIDELITY, Settings, Target
from cerwu_onnx.container.reader import read_base
from cerwu_onnx.errors import ModelError, UsageError
from cerwu_onnx.evaluate.metrics import Measured, open_scorer
from cerwu_onnx.jobs.cache import NO_CACHE, Cache, open_cache
from cerwu_onnx.jobs.files import check_target, write_atomic
from cerwu_onnx.jobs.inputs import unchanged_inputs
from cerwu_onnx.jobs.parallel import Pool
from cerwu_onnx.jobs.progress import Clock, Progress, logged_warnings, silent
from cerwu_onnx.jobs.threads import few_threads, workers
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.model.loading import file_digest, model_size
from cerwu_onnx.report import Fidelity, LayerReport, Report, Scores

log = logging.getLogger(__name__)

WORTH = 0.9
"""A delta of a larger share of the bytes of a file of its own is not written: it is worth less than its base's care."""

LOST = 0.5
"""A warning names layers whose relative root-mean-square output error is above this."""


def compress(
    model: str | Path,
    output: str | Path,
    *,
    calib: CalibrationSpec | None = None,
    settings: Settings | None = None,
    target: Target | None = None,
    images: ImageOptions | None = None,
    base: str | Path | None = None,
    cache: str | Path | Cache | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compress an ONNX file, or a .npz or .safetensors file of named arrays, into a .cwb file.

    A ``target`` of size or accuracy replaces lambda: a search finds lambda, with statistics collected once. A file
    above a limit of size is not written. A file that loses too much accuracy is written, and ``missed`` of the report
    says so.

    Args:
        model: path of the ONNX model, or of the arrays (docs/arrays.md): then ``calib`` is a file of moments.
        output: path of the .cwb file.
        calib: calibration data: a .npz, a directory, ``module:function``, ``file.py:function``, a callable, an
            iterable of feed dicts or a dict of arrays. None quantises data-free (identity Hessian), with a warning.
        settings: method and numbers; the defaults of :class:`~cerwu_onnx.config.Settings` when None.
        target: targets and limits of size and accuracy; none when None.
        images: how a directory of images becomes inputs.
        base: path of another .cwb file of an earlier state of the model: the file becomes a delta, which says how that
            one's tensors change. A file of its own is written, after a warning, if the models differ in more than
            values, or if that takes hardly more bytes (docs/deltas.md).
        cache: folder that keeps measurements and quantised layers for runs with the same model and data, or an open
            cache; None keeps nothing.
        jobs: layers quantised at a time, where they do not depend on each other (the papers' methods, and all methods
            without data); otherwise shares of the samples, and files of a search. None takes OMP_NUM_THREADS or all
            cores. The file does not depend on it.
        cluster: ``dask://host:port`` or ``ray://host:port``, whose workers quantise these layers instead.
        resume: go on where an earlier run with the same arguments was interrupted. Without a ``cache``, the folder
            ``OUTPUT.resume`` serves as one until the file is written. Nothing is kept without ``calib``.
        force: overwrite ``output``.
        progress: called as the stages advance.

    Returns:
        The report, layer by layer.

    Raises:
        UsageError: a path cannot be read or written, the method has no lambda to search, or a delta is asked for with
            what it does not support.
        BaseError: the base is itself a delta.
        ModelError: the model is invalid, or the settings are strict and there was a warning.
        CalibrationError: the calibration data does not fit the model, or the metric fails.
        CheckFailed: the target size cannot be reached, or the file would exceed ``fail_above``.
        WorkerError: the cluster does not answer, or its workers were lost again and again.
        InputChangedError: the model or the data was replaced or written while it was in use.
    """
    settings, target = settings or Settings(), target or Target()
    progress = progress or silent
    if is_array_file(model):
        if base is not None or cluster is not None or resume:
            raise UsageError("files of arrays know no base, no cluster and no resume: these are for models")
        if calib is not None and not isinstance(calib, (str, Path)):
            raise UsageError("for a file of arrays, calib is the path of a file with second moments of inputs")
        return compress_arrays(
            model, output, moments=calib, settings=settings, target=target, force=force, jobs=jobs, progress=progress
        )
    check_request(settings, target, data=calib is not None, cluster=cluster is not None)
    check_target(output, overwrite=force, source=model)
    if base is not None:
        check_delta(settings, target)
        check_target(output, overwrite=force, source=base)
    clock = Clock()
    with (
        few_threads(),
        Pool(jobs, cluster) as pool,
        workers(pool.workers),
        logged_warnings() as warnings,
        unchanged_inputs() as check_inputs,
    ):
        with clock("load"):
            progress("load", 0, None, str(model))
            graph, folded, source = prepare(model, settings, calib, images)
            start = None if base is None else _fitting(base, graph, settings)
            if calib is None and graph.layers:
                log.warning(
                    "no calibration data: every input counts the same (identity Hessian), which costs accuracy; "
                    "give --calib for results worth shipping"
                )
            model_bytes = model_size(model)
            metadata: dict[str, Any] = {
                "tool": f"cerwu-onnx {__version__}",
                "method": settings.method,
                "lambda": settings.price,
                "calibration": "data" if source else "none",
                "model": file_digest(model),
            }
            if folded:
                metadata["folded"] = len(folded)
            if settings.method != "trellis":
                metadata["levels"] = settings.levels
            if settings.about:
                metadata["about"] = dict(settings.about)
        _refuse_fallbacks(settings, warnings)
        scorer, before = None, Measured(0.0)
        if target.metric is not None:
            with clock("metric"):
                scorer = open_scorer(target, model, images)
                before = scorer.measure(model)
                check_samples(before, target)
        with clock("load"):
            kept = NO_CACHE
            own = f"{output}.resume" if resume and cache is None else None
            if isinstance(cache, Cache):
                kept = cache
            elif (folder := cache or own) is not None and source is not None:
                kept = open_cache(folder, model_digest(graph), data_digest(source))
        while True:
            quantizer = ModelQuantizer(graph, source, settings, progress, clock, kept, pool, start)
            _refuse_fallbacks(settings, warnings)
            trials = Trials(
                quantizer,
                metadata,
                scorer if target.max_drop is not None else None,
                before,
                target.confidence,
                start,
                most_trials(quantizer.settles) if target.searches else 1,
            )
            search = Search(trials, quantizer.settle if quantizer.settles else None, is_ample)
            found = _judged(settings, target, quantizer)
            price = settings.price if found is None else found.price
            look(search, target, settings, quantizer, before.score, model_bytes, price)
            point, (done, coded) = search.best
            if target.searches and target.max_drop is None:  # else a price was given, or a score is measured
                found = quantizer.judge(point.lambda_)
            if start is None or _saves(coded):
                break
            start = None
        if search.ended:
            log.warning(
                "the target is larger than the model needs: with %s bytes, at lambda %g, the loss at the outputs is "
                "%.1g; give a smaller target, or --lambda instead",
                f"{point.file_bytes:,}",
                point.lambda_,
                done.loss,
            )
        check_size(point, coded, target)
        scores: Scores | None = None
        missed: tuple[str, ...] = ()
        if scorer is not None:
            point = trials.scored(scorer, point, done, coded) if point.score is None else point
            samples = None if before.answers is None else len(before.answers)
            sure = None if samples is None else target.confidence
            scores = Scores(scorer.name, before.score, point.score or 0.0, point.low, sure, samples)
            missed = broken_limits(scores, target)
        _warn_if_lost(coded, settings)
        if not done.samples:
            warn_of_lost_rows(done.graph, done.quantized)
        warn_if_much_is_exact(quantizer.graph, coded.kept)
        _refuse_fallbacks(settings, warnings)
        check_inputs()
        with clock("encode"):
            write_atomic(output, coded.content, overwrite=force)
        if own is not None:
            kept.remove()
    return Report(
        model_bytes=model_bytes,
        file_bytes=len(coded.content),
        method=settings.method,
        lambda_=point.lambda_,
        levels=None if settings.method == "trellis" else settings.levels,
        calibration="data" if done.samples else "none",
        calibration_samples=done.samples,
        output_loss=done.loss,
        folded=folded,
        layers=_completed(coded.layers, done),
        parameters=coded.parameters,
        kept=coded.kept,
        other_bytes=coded.other_bytes,
        warnings=tuple(dict.fromkeys(warnings)),
        seconds=clock.seconds,
        search=tuple(search.points) if target.searches else (),
        scores=scores,
        fidelity=_fidelity(found, target),
        missed=missed,
        delta=coded.delta,
    )


def _fitting(path: str | Path, graph: Graph, settings: Settings) -> Base | None:
    """The base, or None, after a warning, if the model is no later state of what it holds."""
    base = Base(read_base(path))
    misfit = base.misfit(graph, settings.coder)
    if misfit:
        log.warning("the model is no later state of the base, so a file of its own is written: %s", misfit)
    return None if misfit else base


def _saves(coded: Coded) -> bool:
    """Whether a delta takes enough less than a file of its own; a warning says so if not."""
    if coded.delta is None or len(coded.content) <= WORTH * coded.delta.full_bytes:
        return True
    log.warning(
        "the model has little in common with the base: a delta would take %s bytes, a file of its own, which is "
        "written, about %s",
        f"{len(coded.content):,}",
        f"{coded.delta.full_bytes:,}",
    )
    return False


def _completed(layers: tuple[LayerReport, ...], done: QuantizedModel) -> tuple[LayerReport, ...]:
    """Add to the layers' reports what only the quantiser knows: bounds and losses."""
    losses = {layer.name: done.losses[layer.name] for layer in layers if layer.name in done.losses}
    total = sum(losses.values()) or 1.0
    return tuple(
        replace(
            layer,
            above_bound=layer.bits_per_weight - done.bounds[layer.name] if layer.name in done.bounds else None,
            output_loss=losses.get(layer.name),
            loss_share=losses[layer.name] / total if layer.name in losses else None,
        )
        for layer in layers
    )


def _judged(settings: Settings, target: Target, quantizer: ModelQuantizer) -> Found | None:
    """The price that keeps the fidelity of the target; None if something else says what the file is meant for."""
    if target.searches or settings.lambda_ is not None:
        return None
    return quantizer.find_price(FIDELITY if target.fidelity is None else target.fidelity)


def _fidelity(found: Found | None, target: Target) -> Fidelity | None:
    """What the report says of it; None where all is lost, as a warning has said."""
    if found is None or not math.isfinite(found.lost):
        return None
    one, asked = found.judged, None if target.searches else FIDELITY if target.fidelity is None else target.fidelity
    error = one.error * found.lost / one.lost if one.lost > 0 else one.error
    return Fidelity(asked, 1 - found.lost, error, one.kind, one.output, found.same, one.samples)


def _refuse_fallbacks(settings: Settings, warnings: Sequence[str]) -> None:
    """In strict mode, end at the first warning: each one says that something was done with less than was asked for.

    Raises:
        ModelError: the settings are strict, and there was a warning.
    """
    if settings.strict and warnings:
        more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
        raise ModelError(f"strict, so nothing was written: {warnings[0]}{more}")


def _warn_if_lost(coded: Coded, settings: Settings) -> None:
    """Warn of each layer that loses most of its output."""
    if settings.method == "trellis":
        return
    for layer in coded.layers:
        if layer.relative_error > LOST**2:
            log.warning(
                "layer %s loses %.0f %% of its output: weights differ by orders of magnitude, or the rate is too low; "
                "raise --levels or lower --lambda",
                layer.name,
                100 * layer.relative_error**0.5,
            )
