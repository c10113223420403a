"""Signs by which a float model tells data that it was not trained for.

What its first BatchNormalization nodes have stored; whether its first units move with the data at all; and its
answers, where it has a class or a decision for each sample. Random numbers tell themselves. docs/fidelity.md has the
figures behind the constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from cerwu_onnx.calibration.answers import Answer, Batches
from cerwu_onnx.model.elements import floats_of
from cerwu_onnx.model.tensors import attributes_of, constant_tensors
from cerwu_onnx.types import Float64Array

FIRST = 4
"""So many nodes of a kind, from the input on, are looked at."""

SHIFT, SPREAD = 0.4, 1.0
"""Largest mean square of the shift of channels, in standard deviations, and largest median of the logarithm of their
variance over the one that training saw. Honest data of three networks gave at most 0.04 and 0.4, of 64 samples; twice
the scale 0.8 and 1.2, a shift by one standard deviation of the input 0.4 and 0.2."""

MOVES, AWAKE = 0.5, 0.4
"""A unit moves with the data if its values differ by this share of the largest of them; and the least share of units
that do. Honest data of 35 networks gave 0.64 and more, 1/255 of its scale 0 to 0.28, and 0.63 once. (Units that are on
for one sample and off for another are as few as 0.21 of honest data: others are always on, or never.)"""

ALIKE, NOTHING_ELSE = 0.95, 0.99
"""The share of samples with the same answer that deserves a warning, and the one from which the others say nothing: a
file that loses them all would still keep 99 %."""

OFTEN, HARDLY, MISSING = 16, 8, 0.25
"""Of so many samples for each class, on average, it is no chance that this share of the classes is the answer to fewer
than an eighth of what it would be if all were as frequent."""

ALONE = 1.5
"""As many samples of equal weight would vary as much: if they are fewer, one has four fifths of the variance. Normal
numbers have a third of their samples, numbers whose logarithms vary by 1 some 13 of 256, by 3 two."""

SUREST = 40.0
"""Largest median of the nats by which an answer is ahead of the next. Honest data of nine networks gave 4 to 13, and
255 times its scale 56 to 900 with those that are not recurrent."""

PIXELS, CLEARER = 255.0, 4.0
"""Data that was not divided by this number is the commonest mistake; it was made if dividing makes the mean entropy of
answers so many times smaller. Recurrent networks, which saturate, gave 8 and 12; honest data less than 1."""

PAIRS, VALUES = 128, 4096
"""So many pairs of neighbours, at least, tell random numbers from others; so many values of a sample are looked at."""

RANDOM = 1.4
"""What random numbers stay below: the mean square correlation of neighbours, and the variance of the means of values,
both over what chance gives. Of 64 samples of noise both are 1 +- 0.1; eight sets of honest data gave 2.0 and 3.3 at
least."""

STRANGER = "the calibration data is not what the model was trained on: "


@dataclass(slots=True)
class Norm:
    """What a BatchNormalization node has stored, and what the data gives in front of it.

    Attributes:
        name: what messages call the node.
        value: name of its input.
        mean, variance: ``(channels,)`` that it has stored, epsilon included.
    """

    name: str
    value: str
    mean: Float64Array
    variance: Float64Array
    _moments: list[Any] = field(default_factory=lambda: [0, 0.0, 0.0])

    def add(self, array: npt.NDArray[Any]) -> None:
        """Look at some samples, ``(samples, channels, any)``."""
        if array.ndim < 2:
            return
        apart = np.moveaxis(np.asarray(array, np.float64), 1, -1) - self.mean
        axes = tuple(range(array.ndim - 1))
        for index, more in enumerate((apart.size // len(self.mean), apart.sum(axes), np.square(apart).sum(axes))):
            self._moments[index] += more

    def strange(self) -> str:
        """How far the data is from what was stored; empty if it is near enough."""
        count, first, second = self._moments
        if count < 2:
            return ""
        tiny = float(np.finfo(np.float64).tiny)
        shift = float(np.mean(np.square(first / count) / np.maximum(self.variance, tiny)))
        own = np.maximum(second / count - np.square(first / count), tiny)
        spread = float(np.median(np.abs(np.log(own / np.maximum(self.variance, tiny)))))
        if shift <= SHIFT and spread <= SPREAD:
            return ""
        return (
            f"{STRANGER}in front of {self.name!r} its mean is off by {shift**0.5:.2g} standard deviations and its "
            f"variance by a factor of {np.exp(min(spread, 99.0)):.2g} (another scale, or another order of channels?)"
        )


def norms_of(model: onnx.ModelProto) -> list[Norm]:
    """The first BatchNormalization nodes whose statistics are constants."""
    constants, found = constant_tensors(model), []
    nodes = [node for node in model.graph.node if node.op_type == "BatchNormalization" and not node.domain]
    nodes = [node for node in nodes if set(node.input[3:5]) <= constants.keys() and node.input[0] not in constants]
    for node in nodes[:FIRST]:
        mean, variance = (floats_of(constants[name]).astype(np.float64) for name in node.input[3:5])
        epsilon = float(attributes_of(node).get("epsilon", 1e-5))
        found.append(Norm(node.name or node.op_type, node.input[0], mean, variance + epsilon))
    return found


@dataclass(slots=True)
class Switch:
    """The units in front of a ReLU: the least and the largest value that the data gives to each.

    Attributes:
        value: name of its input.
    """

    value: str
    _range: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None

    def add(self, array: npt.NDArray[Any]) -> None:
        """Look at some samples, ``(samples, any)``."""
        if not array.ndim or not len(array):
            return
        low, high = array.min(axis=0), array.max(axis=0)
        if self._range is not None and self._range[0].shape == low.shape:
            low, high = np.minimum(low, self._range[0]), np.maximum(high, self._range[1])
        self._range = low, high

    def share(self) -> float:
        """The share of units that move with the data, of those that vary at all."""
        if self._range is None:
            return 1.0
        low, high = self._range
        varies = high > low
        moves = high - low >= MOVES * np.maximum(np.abs(low), np.abs(high))
        return float(moves[varies].mean()) if varies.any() else 1.0


def switches_of(model: onnx.ModelProto) -> list[Switch]:
    """The first ReLUs whose inputs are no constants."""
    constants = constant_tensors(model)
    nodes = (node for node in model.graph.node if node.op_type in ("Relu", "LeakyRelu", "PRelu") and not node.domain)
    return [Switch(node.input[0]) for node in nodes if node.input[0] not in constants][:FIRST]


def asleep(switches: list[Switch]) -> str:
    """A network whose units hardly move is linear on the data, which it was not made for; empty if they do."""
    share = float(np.mean([switch.share() for switch in switches] or [1.0]))
    if share >= AWAKE:
        return ""
    return f"{STRANGER}it moves only {100 * share:.2g} % of the first units (another scale?)"


@dataclass(frozen=True, slots=True)
class Answered:
    """What an output answers to some samples.

    Attributes:
        answer: its kind.
        values: in the float model, one array per batch.
        samples: how many samples have these values.
    """

    answer: Answer
    values: Batches
    samples: int

    def most(self) -> tuple[int, float]:
        """The most frequent answer and its share; a share of 0 if the output has not one answer for each sample."""
        found = [self.answer.chosen(array) for array in self.values if array.size]
        chosen = np.concatenate([array for array in found if array is not None] or [np.zeros(0, np.int64)])
        if not len(chosen) or len(chosen) != self.samples or (chosen < 0).any():
            return 0, 0.0
        counts = np.bincount(chosen)
        return int(counts.argmax()), float(counts.max() / len(chosen))

    def decides(self) -> bool:
        """Whether these are classes or decisions."""
        return self.answer.kind in ("kl", "binary")

    def length(self) -> float:
        """How many values a sample has."""
        return sum(array.size for array in self.values) / self.samples

    def others(self) -> int:
        """How many samples get another answer than the most frequent one."""
        return round(self.samples * (1 - self.most()[1]))

    def one_sided(self) -> tuple[str, float]:
        """What most samples get, in words, and their share; words are empty below :data:`ALIKE`."""
        most, share = self.most()
        if share < ALIKE:
            return "", share
        what = f"class {most}" if self.answer.kind == "kl" else ("no", "yes")[most]
        return (
            f"the model answers {what} for {100 * share:.3g} % of {self.samples} calibration samples",
            share,
        )

    def unknown(self) -> str:
        """What the samples leave open, and what to do; empty if they are enough.

        Classes that are rare among them, or numbers of which one sample decides.
        """
        if self.answer.kind == "mse":
            if self.answer.alike(self.values) >= ALONE:
                return ""
            return (
                f"one of {self.samples} calibration samples holds most of what an output varies by, so that the others "
                "say little: give more, without outliers"
            )
        rare, classes = self._rare()
        if self.samples < OFTEN * classes or rare < max(MISSING * classes, 2):
            return ""
        return (
            f"{rare} of the model's {classes} classes are hardly ever the answer to {self.samples} calibration "
            "samples, which say little of them: give as many samples of each kind"
        )

    def _rare(self) -> tuple[int, int]:
        """How many classes are hardly ever the answer, and of how many; none of none if samples have no class."""
        if self.answer.kind != "kl" or not self.most()[1]:
            return 0, 0
        classes = self.values[0].shape[self.answer.axis]
        found = [self.answer.chosen(array) for array in self.values if array.size]
        counts = np.bincount(np.concatenate([rows for rows in found if rows is not None]), minlength=classes)
        return int((counts * HARDLY * classes < self.samples).sum()), classes

    def strange(self, divided: Answered | None) -> str:
        """Why the data is not what the model was trained on; empty if it may be.

        Args:
            divided: what is answered to samples divided by :data:`PIXELS`; None if they cannot be.
        """
        classes = self.answer.kind == "kl" and self.most()[1] > 0
        if classes and (ahead := self.answer.ahead(self.values)) > SUREST:
            return f"{STRANGER}each answer is {ahead:.0f} nats ahead of the next (another scale?)"
        if divided is None or divided.answer.kind != "kl" or not 0 < divided.most()[1] < ALIKE:
            return ""
        if self.answer.kind == "mse" or (
            classes and self.answer.entropy(self.values) > CLEARER * divided.answer.entropy(divided.values)
        ):
            return f"{STRANGER}the model gives far clearer answers to the same data divided by {PIXELS:g}"
        return ""


def random_numbers(feeds: Sequence[Mapping[str, Any]]) -> bool:
    """Whether samples look like random numbers: no value goes with its neighbours, and all vary about one mean.

    Args:
        feeds: samples, along the first axis of each input. Inputs of 32-bit and 64-bit integers are left out: indices
            of tokens may well be as different from their neighbours.
    """
    found = []
    for name in feeds[0]:
        arrays = [np.asarray(feed[name]) for feed in feeds]
        if arrays[0].ndim and arrays[0].dtype.kind in "fu" and len({array.shape[1:] for array in arrays}) == 1:
            found.append(_is_random(np.concatenate(arrays)))
    told = [answer for answer in found if answer is not None]
    return bool(told) and all(told)


def _is_random(array: npt.NDArray[Any]) -> bool | None:
    """Whether ``(samples, any)`` look random; None if there is too little of them to tell."""
    row = array.shape[-1] if array.ndim > 2 else 1
    values = array.reshape(len(array), -1)[:, :VALUES].astype(np.float64)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    varies = deviation > 0
    normal = (values - mean) / np.where(varies, deviation, 1)
    for lag in {1, row}:
        square = np.square(np.mean(normal[:, lag:] * normal[:, :-lag], axis=0))[varies[lag:] & varies[:-lag]]
        if len(square) < PAIRS:
            return None
        if square.mean() * (len(array) - 1) > RANDOM:
            return False
    return bool(mean[varies].var() <= RANDOM * np.square(deviation[varies]).mean() / len(array))
