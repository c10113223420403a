"""What the compressor does, as plainly as it can be written: the oracle of tests, and the yardstick of benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnxruntime as ort

from cerwu_onnx.calibration import columns
from cerwu_onnx.model.graph import analyse

DAMPING = 0.01
LEVELS = 16


def activations(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the layers of a model read, on one feed."""
    read = {site.activation for layer in analyse(model).layers for site in layer.sites}
    names = sorted(read - feed.keys())
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    if not names:
        return dict(feed)
    session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    return {**feed, **dict(zip(names, session.run(names, dict(feed)), strict=True))}


def hessians(model: onnx.ModelProto, feeds: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """``E[x x^T]`` ``(G, N, N)`` of each weight over all positions, in float64, with one run of the model per feed."""
    layers = analyse(model).layers
    gram: dict[str, np.ndarray] = {layer.weight: np.zeros(()) for layer in layers}
    positions = dict.fromkeys(gram, 0)
    for feed in feeds:
        values = activations(model, feed)
        for layer in layers:
            for site in layer.sites:
                x = columns(site.patch, values[site.activation]).astype(np.float64)
                gram[layer.weight] = gram[layer.weight] + x.swapaxes(1, 2) @ x
                positions[layer.weight] += x.shape[1]
    return {name: total / max(positions[name], 1) for name, total in gram.items()}


def textbook_optq(w: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """OBS on rows ``(M, N)``, or one, with explicit inverses of the remaining block (OBC, eq. 2), no factor shared."""
    w, n = w.copy(), w.shape[-1]
    q = np.zeros_like(w)
    for j in range(n):
        inverse = np.linalg.inv(hessian[j:, j:])
        q[..., j] = np.rint(w[..., j])
        w[..., j:] -= (w[..., j] - q[..., j])[..., None] / inverse[0, 0] * inverse[0]
    return q


def compress(model: onnx.ModelProto, feeds: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Integers of every weight by OPTQ on a grid of :data:`LEVELS` steps, one inverse updated from column to column."""
    graph, found = analyse(model), {}
    known = hessians(model, feeds)
    for layer in graph.layers:
        matrix = layer.layout.to_matrix(graph.array(layer.weight).astype(np.float64))
        matrix = matrix / (2 * np.abs(matrix).max(initial=1e-30) / LEVELS)
        symbols = np.empty_like(matrix)
        for w, q, hessian in zip(matrix, symbols, known[layer.weight], strict=True):
            size = len(hessian)
            inverse = np.linalg.inv(hessian + (DAMPING * np.trace(hessian) / size + 1e-12) * np.eye(size))
            for j in range(size):
                q[:, j] = np.rint(w[:, j])
                w -= np.outer((w[:, j] - q[:, j]) / inverse[j, j], inverse[j])
                inverse -= np.outer(inverse[:, j], inverse[j]) / inverse[j, j]  # without column j: OBC, eq. 3
                inverse[j] = inverse[:, j] = 0
        found[layer.weight] = layer.layout.to_tensor(symbols)
    return found
