"""Coded weight bytes of each coder over the ideal order-0 entropy of the same symbols, per model."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console
from rich.table import Table

from cerwu_onnx.config import Settings
from cerwu_onnx.container import writer
from cerwu_onnx.entropy.tables import entropy
from cerwu_onnx.pipeline import prepare, quantize_layers, statistics

from .models import BenchModel

LEVELS = (12, 24)


def run(models: list[BenchModel], console: Console) -> None:
    """Quantise by CERWU on two grids and code the same symbols with every coder."""
    table = Table("model", "levels", "weights", "entropy (bits/weight)", "ans", "adaptive", "auto", title="Coders")
    for model in models:
        settings = Settings(method="cerwu", lambda_=3e-3)
        graph, _, source = prepare(model.onnx, settings, model.calib)
        stats, _ = statistics(graph, source, settings)
        for levels in LEVELS:
            quantized = quantize_layers(graph, stats, replace(settings, levels=levels))
            quantized = {layer.weight: quantized[layer.weight] for layer in graph.layers}
            weights = sum(q.symbols.size for q in quantized.values())
            ideal = sum(entropy(q.symbols) * q.symbols.size for q in quantized.values())
            ratios = []
            for coder in ("ans", "adaptive", "auto"):
                coded = [writer.encode_tensor(writer.CodedTensor(n, q, coder)) for n, q in quantized.items()]
                ratios.append(f"{8 * sum(part.record.value_bytes for part in coded) / ideal:.4f}")
            table.add_row(model.name, str(levels), f"{weights:,}", f"{ideal / weights:.3f}", *ratios)
    console.print(table)
