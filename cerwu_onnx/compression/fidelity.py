"""Find the price at which a model keeps a share of its answers: judgements, and the search that asks for them.

docs/fidelity.md has the reasons and the figures behind the constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cerwu_onnx.calibration import Answer, answer_of
from cerwu_onnx.calibration.answers import Batches
from cerwu_onnx.types import Float64Array

INFLATION = 2.25
"""Factor of the mean entropy by noise on inputs, geometric mean over both kinds, at which a model's probabilities are
taken at their word: they are about right for networks of 2, and the rest is caution."""

MARGIN, TIMID = 1 / 8, 1.5
"""Powers of the factor over :data:`INFLATION`: by which margins shrink, where it is above 1, and to which it says how
sure answers are, where it is below."""

LEAST_SURE, MOST_SURE = 0.35, 16.0
"""Bounds of what logits are divided by before changed answers count."""

UNMOVED = 1e-3
"""Noise that changes the mean entropy by less than this share of it says nothing: it may not reach what decides."""

THIN = 8
"""Of so many judged samples the share that is lost counts twice, of others the less the more they are."""

SURELY = 0.5**0.5
"""So many standard errors are the margin of a price: one of the mean over two halves. Models that lose what is expected
on average lose more than that half of the time."""

OWN = 0.25
"""Weight of what the half of the samples says that quantised a model, beside the other half (:func:`blended`)."""

FEW, CAREFUL = 16, 1.0
"""Fewer judged samples may see nothing of what is lost: the price is at most this one, per share that may be lost.
A few samples of a rare class, which weigh as much as all others, are few samples, too."""

START = 12.0
"""Price to begin with, per share that may be lost: 0.12 for a fidelity of 99 %."""

TURNS = 5
"""At most so many prices are judged."""

NEAR = 0.5
"""The search ends when the price found is so near, in log2, to the last one that was judged."""

APART = 0.5
"""A judgement that is the root of this away, in log2, counts half as much as one at the very price."""

STRIDE = 4.0
"""Longest step of a search, in log2."""

LEAST, MOST = 1e-5, 256.0
"""No price beyond these is tried."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a quantised model answers on samples that quantising did not see.

    Attributes:
        price: lambda.
        lost: expected share of the score that is lost ("kl", "binary"), or squared error over variance of the worst
            column ("mse", "cosine"); of the output that loses most.
        error: standard error of ``lost``.
        output: name of that output.
        kind: its kind (:mod:`cerwu_onnx.calibration.answers`).
        same: share of its answers that are expected to be the float model's; None for numbers.
        samples: how many samples were judged that quantising did not see.
        telling: as many samples would say as much if each weighed the same; None: all of them. Where the most frequent
            answer and all others weigh half each, and p and 1 - p are their shares of the samples, 4p(1 - p) of them.
        power: what is lost grows with this power of the price: 1/2 where every changed answer counts, however near it
            was to another, because errors grow with the root of the price, and answers change in proportion to them.
    """

    price: float
    lost: float
    error: float
    output: str
    kind: str
    same: float | None
    samples: int
    telling: float | None = None
    power: float = 1.0

    @property
    def weight(self) -> float:
        """The number of samples of equal weight."""
        return max(self.samples if self.telling is None else self.telling, 1.0)

    @property
    def bound(self) -> float:
        """The share that is lost, with a margin for what the samples do not show."""
        return self.with_margin(SURELY)

    def with_margin(self, surely: float) -> float:
        """The same with so many standard errors."""
        return self.lost * (1 + THIN / self.weight) + surely * self.error

    def at(self, price: float) -> float:
        """The share that is lost at another price."""
        return float(max(self.lost, 1e-12) * (price / self.price) ** self.power)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        price: lambda.
        lost: what is expected to be lost there, from the judgements.
        judged: the judgement nearest to it.
    """

    price: float
    lost: float
    judged: Judgement

    @property
    def same(self) -> float | None:
        """Share of the answers that are expected to be the float model's: errors grow with the root of the price."""
        one = self.judged
        return None if one.same is None else max(1 - (1 - one.same) * (self.price / one.price) ** 0.5, 0.0)


def search(judge: Callable[[float, bool], Judgement], limit: float, *, surely: float = SURELY) -> Found:
    """Find the largest price at which no more than ``limit`` is lost.

    What is lost grows about in proportion to the price, or to its root (:attr:`Judgement.power`): each judgement says
    where the limit lies, and those nearest to it count most.

    Args:
        judge: a price, and whether the second half of the samples quantises -> what the other half says.
        limit: share of the score, or squared error over variance.
        surely: so many standard errors of what is lost fit below the limit as well. For a delta none: it keeps most of
            its base's errors, and its base has left a margin.
    """
    judged: list[Judgement] = []
    price = min(max(START * limit, LEAST), MOST)
    for turn in range(TURNS):
        judged.append(judge(price, turn % 2 == 1))
        nearest = _price(judged, limit, surely)
        further = math.log2(nearest / price)
        price *= 2 ** max(-STRIDE, min(STRIDE, further))
        if turn and abs(further) <= NEAR:
            break
    price = min(price, nearest)  # what is said of the file has to hold
    if min(one.weight for one in judged) < FEW:
        price = min(price, max(CAREFUL * limit, LEAST))
    price = float(f"{price:.4g}")
    last = min(judged, key=lambda one: abs(math.log2(one.price / price)))
    return Found(price, _lost(judged, price), last)


def _price(judged: Sequence[Judgement], limit: float, surely: float) -> float:
    """Where the limit lies, by all judgements with their margins."""
    low, high = math.log2(LEAST), math.log2(MOST)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _lost(judged, 2.0**middle, surely) <= limit else (low, middle)
    return min(max(float(2.0**low), LEAST), MOST)


def _lost(judged: Sequence[Judgement], price: float, surely: float | None = None) -> float:
    """What is expected to be lost at a price: the mean over judgements, those nearest to it first.

    With margins of so many standard errors, or without any.
    """
    told = [one for one in judged if math.isfinite(one.lost)] or judged
    weights = [1 / (APART + math.log2(one.price / price) ** 2) for one in told]
    margins = [1 if surely is None or not one.lost else one.with_margin(surely) / one.lost for one in told]
    lost = [one.at(price) * margin for one, margin in zip(told, margins, strict=True)]
    return float(np.average(lost, weights=weights))


def judgement(price: float, name: str, answer: Answer, x: Batches, y: Batches, samples: int) -> Judgement:
    """Judge one output of a quantised model.

    Args:
        price: lambda.
        name: of the output.
        answer: what it answers.
        x: its values in the float model, one array per batch.
        y: the same of the quantised model.
        samples: how many they are.
    """
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a.size]
    scale, same, telling, power, counted = 1.0, None, None, 0.5 if answer.found else 1.0, 0.0
    if answer.chooses:
        turned = [answer.turned(a, b) for a, b in pairs]
        rows = np.concatenate([one.lost for one in turned])[:, None]
        scale = 1 / max(float(np.mean(np.concatenate([answer.certain(a) for a, _ in pairs]))), 1e-6)
        changed = np.minimum(np.concatenate([one.changed for one in turned]), 1.0).mean()
        found = np.minimum(np.concatenate([one.counted_changed for one in turned]), 1.0)
        same = 1 - float(max(changed, _at_least(found[:, None], samples)))
        counted = scale * _at_least(np.concatenate([one.counted_lost for one in turned])[:, None], samples)
        chosen = np.concatenate([answer.chosen(a) for a, _ in pairs])
        if answer.shares is not None and len(chosen) == samples:
            most = float(np.unique(chosen, return_counts=True)[1].max()) / samples
            telling = 4 * samples * most * (1 - most)
    else:
        rows = np.concatenate([answer.losses(a, b) for a, b in pairs])
    per_sample = scale * _by_sample(rows, samples)
    mean = per_sample.mean(axis=0)
    worst = int(mean.argmax())
    lost = max(float(mean[worst]), counted)
    error = _error(per_sample[:, worst]) if np.isfinite(lost) else np.inf
    return Judgement(price, lost, error, name, answer.kind, same, samples, telling, power)


def blended(others: Judgement, own: Judgement) -> Judgement:
    """What a model quantised with all samples loses, by one that is quantised with half of them.

    With n samples, errors on others cost ``c + d / n``, and on the samples themselves ``c - d / n`` (Akaike 1970, for
    least squares: quantising fits its corrections to the samples). So with twice as many they cost three parts of what
    they cost on others, and one part of what they cost on its own.

    Args:
        others: what the samples say that quantising did not see.
        own: what those say that it saw, of the same output.
    """
    kept = None if others.same is None or own.same is None else (1 - OWN) * others.same + OWN * own.same
    error = math.hypot((1 - OWN) * others.error, OWN * own.error)
    return replace(others, lost=(1 - OWN) * others.lost + OWN * own.lost, error=error, same=kept)


def worst(judged: Iterable[Judgement]) -> Judgement:
    """The judgement that sees most of what is lost."""
    return max(judged, key=lambda one: one.bound if np.isfinite(one.bound) else np.inf)


def _at_least(counted: Float64Array, samples: int) -> float:
    """What the count of changed answers says at least: the mean of rows less its standard error."""
    values = _by_sample(counted, samples)[:, 0]
    if not np.isfinite(values).all():
        return np.inf
    return float(values.mean()) - _error(values)


def _error(values: Float64Array) -> float:
    """The standard error of the mean of values, ``(samples,)``."""
    return float(values.std() / max(len(values) - 1, 1) ** 0.5)


def _by_sample(rows: Float64Array, samples: int) -> Float64Array:
    """Means over the rows of each sample, ``(samples, columns)``; rows as they are where these are not so many each."""
    if samples and len(rows) % samples == 0:
        found: Float64Array = rows.reshape(samples, -1, rows.shape[1]).mean(axis=1)
        return found
    return rows


def tempered(
    answers: Mapping[str, Answer], reference: Mapping[str, Batches], noisy: Sequence[Mapping[str, Batches]]
) -> dict[str, Answer]:
    """Answers with the margins and probabilities of fresh data, where they count as far as they are probable.

    A model that is too sure, of what it was trained on or of everything, becomes much less sure by noise on its inputs;
    one whose training ended early hardly does. So the factor of the entropy says what logits are divided by
    before changed answers count. Margins are too wide, too, where a model is too sure, but far less.

    Args:
        answers: by name.
        reference: outputs of the float model.
        noisy: the same with noise of each kind on the inputs.
    """
    found = dict(answers)
    for name, answer in answers.items():
        if answer.weighs:
            plain = max(answer.entropy(reference[name]), 1e-12)
            factors = [max(answer.entropy(outputs[name]), 1e-12) / plain for outputs in noisy]
            if np.allclose(factors, 1, rtol=0, atol=UNMOVED):
                found[name] = replace(answer, temperature=1.0)
                continue
            sure = float(np.exp(np.log(factors).mean())) / INFLATION
            sure = min(max(sure if sure > 1 else sure**TIMID, LEAST_SURE), MOST_SURE)
            found[name] = replace(answer, temperature=max(sure, 1.0) ** MARGIN, sure=sure)
    return found


def moved(answers: Mapping[str, Answer], outputs: Mapping[str, Batches]) -> dict[str, Answer]:
    """What those outputs answer to moved samples whose answers do not count as far as they are probable.

    Margins are what they are there, and errors count by the variance there: a model is surer of what it was trained on
    than of anything else, and varies more. Outputs that are no numbers there say nothing.

    Args:
        answers: by name, as the samples have them.
        outputs: of the float model for the moved samples.
    """
    found = {}
    for name, answer in answers.items():
        if not answer.weighs and all(np.isfinite(array).all() for array in outputs[name]):
            cold = replace(answer, temperature=1.0)
            found[name] = cold if answer.chooses else answer_of(outputs[name], answer.kind)
    return found
