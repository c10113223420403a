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
from scipy.special import log_expit, log_softmax, softmax

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
            rows, others = rows_along(wide, self.axis), rows_along(other, self.axis)
            good = (
                np.isfinite(rows) if self.probabilities else (rows < np.inf) & (rows.max(-1, keepdims=True) > -np.inf)
            )
            _check(good)
            p, q = self._logs(rows), self._logs(others)
            return self.temperature**2 * self.weights(rows)[:, None] * divergence(p, q)[:, None]
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
        logs = self._cold(reference)
        logs = logs[np.isfinite(logs).any(axis=-1)]
        weights = self.weights(logs)
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
        if self.kind != "kl":
            return 0.0
        logs = self._cold(reference)
        return float(np.average(np.nan_to_num(entropy_of(logs)), weights=self.weights(logs)))

    def ahead(self, reference: Batches) -> float:
        """Median of the nats by which the likeliest class of a row is ahead of the next, at temperature 1 ("kl")."""
        ordered = np.sort(self._cold(reference), axis=-1)
        return float(np.median(ordered[:, -1] - ordered[:, -2]))

    def chosen(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
        """The class that each row of one batch answers, -1 for NaN; 0 or 1 of each number of "binary"; else None."""
        if self.kind == "kl":
            rows = rows_along(np.asarray(values, np.float64), self.axis)
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
            rows, others = rows_along(wide, self.axis), rows_along(other, self.axis)
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
            self._calibrated(self._logs(rows_along(wide, self.axis))).max(axis=-1)
            if self.kind == "kl"
            else np.exp(np.maximum(*self._flags(wide.ravel())))
        )
        return weights * sure

    def importance(self, reference: npt.NDArray[Any]) -> Float64Array:
        """The weight of each row of one batch, ``(rows,)`` ("kl", "binary")."""
        wide = np.asarray(reference, np.float64)
        return self.weights(rows_along(wide, self.axis)) if self.kind == "kl" else self._balance(wide).ravel()

    def slope(self, reference: npt.NDArray[Any], quantized: npt.NDArray[Any]) -> Float64Array:
        """The gradient of the sum of :meth:`losses` with respect to the quantised output, in its shape.

        It is finite wherever the losses are.
        """
        wide, other = np.asarray(reference, np.float64), np.asarray(quantized, np.float64)
        if self.kind == "kl":
            rows, others = rows_along(wide, self.axis), rows_along(other, self.axis)
            change = np.exp(self._logs(others)) - np.exp(self._logs(rows))
            if self.probabilities:  # with respect to log q
                change = np.where(others > LEAST, change / np.maximum(others, LEAST), 0.0)
            return put_back(self.temperature * self.weights(rows)[:, None] * change, wide.shape, self.axis)
        if self.kind == "binary":
            (yes, _), (yes2, no2) = self._flags(wide), self._flags(other)
            change = np.exp(yes2) - np.exp(yes)
            if self.probabilities:  # with respect to the logit of q
                change = np.where((other > LEAST) & (other < 1), change * np.exp(-yes2 - no2), 0.0)
            return change * self._balance(wide)
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
            temperature: at least this one for classes: those of which the model is sure count, too.
            random: where signs come from.
        """
        wide = np.asarray(output, np.float64)
        if self.kind == "kl":
            rows = rows_along(wide, self.axis)
            logs = np.log(np.maximum(rows, LEAST)) if self.probabilities else rows
            weigh = scale * np.sqrt(self.weights(rows))[:, None]
            if self.probabilities:  # with respect to log p
                weigh = np.where(rows > LEAST, weigh / np.maximum(rows, LEAST), 0.0)
            for draw in draws_of(softmax(logs / (temperature * self.temperature), axis=-1), draws, random):
                yield put_back(weigh * draw, wide.shape, self.axis)
            return
        if self.kind == "binary":
            logs, others = self._flags(wide)
            spread = np.exp((logs + others) / 2)
            if self.probabilities:
                spread = 1 / np.maximum(spread, LEAST**0.5)
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

    def _cold(self, reference: Batches) -> Float64Array:
        """Logarithms of the probabilities of all rows of classes, at temperature 1."""
        arrays = [np.asarray(array, np.float64) for array in reference if array.size]
        return self._with(1.0)._logs(np.concatenate([rows_along(array, self.axis) for array in arrays]))

    def _logs(self, rows: Float64Array) -> Float64Array:
        """Logarithms of the probabilities of rows; NaN where a row holds NaN or infinity (logits: plus infinity)."""
        with np.errstate(invalid="ignore"):
            if self.probabilities:
                bounded = np.where(np.isfinite(rows), np.maximum(rows, LEAST), np.nan)
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
        bounded = np.clip(values, LEAST, 1.0)
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
