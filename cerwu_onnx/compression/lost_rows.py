"""Warn of channels that vanish because their weights are much smaller than those of others that share a step."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from cerwu_onnx.model.graph import Graph
from cerwu_onnx.types import QuantizedTensor

log = logging.getLogger(__name__)

SHARE = 0.05
"""A warning is due if so large a share of a layer's rows is lost."""

LOST = 0.5
"""A row is lost if its weights' relative root-mean-square error is above this."""

FINE = 0.1
"""It is due only in layers whose relative root-mean-square error is below this: others lose rows because the rate is
low."""


def warn_of_lost_rows(graph: Graph, quantized: Mapping[str, QuantizedTensor]) -> None:
    """Warn of each layer that hardly has an error as a whole, but rows of which are lost.

    Without data, nothing tells that such rows matter less than others.

    Args:
        graph: the analysed model.
        quantized: weights on their grids, by name.
    """
    for layer in graph.layers:
        found = quantized.get(layer.weight)
        if found is None or not found.energy or found.distortion > FINE**2 * found.energy:
            continue
        weight = layer.layout.to_matrix(graph.array(layer.weight).astype(np.float64))
        error = np.square(weight - layer.layout.to_matrix(found.values())).sum(axis=-1)
        lost = int((error > LOST**2 * np.square(weight).sum(axis=-1)).sum())
        if lost >= SHARE * error.size and lost:
            log.warning(
                "layer %s: %d of its %d channels lose most of their weights, which are orders of magnitude smaller "
                "than others that share a step; give --calib, or --skip this layer",
                layer.weight,
                lost,
                error.size,
            )
