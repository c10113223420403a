"""Runs a model that ``export-c --inference`` wrote on an emulated microcontroller, and prints the classes it answers.

python -m tests.emu FOLDER DATA.npz [--machine Cortex-M4F] [--inputs 5]
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

import numpy as np

from . import inference
from .targets import RUNNERS


def main() -> None:
    """Build, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.emu", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what export-c --inference wrote")
    parser.add_argument("data", type=Path, help="inputs: the array x of an .npz file, or its first")
    parser.add_argument("--machine", choices=[target.name for target in RUNNERS], default="Cortex-M4F")
    parser.add_argument("--inputs", type=int, default=5, help="how many of them")
    chosen = parser.parse_args()
    found = sorted(chosen.folder.glob("*_run.c"))
    if len(found) != 1:
        parser.error(f"{chosen.folder} holds {len(found)} models: export one into a folder of its own")
    name = found[0].name.removesuffix("_run.c")
    counts = sizes((chosen.folder / f"{name}.h").read_text(), name)
    with np.load(chosen.data) as arrays:
        values = arrays["x" if "x" in arrays else arrays.files[0]]
    target = next(target for target in RUNNERS if target.name == chosen.machine)
    with tempfile.TemporaryDirectory() as objects:
        elf = inference.program(target, chosen.folder, Path(objects), name)
        model = inference.Model(target, elf, *counts)
    flash = elf.sizes()
    print(f"{target.name}: {flash.code + flash.const:,} bytes of flash, {model.arena:,} of RAM")
    for number, one in enumerate(values[: chosen.inputs]):
        run = model.run(one.astype(np.float32).ravel())
        print(f"input {number}: class {run.output.argmax()}")


def sizes(header: str, name: str) -> tuple[int, int]:
    """Elements of the input and of the output."""
    macros = re.findall(rf"#define {name.upper()}_(?:INPUT|OUTPUT)_COUNT UINT32_C\((\d+)\)", header)
    return int(macros[0]), int(macros[1])


if __name__ == "__main__":
    main()
