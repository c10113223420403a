"""Collect each layer's input statistics ``E[x x^T]`` in one pass over the data; open and run onnxruntime sessions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from cerwu_onnx.calibration.source import Source
from cerwu_onnx.calibration.sums import Key, Sums, identity_stats, key, layer_stats
from cerwu_onnx.errors import CalibrationError, first_line, raise_if_out_of_memory
from cerwu_onnx.model.graph import Graph, model_inputs
from cerwu_onnx.model.sessions import new_session
from cerwu_onnx.model.tensors import constant_tensors, without_initializers
from cerwu_onnx.types import Layer, LayerStats

log = logging.getLogger(__name__)

Feed: TypeAlias = Mapping[str, npt.NDArray[Any]]
Progress: TypeAlias = Callable[[int, "int | None"], None]

_LARGEST_BATCH = 64


def collect(
    graph: Graph,
    source: Source,
    *,
    batch_size: int | None = None,
    memory: int = 512 << 20,
    progress: Progress | None = None,
) -> tuple[dict[str, LayerStats], int]:
    """Collect statistics of every layer's input in one pass over the calibration data.

    Sums over one chunk of columns are float32, the running sums float64. Layers that read the same activation
    in the same way share their sums; treat the arrays as read-only.

    Args:
        graph: the analysed model.
        source: where the feeds come from.
        batch_size: samples per run of the model; None measures one sample and stays within ``memory``.
        memory: bound in bytes on the activations held at once. The Hessians take memory in addition.
        progress: called after each batch with the samples done and the number of samples, if known.

    Returns:
        One entry per layer, in the order of ``graph.layers``, and the number of samples. A layer that saw no
        position gets the identity and a warning.

    Raises:
        ModelError: onnxruntime cannot load the model.
        CalibrationError: the data does not fit, or an activation holds NaN or infinity.
    """
    sums = _plan(graph)
    fetched = fetched_activations(graph.model, (job.activation for job in sums.values()))
    session = open_session(graph.observed, fetched)
    if batch_size is None:
        batch_size = choose_batch(session, source, fetched, memory)
    done = 0
    for feed in source.batches(batch_size):
        activations = {**feed, **run_session(session, fetched, feed)}
        for job in sums.values():
            job.add(np.asarray(activations[job.activation]))
        done += source.count(feed)
        if progress is not None:
            progress(done, source.samples)
    if not done:
        raise CalibrationError("the calibration data holds no sample")
    cache: dict[tuple[Key, ...], LayerStats] = {}
    return {layer.weight: _stats(layer, sums, cache) for layer in graph.layers}, done


def open_session(model: onnx.ModelProto, outputs: list[str] | None = None) -> ort.InferenceSession:
    """Open an onnxruntime session on the CPU; if ``outputs`` is given, these tensors are its only outputs.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    if outputs:
        shown = without_initializers(model, ())
        del shown.graph.output[:]
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        model = shown
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = False  # it would hold the memory of the largest run until the session ends
    options.log_severity_level = 4  # errors are raised, not printed
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning threads would take the cores away from the matrix products between two runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return new_session(model, options)


def run_session(session: ort.InferenceSession, names: Sequence[str], feed: Feed) -> dict[str, Any]:
    """Run a session, and return the values of some of its outputs, by name. Without names nothing runs.

    Raises:
        CalibrationError: onnxruntime fails.
    """
    if not names:
        return {}
    try:
        return dict(zip(names, session.run(list(names), dict(feed)), strict=True))
    except Exception as error:  # onnxruntime's exceptions have no common base but this
        raise_if_out_of_memory(error)
        raise CalibrationError(f"onnxruntime cannot run the model on the data: {first_line(error)}") from error


def fetched_activations(model: onnx.ModelProto, activations: Iterable[str]) -> list[str]:
    """The activations that a session must return: all but the model's own inputs, each once."""
    fed = {info.name for info in model_inputs(model)}
    return list(dict.fromkeys(name for name in activations if name not in fed))


def choose_batch(session: ort.InferenceSession, source: Source, names: Sequence[str], memory: int) -> int:
    """The number of samples that fit in a quarter of the memory: onnxruntime's buffers and columns take more.

    Args:
        session: runs the whole model.
        source: one sample of it runs.
        names: the outputs that will be held at once.
        memory: in bytes.
    """
    feed = source.first()
    tensors = {**feed, **run_session(session, names, feed)}
    return batch_that_fits(sum(int(tensor.nbytes) for tensor in tensors.values()), memory)


def batch_that_fits(needed: int, memory: int) -> int:
    """The number of samples, of so many bytes each, that fit in a quarter of the memory."""
    batch = max(1, min(_LARGEST_BATCH, memory // (4 * max(needed, 1))))
    log.debug("calibration: %d bytes of activations per sample, %d samples per batch", needed, batch)
    return batch


def _plan(graph: Graph) -> dict[Key, Sums]:
    """One sum per distinct pair of activation and patch; constants are left out with a warning."""
    constants = set(constant_tensors(graph.model))
    sums: dict[Key, Sums] = {}
    for layer in graph.layers:
        shape = (layer.layout.groups, layer.layout.cols)
        for site in layer.sites:
            if site.activation in constants:
                log.warning("layer %r reads the constant %r: no statistics", layer.weight, site.activation)
            else:
                sums.setdefault(key(site), Sums(site.activation, site.patch, layer.weight, shape, layer.blocks))
    return sums


def _stats(layer: Layer, sums: Mapping[Key, Sums], cache: dict[tuple[Key, ...], LayerStats]) -> LayerStats:
    """Means over all sites of a layer. Layers that read the same sites share the arrays."""
    keys = tuple(key(site) for site in layer.sites if key(site) in sums and sums[key(site)].positions)
    if layer.sites and not keys:
        log.warning("layer %r saw no calibration data: it is quantised without statistics", layer.weight)
    if not keys:
        return identity_stats(layer)
    if keys not in cache:
        cache[keys] = layer_stats([sums[site] for site in keys])
    return cache[keys]
