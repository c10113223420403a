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


def commands(folder: Path, project: Path = EXAMPLE) -> list[list[str]]:
    """The commands of docs/cpp.md: build and install the package, then a project that finds it.

    Raises:
        Missing: as :func:`library` and :func:`cmake`.
    """
    program, package, prefix = cmake(), folder / "package", folder / "prefix"
    built = folder / project.name
    return [
        [program, "-S", str(DECODER), "-B", str(package), "-DCMAKE_BUILD_TYPE=Release"],
        [program, "--build", str(package)],
        [program, "--install", str(package), "--prefix", str(prefix)],
        [
            program, "-S", str(project), "-B", str(built), "-DCMAKE_BUILD_TYPE=Release",
            f"-DCMAKE_PREFIX_PATH={prefix};{_onnxruntime(folder)}",
            "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wpedantic -Werror",
        ],
        [program, "--build", str(built)],
    ]  # fmt: skip


def build(folder: Path, project: Path = EXAMPLE) -> Path:
    """Build a project; the folder of its programs.

    Raises:
        Missing: as :func:`commands`.
        RuntimeError: a command failed: what it said.
    """
    for command in commands(folder, project):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return folder / project.name


def _onnxruntime(folder: Path) -> Path:
    """A folder with the library under the names that linkers and loaders look for."""
    real, made = library(), folder / "onnxruntime"
    (made / "lib").mkdir(parents=True, exist_ok=True)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        link = made / "lib" / name
        link.unlink(missing_ok=True)
        link.symlink_to(real)
    return made
