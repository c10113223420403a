"""``make demo-cpp``: compress a sample model, and let a C++ program classify images with it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import cerwu_onnx

from .toolchain import ROOT, Missing, build

MODEL = ROOT / "sample_models/fashion_cnn"


def images(path: Path) -> np.ndarray:
    """Write the test images as the program reads them; their labels."""
    with np.load(MODEL / "test.npz") as test:
        (test["inputs"].astype(np.float32) / np.float32(255)).tofile(path)
        return np.asarray(test["labels"])


def main() -> int:
    """The exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            programs = build(folder)
        except Missing as missing:
            print(f"skipped: {missing}")
            return 0
        cerwu_onnx.compress(MODEL / "model.onnx", folder / "model.cwb", calib=MODEL / "calib.npz")
        labels = images(folder / "images.f32")
        command = [programs / "classify", folder / "model.cwb", folder / "images.f32", "1", "28", "28"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        answers = np.array(done.stdout.split(), int)
        before, after = ((folder / "model.cwb").stat().st_size, (MODEL / "model.onnx").stat().st_size)
        print(f"{MODEL.name}: {after:,} bytes of ONNX, {before:,} of .cwb")
        print(f"C++, onnxruntime: {(answers == labels).mean():.2%} of {labels.size:,} images classified correctly")
    return 0


if __name__ == "__main__":
    sys.exit(main())
