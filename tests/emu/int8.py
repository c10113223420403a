"""decoder_c/examples/int8, whole networks in int8: on this host, and on emulated machines."""

from __future__ import annotations

import ctypes
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cerwu_onnx.calibration import open_data
from cerwu_onnx.container.reader import Container
from cerwu_onnx.firmware.export import Firmware, export
from cerwu_onnx.firmware.kernels import KernelScales
from cerwu_onnx.inference.layers import layers_of
from cerwu_onnx.inference.ranges import kernel_scales
from cerwu_onnx.opened import CompressedModel

Floats = npt.NDArray[np.float32]

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "decoder_c" / "examples" / "int8"
KERNELS = EXAMPLE / "reference"
SOURCES = (EXAMPLE / "ds_cnn.c", KERNELS / "arm_nn_reference.c", HERE / "int8_stub.c")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
ENTRIES = ("emu_start", "emu_arena", "emu_run")


def firmware(container: Container, data: Mapping[str, Floats]) -> tuple[Firmware, dict[str, KernelScales]]:
    """What ``calibrate`` and ``export-c --scales`` make of a file."""
    opened = CompressedModel(container)
    scales, left = kernel_scales(opened, open_data(data, opened.to_onnx()))
    assert not left, left
    return export(container, "model", scales, layers=layers_of(container)), scales


class Host:
    """The network compiled for this machine.

    Args:
        folder: what :func:`firmware` gives, written; the library goes there, too.
        compiler: a C compiler.
        outputs: elements of the output.
    """

    def __init__(self, folder: Path, compiler: str, outputs: int) -> None:
        library = folder / "int8.so"
        files = [*SOURCES, folder / "model.c", folder / "cwb.c"]
        includes = [f"-I{path}" for path in (folder, EXAMPLE, KERNELS)]
        command = [compiler, "-std=c99", "-O2", *STRICT, "-fPIC", "-shared", *includes, *files, "-o", library]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self._library = ctypes.CDLL(str(library))
        assert self._library.int8_start() == 0
        self.arena = self._library.int8_arena()
        self._outputs = outputs

    def run(self, values: Floats, *, arena: int | None = None) -> Floats:
        """The outputs, ``(samples, outputs)``, of inputs ``(samples, ...)``.

        Raises:
            RuntimeError: the program returns an error, named by its number.
        """
        memory = np.zeros(-(-self.arena // 8), np.float64)
        out = np.zeros((len(values), self._outputs), np.float32)
        for sample, written in zip(np.ascontiguousarray(values, np.float32), out, strict=True):
            pointers = [ctypes.c_void_p(array.ctypes.data) for array in (sample, written, memory)]
            size = ctypes.c_size_t(self.arena if arena is None else arena)
            error = self._library.int8_run(*pointers, size)
            if error:
                raise RuntimeError(str(error))
        return out


@dataclass
class Run:
    """What a run on a machine gave and took: instructions by function, if they were counted, and bytes."""

    output: Floats
    stack: int
    instructions: Counter[str]
    code: int
    constants: int


def on_machine(
    folder: Path, objects: Path, values: Floats, outputs: int, *, count: bool = False
) -> tuple[Run, int, int]:
    """Run one input on an emulated Cortex-M4.

    Args:
        folder: what :func:`firmware` gives, written.
        objects: where the compiler writes.
        values: the input.
        outputs: elements of the output.
        count: count instructions; slower.
    """
    from . import build
    from .machine import Machine
    from .targets import M4F

    flags = [f"-I{folder}", f"-I{EXAMPLE}", f"-I{KERNELS}", "-Os"]
    files = [*SOURCES, folder / "model.c", folder / "cwb.c"]
    made = [build.compile_object(M4F.zig, path, objects / f"{path.stem}.o", *flags) for path in files]
    elf = build.link(M4F, made, ENTRIES, objects / "int8.elf")
    machine = Machine(M4F, elf)
    job = machine.buffer(16)
    assert machine.call("emu_start", job) == 0
    arena = machine.call("emu_arena", job)
    source, target = (machine.buffer(4 * size) for size in (values.size, outputs))
    machine.write(source, values.astype("<f4").tobytes())
    machine.write_words(job, [source, target, machine.buffer(arena), arena])
    counted: Counter[str] = Counter()
    if count:
        with machine.counting() as blocks:
            error = machine.call("emu_run", job, 600)
        counted = machine.by_function(blocks)
    else:
        error = machine.call("emu_run", job, 600)
    assert error == 0, error - (1 << 32)
    output = np.frombuffer(machine.read(target, 4 * outputs), "<f4")
    sizes = elf.sizes()
    return Run(output, machine.stack_used, counted, sizes.code, sizes.const)


def functions(compiled: Path) -> set[str]:
    """Names of the functions in an object file."""
    from .elf import Elf

    return {symbol.name for symbol in Elf(compiled).symbols() if symbol.code}
