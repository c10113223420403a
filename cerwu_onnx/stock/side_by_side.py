"""Size, score and speed of several forms of one model, measured side by side in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from cerwu_onnx.calibration import Source
from cerwu_onnx.calibration.collect import run_session
from cerwu_onnx.calibration.output_errors import OutputError, errors_between
from cerwu_onnx.evaluate.metrics import Scorer
from cerwu_onnx.jobs.inputs import own_files
from cerwu_onnx.model.sessions import new_session

ROUNDS, SECONDS = 200, 3.0
"""Each form runs at most so often, and no more once all have taken so long together."""

BATCH = 64
"""Samples per run where outputs are compared."""

WARM = 3
"""First runs, which do not count."""

SLOWER = 0.95
"""Below this speed relative to the float model a form is called slower."""


KEPT, MOST_ERROR = 0.95, 0.1
"""A form hurts the model if fewer answers stay the same or, where outputs are no answers, if their relative error is
larger."""

FOLD = ("session.disable_quant_qdq", "1")
"""The entry of a session's configuration with which onnxruntime makes floats of integer weights once, when it loads
them, and not in each run."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A form to measure: its name, the model, and whether integer weights become floats when it is loaded."""

    name: str
    model: onnx.ModelProto
    folds: bool = False

    def session(self) -> ort.InferenceSession:
        """A session of it."""
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if self.folds:
            options.add_session_config_entry(*FOLD)
        return new_session(self.model, options)


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the model.

    Attributes:
        name: "float", "int8 weights", "int8 weights, folded", "QDQ".
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
    def hurts(self) -> str:
        """What it does to the answers of the model, in words; empty if it leaves most of them alone."""
        kept = self.error.agreement
        if kept is not None:
            return f"only {100 * kept:.3g} % of the answers stay the same" if kept < KEPT else ""
        return f"its outputs are off by {100 * self.error.relative:.3g} %" if self.error.relative > MOST_ERROR else ""

    @property
    def is_slower(self) -> bool:
        """Whether it runs slower than the float model."""
        return self.speed < SLOWER


def side_by_side(candidates: Sequence[Candidate], source: Source, scorer: Scorer | None, folder: Path) -> list[Form]:
    """Measure forms of a model, the first of which is the float model.

    Args:
        candidates: the forms.
        source: samples to run.
        scorer: the user's metric.
        folder: where ONNX files may be written.

    Raises:
        ModelError: onnxruntime cannot load a form.
        CalibrationError: the data does not fit, or the metric fails.
    """
    sessions = {candidate.name: candidate.session() for candidate in candidates}
    first = next(iter(sessions.values()))
    names = [output.name for output in first.get_outputs()]
    feed = next(source.batches(1))
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
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
    for candidate in candidates:
        name, errors = candidate.name, errors_between(first, sessions[candidate.name], source.batches(BATCH))
        path = folder / "form.onnx"
        path.write_bytes(candidate.model.SerializeToString(deterministic=True))
        with own_files():
            score = None if scorer is None else scorer(path)
        found.append(
            Form(
                name,
                path.stat().st_size,
                reference / usual[name],
                max(errors, key=lambda error: np.nan_to_num(error.relative, nan=np.inf)),
                score,
            )
        )
    return found


__all__ = ["FOLD", "Candidate", "Form", "side_by_side"]
