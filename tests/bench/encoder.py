"""How long a transformer encoder of the size of MiniLM takes: 22 million weights, calibrated on token ids."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console

from .net import Net, report

VOCABULARY, POSITIONS, WIDTH, HEADS, INNER, LAYERS = 30522, 512, 384, 12, 1536, 6
SAMPLES, LENGTH = 64, 64


class _Encoder(Net):
    """Its layers."""

    def dense(self, name: str, x: str, rows: int, cols: int, scale: float = 1.0) -> str:
        """``x W + b``."""
        weight = self.constant(f"{name}.weight", rows, cols, scale=scale * rows**-0.5)
        return self.add("Add", self.add("MatMul", x, weight), self.constant(f"{name}.bias", cols))

    def normalised(self, name: str, x: str) -> str:
        """LayerNormalization over the last axis."""
        scale = self.constant(f"{name}.scale", WIDTH, scale=0.1, mean=1.0)
        return self.add("LayerNormalization", x, scale, self.constant(f"{name}.shift", WIDTH), axis=-1, epsilon=1e-12)

    def split(self, x: str, perm: list[int]) -> str:
        """Heads on an axis of their own."""
        shape = self.integers("heads", 0, 0, HEADS, WIDTH // HEADS)
        return self.add("Transpose", self.add("Reshape", x, shape), perm=perm)


def make_model() -> onnx.ModelProto:
    """Token ids to a sentence's mean embedding."""
    net = _Encoder()
    tokens = net.add("Gather", net.constant("tokens", VOCABULARY, WIDTH), "ids")
    positions = net.constant("positions", POSITIONS, WIDTH)
    ends = [net.integers(name, value) for name, value in (("first", 0), ("length", LENGTH), ("axis", 0))]
    x = net.normalised("embeddings", net.add("Add", tokens, net.add("Slice", positions, *ends)))
    for layer in range(LAYERS):
        q, k, v = (net.dense(f"{layer}.{part}", x, WIDTH, WIDTH, 2.0 if part != "v" else 1.0) for part in "qkv")
        scores = net.add("MatMul", net.split(q, [0, 2, 1, 3]), net.split(k, [0, 2, 3, 1]))
        net.tensors["root"] = np.float32((WIDTH / HEADS) ** 0.5)
        weights = net.add("Softmax", net.add("Div", scores, "root"), axis=-1)
        mixed = net.add("Transpose", net.add("MatMul", weights, net.split(v, [0, 2, 1, 3])), perm=[0, 2, 1, 3])
        joined = net.add("Reshape", mixed, net.integers("joined", 0, 0, WIDTH))
        x = net.normalised(f"{layer}.one", net.add("Add", x, net.dense(f"{layer}.out", joined, WIDTH, WIDTH)))
        inner = net.dense(f"{layer}.up", x, WIDTH, INNER)
        root = net.add("Erf", net.add("Mul", inner, net.constant("half", scale=0.0, mean=0.5**0.5)))
        one = net.constant("one", scale=0.0, mean=1.0)
        active = net.add("Mul", inner, net.add("Add", root, one))
        x = net.normalised(f"{layer}.two", net.add("Add", x, net.dense(f"{layer}.down", active, INNER, WIDTH)))
    mean = net.add("ReduceMean", x, axes=[1], keepdims=0)
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", LENGTH])
    return net.model(ids, mean, WIDTH)


def token_ids(samples: int) -> np.ndarray:
    """Some of them frequent, as words are: ``(samples, LENGTH)`` int64."""
    return np.random.default_rng(1).zipf(1.3, (samples, LENGTH)) % VOCABULARY


def run(console: Console) -> None:
    """Print seconds, peak memory and size."""
    report(console, "MiniLM's size, 64 tokens", make_model(), token_ids(SAMPLES))
