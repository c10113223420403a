"""Read and write the elements of ONNX tensors: as raw bytes, bit for bit, or floats of any type as float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from cerwu_onnx.array_files import dtypes
from cerwu_onnx.errors import ModelError
from cerwu_onnx.types import FloatArray

_T = onnx.TensorProto
Array = npt.NDArray[Any]

_NAMES: dict[int, str] = {_T.FLOAT: "float32", _T.FLOAT16: "float16", _T.DOUBLE: "float64", _T.BFLOAT16: "bfloat16"}

FLOATS: dict[int, np.dtype[Any]] = {element: np.dtype(dtypes.FLOATS[name]) for element, name in _NAMES.items()}
"""Element types that are quantised, and the numpy type that holds their bits; bfloat16 as uint16."""

INTEGERS = {
    _T.INT8: "<i1",
    _T.INT16: "<i2",
    _T.INT32: "<i4",
    _T.INT64: "<i8",
    _T.UINT8: "<u1",
    _T.UINT16: "<u2",
    _T.UINT32: "<u4",
    _T.UINT64: "<u8",
    _T.BOOL: "<u1",
    **dict.fromkeys((17, 18, 19, 20, 24), "<u1"),  # floats of 8 bits, of which older versions of onnx know fewer
}
"""Element types of at least one byte that are coded as integers; 8-bit floats count by their bits."""

_WIDE = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
"""Fields that hold elements which are not in ``raw_data``."""

UNLOADED = "keeps its data in another file: load it into the model first (onnx.load does so)"
"""Message for a tensor of a model that :mod:`cerwu_onnx.model.loading` has not read."""


def storage_dtype(element: int) -> np.dtype[Any] | None:
    """The numpy type that holds the elements of a float or integer type bit for bit; None if numpy has none."""
    integers = element in INTEGERS and element < _T.FLOAT8E4M3FN and element != _T.BOOL
    return np.dtype(INTEGERS[element]) if integers else FLOATS.get(element)


def elsewhere(tensor: onnx.TensorProto) -> bool:
    """Whether the elements are in a file: an external tensor, as :mod:`cerwu_onnx.model.loading` leaves it."""
    return bool(tensor.data_location == _T.EXTERNAL and tensor.external_data)


def loaded(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The tensor itself, or a copy with its elements in ``raw_data`` if they are in a file."""
    if not elsewhere(tensor):
        return tensor
    return _T(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=raw_bytes(tensor))


def where(tensor: onnx.TensorProto) -> tuple[str, int, int]:
    """Path of the file that holds a tensor's elements, their offset there, and their size in bytes."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return entries["location"], int(entries["offset"]), int(entries["length"])


def raw_bytes(tensor: onnx.TensorProto) -> bytes:
    """The elements of a tensor in the form of ``raw_data``, also if they are in a file; not for strings.

    Raises:
        ModelError: they are in a file that is missing or was never found.
    """
    if tensor.HasField("raw_data"):
        return tensor.raw_data
    if elsewhere(tensor):
        return _read(tensor)
    values: list[Any] = next((list(getattr(tensor, field)) for field in _WIDE if len(getattr(tensor, field))), [])
    kind = tensor.data_type
    if kind in (_T.FLOAT16, _T.BFLOAT16):
        return np.asarray(values, np.int32).astype("<u2").tobytes()
    if kind in (_T.COMPLEX64, _T.COMPLEX128):
        return np.asarray(values, "<f4" if kind == _T.COMPLEX64 else "<f8").tobytes()
    dtype = np.dtype(FLOATS.get(kind) or INTEGERS.get(kind, "<u1"))
    if dtype.kind == "f":
        return np.asarray(values, dtype).tobytes()
    return np.asarray(values, np.uint64 if dtype == np.dtype("<u8") else np.int64).astype(dtype).tobytes()


def _read(tensor: onnx.TensorProto) -> bytes:
    try:
        path, offset, length = where(tensor)
        if not Path(path).is_absolute():
            raise ValueError(path)
        with Path(path).open("rb") as stream:
            stream.seek(offset)
            raw = stream.read(length)
    except (OSError, KeyError, ValueError):
        raw, length = b"", 1
    if len(raw) != length:
        raise ModelError(f"tensor {tensor.name!r} {UNLOADED}")
    return raw


def stored_floats(tensor: onnx.TensorProto) -> Array:
    """The elements of a float tensor bit for bit, in the dtype of :data:`FLOATS` and its own shape."""
    return np.frombuffer(raw_bytes(tensor), FLOATS[tensor.data_type]).reshape(tuple(tensor.dims))


def floats_of(tensor: onnx.TensorProto) -> FloatArray:
    """A copy of a float tensor's elements as float32: exact, but for float64, which is rounded."""
    return dtypes.to_float32(dtypes.Typed(stored_floats(tensor), _NAMES[tensor.data_type]))


def from_float32(values: FloatArray, element: int) -> Array:
    """Float32 values rounded to nearest even, in the dtype of :data:`FLOATS`. Those of bfloat16 must be finite."""
    return dtypes.from_float32(values, _NAMES[element])


def float_tensor(values: FloatArray, element: int, name: str) -> onnx.TensorProto:
    """A tensor of a float type with float32 values, rounded."""
    raw = np.ascontiguousarray(from_float32(values, element)).tobytes()
    return _T(name=name, data_type=element, dims=values.shape, raw_data=raw)
