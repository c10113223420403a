"""Updates over the air on an emulated Cortex-M4: decoder_c/examples/ota with a flash whose power can fail.

``python -m tests.emu.ota old.cwb new.cwb`` installs the delta new.cwb over old.cwb, damages what is sent, cuts the
power, and prints what the machine did and what it cost. Without files: a sample model, and the same with weights that
moved.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

import cerwu_onnx
from cerwu_onnx.container import reader
from cerwu_onnx.container.reader import Container
from cerwu_onnx.firmware.index import scratch_bytes

from . import build
from .elf import Elf
from .machine import Machine
from .targets import M4, Target

EXAMPLE = build.DECODER / "examples" / "ota"
SAMPLE = build.ROOT / "sample_models" / "fashion_dscnn"
ENTRIES = ("emu_install", "emu_boot", "emu_weights")
PAGE, MARKER, UNIT = 512, 16, 8
CHANGES_SCRATCH = 152
"""CWB_SCRATCH_ADAPTIVE: what a stream of changes takes beside that of the base's tensor."""

ENOUGH = 1 << 30
"""Units of power that no update takes."""

STEPS = 60
"""Places of damage, and of power cuts, that the report tries."""


def program(target: Target, folder: Path, delta: bytes, *models: Container) -> Elf:
    """Build the example with room for this delta, and scratch memory for the tensors of these models."""
    pages = -(-(MARKER + len(delta)) // PAGE)
    coded = [record for model in models for record in model.tensors if record.is_coded]
    scratch = max(scratch_bytes(record) for record in coded) + CHANGES_SCRATCH
    flags = ["-Os", f"-I{EXAMPLE}", f"-DSLOT_PAGES={pages}", f"-DSCRATCH_BYTES={scratch}"]
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


def main() -> None:
    """Install, damage, cut the power; print."""
    parser = argparse.ArgumentParser(prog="python -m tests.emu.ota", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path, nargs="?", help="what the device has: a .cwb file")
    parser.add_argument("delta", type=Path, nargs="?", help="what it receives: compress --base")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.delta is None:
            chosen.base, chosen.delta = sample(Path(folder))
        base, delta = chosen.base.read_bytes(), chosen.delta.read_bytes()
        old, new = reader.parse(base), reader.parse(delta, reader.parse(base))
        elf = program(M4, Path(folder), delta, old, new)
        for line in report(Device(M4, elf, base), delta, old, new):
            print(line)


def sample(folder: Path) -> tuple[Path, Path]:
    """A base and a delta: fashion_dscnn, and each of its tensors with noise of 3 % of its own spread."""
    data = SAMPLE / "calib.npz"
    cerwu_onnx.compress(SAMPLE / "model.onnx", folder / "old.cwb", calib=data)
    model = onnx.load(SAMPLE / "model.onnx")
    random = np.random.default_rng(1)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        later = values + 0.03 * values.std() * random.normal(size=values.shape)
        tensor.CopyFrom(numpy_helper.from_array(later.astype(np.float32), tensor.name))
    onnx.save(model, folder / "new.onnx")
    cerwu_onnx.compress(folder / "new.onnx", folder / "new.cwb", calib=data, base=folder / "old.cwb")
    return folder / "old.cwb", folder / "new.cwb"


def report(device: Device, delta: bytes, old: Container, new: Container) -> list[str]:
    """What the machine did, and what it cost, in lines."""
    before, after = symbols(old), symbols(new)
    sizes = device.machine.elf.sizes()
    lines = [f"base {len(old.data):,} bytes, delta {len(delta):,} bytes, {len(after):,} coded weights"]
    device.boot(count=True)
    lines.append(f"reset without an update: {device.instructions:,} instructions")
    assert np.array_equal(device.weights(count=True), before)
    plain = device.instructions
    empty = device.flash
    error, units = device.install(delta, count=True)
    assert error == 0, error
    lines.append(f"receive, check, switch over: {device.instructions:,} instructions")
    assert device.boot(count=True) == 1
    lines.append(f"reset with the update: {device.instructions:,} instructions")
    assert np.array_equal(device.weights(count=True), after)
    lines.append(
        f"weights, instructions each: {plain / len(after):.1f} of the base, "
        f"{device.instructions / len(after):.1f} of base and delta"
    )
    variables = sizes.variables - len(empty)
    lines.append(f"RAM: {variables:,} bytes of variables, {device.stack:,} of stack; code {sizes.code:,} bytes")
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
        is_old, is_new = np.array_equal(found, before), np.array_equal(found, after)
        outcome["old model" if is_old else "new" if is_new else "none"] += 1
        device.flash = empty
    lines.append(f"power cut after 0 to {units} steps of flash: {told(outcome)}")
    return lines


def told(counts: Counter[str]) -> str:
    """Numbers of cases in words."""
    return ", ".join(f"{count} {what}" for what, count in counts.items())


if __name__ == "__main__":
    main()
