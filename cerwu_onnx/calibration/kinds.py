"""Tell by its values in the float model what an output answers: classes, decisions, numbers or directions.

docs/fidelity.md says how, and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from scipy.special import log_softmax, logsumexp

from cerwu_onnx.calibration.answer_rows import LEAST, column_axis, entropy_of, rows_along
from cerwu_onnx.calibration.answers import Answer, Batches, Kind
from cerwu_onnx.calibration.compared import class_scores, corrections, cut_values, joined_axes, squashed_values
from cerwu_onnx.calibration.feeds import fits
from cerwu_onnx.config import wanted_kinds
from cerwu_onnx.errors import CalibrationError, UsageError
from cerwu_onnx.model.tensors import model_inputs
from cerwu_onnx.types import Float64Array

SURE = 0.01
"""Least mean entropy, in nats, that a model of classes is taken to have on data that it was not trained on.

A model that is surer than that gets a temperature: nobody can tell from its outputs how near an answer is to another.
"""

COLUMNS = 64
"""The most columns of which each counts by itself; outputs of more are one field."""

RARE = 8
"""A class that fewer rows answer counts less than others: they would say too little about it."""

_SUM_TOLERANCE = 1e-3
_TELLING = 0.25
_COMMON = 0.25, 0.5
_UNIT = 1e-3
_SHORTEST = 8
_NEVER, _ALIKE = -1e3, 0.9


def answers_of(values: Mapping[str, Batches], model: onnx.ModelProto, wanted: str = "auto") -> dict[str, Answer]:
    """What each of the :func:`comparable` values of a float model answers.

    Args:
        values: in the float model, batches by name (:func:`~cerwu_onnx.calibration.compared.compared_values`).
        model: the float model.
        wanted: a kind for all, or ``NAME=kind`` of single outputs, separated by commas; "auto" by their values.

    Raises:
        CalibrationError: no output holds numbers.
        UsageError: there is no such output or kind.
    """
    scores, squashed, joined = class_scores(model), squashed_values(model), joined_axes(model)
    cut = cut_values(model)
    corrected = {name: (output, None) for output, name in corrections(model).items()}
    given, alone = wanted_kinds(wanted), _takes_one_sample(model)
    known = {value.name for value in model.graph.output} | {""} | values.keys()
    for name in given.keys() - known:
        raise UsageError(
            f"output loss {wanted!r}: the model has no output {name!r}, only {', '.join(sorted(known - {''}))}"
        )
    found = {}
    for name in comparable(values):
        output, axis = scores.get(name) or corrected.get(name, (name, None))
        kind = given.get(output, given.get(name, given.get("", "auto")))
        if kind == "auto" and name not in scores and _is_fed_back(values[name], model):
            kind = "mse"
        found[name] = answer_of(
            values[name],
            kind,
            softmax_axis=axis,
            squashed=name in squashed,
            cut=name in cut,
            joined=joined.get(name),
            alone=alone,
        )
    return found


def answer_of(
    reference: Batches,
    wanted: str = "auto",
    *,
    softmax_axis: int | None = None,
    squashed: bool = False,
    cut: bool = False,
    joined: int | None = None,
    alone: bool = False,
) -> Answer:
    """Tell what an output answers by its values in the float model.

    "kl": rows along the last axis, or the second of more than three, that are probabilities or their logarithms; or
    that look like logits (:func:`_are_logits`), unless the model puts them side by side: they may be logits and boxes.
    "binary": all values between 0 and 1, most of them near 0 or near 1, on both sides of one half unless the model
    squashes them; numbers that the model cuts off there are none; or, if that is wanted, logits of decisions. "cosine":
    rows of unit length. "mse": everything else.

    Args:
        reference: the output, one array per batch.
        wanted: a kind, for outputs that can be of it; or "auto".
        softmax_axis: along which a Softmax of the model reads these values; None if none does.
        squashed: a Sigmoid of the model gives these values.
        cut: the model cuts these values off at a limit.
        joined: axis along which the model puts these values side by side; None if it does not.
        alone: each batch is of one sample, whose positions may lie along the first axis.
    """
    arrays = [np.asarray(array) for array in reference if array.size]
    samples = len(arrays) if alone else sum(len(array) for array in arrays if array.ndim)
    floats = all(np.issubdtype(array.dtype, np.floating) for array in arrays)
    axes = [axis for axis in (-1, 1) if floats and all(_has_classes(array, axis) for array in arrays)]
    shares = next((axis for axis in axes if _are_probabilities(arrays, axis)), None)
    unit = all(array.min() >= 0 and array.max() <= 1 for array in arrays if not np.isnan(array).any())
    if axes and wanted in ("auto", "kl"):
        axis = softmax_axis if shares is None else shares
        if axis is None:
            axis = _surest(arrays, axes) if wanted == "kl" else _class_axis(arrays, axes, joined, samples)
        if axis is not None:
            return _classes(arrays, axis, samples, probabilities=shares is not None)
    if floats and (wanted == "binary" or (wanted == "auto" and unit and not cut and _are_flags(arrays, squashed))):
        return Answer("binary", probabilities=unit, shares=_balanced(arrays, 0.5 if unit else 0.0), found=True).temper(
            arrays, SURE
        )
    directions = wanted == "cosine" or (wanted == "auto" and _are_directions(arrays))
    kind: Kind = "cosine" if -1 in axes and directions else "mse"
    return Answer(kind, variance=_variance(arrays, kind, alone=alone))


def comparable(outputs: Mapping[str, Batches]) -> list[str]:
    """List the outputs that say how good a model is.

    Those of floating-point numbers. Labels and decisions made from them say less, and count only where there is nothing
    else; text says nothing, and neither does an output that is always empty.

    Args:
        outputs: what the float model gives, batches by name.

    Raises:
        CalibrationError: no output holds numbers.
    """
    arrays = {name: batches[0] for name, batches in outputs.items() if any(np.size(array) for array in batches)}
    for kinds in ("f", "iub"):
        names = [name for name, array in arrays.items() if isinstance(array, np.ndarray) and array.dtype.kind in kinds]
        if names:
            return names
    raise CalibrationError("no output of the model holds numbers: nothing says how good a quantised model is")


def _are_probabilities(arrays: Batches, axis: int) -> bool:
    """Whether all rows along an axis are non-negative and sum to 1."""
    return all(
        array.min() >= 0 and bool((np.abs(array.sum(axis=axis, dtype=np.float64) - 1) < _SUM_TOLERANCE).all())
        for array in arrays
        if array.size
    )


def _takes_one_sample(model: onnx.ModelProto) -> bool:
    """Whether the model fixes the first axis of its first input, that of samples, to 1."""
    return any((info.shape or ())[:1] == (1,) for info in model_inputs(model)[:1])


def _classes(arrays: Batches, axis: int, samples: int, *, probabilities: bool) -> Answer:
    """Classes along an axis: those of samples, or those at many positions.

    At many positions each class counts alike, as far as it is not too rare. Of samples none counts more than all others
    together: a model that finds one fraud in a hundred is no good without it.
    """
    rows = np.concatenate([_along(array, axis) for array in arrays])
    if not len(rows):
        return Answer("kl", axis, probabilities)
    counts = np.bincount(np.nan_to_num(rows, nan=-np.inf).argmax(axis=-1), minlength=rows.shape[-1])
    many, most, shares = len(rows) > samples, int(counts.max()), None
    if many:
        shares = 1 / np.maximum(counts, RARE)
    elif 2 * most > len(rows) > most:
        shares = np.full(rows.shape[-1], 1 / max(len(rows) - most, RARE))
        shares[counts.argmax()] = 1 / most
    if shares is not None:
        shares *= len(rows) / (shares * counts).sum()
    return Answer("kl", axis, probabilities, 1.0, shares, many and 2 * most > len(rows)).temper(arrays, SURE)


def _has_classes(array: npt.NDArray[Any], axis: int) -> bool:
    """Whether an array can have classes along an axis: the last, or the second of more than two."""
    return array.ndim > (1 if axis < 0 else 2) and array.shape[axis] > 1


def _class_axis(arrays: Batches, axes: Sequence[int], joined: int | None, samples: int) -> int | None:
    """The axis along which logits lie; None if along none. The second of three may be time."""
    apart = [axis for axis in axes if joined is None or axis % arrays[0].ndim != joined % arrays[0].ndim]
    likely = [axis for axis in apart if axis < 0 or -1 not in axes or arrays[0].ndim > 3]
    return next((axis for axis in likely if _are_logits(arrays, axis, samples)), None)


def _surest(arrays: Batches, axes: Sequence[int]) -> int:
    """The axis along which values are classes if they are along one of them: where they tell most."""
    if len(axes) == 1:
        return axes[0]
    return max(axes, key=lambda axis: _told(np.concatenate([_along(array, axis) for array in arrays])))


def _along(array: npt.NDArray[Any], axis: int) -> Float64Array:
    return rows_along(np.asarray(array, np.float64), axis)


def _are_logits(arrays: Batches, axis: int, samples: int) -> bool:
    """Whether rows along an axis look like logits of classes.

    Cross-entropy does not see what all logits of a row have in common, so a trained model's rows vary in it less than
    in anything else. They have positive and negative values, and their softmax is far from uniform. If samples have one
    row of many classes each, it also differs between samples, as that of an embedding hardly does. Rows of many classes
    at many positions may vary in what they have in common as independent values do: language models did. Classes that
    the model excludes (:func:`_masked`) have nothing in common with the others.
    """
    rows = np.concatenate([_along(array, axis) for array in arrays])
    if np.isnan(rows).any() or (rows == np.inf).any():
        return True  # whose loss says what is wrong
    if (rows == -np.inf).any():
        return True  # nothing but excluded classes looks like that
    if bool((np.abs(logsumexp(rows, axis=-1)) < _SUM_TOLERANCE).all()):
        return True  # logarithms of probabilities
    kept = rows[~(masked := _masked(rows))]
    if kept.min() >= 0 or kept.max() <= 0 or _told(rows) < _TELLING:
        return False
    if len(rows) < 2 or masked.any():
        return True
    apart = float(rows.var(axis=0).mean())
    common, classes = float(rows.mean(axis=-1).var()), rows.shape[-1]
    share, alike = _COMMON
    if common > share * apart:
        return False
    if classes > COLUMNS and len(rows) > samples:
        return True
    return (classes < 3 or common * classes <= alike * apart) and (classes <= COLUMNS or _differs(rows) >= _TELLING)


def _masked(rows: Float64Array) -> npt.NDArray[np.bool_]:
    """Which logits a model excludes by adding a large negative number, or the least there is."""
    low = rows <= _NEVER
    if not low.any() or low.all() or np.abs(rows[~low]).max() > -_NEVER:
        return np.zeros_like(low)
    return low if rows[low].min() * _ALIKE > rows[low].max() else np.zeros_like(low)


def _told(rows: Float64Array) -> float:
    """KL of the softmax of rows from a uniform distribution, as a share of its largest value, mean over rows."""
    entropy = entropy_of(log_softmax(rows, axis=-1))
    return float(np.nan_to_num(1 - entropy / np.log(rows.shape[-1]), nan=1.0).mean())


def _is_fed_back(arrays: Batches, model: onnx.ModelProto) -> bool:
    """Whether an output may be a state that the model reads again: beside its data it reads something of that shape."""
    inputs = [info for info in model_inputs(model) if info.shape is not None and info.dtype.kind == "f"]
    shapes = [info.shape for info in inputs if info.shape and isinstance(info.shape[-1], int) and info.shape[-1] > 1]
    return len(model_inputs(model)) > 1 and any(fits(shape, array.shape) for shape in shapes for array in arrays[:1])


def _differs(rows: Float64Array) -> float:
    """Mutual information of row and class, as a share of the most that there can be."""
    logs = log_softmax(rows, axis=-1)
    whole = entropy_of(np.log(np.maximum(np.exp(logs).mean(axis=0, keepdims=True), LEAST)))
    return float((whole[0] - np.nan_to_num(entropy_of(logs)).mean()) / np.log(min(rows.shape)))


def _are_flags(arrays: Batches, squashed: bool) -> bool:
    """Whether numbers between 0 and 1 are decisions: most of them nearer to 0 or 1 than to one half."""
    values = np.concatenate([array.ravel() for array in arrays])
    return bool(np.mean(np.abs(values - 0.5) > 0.25) > 0.5 and (squashed or values.min() < 0.5 <= values.max()))


def _are_directions(arrays: Batches) -> bool:
    """Whether rows along the last axis have unit length."""
    return all(
        array.shape[-1] >= _SHORTEST
        and bool((np.abs(np.linalg.norm(array.astype(np.float64), axis=-1) - 1) < _UNIT).all())
        for array in arrays
        if array.ndim > 1
    )


def _balanced(arrays: Batches, least: float) -> Float64Array:
    """Weights of no and yes (above ``least``), mean 1: each counts alike, as far as it is not too rare."""
    yes = sum(int((array > least).sum()) for array in arrays)
    whole = max(sum(array.size for array in arrays), 1)
    counts = np.array([whole - yes, yes], np.float64)
    shares = whole / (max((counts > 0).sum(), 1) * np.maximum(counts, RARE))
    found: Float64Array = shares / ((shares * counts).sum() / whole)
    return found


def _variance(arrays: Batches, kind: Kind, *, alone: bool) -> Float64Array:
    """Variance over samples, ``(columns,)``: mean over positions, where all samples have the same; else over all.

    A column that does not vary has its energy instead. What numbers of their type cannot resolve counts as variation.
    """
    wide = [np.atleast_1d(np.asarray(array, np.float64)) for array in arrays]
    if kind == "cosine":
        wide = [array / np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), LEAST) for array in wide]
    if not wide:
        return np.ones(1)
    axis = column_axis(wide[0])
    columns = wide[0].shape[axis] if wide[0].ndim > 1 and kind == "mse" else 1
    apart = columns <= COLUMNS and all(array.ndim > 1 and array.shape[axis] == columns for array in wide)
    if len({array.shape[not alone :] for array in wide}) == 1:
        stacked = np.stack(wide) if alone else np.concatenate(wide)
        spread, energy = stacked.var(axis=0), np.square(stacked).mean(axis=0)
        if apart and columns > 1:
            whole = wide[0].shape if alone else (1, *wide[0].shape[1:])
            spread, energy = (rows_along(value.reshape(whole), axis).mean(axis=0) for value in (spread, energy))
        else:
            spread, energy = np.atleast_1d(spread.mean()), np.atleast_1d(energy.mean())
        single = len(stacked) < 2
    else:
        rows = np.concatenate([rows_along(array, axis) if apart else array.reshape(-1, 1) for array in wide])
        spread, energy, single = rows.var(axis=0), np.square(rows).mean(axis=0), False
    resolution = max((float(np.finfo(array.dtype).eps) for array in arrays if array.dtype.kind == "f"), default=0.0)
    found: Float64Array = np.where((spread <= 1e-12 * energy) | single, energy, spread + resolution**2 / 12 * energy)
    return found
