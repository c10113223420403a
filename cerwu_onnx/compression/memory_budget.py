"""How ``--memory`` is shared out, and what is done in another way where it does not suffice.

One eighth goes to the activations between segments (or, where there are none, to layers quantised side by side), half
to the Hessians of one layer. The rest is for onnxruntime's weights and buffers, the current batch and the tensors that
are already quantised.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from cerwu_onnx.calibration.fisher import FOLDS, LARGEST
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.types import Layer

log = logging.getLogger(__name__)

HESSIANS = 12
"""The most matrices of the Hessian's size that exist at once while a layer is quantised: Hessians of both models, of
all samples and of two folds, and work space to factorise one. ``python -m tests.bench wide`` measures it."""

RESIDUALS = 4
"""The most matrices of a weight's size that a residual adds to these (:attr:`~cerwu_onnx.types.PairStats.missing`)."""

WHOLE = 8
"""About how many float32 copies of all weights exist at once while gradients are measured: the file's, onnxruntime's
for the model and for its gradients, and those with noise."""

NAMED = 3
"""A warning names at most so many layers, and counts the others."""


def activations(memory: int) -> int:
    """Bytes of activations that may be held between segments."""
    return memory // 8


def side_by_side(memory: int) -> int:
    """Bytes for layers that are quantised at the same time, where one alone takes less."""
    return memory // 8


def walks(graph: Graph, memory: int) -> int:
    """How many walks over the layers may run at the same time: their largest layers share what is for one."""
    needed = max((_needed(layer) // layer.blocks for layer in graph.layers), default=0)
    return max(1, memory // 2 // max(needed, 1))


def symbols(memory: int) -> int:
    """Bytes of the symbols of finished layers that stay in memory."""
    return memory // 32


def fits_whole(graph: Graph, memory: int) -> bool:
    """Whether there is room for :data:`WHOLE` copies of all weights, and for the Fisher matrices of their rows."""
    weights = sum(4 * layer.layout.size for layer in graph.layers)
    fishers = (layer.layout.groups * layer.layout.rows**2 for layer in graph.layers)
    needed = WHOLE * weights + sum(FOLDS * 8 * size for size in fishers if size <= LARGEST)
    if needed <= memory:
        return True
    log.warning(
        "sensitivities from gradients need all weights at once, more than %d MiB of memory, so relative errors of all "
        "layers count the same: --memory %dMiB would do",
        memory >> 20,
        -(-needed >> 20),
    )
    return False


def with_blocks(graph: Graph, memory: int) -> Graph:
    """Split layers into blocks of columns where whole Hessians would not fit. That costs bits: a warning names them."""
    layers = tuple(replace(layer, blocks=blocks(layer, memory)) for layer in graph.layers)
    if cut := sorted((layer for layer in layers if layer.blocks > 1), key=_needed, reverse=True):
        shown = ", ".join(
            f"{layer.weight} ({layer.layout.cols:,} columns, {layer.blocks} blocks)" for layer in cut[:NAMED]
        )
        more = f" and {len(cut) - NAMED} more" if len(cut) > NAMED else ""
        log.warning(
            "the Hessians of %s%s are too large for %d MiB of memory and kept in blocks of columns, which costs bits: "
            "--memory %dMiB holds them whole",
            shown,
            more,
            memory >> 20,
            -(-2 * _needed(cut[0]) >> 20),
        )
    return replace(graph, layers=layers)


def blocks(layer: Layer, memory: int) -> int:
    """The least number of blocks in which a layer's Hessians fit and that divides its columns."""
    layout = layer.layout
    least = _needed(layer) / (memory // 2)
    return next(
        (count for count in range(1, layout.cols + 1) if layout.cols % count == 0 and count >= least), layout.cols
    )


def _needed(layer: Layer) -> int:
    """Bytes for a layer's whole Hessians."""
    layout = layer.layout
    residual = RESIDUALS * layout.rows if layer.residual is not None else 0
    return 8 * layout.groups * layout.cols * (HESSIANS * layout.cols + residual)
