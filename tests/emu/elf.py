"""As much of ELF32 as is needed to load a program and to tell what its bytes are."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_SYMBOLS, _ZEROS = 2, 8
_WRITE, _ALLOCATE, _EXECUTE = 1, 2, 4
_FUNCTION, _DATA = 2, 1


@dataclass(frozen=True)
class Section:
    """A named piece of memory, as it is when the program starts."""

    name: str
    address: int
    content: bytes
    writable: bool
    code: bool


@dataclass(frozen=True)
class Symbol:
    """A function (``code``) or an object."""

    name: str
    address: int
    size: int
    code: bool


@dataclass(frozen=True)
class Sizes:
    """Bytes of code, of constants and of variables."""

    code: int
    const: int
    variables: int


class Elf:
    """An object file or a linked program, 32 bits, of either byte order."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        if self._data[:5] != b"\x7fELF\x01":
            raise ValueError(f"{path.name} is not a 32-bit ELF file")
        self._order = "<" if self._data[5] == 1 else ">"
        (table,) = self._unpack("I", 0x20)
        entry, entries, strings = self._unpack("HHH", 0x2E)
        self._headers = [self._unpack("10I", table + i * entry) for i in range(entries)]
        names = self._headers[strings][4]
        self.sections = [
            Section(
                self._text(names + name),
                address,
                bytes(size) if kind == _ZEROS else self._data[offset : offset + size],
                bool(flags & _WRITE),
                bool(flags & _EXECUTE),
            )
            for name, kind, flags, address, offset, size, *_ in self._headers
            if flags & _ALLOCATE and size
        ]

    def sizes(self) -> Sizes:
        """Sums over the sections; unwind tables and the like, which bare metal drops, do not count."""
        code = const = variables = 0
        for section in self.sections:
            size = len(section.content)
            if section.name.startswith((".rodata", ".data.rel.ro")):  # the latter: constants that hold addresses
                const += size
            elif section.name.startswith((".data", ".sdata", ".bss", ".sbss")):
                variables += size
            elif section.code:
                code += size
        return Sizes(code, const, variables)

    def symbols(self) -> list[Symbol]:
        """Functions and objects, by address."""
        found = set()
        for section in self._headers:
            if section[1] != _SYMBOLS:
                continue
            strings = self._headers[section[6]][4]
            for offset in range(section[4], section[4] + section[5], 16):
                name, value, size, info, _, index = self._unpack("IIIBBH", offset)
                if index and info & 15 in (_FUNCTION, _DATA):
                    code = info & 15 == _FUNCTION
                    found.add(Symbol(self._text(strings + name), value & ~1 if code else value, size, code))
        return sorted(found, key=lambda symbol: (symbol.address, symbol.name))

    def address(self, name: str) -> int:
        """Where the function or object of that name is."""
        return next(symbol.address for symbol in self.symbols() if symbol.name == name)

    def _unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + layout, self._data, offset)

    def _text(self, offset: int) -> str:
        return self._data[offset : self._data.index(b"\0", offset)].decode()
