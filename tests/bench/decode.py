"""Weights per second that one core of this machine decodes, beside copying and zstd's decompression of the same bytes.

A million rounded Laplace numbers of 2 bits, and as many in smooth kernels, whose signs have neighbours; all checks
made, to int16. zstd, where the package ``zstandard`` is installed, decompresses them from one byte each (level 19).

Then all tensors of a large file as float32, by one thread and by two. And a session's start: from a file of many
tensors, decoded one after another and by all cores, beside that of the float ONNX file, read from disk for the first
time (its pages are dropped from the cache) and again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime
from rich.console import Console
from rich.table import Table

import cerwu_onnx
from cerwu_onnx import native
from cerwu_onnx.container import ahead, writer
from cerwu_onnx.entropy.tables import entropy
from cerwu_onnx.types import QuantizedTensor

from . import encoder

KERNELS = 111_111

WHOLE = 20_000_000
"""Bytes of weights that zstd gets."""


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
    whole(console)
    starts(console)


def whole(console: Console) -> None:
    """Print how fast all tensors of an encoder of MiniLM's size become float32: one after another, and by threads."""
    with tempfile.TemporaryDirectory() as folder:
        container = cerwu_onnx.open(packed_encoder(Path(folder))).container
        arrays = [container.decode(record) for record in container.tensors]
        copies = [np.empty_like(array) for array in arrays]
        weights = np.concatenate([array.ravel() for array in arrays if array.size >= 1 << 16])
        data = np.clip(np.rint(8 * weights / np.abs(weights).max()), -127, 127).astype(np.int8).tobytes()
        squeezed = zstd(data[:WHOLE])

        def by(threads: int) -> float:
            with mock.patch.object(ahead, "session_threads", return_value=threads):
                return best(lambda: [None for _ in container.decode_all()], time.perf_counter)

        rows = {
            "one after another": best(lambda: [container.decode(record) for record in container.tensors]),
            **{f"{count} threads": by(count) for count in (1, 2)},
            "memcpy": best(lambda: [np.copyto(copy, array) for copy, array in zip(copies, arrays, strict=True)]),
        }
        size = sum(array.nbytes for array in arrays)
        if squeezed is not None:  # it gives bytes, which would have to become float32 then
            rows["zstd -19, to int8"] = squeezed[1] * size / 4 / WHOLE
        table = Table("by", "seconds", "MB/s of float32", title=f"{size / 1e6:.0f} MB of tensors, wall with threads")
        for name, seconds in rows.items():
            table.add_row(name, f"{seconds:.3f}", f"{size / seconds / 1e6:,.0f}")
        console.print(table)


def packed_encoder(folder: Path) -> Path:
    """An encoder of MiniLM's size at 4 bits, data-free, and its ONNX file ``model.onnx``."""
    path, packed = folder / "model.onnx", folder / "model.cwb"
    onnx.save(encoder.make_model(), path)
    cerwu_onnx.compress(path, packed, settings=cerwu_onnx.Settings(method="rtn", levels=16, coder="ans"))
    return packed


def starts(console: Console) -> None:
    """Print how long sessions take to start: an encoder of MiniLM's size at 4 bits, data-free."""
    with tempfile.TemporaryDirectory() as folder:
        path, packed = Path(folder) / "model.onnx", packed_encoder(Path(folder))
        container = cerwu_onnx.open(packed).container
        started(path)  # what onnxruntime does once
        runs: dict[str, Callable[[], object]] = {
            "float ONNX, cold": lambda: started(path, cold=True),
            "float ONNX, cached": lambda: started(path),
            ".cwb, cold": lambda: loaded(packed, cold=True),
            ".cwb, cached": lambda: loaded(packed),
            "of that, decoding": lambda: [None for _ in container.decode_all()],
            "decoding, one thread": lambda: [container.decode(record) for record in container.tensors],
        }
        seconds = {name: best(function, time.perf_counter) for name, function in runs.items()}
        table = Table("session", "MB on disk", "seconds", "x float, cold", title="Start of a session")
        sizes = {name: path.stat().st_size / 1e6 for name, path in (("float", path), (".cwb", packed))}
        for name, took in seconds.items():
            size = next((f"{size:.1f}" for kind, size in sizes.items() if name.startswith(kind)), "")
            table.add_row(name, size, f"{took:.3f}", f"{took / seconds['float ONNX, cold']:.2f}")
        console.print(table)


def started(path: Path, *, cold: bool = False) -> None:
    """Load a float model as any program does."""
    if cold:
        drop(path)
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def loaded(path: Path, *, cold: bool = False) -> None:
    """Load a .cwb file."""
    if cold:
        drop(path)
    cerwu_onnx.load_session(path)


def drop(path: Path) -> None:
    """Have the system forget what it has cached of a file."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


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


def best(function: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of the fastest of some calls: of the processor, so that other work on the machine counts little."""
    seconds = []
    for _ in range(7):
        start = clock()
        function()
        seconds.append(clock() - start)
    return min(seconds)
