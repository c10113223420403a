"""The report of a compression as data: the command line shows it, and ``to_dict`` makes the JSON of ``--json``."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from cerwu_onnx.types import Kept

SCHEMA = 1
"""Version of the JSON layout; it grows when a key changes its meaning."""


@dataclass(frozen=True, slots=True)
class Point:
    """One file that a search has tried.

    Attributes:
        lambda_: the price of rate.
        file_bytes: size of the file.
        bits_per_weight: bits per weight over all quantised weights.
        score: score by the metric; None where it was not measured.
        low: score that the model surely has, with the target's confidence; None for metrics without confidence.
    """

    lambda_: float
    file_bytes: int
    bits_per_weight: float
    score: float | None = None
    low: float | None = None


_NUMBERED = re.compile(r"(onnx::\w+_|val_)?\d+")
"""Names that exporters give to tensors that have none: ``onnx::Conv_57``."""


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One quantised weight.

    Attributes:
        name: tensor name.
        op: operator that uses it.
        shape: tensor shape.
        weights: number of elements.
        coder: "ans" or "adaptive"; in a delta also "changed" or "unchanged".
        coded_bytes: frequency table, coded words, step and table bounds.
        bits_per_weight: ``8 * coded_bytes / weights``.
        entropy: ideal order-0 entropy of the symbols, bits per weight, no table counted.
        step: grid step.
        symbols: number of different symbols that occur.
        relative_error: ``D / E``, squared output error over output energy (undamped calibration Hessian).
        damping: relative damping used by the method.
        above_bound: ``bits_per_weight`` minus the Gaussian rate-distortion function of the weights at their distortion
            (:func:`~cerwu_onnx.quantize.bound.gaussian_rate`); -inf for weights reproduced without error, None where
            it was not computed.
        output_loss: loss at the model's outputs that its error alone would cause: its sensitivity times its distortion,
            in units of the report's ``output_loss``. Those of several layers do not add up to it. None where it was not
            measured.
        loss_share: share of its ``output_loss`` in the sum over all layers.
        blocks: number of blocks of columns in which its Hessians were kept; 1 unless they were too large for the
            memory.
        node: name of the first node that reads it; empty where the file does not tell.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    weights: int
    coder: str
    coded_bytes: int
    bits_per_weight: float
    entropy: float
    step: float
    symbols: int
    relative_error: float
    damping: float
    above_bound: float | None = None
    output_loss: float | None = None
    loss_share: float | None = None
    blocks: int = 1
    node: str = ""

    def called(self) -> str:
        """What people call the layer: the tensor's name, or the node's if an exporter has but numbered the tensor."""
        return self.node if self.node and _NUMBERED.fullmatch(self.name) else self.name


@dataclass(frozen=True, slots=True)
class ParameterReport:
    """One bias or normalisation parameter that is coded; it does not count as a weight.

    Attributes:
        name: tensor name.
        layer: the weight whose outputs it acts on.
        shape: tensor shape.
        coder: "ans" or "adaptive".
        coded_bytes: as in :class:`LayerReport`.
        step: grid step.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    coder: str
    coded_bytes: int
    step: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of both models.

    Attributes:
        metric: name of the metric.
        float_score: score of the float model.
        score: score of the compressed model.
        low: score that the compressed model surely has, with this confidence, from the samples on which the two models
            answer differently; None for metrics that do not count right answers.
        confidence: the target's confidence, one-sided.
        samples: number of samples that the metric saw; None where it does not tell.
    """

    metric: str
    float_score: float
    score: float
    low: float | None = None
    confidence: float | None = None
    samples: int | None = None

    @property
    def drop(self) -> float:
        """Share of the float score that was lost; negative if the compressed model is better."""
        lost = self.float_score - self.score
        return lost / abs(self.float_score) if self.float_score else float(lost > 0)

    @property
    def largest_drop(self) -> float | None:
        """The largest share of the float score that is lost, with the confidence; None if ``low`` is None."""
        return None if self.low is None else (self.float_score - self.low) / abs(self.float_score)

    def surely(self) -> str:
        """The sure part of the loss in words; empty if there is none."""
        if self.largest_drop is None or self.confidence is None:
            return ""
        return (
            f"by at most {100 * self.largest_drop:.3g} % with {100 * self.confidence:g} % confidence "
            f"({self.samples:,} samples)"
        )


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What the compressed model is expected to keep on fresh data: judged on samples that quantising did not see.

    Attributes:
        asked: share of the float model's answers to keep; None where a size was asked for.
        kept: share that is expected to be kept: of the expected score, for classes and decisions; of the output's
            variance, for numbers and directions.
        error: standard error of ``kept``.
        kind: "kl", "binary", "mse" or "cosine" (:mod:`cerwu_onnx.calibration.answers`), of the output that loses most.
        output: name of that output.
        same: share of the answers that are expected to be the float model's; None for numbers.
        samples: number of judged samples.
    """

    asked: float | None
    kept: float
    error: float
    kind: str
    output: str
    same: float | None
    samples: int

    @property
    def headline(self) -> str:
        """What is expected, in words."""
        figure, meaning, judged = self.told()
        return f"{figure} {meaning}, {judged}" if self.same is None else f"{figure} {meaning} ({judged})"

    def told(self) -> tuple[str, str, str]:
        """The figure of the headline, what it is a share of, and what it was judged by."""
        samples = f"{self.samples:,} held-out samples"
        if self.same is None:
            error = f"{100 * max(1 - self.kept, 0.0) ** 0.5:.2g} %"
            return error, "of the output's standard deviation", f"on {samples}"
        same = f"same answer on {100 * self.same:.1f} %, by {samples}"
        return f"{100 * self.kept:.1f} %", "of the float model's", same

    @property
    def title(self) -> str:
        """What :attr:`headline` is about."""
        return "expected error" if self.same is None else "expected score"


@dataclass(frozen=True, slots=True)
class Delta:
    """The file is a delta: it says how the tensors of another one, its base, change.

    Attributes:
        base: what ``inspect`` calls the base: CRC and size of its tensors.
        unchanged: number of tensors that are the base's.
        changed: number of tensors that differ from the base's by changes.
        anew: number of tensors that the delta holds as a file of its own would.
        full_bytes: estimate of what a file of its own would take.
    """

    base: str
    unchanged: int
    changed: int
    anew: int
    full_bytes: int

    @property
    def headline(self) -> str:
        """What it takes from which base, in words."""
        kinds = f"{self.unchanged} tensors unchanged, {self.changed} changed, {self.anew} anew"
        return f"{self.base}: {kinds}; without a base about {self.full_bytes:,} bytes"


@dataclass(frozen=True, slots=True)
class Report:
    """A whole compression.

    Attributes:
        model_bytes: size of the ONNX file.
        file_bytes: size of the .cwb file.
        method: name of the method.
        lambda_: price of rate.
        levels: grid size; None for methods whose steps follow from lambda.
        calibration: "data" or "none" (identity Hessians).
        calibration_samples: samples seen (0 without data).
        output_loss: KL divergence (nats) or relative squared error at the outputs, on the calibration data; None where
            it was not measured.
        folded: names of the folded BatchNormalization nodes.
        layers: the quantised weights.
        parameters: the float parameters (biases, BatchNormalization) that are coded.
        kept: tensors that stay exact, with reasons.
        other_bytes: the rest of the file by kind: "exact tensors", "float parameters" (coded), "graph", "metadata",
            "directory" (header, names, shapes, sizes, CRCs).
        warnings: every warning logged on the way.
        seconds: wall time by stage.
        search: the files that were tried to meet a target, in order.
        scores: scores by the metric; None without one.
        fidelity: what is expected on fresh data; None where it was not judged.
        missed: one sentence for each target or limit of accuracy that the file misses.
        delta: what the file takes from its base; None for a file of its own.
        array_error: for a file of arrays, the largest relative error (root mean square) asked of each; None for models,
            and where a price or a target decides.
    """

    model_bytes: int
    file_bytes: int
    method: str
    lambda_: float
    levels: int | None
    calibration: str
    calibration_samples: int
    output_loss: float | None
    folded: tuple[str, ...]
    layers: tuple[LayerReport, ...]
    parameters: tuple[ParameterReport, ...]
    kept: tuple[Kept, ...]
    other_bytes: dict[str, int]
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    search: tuple[Point, ...] = ()
    scores: Scores | None = None
    fidelity: Fidelity | None = None
    missed: tuple[str, ...] = ()
    delta: Delta | None = None
    array_error: float | None = None

    @property
    def weights(self) -> int:
        """Number of quantised weights."""
        return sum(layer.weights for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Coded bytes of all quantised weights with their steps and tables."""
        return sum(layer.coded_bytes for layer in self.layers)

    @property
    def bits_per_weight(self) -> float:
        """Coded bits per quantised weight; 0 if nothing was quantised."""
        return 8 * self.weight_bytes / self.weights if self.weights else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        body = asdict(self)
        for priced in (body, *body["search"]):
            priced["lambda"] = priced.pop("lambda_")
        if self.scores is not None:
            body["scores"] |= {"drop": self.scores.drop, "largest_drop": self.scores.largest_drop}
        if self.delta is not None:
            body["delta"] |= {"headline": self.delta.headline}
        if self.fidelity is not None:
            body["fidelity"] |= {"title": self.fidelity.title, "headline": self.fidelity.headline}
        totals = {
            "schema": SCHEMA,
            "weights": self.weights,
            "weight_bytes": self.weight_bytes,
            "bits_per_weight": self.bits_per_weight,
        }
        return totals | body
