"""A trained classifier of points around ten centres, and its data: small, and honest enough to be compressed."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from .models import build, normal, value

NODE = helper.make_node


def clouds(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around the centres of ten classes, and the classes."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, samples)
    return (2.0 * normal(10, 24, seed=77)[labels] + 2.4 * random.normal(size=(samples, 24))).astype(np.float32), labels


def trained() -> onnx.ModelProto:
    """A classifier of the clouds: random features, and logits by least squares."""
    x, labels = clouds(4000, 1)
    first, bias = normal(24, 160, seed=2) / 24**0.5, normal(160, seed=3)
    features = np.maximum(x @ first + bias, 0)
    last = np.linalg.lstsq(features, 8.0 * np.eye(10)[labels] - 0.8, rcond=None)[0].astype(np.float32)
    nodes = [
        NODE("Gemm", ["x", "first", "bias"], ["h"]),
        NODE("Relu", ["h"], ["r"]),
        NODE("MatMul", ["r", "last"], ["logits"]),
    ]
    tensors = {"first": first, "bias": bias, "last": last}
    return build(nodes, [value("x", ["N", 24])], [value("logits", ["N", 10])], tensors)
