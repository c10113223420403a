"""The loss at one output of a quantised model against the float model: KL divergence or relative squared error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.types import Float64Array

LossKind: TypeAlias = Literal["kl", "mse"]
Batches: TypeAlias = Sequence[npt.NDArray[Any]]

_SUM_TOLERANCE = 1e-3
_LEAST = float(np.finfo(np.float32).tiny)
_TELLING = 0.05


def loss_kind(reference: Batches, wanted: str = "auto") -> LossKind:
    """Choose the loss for an output by its values in the float model.

    ``kl`` for rows of probabilities along the last axis, and for arrays ``(samples, classes)`` of logits, with two
    exceptions: all values lie between 0 and 1 (independent probabilities), or the softmax is on average so close to
    uniform (5 % of ``log(classes)``) that it does not tell classes apart. KL hardly sees errors of such small values,
    and no error that all values of a row share. ``mse`` for everything else.

    Args:
        reference: the output, one array per batch.
        wanted: "mse" for all outputs, "kl" for all that have classes on their last axis, or "auto".
    """
    arrays = [array for array in reference if array.size]
    rows = all(np.issubdtype(array.dtype, np.floating) and array.ndim > 1 and array.shape[-1] > 1 for array in arrays)
    if wanted == "mse" or not rows:
        return "mse"
    if wanted == "kl" or are_probabilities(arrays):
        return "kl"
    unit = all(array.min() >= 0 and array.max() <= 1 for array in arrays)
    if unit or any(array.ndim != 2 for array in arrays):
        return "mse"
    told = [_told(np.asarray(array, np.float64)) for array in arrays]
    return "mse" if np.average(told, weights=[len(array) for array in arrays]) < _TELLING else "kl"


def _told(logits: Float64Array) -> float:
    """KL of the softmax from a uniform distribution, as a share of its maximum, mean over rows; 1 if not finite.

    Args:
        logits: ``(samples, classes)``.
    """
    logs = _log_softmax(logits)
    with np.errstate(invalid="ignore"):
        entropy = -np.where(logs > -np.inf, np.exp(logs) * logs, 0.0).sum(axis=-1)
    return float(np.nan_to_num(1 - entropy / np.log(logits.shape[-1]), nan=1.0).mean())


def comparable(outputs: Mapping[str, Batches]) -> list[str]:
    """Names of the outputs that say how good a model is.

    These are the outputs of floating-point numbers. Labels and decisions made from them say less: they are taken only
    if there is no such output. Text says nothing.

    Args:
        outputs: outputs of the float model, batches by name.

    Raises:
        CalibrationError: no output holds numbers.
    """
    arrays = {name: batches[0] for name, batches in outputs.items()}
    for kinds in ("f", "iub"):
        names = [name for name, array in arrays.items() if isinstance(array, np.ndarray) and array.dtype.kind in kinds]
        if names:
            return names
    raise CalibrationError("no output of the model holds numbers: nothing says how good a quantised model is")


def final_losses(reference: Batches, quantized: Batches, kind: LossKind) -> float:
    """The loss that quantisation causes at one output.

    ``kl``: mean over rows (along the last axis) of ``sum_k p_k (ln p_k - ln q_k)``, in nats, with p from the float
    model and q from the quantised one. Values that are probabilities in the float model are taken as they are, scaled
    to a sum of one, and q is at least the smallest normal float32; all others are logits.

    ``mse``: ``sum (y - y~)^2 / sum y^2`` over all elements; 0 for two zero outputs.

    Args:
        reference: the output in the float model, one array per batch.
        quantized: the same in the quantised model, of the same shapes.
        kind: the loss, for example from :func:`loss_kind`.

    Returns:
        The loss; infinite if the quantised output holds NaN or infinity, or gives probability 0 to what is possible.

    Raises:
        CalibrationError: shapes differ, there are no values, or the float output holds NaN or infinity (a logit may be
            minus infinity).
    """
    if len(reference) != len(quantized) or not any(array.size for array in reference):
        raise CalibrationError("outputs cannot be compared: there are no values, or not as many batches")
    probabilities = kind == "kl" and are_probabilities(reference)
    total = weight = 0.0
    for x, y in zip(reference, quantized, strict=True):
        if x.shape != y.shape:
            raise CalibrationError(f"an output has the shape {x.shape}, once quantised {y.shape}")
        wide, other = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if kind == "mse":
            _check(np.isfinite(wide))
            error = wide - np.where(np.isfinite(other), other, np.inf)
            total, weight = total + float(np.vdot(error, error)), weight + float(np.vdot(wide, wide))
        else:
            log = _log_probabilities if probabilities else _log_softmax
            _check(
                np.isfinite(wide) if probabilities else (wide < np.inf) & (wide.max(axis=-1, keepdims=True) > -np.inf)
            )
            losses = _divergence(log(wide), log(other))
            total, weight = total + float(losses.sum()), weight + losses.size
    if kind == "mse" and not weight:
        return np.inf if total else 0.0
    return total / weight


def _check(good: npt.NDArray[np.bool_]) -> None:
    if not good.all():
        raise CalibrationError("the float model's output holds NaN or infinity on the calibration data")


def are_probabilities(arrays: Iterable[npt.NDArray[Any]]) -> bool:
    """Whether all rows are non-negative and sum to 1."""
    return all(
        array.min() >= 0 and bool((np.abs(array.sum(axis=-1, dtype=np.float64) - 1) < _SUM_TOLERANCE).all())
        for array in arrays
        if array.size
    )


def _log_probabilities(rows: Float64Array) -> Float64Array:
    """Logarithms of probabilities; NaN where a row holds NaN or infinity."""
    bounded = np.where(np.isfinite(rows), np.maximum(rows, _LEAST), np.nan)
    logs: Float64Array = np.log(bounded / bounded.sum(axis=-1, keepdims=True))
    return logs


def _log_softmax(rows: Float64Array) -> Float64Array:
    """Logarithms of the softmax of logits; NaN where a row holds NaN or plus infinity."""
    with np.errstate(invalid="ignore"):
        logs: Float64Array = log_softmax(np.where(rows < np.inf, rows, np.nan), axis=-1)
    return logs


def _divergence(p: Float64Array, q: Float64Array) -> Float64Array:
    """KL of each row from logarithms, not below zero; infinite where q is NaN."""
    with np.errstate(invalid="ignore"):
        terms = np.where(p > -np.inf, np.exp(p) * (p - q), np.where(np.isnan(q), np.nan, 0.0))
    rows: Float64Array = terms.sum(axis=-1)
    return np.where(np.isnan(rows), np.inf, np.maximum(rows, 0.0))
