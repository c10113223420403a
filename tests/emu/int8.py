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

from . import build
from .elf import Elf
from .machine import Machine
from .targets import M4F

Floats = npt.NDArray[np.float32]

EXAMPLE = build.DECODER / "examples" / "int8"
KERNELS = EXAMPLE / "reference"
SOURCES = (EXAMPLE / "ds_cnn.c", KERNELS / "arm_nn_reference.c", build.HERE / "int8_stub.c")
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
        command = [compiler, "-std=c99", "-O2", *build.STRICT, "-fPIC", "-shared", *includes, *files, "-o", library]
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
    """What a run on a machine gave, its stack in bytes, and instructions if they were counted."""

    output: Floats
    stack: int
    decoding: int
    computing: int


class OnMachine:
    """The network on an emulated Cortex-M4F, started.

    Args:
        folder: what :func:`firmware` gives, written.
        objects: where the compiler writes.
        inputs, outputs: elements of the input and of the output.

    Attributes:
        arena: bytes of memory that a run takes.
        elf: the program.
    """

    def __init__(self, folder: Path, objects: Path, inputs: int, outputs: int) -> None:
        flags = [f"-I{folder}", f"-I{EXAMPLE}", f"-I{KERNELS}", "-Os"]
        files = [*SOURCES, folder / "model.c", folder / "cwb.c"]
        made = [build.compile_object(M4F.zig, path, objects / f"{path.stem}.o", *flags) for path in files]
        self.elf = build.link(M4F, made, ENTRIES, objects / "int8.elf")
        self._decoder = {symbol.name for symbol in Elf(objects / "cwb.o").symbols() if symbol.code}
        self.machine = Machine(M4F, self.elf)
        self._outputs = outputs
        self._job = self.machine.buffer(16)
        assert self.machine.call("emu_start", self._job) == 0
        self.arena = self.machine.call("emu_arena", self._job)
        self._input, self._output = (self.machine.buffer(4 * size) for size in (inputs, outputs))
        arena = self.machine.buffer(self.arena)
        self.machine.write_words(self._job, [self._input, self._output, arena, self.arena])

    def run(self, values: Floats, *, count: bool = False) -> Run:
        """Run one input; counting instructions is slower."""
        self.machine.write(self._input, values.astype("<f4").tobytes())
        counted: Counter[str] = Counter()
        if count:
            with self.machine.counting() as blocks:
                error = self.machine.call("emu_run", self._job, 600)
            counted = self.machine.by_function(blocks)
        else:
            error = self.machine.call("emu_run", self._job, 600)
        assert error == 0, error - (1 << 32)
        output = np.frombuffer(self.machine.read(self._output, 4 * self._outputs), "<f4")
        decoding = sum(times for name, times in counted.items() if name in self._decoder)
        return Run(output, self.machine.stack_used, decoding, counted.total() - decoding)
