"""Tell whether calibration data can be trusted: is there enough of it, and is it what the model was trained for?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from cerwu_onnx.calibration.collect import open_session, run_session
from cerwu_onnx.calibration.compared import compared_values
from cerwu_onnx.calibration.kinds import answers_of
from cerwu_onnx.calibration.signs import (
    NOTHING_ELSE,
    PIXELS,
    STRANGER,
    Answered,
    Norm,
    Switch,
    asleep,
    norms_of,
    random_numbers,
    switches_of,
)
from cerwu_onnx.calibration.source import Feed, Source, first_feeds, from_everywhere
from cerwu_onnx.errors import CalibrationError, ModelError

FEWEST = 8
"""Fewer different samples say less than no data: the model is quantised as without. So do fewer samples with another
answer than that of most: five windows with a wake word cost a quarter of the words on fresh data, no data one of 32."""

FEW = 32
"""Fewer different samples deserve a warning."""

SAMPLES, BATCH = 64, 8
"""So many samples are looked at, and so many at a time."""

ANSWERED = 256
"""The answers to so many samples are looked at."""


@dataclass(frozen=True, slots=True)
class Doubts:
    """What speaks against calibration data.

    Attributes:
        useless: why the data had better not be used; empty if it may be.
        warnings: what else the user should know.
    """

    useless: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def said(self) -> tuple[str, ...]:
        """What to tell the user: one sentence for each warning, or a single one if the data is not used."""
        if not self.useless:
            return self.warnings
        advice = f"give at least {FEW} different inputs of the kind that the model was trained for"
        return (f"{self.useless}: the model is quantised as without data; {advice}",)


def examine(model: onnx.ModelProto, source: Source, output_loss: str = "auto") -> Doubts:
    """Look at the first samples, and at the signs by which the model tells what it was not trained for.

    Args:
        model: the float model, before its normalisations are folded.
        source: the calibration data.
        output_loss: kinds of outputs, as for :func:`~cerwu_onnx.calibration.kinds.answers_of`.

    Raises:
        CalibrationError: the data does not fit the model.
        UsageError: there is no such output or kind.
    """
    feeds = first_feeds(source, SAMPLES, BATCH)
    seen = sum(source.count(feed) for feed in feeds)
    different = len({digest for feed in feeds for digest in _digests(feed, source.count(feed))})
    if different < FEWEST:
        what = f"{different} different" if seen > different else f"{seen}"
        return Doubts(f"{what} calibration {'sample says' if different == 1 else 'samples say'} less than none")
    few = (f"only {different} different calibration samples: give a hundred or more",) if different < FEW else ()
    try:
        found = _of_model(model, source, feeds, output_loss)
    except (CalibrationError, ModelError):  # who quantises will say so
        return Doubts(warnings=few)
    return found if found.useless else Doubts(warnings=few + found.warnings)


def _of_model(model: onnx.ModelProto, source: Source, feeds: list[dict[str, Any]], output_loss: str) -> Doubts:
    """What the float model says of the data.

    Raises:
        ModelError: onnxruntime cannot load the model.
        CalibrationError: it does not run, or no output holds numbers.
        UsageError: there is no such output or kind.
    """
    norms, switches, outputs = norms_of(model), switches_of(model), compared_values(model)
    signs: list[Norm | Switch] = [*norms, *switches]
    inner = list(dict.fromkeys(sign.value for sign in signs))
    session = open_session(model, list(dict.fromkeys((*inner, *outputs))))
    for feed in feeds:
        found = run_session(session, inner, feed)
        for sign in signs:
            sign.add(found[sign.value])
    stated = [norm.strange() for norm in norms]
    strangers = [strange for strange in stated if strange]
    off = any(stated[:1]) or 2 * len(strangers) >= len(norms)  # one of many may lie deep inside
    if strange := (strangers[0] if strangers and off else "") or asleep(switches):
        return Doubts(strange)

    def answered(feeds: Iterable[Feed]) -> dict[str, Answered]:
        samples, runs = 0, []
        for feed in feeds:
            runs.append(run_session(session, outputs, feed))
            samples += source.count(feed)
        values = {name: [run[name] for run in runs] for name in outputs}
        answers = answers_of(values, model, output_loss)
        return {name: Answered(answer, values[name], samples) for name, answer in answers.items()}

    given = answered(from_everywhere(source, ANSWERED, BATCH))
    told = not norms and any(output.decides() or output.length() < _length(feeds[0]) for output in given.values())
    if told and sum(map(source.count, feeds)) >= FEW and random_numbers(feeds):
        return Doubts(f"{STRANGER}its values look like random numbers")
    warnings = []
    divided = answered(map(_divided, feeds)) if any(map(_is_float, feeds[0].values())) else {}
    for name, output in given.items():
        said, share = output.one_sided()
        if share >= NOTHING_ELSE or (said and output.others() < FEWEST):
            return Doubts(f"{said}, which say nothing of its other answers")
        if said:
            warnings.append(f"{said}, which say little of its other answers: give as many samples of each kind")
        elif strange := output.strange(divided.get(name)):
            return Doubts(strange)
        elif unknown := output.unknown():
            warnings.append(unknown)
    return Doubts(warnings=tuple(warnings))


def _divided(feed: Feed) -> dict[str, Any]:
    """A feed with its inputs of floating-point numbers divided by :data:`PIXELS`."""
    return {
        name: (value / PIXELS).astype(value.dtype) if _is_float(value) else value
        for name, value in ((name, np.asarray(value)) for name, value in feed.items())
    }


def _length(feed: Feed) -> float:
    """How many values a sample has in those of its inputs that are pictures or series; 0 if none is."""
    arrays = map(np.asarray, feed.values())
    return sum(array.size / len(array) for array in arrays if array.ndim > 2)


def _is_float(value: Any) -> bool:
    return np.asarray(value).dtype.kind == "f"


def _digests(feed: Mapping[str, Any], samples: int) -> list[bytes]:
    """One digest of each sample, or one of the feed where it cannot be divided into samples."""
    arrays = [_comparable(value) for value in feed.values()]
    if samples < 2 or any(not array.ndim or len(array) != samples for array in arrays):
        return [hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()]
    return [hashlib.sha256(b"".join(array[i].tobytes() for array in arrays)).digest() for i in range(samples)]


def _comparable(value: Any) -> npt.NDArray[Any]:
    """An array that has the same bytes wherever its values are equal: no negative zeros, no references to text."""
    array = np.ascontiguousarray(value)
    if array.dtype.kind == "O":
        return array.astype(str)
    return np.where(array == 0, np.zeros((), array.dtype), array) if array.dtype.kind == "f" else array
