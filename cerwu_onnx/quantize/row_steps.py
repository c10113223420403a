"""Choose exponents of rows: the step of each row is the tensor's, divided by a power of two.

Where errors of rows cost differently, each row's best step follows from its own cost, as that of a layer does
(:mod:`cerwu_onnx.quantize.priced`): a row whose errors cost c gets a step proportional to ``c^(-1/2)``. Against one
step, which pays for the mean of c, that saves ``1/2 log2`` of the ratio of its arithmetic to its geometric mean in bits
per weight, as far as rows on grids of their own do not spread the symbols (docs/method.md, "Steps of rows").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cerwu_onnx.entropy import exponents
from cerwu_onnx.quantize.rows import DEAD
from cerwu_onnx.types import Float64Array

MARGIN = 0.02
"""Bits per weight that exponents must save: less is within the error of the estimate."""

PRICE = np.log(2) / 6
"""What a bit costs, in units of ``d^2`` times the mean cost of errors, d being the best of all steps for one grid."""

RELATIVE = 0.1
"""Where nobody knows what errors of rows cost: the share that counts relative to the row's own energy."""


def relative_costs(energy: Float64Array) -> Float64Array:
    """The cost of an error in each row where only the rows' own energies are known.

    In most layers errors of all rows cost about the same. But where rows differ by orders of magnitude, what follows
    may make up for that; so a small row must not be lost.

    Args:
        energy: of each row, any shape.

    Returns:
        Costs, 1 for a row of mean energy.
    """
    if not energy.any():
        return np.ones_like(energy)
    costs: Float64Array = energy.mean() / np.maximum(energy, DEAD * energy.max())
    return (1 + RELATIVE * costs) / (1 + RELATIVE)


def exponents_of(
    w: Float64Array, costs: Float64Array, largest: float, of_one: float
) -> tuple[npt.NDArray[np.int64] | None, float]:
    """The exponents with which rows save bits.

    Args:
        w: ``(G, M, N)`` weights in units of the best step for one grid.
        costs: ``(G, M)`` cost of a unit of squared error in each row, all positive.
        largest: magnitude that no rounded weight may exceed.
        of_one: the same with one step for all rows.

    Returns:
        ``(G, M)`` exponents, of which one is 0, and the bits per weight that they save after their own; None and 0 if
        one step does as well.
    """
    reach = np.abs(w).max(axis=2, initial=0)
    found = np.rint(np.log2(costs / costs.mean()) / 2)
    room = np.floor(np.log2(largest / np.maximum(reach, 2.0**-64)))
    found = np.minimum(found, room)
    found = np.maximum(found - found.max() + exponents.MOST, 0).astype(np.int64)
    found -= found.min()
    if not found.any():
        return None, 0.0
    price = PRICE * costs.mean() * w.size
    side = 1 + 8 * len(exponents.encode(found.ravel()))
    saved = (_loss(w, None, costs, of_one) - _loss(w, np.exp2(found), costs, largest)) / price - side / w.size
    return (found, saved) if saved > MARGIN else (None, 0.0)


def common(costs: Float64Array) -> float:
    """The cost of an error in a row, for rows that are multiplied so that they cost the same.

    This is a geometric mean: exponents do not fit exactly, and not at all where a row would leave the range of symbols.
    """
    return float(np.exp(np.log(costs).mean()))


def _loss(w: Float64Array, scale: Float64Array | None, costs: Float64Array, largest: float) -> float:
    """The cost of errors and bits if rows are multiplied by ``scale (G, M)`` and share the best step that fits."""
    best = 1.0
    if scale is None:
        scale = np.ones_like(costs)
    else:
        best = (costs.mean() / common(costs / scale**2)) ** 0.5
    spread = costs / scale**2
    step = max(best, float((np.abs(w).max(axis=2) * scale).max()) / largest)
    error = step**2 / 12 * float(spread.mean())
    bits = _bits(w * scale[:, :, None] / step)
    return float(w.size * (error + PRICE * float(costs.mean()) * bits))


def _bits(w: Float64Array) -> float:
    """Bits per weight of rounded weights; magnitudes from 8 on that differ by up to a fifth count as equally likely."""
    magnitudes = np.rint(np.abs(w.ravel()))
    ends = np.append(np.arange(8), np.unique(np.rint(8 * 1.19 ** np.arange(40))))
    place = np.searchsorted(ends, magnitudes)
    counts = np.bincount(place, minlength=len(ends))
    width = np.diff(ends, prepend=-1)
    share = counts[counts > 0] / magnitudes.size
    return float((share * np.log2(2 * width[counts > 0] / share)).sum()) - float(counts[0]) / magnitudes.size
