"""Types of arrays by name, those that numpy lacks among them, and what becomes of float32 values in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx.types import FloatArray

Array = npt.NDArray[Any]

FLOATS = {"float32": "<f4", "float16": "<f2", "float64": "<f8", "bfloat16": "<u2"}
"""Types whose arrays may be quantised, and the numpy type that holds their bits."""

DTYPES = FLOATS | {
    "bool": "|b1",
    **{f"{kind}int{8 * size}": f"<{kind or 'i'}{size}" for kind in ("", "u") for size in (1, 2, 4, 8)},
    "float8_e4m3fn": "|u1",
    "float8_e5m2": "|u1",
}
"""All types of arrays, and the numpy type that holds their bits."""


@dataclass(frozen=True, slots=True)
class Typed:
    """An array and the name of its type.

    Attributes:
        values: of the numpy type of :data:`DTYPES`: bfloat16 and 8-bit floats as their bits.
        dtype: a key of :data:`DTYPES`.
    """

    values: Array
    dtype: str

    @classmethod
    def of(cls, values: Array) -> Typed | None:
        """An array of a type that numpy has; None if :data:`DTYPES` does not."""
        name = values.dtype.name
        if name not in DTYPES or values.dtype.kind not in "fiub":
            return None
        return cls(values.astype(DTYPES[name], copy=False), name)


def to_float32(array: Typed) -> FloatArray:
    """A copy of an array of floats as float32: exact, but for float64, which is rounded."""
    if array.dtype == "bfloat16":
        return (array.values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return np.array(array.values, np.float32)


def from_float32(values: FloatArray, dtype: str) -> Array:
    """Float32 values rounded to nearest even in a type of :data:`FLOATS`. Those of bfloat16 must be finite."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2").reshape(values.shape)
    with np.errstate(over="ignore"):
        return values.astype(FLOATS[dtype], copy=False)


def from_coded(values: FloatArray, dtype: str) -> Array:
    """What a coded tensor's values are in a type: floats rounded, all others exact.

    Raises:
        ValueError: they are not values of this type.
    """
    if dtype in FLOATS:
        found = from_float32(values, dtype)
        if dtype == "float16" and not np.isfinite(found).all():
            raise ValueError("values that float16 does not hold")
        return found
    bits = np.dtype(DTYPES[dtype])
    limits = (0, 1) if bits.kind == "b" else (int(np.iinfo(bits).min), int(np.iinfo(bits).max))
    least, most = float(values.min()), float(values.max())
    if not limits[0] <= least <= most <= limits[1] or not np.array_equal(values, np.rint(values)):
        raise ValueError(f"values that are none of {dtype}")
    return values.astype(bits)


def from_raw(values: Array, dtype: str) -> Array:
    """The bits of a raw tensor as those of a type.

    Raises:
        ValueError: an element takes another number of bytes.
    """
    bits = np.dtype(DTYPES[dtype])
    if not values.size:
        return np.empty(values.shape, bits)
    if bits.itemsize != values.dtype.itemsize:
        raise ValueError(f"{values.dtype} elements for {dtype}")
    return values.reshape(-1).view(bits).reshape(values.shape)


__all__ = ["DTYPES", "FLOATS", "Typed", "from_coded", "from_float32", "from_raw", "to_float32"]
