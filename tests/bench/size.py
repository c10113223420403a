"""``make size``: what the C decoder costs on microcontrollers, counted on emulated ones (tests/emu).

Prints the tables and what differs from the last commit, then writes docs/benchmarks/size.json and the tables of
docs/mcu.md, which says what they mean.
``python -m tests.bench.size --profile`` prints where the instructions go instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from cerwu_onnx.compression.model_quantizer import quantize_layers, statistics
from cerwu_onnx.compression.prepare import prepare
from cerwu_onnx.config import Settings
from cerwu_onnx.container import writer
from cerwu_onnx.entropy import trellis
from cerwu_onnx.entropy.tables import entropy
from cerwu_onnx.types import QuantizedTensor

from . import decode, size_models
from .size_changes import changes
from .size_rows import CODERS, CRC_TABLES, JSON, NO_TRELLIS, ROOT, SMALL, Row, committed
from .size_tables import PAGE, publish, show, tables

if TYPE_CHECKING:
    from tests.emu.elf import Elf, Sizes
    from tests.emu.targets import Target

MODEL = ROOT / "sample_models" / "fashion_cnn"
REAL = {
    "2 bits": Settings(method="cerwu", lambda_=1e-3, levels=24, fold_bn=True),
    "3 bits": Settings(method="cerwu", lambda_=1e-4, levels=40, fold_bn=True),
    "trellis": Settings(method="trellis", lambda_=0.6, fold_bn=True),
}
WEIGHTS = 16384
"""Weights of a real layer that are decoded: emulation takes its time."""
TILE = 64
"""Symbols per read when streaming."""
LEVELS = ("-Os", "-O2")
BUILDS = {
    "": None,
    NO_TRELLIS: {"kernels", "2 bits", "3 bits"},
    **{option: {"kernels", "2 bits", "trellis"} for option in SMALL},
    **{option: {"trellis"} for option in CRC_TABLES if option},
}
"""Build options of the decoder, words, and the weights that are then decoded; None: all."""
FEW = ("Cortex-M0", "Cortex-M4")
"""The targets of builds for size and of those with other CRCs, at -Os."""


@dataclass(frozen=True)
class Payload:
    """A file of one tensor. ``entropy``: of its symbols, order 0, bits; on a trellis, of its indices on each grid."""

    name: str
    coder: str
    weights: int
    entropy: float
    content: bytes
    trellis: bool


def payloads() -> list[Payload]:
    """The largest layer of a sample model, smooth kernels, and the synthetic tensor of the reference figures."""
    first = REAL["2 bits"]
    graph, _, source = prepare(MODEL / "model.onnx", first, MODEL / "calib.npz")
    stats, _ = statistics(graph, source, first)
    largest = max(graph.layers, key=lambda layer: layer.layout.size).weight
    smooth = decode.tensors()["smooth kernels"][: WEIGHTS // 9]
    made = files("kernels", QuantizedTensor(smooth, 0.01, 0.0, 1.0, 0.0))
    for name, settings in REAL.items():
        quantized = quantize_layers(graph, stats, settings)[0][largest]
        columns = quantized.run or 1
        symbols = quantized.symbols.reshape(-1, columns)[: WEIGHTS // columns]
        made += files(name, dataclasses.replace(quantized, symbols=symbols))
    laplace = np.rint(np.random.default_rng(0).laplace(0, 1.49, 65536)).astype(np.int32)
    return made + files("Laplace", QuantizedTensor(laplace, 0.01, 0.0, 1.0, 0.0))


def files(name: str, tensor: QuantizedTensor) -> list[Payload]:
    """A file per coder."""
    if tensor.run:
        indices, grids = trellis.to_indices(tensor.symbols, tensor.run)
        bits = sum(float((grids == grid).mean()) * entropy(indices[grids == grid]) for grid in (0, 1))
    else:
        bits = entropy(tensor.symbols)
    return [
        Payload(
            name,
            coder,
            tensor.symbols.size,
            bits,
            writer.assemble([writer.encode_tensor(writer.CodedTensor("w", tensor, coder))]),
            tensor.run > 0,
        )
        for coder in CODERS
    ]


def measure(target: Target, level: str, option: str, everything: Sequence[Payload], folder: Path) -> list[Row]:
    """Compile the decoder and run it on every payload that it can read."""
    from tests.emu import build
    from tests.emu.decoder import ALL, MINIMAL, Decoder
    from tests.emu.elf import Elf

    flags = [f"-D{word}" for word in option.split()]
    chosen = BUILDS[option]
    program = build.program(target, folder, level, ALL, *flags)
    whole = Elf(build.decoder_object(target, folder, level, *flags)).sizes()
    least = {
        coder: least_sizes(build.program(target, folder, level, [MINIMAL], flag, *flags))
        for coder, flag in CODERS.items()
    }
    rows = []
    for payload in everything:
        if chosen is not None and payload.name not in chosen:
            continue
        decoder = Decoder(target, program, payload.content, count=True)
        calls = {"open": decoder.cost}
        tensor = decoder.tensor(0)
        symbols = decoder.stream(tensor, TILE)
        calls["stream"] = decoder.cost
        if payload.weights <= WEIGHTS:
            if not np.array_equal(symbols, decoder.whole(tensor, "i16")):
                raise AssertionError(f"{target.name} {level}: streaming and whole decode differ")
            calls["checked"] = decoder.cost
            decoder.whole(tensor, "f32")
            calls["float"] = decoder.cost
        each = {call: round(cost.instructions / tensor.count, 1) for call, cost in calls.items()}
        rows.append(
            Row(
                target=target.name,
                coder=payload.coder,
                level=level,
                option=option,
                payload=payload.name,
                weights=tensor.count,
                entropy=round(payload.entropy, 4),
                bits_per_weight=round(8 * tensor.payload_size / tensor.count, 4),
                instructions=each["stream"],
                instructions_checked=each.get("checked"),
                instructions_float=each.get("float"),
                code=least[payload.coder].code,
                const=least[payload.coder].const,
                code_whole=whole.code,
                const_whole=whole.const,
                ram=decoder.struct_bytes + tensor.scratch,
                stack=max(calls["open"].stack, calls["stream"].stack),
                stack_checked=max(cost.stack for cost in calls.values()),
            )
        )
    return rows


def least_sizes(elf: Elf) -> Sizes:
    """Sizes of a program without the test's own functions; what it needs of the compiler's library counts."""
    stub = sum(symbol.size for symbol in elf.symbols() if symbol.code and symbol.name.startswith(("emu_", "read_all")))
    sizes = elf.sizes()
    return dataclasses.replace(sizes, code=sizes.code - stub)


def profile(target: Target, level: str, everything: Sequence[Payload], folder: Path, console: Console) -> None:
    """Print instructions per weight by function, streaming."""
    from tests.emu import build
    from tests.emu.decoder import ALL, Decoder

    program = build.program(target, folder, level, ALL)
    functions = [symbol for symbol in program.symbols() if symbol.code]
    for payload in everything:
        decoder = Decoder(target, program, payload.content, count=True)
        tensor = decoder.tensor(0)
        for part in ("stream", "checked"):
            if part == "stream":
                decoder.stream(tensor, TILE)
            else:
                decoder.whole(tensor, "i16")
            by_function: Counter[str] = Counter()
            for block, times in decoder.cost.blocks.items():
                name = next((f.name for f in functions if f.address <= block[0] < f.address + f.size), "?")
                by_function[name] += decoder.machine.instructions(Counter({block: times}))
            console.print(f"{target.name} {level} {payload.coder} {payload.name}, {part}:", highlight=False)
            for name, count in by_function.most_common(8):
                console.print(f"  {count / tensor.count:8.2f}  {name}", highlight=False)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", default=[], help="only this target (may be repeated)")
    parser.add_argument("--profile", action="store_true", help="print instructions by function; write nothing")
    arguments = parser.parse_args()
    console = Console(width=120)
    if not all(map(importlib.util.find_spec, ("ziglang", "unicorn"))):
        console.print("ziglang or unicorn is not installed: pip install -e '.[emu]'")
        return 1
    from tests.emu import targets

    everything = payloads()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for target in targets.EMULATED:
            if arguments.target and target.name not in arguments.target:
                continue
            for level in LEVELS:
                if arguments.profile:
                    profile(target, level, everything, Path(name), console)
                else:
                    print(f"{target.name} {level}", file=sys.stderr)
                    for option in BUILDS:
                        if option not in ("", NO_TRELLIS) and (target.name not in FEW or level != "-Os"):
                            continue
                        rows += measure(target, level, option, everything, Path(name))
    if arguments.profile:
        return 0
    for title, table, columns in tables(rows):
        show(console, title, table, columns)
    before = committed()
    if before is None:
        console.print(f"{JSON.relative_to(ROOT)} is in no commit here: there is nothing to compare with")
    else:
        old = [row for row in before if not arguments.target or row["target"] in arguments.target]
        show(console, "Differences from the last commit", changes(old, [dataclasses.asdict(row) for row in rows]), 6)
    if not arguments.target:
        publish(rows)
        console.print(f"written: {JSON.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")
        if importlib.util.find_spec("emx_onnx_cgen") is None:
            console.print("whole models: skipped, emx-onnx-cgen is not installed: pip install -e '.[inference]'")
        else:
            size_models.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
