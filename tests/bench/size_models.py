"""What whole models cost on emulated microcontrollers: ``export-c --inference`` beside the generator's own program.

Part of ``make size``; ``python -m tests.bench.size_models`` does this part only. Each model runs on the first input of
its test data, and its outputs must be onnxruntime's within 1e-4 of the largest.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from rich.console import Console

import cerwu_onnx
from cerwu_onnx.container import reader
from cerwu_onnx.firmware.export import export, write_folder
from cerwu_onnx.inference.export import program_of
from cerwu_onnx.opened import CompressedModel

from .size_rows import ROOT
from .size_tables import markdown, show

if TYPE_CHECKING:
    from tests.emu.targets import Target

PAGE, JSON = ROOT / "docs" / "mcu.md", ROOT / "docs" / "benchmarks" / "size_models.json"
BEGIN, END = "<!-- make size: models begin -->", "<!-- make size: models end -->"
SHARED = ROOT.parent / "shared" / "models"
MODELS = {
    "fashion_cnn": ROOT / "sample_models" / "fashion_cnn",
    "fashion_dscnn": ROOT / "sample_models" / "fashion_dscnn",
    "sequence_gru": ROOT / "sample_models" / "sequence_gru",
    "KWS DS-CNN": SHARED / "mlperf_kws01_dscnn",
    "ResNet-8": SHARED / "mlperf_ic01_resnet8",
}
MOST = 4_000_000
"""Multiply-adds of a model whose instructions are counted on a machine without float unit: counting takes its time."""
DECODING = {"decode", "decode_one", "begin", "next_row", "prepare"}
"""Functions of the generated file that decode; those of cwb.c do, too."""


@dataclass(frozen=True)
class Figures:
    """A line of the tables: bytes, and instructions of one run (None if they were not counted).

    ``plain_...``: the program that the generator itself writes, with floats in flash.
    """

    model: str
    target: str
    code: int
    weights: int
    constants: int
    plain_code: int
    plain_weights: int
    arena: int
    arena_once: int
    plain_ram: int
    stack: int
    multiply_adds: int
    decoded: int
    decoding: int | None
    computing: int | None
    error: float


def measure(name: str, source: Path, target: Target, folder: Path) -> Figures:
    """Compress a model, build it for a machine and run it there once."""
    from tests.emu import build, inference
    from tests.emu.elf import Elf

    path = folder / f"{source.name}.cwb"
    if not path.exists():
        cerwu_onnx.compress(source / "model.onnx", path, calib=source / "calib.npz")
    container = reader.read(path)
    made = program_of(container, "model")
    sources = folder / source.name
    write_folder(export(container, "model", addition=made.addition), sources, force=True)
    program = inference.program(target, sources, folder)
    values, theirs = reference(container, source)
    model = inference.Model(target, program, values.size, theirs.size)
    counted = "F" in target.name or made.costs.multiply_adds <= MOST
    run = model.run(values, count=counted)
    error = float(np.abs(run.output - theirs.ravel()).max() / np.abs(theirs).max())
    if error > 1e-4:
        raise AssertionError(f"{name} on {target.name}: outputs differ by {error}")
    decoder = Elf(build.compile_object(target.headers, sources / "cwb.c", folder / "names.o", "-Os"))
    names = DECODING | {symbol.name for symbol in decoder.symbols()}
    decoding = sum(count for function, count in run.instructions.items() if function in names)
    (folder / "plain.c").write_text(made.plain)
    plain = build.link(
        target,
        [
            build.compile_object(target.headers, folder / "plain.c", folder / "plain.o", "-Os", "-Wno-everything"),
            build.compile_object(target.headers, build.HERE / "tanhf.c", folder / "tanhf.o", "-Os"),
        ],
        ["model"],
        folder / "plain.elf",
    ).sizes()
    sizes, costs = program.sizes(), made.costs
    return Figures(
        model=name,
        target=target.name,
        code=sizes.code + sizes.const - costs.coded - costs.constants,
        weights=costs.coded,
        constants=costs.constants,
        plain_code=plain.code + plain.const - costs.plain,
        plain_weights=costs.plain,
        arena=costs.arena,
        arena_once=costs.arena_once,
        plain_ram=costs.plain_ram,
        stack=max(run.stack, model.start_stack),
        multiply_adds=costs.multiply_adds,
        decoded=costs.decoded,
        decoding=decoding if counted else None,
        computing=sum(run.instructions.values()) - decoding if counted else None,
        error=error,
    )


def reference(container: reader.Container, source: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first input of the test data, and what onnxruntime makes of it."""
    session = ort.InferenceSession(CompressedModel(container).to_onnx().SerializeToString())
    wanted = session.get_inputs()[0]
    data = next(source / name for name in ("test.npz", "eval.npz", "calib.npz") if (source / name).exists())
    with np.load(data) as arrays:
        found = next((arrays[name] for name in (wanted.name, "x") if name in arrays), None)
        values = arrays[arrays.files[0]] if found is None else found
    scale = np.float32(255 if values.dtype == np.uint8 else 1)  # images, as their eval.py reads them
    values = (values[0].astype(np.float32) / scale).reshape([1, *wanted.shape[1:]])
    return values, session.run(None, {wanted.name: values})[0]


def measure_all(console: Console) -> list[Figures]:
    """Every model that is there on every machine."""
    from tests.emu.targets import RUNNERS

    rows = []
    with tempfile.TemporaryDirectory() as made:
        for name, source in MODELS.items():
            if not source.exists():
                console.print(f"{name}: skipped, {source} is not there")
                continue
            for target in RUNNERS:
                rows.append(measure(name, source, target, Path(made)))
                console.print(rows[-1])
    return rows


def tables(rows: list[Figures]) -> list[tuple[str, list[list[str]], int]]:
    """Title, cells and number of text columns."""
    first = [row for row in rows if row.target == rows[0].target]
    flash = [["model", "weights", "code", "in all", "uncompressed: weights", "code", "in all"]]
    for row in first:
        ours, theirs = (row.weights + row.constants, row.code), (row.plain_weights, row.plain_code)
        flash.append([row.model, *(f"{size:,}" for size in (*ours, sum(ours), *theirs, sum(theirs)))])
    ram = [["model", "layer by layer", "decoded once", "uncompressed", "stack"]]
    ram += [[r.model, *(f"{size:,}" for size in (r.arena, r.arena_once, r.plain_ram, r.stack))] for r in first]
    time = [["model", "machine", "multiply-adds", "weights decoded", "decoding", "computing", "ratio", "error"]]
    for row in rows:
        counts = ["not counted", "not counted", "-"]
        if row.decoding is not None and row.computing:
            counts = [f"{row.decoding:,}", f"{row.computing:,}", f"{row.decoding / row.computing:.1%}"]
        sizes = [f"{row.multiply_adds:,}", f"{row.decoded:,}"]
        time.append([row.model, row.target, *sizes, *counts, f"{row.error:.0e}"])
    return [
        (f"Flash of whole models, {first[0].target} -Os", flash, 1),
        ("RAM of whole models", ram, 1),
        ("Instructions of one inference", time, 2),
    ]


def publish(rows: list[Figures]) -> None:
    """Write docs/benchmarks/size_models.json and the tables of docs/mcu.md."""
    content: dict[str, Any] = {"rows": [asdict(row) for row in rows]}
    JSON.write_text(json.dumps(content, indent=1) + "\n")
    text = PAGE.read_text()
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    parts = [f"### {title}\n\n{markdown(table, columns)}" for title, table, columns in tables(rows)]
    PAGE.write_text(f"{head}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{tail}")


def main() -> None:
    """Measure, show and publish."""
    console = Console(width=160)
    rows = measure_all(console)
    for title, table, columns in tables(rows):
        show(console, title, table, columns)
    publish(rows)


if __name__ == "__main__":
    main()
