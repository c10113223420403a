"""Placeholders: tensors of the graph section that stand for coded tensors, and how values fill them (docs/format.md).

Weights of any float type are quantised as float32 values, which are rounded to their type here. Tables of integers are
coded without loss: their symbols are the integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from cerwu_onnx.model.elements import FLOATS, INTEGERS, from_float32, raw_bytes
from cerwu_onnx.types import FloatArray

_T = onnx.TensorProto
Array = npt.NDArray[Any]

_PARTS = {21: (4, False), 22: (4, True), 23: (4, False), 25: (2, False), 26: (2, True)}
"""Element types with several elements in a byte, the first in its lowest bits: bits of one, and whether it is signed.

UINT4, INT4, FLOAT4E2M1, UINT2, INT2, by number: older versions of onnx do not know all names."""

NIBBLE = 4
"""Bits of each number where two share a byte of a uint8 tensor."""

MAX_SYMBOL = 2047
"""Largest magnitude of a coded tensor's symbols (docs/format.md)."""


@dataclass(frozen=True, slots=True)
class Table:
    """Integers that are coded without loss as ``symbols``; the integers are ``symbols + offset``.

    Attributes:
        symbols: int32, in the tensor's shape, or flat, two for each element, if ``nibbles``.
        offset: the most frequent integer, so that the most frequent symbol is 0; the middle of the range if others are
            too far from that.
        nibbles: the symbols are halves of bytes, the low one first.
    """

    symbols: npt.NDArray[np.int32]
    offset: int
    nibbles: bool = False


def tables(tensor: onnx.TensorProto) -> list[Table]:
    """The ways to code a tensor that is not empty as integers; empty if its type or range forbids it."""
    kind = tensor.data_type
    raw = np.frombuffer(raw_bytes(tensor), np.uint8) if kind in INTEGERS or kind in _PARTS else np.empty(0, np.uint8)
    if not raw.size:
        return []
    shape = tuple(tensor.dims)
    if kind in _PARTS:
        bits, signed = _PARTS[kind]
        parts = _unpacked(raw, bits)[: math.prod(shape)].astype(np.int64)
        wrapped = parts - (parts >> bits - 1 << bits) if signed else parts
        found = [_table(wrapped.reshape(shape))]
    else:
        found = [_table(raw.view(INTEGERS[kind]).reshape(shape))]
    if kind == _T.UINT8:
        found.append(_table(_unpacked(raw, NIBBLE), nibbles=True))
    return [table for table in found if table is not None]


def placeholder(tensor: onnx.TensorProto, table: Table | None = None) -> onnx.TensorProto:
    """Make the placeholder of a coded tensor; :func:`fill_coded` is the inverse.

    Args:
        tensor: the tensor, or one of its type and shape.
        table: how it is coded if it holds integers.
    """
    result = _T(data_location=_T.EXTERNAL)
    if tensor.data_type != _T.FLOAT:
        result.data_type = tensor.data_type
    if table is not None:
        result.int64_data.extend([table.offset] if table.offset else [])
        result.dims.extend(tensor.dims if table.nibbles else [])
    return result


def _table(values: Array, *, nibbles: bool = False) -> Table | None:
    lo, hi = int(values.min()), int(values.max())
    if hi - lo > 2 * MAX_SYMBOL or not -(2**63) <= lo <= hi < 2**63:
        return None
    places = (
        (values - values.dtype.type(lo)).astype(np.int64) if values.dtype.kind == "u" else values.astype(np.int64) - lo
    )
    common = int(np.bincount(places.ravel()).argmax())
    if max(common, hi - lo - common) > MAX_SYMBOL:
        common = (hi - lo) // 2
    return Table((places - common).astype(np.int32), lo + common, nibbles)


def fill_coded(tensor: onnx.TensorProto, values: FloatArray) -> bytes:
    """Fill a placeholder with the decoded float32 values of a coded tensor (docs/format.md).

    Args:
        tensor: the placeholder: ``data_type`` is that of the elements, ``int64_data`` may hold an offset, and ``dims``
            the shape in bytes if each value is half a byte. It becomes the tensor, without name and elements.
        values: decoded values, in the shape of the record.

    Returns:
        The elements, for the tensor's ``raw_data``.

    Raises:
        ValueError: the values do not fit the type, or the placeholder is malformed.
    """
    kind, dims = tensor.data_type, list(tensor.dims)
    offset = sum(tensor.int64_data)
    shape = tuple(dims or values.shape)
    if len(tensor.int64_data) > 1:
        raise ValueError("more than one offset")
    if kind in FLOATS and not dims and not offset:
        rounded = from_float32(values, kind)
        if not (rounded & 0x7F80 != 0x7F80 if kind == _T.BFLOAT16 else np.isfinite(rounded)).all():
            raise ValueError("values that are not finite")
        raw = bytes(np.ascontiguousarray(rounded).tobytes())
    elif kind in INTEGERS or kind in _PARTS:
        raw = _integers(values, kind, offset, dims)
    else:
        raise ValueError(f"a coded tensor of the type {kind}")
    tensor.Clear()
    tensor.data_type = kind
    tensor.dims.extend(shape)
    return raw


def _integers(values: FloatArray, kind: int, offset: int, dims: list[int]) -> bytes:
    """The raw bytes of the integers ``values + offset``."""
    with np.errstate(invalid="ignore"):  # what is no number is not equal to any integer
        exact = values.astype(np.int64)
    if not np.array_equal(exact, values):
        raise ValueError("values that are not integers")
    bits, signed = (NIBBLE, False) if dims else _PARTS.get(kind, (0, False))
    dtype = np.dtype(np.uint8 if bits else INTEGERS[kind])
    least, most = (0, 2**bits - 1) if bits else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if kind == _T.BOOL:
        most = 1
    if signed:
        least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if not least <= int(exact.min()) + offset <= int(exact.max()) + offset <= most:
        raise ValueError("values out of the type's range")
    shifted = exact.ravel() + np.int64(offset)
    if not bits:
        return bytes(shifted.astype(dtype).tobytes())
    if dims and (kind != _T.UINT8 or min(dims) < 1 or 2 * math.prod(dims) != exact.size):
        raise ValueError("halves that do not make up bytes")
    return _packed((shifted & 2**bits - 1).astype(np.uint8), bits)


def _unpacked(raw: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Unpack the numbers of so many bits in each byte, the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts: npt.NDArray[np.uint8] = (raw[:, None] >> shifts & np.uint8(2**bits - 1)).ravel()
    return parts


def _packed(parts: npt.NDArray[np.uint8], bits: int) -> bytes:
    """The inverse of :func:`_unpacked`; missing numbers at the end are 0."""
    each = 8 // bits
    whole = np.zeros(-(-parts.size // each) * each, np.uint8)
    whole[: parts.size] = parts
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return bytes(np.bitwise_or.reduce(whole.reshape(-1, each) << shifts, axis=1).astype(np.uint8).tobytes())
