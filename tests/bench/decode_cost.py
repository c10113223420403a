"""Fits the model of cerwu_onnx/entropy/decode_cost.py to instructions counted on an emulated Cortex-M4.

``python -m tests.bench.decode_cost`` prints what a unit of work costs by least squares, beside the model's constants,
and how far the model is from the counts; then what bounds of ``--max-decode-cost`` do to the sample models.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from scipy.optimize import nnls

from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.config import Settings
from cerwu_onnx.container import writer
from cerwu_onnx.entropy import decode_cost, trellis
from cerwu_onnx.types import IntArray, QuantizedTensor

from .size_rows import ROOT

if TYPE_CHECKING:
    from tests.emu.elf import Elf

TILE = 64
"""Symbols per read."""


def tensors(seed: int, number: int) -> Iterator[tuple[IntArray, int]]:
    """Values and the run of a trellis: Laplace numbers, smooth kernels and trellis coded ones, of several sizes."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        count, spread, kind = (
            int(rng.choice([100, 400, 1500, 5000, 15000])),
            float(rng.choice([0.4, 1, 2, 4, 9, 40])),
            rng.integers(3),
        )
        if kind == 0:
            yield np.rint(rng.laplace(0, spread, (count // 3, 3))).astype(np.int32), 0
        elif kind == 1:
            means = rng.normal(0, spread, (count // 9, 1, 1, 1))
            yield np.rint(means + rng.normal(0, spread / 2, (count // 9, 1, 3, 3))).astype(np.int32), 0
        else:
            run = min(count, 100)
            indices = np.rint(rng.laplace(0, spread, count // run * run)).astype(np.int32)
            yield trellis.to_values(indices, run).reshape(-1, run).astype(np.int32), run


def counted(program: Elf, values: IntArray, run: int, coder: str) -> tuple[dict[str, float], int]:
    """The work that a tensor makes for a coder, and the instructions that decoding it takes."""
    from tests.emu import targets
    from tests.emu.decoder import Decoder

    part = writer.encode_tensor(writer.CodedTensor("w", QuantizedTensor(values, 0.01, 0.0, 1.0, 0.0, run), coder))
    decoder = Decoder(targets.M4, program, writer.assemble([part]), count=True)
    decoder.stream(decoder.tensor(0), TILE)
    symbols = trellis.to_indices(values, run)[0] if run else values
    if coder == "ans":
        return decode_cost.ans_work(symbols, part.payload, run), decoder.cost.instructions
    return decode_cost.adaptive_work(symbols, part.payload), decoder.cost.instructions


def bounded(program: Elf, console: Console) -> None:
    """Print bytes and counted instructions of sample models, compressed without a bound and with some."""
    from tests.emu import targets
    from tests.emu.decoder import Decoder

    for name in ("fashion_cnn", "fashion_dscnn", "sequence_gru"):
        folder = ROOT / "sample_models" / name
        for most in (None, 60, 45, 30):
            settings = Settings(weights_only=True, max_decode_cost=most)
            with tempfile.TemporaryDirectory() as made:
                path = Path(made) / "model.cwb"
                compress(folder / "model.onnx", path, settings=settings, calib=folder / "calib.npz")
                content = path.read_bytes()
            decoder = Decoder(targets.M4, program, content, count=True)
            weights = instructions = 0
            for tensor in map(decoder.tensor, range(decoder.tensors)):
                if decoder.tensor(tensor.index).coded:
                    decoder.stream(tensor, TILE)
                    weights += tensor.count
                    instructions += decoder.cost.instructions
            bound = "no bound" if most is None else f"at most {most}"
            console.print(f"{name:14}{bound:12}{len(content):8,} bytes{instructions / weights:7.1f} per weight")


def main() -> None:
    """Count, fit, print."""
    from tests.emu import build, targets
    from tests.emu.decoder import ALL

    console = Console(width=120, highlight=False)
    with tempfile.TemporaryDirectory() as name:
        program = build.program(targets.M4, Path(name), "-Os", ALL)
        for coder, costs in (("adaptive", decode_cost.ADAPTIVE), ("ans", decode_cost.ANS)):
            found = [counted(program, values, run, coder) for values, run in tensors(0, 90)]
            work = np.array([[amounts[kind] for kind in costs] for amounts, _ in found])
            counts = np.array([count for _, count in found], dtype=np.float64)
            fitted = nnls(work / counts[:, None], np.ones(counts.size))[0]
            for kind, cost, unit in zip(costs, costs.values(), fitted, strict=True):
                console.print(f"{coder:9}{kind:17}{cost:9.1f}{unit:9.1f}")
            for title, units in (("model", np.array(list(costs.values()))), ("fit", fitted)):
                errors = work @ units / counts - 1
                console.print(
                    f"{coder}, {title}: off by {abs(errors).max():.1%} at most, by {abs(errors).mean():.1%} on average"
                )
        bounded(program, console)


if __name__ == "__main__":
    main()
