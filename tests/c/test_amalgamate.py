"""cwb.c and cwb.h, which firmware compiles, are the kernels of decoder_c/src and nothing else."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import DECODER

_spec = importlib.util.spec_from_file_location("amalgamate", DECODER / "amalgamate.py")
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
amalgamate = _module.amalgamate

LICENCE = "/* SPDX-License-Identifier: Apache-2.0\n *\n"
SOURCE = LICENCE + ' * All.\n */\n#include "cwb.h"\n\n#include "one.h"\n#include "two.h"\n'
ONE = LICENCE + ' * One.\n */\n#ifndef CWB_ONE_H\n#define CWB_ONE_H\n\n#include "cwb.h"\n\nint one;\n\n#endif\n'
TWO = LICENCE + ' * Two.\n */\n#ifndef CWB_TWO_H\n#define CWB_TWO_H\n\n#include "one.h"\n\nint two;\n\n#endif\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"cwb.c": SOURCE, "cwb.h": LICENCE + " * H.\n */\n", "one.h": ONE, "two.h": TWO}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", ["cwb.c", "cwb.h"])
def test_what_firmware_compiles_is_current(name: str) -> None:
    expected = amalgamate(DECODER / "src")[name]
    assert (DECODER / name).read_text(encoding="utf-8") == expected, "run `make amalgamate`"


def test_every_kernel_is_in_it() -> None:
    kernels = {path.stem for path in (DECODER / "src").glob("*.h")} - {"cwb"}
    found = re.findall(r"^/\* ---- (\w+) -+$", (DECODER / "cwb.c").read_text(), re.MULTILINE)
    assert set(found) == kernels
    assert len(found) == len(kernels)
    listed = re.findall(r"^\| `(\w+)\.h` \|", (DECODER / "README.md").read_text(), re.MULTILINE)
    assert listed == found


@pytest.mark.parametrize("option", ["", "-DCWB_NO_ANS", "-DCWB_NO_CRC"])
def test_compilers_read_the_same_as_in_the_kernels(cc: str, option: str) -> None:
    """Token by token, comments and line numbers apart."""
    command = [cc, "-std=c99", "-E", "-P", *([option] if option else [])]
    one, kernels = (
        subprocess.run([*command, DECODER / name], capture_output=True, text=True, check=True).stdout.split()
        for name in ("cwb.c", "src/cwb.c")
    )
    assert len(one) > 1000
    assert one == kernels


def test_a_kernel_compiles_by_itself(cc: str) -> None:
    """What it takes from others, it includes."""
    for path in (DECODER / "src").glob("*.h"):
        command = [cc, "-std=c99", "-x", "c", "-fsyntax-only", "-Wall", "-Wno-unused-function", "-Werror"]
        done = subprocess.run([*command, "-include", path, "-"], input="", capture_output=True, text=True)
        assert done.returncode == 0, f"{path.name}: {done.stderr}"


def test_order_and_comments(folder: Path) -> None:
    made = amalgamate(folder)
    assert made["cwb.c"].startswith(LICENCE + " * Written by `make amalgamate`")
    text = re.sub(r" -{20,}", "", made["cwb.c"].partition("changes there.\n")[2])
    assert text == (
        ' *\n * All.\n */\n#include "cwb.h"\n'
        "\n/* ---- one\n *\n * One.\n */\n\nint one;\n"
        "\n/* ---- two\n *\n * Two.\n */\n\nint two;\n"
    )
    assert made["cwb.h"].endswith("changes there.\n *\n * H.\n */\n")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cwb.c", SOURCE.replace('#include "one.h"\n', ""), r"two\.h includes one, which cwb\.c must include before"),
        ("one.h", ONE.replace("cwb.h", "two.h"), r"one\.h includes two"),
        ("one.h", ONE.replace("#endif\n", ""), r"one\.h is not a licence, one comment and one body"),
        ("one.h", ONE + "int more;\n", r"one\.h is not"),
        ("two.h", TWO.removeprefix(LICENCE), r"two\.h is not"),
        ("cwb.h", "/* H. */\n", r"cwb\.h does not begin with"),
    ],
)
def test_what_is_no_kernel_is_refused(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        amalgamate(folder)
