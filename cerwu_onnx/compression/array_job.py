"""The job of quantising one named array: it holds only arrays, so any thread, process or machine can run it.

No graph says what an error costs. So an array gets a relative error: of its values or, where second moments of the
inputs that multiply it are given, of its products with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cerwu_onnx.calibration import identity_stats
from cerwu_onnx.compression.storage_order import storage
from cerwu_onnx.config import Settings
from cerwu_onnx.quantize import priced
from cerwu_onnx.quantize.blocks import cut
from cerwu_onnx.quantize.bound import gaussian_rate
from cerwu_onnx.types import Float64Array, FloatArray, Layer, MatrixLayout, PairStats, QuantizedTensor

ERROR_PER_PRICE = 1 / (2 * math.log(2))
"""Relative squared error of an array per unit of lambda, by high-rate theory: lambda is the relative squared error that
one more bit per weight must save."""

TRIES, NEAR = 6, 0.93
"""How often the step of an array is corrected, at most; and what share of the error it may have is near enough."""

NARROW = 128
"""Most columns of the blocks in which the identity stands for moments that are not given."""


@dataclass(frozen=True, slots=True)
class ArrayJob:
    """Everything that quantising one array needs.

    Attributes:
        name: its name.
        values: float32, finite, of at least two axes.
        moments: ``(N, N)`` second moments of the inputs that multiply its rows; None if they are not known.
        price: lambda, times the factor of a rule.
        limit: the most relative squared error; None lets lambda decide.
        largest: magnitude that no symbol may exceed.
        settings: damping and passes.
    """

    name: str
    values: FloatArray
    moments: Float64Array | None
    price: float
    limit: float | None
    largest: int
    settings: Settings


@dataclass(frozen=True, slots=True)
class ArrayResult:
    """A quantised array, and the bits per weight that its rate-distortion function gives at its distortion."""

    tensor: QuantizedTensor
    bound: float


def layer_of(name: str, shape: tuple[int, ...], *, blocks: bool = True) -> Layer:
    """An array as a weight: rows are its first axis, columns all others, in blocks of at most :data:`NARROW` or one."""
    columns = math.prod(shape[1:])
    width = next(width for width in range(min(columns, NARROW), 0, -1) if columns % width == 0)
    layout = MatrixLayout(shape, shape, tuple(range(len(shape))), 1, shape[0], columns)
    return Layer(name, layout, (), blocks=columns // width if blocks else 1)


def quantize_array(job: ArrayJob) -> ArrayResult:
    """Quantise an array by the default method, with an error of at most the limit if the format's grids allow it."""
    layer = layer_of(job.name, job.values.shape, blocks=job.moments is None)
    layout, where = layer.layout, storage(layer, "onnx")
    stats = identity_stats(layer)
    hessian = stats.hessian if job.moments is None else job.moments[None]
    parts = cut(layout.to_matrix(job.values.astype(np.float64)), layer.blocks)
    energy = float(((parts @ hessian) * parts).sum())
    noise = layout.rows * float(np.einsum("bnn->", hessian)) / max(energy, 1e-300)
    price, found = job.price / job.values.size, list[QuantizedTensor]()
    for _ in range(1 if job.limit is None else TRIES):
        tensor, _ = priced.quantize(
            job.values,
            layout,
            PairStats(hessian, stats.mean, 0, hessian, stats.mean),
            priced.Cost(noise, price, largest=job.largest),
            columns=where.columns,
            damping=job.settings.damping,
            passes=job.settings.passes,
            name=job.name,
            stepped=where.stepped,
        )
        found.append(tensor)
        share = tensor.distortion / energy if energy > 0 else 0.0
        if job.limit is None or share == 0 or NEAR * job.limit <= share <= job.limit:
            break
        price *= math.sqrt(NEAR) * job.limit / share
    allowed = math.inf if job.limit is None else job.limit * energy
    best = max(found, key=lambda one: (one.distortion <= allowed, one.step if one.distortion <= allowed else -one.step))
    return ArrayResult(best, gaussian_rate(parts, hessian, best.distortion))
