"""Trellis-coded against uniform quantisation of white sources: what the trellis is worth apart from any network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from cerwu_onnx.entropy.tables import entropy
from cerwu_onnx.quantize import methods, obs, trellis

RATES = (1.0, 2.0, 3.0)
PRICES = (0.03, 0.06, 0.12)
"""Of a bit, in units of the squared step; the best of them counts."""

STEPS = np.exp2(np.arange(2.0, -3.1, -0.5))
PASSES = 3
ROWS, COLUMNS = 48, 256

Quantiser = Callable[[np.ndarray, float, float], tuple[np.ndarray, float]]


def uniform(w: np.ndarray, step: float, price: float) -> tuple[np.ndarray, float]:
    """Values of ``w (1, M, N)`` on one grid by their cost, and ideal bits per weight."""
    factor, weight = np.eye(w.shape[2])[None], np.ones((1, w.shape[2]))
    values = np.rint(w / step)
    for _ in range(PASSES):
        values = obs.obs(w / step, factor, weight, obs.Rate(price, methods.code_lengths(values)))
    return step * values, entropy(values.astype(np.int32))


def along_trellis(w: np.ndarray, step: float, price: float) -> tuple[np.ndarray, float]:
    """The same on the two grids of the trellis, each with this step."""
    factor, weight = np.eye(w.shape[2])[None], np.ones((1, w.shape[2]))
    lengths = trellis.first_lengths(2 * w / step)
    for _ in range(PASSES):
        rate = trellis.TrellisRate(4 * price, lengths)
        values = trellis.trellis_obs(2 * w / step, factor, weight, rate)
        lengths, bits = trellis.code_lengths(values)
    return step / 2 * values, bits / w.size


def decibels(quantiser: Quantiser, w: np.ndarray, rates: tuple[float, ...] = RATES) -> np.ndarray:
    """Signal-to-noise ratio at some rates, in dB, the best over :data:`PRICES`, linear between :data:`STEPS`."""
    curves = []
    for price in PRICES:
        points = []
        for step in STEPS:
            values, bits = quantiser(w, float(step) * float(w.std()), price)
            points.append((bits, 10 * np.log10(np.square(w).mean() / np.square(w - values).mean())))
        curves.append(np.interp(rates, *np.array(points).T))
    return np.max(curves, axis=0)


def sources(seed: int = 0) -> dict[str, np.ndarray]:
    """White samples ``(1, M, N)`` of variance 1."""
    rng = np.random.default_rng(seed)
    shape = (1, ROWS, COLUMNS)
    return {"Gaussian": rng.normal(size=shape), "Laplace": rng.laplace(size=shape) / 2**0.5}


def run(console: Console) -> None:
    """Print gains in dB and in bits: 6.02 dB are one bit."""
    table = Table("source", *(f"{rate:g} bits" for rate in RATES), title="Trellis over uniform grid, dB (bits/weight)")
    for name, w in sources().items():
        gains = decibels(along_trellis, w) - decibels(uniform, w)
        table.add_row(name, *(f"{gain:.2f} ({gain / 6.02:.3f})" for gain in gains))
    console.print(table)
