"""Updates over the air on an emulated Cortex-M4: the old model or the new one, whatever is sent or fails."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ziglang", reason="no emulation of microcontrollers: pip install -e '.[emu]'")
pytest.importorskip("unicorn", reason="no emulation of microcontrollers: pip install -e '.[emu]'")

from cerwu_onnx.container import deltas, reader

from ..deltas import base as base_file
from ..deltas import change, delta, example
from . import build, ota
from .elf import Elf
from .targets import M4

BASE, FIRST = example()
CONTAINER = reader.parse(BASE)
SECOND = delta(BASE, [change(CONTAINER, 0, 0.3, 2, 5), *map(deltas.unchanged, CONTAINER.tensors[1:])])
MODELS = [ota.symbols(CONTAINER), *(ota.symbols(reader.parse(sent, CONTAINER)) for sent in (FIRST, SECOND))]
"""Symbols of the base, and after each of the two updates."""

SPACE, WRONG_BASE = -15, -19


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Elf:
    return ota.program(M4, tmp_path_factory.mktemp("ota"), FIRST, CONTAINER, reader.parse(FIRST, CONTAINER))


@pytest.fixture
def device(elf: Elf) -> ota.Device:
    return ota.Device(M4, elf, BASE)


def expect(device: ota.Device, number: int) -> None:
    """That a reset finds the model as it was after so many updates."""
    booted = device.booted()
    assert booted.number == number
    assert np.array_equal(booted.symbols, MODELS[number])


def test_updates(device: ota.Device) -> None:
    expect(device, 0)
    for number, sent in enumerate((FIRST, SECOND), 1):
        assert device.install(sent, piece=7 * number)[0] == 0
        expect(device, number)
    assert device.install(FIRST)[0] == 0  # an older state again: it takes the place of the first
    booted = device.booted()
    assert booted.number == 3
    assert np.array_equal(booted.symbols, MODELS[1])


def test_wrong_base(elf: Elf) -> None:
    other = ota.Device(M4, elf, base_file(1))
    assert other.install(FIRST)[0] == WRONG_BASE
    booted = other.booted()
    assert booted.number == 0
    assert np.array_equal(booted.symbols, ota.symbols(reader.parse(base_file(1))))


def test_new_firmware_brings_another_base(elf: Elf, device: ota.Device) -> None:
    """Deltas of the old one, which lie in the slots, are passed over."""
    assert device.install(FIRST)[0] == 0
    assert device.install(SECOND)[0] == 0
    other = ota.Device(M4, elf, base_file(1))
    other.flash = device.flash
    assert other.boot() == 0
    fitting = delta(base_file(1), [deltas.unchanged(record) for record in reader.parse(base_file(1)).tensors])
    assert other.install(fitting)[0] == 0
    assert other.boot() == 1


def test_damaged_base(elf: Elf) -> None:
    """Its payloads are not checked at each reset, but before each update that builds on them."""
    damaged = bytearray(BASE)
    damaged[CONTAINER.tensors[0].offset + 20] ^= 1
    device = ota.Device(M4, elf, bytes(damaged))
    assert device.install(FIRST)[0] < 0
    assert device.boot() == 0


@pytest.mark.parametrize("installed", [0, 1])
def test_damaged_updates(device: ota.Device, installed: int) -> None:
    """One bit of each byte, each seventh length, and a byte too many."""
    if installed:
        assert device.install(FIRST)[0] == 0
    before = device.flash
    sent = SECOND
    for place in range(len(sent)):
        damaged = bytearray(sent)
        damaged[place] ^= 1 << place % 8
        assert device.install(bytes(damaged))[0] < 0, place
        assert device.boot() == installed
        device.flash = before
    for wrong in (*(sent[:size] for size in range(0, len(sent), 7)), sent + b"\0"):
        assert device.install(wrong)[0] < 0
        expect(device, installed)
        device.flash = before
    assert device.install(bytes(len(before) // 2))[0] == SPACE  # no room for the marker
    expect(device, installed)


@pytest.mark.parametrize("installed", [0, 1])
def test_power_cuts(device: ota.Device, installed: int) -> None:
    """At each erased page, each eighth byte of the delta and each byte of the marker."""
    sent = (FIRST, SECOND)[installed]
    for earlier in (FIRST, SECOND)[:installed]:
        assert device.install(earlier)[0] == 0
    before = device.flash
    steps = device.install(sent)[1]
    after = device.flash
    pages = len(before) // 2 // ota.PAGE
    cuts = [*range(pages), *range(pages, steps, ota.UNIT), *range(steps - ota.MARKER, steps + 1)]
    for power in cuts:
        device.flash = before
        device.install(sent, power=power)
        whole = device.flash == after  # the rest of the last byte may have been there
        assert whole or power < steps
        expect(device, installed + whole)
        if not whole and power % 5 == 0:  # the next try goes well
            assert device.install(sent)[0] == 0
            expect(device, installed + 1)


def test_damaged_slots(device: ota.Device) -> None:
    """The update before, or the base, is there when flash loses a bit of the marker or of the delta."""
    for number, sent in enumerate((FIRST, SECOND), 1):
        assert device.install(sent)[0] == 0
        before = device.flash
        begin = (number - 1) * len(before) // 2
        for bit in (*range(8 * ota.MARKER), *range(8 * ota.MARKER, 8 * (ota.MARKER + len(sent)), 97)):
            damaged = bytearray(before)
            damaged[begin + bit // 8] ^= 1 << bit % 8
            device.flash = bytes(damaged)
            assert device.boot() == number - 1
        expect(device, number - 1)
        device.flash = before


def test_report(device: ota.Device) -> None:
    lines = ota.report(device, SECOND, CONTAINER, reader.parse(SECOND, CONTAINER))
    assert f"delta {len(SECOND)} bytes" in lines[0]
    assert f"one bit of the delta wrong: {min(ota.STEPS, len(SECOND))} refused" in lines
    assert re.fullmatch(r"power cut .* steps of flash: \d+ old model, 1 new", lines[-1])


def test_the_c_of_the_page_compiles(tmp_path: Path) -> None:
    page = (build.ROOT / "docs/deltas.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```c\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert blocks
    (tmp_path / "page.c").write_text("\n".join(blocks))
    build.compile_object(M4.zig, tmp_path / "page.c", tmp_path / "page.o", "-Os", f"-I{ota.EXAMPLE}")
