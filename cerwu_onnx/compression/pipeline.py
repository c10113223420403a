"""``compress``: run all stages in order, from an ONNX file to a .cwb file and its report."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from cerwu_onnx._version import __version__
from cerwu_onnx.array_files.files import is_array_file
from cerwu_onnx.calibration import CalibrationSpec, ImageOptions, Source, open_data
from cerwu_onnx.calibration.trust import Doubts, examine
from cerwu_onnx.compression.arrays import compress_arrays
from cerwu_onnx.compression.delta_base import Base
from cerwu_onnx.compression.dequantize import with_float_weights
from cerwu_onnx.compression.encode import Coded, encode
from cerwu_onnx.compression.encode_delta import encode_delta
from cerwu_onnx.compression.fidelity import Found
from cerwu_onnx.compression.fingerprint import data_digest, model_digest
from cerwu_onnx.compression.layer_rules import apply_rules, rules_of
from cerwu_onnx.compression.left_exact import warn_if_much_is_exact
from cerwu_onnx.compression.lost_rows import warn_of_lost_rows
from cerwu_onnx.compression.model_quantizer import ModelQuantizer, QuantizedModel
from cerwu_onnx.compression.target_search import BITS_PER_DOUBLING, Search, most_trials
from cerwu_onnx.config import EFFORTS, FIDELITY, UNPRICED, Settings, Target
from cerwu_onnx.container import reader
from cerwu_onnx.container.reader import read_base
from cerwu_onnx.errors import CalibrationError, CheckFailed, ModelError, UsageError
from cerwu_onnx.evaluate.confidence import least_share
from cerwu_onnx.evaluate.metrics import Measured, Scorer, open_scorer
from cerwu_onnx.jobs.cache import NO_CACHE, Cache, open_cache
from cerwu_onnx.jobs.files import check_target, write_atomic
from cerwu_onnx.jobs.inputs import own_files, unchanged_inputs
from cerwu_onnx.jobs.parallel import Pool
from cerwu_onnx.jobs.progress import Clock, Progress, duration, logged_warnings, silent
from cerwu_onnx.model.fold import check_folding, fold_batch_norm
from cerwu_onnx.model.graph import Graph, analyse, load_model
from cerwu_onnx.model.loading import file_digest, model_size
from cerwu_onnx.model.tensors import constant_tensors
from cerwu_onnx.opened import CompressedModel
from cerwu_onnx.report import Fidelity, LayerReport, Point, Report, Scores
from cerwu_onnx.runtime import write_onnx

log = logging.getLogger(__name__)

NOTHING = 1e-5
"""Loss at the outputs that nobody will notice, 1e-5 nats or 0.3 % of root mean square: below it, a search for a size
does not try larger files."""

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
            without data); None takes OMP_NUM_THREADS or all cores.
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
    if target.searches and settings.method in UNPRICED:
        raise UsageError(f"method {settings.method} has no lambda to search over: its size follows from --levels alone")
    if (target.searches or target.fidelity is not None) and settings.lambda_ is not None:
        raise UsageError("lambda and a target exclude each other: the search finds lambda")
    if target.fidelity is not None and (settings.method != "trellis" or calib is None):
        raise UsageError("a fidelity is judged on calibration data, by the method trellis: give --calib")
    if cluster is not None and settings.method == "trellis" and calib is not None:
        raise UsageError(
            "trellis with calibration data quantises a layer on what the layers before it give: a cluster can share "
            "many models (--out-dir) or many lambdas (sweep), not the layers of one"
        )
    check_target(output, overwrite=force, source=model)
    if base is not None:
        _check_delta(settings, target)
        check_target(output, overwrite=force, source=base)
    clock = Clock()
    with Pool(jobs, cluster) as pool, logged_warnings() as warnings, unchanged_inputs() as check_inputs:
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
                _check_samples(before, target)
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
            trials = _Trials(
                quantizer,
                metadata,
                scorer if target.max_drop is not None else None,
                before,
                target.confidence,
                start,
                most_trials(quantizer.settles, target.max_drop is not None) if target.searches else 1,
            )
            search = Search(trials, quantizer.settle if quantizer.settles else None, _is_ample)
            found = _judged(settings, target, quantizer)
            price = settings.price if found is None else found.price
            _look(search, target, settings, quantizer, before.score, model_bytes, price)
            point, (done, coded) = search.best
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
        _check_size(point, coded, target)
        scores: Scores | None = None
        missed: tuple[str, ...] = ()
        if scorer is not None:
            point = trials.scored(scorer, point, done) if point.score is None else point
            samples = None if before.answers is None else len(before.answers)
            sure = None if samples is None else target.confidence
            scores = Scores(scorer.name, before.score, point.score or 0.0, point.low, sure, samples)
            missed = _missed(scores, target)
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


def _check_delta(settings: Settings, target: Target) -> None:
    """Refuse what deltas do not support.

    Raises:
        UsageError: it is asked for.
    """
    if settings.method != "trellis":
        raise UsageError(f"a base is for the method trellis, not {settings.method}: its steps are those of the base")
    if target.size is not None or target.bits_per_weight is not None:
        raise UsageError("a delta has no target size: give --fidelity, --max-drop or --lambda")
    if settings.in_place:
        raise UsageError("a delta is decoded beside its base, not in place")


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
            above_bound=layer.bits_per_weight - done.bounds[layer.name],
            output_loss=losses.get(layer.name),
            loss_share=losses[layer.name] / total if layer.name in losses else None,
        )
        for layer in layers
    )


@dataclass(slots=True)
class _Trials:
    """One trial of a search: quantise and encode at a price, and score the file where accuracy is the target.

    ``most`` is how many there may be.
    """

    quantizer: ModelQuantizer
    metadata: Mapping[str, Any]
    scorer: Scorer | None
    before: Measured
    confidence: float
    base: Base | None = None
    most: int = 1
    count: int = 0
    started: float = field(default_factory=lambda: time.monotonic())

    def __call__(self, price: float) -> tuple[Point, tuple[QuantizedModel, Coded]]:
        """Try one lambda."""
        done = self.quantizer.at(price)
        coded = self._encode(price, done, self.quantizer.settings, self.base)
        weights = sum(layer.weights for layer in coded.layers)
        bits = 8 * sum(layer.coded_bytes for layer in coded.layers) / max(weights, 1)
        point = Point(price, len(coded.content), bits)
        if self.scorer is not None:
            point = self.scored(self.scorer, point, done)
        self.count += 1
        if self.most > 1:
            each = (time.monotonic() - self.started) / self.count
            left = f"up to {duration(each * (self.most - self.count))} to go"
            self.quantizer.progress("search", self.count, None, left)
        return point, (done, coded)

    def scored(self, scorer: Scorer, point: Point, done: QuantizedModel) -> Point:
        """Add to a point the score of the model that its file decompresses to."""
        coded = self._encode(point.lambda_, done, replace(self.quantizer.settings, weights_only=False))
        with self.quantizer.clock("metric"), own_files(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_onnx(CompressedModel(reader.parse(coded.content)), path)
            after = scorer.measure(path)
        if self.before.answers is None or after.answers is None:
            return replace(point, score=after.score)
        share = least_share(self.before.answers, after.answers, self.confidence)
        return replace(point, score=after.score, low=share * self.before.score)

    def _encode(self, price: float, done: QuantizedModel, settings: Settings, base: Base | None = None) -> Coded:
        with self.quantizer.clock("encode"):
            self.quantizer.progress("encode", 0, None, "")
            if base is not None:
                return encode_delta(done.graph, done.quantized, {**self.metadata, "lambda": price}, settings, base)
            return encode(done.graph, done.quantized, {**self.metadata, "lambda": price}, settings)


def _is_ample(result: tuple[QuantizedModel, Coded]) -> bool:
    loss = result[0].loss
    return loss is not None and loss < NOTHING


def _judged(settings: Settings, target: Target, quantizer: ModelQuantizer) -> Found | None:
    """The price that keeps the fidelity of the target; None if something else says what the file is meant for."""
    if target.searches or settings.lambda_ is not None:
        return None
    return quantizer.find_price(FIDELITY if target.fidelity is None else target.fidelity)


def _fidelity(found: Found | None, target: Target) -> Fidelity | None:
    """What the report says of it; None where all is lost, as a warning has said."""
    if found is None or not math.isfinite(found.lost):
        return None
    one, asked = found.judged, FIDELITY if target.fidelity is None else target.fidelity
    error = one.error * found.lost / one.lost if one.lost > 0 else one.error
    return Fidelity(asked, 1 - found.lost, error, one.kind, one.output, found.same, one.samples)


def _look(
    search: Search[Any],
    target: Target,
    settings: Settings,
    quantizer: ModelQuantizer,
    float_score: float,
    model_bytes: int,
    price: float,
) -> None:
    """Search for the size or accuracy of the target; without one, try only ``price``."""
    weights = sum(layer.layout.size for layer in quantizer.graph.layers)
    if target.size is not None:
        doubling = max(weights * BITS_PER_DOUBLING / 8, 1.0)
        start = settings.price if target.size < model_bytes else NOTHING  # lambda is in units of loss, which is less
        search.to_size(lambda point: point.file_bytes, target.size, start, doubling)
    elif target.bits_per_weight is not None:
        search.to_size(lambda point: point.bits_per_weight, target.bits_per_weight, settings.price, BITS_PER_DOUBLING)
    elif target.max_drop is not None:
        search.to_accuracy(_least(float_score, target.max_drop), settings.price)
    else:
        quantizer.settle(price)
        search.at(price)


def _check_size(point: Point, coded: Coded, target: Target) -> None:
    """Refuse a file that is larger than the target or limit allows.

    Raises:
        CheckFailed: it is larger.
    """
    size, rest = len(coded.content), sum(coded.other_bytes.values())
    if target.size is not None and size > target.size:
        raise CheckFailed(
            f"no file of at most {target.size:,} bytes: the smallest found has {size:,} (lambda {point.lambda_:g}), "
            f"{rest:,} of which are not weights; nothing was written"
        )
    if target.bits_per_weight is not None and point.bits_per_weight > target.bits_per_weight:
        raise CheckFailed(
            f"no file of at most {target.bits_per_weight:g} bits per weight: the smallest found has "
            f"{point.bits_per_weight:.3f} (lambda {point.lambda_:g}); nothing was written"
        )
    if target.fail_above is not None and size > target.fail_above:
        raise CheckFailed(
            f"the file would have {size:,} bytes, {size - target.fail_above:,} above the limit of "
            f"{target.fail_above:,}; nothing was written"
        )


def _missed(scores: Scores, target: Target) -> tuple[str, ...]:
    """One sentence for each limit of accuracy that the file does not hold."""
    lost = f"{scores.metric} falls from {scores.float_score:.6g} to {scores.score:.6g}, by {100 * scores.drop:.3g} %"
    found = []
    if target.max_drop is not None and not (scores.score if scores.low is None else scores.low) >= _least(
        scores.float_score, target.max_drop
    ):
        limit, sure = f"the largest drop of {100 * target.max_drop:.6g} %", scores.surely()
        found.append(f"no file found holds {limit}; this is the best: {lost}{sure and f', {sure}'}")
    if target.fail_drop is not None and not scores.score >= _least(scores.float_score, target.fail_drop):
        found.append(f"the limit is {100 * target.fail_drop:.6g} %: {lost}")
    return tuple(found)


def _least(score: float, drop: float) -> float:
    """The score that is left after a drop."""
    return score - drop * abs(score)


def _check_samples(before: Measured, target: Target) -> None:
    """Refuse a largest drop that so few samples could not confirm, even if both models gave the same answers.

    Raises:
        CalibrationError: there are too few samples.
    """
    if target.max_drop is None or before.answers is None:
        return
    share = least_share(before.answers, before.answers, target.confidence)
    if share < 1 - target.max_drop:
        raise CalibrationError(
            f"metric {target.metric}: {len(before.answers)} samples cannot show with {100 * target.confidence:g} % "
            f"confidence that no more than {100 * target.max_drop:.6g} % is lost, {100 * (1 - share):.2g} % at best: "
            "give more --metric-data, or a lower --confidence (50% leaves no margin)"
        )


def prepare(
    model: str | Path, settings: Settings, calib: CalibrationSpec | None = None, images: ImageOptions | None = None
) -> tuple[Graph, tuple[str, ...], Source | None]:
    """Load the model, open the calibration data, fold BatchNormalization if asked, and find the layers.

    If folding was not asked for explicitly and running both models cannot confirm it, nothing is folded.

    Returns:
        The graph as the rules of the settings leave it, the names of the folded BatchNormalization nodes, and the
        opened data (None without ``calib``).

    Raises:
        UsageError: a rule matches nothing.
    """
    loaded = load_model(model)
    if settings.requantize:
        loaded, requantized = with_float_weights(loaded)
        if not requantized:
            log.warning("nothing is quantised again: no DequantizeLinear of the model reads only constants")
    limit = EFFORTS[settings.effort].samples if settings.method == "trellis" else None
    source, doubts = None if calib is None else open_data(calib, loaded, images=images, limit=limit), Doubts()
    if source is not None and settings.method == "trellis":
        doubts = examine(loaded, source, settings.output_loss)
        source = None if doubts.useless else source
    graph, names = _layers_of(loaded, settings, source)
    if graph.layers:  # otherwise nothing depends on the data
        for warning in doubts.said:
            log.warning("%s", warning)
    return graph, names, source


def _layers_of(loaded: onnx.ModelProto, settings: Settings, source: Source | None) -> tuple[Graph, tuple[str, ...]]:
    """Fold BatchNormalization and find the layers; arguments and results as for :func:`prepare`."""
    rules = rules_of(constant_tensors(loaded), settings.rules)
    if not settings.folds_bn:
        return apply_rules(analyse(loaded), rules), ()
    folded, names = fold_batch_norm(loaded, {name for name, rule in rules.items() if rule.skip})
    if names:
        try:
            check_folding(loaded, folded, source.first() if source else None)
        except ModelError as error:
            if settings.fold_bn:
                raise
            log.warning("BatchNormalization is not folded: %s", error)
            folded, names = loaded, ()
    return apply_rules(analyse(folded), rules), names


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
