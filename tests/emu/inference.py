"""Whole models on an emulated machine: builds what ``export-c --inference`` wrote and runs it on inputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import build
from .elf import Elf
from .machine import Machine
from .targets import Target

ENTRIES = ("emu_arena", "emu_start", "emu_run")
"""The functions of run_stub.c."""

Floats = npt.NDArray[np.float32]


class RunError(Exception):
    """The program returned an error code."""


def program(target: Target, sources: Path, folder: Path, name: str = "model", level: str = "-Os") -> Elf:
    """Build a model in the folder ``sources``; objects go to ``folder``.

    Raises:
        CompileError: it does not compile without warnings, or does not link.
    """
    parts = [sources / f"{name}.c", sources / f"{name}_run.c", sources / "cwb.c"]
    parts += [build.HERE / "run_stub.c", build.HERE / "tanhf.c"]
    flags = ["-DEMX_NODE_FN=static __attribute__((noinline))", f"-I{sources}", f"-DMODEL={name}", level]
    build_name = f"{sources.name}-{target.name}{level}"
    objects = [
        build.compile_object(target.headers, path, folder / f"{path.stem}-{build_name}.o", *flags) for path in parts
    ]
    return build.link(target, objects, ENTRIES, folder / f"run-{build_name}.elf")


@dataclass
class Run:
    """What a run gave and took: instructions by function only if they were counted."""

    output: Floats
    stack: int
    instructions: Counter[str]


class Model:
    """A model on a machine, ready to run.

    Args:
        target: the machine.
        elf: from :func:`program`.
        inputs, outputs: numbers of floats.

    Raises:
        RunError: ``model_start`` failed.
    """

    def __init__(self, target: Target, elf: Elf, inputs: int, outputs: int) -> None:
        self.machine = Machine(target, elf)
        self._job = self.machine.buffer(16)
        self.arena = self.machine.call("emu_arena", self._job)
        self._input, self._output = self.machine.buffer(4 * inputs), self.machine.buffer(4 * outputs)
        self._outputs = outputs
        room = self.arena + -self.arena % 8
        self.machine.write_words(self._job, [self._input, self._output, self.machine.buffer(room), self.arena])
        self._call("emu_start")
        self.start_stack = self.machine.stack_used

    def run(self, values: Floats, *, count: bool = False) -> Run:
        """Run the model on one input.

        Raises:
            RunError: ``model_run`` failed.
        """
        order = self.machine.target.order
        self.machine.write(self._input, values.astype(f"{order}f4").tobytes())
        counted: Counter[str] = Counter()
        if count:
            with self.machine.counting() as blocks:
                self._call("emu_run")
            counted = self.machine.by_function(blocks)
        else:
            self._call("emu_run")
        output = np.frombuffer(self.machine.read(self._output, 4 * self._outputs), f"{order}f4").astype(np.float32)
        return Run(output, self.machine.stack_used, counted)

    def _call(self, function: str) -> None:
        error = self.machine.call(function, self._job, 3600)
        if error:
            raise RunError(f"{function} returned {error - (1 << 32)}")
