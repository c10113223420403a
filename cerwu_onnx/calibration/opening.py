"""Open data for a model, and find out whether the model takes several samples at once.

A model may declare a free batch axis and still accept one sample only (a Reshape or the states of an LSTM fix the
batch), or mix the samples of a batch (it normalises over the batch axis). Such models run one sample at a time.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from cerwu_onnx.calibration.collect import run_session
from cerwu_onnx.calibration.images import ImageOptions
from cerwu_onnx.calibration.parts import Rows
from cerwu_onnx.calibration.source import CalibrationSpec, Source, open_source
from cerwu_onnx.errors import CalibrationError, ModelError, first_line
from cerwu_onnx.model.sessions import new_session
from cerwu_onnx.model.tensors import model_inputs

log = logging.getLogger(__name__)

TOLERANCE = 0.01
"""Largest difference between a sample's outputs alone and in a batch, relative to the largest value of the output.

Other kernels and float16 round differently, but far less than that."""


def open_data(
    spec: CalibrationSpec,
    model: onnx.ModelProto,
    *,
    images: ImageOptions | None = None,
    limit: int | None = None,
    name: str = "calibration data",
) -> Source:
    """Open data for a model; the source yields single samples if the model cannot take more.

    Two samples run together and apart to find that out. Feeds of a function or an iterable are never divided.

    Args:
        spec: see :func:`cerwu_onnx.calibration.source.open_source`.
        model: the model that the data will feed.
        images: how images become samples.
        limit: use at most so many samples.
        name: what error messages call data that is not a file or a function.

    Raises:
        UsageError: there is no such file, folder or function.
        CalibrationError: the data is empty or does not fit the model.
    """
    source = open_source(spec, model_inputs(model), images=images, limit=limit, name=name)
    if isinstance(source, Rows) and source.batch is None:
        reason = _reason_for_single(model, source)
        if reason:
            log.info("the model runs on one sample at a time: %s", reason)
            source.one_by_one()
    return source


def _reason_for_single(model: onnx.ModelProto, source: Rows) -> str:
    """Why the model must run on single samples; empty if it need not, or if running it fails anyway."""
    try:
        pair = next(source.batches(2))
        if source.count(pair) < 2:
            return ""
        session = _session(model)
        names = [output.name for output in session.get_outputs()]
        first, second = (
            run_session(session, names, {name: rows[index : index + 1] for name, rows in pair.items()})
            for index in range(2)
        )
    except (CalibrationError, ModelError):  # who uses the data will say what is wrong
        return ""
    try:
        both = run_session(session, names, pair)
    except CalibrationError as error:
        return str(error)
    mixed = next((name for name in names if not _is_joined(both[name], first[name], second[name])), "")
    if not mixed:
        return ""
    again = run_session(session, names, {name: rows[:1] for name, rows in pair.items()})
    if not all(_is_close(first[name], again[name]) for name in names):
        return ""  # the outputs are random: they say nothing
    return f"the output {mixed!r} of a sample changes with the other samples of its batch"


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    """A session for a few runs: weights stay where they are, rather than be arranged for faster products.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4  # errors are raised, not printed
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return new_session(model, options)
    except Exception as error:  # onnxruntime's exceptions have no common base but this
        raise ModelError(f"onnxruntime cannot load the model: {first_line(error)}") from error


def _is_joined(both: Any, first: Any, second: Any) -> bool:
    """Whether an output for two samples consists of the outputs for each of them, along any axis."""
    if not all(isinstance(value, np.ndarray) for value in (both, first, second)):
        return True  # sequences and maps are not compared
    if both.ndim != first.ndim or both.ndim != second.ndim:
        return False
    axes = [axis for axis in range(both.ndim) if both.shape[axis] != first.shape[axis]]
    if not axes:  # no axis grows with the batch
        return _is_close(both, first) and _is_close(both, second)
    try:
        return len(axes) == 1 and _is_close(both, np.concatenate([first, second], axes[0]))
    except ValueError:  # shapes that cannot be joined
        return False


def _is_close(value: Any, expected: Any) -> bool:
    """Whether two values are equal, or floats within :data:`TOLERANCE`; what is not an array counts as equal."""
    if not (isinstance(value, np.ndarray) and isinstance(expected, np.ndarray)):
        return True
    if value.shape != expected.shape:
        return False
    if value.dtype.kind != "f":
        return bool(np.array_equal(value, expected))
    x, y = value.astype(np.float64), expected.astype(np.float64)
    largest = float(np.abs(y[np.isfinite(y)]).max(initial=0.0))
    return bool(np.allclose(x, y, rtol=0.0, atol=TOLERANCE * largest, equal_nan=True))
