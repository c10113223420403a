"""The graph in C (decoder_c/host/cwb_onnx.h): a whole .cwb file as what onnxruntime loads, without onnx or protobuf."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cerwu_onnx import native
from cerwu_onnx.errors import BaseError, CorruptFileError, UsageError

_ANOTHER_BASE, _MEMORY, _NO_GRAPH = -19, -64, -71


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a file.

    Attributes:
        name: its name.
        shape: its dimensions.
        element: a number of ``TensorProto.DataType``.
        size: bytes of its elements in the form of ``raw_data``.
        offset: where they belong in the model's bytes, unless they are apart.
        apart: whether they are not in the model's bytes.
        is_read: whether a node reads it, or the graph returns it.
    """

    name: str
    shape: tuple[int, ...]
    element: int
    size: int
    offset: int
    apart: bool
    is_read: bool


class Model:
    """A file, opened by the C library: all but the payloads of its tensors is checked.

    Args:
        data: the whole file.
        base: that of a delta.
        apart: bytes of initializers that are not to be in the model's bytes; 0 leaves all inside.

    Raises:
        BaseError: the base is missing, or another file.
        CorruptFileError: the file breaks docs/format.md.
        UsageError: it holds no graph.
        RuntimeError: the library is not :func:`native.available`.
    """

    def __init__(self, data: bytes, base: bytes | None = None, apart: int = 0) -> None:
        self._library = native.loaded_library()
        self._handle = ctypes.c_void_p()
        self._bytes = [np.frombuffer(part or b"\0", np.uint8) for part in (data, base)]
        (file, under), sizes = (array.ctypes.data for array in self._bytes), (len(data), len(base or b""))
        self._check(
            self._library.cwb_host_onnx_open(
                ctypes.byref(self._handle), file, sizes[0], under if base is not None else None, sizes[1]
            )
        )
        self.put_apart(apart)

    def __del__(self) -> None:
        """Free the memory of the library."""
        if self._handle:
            self._library.cwb_host_onnx_close(self._handle)

    def put_apart(self, least: int) -> None:
        """Put initializers of at least so many bytes apart, and all others inside; 0 puts all inside."""
        location = b"in memory" if least else None
        self._check(self._library.cwb_host_onnx_apart(self._handle, location, least))
        self.tensors = [self._tensor(index) for index in range(self._library.cwb_host_onnx_tensors(self._handle))]

    def frame(self) -> npt.NDArray[np.uint8]:
        """The model's bytes, with places for the elements of tensors that are inside.

        Raises:
            CorruptFileError: they would exceed protobuf's limit of 2 GB.
        """
        out = np.empty(self._library.cwb_host_onnx_size(self._handle), np.uint8)
        self._check(self._library.cwb_host_onnx_frame(self._handle, out.ctypes.data, out.size))
        return out

    def decode_list(self, indices: Sequence[int], out: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Decode tensors into arrays of their sizes, in one call, during which other threads run.

        Raises:
            CorruptFileError: a check of one of them fails.
        """
        if any(array.size != self.tensors[index].size for index, array in zip(indices, out, strict=True)):
            raise ValueError("arrays of other sizes than the tensors")
        wanted = np.array(indices, np.uint32)
        places = np.array([array.ctypes.data for array in out], np.uintp)
        count = len(indices)
        if self._library.cwb_host_onnx_decode_list(self._handle, wanted.ctypes.data, count, places.ctypes.data):
            for index, place in zip(wanted, places, strict=True):  # which one was it?
                one, where = np.array([index], np.uint32), np.array([place], np.uintp)
                code = self._library.cwb_host_onnx_decode_list(self._handle, one.ctypes.data, 1, where.ctypes.data)
                self._check(code, f"tensor {self.tensors[index].name!r}: ")

    def _tensor(self, index: int) -> Tensor:
        info, name, dims = (ctypes.c_uint64 * 7)(), ctypes.c_void_p(), ctypes.POINTER(ctypes.c_int64)()
        self._check(
            self._library.cwb_host_onnx_tensor(self._handle, index, info, ctypes.byref(name), ctypes.byref(dims))
        )
        size, offset, element, apart, is_read, rank, length = info
        text = ctypes.string_at(name.value or 0, length).decode()
        return Tensor(text, tuple(dims[:rank]), element, size, offset, bool(apart), bool(is_read))

    def _check(self, code: int, where: str = "") -> None:
        """Turn an error code of the library into an exception."""
        if code == 0:
            return
        text = where + self._library.cwb_host_onnx_strerror(code).decode()
        if code == _MEMORY:
            raise MemoryError(text)
        if code == _NO_GRAPH:
            raise UsageError(text)
        raise (BaseError if code == _ANOTHER_BASE else CorruptFileError)(text)
