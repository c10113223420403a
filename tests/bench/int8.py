"""Depthwise-separable networks in int8 to the end: accuracy beside float, and what they cost on a Cortex-M4.

``python -m tests.bench.int8`` compresses each network, calibrates it and runs decoder_c/examples/int8: compiled for
this host over the test data, and for an emulated Cortex-M4F on one sample, whose output must be the host's bit for bit.
CMSIS-NN is in no package registry; the kernels are those of the example's reference folder, of the same arithmetic.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

import cerwu_onnx
from cerwu_onnx.config import LayerRule, Settings
from cerwu_onnx.container import reader
from cerwu_onnx.firmware.export import write_folder
from cerwu_onnx.opened import CompressedModel

from ..emu import int8
from .models import SAMPLES, SHARED

MODELS = {
    "fashion_dscnn": (SAMPLES / "fashion_dscnn", "test.npz"),
    "KWS DS-CNN": (SHARED / "mlperf_kws01_dscnn", "eval.npz"),
}
SAMPLE_LIMIT = 1000
"""The most test samples: plain C takes 10 ms for each."""


def main() -> None:
    """Measure each network that is there."""
    for name, (source, test) in MODELS.items():
        if source.exists():
            with tempfile.TemporaryDirectory() as folder:
                for line in measure(name, source, test, Path(folder)):
                    print(line, flush=True)
        else:
            print(f"{name}: not beside this repository")


def measure(name: str, source: Path, test: str, folder: Path) -> list[str]:
    """Lines on one network: accuracy, flash, RAM, instructions."""
    path, firmware_folder = folder / "model.cwb", folder / "firmware"
    settings = Settings(weight_layout="cmsis", rules=(LayerRule("*", bits=8),))
    cerwu_onnx.compress(source / "model.onnx", path, calib=source / "calib.npz", settings=settings)
    container = reader.read(path)
    with np.load(source / "calib.npz") as arrays:
        firmware, _ = int8.firmware(container, dict(arrays))
    write_folder(firmware, firmware_folder, force=False)
    inputs, labels = samples(source, test)
    floats = outputs((source / "model.onnx").read_bytes(), inputs)
    weights = outputs(CompressedModel(container).to_onnx().SerializeToString(), inputs)
    classes = floats.shape[1]
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    host = int8.Host(firmware_folder, compiler, classes)
    integers = host.run(inputs)
    lines = [f"{name}, {len(labels)} test samples: top-1 of float, of compressed weights, of int8 to the end"]
    scores = [(answers.argmax(axis=1) == labels).mean() for answers in (floats, weights, integers)]
    same = (integers.argmax(axis=1) == weights.argmax(axis=1)).mean()
    lines.append("  " + ", ".join(f"{score:.2%}" for score in scores) + f"; the last two answer alike on {same:.2%}")
    device = int8.OnMachine(firmware_folder, folder, inputs[0].size, classes)
    run, flash = device.run(inputs[0], count=True), device.elf.sizes()
    assert np.array_equal(run.output, integers[0])
    constants = flash.const - firmware.flash
    lines += [
        f"  flash: {firmware.flash:,} bytes of weights, {constants:,} of constants and tables, {flash.code:,} of code",
        f"  RAM: {device.arena:,} bytes of arena, {firmware.scratch:,} of scratch, {run.stack:,} of stack",
        f"  instructions of a run: {run.decoding:,} to decode, {run.computing:,} to compute",
    ]
    return lines


def samples(source: Path, test: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Inputs as the network takes them, and labels."""
    spec = importlib.util.spec_from_file_location(f"eval_{source.name}", source / "eval.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(source / test) as arrays:
        labels = arrays["labels"][:SAMPLE_LIMIT].astype(np.int64)
        return module.preprocess(arrays["inputs"][:SAMPLE_LIMIT]), labels


def outputs(model: bytes, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What onnxruntime answers."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    return np.asarray(found)


if __name__ == "__main__":
    main()
