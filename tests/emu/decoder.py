"""The decoder's functions on an emulated machine: the host's side of stub.c."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .elf import Elf
from .machine import Machine, Place
from .targets import Target

_JOB_WORDS, _INPUTS = 16, 8
ALL = ("emu_open", "emu_sections", "emu_tensor", "emu_check", "emu_decode_i16", "emu_decode_f32", "emu_stream_i16")
"""The functions of stub.c that :class:`Decoder` calls."""
MINIMAL = "emu_minimal"


class DecoderError(Exception):
    """The decoder returned an error code."""


@dataclass(frozen=True)
class Tensor:
    """What the decoder says of a tensor."""

    index: int
    coded: bool
    count: int
    scratch: int
    payload_size: int
    payload: int


@dataclass
class Cost:
    """What the last call took: bytes of stack, and executions of blocks if they were counted."""

    stack: int = 0
    instructions: int = 0
    blocks: Counter[tuple[int, int]] = field(default_factory=Counter)


class Decoder:
    """A .cwb file opened by the decoder on a machine.

    Args:
        target: the machine.
        elf: stub.c and the decoder, linked for :data:`ALL`.
        data: the file.
        place: where buffers lie in their pages.
        count: count instructions; slower.
    """

    def __init__(self, target: Target, elf: Elf, data: bytes, place: Place = "end", *, count: bool = False) -> None:
        self.machine = Machine(target, elf)
        self.cost = Cost()
        self._count = count
        # Only bytes may lie at odd addresses: the output is int16 or float, as the compiler is told.
        self._place: Place = "end" if place == "odd" else place
        self._data = self.machine.buffer(len(data), place, data)
        self._size = len(data)
        self._job = self.machine.buffer(4 * _JOB_WORDS, "end")
        self.tensors, self.struct_bytes = self._call("emu_open")[:2]

    def sections(self) -> int:
        """Check the sections; bytes in them."""
        return self._call("emu_sections")[0]

    def tensor(self, index: int) -> Tensor:
        """Select a tensor: the methods below decode it."""
        coded, count, scratch, size, payload = self._call("emu_tensor", index=index)[:5]
        return Tensor(index, bool(coded), count, scratch, size, payload - self._data)

    def check(self, tensor: Tensor) -> None:
        """``cwb_check``."""
        self._call("emu_check", scratch=tensor.scratch)

    def whole(self, tensor: Tensor, kind: str) -> npt.NDArray[Any]:
        """``cwb_decode_i16`` or ``cwb_decode_f32``: ``kind`` is ``"i16"`` or ``"f32"``."""
        return self._decode(f"emu_decode_{kind}", tensor, "i2" if kind == "i16" else "f4", 0)

    def stream(self, tensor: Tensor, chunk: int) -> npt.NDArray[Any]:
        """``cwb_read_i16`` in pieces of ``chunk`` symbols; 0: of 1, 2, 3 and so on."""
        return self._decode("emu_stream_i16", tensor, "i2", chunk)

    def _decode(self, function: str, tensor: Tensor, dtype: str, chunk: int) -> npt.NDArray[Any]:
        size = tensor.count * np.dtype(dtype).itemsize
        out = self.machine.buffer(size, self._place)
        self._call(function, scratch=tensor.scratch, out=out, capacity=tensor.count, chunk=chunk)
        return np.frombuffer(self.machine.read(out, size), self.machine.target.order + dtype)

    def _call(
        self, function: str, *, index: int = 0, scratch: int = 0, out: int = 0, capacity: int = 0, chunk: int = 0
    ) -> tuple[int, ...]:
        machine = self.machine
        memory = machine.buffer(scratch, self._place)
        machine.write_words(self._job, [self._data, self._size, index, memory, scratch, out, capacity, chunk])
        if self._count:
            with machine.counting() as blocks:
                error = machine.call(function, self._job)
            self.cost = Cost(machine.stack_used, machine.instructions(blocks), blocks)
        else:
            error = machine.call(function, self._job)
            self.cost = Cost(machine.stack_used)
        if error:
            raise DecoderError(f"{function} returned {error - (1 << 32)}")
        return machine.read_words(self._job, _JOB_WORDS)[_INPUTS:]
