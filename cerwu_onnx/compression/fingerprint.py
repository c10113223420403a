"""Digests of a model and of its calibration data, from which the keys of the cache are made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cerwu_onnx.calibration import Source
from cerwu_onnx.config import MAX_BITS
from cerwu_onnx.jobs.cache import digest
from cerwu_onnx.model.elements import elsewhere, raw_bytes
from cerwu_onnx.model.graph import Graph

_BATCH = 64


def model_digest(graph: Graph) -> str:
    """Digest of the model, its tensors in other files, and its layers; their prices and bits do not count."""
    layers = [repr(replace(layer, price=1.0, bits=MAX_BITS)) for layer in graph.layers]
    outside = (digest(raw_bytes(tensor)) for tensor in graph.model.graph.initializer if elsewhere(tensor))
    return digest(graph.model.SerializeToString(deterministic=True), *outside, *layers)


def data_digest(source: Source) -> str:
    """Digest of all feeds, in their order."""
    feeds = (
        digest(name, str(array.dtype), str(array.shape), _content(array))
        for feed in source.batches(_BATCH)
        for name, array in sorted(feed.items())
    )
    return digest(*feeds)


def _content(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bytes:
    """The bytes of the elements; strings, which numpy holds by reference, as Python prints them."""
    return repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes()
