"""Tell whether calibration data can be trusted: is there enough of it, and is it what the model was trained for?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from cerwu_onnx.calibration.collect import open_session, run_session
from cerwu_onnx.calibration.sensitivity import first_feeds
from cerwu_onnx.calibration.source import Source
from cerwu_onnx.errors import ModelError
from cerwu_onnx.model.elements import floats_of
from cerwu_onnx.model.tensors import attributes_of, constant_tensors
from cerwu_onnx.types import Float64Array

FEWEST = 8
"""Fewer different samples say less than no data: the model is quantised as without."""

FEW = 32
"""Fewer different samples deserve a warning."""

SAMPLES = 64
"""So many samples are looked at."""

NORMS = 4
"""So many BatchNormalization nodes, from the input on, are compared with the data."""

SHIFT, SPREAD = 0.4, 1.0
"""Largest mean square of the shift of channels, in standard deviations, and largest median of the logarithm of their
variance over the one that training saw. Honest data of three networks gave at most 0.04 and 0.4, of 64 samples; twice
the scale 0.8 and 1.2, a shift by one standard deviation of the input 0.4 and 0.2."""


@dataclass(frozen=True, slots=True)
class Doubts:
    """What speaks against calibration data.

    Attributes:
        useless: why the data had better not be used; empty if it may be.
        warnings: what else the user should know.
    """

    useless: str = ""
    warnings: tuple[str, ...] = ()


def examine(model: onnx.ModelProto, source: Source) -> Doubts:
    """Look at the first samples, and at what the BatchNormalization nodes of the model say of them.

    Args:
        model: the float model, before its normalisations are folded.
        source: the calibration data.

    Raises:
        CalibrationError: the data does not fit the model.
    """
    feeds = first_feeds(source, SAMPLES)
    seen = sum(source.count(feed) for feed in feeds)
    different = len({digest for feed in feeds for digest in _digests(feed, source.count(feed))})
    if different < FEWEST:
        what = f"{different} different" if seen > different else f"{seen}"
        return Doubts(f"{what} calibration {'sample says' if different == 1 else 'samples say'} less than none")
    if strange := _strange(model, feeds):
        return Doubts(strange)
    if different < FEW:
        return Doubts(warnings=(f"only {different} different calibration samples: give a hundred or more",))
    return Doubts()


def _digests(feed: Mapping[str, Any], samples: int) -> list[bytes]:
    """One digest of each sample, or one of the feed where it cannot be divided into samples."""
    arrays = [_comparable(value) for value in feed.values()]
    if samples < 2 or any(not array.ndim or len(array) != samples for array in arrays):
        return [hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()]
    return [hashlib.sha256(b"".join(array[i].tobytes() for array in arrays)).digest() for i in range(samples)]


def _comparable(value: Any) -> npt.NDArray[Any]:
    """An array that has the same bytes wherever its values are equal: no negative zeros, no references to text."""
    array = np.ascontiguousarray(value)
    if array.dtype.kind == "O":
        return array.astype(str)
    return np.where(array == 0, np.zeros((), array.dtype), array) if array.dtype.kind == "f" else array


def _strange(model: onnx.ModelProto, feeds: list[dict[str, Any]]) -> str:
    """How far the data is from what the first BatchNormalization nodes saw in training; empty if near enough."""
    constants = constant_tensors(model)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization" and not node.domain]
    norms = [node for node in norms if set(node.input[3:5]) <= constants.keys() and node.input[0] not in constants]
    names = list(dict.fromkeys(node.input[0] for node in norms[:NORMS]))
    if not names:
        return ""
    try:
        session = open_session(model, names)
        runs = [run_session(session, names, feed) for feed in feeds]
    except ModelError:  # who quantises will say so
        return ""
    for node in norms[:NORMS]:
        mean, variance = (floats_of(constants[name]).astype(np.float64) for name in node.input[3:5])
        epsilon = float(attributes_of(node).get("epsilon", 1e-5))
        values = [np.asarray(run[node.input[0]], np.float64) for run in runs]
        shift, spread = _distance(values, mean, variance + epsilon)
        if shift > SHIFT or spread > SPREAD:
            return (
                f"the calibration data is not what the model was trained on: in front of {node.name or node.op_type!r} "
                f"its mean is off by {shift**0.5:.2g} standard deviations and its variance by a factor of "
                f"{np.exp(min(spread, 99.0)):.2g} (another scale, or another order of channels?)"
            )
    return ""


def _distance(values: list[npt.NDArray[np.float64]], mean: Float64Array, variance: Float64Array) -> tuple[float, float]:
    """Mean square of the shift of channels in standard deviations; median of the logarithm of the variance's ratio."""
    axes = tuple(axis for axis in range(values[0].ndim) if axis != 1)
    count = sum(array.size for array in values) / max(values[0].shape[1], 1)
    if count < 2 or len(values[0].shape) < 2:
        return 0.0, 0.0
    own = sum(array.sum(axis=axes) for array in values) / count
    shape = (1, -1, *(1,) * (values[0].ndim - 2))
    spread = sum(np.square(array - own.reshape(shape)).sum(axis=axes) for array in values) / count
    tiny = float(np.finfo(np.float64).tiny)
    logs = np.abs(np.log(np.maximum(spread, tiny) / np.maximum(variance, tiny)))
    return float(np.mean(np.square(own - mean) / np.maximum(variance, tiny))), float(np.median(logs))
