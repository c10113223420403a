"""Where the processor time of a default compression goes, in forward passes: ``python -m tests.bench profile``.

Each model is compressed in a process of its own, on one thread, with no option but the calibration data. In the same
process onnxruntime runs the float model once over the same samples; that is the unit. Functions of the package are
wrapped from outside: those of :data:`STAGES` say what for, those of :data:`WORK` what is done. Time counts for the
innermost one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from . import encoder, nets
from .efficient import smooth_images
from .models import BenchModel

PASSES, PER_WEIGHT = 20, 2e-6
"""The goal: so many forward passes, and so many seconds for each weight."""

LEAST = 1_000_000
"""Multiply-adds per sample from which on the goal holds."""

BATCH = 16
"""Samples in a run of the forward pass."""

REST = "rest"
"""What no wrapped function takes."""

STAGES = {
    "trust": ["calibration.trust.examine"],
    "gradients": ["calibration.fisher.row_fishers"],
    "noise": ["calibration.curvature.sensitivities", "calibration.sensitivity.OutputLoss.__init__"],
    "answers": ["compression.halves.Halves.__init__"],
    "judged": ["compression.walk_quantizer.WalkQuantizer.judge"],
    "file": ["compression.model_quantizer.ModelQuantizer.at_each"],
    "encode": ["compression.encode.encode"],
}
"""What for."""

WORK = {
    "runs": ["calibration.collect.run_session"],
    "sessions": ["model.sessions.new_session", "calibration.segments.Nodes.submodel"],
    "adjoint": ["calibration.adjoint.backward.adjoint", "calibration.adjoint.halves.halves"],
    "products": ["calibration.fisher._products", "calibration.fisher._one_batch"],
    "Hessians": ["calibration.sums.Sums.add"],
    "damping": ["quantize.crossval.feedback_damping", "quantize.crossval.repair_damping", "quantize.rows.rows_of"],
    "trellis": ["quantize.trellis.trellis_obs"],
    "layers": ["compression.layer_walk._layer"],
}
"""What is done."""

NETS: dict[str, tuple[Callable[[], onnx.ModelProto], Callable[[], np.ndarray]]] = {
    "sound": (nets.sound_model, lambda: nets.spectrograms(32)),
    "faces": (nets.face_model, lambda: nets.pictures(64)),
    "photos": (nets.photo_model, lambda: smooth_images(128)),
    "encoder": (encoder.make_model, lambda: encoder.token_ids(32)),
}
"""Networks of random weights, and their samples."""


def run(models: Sequence[BenchModel], names: Sequence[str], console: Console) -> None:
    """Print three tables: the goal, stages, work.

    Args:
        models: of folders.
        names: of :data:`NETS`.
        console: where to.
    """
    rows = []
    for model in models:
        rows.append(_in_child(model.name, model.onnx, model.calib))
    for name in names:
        with tempfile.TemporaryDirectory(prefix="cerwu-profile-") as folder:
            path, calib = Path(folder) / "model.onnx", Path(folder) / "calib.npz"
            model = NETS[name][0]()
            onnx.save(model, path)
            np.savez(calib, **{model.graph.input[0].name: NETS[name][1]()})
            rows.append(_in_child(name, path, calib))
    goal = ["model", "weights", "MMAC", "samples", "one pass, s", "CPU s", "passes", "allowed", "share", "bytes"]
    table = Table(*goal, title="One compression by default", box=None)
    for row in rows:
        allowed = PASSES + PER_WEIGHT * row["weights"] / row["pass"]
        table.add_row(
            row["name"],
            f"{row['weights']:,}",
            f"{row['multiply_adds'] / 1e6:.1f}",
            str(row["samples"]),
            f"{row['pass']:.3f}",
            f"{row['total']:.2f}",
            f"{row['total'] / row['pass']:.1f}",
            f"{allowed:.1f}" if row["multiply_adds"] > LEAST else "-",
            f"{row['total'] / row['pass'] / allowed:.2f}" if row["multiply_adds"] > LEAST else "-",
            f"{row['bytes']:,} ({row['kept']})",
        )
    console.print(table)
    for title, kinds in (("What for", STAGES), ("What is done", WORK)):
        table = Table("model", *kinds, REST, title=f"{title}, in forward passes", box=None)
        for row in rows:
            shares = row[title]
            table.add_row(row["name"], *(f"{shares.get(kind, 0) / row['pass']:.1f}" for kind in (*kinds, REST)))
        console.print(table)


class Timer:
    """Processor seconds by pairs of stage and work, of which the innermost counts."""

    def __init__(self) -> None:
        self.seconds: Counter[tuple[str, str]] = Counter()
        self._stages, self._works = [REST], [REST]
        self._since = time.process_time()

    @contextmanager
    def inside(self, stacks: str, name: str) -> Iterator[None]:
        """Count a ``with`` block for a stage or for work."""
        self.tick()
        stack = self._stages if stacks == "stage" else self._works
        stack.append(name)
        try:
            yield
        finally:
            self.tick()
            stack.pop()

    def tick(self) -> None:
        """Count the time since the last tick."""
        now = time.process_time()
        self.seconds[self._stages[-1], self._works[-1]] += now - self._since
        self._since = now

    def wrap(self, kinds: Mapping[str, Sequence[str]], stack: str) -> None:
        """Wrap functions and methods of the package wherever a module has them."""
        for name, places in kinds.items():
            for place in places:
                self._wrap(place, stack, name)

    def _wrap(self, place: str, stack: str, name: str) -> None:
        path, last = place.rsplit(".", 1)
        if f"cerwu_onnx.{path}" not in sys.modules:
            path, owner = path.rsplit(".", 1)
            holder = getattr(sys.modules[f"cerwu_onnx.{path}"], owner)
            setattr(holder, last, self._wrapped(getattr(holder, last), stack, name))
            return
        function = getattr(sys.modules[f"cerwu_onnx.{path}"], last)
        wrapped = self._wrapped(function, stack, name)
        for other in [found for key, found in sys.modules.items() if key.startswith("cerwu_onnx")]:
            for attribute, value in list(vars(other).items()):
                if value is function:
                    setattr(other, attribute, wrapped)

    def _wrapped(self, function: Callable[..., Any], stack: str, name: str) -> Callable[..., Any]:
        @wraps(function)
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            with self.inside(stack, name):
                return function(*arguments, **keywords)

        return wrapped


def _in_child(name: str, path: Path, calib: Path) -> dict[str, Any]:
    """What :func:`_measure` gives in a process of its own, on one thread."""
    command = [sys.executable, "-m", "tests.bench.passes", str(path), str(calib)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    return {"name": name, **json.loads(done.stdout.splitlines()[-1])}


def _measure(path: Path, calib: Path) -> dict[str, Any]:
    """Run the float model and compress it."""
    from cerwu_onnx.calibration import open_data
    from cerwu_onnx.compression.pipeline import compress
    from cerwu_onnx.inference.layers import multiply_adds

    model = onnx.load(path)
    source = open_data(str(calib), model)
    one = _pass_seconds(path, source)
    timer = Timer()
    timer.wrap(STAGES, "stage")
    timer.wrap(WORK, "work")
    with tempfile.TemporaryDirectory() as folder:
        timer.tick()
        timer.seconds.clear()
        report = compress(path, Path(folder) / "o.cwb", calib=str(calib), jobs=1)
        timer.tick()
    found: dict[str, Any] = {"What for": Counter(), "What is done": Counter()}
    for (stage, work), seconds in timer.seconds.items():
        found["What for"][stage] += seconds
        found["What is done"][work] += seconds
    first = source.first()
    for value in model.graph.input:  # multiply-adds are those of one sample
        if value.name in first:
            for dim, size in zip(value.type.tensor_type.shape.dim, first[value.name].shape, strict=True):
                dim.dim_value = size
    return {
        "pass": (one + _pass_seconds(path, source)) / 2,
        "total": sum(timer.seconds.values()),
        "weights": report.weights,
        "samples": report.calibration_samples,
        "multiply_adds": multiply_adds(model),
        "bytes": report.file_bytes,
        "kept": "-" if report.fidelity is None else f"{100 * report.fidelity.kept:.2f} %",
        **found,
    }


def _pass_seconds(path: Path, source: Any) -> float:
    """Processor seconds of one pass over all samples, the mean of several if that is short."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    session.run(None, next(iter(source.batches(BATCH))))
    start, passes = time.process_time(), 0
    while not passes or time.process_time() - start < 0.3:
        for feed in source.batches(BATCH):
            session.run(None, feed)
        passes += 1
    return (time.process_time() - start) / passes


if __name__ == "__main__":
    print(json.dumps(_measure(Path(sys.argv[1]), Path(sys.argv[2]))))
