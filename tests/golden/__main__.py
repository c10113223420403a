"""What the golden files were made of. ``python -m tests.golden`` writes those that are missing, and the features."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import cerwu_onnx
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.container.reader import Container
from cerwu_onnx.entropy import trellis
from cerwu_onnx.model.elements import float_tensor
from cerwu_onnx.types import QuantizedTensor

from ..deltas import example
from ..models import build, normal, value
from . import features

HERE = Path(__file__).parent
FOLDER = HERE / f"v{f.VERSION}"


def golden_file() -> tuple[bytes, dict[str, np.ndarray]]:
    """A file of tensors of every kind, and these as little-endian arrays."""
    lines = np.arange(-40, 56)
    wide = np.concatenate([np.full(4000, 0), np.full(300, 1), np.full(200, -1), [2047, -2047]])
    symbols = {
        "conv.weight": (lines**3 // 4000).reshape(4, 3, 2, 4),
        "constant": np.full((3, 5), -7),
        "zeros": np.zeros((4, 2)),
        "wide, sparse": wide.reshape(2, 2251),
        "one": np.array([5]),
        "scalar": np.array(-2),
        "adaptive": (lines**3 // 4000).reshape(4, 3, 2, 4),
        "adaptive wide": wide.reshape(2, 2251),
        "adaptive scalar": np.array(1),
        "adaptive neighbours": np.rint(4 * np.sin(lines.reshape(2, 4, 4, 3) / 7)),
    }
    steep = trellis.to_values(np.rint(np.sin(np.arange(120) ** 2) * np.linspace(0, 6, 120)).astype(int), 10)
    runs = {
        "trellis": (steep, (3, 4, 10), f.Order.ROW_MAJOR, 10),
        "adaptive trellis, rows": (steep, (12, 2, 5), f.Order.ROW_MAJOR, 10),
        "adaptive trellis": (steep, (10, 12), f.Order.AXIS0_LAST, 10),
        "adaptive trellis, channels last": (steep, (12, 2, 5), f.Order.AXIS1_LAST, 10),
        "adaptive trellis, stack": (steep, (3, 10, 4), f.Order.LAST_TWO_SWAPPED, 10),
        "trellis, wide": (trellis.to_values(wide[-1500:] // 3, 10), (150, 10), f.Order.ROW_MAJOR, 10),
        "adaptive trellis, wide": (trellis.to_values(wide[-1500:] // 3, 10), (150, 10), f.Order.ROW_MAJOR, 10),
        "trellis, one": (np.zeros(6), (2, 3), f.Order.ROW_MAJOR, 3),
        "adaptive trellis, one": (np.zeros(6), (2, 3), f.Order.ROW_MAJOR, 3),
    }
    values: dict[str, np.ndarray] = {}
    parts = []
    for index, (name, grid) in enumerate(symbols.items()):
        tensor = QuantizedTensor(grid.astype(np.int32), float(np.float32(0.1 * 3**index)), 0.0, 1.0, 0.0)
        coder = "adaptive" if name.startswith("adaptive") else "ans"
        parts.append(writer.encode_tensor(writer.CodedTensor(name, tensor, coder)))
        values[name] = tensor.values().astype("<f4")
    for name, (stored, shape, order, run) in runs.items():
        grid = order.restore(stored, shape).astype(np.int32)
        tensor = QuantizedTensor(grid, 0.25, 0.0, 1.0, 0.0, run)
        coder = "adaptive" if name.startswith("adaptive") else "ans"
        parts.append(writer.encode_tensor(writer.CodedTensor(name, tensor, coder, order)))
        values[name] = tensor.values().astype("<f4")
    for element, storage in f.STORAGE.items():
        raw = (np.arange(6) * 257).astype(np.uint16).view("<u2") if storage == "<u2" else np.arange(6) / 8 - 0.25
        values[f"exact {element.name}"] = raw.astype(storage).reshape(1, 6)
    values["empty é"] = np.zeros((0, 4), "<f4")
    for name, array in values.items():
        if name not in symbols and name not in runs:
            element = f.ElementType.FLOAT32 if name == "empty é" else f.ElementType[name.split()[1]]
            parts.append(writer.encode_tensor(writer.RawTensor(name, element, array)))
    sections = [
        writer.names_section(list(values)),
        writer.packed_section(f.Kind.GRAPH, b"golden graph"),
        writer.metadata_section({"tool": "golden", "lambda": 0.25}),
    ]
    return writer.assemble([*parts, *sections]), values


def forms_file() -> tuple[bytes, list[np.ndarray]]:
    """A file without names or graph: every form by both coders, with and without exponents; and its tensors."""
    random = np.random.default_rng(9)
    parts, values = [], []

    def add(
        stored: np.ndarray,
        coder: str,
        order: f.Order = f.Order.ROW_MAJOR,
        shape: tuple[int, ...] = (),
        run: int = 0,
        exponents: np.ndarray | None = None,
    ) -> None:
        grid = order.restore(stored, shape or stored.shape).astype(np.int32)
        tensor = QuantizedTensor(grid, 0.125, 0.0, 1.0, 0.0, run, exponents=exponents)
        parts.append(writer.encode_tensor(writer.CodedTensor(f"#{len(parts)}", tensor, coder, order)))
        values.append(tensor.values().astype("<f4"))

    for coder in ("ans", "adaptive"):
        for number, form in enumerate(f.FORMS):
            shape = (4, 6, 2, 3)
            run = form.run_length(shape)
            symbols = np.rint(random.laplace(size=144) * 2).astype(np.int32)
            stored = trellis.to_values(symbols, run) if run else symbols
            add(stored, coder, form.order, shape, run)
            if number >= f.FIRST_STEPPED:
                add(stored, coder, form.order, shape, run, random.integers(0, 32, form.row_shape(shape)))
    for count, scale in ((1500, 4), (12_000, 5)):
        add(np.rint(random.laplace(size=count) * scale), "ans")
    add(trellis.to_values(np.array([0, 1023, -1023, 5, 0, 1]), 3).reshape(2, 3), "ans", run=3)
    sections = [
        writer.metadata_section({"tool": "golden", "params": "30"}),
        writer.section(f.Kind(100), b"application"),
    ]
    return writer.assemble([*parts, *sections]), values


def golden_model() -> onnx.ModelProto:
    """What a graph section may say of tensors: weights of other types, integers, halves of bytes, Constant nodes."""
    random = np.random.default_rng(4)
    halves = np.rint(random.laplace(size=(400, 2))).clip(-8, 7).astype(np.int64) + 8
    tensors = {
        "w": normal(12, 40, seed=1),
        "b": normal(40, seed=2),
        "half": normal(40, 30, seed=3).astype(np.float16),
        "q": np.rint(random.laplace(size=(30, 20)) * 3).clip(-128, 127).astype(np.int8),
        "scale": np.float32(0.05),
        "nibbles": (halves @ [1, 16]).astype(np.uint8),
        "mask": np.zeros(3000, np.float32),
        "double": normal(10, 20, seed=6).astype(np.float64),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Cast", ["h"], ["h16"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h16", "half"], ["m16"]),
        helper.make_node("Cast", ["m16"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["qf"]),
        helper.make_node("MatMul", ["m", "qf"], ["y"]),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(normal(20, 10, seed=5))),
        helper.make_node("MatMul", ["y", "c"], ["z"]),
        helper.make_node("Cast", ["z"], ["z64"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["z64", "double"], ["d"]),
        helper.make_node("Cast", ["d"], ["d16"], to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["d16", "brain"], ["e"]),
        helper.make_node("Cast", ["nibbles"], ["n"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["mask"], ["k"]),
    ]
    outputs = [value("e", ["N", 16], TensorProto.BFLOAT16), value("n", [400]), value("k", [3000])]
    model = build(nodes, [value("x", ["N", 12])], outputs, tensors)
    model.graph.initializer.append(float_tensor(normal(20, 16, seed=7), TensorProto.BFLOAT16, "brain"))
    return model


def model_file() -> bytes:
    """That model compressed, its names before the graph, with margins."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "model.cwb"
        onnx.save(golden_model(), source)
        settings = cerwu_onnx.Settings(in_place=True, lambda_=0.02)
        cerwu_onnx.compress(source, target, settings=settings)
        return target.read_bytes()


def decoded(container: Container) -> dict[str, np.ndarray]:
    """Every tensor of a file, by the plain decoder."""
    return {record.name: container.decode_python(record) for record in container.tensors}


def files() -> dict[str, Container]:
    """All golden files by version and name."""
    found = {}
    for path in sorted(HERE.glob("v*/*.cwb")):
        base = path.with_name("base.cwb") if path.stem == "delta" else None
        found[f"{path.parent.name}/{path.stem}"] = reader.read(path, base)
    return found


def _write(name: str, content: bytes) -> None:
    """Write a file that is not there. Those that are there stay as they are for ever."""
    with (FOLDER / name).open("xb") as stream:
        stream.write(content)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    if not (FOLDER / "kinds.cwb").exists():
        content, arrays = golden_file()
        _write("kinds.cwb", content)
        np.savez(FOLDER / "kinds.npz", **arrays)  # type: ignore[arg-type]
    if not (FOLDER / "forms.cwb").exists():
        content, tensors = forms_file()
        _write("forms.cwb", content)
        np.savez(FOLDER / "forms.npz", *tensors)
    if not (FOLDER / "model.cwb").exists():
        _write("model.cwb", model_file())
        cerwu_onnx.decompress(FOLDER / "model.cwb", FOLDER / "model.onnx")
    if not (FOLDER / "delta.cwb").exists():
        base, delta = example()
        _write("base.cwb", base)
        _write("delta.cwb", delta)
        arrays = decoded(reader.parse(delta, reader.parse(base)))
        np.savez(FOLDER / "delta.npz", **arrays)  # type: ignore[arg-type]
    page = (HERE / "README.md").read_text(encoding="utf-8")
    (HERE / "README.md").write_text(page[: page.index("| feature |")] + features.table(files()), encoding="utf-8")
