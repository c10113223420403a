"""The C decoder on emulated machines: bit for bit what the Python reader decodes, and no stray access.

The first half holds the emulation itself to what it claims: it must notice programs that go wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ziglang", reason="no emulation of microcontrollers: pip install -e '.[emu]'")
pytest.importorskip("unicorn", reason="no emulation of microcontrollers: pip install -e '.[emu]'")

import unicorn

from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer

from . import build, targets
from .decoder import ALL, Decoder, DecoderError
from .elf import Elf
from .machine import PAGE, STACK_SIZE, Machine, Place, Trap
from .targets import M0, M4, M33, MIPS, PPC, RV32, Target

GOLDEN = [build.ROOT / "tests" / "golden" / f"{name}.cwb" for name in ("v1/kinds", "v1/forms", "v2/forms", "v2/model")]
FAULTS = ["none", "read_byte", "write_byte", "read_word", "read_half", "stack", "loop", "count"]

each_target = pytest.mark.parametrize("target", targets.EMULATED, ids=lambda target: target.name)
Programs = Callable[[Target, str], Elf]
Faulty = Callable[[Target], Machine]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emu")


@pytest.fixture(scope="session")
def program(folder: Path) -> Programs:
    """program(target, "-Os"): the decoder and stub.c; compiled once per session."""
    made: dict[tuple[str, str], Elf] = {}

    def program(target: Target, level: str) -> Elf:
        key = target.name, level
        if key not in made:
            made[key] = build.program(target, folder, level, ALL)
        return made[key]

    return program


@pytest.fixture(scope="session")
def faulty(folder: Path) -> Faulty:
    """faulty(target): a new machine that runs faults.c."""
    made: dict[str, Elf] = {}

    def faulty(target: Target) -> Machine:
        if target.name not in made:
            source = build.HERE / "faults.c"
            compiled = build.compile_object(target.zig, source, folder / f"faults-{target.name}.o", "-O1")
            entries = [f"fault_{name}" for name in [*FAULTS, *(["thumb2"] if target.thumb else [])]]
            made[target.name] = build.link(target, [compiled], entries, folder / f"faults-{target.name}.elf")
        return Machine(target, made[target.name])

    return faulty


class TestEmulation:
    """What the machines do, before they are trusted with the decoder."""

    @each_target
    def test_runs(self, faulty: Faulty, target: Target) -> None:
        machine = faulty(target)
        assert machine.call("fault_none", 41) == 42
        word = machine.buffer(4, content=bytes([1, 2, 3, 4]))
        assert machine.call("fault_read_word", word) == (0x01020304 if target.big else 0x04030201)

    @each_target
    @pytest.mark.parametrize("function", ["fault_read_byte", "fault_write_byte"])
    def test_fences(self, faulty: Faulty, target: Target, function: str) -> None:
        """One byte before and one byte past a buffer."""
        for size in (PAGE, 3 * PAGE - 5):
            machine = faulty(target)
            start, end = machine.buffer(size, "start"), machine.buffer(size, "end")
            for inside in (start, start + size - 1, end, end + size - 1):
                machine.call(function, inside)
            for outside in (start - 1, end + size):
                with pytest.raises(Trap, match=r"unmapped|UNMAPPED"):
                    machine.call(function, outside)
        with pytest.raises(Trap):
            machine.call(function, machine.buffer(0))
        with pytest.raises(Trap):
            machine.call(function, 0)

    @each_target
    def test_input_and_code_are_read_only(self, faulty: Faulty, target: Target) -> None:
        machine = faulty(target)
        for address in (machine.buffer(8, content=bytes(8)), machine.elf.address("fault_none")):
            machine.call("fault_read_byte", address)
            with pytest.raises(Trap):
                machine.call("fault_write_byte", address)

    @pytest.mark.parametrize(("target", "traps"), [(M0, True), (MIPS, True), (M4, False)], ids=["M0", "MIPS", "M4"])
    def test_unaligned_access(self, faulty: Faulty, target: Target, traps: bool) -> None:
        machine = faulty(target)
        address = machine.buffer(9, "odd", content=bytes(9))
        assert address % 2 == 1
        machine.call("fault_read_byte", address)
        for function in ("fault_read_half", "fault_read_word"):
            if traps:
                with pytest.raises(Trap):
                    machine.call(function, address)
            else:
                machine.call(function, address)

    @pytest.mark.parametrize(("target", "traps"), [(M0, True), (M4, False)], ids=["M0", "M4"])
    def test_thumb2(self, faulty: Faulty, target: Target, traps: bool) -> None:
        machine = faulty(target)
        if traps:
            with pytest.raises(Trap):
                machine.call("fault_thumb2", 7)
        else:
            assert machine.call("fault_thumb2", 7) == 1

    @each_target
    def test_endless_loop(self, faulty: Faulty, target: Target) -> None:
        with pytest.raises(Trap, match="no end"):
            faulty(target).call("fault_loop", 1, seconds=0.05)

    @each_target
    def test_stack(self, faulty: Faulty, target: Target) -> None:
        machine = faulty(target)
        machine.call("fault_stack", 1)
        least = machine.stack_used
        assert 256 <= least < 350
        machine.call("fault_stack", 2048)
        assert least + 7 * 256 <= machine.stack_used < least + 7 * 350
        with pytest.raises(Trap):
            machine.call("fault_stack", 2 * STACK_SIZE)

    @each_target
    def test_counts_every_instruction(self, faulty: Faulty, target: Target) -> None:
        machine = faulty(target)
        one_by_one = 0

        def instruction(*_: object) -> None:
            nonlocal one_by_one
            one_by_one += 1

        hook = machine._uc.hook_add(unicorn.UC_HOOK_CODE, instruction)
        machine.call("fault_count", 1000)
        machine._uc.hook_del(hook)
        with machine.counting() as blocks:
            machine.call("fault_count", 1000)
        counted = machine.instructions(blocks)
        if target in (M4, M33):  # unicorn's hook leaves out what an IT block predicates off; it takes a cycle too
            assert one_by_one <= counted < 1.1 * one_by_one
        else:
            assert counted == one_by_one
        assert one_by_one > 5000


class TestDecoder:
    @each_target
    @pytest.mark.parametrize("level", ["-Os", "-O2"])
    @pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name} {path.stem}")
    def test_golden(self, program: Programs, target: Target, level: str, path: Path) -> None:
        """Every tensor, every output, every way to read, buffers right after and right before a fence."""
        container = reader.read(path)
        places: list[Place] = ["start", "end", "odd"]
        for place in places:
            decoder = Decoder(target, program(target, level), container.data, place)
            assert decoder.tensors == len(container.tensors)
            known = [record for record in container.records if not record.is_tensor and record.kind in set(f.Kind)]
            assert decoder.sections() == sum(record.size for record in known)
            for index, record in enumerate(container.tensors):
                tensor = decoder.tensor(index)
                assert (tensor.count, tensor.coded) == (record.count, record.kind is not f.Kind.RAW)
                decoder.check(tensor)
                if not tensor.coded:
                    payload = container.data[tensor.payload : tensor.payload + tensor.payload_size]
                    assert payload == container.decode_python(record).tobytes()
                    continue
                floats = record.order.store(container.decode_python(record)).ravel().view(np.uint32)
                assert np.array_equal(decoder.whole(tensor, "f32").astype("<f4").view(np.uint32), floats)
                symbols = container.symbols(record).ravel()
                assert np.array_equal(decoder.whole(tensor, "i16"), symbols)
                for chunk in (1, 7, 0, 1001):
                    assert np.array_equal(decoder.stream(tensor, chunk), symbols)

    @each_target
    def test_last_byte_of_every_payload(self, program: Programs, target: Target) -> None:
        """Each tensor of the golden files alone in a file: behind its last byte there is nothing to read."""
        for path in GOLDEN:
            container = reader.read(path)
            for record in container.tensors:
                alone = writer.assemble([writer.Encoded(record, container.payload(record))], container.version)
                decoder = Decoder(target, program(target, "-Os"), alone)
                tensor = decoder.tensor(0)
                assert tensor.payload + tensor.payload_size == len(alone)
                assert decoder.sections() == 0
                decoder.check(tensor)
                if tensor.coded:
                    assert np.array_equal(decoder.stream(tensor, 7), decoder.whole(tensor, "i16"))

    @pytest.mark.parametrize("target", [M0, RV32, PPC], ids=lambda target: target.name)
    def test_damage(self, program: Programs, target: Target) -> None:
        """A payload that is damaged behind valid CRCs of header and directory: any answer, no stray access."""
        rng = np.random.default_rng(1)
        data = GOLDEN[0].read_bytes()
        begin = reader.parse(data).records[0].offset
        elf = program(target, "-Os")
        refused = streamed = 0
        for _ in range(40):
            damaged = bytearray(data)
            damaged[begin + int(rng.integers(64))] ^= int(rng.integers(1, 256))
            decoder = Decoder(target, elf, bytes(damaged))
            tensor = decoder.tensor(0)
            with pytest.raises(DecoderError):
                decoder.whole(tensor, "i16")
            try:
                decoder.stream(tensor, 7)
                streamed += 1
            except DecoderError:
                refused += 1
        assert refused + streamed == 40
        assert refused > 0

    @pytest.mark.parametrize("target", [M0, MIPS], ids=lambda target: target.name)
    def test_truncation(self, program: Programs, target: Target) -> None:
        """The file ends at a fence, too early: refused, and nothing is read past it."""
        data = GOLDEN[0].read_bytes()
        elf = program(target, "-Os")
        for size in [*range(0, 600, 7), len(data) - 1]:
            with pytest.raises(DecoderError):
                Decoder(target, elf, data[:size])
            if size >= 20:  # the same, with a header that says so
                header = bytearray(data[:16])
                struct.pack_into("<I", header, 12, size)
                directory = data[20 : 20 + int.from_bytes(data[8:12], "little")]
                crc = f.crc32(directory, f.crc32(bytes(header))).to_bytes(4, "little")
                with pytest.raises(DecoderError):
                    Decoder(target, elf, bytes(header) + crc + data[20:size])


@pytest.mark.parametrize(
    "option",
    [
        "",
        "NO_FLOAT",
        "NO_ANS",
        "NO_ADAPTIVE",
        "NO_TRELLIS",
        "NO_EXPONENTS",
        "NO_V1",
        "NO_NAMES",
        "NO_CRC",
        "SMALL",
        "CRC_SLICES=4",
    ],
)
@pytest.mark.parametrize("machine", [*targets.COMPILED_ONLY, *targets.BY_NAME])
def test_compiles_without_warnings(folder: Path, machine: str, option: str) -> None:
    """16-bit ints (AVR, MSP430) and big-endian machines among them."""
    zig = targets.COMPILED_ONLY.get(machine) or targets.BY_NAME[machine].zig
    flags = [f"-DCWB_{option}"] if option else []
    build.compile_object(zig, build.DECODER / "cwb.c", folder / f"{machine}.o", "-Os", *flags)
