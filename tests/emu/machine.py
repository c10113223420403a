"""One emulated machine: a program in flash, buffers between unmapped pages, a painted stack, counted instructions."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import unicorn as uc

from .elf import Elf, Section
from .targets import Target

PAGE = 0x1000
STOP = 0x0F000000
"""Where functions return to."""

STACK_END, STACK_SIZE = 0x18000000, 0x4000
PAINT = b"\xa5"
FIRST_BUFFER, BUFFER_SPACING = 0x20000000, 0x00100000
"""Buffers lie far apart: whatever is next to one is not mapped."""

LAST_BUFFER = 0x7FF00000
"""Behind it, MIPS means other memory by an address."""

Place = Literal["start", "end", "odd"]
"""Where a buffer lies in its pages: at their start, at their end, or at the last odd address that leaves room for it.

The first two put the fence right before and right after it; the third shows unaligned access.
"""


class Trap(Exception):
    """The machine stopped: a stray access, an unknown instruction, an unaligned address, or no end in sight."""


class Machine:
    """A program that is loaded and ready to be called.

    Args:
        target: the machine.
        elf: the program.

    Attributes:
        stack_used: bytes of stack that the last call took.
    """

    def __init__(self, target: Target, elf: Elf) -> None:
        self.target = target
        self.elf = elf
        self.stack_used = 0
        self._functions = {symbol.name: symbol.address for symbol in elf.symbols() if symbol.code}
        self._buffers = 0
        self._uc = uc.Uc(target.arch, target.mode)
        if target.cpu is not None:
            self._uc.ctl_set_cpu_model(target.cpu)
        for section in elf.sections:
            self._load(section)
        self._uc.mem_map(STOP, PAGE)
        self._uc.mem_map(STACK_END - STACK_SIZE, STACK_SIZE, uc.UC_PROT_READ | uc.UC_PROT_WRITE)

    def buffer(self, size: int, place: Place = "end", content: bytes | None = None) -> int:
        """Address of new memory of ``size`` bytes between fences; read-only if it has ``content``."""
        address = FIRST_BUFFER + self._buffers * BUFFER_SPACING
        self._buffers += 1
        if address > LAST_BUFFER:
            raise ValueError("too many buffers for one machine")
        room = size + (place == "odd")
        pages = -(-room // PAGE) * PAGE
        if size == 0:
            return address
        if pages > BUFFER_SPACING - PAGE:
            raise ValueError(f"{size} bytes are too many for one buffer")
        self._uc.mem_map(address, pages, uc.UC_PROT_READ if content is not None else uc.UC_PROT_READ | uc.UC_PROT_WRITE)
        if place != "start":
            address += pages - size
        if place == "odd" and address % 2 == 0:
            address -= 1
        if content is not None:
            self._uc.mem_write(address, content)
        return address

    def write(self, address: int, content: bytes) -> None:
        """Put bytes into memory."""
        self._uc.mem_write(address, content)

    def read(self, address: int, size: int) -> bytes:
        """Bytes of memory."""
        return bytes(self._uc.mem_read(address, size)) if size else b""

    def write_words(self, address: int, words: Sequence[int]) -> None:
        """Put 32-bit words into memory, in the machine's byte order."""
        self.write(address, struct.pack(f"{self.target.order}{len(words)}I", *words))

    def read_words(self, address: int, count: int) -> tuple[int, ...]:
        """32-bit words of memory."""
        return struct.unpack(f"{self.target.order}{count}I", self.read(address, 4 * count))

    def call(self, function: str, argument: int = 0, seconds: float = 60) -> int:
        """Call a function of one argument, a word; return its value.

        Raises:
            Trap: it did not return.
        """
        target, start = self.target, self._functions[function]
        bottom, top = STACK_END - STACK_SIZE, STACK_END - 64
        self.write(bottom, PAINT * STACK_SIZE)
        self._uc.reg_write(target.stack, top)
        self._uc.reg_write(target.first, argument)
        self._uc.reg_write(target.link, STOP | target.thumb)
        if target.callee is not None:
            self._uc.reg_write(target.callee, start)
        reason = ""
        try:
            self._uc.emu_start(start | target.thumb, STOP, int(seconds * 1e6))
        except uc.UcError as error:
            reason = str(error)
        where = self._uc.reg_read(target.pc)
        if reason or where & ~1 != STOP:
            raise Trap(f"{target.name} in {function} at {where:#x}: {reason or 'no end'}")
        untouched = self.read(bottom, STACK_SIZE)
        self.stack_used = top - bottom - (len(untouched) - len(untouched.lstrip(PAINT)))
        return int(self._uc.reg_read(target.result)) & 0xFFFFFFFF

    @contextmanager
    def counting(self) -> Iterator[Counter[tuple[int, int]]]:
        """Count the executions of blocks (address, bytes) while the context lasts: see :meth:`instructions`."""
        counter: Counter[tuple[int, int]] = Counter()

        def block(_uc: uc.Uc, address: int, size: int, _user: object) -> None:
            counter[address, size] += 1

        self._uc.ctl_flush_tb()  # what has been translated without the hook would not call it
        hook = self._uc.hook_add(uc.UC_HOOK_BLOCK, block)
        try:
            yield counter
        finally:
            self._uc.hook_del(hook)

    def instructions(self, counter: Counter[tuple[int, int]]) -> int:
        """Instructions in the blocks that were counted. One that is predicated off counts: it takes its time too."""
        return sum(times * self._length(address, size) for (address, size), times in counter.items())

    def by_function(self, counter: Counter[tuple[int, int]]) -> Counter[str]:
        """The same by the function in which the blocks are."""
        functions = [symbol for symbol in self.elf.symbols() if symbol.code]
        starts = [symbol.address for symbol in functions]
        found: Counter[str] = Counter()
        for (address, size), times in counter.items():
            found[functions[bisect_right(starts, address) - 1].name] += times * self._length(address, size)
        return found

    def _length(self, address: int, size: int) -> int:
        code, count, position = self.read(address, size), 0, 0
        while position < size:
            (half,) = struct.unpack_from(f"{self.target.order}H", code, position)
            position += self.target.length(half)
            count += 1
        return count

    def _load(self, section: Section) -> None:
        """mcu.ld gives every section pages of its own."""
        first, end = section.address // PAGE * PAGE, section.address + len(section.content)
        protection = uc.UC_PROT_READ | (uc.UC_PROT_WRITE if section.writable else 0)
        self._uc.mem_map(first, -(-end // PAGE) * PAGE - first, protection | (uc.UC_PROT_EXEC if section.code else 0))
        self._uc.mem_write(section.address, section.content)
