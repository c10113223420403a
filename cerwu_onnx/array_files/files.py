"""Read and write a file of named arrays by its suffix."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from cerwu_onnx.array_files import safetensors
from cerwu_onnx.array_files.dtypes import DTYPES, Typed, to_float32
from cerwu_onnx.errors import ModelError, UsageError, first_line
from cerwu_onnx.jobs.inputs import reading

SUFFIXES = (".npz", ".safetensors")

_DAMAGE = (OSError, ValueError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, KeyError, OverflowError)
"""What the libraries raise for damaged archives."""


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """Named arrays, and texts about them (``__metadata__`` of safetensors)."""

    arrays: Mapping[str, Typed]
    about: Mapping[str, str] = field(default_factory=dict)


def is_array_file(path: str | Path) -> bool:
    """Whether a path has the suffix of a file of arrays."""
    return Path(path).suffix.lower() in SUFFIXES


def read_arrays(path: str | Path) -> ArrayFile:
    """The arrays of a .npz or .safetensors file.

    Raises:
        UsageError: it cannot be read.
        ModelError: it is damaged, or holds something else than arrays of numbers.
    """
    path = Path(path)
    reading(path)
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    try:
        if path.suffix.lower() == ".npz":
            return ArrayFile(_read_npz(path))
        return ArrayFile(*safetensors.read(path))
    except _DAMAGE as error:
        raise ModelError(f"{path}: not a readable {path.suffix.lower()} file: {first_line(error)}") from None


def _read_npz(path: Path) -> dict[str, Typed]:
    """The arrays of a .npz file.

    Raises:
        ValueError: an array has another type than those of :data:`DTYPES`, Python objects among them.
    """
    found: dict[str, Typed] = {}
    with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in found:
                raise ValueError(f"two arrays are named {name!r}")
            with archive.open(member) as content:
                array = Typed.of(_read_npy(content, member.file_size))
            if array is None:
                raise ValueError(f"array {name!r} has a type that is none of {', '.join(DTYPES)}")
            found[name] = array
    return found


def _read_npy(stream: IO[bytes], size: int) -> np.ndarray:
    """An array in the npy format, in a member of so many bytes, no more of which are taken."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in "fiub":
        raise ValueError(f"arrays of the type {dtype} are not accepted")
    count = 1
    for length in shape:
        count *= length
    left = size - stream.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize != left:
        raise ValueError(f"an array of shape {shape} and type {dtype} in {left} bytes")
    content = bytearray()
    while len(content) < left:  # what a file only claims to hold is never allocated
        part = stream.read(min(left - len(content), 1 << 24))
        if not part:
            raise EOFError("an array is cut short")
        content += part
    array = np.frombuffer(content, dtype).reshape(shape[::-1] if fortran else shape)
    return array.transpose() if fortran else array


def write_arrays(stream: IO[bytes], path: str | Path, file: ArrayFile) -> None:
    """Write arrays to a stream in the format of a path's suffix. In a .npz, bfloat16 becomes float32, which is exact.

    Raises:
        UsageError: the format has no such type.
    """
    if Path(path).suffix.lower() == ".safetensors":
        safetensors.write(stream, file.arrays, file.about)
        return
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in file.arrays:
            array = file.arrays[name]
            if array.dtype.startswith("float8"):
                raise UsageError(f"array {name!r}: .npz has no {array.dtype}: give a .safetensors file")
            values = to_float32(array) if array.dtype == "bfloat16" else array.values
            member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            with archive.open(member, "w", force_zip64=True) as content:
                np.lib.format.write_array(content, np.asanyarray(values), allow_pickle=False)
