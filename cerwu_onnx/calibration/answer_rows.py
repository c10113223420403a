"""Arithmetic of rows: those of classes along an axis, their entropies, divergences and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx.types import Float64Array

LEAST = float(np.finfo(np.float32).tiny)
"""No probability is taken to be smaller."""


def rows_along(values: Float64Array, axis: int) -> Float64Array:
    """Values with an axis moved to the end, as ``(rows, length of the axis)``."""
    found: Float64Array = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    return found


def put_back(rows: Float64Array, shape: tuple[int, ...], axis: int) -> Float64Array:
    """The inverse of :func:`rows_along`."""
    moved = np.moveaxis(np.empty(shape), axis, -1).shape
    found: Float64Array = np.moveaxis(rows.reshape(moved), -1, axis)
    return found


def entropy_of(logs: Float64Array) -> Float64Array:
    """Entropy of rows of log-probabilities."""
    with np.errstate(invalid="ignore"):
        found: Float64Array = -np.where(logs > -np.inf, np.exp(logs) * logs, 0.0).sum(axis=-1)
    return found


def divergence(p: Float64Array, q: Float64Array) -> Float64Array:
    """KL of each row from logarithms, not below zero; infinite where q is NaN."""
    with np.errstate(invalid="ignore"):
        terms = np.where(p > -np.inf, np.exp(p) * (p - q), np.where(np.isnan(q), np.nan, 0.0))
    rows: Float64Array = terms.sum(axis=-1)
    return np.where(np.isnan(rows), np.inf, np.maximum(rows, 0.0))


def draws_of(q: Float64Array, draws: int, random: np.random.Generator) -> Iterator[Float64Array]:
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


def column_axis(array: npt.NDArray[Any]) -> int:
    """The axis of an output's columns: the last, or the second where that is shorter."""
    return 1 if array.ndim > 2 and array.shape[1] < array.shape[-1] else array.ndim - 1
