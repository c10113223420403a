"""Payloads of coded tensors: values in, bytes out, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cerwu_onnx.container import format as f
from cerwu_onnx.entropy import adaptive, ans, tables
from cerwu_onnx.entropy.tables import FrequencyTable
from cerwu_onnx.types import IntArray


def encode(
    symbols: IntArray, coder: str, grids: npt.NDArray[np.uint8] | None = None, run: int = 0
) -> tuple[f.Kind, bytes]:
    """Kind and payload of a tensor's ``symbols`` in stored order, by ``coder`` or ("auto") whichever needs fewer bytes.

    ``grids`` (uint8, 0 or 1) says on which grid of the trellis each symbol, then an index, is, and ``run`` how many
    there are between two restarts; None and 0 without trellis.
    """
    candidates = []
    if coder in ("auto", "adaptive"):
        candidates.append((f.Kind.ADAPTIVE, adaptive.encode(symbols, grids, run)))
    if coder in ("auto", "ans"):
        fitted = (tables.fit(symbols),) if grids is None else tables.fit_pair(symbols.ravel(), grids)
        words = ans.encode(symbols, *fitted, grids=grids)
        candidates.append((f.Kind.ANS, b"".join(table.to_bytes() for table in fitted) + words))
    return min(candidates, key=lambda candidate: len(candidate[1]))


def decode(record: f.Record, payload: bytes, unread: list[int] | None = None) -> npt.NDArray[np.int32]:
    """The values of a coded tensor in units of its step, stored order, int32, flat; in Python.

    To ``unread`` is appended, element by element, how many bytes of the payload are then still to be read.

    Raises:
        CorruptFileError: the payload breaks a rule of the format.
    """
    if record.kind is f.Kind.ADAPTIVE:
        return adaptive.decode_plain(payload, record.count, record.reach, unread, run=record.run)
    found = []
    for _ in range(2 if record.run else 1):
        table, used = FrequencyTable.from_bytes(payload, record.reach)
        found.append(table)
        payload = payload[used:]
    return ans.decode_plain(payload, *found, count=record.count, unread=unread, run=record.run)
