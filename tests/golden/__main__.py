"""Rewrite the golden files of the draft format: ``python -m tests.golden``. Version 1 will never be rewritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cerwu_onnx.container import format as f
from cerwu_onnx.container import writer
from cerwu_onnx.entropy import trellis
from cerwu_onnx.types import QuantizedTensor

FOLDER = Path(__file__).parent


def golden_file() -> tuple[bytes, dict[str, np.ndarray]]:
    """A file that uses every feature, and its tensors as little-endian arrays."""
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


if __name__ == "__main__":
    content, arrays = golden_file()
    (FOLDER / "draft0.cwb").write_bytes(content)
    np.savez(FOLDER / "draft0.npz", **arrays)  # type: ignore[arg-type]
