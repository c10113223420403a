"""Size, score and speed of several forms of one model, measured side by side in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from cerwu_onnx.calibration import Source
from cerwu_onnx.calibration.collect import run_session
from cerwu_onnx.calibration.output_errors import OutputError, errors_between
from cerwu_onnx.evaluate.metrics import Scorer
from cerwu_onnx.model.sessions import new_session

ROUNDS, SECONDS = 200, 3.0
"""Each form runs at most so often, and no more once all have taken so long together."""

BATCH = 64
"""Samples per run where outputs are compared."""

WARM = 3
"""First runs, which do not count."""

SLOWER = 0.95
"""Below this speed relative to the float model a form is called slower."""


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the model.

    Attributes:
        name: "float", "int8 weights", "QDQ".
        file_bytes: of its ONNX file.
        speed: runs per second relative to the float model, for one sample at a time.
        error: what its outputs differ by from those of the float model, of the output that differs most.
        score: by the user's metric; None without one.
    """

    name: str
    file_bytes: int
    speed: float
    error: OutputError
    score: float | None = None

    @property
    def is_slower(self) -> bool:
        """Whether it runs slower than the float model."""
        return self.speed < SLOWER


def side_by_side(
    models: Mapping[str, onnx.ModelProto], source: Source, scorer: Scorer | None, folder: Path
) -> list[Form]:
    """Measure forms of a model, the first of which is the float model.

    Args:
        models: by name.
        source: samples to run.
        scorer: the user's metric.
        folder: where ONNX files may be written.

    Raises:
        ModelError: onnxruntime cannot load a form.
        CalibrationError: the data does not fit, or the metric fails.
    """
    sessions = {name: new_session(model) for name, model in models.items()}
    first = next(iter(sessions.values()))
    names = [output.name for output in first.get_outputs()]
    feed = next(source.batches(1))
    seconds: dict[str, list[float]] = {name: [] for name in models}
    begin = time.perf_counter()
    for turn in range(WARM + ROUNDS):
        for name, session in sessions.items():
            start = time.perf_counter()
            run_session(session, names, feed)
            if turn >= WARM:
                seconds[name].append(time.perf_counter() - start)
        if turn > WARM and time.perf_counter() - begin > SECONDS:
            break
    usual = {name: statistics.median(taken) for name, taken in seconds.items()}
    reference = next(iter(usual.values()))
    found = []
    for name, session in sessions.items():
        errors = errors_between(first, session, source.batches(BATCH))
        path = folder / "form.onnx"
        path.write_bytes(models[name].SerializeToString(deterministic=True))
        found.append(
            Form(
                name,
                path.stat().st_size,
                reference / usual[name],
                max(errors, key=lambda error: np.nan_to_num(error.relative, nan=np.inf)),
                None if scorer is None else scorer(path),
            )
        )
    return found


__all__ = ["Form", "side_by_side"]
