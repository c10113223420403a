"""Makes one model small in one way, in a process of its own: ``python tests/bench/peer.py NAME FOLDER OUT [NUMBER]``.

FOLDER has ``model.onnx`` and ``calib.npz``. OUT is written where onnxruntime loads the result as it is, or after the
decoding that this script does, too. Prints one JSON object: bytes of the file, processor seconds and peak memory of
making it, its libraries included, and the settings. Where a package is missing, ``{"missing": ...}``.
"""

from __future__ import annotations

import gzip
import importlib
import json
import lzma
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Made = tuple[int, Callable[[], object]]
"""Bytes of the file, and what writes the ONNX model that its user would run."""


def packed(pack: Callable[[bytes], bytes]) -> Callable[[Path, Path, float], Made]:
    """The float file, packed by a general packer; its user unpacks it."""

    def make(folder: Path, out: Path, _: float) -> Made:
        source = folder / "model.onnx"
        return len(pack(source.read_bytes())), partial(shutil.copy, source, out)

    return make


def zstd(content: bytes) -> bytes:
    try:
        return bytes(importlib.import_module("compression.zstd").compress(content, 19))
    except ModuleNotFoundError:  # before Python 3.14
        return bytes(importlib.import_module("zstandard").ZstdCompressor(level=19).compress(content))


def slim(folder: Path, out: Path, _: float) -> Made:
    onnx, onnxslim = importlib.import_module("onnx"), importlib.import_module("onnxslim")
    onnx.save(onnxslim.slim(str(folder / "model.onnx")), out)
    return out.stat().st_size, lambda: None


def float16(folder: Path, out: Path, _: float) -> Made:
    onnx, converter = importlib.import_module("onnx"), importlib.import_module("onnxruntime.transformers.float16")
    model = onnx.load(folder / "model.onnx")
    onnx.save(converter.convert_float_to_float16(model, keep_io_types=True), out)
    return out.stat().st_size, lambda: None


class Reader:
    """Calibration samples, 32 at a time, one where the model takes no more."""

    def __init__(self, data: Path, model: Path) -> None:
        self._batches = self._read(data, model)

    def _read(self, data: Path, model: Path) -> Iterator[dict[str, Any]]:
        onnx = importlib.import_module("onnx")
        arrays = dict(np.load(data))
        dims = [info.type.tensor_type.shape.dim[0] for info in onnx.load(model).graph.input if info.name in arrays]
        size = 1 if any(dim.dim_value == 1 for dim in dims) else 32
        for start in range(0, len(next(iter(arrays.values()))), size):
            yield {name: values[start : start + size] for name, values in arrays.items()}

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def dynamic(folder: Path, out: Path, _: float) -> Made:
    quantization = importlib.import_module("onnxruntime.quantization")
    quantization.quantize_dynamic(folder / "model.onnx", out, weight_type=quantization.QuantType.QUInt8)
    return out.stat().st_size, lambda: None


def static(folder: Path, out: Path, _: float) -> Made:
    """As onnxruntime's documentation says: shapes and fusions first, QDQ, weights by channel.

    With weights of 7 bits, for processors without VNNI, where sums of 8 bits would overflow; no byte is saved by that.
    """
    quantization = importlib.import_module("onnxruntime.quantization")
    shapes = importlib.import_module("onnxruntime.quantization.shape_inference")
    with tempfile.TemporaryDirectory() as temporary:
        ready = Path(temporary) / "ready.onnx"
        shapes.quant_pre_process(folder / "model.onnx", ready, skip_symbolic_shape=True)
        reader = Reader(folder / "calib.npz", folder / "model.onnx")
        quantization.quantize_static(ready, out, reader, per_channel=True, reduce_range=True)
    return out.stat().st_size, lambda: None


def nncodec(folder: Path, out: Path, qp: float) -> Made:
    """Float tensors by NNCodec with dependent quantisation; the file is its stream, and the rest of the graph by xz."""
    onnx, codec = importlib.import_module("onnx"), importlib.import_module("nncodec.nn")
    model = onnx.load(folder / "model.onnx")
    floats = {
        tensor.name: onnx.numpy_helper.to_array(tensor).copy()
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) > 0 and len(tensor.dims) > 0
    }
    with tempfile.TemporaryDirectory() as temporary:
        stream = codec.encode(floats, {"qp": int(qp), "results": temporary, "verbose": False})
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if tensor.name in floats:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")

    def decode() -> None:
        values = codec.decode(stream, {"verbose": False})
        for tensor in model.graph.initializer:
            if tensor.name in floats:
                array = np.asarray(values[tensor.name], np.float32).reshape(tuple(tensor.dims))
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        onnx.save(model, out)

    return len(stream) + len(lzma.compress(bare.SerializeToString(), preset=9)), decode


def ours(folder: Path, out: Path, size: float) -> Made:
    """The default, 99 % fidelity; with a number, the largest file of so many bytes."""
    tool = importlib.import_module("cerwu_onnx")
    target = tool.Target(size=int(size)) if size else None
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.cwb"
        tool.compress(folder / "model.onnx", path, calib=str(folder / "calib.npz"), target=target)
        content = path.read_bytes()

    def decode() -> None:
        with tempfile.TemporaryDirectory() as again:
            path = Path(again) / "model.cwb"
            path.write_bytes(content)
            tool.decompress(path, out)

    return len(content), decode


WAYS: dict[str, Callable[[Path, Path, float], Made]] = {
    "gzip": packed(lambda content: gzip.compress(content, 9)),
    "xz": packed(lambda content: lzma.compress(content, preset=9)),
    "zstd": packed(zstd),
    "onnxslim": slim,
    "float16": float16,
    "dynamic": dynamic,
    "static": static,
    "nncodec": nncodec,
    "ours": ours,
}


def main() -> None:
    """Make it, and print what it took."""
    name, folder, out, *number = sys.argv[1:]
    start = time.process_time()
    try:
        size, decode = WAYS[name](Path(folder), Path(out), float(number[0]) if number else 0.0)
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}))
        return
    seconds = time.process_time() - start
    memory = peak_memory()
    decode()
    print(json.dumps({"bytes": size, "seconds": round(seconds, 2), "memory": memory}))


def peak_memory() -> int:
    """Most bytes of this process; what getrusage says on Linux may be of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(next(line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
