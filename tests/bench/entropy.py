"""Coded weight bytes of each coder over the ideal order-0 entropy of the same symbols, and the rest of the file.

The entropy is taken per tensor, of what is coded: symbols, or indices given their grid where there is a trellis. No
table or model is counted in it; in the coders' bytes everything is. Where NNCodec is installed (``pip install
nncodec``), its DeepCABAC codes the same symbols; it has no grids of this trellis, and is not asked there. Its bytes are
those of the code alone, without steps and shapes.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from cerwu_onnx.compression.encode import encode
from cerwu_onnx.compression.model_quantizer import quantize_model
from cerwu_onnx.compression.prepare import prepare
from cerwu_onnx.config import Settings
from cerwu_onnx.types import QuantizedTensor

from .models import ROOT, BenchModel

CASES = (
    Settings(method="cerwu", lambda_=3e-3, levels=12),
    Settings(method="cerwu", lambda_=3e-3, levels=24),
)
SCORE = 0.99
"""Share of the float score at which the default method is measured."""
CODERS = ("ans", "adaptive", "auto")
RATE = ROOT / "docs/benchmarks/rate.json"


@dataclass(frozen=True)
class Row:
    """One model quantised in one way: bytes by coder, and the bytes of its file that are not weights (coder auto)."""

    weights: int
    ideal: float
    coded: dict[str, int]
    file_bytes: int
    nncodec: int | None

    @property
    def overhead(self) -> float:
        """Share of the file that is not coded weights."""
        return 1 - self.coded["auto"] / self.file_bytes


def default_case(model: BenchModel) -> Settings:
    """The default method, at the largest lambda of docs/benchmarks/rate.json whose file has :data:`SCORE`."""
    saved = json.loads(RATE.read_text())
    points = [row for row in saved["rows"] if (row["model"], row["method"]) == (model.name, "default")]
    enough = SCORE * saved["models"].get(model.name, {"float": 0.0})["float"]
    lambdas = [row["settings"]["lambda_"] for row in points if row["score"] >= enough]
    return Settings(lambda_=max(lambdas)) if lambdas else Settings()


def measure(model: BenchModel, settings: Settings) -> Row:
    """Quantise once and code the same values with every coder."""
    graph, _, source = prepare(model.onnx, settings, model.calib)
    done = quantize_model(graph, source, settings)
    files = {coder: encode(done.graph, done.quantized, {}, Settings(coder=coder)) for coder in CODERS}
    layers = files["auto"].layers
    return Row(
        weights=sum(layer.weights for layer in layers),
        ideal=sum(layer.entropy * layer.weights for layer in layers) / 8,
        coded={coder: sum(layer.coded_bytes for layer in file.layers) for coder, file in files.items()},
        file_bytes=len(files["auto"].content),
        nncodec=deepcabac({layer.name: done.quantized[layer.name] for layer in layers}),
    )


def deepcabac(quantized: Mapping[str, QuantizedTensor]) -> int | None:
    """Bytes of NNCodec's code of the symbols; None where it is not installed, or a trellis chose them."""
    if importlib.util.find_spec("nncodec") is None or any(tensor.run for tensor in quantized.values()):
        return None
    coder = importlib.import_module("nncodec.extensions.deepCABAC")
    size = 0
    for tensor in quantized.values():
        symbols = np.ascontiguousarray(tensor.symbols, np.int32)
        off = (coder.HdspMode.AlwaysOff, np.zeros(2, np.int8))
        encoder = coder.Encoder()
        encoder.initCtxModels(11, 1)  # its default of ten flags in unary, and tuned adaptation
        encoder.encodeLayer(symbols, 0, 0, 0, 0, 0, np.zeros(len(symbols), np.int32), *off, 0, 0)
        size += len(encoder.finish())
    return size


def run(models: list[BenchModel], console: Console) -> None:
    """Print a row per model and case."""
    table = Table(
        "model",
        "method",
        "weights",
        "entropy, bits/weight",
        *CODERS,
        "NNCodec",
        "file bytes",
        "overhead",
        title="Coders",
    )
    for model in models:
        for settings in (*CASES, default_case(model)):
            row = measure(model, settings)
            trellis = settings.method == "trellis"
            method = (
                f"trellis, lambda {settings.lambda_}" if trellis else f"{settings.method}, {settings.levels} levels"
            )
            ratios = (f"{row.coded[coder] / row.ideal:.4f}" for coder in CODERS)
            bits = f"{8 * row.ideal / row.weights:.3f}"
            other = "-" if row.nncodec is None else f"{row.nncodec / row.ideal:.4f}"
            sizes = f"{row.file_bytes:,}", f"{row.overhead:.1%}"
            table.add_row(model.name, method, f"{row.weights:,}", bits, *ratios, other, *sizes)
    console.print(table)
    if importlib.util.find_spec("nncodec") is None:
        console.print("NNCodec's DeepCABAC was not measured: pip install nncodec")
