"""One point of ``python -m tests.bench kl``, by whichever version of the package the interpreter has.

Run as a script, with paths: ``kl_point.py MODEL CALIB INPUTS LAMBDA EFFORT``. It compresses the model, decodes the
file and prints, as JSON, the bits of the whole file per weight, the distance between the two models on the inputs, and
the processor seconds of the compression. Without arguments it prints a digest of the package.

It is a script so that it may run under an older version in another environment, and imports nothing else of the tests.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

import cerwu_onnx

BATCH = 100


def digest() -> str:
    """A digest of the package's source and of its native library."""
    folders = [Path(folder) for folder in cerwu_onnx.__path__ if Path(folder).name == "cerwu_onnx"]  # not a repository
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".so")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


def outputs(model: Path, feeds: dict[str, npt.NDArray[np.generic]]) -> list[npt.NDArray[np.float64]]:
    """The floating-point outputs on all inputs, samples first."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [out.name for out in session.get_outputs() if out.type == "tensor(float)"]
    count = len(next(iter(feeds.values())))
    slices = [slice(start, start + BATCH) for start in range(0, count, BATCH)]
    found = [session.run(names, {name: rows[part] for name, rows in feeds.items()}) for part in slices]
    return [np.concatenate(parts).astype(np.float64) for parts in zip(*found, strict=True)]


def distance(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    """The mean KL divergence of outputs q from p in nats; where they are no classes, the relative squared error.

    Two axes of several columns are logits, or probabilities if the rows of p are. One column between 0 and 1 is the
    probability of one of two classes.
    """
    if p.ndim != 2:
        return float(np.square(p - q).sum() / np.square(p).sum())
    probabilities = p.min() >= 0 and p.max() <= 1
    if p.shape[1] == 1:
        if not probabilities:
            return float(np.square(p - q).sum() / np.square(p).sum())
        p, q = (np.concatenate([x, 1 - x], axis=1) for x in (p, q))
    elif not (probabilities and np.allclose(p.sum(axis=1), 1, atol=1e-3)):
        p, q = (np.exp(x - x.max(axis=1, keepdims=True)) for x in (p, q))
    p, q = (np.maximum(x, 1e-12) / np.maximum(x, 1e-12).sum(axis=1, keepdims=True) for x in (p, q))
    return float((p * np.log(p / q)).sum(axis=1).mean())


def measure(model: Path, calib: Path, inputs: Path, price: float, effort: str) -> dict[str, float]:
    """Compress at a lambda and with an effort, decode, compare."""
    with np.load(inputs) as arrays:
        feeds = {name: arrays[name] for name in arrays.files}
    with tempfile.TemporaryDirectory() as folder:
        packed, rebuilt = Path(folder) / "o.cwb", Path(folder) / "o.onnx"
        start = time.process_time()
        settings = cerwu_onnx.Settings(lambda_=price, effort=effort)
        report = cerwu_onnx.compress(model, packed, calib=str(calib), settings=settings)
        seconds = time.process_time() - start
        cerwu_onnx.decompress(packed, rebuilt)
        pairs = zip(outputs(model, feeds), outputs(rebuilt, feeds), strict=True)
        loss = sum(distance(p, q) for p, q in pairs)
    weights = sum(layer.weights for layer in report.layers)
    return {"lambda": price, "bits": 8 * report.file_bytes / weights, "kl": loss, "seconds": round(seconds, 2)}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(measure(*map(Path, arguments[:3]), float(arguments[3]), arguments[4]) if arguments else digest()))
