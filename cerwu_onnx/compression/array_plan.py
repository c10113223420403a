"""Decide which arrays of a file are quantised, and with which moments of their inputs; others stay exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cerwu_onnx.array_files.dtypes import FLOATS, Typed, to_float32
from cerwu_onnx.array_files.files import is_array_file, read_arrays
from cerwu_onnx.compression.layer_rules import rules_of
from cerwu_onnx.config import LayerRule, Settings
from cerwu_onnx.errors import CalibrationError, UsageError
from cerwu_onnx.types import Float64Array, Kept

LEAST = 256
"""Arrays of fewer elements stay exact."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of the arrays of a file.

    Attributes:
        arrays: all of them.
        rules: those of the user, for arrays that are quantised.
        moments: second moments of inputs.
        kept: arrays that stay exact.
    """

    arrays: Mapping[str, Typed]
    rules: Mapping[str, LayerRule]
    moments: Mapping[str, Float64Array]
    kept: tuple[Kept, ...]

    @property
    def names(self) -> list[str]:
        """The arrays that are quantised."""
        exact = {kept.name for kept in self.kept}
        return [name for name in self.arrays if name not in exact]


def plan_of(arrays: Mapping[str, Typed], settings: Settings, moments: Mapping[str, Float64Array]) -> Plan:
    """Decide which arrays are quantised.

    Raises:
        UsageError: a rule matches nothing.
    """
    rules = rules_of(arrays, settings.rules)
    kept = []
    for name, array in arrays.items():
        reason = _reason(name, array, rules)
        if reason:
            kept.append(Kept(name, array.values.shape, array.dtype, array.values.nbytes, reason))
    exact = {tensor.name for tensor in kept}
    return Plan(
        arrays,
        {name: rule for name, rule in rules.items() if name not in exact},
        {name: matrix for name, matrix in moments.items() if name not in exact},
        tuple(kept),
    )


def _reason(name: str, array: Typed, rules: Mapping[str, LayerRule]) -> str:
    """Why an array stays exact; empty if it does not."""
    if array.dtype not in FLOATS:
        return "not floats"
    if array.values.ndim < 2:
        return "a vector or a single number"
    if array.values.size < LEAST:
        return f"fewer than {LEAST} elements"
    if name in rules and rules[name].skip:
        return f"left alone ({rules[name].where})"
    if not np.isfinite(to_float32(array)).all():
        return "values that are not finite as float32"
    return ""


def moments_of(path: str | Path, arrays: Mapping[str, Typed]) -> dict[str, Float64Array]:
    """Second moments from a file, ``(N, N)`` by name, checked against the arrays.

    Raises:
        CalibrationError: they do not fit.
    """
    if not is_array_file(path):
        raise UsageError(f"{path}: moments of inputs are a .npz or .safetensors file: array name -> (N, N)")
    found = {}
    for name, moment in read_arrays(path).arrays.items():
        if name not in arrays:
            raise CalibrationError(f"{path}: there is no array {name!r} to which these moments could belong")
        shape = arrays[name].values.shape
        columns = int(np.prod(shape[1:])) if len(shape) > 1 else 0
        if moment.dtype not in FLOATS or moment.values.shape != (columns, columns):
            raise CalibrationError(
                f"{path}: moments of {name!r} have the shape {moment.values.shape}; an array of shape {shape} needs "
                f"({columns}, {columns}): rows are outputs, and all axes but the first are inputs"
            )
        matrix = moment.values.astype(np.float64) if moment.dtype != "bfloat16" else to_float32(moment)
        matrix = matrix.astype(np.float64)
        scale = np.abs(matrix).max(initial=0)
        if not np.isfinite(matrix).all() or np.abs(matrix - matrix.T).max(initial=0) > 1e-3 * scale:
            raise CalibrationError(f"{path}: moments of {name!r} are not finite or not symmetric: give mean x x^T")
        if (np.diag(matrix) < 0).any():
            raise CalibrationError(f"{path}: moments of {name!r} have a negative mean square: give mean x x^T")
        found[name] = (matrix + matrix.T) / 2
    return found
