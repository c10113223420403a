"""Run the model over calibration data and accumulate ``E[x x^T]`` for each layer, batch by batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from cerwu_onnx.calibration.patches import Float32Array, iter_columns
from cerwu_onnx.calibration.source import Source
from cerwu_onnx.errors import CalibrationError, ModelError
from cerwu_onnx.graph import Graph, model_inputs
from cerwu_onnx.onnx_io import constant_tensors, first_line
from cerwu_onnx.types import ConvPatch, Float64Array, Layer, LayerStats, MatMulPatch, Site

log = logging.getLogger(__name__)

Feed: TypeAlias = Mapping[str, npt.NDArray[Any]]
Progress: TypeAlias = Callable[[int, "int | None"], None]

_CHUNK = 16 << 20
_LARGEST_BATCH = 64


@dataclass(slots=True)
class _Sum:
    """Running sums over the positions of one activation seen through one patch; layers may share it."""

    activation: str
    patch: ConvPatch | MatMulPatch
    layer: str
    shape: tuple[int, int]
    gram: Float64Array | None = None
    total: Float64Array | None = None
    positions: int = 0

    def add(self, x: npt.NDArray[Any]) -> None:
        """Add the columns of one activation.

        Raises:
            CalibrationError: NaN or infinity, or a shape the layer cannot read.
        """
        try:
            for cols in iter_columns(self.patch, x, _CHUNK):
                self._add_columns(cols)
        except ValueError as error:
            raise CalibrationError(f"layer {self.layer!r}: {error} (activation {self.activation!r})") from error

    def _add_columns(self, cols: Float32Array) -> None:
        if (cols.shape[0], cols.shape[2]) != self.shape:
            raise ValueError(f"its input has {cols.shape[2]} columns, the weight {self.shape[1]}")
        by_column = cols.swapaxes(1, 2)
        gram: npt.NDArray[Any]
        total: npt.NDArray[Any]
        with np.errstate(over="ignore", invalid="ignore"):
            gram, total = by_column @ cols, by_column.sum(axis=2)
        if not (np.isfinite(np.diagonal(gram, axis1=1, axis2=2)).all() and np.isfinite(total).all()):
            if not np.isfinite(cols).all():
                kind = "NaN" if np.isnan(cols).any() else "infinity"
                raise CalibrationError(
                    f"the input {self.activation!r} of layer {self.layer!r} holds {kind} on the calibration "
                    "data: check that the data is preprocessed as in training"
                )
            wide = by_column.astype(np.float64)
            gram, total = wide @ wide.swapaxes(1, 2), wide.sum(axis=2)
        if self.gram is None or self.total is None:
            self.gram = np.zeros(gram.shape)
            self.total = np.zeros(total.shape)
        self.gram += gram
        self.total += total
        self.positions += cols.shape[1]


_Key: TypeAlias = "tuple[str, ConvPatch | MatMulPatch]"
_Sums: TypeAlias = dict[_Key, _Sum]


def collect(
    graph: Graph,
    source: Source,
    *,
    batch_size: int | None = None,
    memory: int = 512 << 20,
    progress: Progress | None = None,
) -> tuple[dict[str, LayerStats], int]:
    """Statistics of every layer's input over one pass of the calibration data.

    Sums over one chunk of columns are float32, the running sums float64. Layers that read the same activation
    in the same way share their sums; treat the arrays as read-only.

    Args:
        graph: the analysed model.
        source: where the feeds come from.
        batch_size: samples per run of the model; None measures one sample and stays within ``memory``.
        memory: bound in bytes on the activations held at once. The Hessians themselves come on top.
        progress: called after each batch with the samples done and the number of samples, if known.

    Returns:
        One entry per layer, in the order of ``graph.layers``, and the number of samples. A layer that saw no
        position gets the identity and a warning.

    Raises:
        ModelError: onnxruntime cannot load the model.
        CalibrationError: the data does not fit, or an activation holds NaN or infinity.
    """
    sums = _plan(graph)
    fetched = _fetched(graph.model, sums)
    session = open_session(graph.model, fetched)
    if batch_size is None:
        batch_size = _choose_batch(session, source, fetched, memory)
    done = 0
    for feed in source.batches(batch_size):
        activations = {**feed, **_run(session, fetched, feed)}
        for job in sums.values():
            job.add(np.asarray(activations[job.activation]))
        done += source.count(feed)
        if progress is not None:
            progress(done, source.samples)
    if not done:
        raise CalibrationError("the calibration data holds no sample")
    cache: dict[tuple[_Key, ...], LayerStats] = {}
    return {layer.weight: _stats(layer, sums, cache) for layer in graph.layers}, done


def identity_stats(layer: Layer) -> LayerStats:
    """Statistics of a layer without data: identity Hessian (a read-only view), zero mean, no positions."""
    groups, cols = layer.layout.groups, layer.layout.cols
    identity = np.broadcast_to(np.eye(cols), (groups, cols, cols))
    return LayerStats(identity, np.zeros((groups, cols)), 0)


def open_session(model: onnx.ModelProto, outputs: list[str] | None = None) -> ort.InferenceSession:
    """An onnxruntime session on the CPU, with these tensors as its only outputs if a list is given.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    if outputs:
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        del shown.graph.output[:]
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        model = shown
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised, not printed
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # Spinning threads would take the cores away from the matrix products between two runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base but this
        raise ModelError(f"onnxruntime cannot load the model: {first_line(error)}") from error


def _plan(graph: Graph) -> _Sums:
    """One sum per distinct pair of activation and patch; constants are left out with a warning."""
    constants = set(constant_tensors(graph.model))
    sums: _Sums = {}
    for layer in graph.layers:
        shape = (layer.layout.groups, layer.layout.cols)
        for site in layer.sites:
            if site.activation in constants:
                log.warning("layer %r reads the constant %r: no statistics", layer.weight, site.activation)
            else:
                sums.setdefault(_key(site), _Sum(site.activation, site.patch, layer.weight, shape))
    return sums


def _key(site: Site) -> _Key:
    return site.activation, site.patch


def _fetched(model: onnx.ModelProto, sums: _Sums) -> list[str]:
    """The activations that the session must return: all but the model's own inputs."""
    fed = {info.name for info in model_inputs(model)}
    return list(dict.fromkeys(job.activation for job in sums.values() if job.activation not in fed))


def _run(session: ort.InferenceSession, names: list[str], feed: Feed) -> dict[str, npt.NDArray[Any]]:
    if not names:
        return {}
    try:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))
    except Exception as error:  # onnxruntime's exceptions have no common base but this
        raise CalibrationError(f"onnxruntime cannot run the model on the data: {first_line(error)}") from error


def _choose_batch(session: ort.InferenceSession, source: Source, names: list[str], memory: int) -> int:
    """As many samples as fit in a quarter of the memory; onnxruntime's own buffers and columns take more."""
    feed = source.first()
    tensors = {**feed, **_run(session, names, feed)}
    needed = sum(tensor.nbytes for tensor in tensors.values())
    batch = max(1, min(_LARGEST_BATCH, memory // (4 * max(needed, 1))))
    log.debug("calibration: %d bytes of activations per sample, %d samples per batch", needed, batch)
    return batch


def _stats(layer: Layer, sums: _Sums, cache: dict[tuple[_Key, ...], LayerStats]) -> LayerStats:
    """Means over all sites of a layer. Layers that read the same sites share the arrays."""
    keys = tuple(_key(site) for site in layer.sites if _key(site) in sums and sums[_key(site)].positions)
    if not keys:
        log.warning("layer %r saw no calibration data: it is quantised without statistics", layer.weight)
        return identity_stats(layer)
    if keys not in cache:
        seen = [sums[key] for key in keys]
        positions = sum(job.positions for job in seen)
        gram = np.sum([job.gram for job in seen if job.gram is not None], axis=0) / positions
        total = np.sum([job.total for job in seen if job.total is not None], axis=0) / positions
        cache[keys] = LayerStats(gram, total, positions)
    return cache[keys]
