"""Score a ``sequence_gru`` model: accuracy on the held-back test arrays.

Needs numpy and onnxruntime only. As a script it takes the model file to score,
by default the float32 model in this folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

HERE = Path(__file__).resolve().parent
BATCH_SIZE = 500


def preprocess(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Turn band energies in bytes into signed inputs of about unit size."""
    inputs: npt.NDArray[np.float32] = (raw.astype(np.float32) - np.float32(96)) / np.float32(40)
    return inputs


def evaluate(onnx_path: str, limit: int | None = None) -> float:
    """Return the share of test samples a model classifies correctly.

    Args:
        onnx_path: the model file.
        limit: use only so many samples, from the first (default: all).
    """
    with np.load(HERE / "test.npz") as arrays:
        inputs = preprocess(arrays["inputs"][:limit])
        labels = arrays["labels"][:limit]
    session = ort.InferenceSession(onnx_path, providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name
    correct = 0
    for start in range(0, len(labels), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        logits = session.run(None, {input_name: inputs[batch]})[0]
        correct += int((logits.argmax(axis=1) == labels[batch]).sum())
    return correct / len(labels)


if __name__ == "__main__":
    print(evaluate(sys.argv[1] if len(sys.argv) > 1 else str(HERE / "model.onnx")))
