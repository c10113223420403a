"""Help, version, exit codes of the program as a whole, and that it starts without the library."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError

from cerwu_onnx import __version__
from cerwu_onnx.cli import app as program
from cerwu_onnx.errors import first_line

from .. import gen_cli_docs
from .conftest import Run, command, run_process

COMMANDS = ("compress", "decompress", "inspect", "verify", "doctor")


def test_no_arguments_show_the_help(run: Run) -> None:
    result = run()
    assert result.code == 0
    assert result.out == run("--help").out == run("-h").out
    assert not result.err
    for command_name in COMMANDS:
        assert command_name in result.out
    for code in ("2    usage", "3    the model", "4    the .cwb", "130  interrupted"):
        assert code in result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_an_example(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert result.code == 0
    assert f"  cerwu-onnx {name}" in result.out.split("Example:")[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cerwu-onnx ex", ["export-c"]),
        ("cerwu-onnx compress --max", ["--max-drop", "--max-decode-cost"]),
        ("cerwu-onnx compress mod", []),  # left to the shell, which knows the files
    ],
)
def test_completions(words: str, expected: list[str]) -> None:
    place = str(len(words.split()) - 1)
    result = run_process(_CERWU_ONNX_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place)
    assert (result.code, result.out.split(), result.err) == (0, expected, "")


def test_the_script_for_completions_asks_by_that_variable() -> None:
    result = run_process("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert result.code == 0, result.err
    assert f"{program.COMPLETE}=complete_bash" in result.out


def test_an_error_that_names_its_file_is_told_once(run: Run, cwb: Path) -> None:
    cwb.write_bytes(cwb.read_bytes() + b"Z")  # the reader names the file already
    result = run("verify", cwb)
    assert result.code == 4
    assert result.err.count(str(cwb)) == 1


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.code, result.out, result.err) == (0, f"cerwu-onnx {__version__}\n", "")


def test_help_does_not_import_the_library() -> None:
    code = (
        "import sys; from cerwu_onnx.cli.app import run; run(['compress', '--help']); "
        "print([m for m in ('numpy', 'scipy', 'threadpoolctl', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_inspecting_a_cwb_file_needs_no_onnx(cwb: Path) -> None:
    code = (
        f"import sys; from cerwu_onnx.cli.app import run; run(['inspect', {str(cwb)!r}]); "
        "print([m for m in ('scipy', 'threadpoolctl', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "--nonsense"),
        (["explode"], "No such command 'explode'"),
        (["compress"], "Missing argument 'IN.onnx OUT.cwb'"),
        (["compress", "a", "b", "--levels", "many"], "--levels"),
        (["compress", "a", "b", "--levels", "1"], "levels 1 is out of range"),
        (["compress", "a", "b", "--method", "magic"], "method 'magic' is unknown"),
        (["compress", "a", "b", "--memory", "much"], "size 'much' is not understood"),
        (["compress", "a.onnx", "b.cwb", "--mean", "0.5,x"], "--mean '0.5,x' is not understood"),
        (["compress", "a.onnx", "b.cwb", "--layout", "CHWN"], "--layout 'CHWN' is unknown"),
        (["verify", "a.cwb", "--data", "d.npz"], "--data needs --against"),
        (["verify", "a.cwb", "--max-error", "0.1"], "--max-error needs --against and --data"),
        (
            ["verify", "a", "--against", "b", "--data", "c", "--max-error", "-1"],
            "--max-error '-1' is not understood",
        ),
        (["inspect", "missing.cwb"], "cannot read missing.cwb: No such file"),
        (["verify", "missing.cwb"], "cannot read missing.cwb: No such file"),
        (["decompress", "missing.cwb", "out.onnx"], "cannot read missing.cwb: No such file"),
    ],
)
def test_usage_errors_are_one_line_and_exit_code_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.code == 2
    assert not result.out
    assert message in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def _fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            ZeroDivisionError("x\ny"),
            70,
            "error: unexpected ZeroDivisionError: x y; run again with -v for the traceback\n",
        ),
        (MemoryError("2 TiB"), 70, "error: out of memory: try a smaller --memory or --batch-size (2 TiB)\n"),
        (
            DecodeError("Error parsing message with type 'onnx.ModelProto': Arena alloc failed"),
            70,
            "error: out of memory: try a smaller --memory or --batch-size (Error parsing message with type "
            "'onnx.ModelProto': Arena alloc failed)\n",
        ),
        (
            RuntimeError("[ONNXRuntimeError] : 6 : Exception during initialization: std::bad_alloc"),
            70,
            "error: out of memory: try a smaller --memory or --batch-size (Exception during initialization: "
            "std::bad_alloc)\n",
        ),
        (PermissionError(13, "Permission denied", "a\x1b[2J"), 2, "error: a\\x1b[2J: Permission denied\n"),
    ],
)
def test_unexpected_exceptions(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, message: str
) -> None:
    monkeypatch.setattr("cerwu_onnx.cli.doctor.self_test", lambda **_: _fail(error))
    result = run("doctor")
    assert (result.code, result.err) == (code, message)


def test_verbose_shows_the_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cerwu_onnx.cli.doctor.self_test", lambda **_: _fail(ZeroDivisionError("x")))
    for arguments in (["-v", "doctor"], ["doctor", "-v"]):
        result = run(*arguments)
        assert "Traceback" in result.err
        assert result.err.endswith("error: unexpected ZeroDivisionError: x\n")


def test_the_documented_exit_codes_are_those_of_the_errors() -> None:
    from cerwu_onnx import errors

    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.CerwuError)]
    assert {c.exit_code for c in classes} == {1, 2, 3, 4, 5, 6}
    assert set(program.EXIT_CODES) == {0, 1, 2, 3, 4, 5, 6, 70, 129, 130, 141, 143}


def endless(folder: Path) -> str:
    """Calibration data that never comes; files named after the process say that it waits."""
    (folder / "endless.py").write_text(
        "import os, pathlib, time\n"
        "def feeds():\n"
        f"    (pathlib.Path({str(folder)!r}) / f'{{os.getpid()}}.started').touch()\n"
        "    time.sleep(600)\n"
        "    yield {}\n"
    )
    return f"{folder / 'endless.py'}:feeds"


def ended(number: int, words: list[str], folder: Path, waiting: int = 1) -> tuple[int, str, str]:
    """A command that a signal ends once so many processes wait for data: exit code, stdout and stderr."""
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it in the background
    )
    while len(list(folder.glob("*.started"))) < waiting:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("name", "code", "word"),
    [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "hung up")],
)
def test_ending_compress_leaves_nothing(name: str, code: int, word: str, model: Path, tmp_path: Path) -> None:
    words = command("compress", model, tmp_path / "out.cwb", "--calib", endless(tmp_path))
    assert ended(getattr(signal, name), words, tmp_path) == (code, "", f"{word}\n")
    assert not list(tmp_path.glob("*.cwb")) + list(tmp_path.glob(".*"))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_what_nohup_ignores_is_ignored(cwb: Path) -> None:
    words = [
        sys.executable,
        "-c",
        "import os, signal; from cerwu_onnx.cli import signals; signals.install(); "
        "os.kill(os.getpid(), signal.SIGHUP); print('alive')",
    ]
    done = subprocess.run(
        words, capture_output=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN), check=True
    )
    assert done.stdout == b"alive\n"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc, to see which processes live")
def test_ending_the_compression_of_many_ends_all_of_them(model: Path, tmp_path: Path) -> None:
    models = [Path(shutil.copy(model, tmp_path / f"{name}.onnx")) for name in "abc"]
    words = command("compress", *models, "--out-dir", tmp_path / "out", "-j", "2", "--calib", endless(tmp_path))
    assert ended(signal.SIGTERM, words, tmp_path, waiting=2) == (143, "", "terminated\n")
    assert not (tmp_path / "out").exists()
    started = [path.stem for path in tmp_path.glob("*.started")]
    assert len(started) == 2  # the third never began
    assert not [number for number in started if Path(f"/proc/{number}").exists()]


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_has_seen_enough_is_no_error(cwb: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command("inspect", cwb), stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_behind_stdout(cwb: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command("inspect", cwb), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: cannot write to stdout: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_closed_streams(cwb: Path, tmp_path: Path) -> None:
    for redirection, code in ((">&-", 0), ("2>&-", 0), (">&- 2>&-", 0)):
        line = f"{shlex.join(command('inspect', cwb))} {redirection}"
        assert subprocess.run(line, shell=True, capture_output=True, check=False).returncode == code
    line = f"{shlex.join(command('inspect', tmp_path / 'missing'))} 2>&-"
    assert subprocess.run(line, shell=True, capture_output=True, check=False).returncode == 2


def test_output_survives_a_terminal_without_unicode(cwb: Path) -> None:
    result = run_process("inspect", cwb, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert result.code == 0
    assert "conv.weight" in result.out


def test_docs_are_up_to_date() -> None:
    assert gen_cli_docs.PAGE.read_text(encoding="utf-8") == gen_cli_docs.page(), (
        "run python -m tests.gen_cli_docs and commit docs/cli.md"
    )


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/graph/load.h:46 void onnxruntime::Check("
            "const std::map<int, int>&, bool) ONNX Runtime only supports opsets till 28.",
            "ONNX Runtime only supports opsets till 28.",
        ),
        (
            "[ONNXRuntimeError] : 3 : NO_SUCHFILE : Load model from a.onnx failed",
            "Load model from a.onnx failed",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Node (fc) [ShapeInferenceError] Dimension mismatch: 431 and 432",
            "Node (fc) Dimension mismatch: 431 and 432",
        ),
        ("\n  broken lens (x) y\nmore", "broken lens (x) y"),
        ("", "ValueError"),
    ],
)
def test_messages_of_libraries_begin_with_what_is_wrong(said: str, kept: str) -> None:
    assert " ".join(first_line(ValueError(said)).split()) == kept
