"""The C decoder (decoder_c/), loaded through ctypes. Optional: an install without a C compiler has none.

The library reads .cwb bytes where they are: ``bytes``, a memoryview or an ``mmap``, never copied. It checks
everything it reads, so damaged files end in :class:`~cerwu_onnx.errors.CorruptFileError`, never in a crash.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cerwu_onnx.errors import BaseError, CorruptFileError

ABI = 14
"""The ``CWB_HOST_ABI`` of decoder_c/host/cwb_host.c that this module needs."""

FORMAT_VERSION = 2
"""Version of the file format the library must read."""

MAX_ELEMENTS = 2**29
"""The most elements of a tensor, unless the caller gives another bound: 2 GiB of float32, protobuf's limit for models.

A file of a hundred bytes may correctly declare 2^31 - 1 equal elements; this bounds the memory that it
can claim.
"""

Buffer = bytes | bytearray | memoryview | mmap.mmap

_CODED = (1, 2)
_ANOTHER_BASE = -19
_SECTIONS = range(32, 128)
_SECTION_NAMES = {32: "graph", 33: "metadata", 34: "names", 35: "base", 64: "margins"}
_NAMES = ("libcwb.so", "libcwb.dll", "libcwb.dylib")


def available() -> bool:
    """Whether the decoder was built, loads, and fits this version of the package."""
    return _load()[0] is not None


def unavailable_reason() -> str | None:
    """Why :func:`available` is false, in one line; None when it is true."""
    return _load()[1]


def library_path() -> Path | None:
    """Where the shared library is, usable or not; None when it was not built."""
    # In an editable install the library lies in site-packages and this file does not: look in every directory
    # of the package.
    folders: list[str] = list(sys.modules[__package__].__path__)
    for folder in folders:
        for name in _NAMES:
            path = Path(folder, name)
            if path.is_file():
                return path
    return None


def version() -> str | None:
    """Version of the decoder; None when it is not available."""
    library = _load()[0]
    return None if library is None else str(library.cwb_host_version().decode())


class File:
    """An open .cwb file. Header and directory are checked once, here.

    The buffer must not change while this object lives, and an ``mmap`` cannot be closed before it is gone.

    Args:
        data: the whole file.
        names: of the tensors, for messages; else those of the file where they are plain, else "#3" and so on.
        base: that of a delta; its names and sections then are those of this file.

    Raises:
        BaseError: it is no delta although it has a base, or another one.
        CorruptFileError: the file breaks docs/format.md.
        RuntimeError: the decoder is not :func:`available`.
    """

    def __init__(self, data: Buffer, names: Sequence[str] = (), base: File | None = None) -> None:
        self._library = loaded_library()
        self._names, self._base = names, base
        self._bytes = np.frombuffer(data, dtype=np.uint8) if len(data) else np.empty(0, np.uint8)
        self._handle = ctypes.create_string_buffer(self._library.cwb_host_file_bytes())
        where, size = self._bytes.ctypes.data, self._bytes.size
        self._check(self._library.cwb_host_open(self._handle, where, size, None if base is None else base._handle))

    def __len__(self) -> int:
        """Number of tensors."""
        return int(self._library.cwb_host_tensors(self._handle))

    def name(self, index: int) -> str:
        """Name of a tensor."""
        self._tensor(index)
        return self._names[index] if self._names else self._stored_name(index).decode() or f"#{index}"

    def decode_f32(self, index: int, *, max_elements: int = MAX_ELEMENTS) -> npt.NDArray[np.float32]:
        """The values of a coded tensor: float32, flat, row-major. All checks of the format are made.

        Raises:
            CorruptFileError: the tensor is damaged, or larger than ``max_elements``.
            ValueError: the tensor is raw.
            IndexError: there is no such tensor.
        """
        out = np.empty(self._count(index, max_elements), np.float32)
        code = self._library.cwb_host_decode_f32(self._handle, index, out.ctypes.data, out.size)
        self._check(code, index)
        return out

    def decode_list(self, indices: Sequence[int]) -> list[npt.NDArray[np.float32]]:
        """The values of several coded tensors as :meth:`decode_f32` gives them, in one call.

        It lets other threads run from the first tensor to the last. Errors are those of :meth:`decode_f32`, for the
        first of the tensors that has one.
        """
        out = [np.empty(self._count(index, MAX_ELEMENTS), np.float32) for index in indices]
        wanted = np.array(indices, np.uint32)
        addresses = np.array([array.ctypes.data for array in out], np.uintp)
        sizes = np.array([array.size for array in out], np.uintp)
        lists = (array.ctypes.data for array in (addresses, sizes))
        if self._library.cwb_host_decode_list(self._handle, wanted.ctypes.data, len(out), *lists):
            for index in indices:  # which one was it?
                self.decode_f32(index)
        return out

    def decode_symbols(self, index: int, *, max_elements: int = MAX_ELEMENTS) -> npt.NDArray[np.int16]:
        """The symbols of a coded tensor: int16, flat, row-major.

        Checks and errors are those of :meth:`decode_f32`.
        """
        out = np.empty(self._count(index, max_elements), np.int16)
        code = self._library.cwb_host_decode_i16(self._handle, index, out.ctypes.data, out.size)
        self._check(code, index)
        return out

    def margin(self, index: int) -> int:
        """Bytes by which a buffer must exceed one per symbol, for decoding a coded tensor in place.

        Raises:
            CorruptFileError: the tensor is damaged.
            ValueError: the tensor is raw.
            IndexError: there is no such tensor.
        """
        self._count(index, MAX_ELEMENTS)
        margin = ctypes.c_uint32()
        self._check(self._library.cwb_host_margin(self._handle, index, ctypes.byref(margin)), index)
        return margin.value

    def verify(self) -> None:
        """Decode every tensor without keeping it and check every CRC.

        Raises:
            CorruptFileError: with the name of the tensor or section at fault.
        """
        if len(self):
            self._stored_name(0)  # checks them all
        for index in range(len(self)):
            self._check(self._library.cwb_host_check_tensor(self._handle, index), index)
        for kind in _SECTIONS:
            where = f"{_SECTION_NAMES.get(kind, f'ancillary {kind}')} section"
            self._check(self._library.cwb_host_check_section(self._handle, kind), where=where)

    def _stored_name(self, index: int) -> bytes:
        """Name of a tensor in a section of names; empty without one."""
        name, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._check(self._library.cwb_host_name(self._handle, index, ctypes.byref(name), ctypes.byref(size)))
        return ctypes.string_at(name.value or 0, size.value) if size.value else b""

    def _tensor(self, index: int) -> tuple[int, int]:
        """Kind and number of elements."""
        if not 0 <= index < len(self):
            raise IndexError(f"tensor {index} of a file that has {len(self)}")
        info = (ctypes.c_uint32 * 3)()
        self._check(self._library.cwb_host_tensor(self._handle, index, info))
        return info[0], info[2]

    def _count(self, index: int, max_elements: int) -> int:
        """Number of elements of a coded tensor, checked before anything is allocated."""
        kind, count = self._tensor(index)
        if kind not in _CODED:
            raise ValueError(f"tensor {self.name(index)!r} is raw: its payload is its data")
        if count > max_elements:
            raise CorruptFileError(f"tensor {self.name(index)!r}: {count} elements exceed the limit of {max_elements}")
        return count

    def _check(self, code: int, index: int | None = None, where: str = "") -> None:
        """Turn an error code of the library into an exception."""
        if code == 0:
            return
        if index is not None:
            where = f"tensor {self.name(index)!r}"
        text = self._library.cwb_host_strerror(code).decode()
        if code == _ANOTHER_BASE:
            raise BaseError(text)
        raise CorruptFileError(f"{where}: {text}" if where else text)


def decode_f32(data: Buffer, index: int, *, max_elements: int = MAX_ELEMENTS) -> npt.NDArray[np.float32]:
    """Open a file and decode one coded tensor: :meth:`File.decode_f32`. For several, keep a :class:`File`."""
    return File(data).decode_f32(index, max_elements=max_elements)


def decode_symbols(data: Buffer, index: int, *, max_elements: int = MAX_ELEMENTS) -> npt.NDArray[np.int16]:
    """Open a file and decode the symbols of one coded tensor, see :meth:`File.decode_symbols`."""
    return File(data).decode_symbols(index, max_elements=max_elements)


def verify(data: Buffer) -> None:
    """Open a file and check all of it, see :meth:`File.verify`."""
    File(data).verify()


def encode_ans(indices: npt.NDArray[np.uint16], frequencies: npt.NDArray[np.uint16]) -> bytes:
    """The words (docs/format.md, "ANS payload") of flat ``indices`` into ``frequencies``.

    These are of a table, which sums to 4096, or of two in a row.

    Raises:
        RuntimeError: the library is not :func:`available`.
        ValueError: an index has no frequency, or the frequencies another sum.
    """
    library = loaded_library()
    indices, frequencies = np.ascontiguousarray(indices, np.uint16), np.ascontiguousarray(frequencies, np.uint16)
    sums = tuple(np.add.reduceat(frequencies, [0, frequencies.size // 2], dtype=np.int64).tolist())
    sound = sum(sums) == 4096 or sums == (4096, 4096)
    if not sound or indices.max(initial=0) >= frequencies.size or not frequencies[indices].all():
        raise ValueError("frequencies of a table must sum to 4096 and that of each index must not be 0")
    out = np.empty(2 * indices.size + 4, np.uint8)
    size = library.cwb_host_encode_ans(
        indices.ctypes.data, indices.size, frequencies.ctypes.data, frequencies.size, out.ctypes.data, out.size
    )
    return out[out.size - size :].tobytes()


def encode_adaptive(
    symbols: npt.NDArray[np.int16],
    reach: int,
    header: int,
    grids: npt.NDArray[np.uint8] | None = None,
    run: int = 0,
    far: int = 2,
) -> bytes:
    """The adaptive payload (docs/format.md) with this header, of flat ``symbols``, -reach ... reach.

    With ``grids`` (0 or 1, one per symbol) they are indices on those grids of a trellis of runs of ``run`` elements; or
    changes, with a ``run`` of 0. ``far`` is the magnitude from which on the next symbol has another context.

    Raises:
        RuntimeError: the library is not :func:`available`.
        ValueError: a symbol is out of reach or has no grid, or the header is none.
    """
    library = loaded_library()
    symbols = np.ascontiguousarray(symbols, np.int16)
    if np.abs(symbols, dtype=np.int32).max(initial=0) > reach or reach > 2047:
        raise ValueError(f"symbols exceed {reach}")
    if not header & 0xF000F:
        raise ValueError("signs of neighbours in rows of 0 elements")
    if grids is not None:
        grids = np.ascontiguousarray(grids, np.uint8)
        if grids.shape != symbols.shape or grids.max(initial=0) > 1:
            raise ValueError("each symbol needs a grid, 0 or 1")
    where = None if grids is None else grids.ctypes.data
    room = 64 + symbols.size
    while True:
        out = np.empty(room, np.uint8)
        size = library.cwb_host_encode_adaptive(
            symbols.ctypes.data, where, symbols.size, run, reach, far, header, out.ctypes.data, room
        )
        if size <= room:
            return out[:size].tobytes()
        room = size


def pack(content: bytes, primer: bytes) -> bytes:
    """The code (docs/format.md, "Packed sections") of a content, by a model that has read the primer.

    Raises:
        RuntimeError: the library is not :func:`available`.
    """
    library, text = loaded_library(), np.frombuffer(primer + content, np.uint8)
    room = 64 + len(content)
    while True:
        out, model = np.empty(room, np.uint8), _primed(primer).copy()
        size = library.cwb_host_pack(model.ctypes.data, text.ctypes.data, len(content), out.ctypes.data, room)
        if size <= room:
            return out[:size].tobytes()
        room = size


def unpack(code: bytes, size: int, primer: bytes) -> bytes | None:
    """The content of ``size`` bytes that has this code; None if the code is damaged.

    Raises:
        RuntimeError: the library is not :func:`available`.
    """
    library, given = loaded_library(), np.frombuffer(code or b"\0", np.uint8)
    text = np.empty(len(primer) + size, np.uint8)
    text[: len(primer)] = np.frombuffer(primer, np.uint8)
    model = _primed(primer).copy()
    if not library.cwb_host_unpack(model.ctypes.data, text.ctypes.data, size, given.ctypes.data, len(code)):
        return None
    return text[len(primer) :].tobytes()


@functools.lru_cache(maxsize=1)
def _primed(primer: bytes) -> npt.NDArray[np.uint64]:
    """A model of packed sections that has read the primer."""
    library, text = loaded_library(), np.frombuffer(primer, np.uint8)
    model = np.empty(-(-library.cwb_host_pack_model_bytes() // 8), np.uint64)
    library.cwb_host_pack_prime(model.ctypes.data, text.ctypes.data, text.size)
    return model


def search_trellis(
    w: npt.NDArray[np.float64],
    feedback: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
    row_feedback: npt.NDArray[np.float64] | None,
    price: npt.NDArray[np.float32],
    bits: npt.NDArray[np.float32],
    states: npt.NDArray[np.uint8],
) -> npt.NDArray[np.float64]:
    """The paths of the rows of one matrix (decoder_c/host/cwb_search.h).

    Args:
        w: ``(M, N)`` weights in steps.
        feedback: ``(N, N)``, or ``(N, n)`` where n columns make a block and do nothing to those of others.
        weight: ``(N,)``.
        row_feedback: ``(M, M)``, or None.
        price: ``(M,)``.
        bits: ``(2, R + 1)``.
        states: ``(64, 2)``.

    Returns:
        Values ``(M, N)``.

    Raises:
        RuntimeError: the library is not :func:`available`.
    """
    library, (rows, columns) = loaded_library(), w.shape
    work = np.array(w, np.float64, order="C")
    scratch, values = np.empty(columns), np.empty((rows, columns))
    arrays = [np.ascontiguousarray(array) for array in (feedback, weight, price, bits, states)]
    between = None if row_feedback is None else np.ascontiguousarray(row_feedback)
    a, b, c, d, e = (array.ctypes.data for array in arrays)
    where = None if between is None else between.ctypes.data
    library.cwb_host_search(
        work.ctypes.data, rows, columns, feedback.shape[1], a, b, where, c, d, bits.shape[1], e, scratch.ctypes.data,
        values.ctypes.data,
    )  # fmt: skip
    return values


def loaded_library() -> ctypes.CDLL:
    """The library, for modules that call it.

    Raises:
        RuntimeError: it is not :func:`available`.
    """
    library, reason = _load()
    if library is None:
        raise RuntimeError(f"the C decoder is not available: {reason}")
    return library


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str | None]:
    """The library, or why there is none."""
    path = library_path()
    if path is None:
        return None, "it was not built (the install found no C compiler)"
    try:
        library = ctypes.CDLL(str(path))
        for name in ("cwb_host_abi", "cwb_host_format_version"):
            getattr(library, name).restype = ctypes.c_uint32
        found = library.cwb_host_abi(), library.cwb_host_format_version()
        if found != (ABI, FORMAT_VERSION):
            return None, (
                f"{path.name} is stale (interface {found[0]}, format {found[1]}; "
                f"needed {ABI}, {FORMAT_VERSION}): reinstall cerwu-onnx"
            )
        _declare(library)
    except (OSError, AttributeError) as error:
        return None, f"{path.name} does not load: {error}"
    return library, None


def _declare(library: ctypes.CDLL) -> None:
    """Declare the functions of decoder_c/host/cwb_host.c."""
    pointer, u32, i32, size = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int32, ctypes.c_size_t
    signatures: dict[str, tuple[type | None, list[type]]] = {
        "crc32": (u32, [u32, pointer, size]),
        "version": (ctypes.c_char_p, []),
        "strerror": (ctypes.c_char_p, [i32]),
        "file_bytes": (size, []),
        "open": (i32, [pointer, pointer, size, pointer]),
        "tensors": (u32, [pointer]),
        "tensor": (i32, [pointer, u32, pointer]),
        "name": (i32, [pointer, u32, pointer, pointer]),
        "check_tensor": (i32, [pointer, u32]),
        "margin": (i32, [pointer, u32, pointer]),
        "check_section": (i32, [pointer, i32]),
        "decode_f32": (i32, [pointer, u32, pointer, size]),
        "decode_list": (i32, [pointer, pointer, u32, pointer, pointer]),
        "onnx_open": (i32, [pointer, pointer, size, pointer, size]),
        "onnx_close": (None, [pointer]),
        "onnx_strerror": (ctypes.c_char_p, [i32]),
        "onnx_tensors": (size, [pointer]),
        "onnx_tensor": (i32, [pointer, size, pointer, pointer, pointer]),
        "onnx_apart": (i32, [pointer, ctypes.c_char_p, size]),
        "onnx_size": (size, [pointer]),
        "onnx_frame": (i32, [pointer, pointer, size]),
        "onnx_decode_list": (i32, [pointer, pointer, u32, pointer]),
        "decode_i16": (i32, [pointer, u32, pointer, size]),
        "encode_ans": (size, [pointer, size, pointer, u32, pointer, size]),
        "encode_adaptive": (size, [pointer, pointer, size, u32, u32, u32, u32, pointer, size]),
        "pack_model_bytes": (size, []),
        "pack_prime": (None, [pointer, pointer, size]),
        "pack": (size, [pointer, pointer, size, pointer, size]),
        "unpack": (i32, [pointer, pointer, size, pointer, size]),
        "columns": (None, [pointer, size, pointer, pointer, size, pointer]),
        "search": (None, [pointer, *[size] * 3, *[pointer] * 5, size, *[pointer] * 3]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"cwb_host_{name}")
        function.restype, function.argtypes = result, arguments
