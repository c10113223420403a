"""What a bound on memory is spent on, and what gives way where it does not suffice.

An eighth is for activations between segments, or for layers side by side where there are none; half for what one layer
needs at a time; the rest for onnxruntime's weights and buffers, the batch at hand and what is already quantised.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from cerwu_onnx.calibration.fisher import FOLDS, LARGEST
from cerwu_onnx.model.graph import Graph
from cerwu_onnx.types import Layer

log = logging.getLogger(__name__)

HESSIANS = 12
"""Matrices as large as its Hessian that exist at once, at most, while a layer is quantised: those of both models, of
all samples and two folds of them, and what it takes to factorise one. ``python -m tests.bench wide`` shows it."""

WHOLE = 8
"""Copies of all weights, as float32, that exist at once while gradients are measured, about: of the file, onnxruntime's
for the model and its gradients, and with noise on them."""

NAMED = 3
"""Layers that a warning names; of others it tells how many they are."""


def activations(memory: int) -> int:
    """Bytes of activations that may be held between segments."""
    return memory // 8


def side_by_side(memory: int) -> int:
    """Bytes for layers that are quantised at the same time, where one alone takes less."""
    return memory // 8


def symbols(memory: int) -> int:
    """Bytes of symbols, of layers that are done, that stay in memory."""
    return memory // 32


def fits_whole(graph: Graph, memory: int) -> bool:
    """Whether there is room for all weights at once, several times, and for what gradients say about their rows."""
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
    """The graph with layers in blocks where whole Hessians would not fit, which costs bits: a warning names them."""
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
    """In how many blocks a layer's Hessians fit: the least number that divides its columns."""
    layout = layer.layout
    least = _needed(layer) / (memory // 2)
    return next(
        (count for count in range(1, layout.cols + 1) if layout.cols % count == 0 and count >= least), layout.cols
    )


def _needed(layer: Layer) -> int:
    """Bytes for whole Hessians."""
    return HESSIANS * 8 * layer.layout.groups * layer.layout.cols**2
