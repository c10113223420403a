"""What is measured: named variants of the compressor, each a sweep of settings that draws one rate-accuracy curve.

A new default method needs no change here: ``FULL`` is whatever ``Settings()`` says, swept over lambda alone, as a user
would. A new row of the ablation is one line: the settings that differ from the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from math import inf
from typing import Any

from cerwu_onnx.calibration import noise_sensitivity
from cerwu_onnx.compression.storage_order import Storage
from cerwu_onnx.container.format import Order
from cerwu_onnx.types import FloatArray

LAMBDAS = tuple({"lambda_": value} for value in (0.03, 0.06, 0.12, 0.2, 0.3, 0.45, 0.7, 1.1, 2.0, 3.5))
FINER = tuple({"lambda_": value} for value in (0.04, 0.085, 0.16, 0.25, 0.37, 0.56, 0.88, 1.5, 2.6))
"""Between those: the peers' curves in anchors.json have 18 to 36 points, and a longer sweep is luckier."""

LEVELS = tuple({"levels": n} for n in (6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 30, 32, 34, 36, 40, 48, 64, 128))
GRID = tuple(
    {"levels": n, "lambda_": value}
    for n, value in product((10, 12, 14, 16, 20, 24, 28, 32, 40), (3e-4, 1e-3, 3e-3, 1e-2))
)
"""Both swept, as the CERWU paper does."""


@dataclass(frozen=True)
class Variant:
    """A curve.

    Attributes:
        sweep: settings of its points.
        changes: what all of them change of the defaults.
        half: calibrate on half of the samples, drawn by this seed; None takes all.
        without: names of functions and constants, and what replaces them: a part of the method taken out.
        models: the only models it is measured on; all when empty.
    """

    sweep: tuple[dict[str, Any], ...]
    changes: dict[str, Any] = field(default_factory=dict)
    half: int | None = None
    without: dict[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ()


def equal_sensitivities(*arguments: Any) -> dict[str, float]:
    """The same for any layer's relative error, as large as the loss of real models makes them."""
    weights: Mapping[str, FloatArray] = arguments[1]
    return {name: 3 / max(float((weight**2).mean()), 1e-30) for name, weight in weights.items()}


def by_noise(*arguments: Any) -> dict[str, float]:
    """Sensitivities by noise on one layer after another."""
    loss, weights, variance, *_ = arguments
    return noise_sensitivity(loss, weights, variance)


FULL = "default"
"""The variant that the targets and the ablation are about."""

SPREAD = ("mlperf_kws01_dscnn",)
"""Where the influence of the calibration data is measured."""

VARIANTS = {
    FULL: Variant(LAMBDAS + FINER),
    "fast": Variant(LAMBDAS, {"effort": "fast"}),
    "max": Variant(LAMBDAS, {"effort": "max"}),
    "no row feedback": Variant(LAMBDAS, without={"cerwu_onnx.quantize.priced.rows_of": lambda *_: None}),
    "no trellis": Variant(
        LAMBDAS,
        without={"cerwu_onnx.compression.layer_walk.storage": lambda *_: Storage(Order.ROW_MAJOR, None, False)},
    ),
    "no repair": Variant(LAMBDAS, without={"cerwu_onnx.quantize.priced.repair_damping": lambda *_: None}),
    "fixed damping": Variant(
        LAMBDAS,
        without={
            "cerwu_onnx.quantize.priced.feedback_damping": lambda *_: (None, inf),
            "cerwu_onnx.quantize.priced.repair_damping": lambda *_: 0.01,
        },
    ),
    "no bias correction": Variant(
        LAMBDAS,
        without={
            "cerwu_onnx.compression.layer_walk.centred": lambda *_: {},
            "cerwu_onnx.compression.layer_walk.taken": lambda _: 0.0,
        },
    ),
    "sensitivities by noise": Variant(
        LAMBDAS, without={"cerwu_onnx.compression.walk_quantizer.sensitivities": by_noise}
    ),
    "equal sensitivities": Variant(
        LAMBDAS, without={"cerwu_onnx.compression.walk_quantizer.sensitivities": equal_sensitivities}
    ),
    "cerwu": Variant(GRID, {"method": "cerwu"}),
    "cerwu-gamma0": Variant(GRID, {"method": "cerwu-gamma0"}),
    "optq-rd": Variant(GRID, {"method": "optq-rd"}),
    "optq": Variant(LEVELS, {"method": "optq"}),
    "rtn": Variant(LEVELS, {"method": "rtn"}),
    "half-1": Variant(LAMBDAS, half=1, models=SPREAD),
    "half-2": Variant(LAMBDAS, half=2, models=SPREAD),
    "half-3": Variant(LAMBDAS, half=3, models=SPREAD),
}
