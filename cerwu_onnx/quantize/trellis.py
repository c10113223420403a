"""Trellis-coded quantisation with the Optimal-Brain-Surgeon update: a Viterbi search along each row.

A trellis gives each weight one of two grids that together are twice as fine: the even multiples of the step, or the odd
ones and zero. The parities of the indices so far decide which grid comes next, so the decoder knows it, and the encoder
chooses among paths. The weights see the union of the grids, but the entropy coder pays for one grid only. That gains up
to a quarter bit per weight over a uniform grid (Marcellin & Fischer 1990, IEEE Trans. Commun.
38(1); with two grids that share the zero: Joshi, Crump & Fischer 1995, IEEE Trans. Commun. 43(2)). ``docs/format.md``,
"Trellis", tells what decoders do.

Every survivor of the search carries the row's remaining weights, moved to make up for the errors of its own path: the
OBS update (see :mod:`cerwu_onnx.quantize.obs`). Where rows depend on each other, a finished row moves the later rows.

The search numbers states by the way to them. What decoders do ties the grids g of a run to the parities p of its
indices: modulo 2, ``(1 + D + D^6) g = (D^2 + D^4) p``, where D delays by one element; its exponents are the bits of the
decoder's two constants, and one more. So a run is a sequence of free bits b, with ``g = (D^2 + D^4) b`` and
``p = (1 + D + D^6) b``. The last six of them are a state, the newest on top. Two states that differ in the lowest bit
have the same grid, and the same bit leads from both to the same state.

This is the readable form, which also runs where the library was built without a C compiler;
:func:`cerwu_onnx.native.search_trellis` does the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.entropy.trellis import TRELLIS, to_indices
from cerwu_onnx.types import Float64Array

STATES = TRELLIS.states
DELAYS = STATES.bit_length() - 1
BLOCK = 256
"""After so many columns, each row settles for one path, and all later columns are updated at once."""

AHEAD = 40
"""Columns that the search looks beyond these: otherwise the paths end too early."""

MAX_INDEX = 1023
"""Indices are clipped to this magnitude, values to twice as much."""

STRIP = 8
"""Columns after which costs are counted from the least again, so that float32 keeps its precision."""

COUNTED = 1 << 20
"""About so many symbols are looked at at once to be counted."""

Float32Array = npt.NDArray[np.float32]
IntpArray = npt.NDArray[np.intp]


def _delayed(constant: int) -> npt.NDArray[np.uint8]:
    """``(64,)`` the sum, modulo 2, of the free bits of each state whose delay is that of a bit of the constant."""
    state = np.arange(STATES)
    bits = [state >> DELAYS - 1 - bit & constant >> bit & 1 for bit in range(DELAYS)]
    found: npt.NDArray[np.uint8] = (np.sum(bits, axis=0) % 2).astype(np.uint8)
    return found


GRID_AND_PARITY = np.stack([_delayed(TRELLIS.odd_index), _delayed(TRELLIS.odd_grid)], axis=1)
"""``(64, 2)`` the grid of each state, and the parity of the index that brings the free bit 0."""

_GRID, _PARITY = GRID_AND_PARITY.T
_ODD_GRID = _GRID.astype(np.float32)
_FAR = np.float32(1e30)


@dataclass(frozen=True, slots=True)
class TrellisRate:
    """Code lengths and price that the search uses.

    Attributes:
        price: lambda, in units of distortion per bit.
        bits: ``(2, R + 1)`` code lengths of indices of magnitude ``0 ... R`` on each grid, sign included; larger ones
            cost as much as R.
    """

    price: float
    bits: Float64Array


def trellis_obs(
    w: Float64Array,
    factor: Float64Array,
    weight: Float64Array,
    rate: TrellisRate,
    row_factor: Float64Array | None = None,
) -> Float64Array:
    """Quantise rows along the trellis, and move later columns to make up for the errors made so far.

    The distortion of an error ``E`` is ``tr(E H E^T)``, or ``tr(F E H E^T)`` where rows depend on each other. Then its
    row r counts with ``1 / V_rr^2``, and moves each later row k by ``-V_rk / V_rr`` times its error.

    Args:
        w: ``(G, M, N)`` weights in steps.
        factor: ``(G, N, N)`` upper ``U`` with ``H^-1 = U^T U``, ``H`` in steps too; ``(G * B, n, n)`` where H consists
            of B blocks of n columns (:mod:`cerwu_onnx.quantize.blocks`).
        weight: ``(G, N)`` curvature of the distortion, ``1 / U_jj^2`` for the exact loss.
        rate: code lengths and price of indices.
        row_factor: ``(G, M, M)`` upper ``V`` with ``F^-1 = V^T V``; None if all rows count alike and are independent.

    Returns:
        Values ``(G, M, N)`` on the union of the grids, integer-valued float64. Every row starts in state 0.
    """
    groups, rows, columns = w.shape
    unity = float(weight.mean()) or 1.0  # in this unit, costs fit float32, whatever the units of the outputs
    unit = (factor / np.einsum("gnn->gn", factor)[:, :, None]).astype(np.float32).reshape(groups, columns, -1)
    scaled, bits = (weight / unity).astype(np.float32), rate.bits.astype(np.float32)
    between, price = None, np.full((groups, rows), np.float32(rate.price / unity))
    if row_factor is not None:
        diagonal = np.einsum("gmm->gm", row_factor)
        between = row_factor / diagonal[:, :, None]
        price = (rate.price / unity * diagonal**2).astype(np.float32)
    search = native.search_trellis if native.available() else _search_matrix
    return np.stack(
        [
            search(w[g], unit[g], scaled[g], None if between is None else between[g], price[g], bits, GRID_AND_PARITY)
            for g in range(groups)
        ]
    )


def _search_matrix(
    w: Float64Array,
    feedback: Float32Array,
    weight: Float32Array,
    row_feedback: Float64Array | None,
    price: Float32Array,
    bits: Float32Array,
    states: npt.NDArray[np.uint8],
) -> Float64Array:
    """See :func:`cerwu_onnx.native.search_trellis`; the trellis is always that of this module."""
    if row_feedback is None:
        return _search_rows(w, feedback, weight, price[0] * bits)
    rest, values = w.copy(), np.empty_like(w)
    for row in range(len(w)):
        values[row] = _search_rows(rest[row : row + 1], feedback, weight, price[row] * bits)[0]
        rest[row + 1 :] -= np.outer(row_feedback[row, row + 1 :], rest[row] - values[row])
    return values


def _search_rows(w: Float64Array, feedback: Float32Array, weight: Float32Array, bits: Float32Array) -> Float64Array:
    """Search the independent rows of one matrix, one block of columns after another."""
    rest, values = w.copy(), np.empty_like(w)
    columns, block = feedback.shape
    state = np.zeros(len(w), np.intp)
    start = 0
    while start < columns:
        first = start - start % block
        last = first + block
        seen = slice(start, min(start + BLOCK + AHEAD, last))
        stop = last if seen.stop == last else start + BLOCK
        path, errors, state = _search(
            rest[:, seen].astype(np.float32),
            feedback[seen, start - first : seen.stop - first],
            weight[seen],
            bits,
            state,
            stop - start,
        )
        values[:, start:stop] = path
        rest[:, stop:last] -= errors.astype(np.float64) @ feedback[start:stop, stop - first :].astype(np.float64)
        start = stop
    return values


def _search(
    w: Float32Array, unit: Float32Array, weight: Float32Array, bits: Float32Array, state: IntpArray, settled: int
) -> tuple[Float32Array, Float32Array, IntpArray]:
    """Find the best path of each row through some columns, from a state ``(M,)``.

    Returns:
        Values and errors of the first ``settled`` columns ``(M, settled)``, and the state after them.
    """
    rows, columns = w.shape
    cost = np.full((rows, STATES), _FAR, np.float32)
    np.put_along_axis(cost, state[:, None], 0, axis=1)
    paths = np.repeat(w[:, None, :], STATES, axis=1)  # the rest of the row on each survivor's path
    came = np.empty((columns, rows, STATES), np.uint8)
    value = np.empty((columns, rows, STATES), np.float32)
    error = np.empty_like(value)
    for j in range(columns):
        if j % STRIP == 0:
            cost -= cost.min(axis=1, keepdims=True)
        x = paths[:, :, 0]
        index, total = (each.reshape(rows, STATES // 2, 2, 2) for each in _branches(x, cost, weight[j], bits))
        second = total[:, :, 1] < total[:, :, 0]  # (M, STATES / 2, 2): of the two states from which a bit leads to one
        cost, k = (_by_state(np.where(second, each[:, :, 1], each[:, :, 0])) for each in (total, index))
        source = _by_state(2 * np.arange(STATES // 2)[:, None] + second)
        value[j] = 2 * k - _ODD_GRID[source] * np.sign(k)
        error[j] = np.take_along_axis(x, source, axis=1) - value[j]
        came[j] = source
        paths = np.take_along_axis(paths[:, :, 1:], source[:, :, None], axis=1)
        paths -= error[j][:, :, None] * unit[j, j + 1 :]
    best = cost.argmin(axis=1)[:, None]
    path, errors = (np.empty((rows, settled), np.float32) for _ in range(2))
    for j in reversed(range(columns)):
        if j == settled - 1:
            state = best[:, 0]
        if j < settled:
            path[:, j] = np.take_along_axis(value[j], best, axis=1)[:, 0]
            errors[:, j] = np.take_along_axis(error[j], best, axis=1)[:, 0]
        best = np.take_along_axis(came[j], best, axis=1).astype(np.intp)
    return path, errors, state


def _by_state(branches: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``(M, STATES)`` by the state behind: from ``(M, STATES / 2, 2)``, where the newest bit is on the last axis."""
    return np.swapaxes(branches, 1, 2).reshape(len(branches), STATES)


def _branches(
    x: Float32Array, cost: Float32Array, weight: np.float32, bits: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """For each survivor and free bit, the best index and the cost of the path that takes it, ``(M, STATES, 2)``.

    Candidates are zero and, unless they are zero, the index next to the weight toward zero and its two neighbours.
    """
    magnitude = np.abs(x)
    near = np.minimum(np.floor((magnitude + _ODD_GRID) / 2), MAX_INDEX - 1)
    sign = np.where(x < 0, np.float32(-1), np.float32(1))

    def branch(k: Float32Array) -> Float32Array:
        distance = magnitude - (2 * k - _ODD_GRID)
        price = bits[_GRID, np.clip(k, 0, bits.shape[1] - 1).astype(np.intp)]
        return np.asarray(np.where(k > 0, weight * distance * distance + price, _FAR), np.float32)

    same, above, below = branch(near), branch(near + 1), branch(near - 1)
    lower = below < above
    other, other_cost = np.where(lower, near - 1, near + 1), np.where(lower, below, above)
    zero_cost = cost + weight * magnitude * magnitude + bits[_GRID, 0]
    index, total = [], []
    for bit in (0, 1):
        fits = near % 2 == _PARITY ^ bit
        found = cost + np.where(fits, same, other_cost)
        zero = (bit == _PARITY) & (zero_cost < found)
        index.append(sign * np.where(zero, 0, np.where(fits, near, other)))
        total.append(np.where(zero, zero_cost, found))
    return np.stack(index, axis=-1).astype(np.float32), np.stack(total, axis=-1).astype(np.float32)


def code_lengths(values: Float64Array) -> tuple[Float64Array, float]:
    """Code lengths of indices by their empirical distribution on each grid, and the sum of bits.

    Args:
        values: ``(G, M, N)``, from :func:`trellis_obs`.

    Returns:
        ``(2, R + 1)`` bits of magnitude and sign, with R one more than the largest magnitude (indices that do not occur
        count as half an occurrence), and the ideal size of all indices in bits.
    """
    rows = values.reshape(-1, values.shape[-1])
    reach = (int(max(values.max(), -values.min())) + 1) // 2 + 1
    counts = np.zeros((2, reach + 1), np.intp)
    together = max(1, COUNTED // rows.shape[1])
    for start in range(0, len(rows), together):
        index, grid = to_indices(rows[start : start + together].astype(np.int32), rows.shape[1])
        for g in (0, 1):
            counts[g] += np.bincount(np.abs(index[grid == g]), minlength=reach + 1)
    lengths: Float64Array = np.stack([_lengths(own) for own in counts])
    return lengths, float((counts * lengths).sum(axis=1).sum())


def first_lengths(w: Float64Array) -> Float64Array:
    """The first code lengths, for weights in steps: those after rounding to one grid."""
    counts = np.bincount(np.minimum(np.rint(np.abs(w.ravel()) / 2), MAX_INDEX).astype(np.intp))
    lengths: Float64Array = np.stack([_lengths(np.append(counts, 0))] * 2)
    return lengths


def _lengths(counts: npt.NDArray[np.intp]) -> Float64Array:
    smoothed = np.maximum(counts, 0.5)
    lengths: Float64Array = np.log2(smoothed.sum()) - np.log2(smoothed)
    lengths[1:] += 1
    return lengths
