"""Files that the campaigns damage: the golden files, and small ones in which every byte counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cerwu_onnx.container import format as f
from cerwu_onnx.container import in_place, writer
from cerwu_onnx.entropy import trellis
from cerwu_onnx.types import QuantizedTensor

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def _coded(
    name: str,
    symbols: np.ndarray,
    coder: str,
    order: f.Order = f.Order.ROW_MAJOR,
    run: int = 0,
    rows: np.ndarray | None = None,
) -> writer.Encoded:
    tensor = QuantizedTensor(symbols.astype(np.int32), 0.125, 0.0, 1.0, 0.0, run, exponents=rows)
    return writer.encode_tensor(writer.CodedTensor(name, tensor, coder, order))


def tensors() -> bytes:
    """All that the C decoder reads: both coders, trellises, orders, margins, plain names, an application's section."""
    rng = np.random.default_rng(5)
    coded = [
        _coded("a", np.rint(rng.laplace(size=(5, 3, 2, 2)) * 2), "ans", f.Order.AXIS1_LAST),
        _coded("b", np.rint(rng.laplace(size=(7, 9)) * 2), "adaptive", f.Order.AXIS0_LAST),
        _coded("one symbol", np.full((3, 5), -7), "ans"),
        _coded("wide", np.rint(rng.laplace(size=(4, 6)) * 50), "adaptive"),
        _coded("near", np.rint(4 * np.sin(np.arange(96).reshape(2, 4, 4, 3) / 7)), "adaptive"),
        _coded("far ü", np.array([0, 700, -3, 0, 0, 1]), "adaptive"),
    ]
    indices = np.rint(rng.laplace(size=60)).astype(np.int32)
    values = trellis.to_values(indices, 12).reshape(5, 12)
    coded += [_coded("on a trellis", values, "ans", run=12), _coded("t", values, "adaptive", run=12)]
    exact = writer.encode_tensor(writer.RawTensor("bias", f.ElementType.FLOAT16, np.arange(3, dtype="<f2")))
    sections = [
        writer.names_section([part.record.name for part in [*coded, exact]]),
        writer.margins_section([in_place.margin(part) for part in coded]),
        writer.section(f.Kind(100), b"application"),
    ]
    return writer.assemble([*coded, exact, *sections])


def nameless() -> bytes:
    """One tensor, nothing else."""
    return writer.assemble([_coded("w", np.arange(-3, 4).repeat(3), "ans")])


def forms() -> bytes:
    """A small tensor in each form by each coder, and with exponents where the form may have them; names, margins."""
    rng, shape, coded = np.random.default_rng(8), (2, 3, 4), []
    for number, form in enumerate(f.FORMS):
        run = form.run_length(shape)
        for coder in ("ans", "adaptive"):
            symbols = np.rint(rng.laplace(size=24) * 1.5).astype(np.int32)
            values = trellis.to_values(symbols, run) if run else symbols
            tensor = form.order.restore(values, shape)
            coded.append(_coded(f"{coder}{number}", tensor, coder, form.order, run))
            if number >= f.FIRST_STEPPED:
                rows = rng.integers(0, 32, form.row_shape(shape))
                coded.append(_coded(f"{coder}{number} stepped", tensor, coder, form.order, run, rows))
    sections = [
        writer.names_section([part.record.name for part in coded]),
        writer.margins_section([in_place.margin(part) for part in coded]),
    ]
    return writer.assemble([*coded, *sections])


def packed() -> bytes:
    """Metadata and a graph that is none, behind names: what the Python reader inflates."""
    coded = [_coded("w", np.arange(-6, 6).reshape(3, 4), "ans"), _coded("v", np.eye(4), "adaptive")]
    sections = [
        writer.graph_section(["w", "v"], b"no graph"),
        writer.metadata_section({"tool": "fuzz", "lambda": 0.5}),
    ]
    return writer.assemble([*coded, *sections])


def write(folder: Path) -> list[Path]:
    """All of them as files in ``folder``."""
    paths = [path for path in sorted(GOLDEN.glob("v*/*.cwb")) if path.stem != "delta"]  # which needs its base
    files = {f"{path.parent.name}-{path.stem}": path.read_bytes() for path in paths}
    files |= {"tensors": tensors(), "nameless": nameless(), "packed": packed()}
    paths = []
    for name, content in files.items():
        paths.append(folder / f"{name}.cwb")
        paths[-1].write_bytes(content)
    return paths
