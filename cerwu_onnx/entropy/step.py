"""Grid steps in the form of the file: one byte for short steps, eight per octave (docs/format.md, "Steps")."""

from __future__ import annotations

import struct

import numpy as np

SHORT = 0x33000000
"""Bits of the float32 below the first short step; the n-th short step has ``n << 20`` more."""
LEAST, BEYOND = 0x00800000, 0x7A000000
"""Bits of the least step, 2^-126, and of the first that is too large, 2^117."""

LEAST_STEP = 2.0**-126


def bits_of(step: float) -> int:
    """The bits of a positive float32."""
    found: int = np.float32(step).view(np.uint32).item()
    return found


def storable(step: float) -> bool:
    """Whether a file can hold a step: its multiples are normal, finite floats."""
    return LEAST <= bits_of(step) < BEYOND


def to_bytes(step: float) -> bytes:
    """The bytes of a step: a short one as its number, any other as 0 and a float32."""
    number, rest = divmod(bits_of(step) - SHORT, 1 << 20)
    return bytes([number]) if rest == 0 and 1 <= number <= 255 else b"\0" + struct.pack("<f", step)


def short(step: float) -> float:
    """The float32 with a mantissa of three bits nearest to ``step``; between 2^-25 and 120 it is a short step.

    By high-rate theory a step that is off by up to 6 % costs 0.002 bits per weight on average, and it saves four bytes.
    """
    rounded = bits_of(step) + (1 << 19) >> 20 << 20
    return float(np.uint32(rounded).view(np.float32))


def below(step: float) -> float:
    """The largest result of :func:`short` that is at most ``step`` (not 0)."""
    return float(np.uint32(bits_of(step) >> 20 << 20).view(np.float32))


def above(step: float) -> float:
    """The smallest result of :func:`short` that is at least ``step``."""
    return float(np.uint32(bits_of(step) + (1 << 20) - 1 >> 20 << 20).view(np.float32))
