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

docs/fidelity.md says why, and :mod:`cerwu_onnx.calibration.kinds` tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax

from cerwu_onnx.calibration.answer_rows import (
    LEAST,
    column_axis,
    divergence,
    draws_of,
    entropy_of,
    put_back,
    rows_along,
)
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.types import Float64Array

Kind: TypeAlias = Literal["kl", "binary", "mse", "cosine"]
Batches: TypeAlias = Sequence[npt.NDArray[Any]]

STRETCHES = (1.0, 1.5, 2.0, 3.0)
"""Errors are looked at so many times as large as they are."""

_NEXT = 1e-9
"""The least distance of a probability from 1: float32 knows none below 6e-8."""


@dataclass(frozen=True, slots=True)
class Turned:
    """Answers that a quantised model changes: ``(rows,)`` each, infinite where its output is not finite.

    Attributes:
        changed: how often fresh data like the row is expected to get another answer.
        lost: what that is expected to cost, times the weight of the row.
        counted_changed: 1 where this very row gets another answer, else 0. The mean over many stretches and both signs
            is steadier, but too small where errors make answers less sure rather than turn them either way, or are
            large for a few rows.
        counted_lost: what that costs, times the weight of the row.
    """

    changed: Float64Array
    lost: Float64Array
    counted_changed: Float64Array
    counted_lost: Float64Array


@dataclass(frozen=True, slots=True)
class Answer:
    """What one output answers, from its values in the float model.

    Attributes:
        kind: see the table above.
        axis: of the classes ("kl").
        probabilities: the values are probabilities; otherwise logits ("kl", "binary").
        temperature: logits are divided by it before they become probabilities, at least 1 ("kl", "binary").
        shares: ``(classes,)`` weight of a row by the class that the float model answers, mean 1 over rows; None: all
            rows count alike ("kl", "binary").
        found: every answer of the float model counts as right, not only as far as it is probable: decisions, and
            positions most of which are background, in which something is to be found.
        sure: changed answers count by probabilities whose logits are divided by it, in place of the temperature: above
            1 if the model is surer than it should be, below 1 if it is less sure ("kl").
        variance: ``(columns,)`` of the numbers over samples ("mse", "cosine").
    """

    kind: Kind
    axis: int = -1
    probabilities: bool = False
    temperature: float = 1.0
    shares: Float64Array | None = None
    found: bool = False
    sure: float = 1.0
    variance: Float64Array = field(default_factory=lambda: np.ones(1))

    @property
    def chooses(self) -> bool:
        """Whether these are classes or decisions; a decision is a row of two classes, no and yes."""
        return self.kind in ("kl", "binary")

    @property
    def weighs(self) -> bool:
        """Whether an answer counts as far as it is probable."""
        return self.chooses and not self.found

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
        if self.chooses:
            rows = rows_along(wide, self.axis) if self.kind == "kl" else wide
            excluded = self.kind == "kl" and not self.probabilities and (rows.max(-1, keepdims=True) > -np.inf)
            _check(np.isfinite(rows) | ((rows == -np.inf) & excluded))
            p, q = self._logs(self._rows(wide)), self._logs(self._rows(other))
            return (self.temperature**2 * self.importance(wide) * divergence(p, q))[:, None]
        _check(np.isfinite(wide))
        other = np.where(np.isfinite(other), other, np.inf)
        x, y = self._columns(wide), self._columns(other)
        with np.errstate(invalid="ignore"):
            error = np.square(x - y)
        if len(self.variance) == 1:
            error = error.reshape(len(x), -1).mean(axis=1, keepdims=True) if error.size else error.reshape(0, 1)
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

    def alike(self, reference: Batches) -> float:
        """How many rows of equal weight would vary as much, in the column where they are fewest ("mse", "cosine").

        Columns of which most values are the same do not count: behind a ReLU one value may be all that there is.
        """
        if len({array.shape[1:] for array in reference if array.size}) != 1:
            return np.inf
        values = np.concatenate([np.atleast_1d(np.asarray(array, np.float64)) for array in reference if array.size])
        apart = self.losses(values, np.broadcast_to(values.mean(axis=0), values.shape))
        whole, square = apart.sum(axis=0), np.square(apart).sum(axis=0)
        varied = np.median(np.abs(apart - np.median(apart, axis=0)), axis=0) > 0
        return float(np.min(whole[varied] ** 2 / square[varied], initial=np.inf))

    def temper(self, reference: Batches, entropy: float) -> Answer:
        """The same answer with a temperature that makes the mean entropy of the float model at least so large."""
        if not self.chooses:
            return self
        logs, weights = self._cold(reference), self._importance(reference)
        some = np.isfinite(logs).any(axis=-1)
        logs, weights = logs[some], weights[some]
        most = min(entropy, 0.5 * float(np.log(logs.shape[-1])))

        def mean(temperature: float) -> float:
            return float(np.average(entropy_of(log_softmax(logs / temperature, axis=-1)), weights=weights))

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
        if not self.chooses:
            return 0.0
        entropy = np.nan_to_num(entropy_of(self._cold(reference)))
        return float(np.average(entropy, weights=self._importance(reference)))

    def ahead(self, reference: Batches) -> float:
        """Median of the nats by which the likeliest class of a row is ahead of the next, at temperature 1 ("kl")."""
        ordered = np.sort(self._cold(reference), axis=-1)
        return float(np.median(ordered[:, -1] - ordered[:, -2]))

    def chosen(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
        """The class that each row of one batch answers, -1 for NaN, of decisions 0 or 1; None for other kinds."""
        if not self.chooses:
            return None
        rows = self._rows(values)
        return np.where(np.isnan(rows).any(axis=-1), -1, rows.argmax(axis=-1)).astype(np.int64)

    def turned(self, reference: npt.NDArray[Any], quantized: npt.NDArray[Any]) -> Turned:
        """Which answers of one batch change, and what they are expected to cost ("kl", "binary").

        Few answers change, and that makes their count a poor measure. But margins near zero are about equally frequent,
        so an error that is s times as large, or of the other sign, changes s times as many on average. The mean over
        :data:`STRETCHES` counts more changes than there are. With a temperature T, margins become 1/T of theirs.

        The score of a row is 1 for the float model's answer and 0 for others, where each one is looked at (``found``).
        Elsewhere it is the probability, by the float model, of the answer given; then an error that is s times as large
        costs s^2 times as much.
        """
        x, y = self._logs(self._rows(reference)), self._logs(self._rows(quantized))
        finite = np.isfinite(y).any(axis=-1) & ~np.isnan(y).any(axis=-1)
        with np.errstate(invalid="ignore"):
            change = np.nan_to_num(y - x, nan=0.0, posinf=0.0, neginf=0.0)
        change *= self.temperature  # of logits divided by it, errors are as large as before
        answer, every = x.argmax(axis=-1), np.arange(len(x))
        worth, power = (np.eye(x.shape[-1])[answer], 1) if self.found else (self._calibrated(x), 2)
        changes, costs = [], []
        for stretch in STRETCHES:
            for factor in (stretch, -stretch):
                chosen = (x + factor * change).argmax(axis=-1)
                changes.append((chosen != answer) / stretch)
                costs.append((worth[every, answer] - worth[every, chosen]) / stretch**power)
        weights = self.importance(reference)
        expected = np.mean(changes, axis=0), weights * np.mean(costs, axis=0)
        return Turned(*(np.where(finite, rows, np.inf) for rows in (*expected, changes[0], weights * costs[0])))

    def certain(self, reference: npt.NDArray[Any]) -> Float64Array:
        """The score of each answer of the float model, ``(rows,)``, times its weight ("kl", "binary")."""
        weights = self.importance(reference)
        if self.found:
            return weights
        sure: Float64Array = self._calibrated(self._logs(self._rows(reference))).max(axis=-1)
        return weights * sure

    def importance(self, reference: npt.NDArray[Any]) -> Float64Array:
        """The weight of each row of one batch, ``(rows,)``, by what the float model answers ("kl", "binary")."""
        rows = self._rows(reference)
        return np.ones(len(rows)) if self.shares is None else self.shares[rows.argmax(axis=-1)]

    def slope(self, reference: npt.NDArray[Any], quantized: npt.NDArray[Any]) -> Float64Array:
        """The gradient of the sum of :meth:`losses` with respect to the quantised output, in its shape.

        It is finite wherever the losses are.
        """
        wide, other = np.asarray(reference, np.float64), np.asarray(quantized, np.float64)
        if self.chooses:
            change = np.exp(self._logs(self._rows(other))) - np.exp(self._logs(self._rows(wide)))
            return self._back(self.temperature * self.importance(wide)[:, None] * change, other)
        size = wide[0].size / len(self.variance) if len(self.variance) == 1 and wide.ndim and len(wide) else 1
        with np.errstate(divide="ignore"):
            weigh = self._spread(np.where(self.variance > 0, 2 / (self.variance * size), 0.0), wide)
        if self.kind == "mse":
            return weigh * (other - wide)
        norm = np.linalg.norm(other, axis=-1, keepdims=True)
        norm = np.where(norm == 0, np.inf, norm)
        unit, aim = other / norm, wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), LEAST)
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
            temperature: factor on that of classes: those of which the model is sure count, too.
            random: where signs come from.
        """
        wide = np.asarray(output, np.float64)
        if self.chooses:
            weigh = scale * np.sqrt(self.importance(wide))[:, None]
            for draw in draws_of(softmax(self._rows(wide) / (temperature * self.temperature), axis=-1), draws, random):
                yield self._back(weigh * draw, wide)
            return
        size = wide[0].size / len(self.variance) if wide.ndim and len(wide) else 1
        with np.errstate(divide="ignore"):
            by_column = np.where(self.variance > 0, 1 / np.sqrt(self.variance * len(self.variance) * size), 0.0)
        weigh = self._spread(by_column, wide)
        for _ in range(draws):
            yield scale * (2 / draws) ** 0.5 * weigh * random.choice((-1.0, 1.0), size=wide.shape)

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

    def _cold(self, reference: Batches) -> Float64Array:
        """Logarithms of the probabilities of all rows of classes, at temperature 1."""
        return self._with(1.0)._logs(np.concatenate([self._rows(array) for array in reference if array.size]))

    def _importance(self, reference: Batches) -> Float64Array:
        """The weights of all rows of classes."""
        return np.concatenate([self.importance(array) for array in reference if array.size])

    def _rows(self, values: npt.NDArray[Any]) -> Float64Array:
        """Logits, ``(rows, classes)``; NaN where values are NaN or infinite (logits of classes: plus infinity)."""
        wide = np.asarray(values, np.float64)
        if self.kind == "kl":
            rows = rows_along(wide, self.axis)
            if self.probabilities:
                return np.log(np.where(np.isfinite(rows), np.maximum(rows, LEAST), np.nan))
            return np.where(rows < np.inf, rows, np.nan)
        yes = np.where(np.isfinite(wide), wide, np.nan).ravel()
        if self.probabilities:
            yes = np.clip(yes, LEAST, 1.0)
            yes = np.log(yes) - np.log(np.maximum(1 - yes, _NEXT))
        return np.stack([np.zeros(len(yes)), yes], axis=-1)

    def _logs(self, rows: Float64Array) -> Float64Array:
        """Logarithms of the probabilities of rows of logits, at the temperature."""
        with np.errstate(invalid="ignore"):
            found: Float64Array = log_softmax(rows / self.temperature, axis=-1)
            return found

    def _back(self, by_logit: Float64Array, values: Float64Array) -> Float64Array:
        """Gradients with respect to values, in their shape, from those with respect to :meth:`_rows` of them."""
        if self.kind == "kl":
            found = put_back(by_logit, values.shape, self.axis)
            return found * np.where(values > LEAST, 1 / np.maximum(values, LEAST), 0.0) if self.probabilities else found
        found = by_logit[:, 1].reshape(values.shape)
        if not self.probabilities:
            return found
        inside = (values > LEAST) & (values < 1)
        return found * np.where(inside, 1 / np.where(inside, values * (1 - values), 1.0), 0.0)

    def _calibrated(self, logs: Float64Array) -> Float64Array:
        """Probabilities by which answers count, ``(rows, classes)``, from logarithms of those at the temperature."""
        warm = self.sure / self.temperature
        found: Float64Array = np.exp(logs if warm == 1 else log_softmax(logs / warm, axis=-1))
        return found

    def _columns(self, values: Float64Array) -> Float64Array:
        """Numbers as ``(rows, columns)``; of one column, as ``(samples, any)``."""
        if self.kind == "cosine":
            norm = np.linalg.norm(values, axis=-1, keepdims=True)
            with np.errstate(invalid="ignore"):
                values = np.where(norm == 0, 0.0, values / np.where(norm == 0, 1.0, norm))
        if len(self.variance) == 1:
            return values.reshape(len(values) if values.ndim else 1, -1)
        return rows_along(values, column_axis(values))

    def _spread(self, by_column: Float64Array, values: Float64Array) -> Float64Array:
        """A number of each column where its values are."""
        if len(by_column) == 1:
            return np.broadcast_to(by_column[0], values.shape)
        shape = [1] * values.ndim
        shape[column_axis(values)] = -1
        return np.broadcast_to(by_column.reshape(shape), values.shape)


def _check(good: npt.NDArray[np.bool_]) -> None:
    if not good.all():
        raise CalibrationError("the float model's output holds NaN or infinity on the calibration data")
