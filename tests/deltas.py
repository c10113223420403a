"""Deltas for tests: a base with tensors of several kinds, and files that change some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cerwu_onnx.container import deltas, reader, writer
from cerwu_onnx.container import format as f
from cerwu_onnx.container.reader import Container
from cerwu_onnx.entropy import trellis
from cerwu_onnx.types import QuantizedTensor


def coded(
    name: str,
    values: np.ndarray,
    coder: str,
    order: f.Order = f.Order.ROW_MAJOR,
    run: int = 0,
    exponents: np.ndarray | None = None,
) -> writer.Encoded:
    """A coded tensor of step 1/4, whose rows may have exponents."""
    quantized = QuantizedTensor(values.astype(np.int32), 0.25, 0.0, 1.0, 0.0, run, exponents=exponents)
    return writer.encode_tensor(writer.CodedTensor(name, quantized, coder, order))


def base(seed: int = 0) -> bytes:
    """Trellis and no trellis, both coders, other orders, exponents, and two raw tensors, with their names."""
    random = np.random.default_rng(seed)
    indices = np.rint(random.laplace(size=20 * 30) * 2).astype(int)
    stored = trellis.to_values(indices, 30)
    tensors = [
        coded("trellis", stored.reshape(20, 30), "adaptive", run=30),
        coded("columns", f.Order.AXIS0_LAST.restore(stored, (30, 20)), "ans", f.Order.AXIS0_LAST, 30),
        coded("conv", np.rint(random.laplace(size=(10, 3, 4, 4)) * 3), "ans", f.Order.AXIS1_LAST),
        coded("zeros", np.zeros((7, 5)), "adaptive"),
        writer.encode_tensor(writer.RawTensor("bias", f.ElementType.FLOAT32, np.arange(4, dtype="<f4"))),
        writer.encode_tensor(writer.RawTensor("half", f.ElementType.FLOAT16, np.arange(6, dtype="<f2"))),
        coded("rows", stored.reshape(20, 30), "ans", run=30, exponents=random.integers(0, 9, (20, 1))),
    ]
    sections = [writer.metadata_section({"tool": "base"})]
    return writer.assemble([*tensors, *sections, writer.names_section([part.record.name for part in tensors])])


def change(container: Container, index: int, density: float, largest: int, seed: int = 0) -> writer.Encoded:
    """Tensor number ``index`` of a base with some of its values changed."""
    random = np.random.default_rng(seed)
    record = container.tensors[index]
    before = container.symbols(record)
    changes = random.integers(-largest, largest + 1, before.size) * (random.random(before.size) < density)
    part = deltas.changed(record, container.payload(record), before, np.clip(before + changes, -2047, 2047))
    assert part is not None
    return part


def named(of: bytes) -> writer.Encoded:
    """The section that names a base."""
    return deltas.base_section(of, reader.parse(of).records)


def delta(of: bytes, tensors: Sequence[writer.Encoded], *more: writer.Encoded) -> bytes:
    """A delta of these tensors."""
    return writer.assemble([*tensors, named(of), *more])


def example(seed: int = 0) -> tuple[bytes, bytes]:
    """A base and a delta with every kind of record, and metadata."""
    content = base(seed)
    container = reader.parse(content)
    random = np.random.default_rng(seed)
    parts = [
        change(container, 0, 0.1, 3, seed),
        change(container, 1, 0.02, 40, seed),
        coded("conv", np.rint(random.laplace(size=(10, 3, 4, 4)) * 3), "adaptive"),
        deltas.unchanged(container.tensors[3]),
        deltas.unchanged(container.tensors[4]),
        writer.encode_tensor(writer.RawTensor("half", f.ElementType.FLOAT16, np.ones(6, "<f2"))),
        change(container, 6, 0.1, 5, seed),
    ]
    return content, delta(content, parts, writer.metadata_section({"tool": "delta"}))
