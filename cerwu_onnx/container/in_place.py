"""Compute the margin for decoding in place: how far a payload must stay ahead of the symbols written over it."""

from __future__ import annotations

from cerwu_onnx import native
from cerwu_onnx.container import payload, writer


def margin(part: writer.Encoded) -> int:
    """Bytes that a buffer for a coded tensor needs beyond one per symbol (docs/format.md, "Margins").

    The C decoder computes it if it was built.
    """
    if not part.payload:  # only zeros, of which there may be more than a file of this tensor alone could hold
        return 0
    return native.File(writer.assemble([part])).margin(0) if native.available() else margin_plain(part)


def margin_plain(part: writer.Encoded) -> int:
    """Like :func:`margin`, in Python."""
    record = part.record
    unread: list[int] = []
    payload.decode(record, part.payload, unread)
    needs = (position + left for position, left in enumerate(unread, 1) if left)
    return max(record.count, record.size, max(needs, default=0)) - record.count
