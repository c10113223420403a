"""The format safetensors: eight bytes with the size of a JSON header, the header, and the arrays in a row."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from cerwu_onnx.array_files.dtypes import DTYPES, Typed

_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
_CODES = {name: code for code, name in _TYPES.items()}

_SIZE = 8
"""Bytes in front of the header, which hold its size."""

MAX_HEADER = 100_000_000
"""Bytes that the format allows a header."""

_ABOUT = "__metadata__"


def read(path: Path) -> tuple[dict[str, Typed], dict[str, str]]:
    """The arrays of a file by name, mapped to memory, and the texts of its ``__metadata__``.

    Raises:
        OSError: it cannot be read.
        ValueError: it breaks a rule of the format.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_SIZE), "little")
        if size < _SIZE or length > min(size - _SIZE, MAX_HEADER):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = _header(stream.read(length))
    about = header.pop(_ABOUT, {})
    if not isinstance(about, dict) or not all(isinstance(text, str) for text in about.values()):
        raise ValueError(f"{_ABOUT} is no object of strings")
    places = {name: _place(name, entry) for name, entry in header.items()}
    data, end = _SIZE + length, 0
    for name, (_, _, begin, stop) in sorted(places.items(), key=lambda item: item[1][2:]):
        if begin != end:
            raise ValueError(f"array {name!r} begins at byte {begin}, where {end} was to be: arrays overlap, or a gap")
        end = stop
    if data + end != size:
        raise ValueError(f"arrays of {end} bytes in a file that has {size - data} for them")
    content = np.memmap(path, np.uint8, "r", data) if end else np.empty(0, np.uint8)
    arrays = {
        name: Typed(content[begin:stop].view(DTYPES[dtype]).reshape(shape), dtype)
        for name, (dtype, shape, begin, stop) in places.items()
    }
    for name, array in arrays.items():
        if array.dtype == "bool" and array.values.view(np.uint8).max(initial=0) > 1:
            raise ValueError(f"array {name!r} of booleans holds other numbers than 0 and 1")
    return arrays, about


def _header(text: bytes) -> dict[str, Any]:
    """The header as an object without repeated names."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands in the header twice")
        return found

    try:
        header = json.loads(text.decode(), object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return header


def _place(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, begin and end of an array, from its entry in the header."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of array {name!r} is no dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise ValueError(f"array {name!r} has the type {str(dtype)[:40]!r}, which is none of {', '.join(_TYPES)}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
            raise ValueError(f"the entry of array {name!r} has a list with something that is no size")
    count = math.prod(shape) * np.dtype(DTYPES[_TYPES[dtype]]).itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != count:
        raise ValueError(f"array {name!r} of {count} bytes at {offsets}")
    return _TYPES[dtype], tuple(shape), offsets[0], offsets[1]


def write(stream: IO[bytes], arrays: Mapping[str, Typed], about: Mapping[str, str]) -> None:
    """Write arrays, in the order of the mapping, each of which is taken from it as late as possible, twice."""
    header: dict[str, Any] = {_ABOUT: dict(about)} if about else {}
    end = 0
    for name in arrays:
        array = arrays[name]
        begin, end = end, end + array.values.nbytes
        header[name] = {
            "dtype": _CODES[array.dtype],
            "shape": list(array.values.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _SIZE)
    stream.write(len(text).to_bytes(_SIZE, "little") + text)
    for name in arrays:
        stream.write(np.ascontiguousarray(arrays[name].values).tobytes())
