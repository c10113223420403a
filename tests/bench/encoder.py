"""How long a transformer encoder of the size of MiniLM takes: 22 million weights, calibrated on token ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper
from rich.console import Console

from .net import Net, report

SAMPLES, LENGTH = 64, 64


@dataclass(frozen=True)
class Size:
    """Of an encoder."""

    vocabulary: int
    positions: int
    width: int
    heads: int
    inner: int
    layers: int


MINILM = Size(30522, 512, 384, 12, 1536, 6)


class Encoder(Net):
    """Its layers."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def dense(self, name: str, x: str, rows: int, cols: int, scale: float = 1.0) -> str:
        """``x W + b``."""
        weight = self.constant(f"{name}.weight", rows, cols, scale=scale * rows**-0.5)
        return self.add("Add", self.add("MatMul", x, weight), self.constant(f"{name}.bias", cols))

    def normalised(self, name: str, x: str) -> str:
        """LayerNormalization over the last axis."""
        width = self.size.width
        scale = self.constant(f"{name}.scale", width, scale=0.1, mean=1.0)
        return self.add("LayerNormalization", x, scale, self.constant(f"{name}.shift", width), axis=-1, epsilon=1e-12)

    def split(self, x: str, perm: list[int]) -> str:
        """Heads on an axis of their own."""
        shape = self.integers("heads", 0, 0, self.size.heads, self.size.width // self.size.heads)
        return self.add("Transpose", self.add("Reshape", x, shape), perm=perm)


def make_model(net: Encoder | None = None) -> onnx.ModelProto:
    """Token ids to a sentence's mean embedding."""
    net = net or Encoder(MINILM)
    width, inner = net.size.width, net.size.inner
    tokens = net.add("Gather", net.constant("tokens", net.size.vocabulary, width), "ids")
    positions = net.constant("positions", net.size.positions, width)
    ends = [net.integers(name, value) for name, value in (("first", 0), ("length", LENGTH), ("axis", 0))]
    x = net.normalised("embeddings", net.add("Add", tokens, net.add("Slice", positions, *ends)))
    for layer in range(net.size.layers):
        q, k, v = (net.dense(f"{layer}.{part}", x, width, width, 2.0 if part != "v" else 1.0) for part in "qkv")
        scores = net.add("MatMul", net.split(q, [0, 2, 1, 3]), net.split(k, [0, 2, 3, 1]))
        net.tensors["root"] = np.float32((width / net.size.heads) ** 0.5)
        weights = net.add("Softmax", net.add("Div", scores, "root"), axis=-1)
        mixed = net.add("Transpose", net.add("MatMul", weights, net.split(v, [0, 2, 1, 3])), perm=[0, 2, 1, 3])
        joined = net.add("Reshape", mixed, net.integers("joined", 0, 0, width))
        x = net.normalised(f"{layer}.one", net.add("Add", x, net.dense(f"{layer}.out", joined, width, width)))
        wide = net.dense(f"{layer}.up", x, width, inner)
        root = net.add("Erf", net.add("Mul", wide, net.constant("half", scale=0.0, mean=0.5**0.5)))
        one = net.constant("one", scale=0.0, mean=1.0)
        active = net.add("Mul", wide, net.add("Add", root, one))
        x = net.normalised(f"{layer}.two", net.add("Add", x, net.dense(f"{layer}.down", active, inner, width)))
    mean = net.add("ReduceMean", x, axes=[1], keepdims=0)
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", LENGTH])
    return net.model(ids, mean, width)


def token_ids(samples: int, vocabulary: int = MINILM.vocabulary) -> np.ndarray:
    """Some of them frequent, as words are: ``(samples, LENGTH)`` int64."""
    return np.random.default_rng(1).zipf(1.3, (samples, LENGTH)) % vocabulary


def run(console: Console) -> None:
    """Print seconds, peak memory and size."""
    report(console, "MiniLM's size, 64 tokens", make_model(), token_ids(SAMPLES))
