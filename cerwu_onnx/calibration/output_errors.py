"""How far the outputs of a model are from those of another one, on the same data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from cerwu_onnx.calibration.collect import Feed, run_session
from cerwu_onnx.errors import CheckFailed


@dataclass(frozen=True, slots=True)
class OutputError:
    """The error of one output of the compressed model against the original.

    Attributes:
        name: output name.
        relative: root of (squared error / energy) over all samples.
        largest: largest absolute difference.
        agreement: share of samples with the same argmax over the last axis; None for outputs without such an axis.
    """

    name: str
    relative: float
    largest: float
    agreement: float | None


def errors_between(
    reference: ort.InferenceSession, other: ort.InferenceSession, feeds: Iterable[Feed]
) -> tuple[OutputError, ...]:
    """The errors of a session's outputs against those of another session, over all feeds.

    Raises:
        CheckFailed: an output changes its shape, or becomes NaN where it was not.
        CalibrationError: onnxruntime fails.
    """
    names = [output.name for output in reference.get_outputs()]
    totals = [_Total(name) for name in names]
    for feed in feeds:
        expected, found = run_session(reference, names, feed), run_session(other, names, feed)
        for total in totals:
            total.add(_array(expected[total.name]), _array(found[total.name]))
    return tuple(total.result() for total in totals)


def _array(value: Any) -> npt.NDArray[Any]:
    """An output as an array; a map for each sample, as ZipMap of scikit-learn's exporter gives, by its values."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = [list(item.values()) for item in value]
    return np.asarray(value)


class _Total:
    """Running comparison of one output."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.error = self.energy = self.largest = 0.0
        self.agreed = self.rows = 0

    def add(self, reference: npt.NDArray[Any], value: npt.NDArray[Any]) -> None:
        if reference.shape != value.shape:
            raise CheckFailed(f"output {self.name!r} has shape {value.shape} instead of {reference.shape}")
        if reference.dtype.kind not in "fiu":
            return
        reference, value = reference.astype(np.float64), value.astype(np.float64)
        if np.isnan(value).any() and not np.isnan(reference).any():
            raise CheckFailed(f"output {self.name!r} has NaN where the original has none")
        with np.errstate(invalid="ignore", over="ignore"):  # where both are infinite they are equal
            difference = np.nan_to_num(value - reference)
            self.error += float((difference**2).sum())
            self.energy += float((np.nan_to_num(reference) ** 2).sum())
        self.largest = max(self.largest, float(np.abs(difference).max(initial=0.0)))
        if reference.ndim > 1 and reference.shape[-1] > 1:
            same = reference.argmax(-1) == value.argmax(-1)
            self.agreed += int(same.sum())
            self.rows += same.size

    def result(self) -> OutputError:
        relative = (self.error / self.energy) ** 0.5 if self.energy else float(self.error > 0)
        return OutputError(self.name, relative, self.largest, self.agreed / self.rows if self.rows else None)
