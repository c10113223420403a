"""Compiles the decoder and its harness once per session, under sanitizers where the compiler has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECODER = ROOT / "decoder_c"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
SANITIZE = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

Run = Callable[..., subprocess.CompletedProcess[bytes]]
Compile = Callable[..., Path]
BuildHarness = Callable[..., Run]


@pytest.fixture(scope="session")
def cc() -> str:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler: install one (cc, gcc or clang) or set CC to run the tests of the C decoder")
    return compiler


@pytest.fixture(scope="session")
def sanitize(cc: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The flags of the sanitizers; none if programs made with them do not run here."""
    folder = tmp_path_factory.mktemp("sanitize")
    source = folder / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    made = subprocess.run([cc, *SANITIZE, source, "-o", folder / "empty"], capture_output=True)
    runs = made.returncode == 0 and subprocess.run([folder / "empty"], capture_output=True).returncode == 0
    return SANITIZE if runs else []


@pytest.fixture(scope="session")
def compile_c(cc: str, sanitize: list[str], tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """compile_c(name, *arguments): a program, compiled with sanitizers and the decoder's include folder."""
    folder = tmp_path_factory.mktemp("c")

    def compile_c(name: str, *arguments: object) -> Path:
        counted = os.environ.get("CWB_OBJECT")  # of tests/c/coverage.py
        if counted and not any(str(argument).startswith("-D") for argument in arguments):
            arguments = (
                *(counted if argument == DECODER / "cwb.c" else argument for argument in arguments),
                "--coverage",
            )
        command = [cc, "-std=c99", "-O1", *sanitize, f"-I{DECODER}", *map(str, arguments)]
        made = subprocess.run([*command, "-o", folder / name], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        return folder / name

    return compile_c


@pytest.fixture(scope="session")
def build_harness(compile_c: Compile) -> BuildHarness:
    """build_harness(*flags): harness(command, *arguments) of a decoder with these build options."""

    def build_harness(*flags: str) -> Run:
        warnings = ["-Wall", "-Wextra", "-Werror"]
        sources = [ROOT / "tests/c/harness.c", DECODER / "cwb.c"]
        program = compile_c("harness" + "".join(flags), *warnings, *flags, *sources)

        def run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
            done = subprocess.run([program, *map(str, arguments)], capture_output=True)
            assert done.returncode == 0, done.stderr.decode(errors="replace")
            return done

        return run

    return build_harness


@pytest.fixture(scope="session", params=[[], ["-DCWB_NO_FLOAT"]], ids=["float", "no_float"])
def harness(request: pytest.FixtureRequest, build_harness: BuildHarness) -> Run:
    """harness(command, *arguments) runs tests/c/harness.c; with and without floats in the decoder."""
    run = build_harness(*request.param)
    run.floats = not request.param  # type: ignore[attr-defined]
    return run
