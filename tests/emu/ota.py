"""Updates over the air on an emulated Cortex-M4: decoder_c/examples/ota with a flash whose power can fail.

``python -m tests.emu.ota old.cwb new.cwb`` installs the delta new.cwb over old.cwb, cuts the power at each step of it,
damages what is sent, and prints what the machine did and what it cost.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cerwu_onnx.container import reader
from cerwu_onnx.container.reader import Container

from . import build
from .elf import Elf
from .machine import Machine
from .targets import M4, Target

EXAMPLE = build.DECODER / "examples" / "ota"
ENTRIES = ("emu_install", "emu_boot", "emu_weights")
PAGE, MARKER, UNIT = 512, 16, 8
ENOUGH = 1 << 30
"""Units of power that no update takes."""

STEPS = 60
"""Places of damage, and of power cuts, that the report tries."""


def program(target: Target, folder: Path, slot_bytes: int) -> Elf:
    """Build the example with slots of ``slot_bytes``, a multiple of :data:`PAGE`."""
    flags = ["-Os", f"-I{EXAMPLE}", f"-DSLOT_PAGES={slot_bytes // PAGE}"]
    sources = [EXAMPLE / "ota.c", build.HERE / "ota_stub.c", build.DECODER / "cwb.c"]
    objects = [build.compile_object(target.zig, path, folder / f"{path.stem}.o", *flags) for path in sources]
    return build.link(target, objects, ENTRIES, folder / "ota.elf")


@dataclass
class Booted:
    """What a reset found: the number of the update in use, and all symbols, int16."""

    number: int
    symbols: npt.NDArray[np.int16]


class Device:
    """A machine with a base in flash that nothing can write: writing there traps.

    Attributes:
        instructions: of the last call, if it counted.
    """

    def __init__(self, target: Target, elf: Elf, base: bytes) -> None:
        self.machine = Machine(target, elf)
        self.instructions = 0
        self.stack = 0
        self._coded = sum(record.count for record in reader.parse(base).tensors if record.is_coded)
        self._flash, self._flash_bytes = next(
            (symbol.address, symbol.size) for symbol in elf.symbols() if symbol.name == "flash"
        )
        self._base, self._base_size = self.machine.buffer(len(base), content=base), len(base)
        self._job = self.machine.buffer(4 * 9)
        self._out = self.machine.buffer(2 * self._coded)
        self._air = self.machine.buffer(self._flash_bytes)
        self.flash = b"\xff" * self._flash_bytes

    @property
    def flash(self) -> bytes:
        """Both slots."""
        return self.machine.read(self._flash, self._flash_bytes)

    @flash.setter
    def flash(self, content: bytes) -> None:
        self.machine.write(self._flash, content)

    def install(self, delta: bytes, *, power: int = ENOUGH, piece: int = 100, count: bool = False) -> tuple[int, int]:
        """Receive a delta in pieces; the error, and the units of power that it took."""
        self.machine.write(self._air, delta)
        error = self._call("emu_install", [self._air, len(delta), piece, power, 0], count)
        return error, self._answer()[0]

    def boot(self, *, count: bool = False) -> int:
        """Reset the machine; the number of the update that it uses."""
        error = self._call("emu_boot", [0] * 5, count)
        assert error == 0, error
        return self._answer()[1]

    def weights(self, *, count: bool = False) -> npt.NDArray[np.int16]:
        """All symbols of the model in use."""
        error = self._call("emu_weights", [0, 0, 0, 0, self._out], count)
        assert error == 0, error
        return np.frombuffer(self.machine.read(self._out, 2 * self._coded), f"{self.machine.target.order}i2")

    def booted(self) -> Booted:
        """Reset, and read all."""
        return Booted(self.boot(), self.weights())

    def _call(self, function: str, words: list[int], count: bool) -> int:
        self.machine.write_words(self._job, [self._base, self._base_size, *words, 0, 0])
        if count:
            with self.machine.counting() as blocks:
                error = self.machine.call(function, self._job, 600)
            self.instructions = self.machine.instructions(blocks)
        else:
            error = self.machine.call(function, self._job, 600)
        self.stack = self.machine.stack_used
        return error - (1 << 32) if error >> 31 else error

    def _answer(self) -> tuple[int, ...]:
        return self.machine.read_words(self._job, 9)[7:]


def symbols(container: Container) -> npt.NDArray[np.int16]:
    """What :meth:`Device.weights` gives, by Python."""
    return np.concatenate([container.symbols(record).ravel() for record in container.tensors if record.is_coded])


def slot_for(delta: bytes) -> int:
    """Bytes of whole pages for a marker and a delta."""
    return -(-(MARKER + len(delta)) // PAGE) * PAGE


def main() -> None:
    """Install, damage, cut the power; print."""
    parser = argparse.ArgumentParser(prog="python -m tests.emu.ota", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path, help="what the device has: a .cwb file")
    parser.add_argument("delta", type=Path, help="what it receives: compress --base")
    chosen = parser.parse_args()
    base, delta = chosen.base.read_bytes(), chosen.delta.read_bytes()
    old, new = reader.parse(base), reader.parse(delta, reader.parse(base))
    with tempfile.TemporaryDirectory() as folder:
        elf = program(M4, Path(folder), slot_for(delta))
        for line in report(Device(M4, elf, base), delta, old, new):
            print(line)


def report(device: Device, delta: bytes, old: Container, new: Container) -> list[str]:
    """What the machine did, and what it cost, in lines."""
    before, after = symbols(old), symbols(new)
    lines = [f"base {len(old.data):,} bytes, delta {len(delta):,} bytes, {len(after):,} coded weights"]
    device.boot(count=True)
    lines.append(f"reset without an update: {device.instructions:,} instructions")
    assert np.array_equal(device.weights(count=True), before)
    plain = device.instructions
    empty = device.flash
    error, units = device.install(delta, count=True)
    lines.append(f"receive, check, switch over: {'done' if error == 0 else error}, {device.instructions:,} instructions")
    assert device.boot(count=True) == 1
    lines.append(f"reset with the update: {device.instructions:,} instructions")
    assert np.array_equal(device.weights(count=True), after)
    lines.append(
        f"weights, instructions each: {plain / len(after):.1f} of the base, "
        f"{device.instructions / len(after):.1f} of base and delta"
    )
    lines.append(f"stack {device.stack:,} bytes; no RAM for weights")
    device.flash = empty
    outcome = Counter[str]()
    for place in np.unique(np.linspace(0, len(delta) - 1, STEPS).astype(int)):
        damaged = bytearray(delta)
        damaged[place] ^= 1 << place % 8
        error = device.install(bytes(damaged))[0]
        right = np.array_equal(device.booted().symbols, after if error == 0 else before)
        outcome["weights wrong" if not right else "refused" if error else "in metadata, weights right"] += 1
        device.flash = empty
    lines.append(f"one bit of the delta wrong: {told(outcome)}")
    outcome.clear()
    for power in sorted({*np.linspace(0, units - 1, STEPS).astype(int).tolist(), *range(units - MARKER, units + 1)}):
        device.install(delta, power=power)
        found = device.booted().symbols
        outcome["old model" if np.array_equal(found, before) else "new" if np.array_equal(found, after) else "none"] += 1
        device.flash = empty
    lines.append(f"power cut after 0 to {units} steps of flash: {told(outcome)}")
    return lines


def told(counts: Counter[str]) -> str:
    """Numbers of cases in words."""
    return ", ".join(f"{count} {what}" for what, count in counts.items())


if __name__ == "__main__":
    main()
