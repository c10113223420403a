"""The C decoder under libFuzzer: mutations are kept that reach new code.

libFuzzer comes with the wheel of atheris, the instrumenting compiler with that of ziglang, whose clang has no sanitizer
libraries of its own: those of gcc are linked, whose interface is the same.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .campaign import DECODER, HERE, BuildError

LIBRARY = "libclang_rt.fuzzer_no_main.a"
COVERAGE = "-fsanitize-coverage=inline-8bit-counters,pc-table,trace-cmp"
FUNDAMENTAL = ["-std=c99", "-g", "-O1", f"-I{DECODER}"]
SOURCES = (DECODER / "cwb.c", *(HERE / name for name in ("exercise.c", "fuzzer.c")))


def library() -> Path:
    """libFuzzer without a main function.

    Raises:
        BuildError: atheris is not installed.
    """
    spec = importlib.util.find_spec("atheris")
    found = Path(spec.origin).parents[1] / LIBRARY if spec and spec.origin else None
    if found is None or not found.is_file():
        raise BuildError("libFuzzer is missing: pip install atheris")
    return found


def build(folder: Path) -> Path:
    """The fuzzer.

    Raises:
        BuildError: a tool is missing, or what it makes does not run.
    """
    fuzzer = library()
    linker = shutil.which("g++")
    if linker is None or importlib.util.find_spec("ziglang") is None:
        raise BuildError("g++ or ziglang is missing: pip install ziglang")
    objects = [folder / f"{source.stem}.o" for source in SOURCES]
    for source, output in zip(SOURCES, objects, strict=True):
        flags = ["-DGUIDED", "-fsanitize=address", COVERAGE, "-c", source, "-o", output]
        _run([sys.executable, "-m", "ziglang", "cc", *FUNDAMENTAL, *map(str, flags)])
    mutator, program = folder / "mutate.o", folder / "guided"
    _run(["gcc", *FUNDAMENTAL, "-c", str(HERE / "mutate.c"), "-o", str(mutator)])
    parts = map(str, [*objects, mutator, fuzzer])
    _run([linker, "-fsanitize=address", *parts, "-lpthread", "-ldl", "-o", str(program)])
    return program


def run(program: Path, seeds: Sequence[Path], *limits: str) -> tuple[int, str]:
    """Fuzz until a limit, such as ``-runs=1000`` or ``-max_total_time=60``; the exit code and what was printed.

    Inputs that made trouble are left beside the program.
    """
    corpus = program.parent / "corpus"
    corpus.mkdir(exist_ok=True)
    for seed in seeds:
        shutil.copy(seed, corpus)
    command = [str(program), "-max_len=16384", "-print_final_stats=1", f"-artifact_prefix={program.parent}/", *limits]
    done = subprocess.run(
        [*command, str(corpus)], capture_output=True, text=True, env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    )
    return done.returncode, done.stderr


def summary(printed: str) -> str:
    """How many inputs were tried, what they covered, how many were worth keeping."""
    tried = re.findall(r"number_of_executed_units: *(\d+)", printed)
    last = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", printed)
    if not tried or not last:
        return printed[-2000:]
    edges, features, kept = map(int, last[-1])
    return f"{int(tried[-1]):,} inputs, {edges:,} edges and {features:,} features covered, {kept:,} inputs kept"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(done.stderr)
