"""Weights per second that one core of this machine decodes, beside copying and zstd's decompression of the same bytes.

A million rounded Laplace numbers of 2 bits, and as many in smooth kernels, whose signs have neighbours; all checks
made, to int16. zstd, where the package ``zstandard`` is installed, decompresses them from one byte each (level 19).
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from cerwu_onnx import native
from cerwu_onnx.container import writer
from cerwu_onnx.entropy.tables import entropy
from cerwu_onnx.types import QuantizedTensor

KERNELS = 111_111


def run(console: Console) -> None:
    """Print a row for each coder and tensor."""
    if not native.available():
        console.print(f"decode: the C decoder is not available: {native.unavailable_reason()}")
        return
    table = Table("weights", "by", "bits/weight", "entropy", "M weights/s", "x memcpy", "x zstd", title="Decoding")
    for name, symbols in tensors().items():
        values = np.ascontiguousarray(symbols, np.int8)
        size, bits = symbols.size, entropy(symbols)
        other = np.empty_like(values)
        copying = best(lambda source=values, target=other: np.copyto(target, source))
        rows = [("memcpy", 8.0, copying)]
        squeezed = zstd(values.tobytes())
        if squeezed is not None:
            rows.append(("zstd", *squeezed))
        for coder in ("ans", "adaptive"):
            part = writer.encode_tensor(writer.CodedTensor("w", QuantizedTensor(symbols, 0.5, 0.0, 1.0, 0.0), coder))
            file = native.File(writer.assemble([part]))
            assert np.array_equal(file.decode_symbols(0), symbols.ravel())
            rows.append((coder, 8 * len(part.payload) / size, best(lambda file=file: file.decode_symbols(0))))
        for by, rate, seconds in rows:
            against = "-" if squeezed is None else f"{squeezed[1] / seconds:.3f}"
            speed = f"{size / seconds / 1e6:,.1f}"
            table.add_row(name, by, f"{rate:.3f}", f"{bits:.3f}", speed, f"{copying / seconds:.4f}", against)
    console.print(table)
    if importlib.util.find_spec("zstandard") is None:
        console.print("zstd was not measured: pip install zstandard")


def tensors() -> dict[str, np.ndarray]:
    """A million weights without structure, and as many in kernels of 3 x 3: int32."""
    random = np.random.default_rng(0)
    smooth = random.normal(size=(KERNELS, 1, 3, 3))
    smooth[..., 1:] += smooth[..., :-1]
    smooth[..., 1:, :] += smooth[..., :-1, :]
    return {
        "Laplace": np.rint(random.laplace(0, 0.75, 9 * KERNELS)).astype(np.int32),
        "smooth kernels": np.rint(0.62 * smooth).astype(np.int32),
    }


def zstd(data: bytes) -> tuple[float, float] | None:
    """Bits per byte and seconds of decompression; None where the package is not installed."""
    if importlib.util.find_spec("zstandard") is None:
        return None
    module = importlib.import_module("zstandard")
    packed = module.ZstdCompressor(level=19).compress(data)
    decompressor = module.ZstdDecompressor()
    return 8 * len(packed) / len(data), best(lambda: decompressor.decompress(packed))


def best(function: Callable[[], object], times: int = 7) -> float:
    """Seconds of the fastest of some calls."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
