"""Builds the CMake package and programs that use it, with the onnxruntime that the Python wheel carries."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import onnxruntime

ROOT = Path(__file__).resolve().parents[2]
DECODER = ROOT / "decoder_c"
EXAMPLE = DECODER / "examples/classify"


class Missing(Exception):
    """A tool or library is missing: which one, and what gives it."""


def library() -> Path:
    """The shared library in onnxruntime's wheel.

    Raises:
        Missing: the wheel has none, as on macOS and Windows.
    """
    found = sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
    if not found:
        raise Missing("onnxruntime's wheel has no libonnxruntime.so here: give ONNXRUNTIME_LIBRARY of a release")
    return found[0]


def cmake() -> str:
    """The program.

    Raises:
        Missing: it, or a C++ compiler, is not installed.
    """
    program = shutil.which("cmake")
    if program is None:
        raise Missing("cmake is not installed")
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise Missing("no C++ compiler is installed")
    return program


def package(folder: Path, prefix: Path) -> list[list[str]]:
    """Commands that build and install the CMake package.

    Raises:
        Missing: as :func:`cmake`.
    """
    program, built = cmake(), folder / "package"
    return [
        [program, "-S", str(DECODER), "-B", str(built), "-DCMAKE_BUILD_TYPE=Release"],
        [program, "--build", str(built)],
        [program, "--install", str(built), "--prefix", str(prefix)],
    ]


def project(folder: Path, source: Path, prefix: Path) -> list[list[str]]:
    """Commands that build a project, which finds the package, in a folder of its name.

    Raises:
        Missing: as :func:`library` and :func:`cmake`.
    """
    program, built = cmake(), folder / source.name
    options = (
        "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_PREFIX_PATH={prefix};{onnxruntime_folder(folder)}",
        "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wpedantic -Werror",
    )
    return [[program, "-S", str(source), "-B", str(built), *options], [program, "--build", str(built)]]


def build(folder: Path, source: Path = EXAMPLE) -> Path:
    """Build the package and a project; the folder of the project's programs.

    Raises:
        Missing: as :func:`project`.
        RuntimeError: a command failed: what it said.
    """
    for command in (*package(folder, folder / "prefix"), *project(folder, source, folder / "prefix")):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return folder / source.name


def onnxruntime_folder(folder: Path) -> Path:
    """A folder with the library under the names that linkers and loaders look for."""
    real, made = library(), folder / "onnxruntime"
    (made / "lib").mkdir(parents=True, exist_ok=True)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        link = made / "lib" / name
        link.unlink(missing_ok=True)
        link.symlink_to(real)
    return made
