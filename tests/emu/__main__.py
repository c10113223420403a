"""Runs a model that ``export-c`` wrote on an emulated microcontroller, and prints the classes it answers.

python -m tests.emu FOLDER DATA.npz [--machine Cortex-M4F] [--inputs 5]

What ``--inference`` wrote runs as it is; a depthwise-separable network with ``--scales``, in int8, by
decoder_c/examples/int8 on a Cortex-M4F.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
from pathlib import Path

import numpy as np

from . import inference, int8
from .targets import M4F, RUNNERS


def main() -> None:
    """Build, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.emu", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what export-c --inference or --scales wrote")
    parser.add_argument("data", type=Path, help="inputs: the array x of an .npz file, or its first")
    parser.add_argument("--machine", choices=[target.name for target in RUNNERS], default="Cortex-M4F")
    parser.add_argument("--inputs", type=int, default=5, help="how many of them")
    chosen = parser.parse_args()
    chosen.folder = chosen.folder.resolve()  # zig's cache takes headers of equal relative paths for the same
    with np.load(chosen.data) as arrays:
        values = arrays["x" if "x" in arrays else arrays.files[0]][: chosen.inputs].astype(np.float32)
    target = next(target for target in RUNNERS if target.name == chosen.machine)
    found = sorted(chosen.folder.glob("*_run.c"))
    header = chosen.folder / "model.h"
    with tempfile.TemporaryDirectory() as objects:
        device: inference.Model | int8.OnMachine
        if len(found) == 1:
            name = found[0].name.removesuffix("_run.c")
            elf = inference.program(target, chosen.folder, Path(objects), name)
            device = inference.Model(target, elf, *sizes((chosen.folder / f"{name}.h").read_text(), name))
        elif not found and header.exists() and "MODEL_INT8_LAYERS" in header.read_text() and target is M4F:
            dims = re.findall(r"#define MODEL_OUTPUT_DIMS_\w+ (.*)", header.read_text())[-1]
            outputs = math.prod(map(int, dims.split(",")))
            device = int8.OnMachine(chosen.folder, Path(objects), values[0].size, outputs)
            elf = device.elf
        else:
            parser.error(f"{chosen.folder} holds {len(found)} models to run: export one into a folder of its own")
    flash = elf.sizes()
    print(f"{target.name}: {flash.code + flash.const:,} bytes of flash, {device.arena:,} of RAM")
    for number, one in enumerate(values):
        run = device.run(one.ravel())
        print(f"input {number}: class {run.output.argmax()}")


def sizes(header: str, name: str) -> tuple[int, int]:
    """Elements of the input and of the output."""
    macros = re.findall(rf"#define {name.upper()}_(?:INPUT|OUTPUT)_COUNT UINT32_C\((\d+)\)", header)
    return int(macros[0]), int(macros[1])


if __name__ == "__main__":
    main()
