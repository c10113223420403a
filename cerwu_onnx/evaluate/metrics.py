"""Metrics: one number for how good a model is (higher is better), for targets and limits of accuracy.

Four metrics need no code:

========= ======== ==============================================================================================
name      labels   what
========= ======== ==============================================================================================
top1      classes  share of rows whose largest output is the labelled class
agreement none     share of rows whose largest output is that of the float model
auc       0 and 1  area under the ROC curve, of a single output or the last of two (Mann-Whitney, ties count half)
error     none     1 - root of (squared error / energy) against the float model, over all comparable outputs
========= ======== ==============================================================================================

The first three read the first comparable output (:func:`~cerwu_onnx.calibration.output.comparable`) along its last
axis. Any other metric is a function of the user: it takes the path of an ONNX file and brings its own data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cerwu_onnx.calibration import ImageOptions, Source, comparable, model_inputs, open_data
from cerwu_onnx.calibration.collect import open_session, run_session
from cerwu_onnx.config import METRICS, Target
from cerwu_onnx.errors import CalibrationError, CerwuError, UsageError, first_line
from cerwu_onnx.jobs.inputs import reading
from cerwu_onnx.jobs.user_functions import load_function
from cerwu_onnx.model.graph import load_model
from cerwu_onnx.types import Float64Array

BATCH = 64
"""Samples per run of a built-in metric."""

Array: TypeAlias = npt.NDArray[Any]
Outputs: TypeAlias = dict[str, list[Array]]
"""Batches by name of the output."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a metric measures of one model.

    Attributes:
        score: higher is better.
        answers: ``(samples,)`` share of right answers of each sample, whose mean is the score; None for metrics that
            are not such a mean.
    """

    score: float
    answers: Float64Array | None = None


@dataclass(frozen=True, slots=True)
class Scorer:
    """A metric that is ready to use.

    Attributes:
        name: its name in reports.
        function: path of an ONNX file -> score, or the share of right answers of each sample.
    """

    name: str
    function: Callable[[str], float | Float64Array]

    def __call__(self, path: str | Path) -> float:
        """The score of an ONNX file; see :meth:`measure`."""
        return self.measure(path).score

    def measure(self, path: str | Path) -> Measured:
        """The score of an ONNX file, with the answers of classifiers.

        Raises:
            CalibrationError: the metric fails, or what it returns is not a number.
        """
        answers: Float64Array | None = None
        try:
            found = self.function(str(path))
            if self.name in METRICS and isinstance(found, np.ndarray):
                answers, found = found, float(found.mean())
        except CerwuError:
            raise
        except (Exception, SystemExit) as error:  # anything the user's function may raise
            raise CalibrationError(
                f"metric {self.name}: failed with {type(error).__name__}: {first_line(error)}"
            ) from error
        try:
            score, shown = float(found), "NaN"
        except (TypeError, ValueError):
            score, shown = np.nan, f"{found!r:.60}"
        if np.isnan(score):
            raise CalibrationError(f"metric {self.name}: returned {shown}; it must return a number, higher is better")
        return Measured(score, answers)


def open_scorer(target: Target, model: str | Path, images: ImageOptions | None = None) -> Scorer:
    """Open the metric of a target.

    Args:
        target: names the metric and its data.
        model: the float model.
        images: how a folder of images becomes inputs.

    Raises:
        UsageError: the target has no metric, there is no such metric or function, or data is missing or not used.
        CalibrationError: the data does not fit the model or the metric.
        ModelError: the model is invalid.
    """
    metric = target.metric
    if metric is None:
        raise UsageError(f"there is no metric: give {', '.join(METRICS)} or a function")
    if isinstance(metric, str) and metric in METRICS:
        if target.metric_data is None:
            raise UsageError(f"metric {metric} needs data: give --metric-data")
        return Scorer(metric, _builtin(metric, target, Path(model), images))
    if target.metric_data is not None:
        raise UsageError(f"metric data is for {', '.join(METRICS)}: a function of your own brings its data")
    if callable(metric):
        return Scorer(getattr(metric, "__name__", "function"), metric)
    module, colon, name = metric.rpartition(":")
    if not (colon and module and name.isidentifier()):
        raise UsageError(f"metric {metric!r} is unknown: {', '.join(METRICS)}, file.py:function or module:function")
    return Scorer(metric, _function(module, name, metric))


def _function(module: str, name: str, metric: str) -> Callable[[str], float]:
    """Load ``name`` from a module or a Python file."""
    if module.endswith(".py") and not Path(module).is_file():
        raise UsageError(f"metric {metric}: there is no Python file {module}")
    found: Callable[[str], float] = load_function(module, name, f"metric {metric}")
    return found


def _builtin(
    metric: str, target: Target, model: Path, images: ImageOptions | None
) -> Callable[[str], float | Float64Array]:
    """A metric of the table above, with the target's data and what it needs of the float model."""
    loaded = load_model(model)
    data, labels = target.metric_data, np.empty(0, np.int64)
    if isinstance(data, Mapping) or str(data).endswith(".npz"):
        arrays = _arrays(data)  # type: ignore[arg-type]
        given = None
        if target.metric_labels not in {info.name for info in model_inputs(loaded)}:
            given = arrays.pop(target.metric_labels, None)
        data = arrays
        if metric in ("top1", "auc"):
            if given is None:
                raise CalibrationError(
                    f"metric {metric} needs labels: the data has no array {target.metric_labels!r} "
                    f"(--metric-labels), only {', '.join(arrays)}"
                )
            labels = _labels(metric, given, arrays)
    elif metric in ("top1", "auc"):
        raise CalibrationError(f"metric {metric} needs labels: its data is a .npz with the model's inputs and labels")
    name = "metric data" if isinstance(target.metric_data, Mapping) else str(target.metric_data)
    source = open_data(data, loaded, images=images, name=name)  # type: ignore[arg-type]
    reference = _outputs(str(model), source)
    names = comparable(reference)
    first = names[0]
    if metric == "error":
        return lambda path: _closeness({n: reference[n] for n in names}, _outputs(path, source))
    if metric == "auc":
        scores = _last(reference, first)
        truth = _cut(labels, source, len(scores), metric)
        return lambda path: auc(_last(_outputs(path, source), first), truth)
    truth = _classes(reference, first)
    if metric == "top1":
        classes = reference[first][0].shape[-1]
        truth = _cut(labels, source, truth.size, metric)
        if truth.max(initial=-1) >= classes:
            raise CalibrationError(
                f"metric top1: label {truth.max()}, but output {first!r} has {classes} classes, 0 to {classes - 1} "
                "(rows of no class: -1, which is never right)"
            )
    return lambda path: _by_sample(_classes(_outputs(path, source), first) == truth, source)


def _by_sample(right: npt.NDArray[np.bool_], source: Source) -> Float64Array:
    """The share of right rows of each sample; if the rows do not divide evenly into samples, each row counts as one."""
    samples = source.samples or right.size
    shares: Float64Array = right.reshape(right.size if right.size % samples else samples, -1).mean(axis=1)
    return shares


def _arrays(data: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of a mapping or a ``.npz`` file."""
    if isinstance(data, Mapping):
        return {str(name): np.asarray(value) for name, value in data.items()}
    if not Path(data).is_file():
        raise UsageError(f"{data}: no such file of metric data")
    reading(data)
    try:
        with np.load(data, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zipfile, numpy and zlib raise many types
        raise CalibrationError(f"{data}: not a readable .npz file: {first_line(error)}") from error


def _labels(metric: str, given: Array, arrays: Mapping[str, Array]) -> npt.NDArray[np.int64]:
    """Labels as integers, one or more per sample."""
    samples = {array.shape[0] for array in arrays.values() if array.ndim}
    numbers = given.dtype.kind in "iubf" and bool(np.isfinite(given).all())
    if not numbers or not np.array_equal(given, given.astype(np.int64)):
        raise CalibrationError(f"metric {metric}: labels are {given.dtype}; they must be numbers of classes")
    if given.ndim < 1 or given.shape[0] not in samples:
        raise CalibrationError(f"metric {metric}: labels of shape {given.shape} for {max(samples, default=0)} samples")
    labels = given.astype(np.int64)
    if metric == "auc" and set(np.unique(labels)) != {0, 1}:
        raise CalibrationError("metric auc: labels must be 0 and 1, and both must occur")
    return labels


def _cut(labels: npt.NDArray[np.int64], source: Source, rows: int, metric: str) -> npt.NDArray[np.int64]:
    """The labels of the samples that are used: a model with a fixed batch size leaves out a remainder."""
    used = labels[: source.samples].ravel()
    if used.size != rows:
        raise CalibrationError(f"metric {metric}: {used.size} labels for {rows} rows of output")
    return used


def _outputs(path: str, source: Source) -> Outputs:
    """All outputs of an ONNX file on the data."""
    session = open_session(load_model(path))
    names = [output.name for output in session.get_outputs()]
    runs = [run_session(session, names, feed) for feed in source.batches(BATCH)]
    return {name: [np.asarray(run[name]) for run in runs] for name in names}


def _classes(outputs: Outputs, name: str) -> npt.NDArray[np.int64]:
    """Index of the largest value of every row; -1 for rows that hold NaN."""
    if any(array.ndim < 2 or array.shape[-1] < 2 for array in outputs[name]):
        raise CalibrationError(f"output {name!r} has no classes along its last axis: use another metric")
    found = [np.where(np.isnan(array).any(axis=-1), -1, array.argmax(axis=-1)).ravel() for array in outputs[name]]
    return np.concatenate(found).astype(np.int64)


def _last(outputs: Outputs, name: str) -> Array:
    """The score of every row: its only value, or the last of two."""
    if any(array.ndim > 1 and array.shape[-1] > 2 for array in outputs[name]):
        raise CalibrationError(f"output {name!r} has more than two classes: auc is for one or two")
    return np.concatenate([(array[..., -1] if array.ndim > 1 else array).ravel() for array in outputs[name]])


def auc(scores: Array, labels: Array) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative; NaN scores lowest.

    Args:
        scores: ``(n,)``.
        labels: ``(n,)``, 0 and 1, both of which occur.
    """
    ordered = np.where(np.isnan(scores), -np.inf, scores)
    _, place, counts = np.unique(ordered, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place.ravel()]
    positives = int(labels.sum())
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / positives / (labels.size - positives))


def _closeness(reference: Outputs, outputs: Outputs) -> float:
    """1 - relative root-mean-square error; minus infinity where an output holds NaN or infinity."""
    error = energy = 0.0
    for name, batches in reference.items():
        for x, y in zip(batches, outputs[name], strict=True):
            difference = y.astype(np.float64) - x
            error += float(np.vdot(difference, difference)) if np.isfinite(difference).all() else np.inf
            energy += float(np.vdot(x.astype(np.float64), x.astype(np.float64)))
    if not energy:
        return 1.0 if not error else -np.inf
    return float(1 - (error / energy) ** 0.5)
