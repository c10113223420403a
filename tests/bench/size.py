"""``make size``: what the C decoder costs on microcontrollers, counted on emulated ones (tests/emu).

Prints the tables, writes docs/benchmarks/size.json and the tables of docs/mcu.md, which says what they mean.
``python -m tests.bench.size --profile`` prints where the instructions go instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from cerwu_onnx.compression.model_quantizer import quantize_layers, statistics
from cerwu_onnx.compression.pipeline import prepare
from cerwu_onnx.config import Settings
from cerwu_onnx.container import writer
from cerwu_onnx.entropy import trellis
from cerwu_onnx.entropy.tables import entropy
from cerwu_onnx.types import QuantizedTensor

from . import decode

if TYPE_CHECKING:
    from tests.emu.elf import Elf, Sizes
    from tests.emu.targets import Target

ROOT = Path(__file__).resolve().parents[2]
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
CODERS = {"ans": "-DCWB_NO_ADAPTIVE", "adaptive": "-DCWB_NO_ANS"}
"""The coders, and what leaves the other one out of the decoder."""
NO_TRELLIS = "CWB_NO_TRELLIS"
BUILDS = ("", NO_TRELLIS)
"""Build options of the decoder."""

JSON = ROOT / "docs" / "benchmarks" / "size.json"
PAGE = ROOT / "docs" / "mcu.md"
BEGIN, END = "<!-- make size: begin -->", "<!-- make size: end -->"

REFERENCE = (
    # coder, bits/weight, instructions per weight on M4 -O2 and M0 -Os, code bytes (M4 -Os), RAM bytes
    ("4-bit look-up table (lossy)", 4.00, 3.4, 6.4, 434, 0),
    ("Huffman, 12-bit table", 3.085, 13.1, 18.4, 556, 8_500),
    ("Golomb-Rice", 3.085, 34.5, 55.7, 206, 0),
    ("tANS, 2^10 states", 3.036, 15.7, 27.6, 280, 4_600),
    ("rANS, 32-bit state, 12-bit slots", 3.027, 15.8, 25.0, 404, 5_100),
    ("adaptive binary range coder", 3.055, 54.8, 104, 504, 68),
    ("deflate (miniz)", 3.657, 28, 36, 4_500, 8_400),
    ("deflate (tinf)", 3.657, 59, 88, 1_600, 0),
    ("heatshrink, window 8", 5.171, 107, 184, 1_200, 302),
    ("LZ4", 4.897, 7.3, 52, 960, 0),
    ("zstd -19", 3.099, 19.2, 56, 16_600, 96_000),
    ("Arm Vela mlw reference", 3.258, 162, 240, 1_800, None),
)
"""Other decoders: measured earlier in the same way on 65,536 Laplace weights, H = 3.018 bits, not by this program."""


@dataclass(frozen=True)
class Payload:
    """A file of one tensor. ``entropy``: of its symbols, order 0, bits; on a trellis, of its indices on each grid."""

    name: str
    coder: str
    weights: int
    entropy: float
    content: bytes
    trellis: bool


@dataclass(frozen=True)
class Row:
    """One line of size.json. Sizes in bytes, instructions per weight; ``option`` is what the decoder was built with.

    ``instructions``: streamed to int16, no CRC. ``_checked``: cwb_decode_i16, all CRCs. ``_float``: cwb_decode_f32.
    The last two are None where they were not measured. ``code`` and ``const``: the least link, open and stream.
    ``_whole``: everything in cwb.c. ``ram``: structs and scratch memory. ``stack``: open and stream. ``stack_checked``:
    the most of all calls.
    """

    target: str
    coder: str
    level: str
    option: str
    payload: str
    weights: int
    entropy: float
    bits_per_weight: float
    instructions: float
    instructions_checked: float | None
    instructions_float: float | None
    code: int
    const: int
    code_whole: int
    const_whole: int
    ram: int
    stack: int
    stack_checked: int


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

    flags = [f"-D{option}"] if option else []
    program = build.program(target, folder, level, ALL, *flags)
    whole = Elf(build.decoder_object(target, folder, level, *flags)).sizes()
    least = {
        coder: least_sizes(build.program(target, folder, level, [MINIMAL], flag, *flags))
        for coder, flag in CODERS.items()
    }
    rows = []
    for payload in everything:
        if option == NO_TRELLIS and (payload.trellis or payload.weights > WEIGHTS):
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


def groups(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """The rows of each target, coder and optimisation level, by payload."""
    made: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: list(CODERS).index(row.coder)):
        made.setdefault((row.coder, row.target, row.level), {})[row.payload] = row
    return list(made.values())


def no_trellis_table(rows: Sequence[Row]) -> list[list[str]]:
    """What it costs without a trellis: flash, and instructions per weight."""
    found = groups([row for row in rows if row.option == NO_TRELLIS])
    names = list(found[0]) if found else []
    table = [["coder", "target", "level", "least code", "+ const", "all code", "+ const", *names]]
    for group in found:
        row = next(iter(group.values()))
        sizes = [row.code, row.const, row.code_whole, row.const_whole]
        figures = [f"{group[name].instructions:.1f}" for name in names]
        table.append([row.coder, row.target, row.level, *(f"{size:,}" for size in sizes), *figures])
    return table


def payload_table(rows: Sequence[Row]) -> list[list[str]]:
    """What was decoded."""
    table = [["weights", "coder", "number", "entropy", "bits/weight", "RAM"]]
    for row in rows:
        if (row.target, row.level) == (rows[0].target, rows[0].level):
            entropy, bits = f"{row.entropy:.3f}", f"{row.bits_per_weight:.3f}"
            table.append([row.payload, row.coder, f"{row.weights:,}", entropy, bits, f"{row.ram:,}"])
    return table


def byte_table(rows: Sequence[Row]) -> list[list[str]]:
    """Flash and RAM."""
    table = [["coder", "target", "level", "least code", "+ const", "all code", "+ const", "stack", "stack, checked"]]
    for group in groups(rows):
        row = next(iter(group.values()))
        sizes = [row.code, row.const, row.code_whole, row.const_whole]
        stacks = [max(row.stack for row in group.values()), max(row.stack_checked for row in group.values())]
        table.append([row.coder, row.target, row.level, *(f"{size:,}" for size in sizes + stacks)])
    return table


def instruction_table(rows: Sequence[Row]) -> list[list[str]]:
    """Instructions per weight."""
    names = list(dict.fromkeys(row.payload for row in rows))
    checked = [name for name in names if any(row.payload == name and row.instructions_checked for row in rows)][-1]
    table = [["coder", "target", "level", *names, f"{checked}, checked", f"{checked}, float32"]]
    for group in groups(rows):
        row = group[checked]
        figures = [group[name].instructions for name in names] + [row.instructions_checked, row.instructions_float]
        table.append([row.coder, row.target, row.level, *(f"{figure:.1f}" for figure in figures)])
    return table


def reference_table() -> list[list[str]]:
    """The figures of others."""
    table = [["reference decoder", "bits/weight", "M4 -O2", "M0 -Os", "code (M4 -Os)", "RAM"]]
    for coder, bits, m4, m0, code, ram in REFERENCE:
        memory = "O(n)" if ram is None else f"{ram:,}"
        table.append([coder, f"{bits:.3f}", f"{m4:g}", f"{m0:g}", f"{code:,}", memory])
    return table


def markdown(table: Sequence[Sequence[str]], text_columns: int) -> str:
    """A table, its figures to the right."""
    rule = ["---"] * text_columns + ["---:"] * (len(table[0]) - text_columns)
    return "\n".join(f"| {' | '.join(line)} |" for line in (table[0], rule, *table[1:]))


def show(console: Console, title: str, table: Sequence[Sequence[str]], text_columns: int) -> None:
    """Draw a table."""
    drawn = Table(title=title)
    for index, name in enumerate(table[0]):
        drawn.add_column(name, justify="left" if index < text_columns else "right")
    for line in table[1:]:
        drawn.add_row(*line)
    console.print(drawn)


def tables(rows: Sequence[Row]) -> list[tuple[str, list[list[str]], int]]:
    """Title, cells and number of text columns of each table."""
    full = [row for row in rows if not row.option]
    return [
        ("What was decoded", payload_table(full), 2),
        ("Instructions per weight", instruction_table(full), 3),
        ("Bytes", byte_table(full), 3),
        ("Built with CWB_NO_TRELLIS: bytes, and instructions per weight", no_trellis_table(rows), 3),
        ("Others, measured earlier: 65,536 Laplace weights, H = 3.018 bits", reference_table(), 1),
    ]


def publish(rows: Sequence[Row]) -> None:
    """Write docs/benchmarks/size.json and the tables of docs/mcu.md."""
    fields = ("coder", "bits_per_weight", "instructions_m4_O2", "instructions_m0_Os", "code", "ram")
    content = {
        "rows": [dataclasses.asdict(row) for row in rows],
        "reference": [dict(zip(fields, line, strict=True)) for line in REFERENCE],
    }
    JSON.parent.mkdir(parents=True, exist_ok=True)
    JSON.write_text(json.dumps(content, indent=1) + "\n")
    text = PAGE.read_text()
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    parts = [f"### {title}\n\n{markdown(table, columns)}" for title, table, columns in tables(rows)]
    PAGE.write_text(f"{head}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{tail}")


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
                        rows += measure(target, level, option, everything, Path(name))
    if arguments.profile:
        return 0
    for title, table, columns in tables(rows):
        show(console, title, table, columns)
    if not arguments.target:
        publish(rows)
        console.print(f"written: {JSON.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
