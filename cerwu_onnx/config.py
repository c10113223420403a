"""The settings, targets and layer rules of a compression, and the names of their choices."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cerwu_onnx.errors import UsageError

METHODS = ("trellis", "rtn", "rd-rtn", "optq", "optq-rd", "cerwu-gamma0", "cerwu")
"""Names of the quantisation methods, the default first; ``docs/method.md`` describes them."""


@dataclass(frozen=True, slots=True)
class Effort:
    """The limits of one effort of "trellis".

    Attributes:
        samples: the most calibration samples; None takes all.
        gradients: about how many gradients are computed of 256 samples, at least one of each; of fewer, fewer.
        draws: how often the noise is drawn that sets the level of sensitivities.
        positions: positions per column, and for at least 32 columns, that suffice for a Hessian.
        dampings: damping of feedback and of repair, relative to the mean diagonal; None cross-validates.
        passes: the most of :attr:`Settings.passes`; None makes them all.
        rounds: how often sensitivities are measured again around the quantised model.
        steps: whether each layer's target first takes a step down the slope of the loss at the outputs.
    """

    samples: int | None = None
    gradients: int = 512
    draws: int = 4
    positions: int = 256
    dampings: tuple[float, float] | None = None
    passes: int | None = None
    rounds: int = 0
    steps: bool = False


EFFORTS = {
    "fast": Effort(samples=128, gradients=64, draws=2, positions=32, dampings=(0.1, 0.3), passes=2),
    "default": Effort(),
    "max": Effort(gradients=1024, rounds=1, steps=True),
}
"""Efforts by name: more time gives smaller files."""

PRICES = {"trellis": 0.05}
"""Default lambda by method; 1e-3 for methods that are not here."""

UNPRICED = ("rtn", "optq")
"""Methods without lambda, so that a search has nothing to vary."""

METRICS = ("top1", "agreement", "auc", "error")
"""Built-in metrics; :mod:`cerwu_onnx.evaluate.metrics` defines them."""

CODERS = ("auto", "ans", "adaptive")
"""Entropy coders: "auto" takes whichever makes a tensor smaller."""

WEIGHT_LAYOUTS = ("onnx", "cmsis")
"""Orders in which coded weights may be stored."""

OUTPUT_LOSSES = ("auto", "kl", "binary", "mse", "cosine")
"""Kinds of outputs: told by their values, or one of those that :mod:`cerwu_onnx.calibration.answers` defines."""

ABOUT = ("name", "version", "license", "author", "source", "description")
"""What a file says about its model, by docs/format.md; other keys have a dot, like ``acme.camera``."""

MOST_TEXT = 1000
"""Most characters of one such text."""

FLOAT_PARAMS = ("auto", "exact")
"""Choices for biases and BatchNormalization parameters."""

FIDELITY = 0.99
"""Share of the expected score that a compression keeps unless something else is asked for."""

ARRAYS_FIDELITY = 0.999
"""Share of its energy that each array of a file of arrays keeps, if nothing else is asked for: an error of 3.2 %."""

MAX_LEVELS = 4096
"""The format's largest table (docs/format.md)."""

MAX_BITS = 12
"""Bits of the widest symbols, sign included: the format has -2047 to 2047."""


Metric: TypeAlias = "str | Callable[[str], float]"
"""One of :data:`METRICS`, ``file.py:function``, ``module:function`` or a function: path of an ONNX file -> score."""


@dataclass(frozen=True, slots=True)
class Target:
    """Targets of size and accuracy, and limits that must hold in any case.

    At most one of ``fidelity``, ``size``, ``bits_per_weight`` and ``max_drop`` may be given; it replaces lambda.

    Attributes:
        fidelity: share of the float model's expected score to keep, judged on calibration samples that quantising did
            not see (docs/fidelity.md). None: :data:`FIDELITY`, if nothing else says what the file is meant for.
        size: the most bytes of the file.
        bits_per_weight: the most bits of all quantised weights on average, steps and tables included.
        max_drop: share of the float model's score that may be lost; the smallest file found is taken.
        confidence: confidence with which ``max_drop`` holds on other samples, for "top1" and "agreement": the fewer
            samples, the larger the margin. 0.5 leaves no margin.
        metric: the metric that scores a model; higher is better.
        metric_data: data of the metrics of :data:`METRICS`: a ``.npz`` or a mapping with the model's inputs and, for
            "top1" and "auc", labels; for "agreement" and "error" anything that can be calibration data.
        metric_labels: key of the labels.
        fail_above: no file with more bytes is written.
        fail_drop: the compression counts as failed if a larger share of the float model's score is lost.

    Raises:
        UsageError: a value is out of range, or two contradict each other.
    """

    fidelity: float | None = None
    size: int | None = None
    bits_per_weight: float | None = None
    max_drop: float | None = None
    confidence: float = 0.9
    metric: Metric | None = None
    metric_data: str | os.PathLike[str] | Mapping[str, Any] | None = None
    metric_labels: str = "labels"
    fail_above: int | None = None
    fail_drop: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot be met."""
        if sum(aim is not None for aim in (self.fidelity, self.size, self.bits_per_weight, self.max_drop)) > 1:
            raise UsageError(
                "a fidelity, a target size, target bits per weight and a largest drop exclude each other: give one"
            )
        if self.fidelity is not None and not 0.5 <= self.fidelity < 1:
            raise UsageError(
                f"fidelity {100 * self.fidelity:g} % is out of range: give at least 50 % and less than 100 %"
            )
        for name, limit in (("target size", self.size), ("fail above", self.fail_above)):
            if limit is not None and limit < 1:
                raise UsageError(f"{name} {limit} is out of range: give at least 1 byte")
        if self.bits_per_weight is not None and not 0 < self.bits_per_weight < float("inf"):
            raise UsageError(f"target bits per weight {self.bits_per_weight} is out of range: give a number > 0")
        for name, drop in (("max drop", self.max_drop), ("fail drop", self.fail_drop)):
            if drop is not None and not 0 <= drop < 1:
                raise UsageError(f"{name} {100 * drop:g} % is out of range: give less than 100 % of the float score")
            if drop is not None and self.metric is None:
                raise UsageError(f"{name} needs a metric: {', '.join(METRICS)}, or a function file.py:function")
        if not 0.5 <= self.confidence < 1:
            raise UsageError(
                f"confidence {100 * self.confidence:g} % is out of range: give at least 50 % and less than 100 %"
            )
        if self.metric_data is not None and self.metric is None:
            raise UsageError("metric data without a metric: say what to measure on it")

    @property
    def searches(self) -> bool:
        """Whether a search must find lambda."""
        return (self.size, self.bits_per_weight, self.max_drop) != (None, None, None)


@dataclass(frozen=True, slots=True)
class LayerRule:
    """A rule for the tensors whose names match a glob.

    Attributes:
        glob: pattern for names of tensors as ``inspect`` shows them, case-sensitive: ``*``, ``?``, ``[ab]``.
        skip: these tensors stay exactly as they are; BatchNormalization is not folded into them.
        price: factor on lambda for these weights: with 0.5 their errors count twice.
        bits: bits that each symbol of these weights must fit, sign included, as a kernel reads it: with 8, symbols are
            -127 to 127. The entropy-coded bits in the file are fewer in any case.
        where: how messages call the rule.

    Raises:
        UsageError: the price or the bits are out of range, or of tensors that are skipped.
    """

    glob: str
    skip: bool = False
    price: float = 1.0
    bits: int = MAX_BITS
    where: str = "the rule for"

    def __post_init__(self) -> None:
        """Refuse rules without meaning."""
        if not 0 < self.price < float("inf"):
            raise UsageError(f"{self.where} {self.glob!r}: price {self.price} is out of range: give a number > 0")
        if not 2 <= self.bits <= MAX_BITS:
            raise UsageError(f"{self.where} {self.glob!r}: bits {self.bits} is out of range: give 2 to {MAX_BITS}")
        if self.skip and (self.price, self.bits) != (1, MAX_BITS):
            raise UsageError(f"{self.where} {self.glob!r}: what is skipped has neither price nor bits")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a compression, all but its targets.

    Attributes:
        method: one of :data:`METHODS`.
        effort: one of :data:`EFFORTS`, for "trellis": more time gives smaller files.
        output_loss: what the model's outputs are, for "trellis": one of :data:`OUTPUT_LOSSES` for all, or ``NAME=kind``
            of single outputs, separated by commas (:func:`wanted_kinds`).
        lambda_: price of rate. "trellis": loss at the model's outputs (nats of KL divergence, or relative squared
            error) per (bit per weight). The others: relative squared error of a layer's output per (bit per weight). 0
            ignores the rate. None takes the method's default.
        levels: grid size N; the step of a layer is ``max |W| / (N / 2)``. Even numbers make the grid symmetric. Not for
            "trellis", whose steps follow from lambda.
        damping: Hessian damping relative to its mean diagonal.
        passes: how often code lengths are estimated again.
        coder: one of :data:`CODERS`; "ans" decodes faster, "adaptive" is smaller and needs no tables.
        max_decode_cost: for "auto": take the smallest coding of a tensor that needs no more instructions per weight on
            a Cortex-M4, by a model (:mod:`cerwu_onnx.entropy.decode_cost`), or else the one that needs fewest. None
            sets no bound. Tables of integers and changes of a delta have none.
        weights_only: leave out the graph, and keep the names searchable in C: a file for firmware.
        weight_layout: one of :data:`WEIGHT_LAYOUTS`; "cmsis" stores the weights in the order that the kernels of
            CMSIS-NN read, channels last. Decompressed ONNX models are the same.
        in_place: store how much memory it takes to decode each tensor over its own payload.
        fold_bn: fold BatchNormalization into the layer before it first. None does so for "trellis".
        requantize: turn weights that the model holds as integers behind DequantizeLinear into floats, and quantise them
            anew; otherwise they are kept without loss.
        float_params: "auto" codes biases and BatchNormalization parameters too, on grids whose error is negligible
                compared with that of the weights; "exact" keeps them bit for bit.
        batch_size: samples per calibration batch; None lets the memory bound decide.
        memory: bound in bytes on what calibration and quantisation hold: one eighth for activations, one half for one
            layer (:mod:`cerwu_onnx.compression.memory_budget`). Other weights of the model, if they are in files of
            their own, are not held.
        strict: any warning ends the compression, and nothing is written.
        rules: rules for single layers; if several match a tensor, the last one counts.
        about: what the file says about its model, text by key: those of :data:`ABOUT`, or keys with a dot.

    Raises:
        UsageError: a value is out of range.
    """

    method: str = "trellis"
    effort: str = "default"
    lambda_: float | None = None
    levels: int = 32
    damping: float = 0.01
    passes: int = 3
    coder: str = "auto"
    max_decode_cost: float | None = None
    weights_only: bool = False
    weight_layout: str = "onnx"
    in_place: bool = False
    fold_bn: bool | None = None
    float_params: str = "auto"
    output_loss: str = "auto"
    batch_size: int | None = None
    memory: int = 4 << 30
    strict: bool = False
    requantize: bool = False
    rules: tuple[LayerRule, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that no method can use."""
        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r} is unknown: choose one of {', '.join(METHODS)}")
        if self.effort not in EFFORTS:
            raise UsageError(f"effort {self.effort!r} is unknown: choose one of {', '.join(EFFORTS)}")
        wanted_kinds(self.output_loss)
        for key, text in self.about.items():
            if key not in ABOUT and not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+", key):
                raise UsageError(
                    f"about {key!r} is unknown: write one of {', '.join(ABOUT)}, or a key of your own with a dot"
                )
            if not 0 < len(text) <= MOST_TEXT:
                raise UsageError(f"about {key!r} has {len(text)} characters: give 1 to {MOST_TEXT}")
        if self.lambda_ is not None and not 0 <= self.lambda_ < float("inf"):
            raise UsageError(f"lambda {self.lambda_} is out of range: give a finite number >= 0")
        if not 2 <= self.levels <= MAX_LEVELS:
            raise UsageError(f"levels {self.levels} is out of range: give 2 to {MAX_LEVELS}")
        if not 0 < self.damping <= 1:
            raise UsageError(f"damping {self.damping} is out of range: give a number in (0, 1]")
        if self.float_params not in FLOAT_PARAMS:
            raise UsageError(f"float params {self.float_params!r} is unknown: choose one of {', '.join(FLOAT_PARAMS)}")
        if self.passes < 1:
            raise UsageError(f"passes {self.passes} is out of range: give at least 1")
        if self.coder not in CODERS:
            raise UsageError(f"coder {self.coder!r} is unknown: choose one of {', '.join(CODERS)}")
        if self.max_decode_cost is not None:
            if not 0 < self.max_decode_cost < float("inf"):
                raise UsageError(
                    f"max decode cost {self.max_decode_cost} is out of range: give instructions per weight"
                )
            if self.coder != "auto":
                raise UsageError(f"a maximal decode cost chooses the coder: leave out coder {self.coder}")
        if self.weight_layout not in WEIGHT_LAYOUTS:
            raise UsageError(
                f"weight layout {self.weight_layout!r} is unknown: choose one of {', '.join(WEIGHT_LAYOUTS)}"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size} is out of range: give at least 1")
        if self.memory < 1 << 20:
            raise UsageError(f"memory {self.memory} bytes is too little: give at least 1 MiB")
        if self.method in UNPRICED and any(rule.price != 1 for rule in self.rules):
            raise UsageError(f"method {self.method} has no lambda, hence layers have no price: take another method")

    @property
    def price(self) -> float:
        """Lambda: the given value, or the method's default."""
        return PRICES.get(self.method, 1e-3) if self.lambda_ is None else self.lambda_

    @property
    def folds_bn(self) -> bool:
        """Whether BatchNormalization is folded, as asked for or by default."""
        return self.method == "trellis" if self.fold_bn is None else self.fold_bn


def wanted_kinds(wanted: str) -> dict[str, str]:
    """Read ``kl`` or ``boxes=mse,scores=binary``: kinds by output; of the name "" for all others.

    Raises:
        UsageError: there is no such kind, or an output has two.
    """
    found: dict[str, str] = {}
    for part in wanted.split(","):
        name, _, kind = part.rpartition("=")
        if kind not in OUTPUT_LOSSES:
            raise UsageError(f"output loss {wanted!r}: {kind!r} is unknown: choose one of {', '.join(OUTPUT_LOSSES)}")
        if found.setdefault(name, kind) != kind:
            raise UsageError(f"output loss {wanted!r}: {name or 'all outputs'!r} has two")
    return found
