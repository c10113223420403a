"""What reaches a log acts on nobody: the system that runs the build, a terminal, or a parser of JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cerwu_onnx import report_files
from cerwu_onnx.cli import console, text
from cerwu_onnx.cli.bars import Bars

from .conftest import Run, command, run_process

HOSTILE = (
    "::stop-commands::x",
    " \t::add-mask::e",
    "a\n::error::b",
    "a\r::error::b",
    "%0A::error::b",
    "##[add-path]/evil",
    "a##[endgroup]b##vso[task.setvariable variable=x]y",
    "##teamcity[buildProblem]",
    "--- fold",
    "+++ open",
    "~~~ mute",
    "^^^ +++",
    "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[2J\x9b31m",
    "right\u200fto\u202eleft\u2066isolate\u061c",
    "zero\u200bwidth\u00adhyphen\ufeff",
    "line\u2028and\u0085paragraph\u2029",
)
"""Names of tensors, nodes and outputs."""

ACTS = re.compile(r"^\s*(::|--- |\+\+\+ |~~~ |\^\^\^ )|##\w*\[")


def check(log: str) -> None:
    for line in log.split("\n"):
        assert not ACTS.search(line), line
        assert line.isprintable(), ascii(line)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose names are hostile, and so is that of its file."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    value, nodes, weights = "x", [], []
    for index, name in enumerate(HOSTILE):
        weight = random.normal(size=(24, 24)).astype(np.float32) / 5
        weights.append(numpy_helper.from_array(weight, name))
        nodes.append(helper.make_node("MatMul", [value, name], [f"{name} of {index}"], name=f"{name}, node"))
        value = nodes[-1].output[0]
    nodes[-1].output[0] = HOSTILE[0] + " out"
    kept = numpy_helper.from_array(np.ones(24, np.float32), f"{HOSTILE[5]} kept")
    nodes.append(helper.make_node("Cos", [kept.name], [HOSTILE[5] + " out"]))
    outputs = [
        helper.make_tensor_value_info(nodes[-2].output[0], TensorProto.FLOAT, ["N", 24]),
        helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [24]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 24])]
    graph = helper.make_graph(nodes, "::graph::", inputs, outputs, [*weights, kept])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, "::debug::.onnx")
    np.savez("calib.npz", x=random.normal(size=(40, 24)).astype(np.float32))
    return tmp_path


def test_no_command_lets_a_name_act(place: Path, run: Run) -> None:
    model, file = "::debug::.onnx", "::out::.cwb"
    calib = ("--calib", "calib.npz")
    calls = [
        ("inspect", model),
        ("compress", model, "--dry-run", "--skip", HOSTILE[0]),
        ("compress", model, file, "--method", "cerwu", *calib, "--report", "report.md"),
        ("compress", model, "--out-dir", "::many::", "--method", "rtn", *calib),
        ("sweep", model, "--out-dir", "::swept::", "--lambda", "1", "--method", "cerwu", "-j", "1"),
        ("inspect", file),
        ("verify", file, "--against", model, "--data", "calib.npz"),
        ("report", file),
        ("compare", model, file, "--data", "calib.npz"),
        ("decompress", file, "::back::.onnx"),
        ("export-c", file, "::firmware::", "--name", "m"),
    ]
    for call in calls:
        result = run(*call)
        assert result.code == 0, result.err
        check(result.out + result.err)
    shown = run("inspect", file).out
    assert r"\x3a:stop-commands::x" in shown
    assert r"a\n::error::b" in shown
    assert "%0A::error::b" in shown  # nobody decodes it there
    assert "\\u200f" in Path("report.md").read_text()


def test_errors_and_tracebacks_neither(place: Path, run: Run) -> None:
    for name in HOSTILE:
        result = run("-v", "inspect", f"{name.replace('/', '_')}.onnx")
        assert result.code == 2
        assert "Traceback" in result.err
        check(result.err)
        check(run("compress", "::debug::.onnx", "m.cwb", "--skip", f"{name}*?").err)
        Path("cerwu.toml").write_text(f"{json.dumps(name)} = 1")
        check(run("compress", "::debug::.onnx", "m.cwb").err)
        Path("cerwu.toml").unlink()


def test_lines_that_are_wrapped_neither(capfd: pytest.CaptureFixture[str]) -> None:
    """Where a long value is broken is chosen by the width of the terminal."""
    from cerwu_onnx.cli.tables import facts

    console.show(lambda width: facts([("name", "x" * (width - 7) + " ::stop-commands::y and ##[group]z")]))
    out = capfd.readouterr().out
    assert out.count("\n") >= 2
    check(out)


def test_json_is_exact(place: Path, run: Run) -> None:
    run("compress", "::debug::.onnx", "::out::.cwb", "-q", "--method", "cerwu")
    for path, key in (("::debug::.onnx", "layers"), ("::out::.cwb", "tensors")):
        result = run("inspect", path, "--json")
        check(result.out)
        names = {entry["name"] for entry in json.loads(result.out)[key]}
        assert set(HOSTILE[1:]) <= names


def test_progress_does_not_act(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Bars() as bars:
        for name in HOSTILE:
            bars("quantize", 1, 9, name)
            bars._drawing.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capfd.readouterr().err.replace("\r", "\n"))
    assert "stop" in shown
    check(shown)


def test_markdown_for_a_summary_page_shows_what_nobody_sees(place: Path, run: Run) -> None:
    run("compress", "::debug::.onnx", "m.cwb", "-q", "--method", "cerwu")
    page = report_files.to_markdown(report_files.describe("m.cwb"))
    assert all(line.isprintable() for line in page.split("\n"))


@pytest.mark.parametrize("name", ["model::conv", "a:b", "#1", "-- x", "---", "/encoder/0", "a - b"])
def test_ordinary_names_stay(name: str) -> None:
    assert text.printable(name) == name


PRINTS = """
import ctypes, os

def feeds():
    print("print of Python")
    os.write(1, b"write of the system\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"puts of C, which is buffered")
    import numpy
    yield numpy.ones((8, 2, 8, 8), "f")
"""


@pytest.mark.skipif(os.name == "nt", reason="another C library")
def test_only_the_answer_is_on_stdout(model: Path, tmp_path: Path) -> None:
    """Libraries print there, too: onnx.checker about models of old operators."""
    (tmp_path / "feeds.py").write_text(PRINTS)
    spec = f"{tmp_path}/feeds.py:feeds"
    result = run_process("compress", model, tmp_path / "m.cwb", "--calib", spec, "--method", "cerwu", "--json")
    assert result.code == 0
    assert json.loads(result.out)["calibration"] == "data"
    for line in ("print of Python", "write of the system", "puts of C"):
        assert line in result.err


def test_old_operators_leave_json_alone(tmp_path: Path) -> None:
    node = helper.make_node("Affine", ["x"], ["y"], alpha=1.0, beta=0.0)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([node], "g", info[:1], info[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=8), tmp_path / "m.onnx")
    result = run_process("inspect", tmp_path / "m.onnx", "--json")
    assert result.code == 0
    assert json.loads(result.out)["layers"] == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX descriptors")
@pytest.mark.parametrize("closed", ["1", "2", "12"])
def test_descriptors_that_the_caller_closed(cwb: Path, closed: str) -> None:
    redirect = " ".join(f"{number}>&-" for number in closed)
    shell = ["sh", "-c", f'"$@" {redirect}', "sh", *command("inspect", cwb)]
    done = subprocess.run(shell, capture_output=True, check=False)
    assert done.returncode == 0
    assert bool(done.stdout) == ("1" not in closed)
    assert not done.stderr


def test_stdout_is_as_it_was_afterwards(run: Run, cwb: Path) -> None:
    before = sys.stdout
    first, second = run("inspect", cwb), run("inspect", cwb)
    assert first == second
    assert sys.stdout is before
    assert console._ours is None
