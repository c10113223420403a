"""Encode a coded tensor's values to its payload, and decode them, with either coder and in Python."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cerwu_onnx.container import format as f
from cerwu_onnx.entropy import adaptive, ans, exponents, tables
from cerwu_onnx.entropy.decode_cost import ADAPTIVE, ANS, adaptive_work, ans_work, instructions
from cerwu_onnx.entropy.tables import FrequencyTable
from cerwu_onnx.entropy.trellis import TRELLISES
from cerwu_onnx.types import IntArray


def encode(
    symbols: IntArray,
    coder: str,
    grids: npt.NDArray[np.uint8] | None = None,
    run: int = 0,
    max_decode_cost: float | None = None,
) -> tuple[f.Kind, bytes]:
    """Kind and payload of a tensor's ``symbols`` in stored order, by ``coder``, or with "auto" by the smaller of both.

    With a trellis, the symbols are indices: ``grids`` (uint8, 0 or 1) tells the grid of each, and ``run`` the number of
    elements between two restarts. Without one, these are None and 0. ``max_decode_cost`` bounds the instructions per
    weight by the model of :mod:`cerwu_onnx.entropy.decode_cost`; if all payloads exceed it, the one that takes fewest
    is made.
    """
    found = []
    if coder in ("auto", "adaptive"):
        found += [(f.Kind.ADAPTIVE, payload) for payload in adaptive.payloads(symbols, grids, run)]
    if coder in ("auto", "ans"):
        fitted = (tables.fit(symbols),) if grids is None else tables.fit_pair(symbols.ravel(), grids)
        words = ans.encode(symbols, *fitted, grids=grids)
        found.append((f.Kind.ANS, b"".join(table.to_bytes() for table in fitted) + words))

    def cost(kind: f.Kind, payload: bytes) -> float:
        if kind is f.Kind.ADAPTIVE:
            return instructions(adaptive_work(symbols, payload), ADAPTIVE) / symbols.size
        return instructions(ans_work(symbols, payload, run), ANS) / symbols.size

    if max_decode_cost is not None:
        costs = [cost(*candidate) for candidate in found]
        most = max(max_decode_cost, min(costs))
        found = [candidate for candidate, taken in zip(found, costs, strict=True) if taken <= most]
    return min(found, key=lambda candidate: len(candidate[1]))


def exponents_of(record: f.Record, payload: bytes) -> tuple[npt.NDArray[np.int8], int]:
    """The exponents of a tensor that has some, in the shape ``record.row_shape``, and the bytes that they take.

    Raises:
        CorruptFileError: they break a rule of the format.
    """
    shape = record.row_shape
    found, used = exponents.decode(payload, math.prod(shape))
    return record.order.restore(found, shape), used


def decode(record: f.Record, payload: bytes, unread: list[int] | None = None) -> npt.NDArray[np.int32]:
    """Decode, in Python, the values of a coded tensor in units of its step: stored order, int32, flat.

    After each element, the number of payload bytes that are still to be read is appended to ``unread``.

    Raises:
        CorruptFileError: the payload breaks a rule of the format.
    """
    trellis = TRELLISES[record.version]
    if record.stepped:
        payload = payload[exponents_of(record, payload)[1] :]
    if record.kind is f.Kind.ADAPTIVE:
        return adaptive.decode_plain(payload, record.count, record.reach, unread, run=record.run, trellis=trellis)
    found = []
    for _ in range(2 if record.run else 1):
        table, used = FrequencyTable.from_bytes(payload, record.reach)
        found.append(table)
        payload = payload[used:]
    return ans.decode_plain(payload, *found, count=record.count, unread=unread, run=record.run, trellis=trellis)
