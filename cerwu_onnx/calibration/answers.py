"""Define what the answer of an output is, and what an error in it costs: the one measure that all stages use.

======== ================================================ =====================================================
kind     outputs                                          loss
======== ================================================ =====================================================
kl       classes along an axis: rows of logits, or of     KL divergence of each row from the float model's, in
         probabilities; at one position or at many        nats
binary   independent probabilities, each between 0 and 1  KL divergence of each number, in nats
         (or their logits, where the user says so)
mse      numbers                                          squared error over variance, column by column
cosine   directions: rows of unit length                  squared error over variance, of rows of unit length
======== ================================================ =====================================================

docs/fidelity.md says why, and how :func:`answer_of` tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from scipy.special import log_expit, log_softmax, softmax

from cerwu_onnx.calibration.compared import class_scores
from cerwu_onnx.calibration.feeds import fits
from cerwu_onnx.config import wanted_kinds
from cerwu_onnx.errors import CalibrationError, UsageError
from cerwu_onnx.model.tensors import model_inputs
from cerwu_onnx.types import Float64Array

Kind: TypeAlias = Literal["kl", "binary", "mse", "cosine"]
Batches: TypeAlias = Sequence[npt.NDArray[Any]]

SURE = 0.01
"""Least mean entropy, in nats, that a model of classes is taken to have on data that it was not trained on.

A model that is surer than that gets a temperature: nobody can tell from its outputs how near an answer is to another.
"""

COLUMNS = 64
"""The most columns of which each counts by itself; outputs of more are one field."""

RARE = 8
"""A class that fewer rows answer counts less than others: they would say too little about it."""

STRETCHES = (1.0, 1.5, 2.0, 3.0)
"""Errors are looked at so many times as large as they are."""

_SUM_TOLERANCE = 1e-3
_LEAST = float(np.finfo(np.float32).tiny)
_TELLING = 0.25
_COMMON = 0.25, 0.5
_UNIT = 1e-3
_SHORTEST = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What one output answers, from its values in the float model.

    Attributes:
        kind: see the table above.
        axis: of the classes ("kl").
        probabilities: the values are probabilities; otherwise logits ("kl", "binary").
        temperature: logits are divided by it before they become probabilities, at least 1 ("kl").
        shares: ``(classes,)`` weight of a row by the class that the float model answers, mean 1 over rows ("kl"; None:
            all rows count alike); ``(2,)`` of no and of yes ("binary").
        found: every answer of the float model counts as right, not only as far as it is probable: decisions, and
            positions most of which are background, in which something is to be found.
        variance: ``(columns,)`` of the numbers over samples ("mse", "cosine").
    """

    kind: Kind
    axis: int = -1
    probabilities: bool = False
    temperature: float = 1.0
    shares: Float64Array | None = None
    found: bool = False
    variance: Float64Array = field(default_factory=lambda: np.ones(1))

    def losses(self, reference: npt.NDArray[Any], quantized: npt.NDArray[Any]) -> Float64Array:
        """The loss of each row of one batch, ``(rows, columns)``; one column unless the kind is "mse".

        "kl" and "binary" give a row's divergence times its weight; the other kinds squared errors over the variance.
        Infinite where the quantised output holds NaN or infinity, or excludes what has a probability.

        Raises:
            CalibrationError: the shapes differ, or the float output holds NaN or infinity (a logit may be minus
                infinity).
        """
        if reference.shape != quantized.shape:
            raise CalibrationError(f"an output has the shape {reference.shape}, once quantised {quantized.shape}")
        wide, other = np.asarray(reference, np.float64), np.asarray(quantized, np.float64)
        if self.kind == "kl":
            rows, others = _rows(wide, self.axis), _rows(other, self.axis)
            good = (
                np.isfinite(rows) if self.probabilities else (rows < np.inf) & (rows.max(-1, keepdims=True) > -np.inf)
            )
            _check(good)
            p, q = self._logs(rows), self._logs(others)
            return self.temperature**2 * self.weights(rows)[:, None] * _divergence(p, q)[:, None]
        _check(np.isfinite(wide))
        other = np.where(np.isfinite(other), other, np.inf)
        if self.kind == "binary":
            return self._binary(wide, other)
        x, y = self._columns(wide), self._columns(other)
        with np.errstate(invalid="ignore"):
            error = np.square(x - y)
        if len(self.variance) == 1:
            error = error.reshape(len(wide), -1).mean(axis=1, keepdims=True) if error.size else error.reshape(0, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(error == 0, 0.0, error / self.variance)
        return np.where(np.isnan(found), np.inf, found)

    def loss(self, reference: Batches, quantized: Batches) -> float:
        """The loss at this output: the mean over rows, then over columns.

        Raises:
            CalibrationError: see :meth:`losses`; or there are no values.
        """
        if len(reference) != len(quantized) or not any(array.size for array in reference):
            raise CalibrationError("outputs cannot be compared: there are no values, or not as many batches")
        parts = [self.losses(x, y) for x, y in zip(reference, quantized, strict=True) if x.size]
        return float(np.concatenate(parts).mean())

    def weights(self, rows: Float64Array) -> Float64Array:
        """The weight of each row of classes, by the class that the float model answers."""
        return np.ones(len(rows)) if self.shares is None else self.shares[rows.argmax(axis=-1)]

    def temper(self, reference: Batches, entropy: float) -> Answer:
        """The same answer with a temperature that makes the mean entropy of the float model at least so large."""
        if self.kind != "kl":
            return self
        rows = np.concatenate([_rows(np.asarray(array, np.float64), self.axis) for array in reference if array.size])
        logs = self._with(1.0)._logs(rows)
        logs = logs[np.isfinite(logs).any(axis=-1)]
        weights = self.weights(logs)
        most = min(entropy, 0.5 * float(np.log(logs.shape[-1])))

        def mean(temperature: float) -> float:
            return float(np.average(_entropy(log_softmax(logs / temperature, axis=-1)), weights=weights))

        low, high = 0.0, 0.0  # log2 of the temperature
        if len(logs) and mean(1.0) < most:
            while mean(2.0**high) < most and high < 64:
                high += 1
            for _ in range(24):
                middle = (low + high) / 2
                low, high = (middle, high) if mean(2.0**middle) < most else (low, middle)
        return self._with(2.0**high)

    def entropy(self, reference: Batches) -> float:
        """Mean entropy of the rows of classes, in nats, at temperature 1, by the weights of rows; 0 for other kinds."""
        if self.kind != "kl":
            return 0.0
        rows = np.concatenate([_rows(np.asarray(array, np.float64), self.axis) for array in reference if array.size])
        logs = self._with(1.0)._logs(rows)
        return float(np.average(np.nan_to_num(_entropy(logs)), weights=self.weights(rows)))

    def ahead(self, reference: Batches) -> float:
        """Median of the nats by which the likeliest class of a row is ahead of the next, at temperature 1 ("kl")."""
        rows = np.concatenate([_rows(np.asarray(array, np.float64), self.axis) for array in reference if array.size])
        ordered = np.sort(self._with(1.0)._logs(rows), axis=-1)
        return float(np.median(ordered[:, -1] - ordered[:, -2]))

    def chosen(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
        """The class that each row of one batch answers, -1 for NaN; 0 or 1 of each number of "binary"; else None."""
        if self.kind == "kl":
            rows = _rows(np.asarray(values, np.float64), self.axis)
            return np.where(np.isnan(rows).any(axis=-1), -1, rows.argmax(axis=-1)).astype(np.int64)
        if self.kind == "binary":
            return (values >= (0.5 if self.probabilities else 0.0)).astype(np.int64).ravel()
        return None

    def lost(self, reference: npt.NDArray[Any], quantized: npt.NDArray[Any]) -> Float64Array:
        """What the changed answers of one batch are expected to cost, times the weights of rows ("kl", "binary").

        The score of a row is the probability, by the float model, of the answer given; or, where each one is looked at
        (``found``), 1 for the float model's answer and 0 for others.

        Few answers change, and that makes their count a poor measure. But margins near zero are about equally frequent,
        so an error that is s times as large, or of the other sign, costs s^2 times as much on average (s times as much
        where every change counts). The mean over :data:`STRETCHES` counts more changes than there are.

        Returns:
            ``(rows,)``; infinite where the quantised output is not finite.
        """
        wide, other = np.asarray(reference, np.float64), np.asarray(quantized, np.float64)
        if self.kind == "kl":
            rows, others = _rows(wide, self.axis), _rows(other, self.axis)
        else:
            rows, others = (np.stack(self._flags(values.ravel()), axis=-1) for values in (wide, other))
        x, y = (self._logs(values) if self.kind == "kl" else values for values in (rows, others))
        finite = np.isfinite(y).any(axis=-1) & ~np.isnan(y).any(axis=-1)
        with np.errstate(invalid="ignore"):
            change = np.nan_to_num(y - x, nan=0.0, posinf=0.0, neginf=0.0)
        p, index, each = self._calibrated(x), np.arange(len(x)), self.found
        before, answer, total = p.max(axis=-1), x.argmax(axis=-1), np.zeros(len(x))
        scale = self.temperature if self.kind == "kl" else 1.0  # of logits divided by it, errors are as large as before
        for stretch in STRETCHES:
            for factor in (stretch * scale, -stretch * scale):
                chosen = (x + factor * change).argmax(axis=-1)
                total += (chosen != answer) / stretch if each else (before - p[index, chosen]) / stretch**2
        return np.where(finite, self.importance(reference) * total / (2 * len(STRETCHES)), np.inf)

    def certain(self, reference: npt.NDArray[Any]) -> Float64Array:
        """The score of each answer of the float model, ``(rows,)``, times its weight ("kl", "binary")."""
        wide, weights = np.asarray(reference, np.float64), self.importance(reference)
        if self.found:
            return weights
        sure: Float64Array = (
            self._calibrated(self._logs(_rows(wide, self.axis))).max(axis=-1)
            if self.kind == "kl"
            else np.exp(np.maximum(*self._flags(wide.ravel())))
        )
        return weights * sure

    def importance(self, reference: npt.NDArray[Any]) -> Float64Array:
        """The weight of each row of one batch, ``(rows,)`` ("kl", "binary")."""
        wide = np.asarray(reference, np.float64)
        return self.weights(_rows(wide, self.axis)) if self.kind == "kl" else self._balance(wide).ravel()

    def slope(self, reference: npt.NDArray[Any], quantized: npt.NDArray[Any]) -> Float64Array:
        """The gradient of the sum of :meth:`losses` with respect to the quantised output, in its shape.

        It is finite wherever the losses are.
        """
        wide, other = np.asarray(reference, np.float64), np.asarray(quantized, np.float64)
        if self.kind == "kl":
            rows, others = _rows(wide, self.axis), _rows(other, self.axis)
            change = np.exp(self._logs(others)) - np.exp(self._logs(rows))
            if self.probabilities:  # with respect to log q
                change = np.where(others > _LEAST, change / np.maximum(others, _LEAST), 0.0)
            return _unrows(self.temperature * self.weights(rows)[:, None] * change, wide.shape, self.axis)
        if self.kind == "binary":
            (yes, _), (yes2, no2) = self._flags(wide), self._flags(other)
            change = np.exp(yes2) - np.exp(yes)
            if self.probabilities:  # with respect to the logit of q
                change = np.where((other > _LEAST) & (other < 1), change * np.exp(-yes2 - no2), 0.0)
            return change * self._balance(wide)
        size = wide[0].size / len(self.variance) if len(self.variance) == 1 and wide.ndim and len(wide) else 1
        with np.errstate(divide="ignore"):
            weigh = self._spread(np.where(self.variance > 0, 2 / (self.variance * size), 0.0), wide)
        if self.kind == "mse":
            return weigh * (other - wide)
        norm = np.linalg.norm(other, axis=-1, keepdims=True)
        norm = np.where(norm == 0, np.inf, norm)
        unit, aim = other / norm, wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), _LEAST)
        change = weigh * (unit - aim)
        found: Float64Array = (change - unit * (unit * change).sum(axis=-1, keepdims=True)) / norm
        return found

    def seeds(
        self, output: npt.NDArray[Any], scale: float, draws: int, temperature: float, random: np.random.Generator
    ) -> Iterator[Float64Array]:
        """Random gradients of the square root of the loss with respect to the output, of one batch.

        Their squares add up to the second derivative of the sum of the losses of rows, times ``scale`` squared. Rows
        have random signs, without which the gradient of one would add to that of another.

        Args:
            output: the values in the float model.
            scale: factor on all.
            draws: how many, unless there are fewer classes.
            temperature: at least this one for classes: those of which the model is sure count, too.
            random: where signs come from.
        """
        wide = np.asarray(output, np.float64)
        if self.kind == "kl":
            rows = _rows(wide, self.axis)
            logs = np.log(np.maximum(rows, _LEAST)) if self.probabilities else rows
            weigh = scale * np.sqrt(self.weights(rows))[:, None]
            if self.probabilities:  # with respect to log p
                weigh = np.where(rows > _LEAST, weigh / np.maximum(rows, _LEAST), 0.0)
            for draw in _draws(softmax(logs / (temperature * self.temperature), axis=-1), draws, random):
                yield _unrows(weigh * draw, wide.shape, self.axis)
            return
        if self.kind == "binary":
            logs, others = self._flags(wide)
            spread = np.exp((logs + others) / 2)
            if self.probabilities:
                spread = 1 / np.maximum(spread, _LEAST**0.5)
            weigh = spread * np.sqrt(self._balance(wide))
        else:
            size = wide[0].size / len(self.variance) if wide.ndim and len(wide) else 1
            with np.errstate(divide="ignore"):
                by_column = np.where(self.variance > 0, 1 / np.sqrt(self.variance * len(self.variance) * size), 0.0)
            weigh = self._spread(by_column, wide)
        curvature = 1 if self.kind == "binary" else 2
        for _ in range(draws):
            yield scale * (curvature / draws) ** 0.5 * weigh * random.choice((-1.0, 1.0), size=wide.shape)

    def rows_of(self, array: npt.NDArray[Any]) -> int:
        """How many rows :meth:`losses` gives for a batch."""
        if self.kind == "kl":
            return int(array.size // array.shape[self.axis])
        if self.kind == "binary":
            return int(array.size)
        return len(array) if array.ndim else 1

    def losses_of(self, array: npt.NDArray[Any]) -> int:
        """How many numbers :meth:`losses` gives for a batch."""
        columns = len(self.variance) if self.kind == "mse" else 1
        if columns == 1:
            return self.rows_of(array)
        return int(array.size)

    def _with(self, temperature: float) -> Answer:
        return replace(self, temperature=temperature)

    def _logs(self, rows: Float64Array) -> Float64Array:
        """Logarithms of the probabilities of rows; NaN where a row holds NaN or infinity (logits: plus infinity)."""
        with np.errstate(invalid="ignore"):
            if self.probabilities:
                bounded = np.where(np.isfinite(rows), np.maximum(rows, _LEAST), np.nan)
                logs: Float64Array = np.log(bounded / bounded.sum(axis=-1, keepdims=True))
                return logs if self.temperature == 1 else log_softmax(logs / self.temperature, axis=-1)
            found: Float64Array = log_softmax(np.where(rows < np.inf, rows, np.nan) / self.temperature, axis=-1)
            return found

    def _calibrated(self, logs: Float64Array) -> Float64Array:
        """Probabilities by which answers count.

        A model that is T times too sure of what it was trained on is about T^2 times too sure of fresh data: so it was
        with the three networks of docs/fidelity.md, whose true scores fell that much less than these probabilities say.
        """
        warm = self.temperature**2
        found: Float64Array = np.exp(logs if warm == 1 else log_softmax(logs / warm, axis=-1))
        return found

    def _flags(self, values: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Logarithms of the probabilities of yes and of no."""
        if not self.probabilities:
            return log_expit(values), log_expit(-values)
        bounded = np.clip(values, _LEAST, 1.0)
        return np.log(bounded), np.log(np.maximum(1 - bounded, 1e-9))

    def _balance(self, values: Float64Array) -> Float64Array:
        """Weights of numbers: yes and no count alike, however rare."""
        if self.shares is None:
            return np.ones(values.shape)
        return self.shares[(values >= (0.5 if self.probabilities else 0.0)).astype(np.int64)]

    def _binary(self, wide: Float64Array, other: Float64Array) -> Float64Array:
        (yes, no), (yes2, no2) = self._flags(wide), self._flags(np.nan_to_num(other, posinf=np.nan))
        with np.errstate(invalid="ignore"):
            found = np.exp(yes) * (yes - yes2) + np.exp(no) * (no - no2)
        found = np.where(np.isnan(found), np.inf, np.maximum(found, 0.0)) * self._balance(wide)
        return found.reshape(-1, 1)

    def _columns(self, values: Float64Array) -> Float64Array:
        """Numbers as ``(rows, columns)``; of one column, as ``(samples, any)``."""
        if self.kind == "cosine":
            norm = np.linalg.norm(values, axis=-1, keepdims=True)
            with np.errstate(invalid="ignore"):
                values = np.where(norm == 0, 0.0, values / np.where(norm == 0, 1.0, norm))
        if len(self.variance) == 1:
            return values.reshape(len(values) if values.ndim else 1, -1)
        return _rows(values, _column_axis(values))

    def _spread(self, by_column: Float64Array, values: Float64Array) -> Float64Array:
        """A number of each column where its values are."""
        if len(by_column) == 1:
            return np.broadcast_to(by_column[0], values.shape)
        shape = [1] * values.ndim
        shape[_column_axis(values)] = -1
        return np.broadcast_to(by_column.reshape(shape), values.shape)


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
    scores = class_scores(model)
    given = wanted_kinds(wanted)
    known = {value.name for value in model.graph.output} | {""} | values.keys()
    for name in given.keys() - known:
        raise UsageError(
            f"output loss {wanted!r}: the model has no output {name!r}, only {', '.join(sorted(known - {''}))}"
        )
    found = {}
    for name in comparable(values):
        output, axis = scores.get(name, (name, None))
        kind = given.get(output, given.get(name, given.get("", "auto")))
        if kind == "auto" and name not in scores and _is_fed_back(values[name], model):
            kind = "mse"
        found[name] = answer_of(values[name], kind, softmax_axis=axis)
    return found


def answer_of(reference: Batches, wanted: str = "auto", *, softmax_axis: int | None = None) -> Answer:
    """Tell what an output answers by its values in the float model.

    "kl": rows along the last axis that are probabilities; or, along the last or the second axis, rows that look like
    logits (:func:`_are_logits`). "binary": all values between 0 and 1, most of them near 0 or near 1; or, if that is
    wanted, logits of decisions. "cosine": rows of unit length. "mse": everything else.

    Args:
        reference: the output, one array per batch.
        wanted: a kind, for outputs that can be of it; or "auto".
        softmax_axis: along which a Softmax of the model reads these values; None if none does.
    """
    arrays = [np.asarray(array) for array in reference if array.size]
    floats = all(np.issubdtype(array.dtype, np.floating) for array in arrays)
    classes = floats and all(array.ndim > 1 and array.shape[-1] > 1 for array in arrays)
    probabilities = classes and are_probabilities(arrays)
    unit = all(array.min() >= 0 and array.max() <= 1 for array in arrays if not np.isnan(array).any())
    if classes and wanted in ("auto", "kl"):
        logits = softmax_axis is not None
        axis = softmax_axis if logits else -1 if probabilities or wanted == "kl" else _class_axis(arrays)
        if axis is not None:
            return _classes(arrays, axis, probabilities=probabilities and not logits)
    if floats and (wanted == "binary" or (wanted == "auto" and unit and _are_flags(arrays))):
        return Answer("binary", probabilities=unit, shares=_balanced(arrays, 0.5 if unit else 0.0), found=True)
    directions = wanted == "cosine" or (wanted == "auto" and _are_directions(arrays))
    kind: Kind = "cosine" if classes and directions else "mse"
    return Answer(kind, variance=_variance(arrays, kind))


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


def are_probabilities(arrays: Batches) -> bool:
    """Whether all rows are non-negative and sum to 1."""
    return all(
        array.min() >= 0 and bool((np.abs(array.sum(axis=-1, dtype=np.float64) - 1) < _SUM_TOLERANCE).all())
        for array in arrays
        if array.size
    )


def _classes(arrays: Batches, axis: int, *, probabilities: bool) -> Answer:
    """Classes along an axis: those of samples, or those at many positions.

    At many positions each class counts alike, as far as it is not too rare. Of samples none counts more than all others
    together: a model that finds one fraud in a hundred is no good without it.
    """
    rows = np.concatenate([_rows(np.asarray(array, np.float64), axis) for array in arrays])
    if not len(rows):
        return Answer("kl", axis, probabilities)
    counts = np.bincount(np.nan_to_num(rows, nan=-np.inf).argmax(axis=-1), minlength=rows.shape[-1])
    many, most, shares = len(rows) > sum(len(array) for array in arrays), int(counts.max()), None
    if many:
        shares = 1 / np.maximum(counts, RARE)
    elif 2 * most > len(rows) > most:
        shares = np.full(rows.shape[-1], 1 / max(len(rows) - most, RARE))
        shares[counts.argmax()] = 1 / most
    if shares is not None:
        shares *= len(rows) / (shares * counts).sum()
    return Answer("kl", axis, probabilities, 1.0, shares, many and 2 * most > len(rows)).temper(arrays, SURE)


def _class_axis(arrays: Batches) -> int | None:
    """The axis along which logits lie: the last, or the second of more than three; None if along neither."""
    axes = (-1, 1) if all(array.ndim > 3 and array.shape[1] > 1 for array in arrays) else (-1,)
    return next((axis for axis in axes if _are_logits(arrays, axis)), None)


def _are_logits(arrays: Batches, axis: int) -> bool:
    """Whether rows along an axis look like logits of classes.

    Cross-entropy does not see what all logits of a row have in common, so a trained model's rows vary in it less than
    in anything else. They have positive and negative values, and their softmax is far from uniform. If samples have one
    row of many classes each, it also differs between samples, as that of an embedding hardly does.
    """
    rows = np.concatenate([_rows(np.asarray(array, np.float64), axis) for array in arrays])
    if np.isnan(rows).any() or (rows == np.inf).any():
        return True  # whose loss says what is wrong
    if (rows == -np.inf).any():
        return True  # nothing but excluded classes looks like that
    if rows.min() >= 0 or rows.max() <= 0 or _told(rows) < _TELLING:
        return False
    if len(rows) < 2:
        return True
    apart = float(rows.var(axis=0).mean())
    common, classes = float(rows.mean(axis=-1).var()), rows.shape[-1]
    share, alike = _COMMON
    if classes <= COLUMNS:
        return common <= share * apart and (classes < 3 or common * classes <= alike * apart)
    single = len(rows) == sum(len(array) for array in arrays)
    return common <= share * apart and (not single or _differs(rows) >= _TELLING)


def _told(rows: Float64Array) -> float:
    """KL of the softmax of rows from a uniform distribution, as a share of its largest value, mean over rows."""
    entropy = _entropy(log_softmax(rows, axis=-1))
    return float(np.nan_to_num(1 - entropy / np.log(rows.shape[-1]), nan=1.0).mean())


def _is_fed_back(arrays: Batches, model: onnx.ModelProto) -> bool:
    """Whether an output may be a state that the model reads again: beside its data it reads something of that shape."""
    inputs = [info for info in model_inputs(model) if info.shape is not None and info.dtype.kind == "f"]
    shapes = [info.shape for info in inputs if info.shape and isinstance(info.shape[-1], int) and info.shape[-1] > 1]
    return len(model_inputs(model)) > 1 and any(fits(shape, array.shape) for shape in shapes for array in arrays[:1])


def _differs(rows: Float64Array) -> float:
    """Mutual information of row and class, as a share of the most that there can be."""
    logs = log_softmax(rows, axis=-1)
    whole = _entropy(np.log(np.maximum(np.exp(logs).mean(axis=0, keepdims=True), _LEAST)))
    return float((whole[0] - np.nan_to_num(_entropy(logs)).mean()) / np.log(min(rows.shape)))


def _are_flags(arrays: Batches) -> bool:
    """Whether numbers between 0 and 1 are decisions: most of them nearer to 0 or 1 than to one half."""
    values = np.concatenate([array.ravel() for array in arrays])
    return bool(np.mean(np.abs(values - 0.5) > 0.25) > 0.5)


def _are_directions(arrays: Batches) -> bool:
    """Whether rows along the last axis have unit length."""
    return all(
        array.shape[-1] >= _SHORTEST
        and bool((np.abs(np.linalg.norm(array.astype(np.float64), axis=-1) - 1) < _UNIT).all())
        for array in arrays
        if array.ndim > 1
    )


def _balanced(arrays: Batches, least: float) -> Float64Array:
    """Weights of no and yes (from ``least`` on), mean 1: each counts alike, as far as it is not too rare."""
    yes = sum(int((array >= least).sum()) for array in arrays)
    whole = max(sum(array.size for array in arrays), 1)
    counts = np.array([whole - yes, yes], np.float64)
    shares = whole / (max((counts > 0).sum(), 1) * np.maximum(counts, RARE))
    found: Float64Array = shares / ((shares * counts).sum() / whole)
    return found


def _column_axis(array: npt.NDArray[Any]) -> int:
    """The axis of an output's columns: the last, or the second where that is shorter."""
    return 1 if array.ndim > 2 and array.shape[1] < array.shape[-1] else array.ndim - 1


def _variance(arrays: Batches, kind: Kind) -> Float64Array:
    """Variance over samples, ``(columns,)``: mean over positions, where all samples have the same; else over all.

    A column that does not vary has its energy instead. What numbers of their type cannot resolve counts as variation.
    """
    wide = [np.atleast_1d(np.asarray(array, np.float64)) for array in arrays]
    if kind == "cosine":
        wide = [array / np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), _LEAST) for array in wide]
    if not wide:
        return np.ones(1)
    axis = _column_axis(wide[0])
    columns = wide[0].shape[axis] if wide[0].ndim > 1 and kind == "mse" else 1
    apart = columns <= COLUMNS and all(array.ndim > 1 and array.shape[axis] == columns for array in wide)
    if len({array.shape[1:] for array in wide}) == 1:
        stacked = np.concatenate(wide)
        spread, energy = stacked.var(axis=0), np.square(stacked).mean(axis=0)
        if apart and columns > 1:
            spread, energy = (_rows(value[None], axis).mean(axis=0) for value in (spread, energy))
        else:
            spread, energy = np.atleast_1d(spread.mean()), np.atleast_1d(energy.mean())
        single = len(stacked) < 2
    else:
        rows = np.concatenate([_rows(array, axis) if apart else array.reshape(-1, 1) for array in wide])
        spread, energy, single = rows.var(axis=0), np.square(rows).mean(axis=0), False
    resolution = max((float(np.finfo(array.dtype).eps) for array in arrays if array.dtype.kind == "f"), default=0.0)
    found: Float64Array = np.where((spread <= 1e-12 * energy) | single, energy, spread + resolution**2 / 12 * energy)
    return found


def _rows(values: Float64Array, axis: int) -> Float64Array:
    """Values with an axis moved to the end, as ``(rows, length of the axis)``."""
    found: Float64Array = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    return found


def _unrows(rows: Float64Array, shape: tuple[int, ...], axis: int) -> Float64Array:
    """The inverse of :func:`_rows`."""
    moved = np.moveaxis(np.empty(shape), axis, -1).shape
    found: Float64Array = np.moveaxis(rows.reshape(moved), -1, axis)
    return found


def _entropy(logs: Float64Array) -> Float64Array:
    """Entropy of rows of log-probabilities."""
    with np.errstate(invalid="ignore"):
        found: Float64Array = -np.where(logs > -np.inf, np.exp(logs) * logs, 0.0).sum(axis=-1)
    return found


def _check(good: npt.NDArray[np.bool_]) -> None:
    if not good.all():
        raise CalibrationError("the float model's output holds NaN or infinity on the calibration data")


def _divergence(p: Float64Array, q: Float64Array) -> Float64Array:
    """KL of each row from logarithms, not below zero; infinite where q is NaN."""
    with np.errstate(invalid="ignore"):
        terms = np.where(p > -np.inf, np.exp(p) * (p - q), np.where(np.isnan(q), np.nan, 0.0))
    rows: Float64Array = terms.sum(axis=-1)
    return np.where(np.isnan(rows), np.inf, np.maximum(rows, 0.0))


def _draws(q: Float64Array, draws: int, random: np.random.Generator) -> Iterator[Float64Array]:
    """Gradients of log q_k with respect to logits, each times the root of its probability, or random sums of them."""
    classes = np.arange(q.shape[-1])
    if q.shape[-1] <= draws:
        for k in classes:
            sign = random.choice((-1.0, 1.0), size=(*q.shape[:-1], 1))
            yield sign * np.sqrt(q[..., k, None]) * ((classes == k) - q)
        return
    for _ in range(draws):
        signed = random.choice((-1.0, 1.0), size=q.shape) * np.sqrt(q / draws)
        yield signed - q * signed.sum(axis=-1, keepdims=True)
