"""What rows gain by steps of their own, on a network as trained and on the same one with channels of other scales.

Before each depthwise layer of ``sample_models/fashion_dscnn``, channels are multiplied by random powers of two, which
the layer's own weights take back: so the network computes the same, because a ReLU does not mind. Files are compared by
their bits and by the KL divergence of the decoded model on test inputs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

from cerwu_onnx import Settings, compress, decompress
from cerwu_onnx.quantize.row_steps import exponents_of

from .models import SAMPLES

LAMBDAS = (0.05, 0.1, 0.2, 0.4, 0.8)
OCTAVES = 5
"""Scales are from 2^-5 to 2^5."""

INPUTS = 1000
MODEL = SAMPLES / "fashion_dscnn"


def rescaled(model: onnx.ModelProto, octaves: int) -> onnx.ModelProto:
    """A copy that computes the same with channels of other scales in front of depthwise layers."""
    copy, random = onnx.ModelProto(), np.random.default_rng(1)
    copy.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    before = {name: node for node in copy.graph.node for name in node.output}

    def multiply(name: str, factors: npt.NDArray[np.float64]) -> None:
        array = numpy_helper.to_array(tensors[name])
        scaled = array * factors.reshape(-1, *[1] * (array.ndim - 1)).astype(np.float32)
        tensors[name].CopyFrom(numpy_helper.from_array(scaled, name))

    for node in copy.graph.node:
        relu = before.get(node.input[0])
        if node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute) and relu is not None:
            layer = before[relu.input[0]]
            assert (relu.op_type, layer.op_type) == ("Relu", "Conv")
            scales = np.exp2(random.integers(-octaves, octaves + 1, tensors[node.input[1]].dims[0]))
            for name in layer.input[1:3]:
                multiply(name, scales)
            multiply(node.input[1], 1 / scales)
    return copy


def logits(path: Path, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Log-probabilities of all inputs."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs})
    shifted = found.astype(np.float64) - found.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def measure(model: Path, price: float, inputs: npt.NDArray[np.float32], *, stepped: bool) -> tuple[float, float]:
    """Bits of the file per weight, and the KL divergence."""
    with tempfile.TemporaryDirectory() as folder:
        packed, decoded = Path(folder, "o.cwb"), Path(folder, "o.onnx")
        chosen = exponents_of if stepped else lambda *_: (None, 0.0)
        with patch("cerwu_onnx.quantize.priced.exponents_of", chosen):
            report = compress(model, packed, calib=MODEL / "calib.npz", settings=Settings(lambda_=price))
        decompress(packed, decoded)
        p, q = logits(model, inputs), logits(decoded, inputs)
    return 8 * report.file_bytes / report.weights, float((np.exp(p) * (p - q)).sum(axis=1).mean())


def run(console: Console) -> None:
    """Print bits and divergence by lambda."""
    with np.load(MODEL / "test.npz") as arrays:
        inputs = arrays["inputs"][:INPUTS, np.newaxis].astype(np.float32) / np.float32(255)
    table = Table("lambda", title="fashion_dscnn: bits per weight of the whole file, and KL divergence on test inputs")
    for network in ("as trained", "other scales"):
        for steps in ("one step", "steps of rows"):
            table.add_column(f"{network}, {steps}", justify="right")
    with tempfile.TemporaryDirectory() as folder:
        scaled = Path(folder) / "m.onnx"
        onnx.save(rescaled(onnx.load(MODEL / "model.onnx"), OCTAVES), scaled)
        for price in LAMBDAS:
            found = [
                measure(model, price, inputs, stepped=stepped)
                for model in (MODEL / "model.onnx", scaled)
                for stepped in (False, True)
            ]
            table.add_row(f"{price:g}", *(f"{bits:.2f}, {loss:.4f}" for bits, loss in found))
    console.print(table)
