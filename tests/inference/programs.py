"""Models, files made of them without much ado, and programs compiled from what export-c writes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import cerwu_onnx
from cerwu_onnx.container import reader
from cerwu_onnx.firmware.export import Firmware, export, write_folder
from cerwu_onnx.inference.export import program_of
from cerwu_onnx.inference.layers import layers_of

from ..models import build, normal, value

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
CHECKED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def net() -> onnx.ModelProto:
    """What small networks are made of: convolutions of each kind, a shortcut, pools, both matrix products, Softmax."""
    tensors = {
        "stem": normal(8, 1, 3, 3, seed=1),
        "stem.b": normal(8, seed=2),
        "depth": normal(8, 1, 3, 3, seed=3),
        "point": normal(12, 8, 1, 1, seed=4),
        "point.b": normal(12, seed=5),
        "side": normal(12, 8, 1, 1, seed=6) / 4,
        "wide": normal(12, 12, 3, 3, seed=7) / 8,
        "fc": normal(16, 108, seed=8) / 8,
        "fc.b": normal(16, seed=9),
        "last": normal(16, 5, seed=10),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "stem", "stem.b"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "depth"], ["c"], group=8, strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Clip", ["c", "", "six"], ["d"]),
        node("Conv", ["d", "point", "point.b"], ["e"]),
        node("Conv", ["d", "side"], ["s"]),
        node("Conv", ["e", "wide"], ["w"], pads=[1, 1, 1, 1]),
        node("Add", ["w", "s"], ["f"]),
        node("Tanh", ["f"], ["g"]),
        node("AveragePool", ["g"], ["h"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["h"], ["i"]),
        node("Gemm", ["i", "fc", "fc.b"], ["j"], transB=1),
        node("Relu", ["j"], ["k"]),
        node("MatMul", ["k", "last"], ["l"]),
        node("Softmax", ["l"], ["y"]),
    ]
    tensors["six"] = np.array(6.0, np.float32)
    return build(nodes, [value("x", ["N", 1, 12, 12])], [value("y", ["N", 5])], tensors)


def compressed(model: onnx.ModelProto, folder: Path, **settings: object) -> reader.Container:
    """A file of the model, quantised without data."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    chosen = cerwu_onnx.Settings(**settings)  # type: ignore[arg-type]
    cerwu_onnx.compress(path, folder / "model.cwb", settings=chosen, force=True)
    return reader.read(folder / "model.cwb")


def firmware(container: reader.Container, name: str = "model", *, once: bool = False) -> Firmware:
    """What ``export-c --inference`` makes of a file."""
    addition = program_of(container, name, once=once).addition
    return export(container, name, layers=layers_of(container), addition=addition)


def compiler(*names: str) -> str:
    """A compiler, or the test is skipped."""
    found = next(filter(None, (os.environ.get("CC") if "cc" in names else None, *map(shutil.which, names))), None)
    if found is None:
        pytest.skip(f"no compiler: install one of {', '.join(names)} to compile what export-c --inference writes")
    return found


def compile_program(folder: Path, main: str, *sources: str, flags: tuple[str, ...] = ()) -> Path:
    """Compile a program of ``main`` and files of the folder, with every check there is.

    The generator's code may convert as it likes: ``model_run.c`` silences that, and nothing else.
    """
    (folder / "main.c").write_text(main)
    program = folder / "main"
    files = [folder / name for name in ("main.c", *sources)]
    command = [compiler("cc", "gcc", "clang"), *STRICT, *CHECKED, "-O1", *flags, f"-I{folder}", *files, "-lm", "-o"]
    done = subprocess.run([*command, program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def main_of(name: str = "model") -> str:
    """A program that runs a model of one input and one output on all inputs that it reads."""
    return """
#include "NAME.h"
#include <stdio.h>
static NAME_arena arena;
static float input[UPPER_INPUT_COUNT], output[UPPER_OUTPUT_COUNT];
int main(void)
{
    int error = NAME_start(&arena, sizeof arena);
    while (error == 0 && fread(input, sizeof input, 1, stdin) == 1) {
        error = NAME_run(input, output, &arena, sizeof arena);
        fwrite(output, sizeof output, 1, stdout);
    }
    return -error;
}
""".replace("NAME", name).replace("UPPER", name.upper())


def outputs(program: Path, inputs: np.ndarray) -> np.ndarray:
    """What the program of :func:`main_of` makes of inputs (N, ...): (N, outputs)."""
    done = subprocess.run([program], input=inputs.astype(np.float32).tobytes(), capture_output=True)
    assert done.returncode == 0, (done.returncode, done.stderr.decode())
    return np.frombuffer(done.stdout, np.float32).reshape(len(inputs), -1)


def written(made: Firmware, folder: Path) -> Path:
    """The folder, with the files in it."""
    write_folder(made, folder, force=False)
    return folder
