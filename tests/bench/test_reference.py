"""The yardstick of benchmarks does what textbooks say."""

from __future__ import annotations

import numpy as np

from cerwu_onnx.model.graph import analyse

from ..models import conv_net, normal
from ..reference import DAMPING, LEVELS, compress, hessians, textbook_optq


def test_it_is_optq() -> None:
    model = conv_net()
    feeds = [{"x": normal(4, 3, 8, 8, seed=seed)} for seed in range(2)]
    known, found = hessians(model, feeds), compress(model, feeds)
    for layer in analyse(model).layers:
        matrix = layer.layout.to_matrix(analyse(model).array(layer.weight).astype(np.float64))
        symbols = layer.layout.to_matrix(found[layer.weight])
        scaled = matrix / (2 * np.abs(matrix).max() / LEVELS)
        for w, hessian, q in zip(scaled, known[layer.weight], symbols, strict=True):
            damped = hessian + DAMPING * np.trace(hessian) / len(hessian) * np.eye(len(hessian))
            assert (textbook_optq(w, damped) == q).mean() > 0.99  # but for ties
