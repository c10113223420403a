"""Exponents of rows (docs/format.md, "Exponents"): each divides the step of a row by a power of two.

They are coded in unary by their distance from a number that the code begins with. Rows of a convolution are in no
order, so that differences from row to row would take more bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.types import IntArray

MOST = 31
"""The largest exponent."""

LEAST_STEP = 2.0**-95
"""The least step of a tensor with exponents: every row's step is a normal float32."""

_BITS = 5
"""Bits of the number that the code begins with."""


def lengths(exponents: IntArray, centre: int) -> npt.NDArray[np.int64]:
    """Bits of each exponent's code, by its distance from ``centre``."""
    distance = exponents.astype(np.int64) - centre
    return np.where(distance > 0, 2 * distance, 1 - 2 * distance)


def encode(exponents: IntArray) -> bytes:
    """The code of exponents 0 ... :data:`MOST`, flat, in stored order, at least one."""
    centre = min(range(MOST + 1), key=lambda centre: int(lengths(exponents, centre).sum()))
    ends = _BITS + np.cumsum(lengths(exponents, centre))
    bits = np.ones(int(ends[-1]), np.uint8)
    bits[:_BITS] = [centre >> bit & 1 for bit in range(_BITS)]
    bits[ends - 1] = 0
    return np.packbits(bits, bitorder="little").tobytes()


def decode(payload: bytes, rows: int) -> tuple[npt.NDArray[np.int8], int]:
    """The inverse of :func:`encode`, from the front of a payload.

    Args:
        payload: may go on behind the exponents.
        rows: how many there are, at least one.

    Returns:
        The exponents, and the bytes that they take.

    Raises:
        CorruptFileError: the payload cuts them short, or breaks a rule of the format.
    """
    most = (_BITS + rows * 2 * (MOST + 1) + 7) // 8
    bits = np.unpackbits(np.frombuffer(payload[:most], np.uint8), bitorder="little")
    ends = np.flatnonzero(bits[_BITS:] == 0)[:rows]
    if len(ends) < rows:
        raise CorruptFileError("the exponents are cut short or out of range")
    centre = int(np.packbits(bits[:_BITS], bitorder="little")[0])
    code = np.diff(ends, prepend=-1) - 1
    exponents = centre + np.where(code % 2 == 1, (code + 1) // 2, -(code // 2))
    if exponents.min() < 0 or exponents.max() > MOST:
        raise CorruptFileError(f"an exponent is out of range: 0 to {MOST}")
    used = (_BITS + int(ends[-1]) + 8) // 8
    if bits[_BITS + int(ends[-1]) : 8 * used].any():
        raise CorruptFileError("bits behind the last exponent are not 0")
    return exponents.astype(np.int8), used
