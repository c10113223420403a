"""What it takes to decode a payload on a Cortex-M4: a model of the C decoder's instructions at -Os, without CRCs.

A payload makes *work*: symbols, decisions, entries of tables, so many of each kind. Each takes a number of instructions
that ``python -m tests.bench.decode_cost`` has fitted to counts on an emulated processor. It is within 10 % of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cerwu_onnx.entropy.adaptive import BINS, LAST_RATES, Header
from cerwu_onnx.entropy.tables import FrequencyTable
from cerwu_onnx.types import IntArray

ADAPTIVE = {
    "begin": 1148.0,
    "symbols": 21.5,
    "slow symbols": 11.0,
    "ones": 14.9,
    "signs": 12.4,
    "near": 4.6,
    "rows": 24.9,
    "incomplete": 51.8,
    "plain": 28.5,
}
"""Instructions for a unit of :func:`adaptive_work`."""
ANS = {
    "tables": 1054.0,
    "levels": 124.7,
    "present": 363.9,
    "bytes of tables": 133.6,
    "symbols": 22.8,
    "bytes": 5.6,
    "runs": 32.0,
}
"""Instructions for a unit of :func:`ans_work`."""


def adaptive_work(symbols: IntArray, payload: bytes) -> dict[str, float]:
    """What decoding an adaptive payload consists of, by the names of :data:`ADAPTIVE`.

    Args:
        symbols: of any shape, in stored order; indices of a trellis.
        payload: without exponents.
    """
    flat = np.abs(symbols.ravel().astype(np.int64))
    header = Header.parse(int.from_bytes(bytes([payload[1], payload[0], *payload[2:3]]), "little"))
    high, signs = flat >> header.shift, float(np.count_nonzero(flat))
    escaped = high[high >= BINS] - (BINS - 1)
    return {
        "begin": 1.0,
        "symbols": float(flat.size),
        # those that the loop for all tensors reads: with low bits, or before the last learning rate
        "slow symbols": float(flat.size if header.shift else min(flat.size, 1 << LAST_RATES[header.slow])),
        "ones": float(np.minimum(high, BINS).sum()),
        "signs": signs,
        "near": signs if header.width else 0.0,
        "rows": flat.size / header.width if header.width else 0.0,
        "incomplete": float(flat.size if header.shift else escaped.size),
        "plain": header.shift * flat.size + float((2 * np.floor(np.log2(escaped)) + 1).sum()),
    }


def ans_work(symbols: IntArray, payload: bytes, run: int) -> dict[str, float]:
    """What decoding an ANS payload consists of, by the names of :data:`ANS`. ``run``: of a trellis, 0 without one."""
    reach, work = int(np.abs(symbols).max(initial=0)), dict.fromkeys(ANS, 0.0)
    for _ in range(2 if run else 1):
        work["tables"] += 1
        if reach:
            table, used = FrequencyTable.from_bytes(payload, reach)
            payload = payload[used:]
            work["levels"] += len(table.levels)
            work["present"] += np.count_nonzero(table.levels)
            work["bytes of tables"] += used
    return work | {"symbols": symbols.size, "bytes": len(payload), "runs": symbols.size / run if run else 0.0}


def instructions(work: Mapping[str, float], costs: Mapping[str, float]) -> float:
    """Instructions that the work takes, by what a unit of each kind costs."""
    return sum(costs[name] * amount for name, amount in work.items())
