"""``compress`` with defaults from a TOML file, ``--skip`` and ``--dry-run``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cerwu_onnx.cli.batch import PROGRAM

from .conftest import Run

FAST = 'method = "cerwu"\n'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def report(run: Run, *arguments: object) -> dict[str, object]:
    result = run("compress", "model.onnx", "m.cwb", "--json", "-f", *arguments)
    assert result.code == 0, result.err
    found: dict[str, object] = json.loads(result.out)
    return found


@pytest.mark.parametrize(
    ("name", "head"), [("cerwu.toml", ""), ("pyproject.toml", "[tool.other]\nx = 1\n[tool.cerwu-onnx]\n")]
)
def test_a_file_of_the_working_directory(run: Run, model: Path, calib: Path, name: str, head: str) -> None:
    Path(name).write_text(f'{head}{FAST}lambda = 0.002\nlevels = 24\ncalib = "calib.npz"\nmemory = 99999999\n')
    found = report(run)
    assert (found["method"], found["lambda"], found["levels"], found["calibration"]) == ("cerwu", 0.002, 24, "data")
    assert report(run, "--levels", "20", "--lambda", "0.003")["levels"] == 20


def test_another_file(run: Run, model: Path) -> None:
    Path("cerwu.toml").write_text("nonsense")
    Path("other.toml").write_text('method = "rtn"\nlevels = 24')
    assert report(run, "--config", "other.toml")["levels"] == 24
    Path("cerwu.toml").unlink()
    Path("pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert report(run)["method"] == "trellis"
    result = run("compress", model, "m.cwb", "-f", "--config", "pyproject.toml")
    assert (result.code, result.err) == (2, "error: pyproject.toml has no table [tool.cerwu-onnx]\n")


def test_an_aim_of_the_command_line_replaces_that_of_the_file(run: Run, model: Path) -> None:
    Path("cerwu.toml").write_text(f'{FAST}target-size = "3KiB"\n')
    found = report(run)
    assert found["search"]
    assert 0 < int(str(found["file_bytes"])) <= 3072
    found = report(run, "--lambda", "0.01")
    assert (found["lambda"], found["search"]) == (0.01, [])


def test_layers_of_the_file_and_the_command_line(run: Run, model: Path) -> None:
    rules = '[layers]\n"conv.*" = { skip = true }\n"fc.weight" = { price = 0.5, bits = 8 }\n'
    Path("cerwu.toml").write_text(FAST + rules)
    plan = json.loads(run("compress", model, "m.cwb", "--dry-run", "--json").out)
    assert [(layer["name"], layer["price"], layer["bits"]) for layer in plan["layers"]] == [("fc.weight", 0.5, 8)]
    assert "skipped by cerwu.toml [layers] 'conv.*'" in {tensor["reason"] for tensor in plan["kept"]}
    table = run("compress", model, "--dry-run", "--skip", "fc.bias").out
    assert "trellis, price 0.5, 8 bits" in table
    assert "skipped by --skip 'fc.bias':" in table
    assert not Path("m.cwb").exists()
    names = {tensor["name"] for tensor in report(run, "--skip", "fc.bias")["kept"]}  # type: ignore[attr-defined]
    assert names == {"conv.weight", "conv.bias", "fc.bias"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lamda = 1", "cerwu.toml: unknown key 'lamda': did you mean 'lambda'?"),
        ("force = true", "cerwu.toml: unknown key 'force'; known: base, batch-size, cache, calib"),
        ('lambda = "1"', "cerwu.toml: lambda = '1' must be a number"),
        ("lambda = true", "cerwu.toml: lambda = True must be a number"),
        ("levels = 2.5", "cerwu.toml: levels = 2.5 must be an integer"),
        ("weights-only = 1", "cerwu.toml: weights-only = 1 must be true or false"),
        ("method = 3", "cerwu.toml: method = 3 must be a string"),
        ("target-size = 2.5", "cerwu.toml: target-size = 2.5 must be a string like '64KiB', or bytes"),
        ("max-drop = []", "cerwu.toml: max-drop = [] must be a string like '1%', or a share of 1"),
        ("lambda =", "cerwu.toml is no TOML: Invalid value"),
        ("layers = 3", "cerwu.toml [layers] must be a table of globs"),
        (
            '[layers]\n"fc*" = "skip"',
            "cerwu.toml [layers] 'fc*' must be { skip = true }, { price = NUMBER }",
        ),
        (
            '[layers]\n"fc*" = {}',
            "cerwu.toml [layers] 'fc*' must be { skip = true }, { price = NUMBER }",
        ),
        ('[layers]\n"fc*" = { skp = true }', "cerwu.toml [layers] 'fc*': unknown key 'skp': did you mean 'skip'?"),
        ('[layers]\n"fc*" = { skip = 1 }', "cerwu.toml [layers] 'fc*': skip = 1 must be true or false"),
        ('[layers]\n"fc*" = { price = "1" }', "cerwu.toml [layers] 'fc*': price = '1' must be a number"),
        ('[layers]\n"fc*" = { bits = 4.5 }', "cerwu.toml [layers] 'fc*': bits = 4.5 must be an integer"),
        ('[layers]\n"fc*" = { bits = 32 }', "cerwu.toml [layers] 'fc*': bits 32 is out of range: give 2 to 12"),
        ('[layers]\n"fc*" = { price = 0 }', "cerwu.toml [layers] 'fc*': price 0 is out of range"),
        ('[layers]\n"fc.wait" = { skip = true }', "cerwu.toml [layers] 'fc.wait' matches no tensor of the model: did"),
        ("target-size = 1\nlambda = 1", "lambda and a target exclude each other"),
    ],
)
def test_what_a_file_cannot_say(run: Run, model: Path, content: str, message: str) -> None:
    Path("cerwu.toml").write_text(content)
    result = run("compress", model, "m.cwb")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {message}")
    assert result.err.count("\n") == 1
    assert not Path("m.cwb").exists()


def test_two_files_are_one_too_many(run: Run, model: Path) -> None:
    Path("cerwu.toml").write_text("lambda = 1")
    Path("pyproject.toml").write_text("[tool.cerwu-onnx]\nlambda = 1")
    assert "both cerwu.toml and [tool.cerwu-onnx] of pyproject.toml" in run("compress", model, "m.cwb").err
    Path("pyproject.toml").write_text("tool.cerwu-onnx = 3")
    assert "pyproject.toml: tool.cerwu-onnx is no table" in run("compress", model, "m.cwb").err


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_files_that_cannot_be_read(run: Run, model: Path, name: str) -> None:
    result = run("compress", model, "m.cwb", "--config", name)
    assert result.code == 2
    assert result.err.startswith(f"error: cannot read {name}: ")


EVIL = "from pathlib import Path\n\nPath('ran').touch()\n\n\ndef f(*_):\n    return 1.0\n"
"""A module that leaves a trace when it is imported."""


@pytest.mark.parametrize("name", ["cerwu.toml", "pyproject.toml"])
@pytest.mark.parametrize(
    ("line", "fault", "option"),
    [
        ("calib = 'evil.py:f'", "runs code", "--calib"),
        ("calib = 'evil:f'", "runs code", "--calib"),
        ("calib = '../calib.npz'", "lies outside this folder", "--calib"),
        ("calib = 'link.npz'", "lies outside this folder", "--calib"),
        ("calib = '{stem}nk.npz'", "lies outside this folder", "--calib"),
        ("calib = '/absent/calib.npz'", "lies outside this folder", "--calib"),
        ('calib = "a\\u0000b"', "lies outside this folder", "--calib"),
        ("metric = 'evil.py:f'", "runs code", "--metric"),
        ("metric-data = 'evil.py:f'\nmetric = 'error'", "runs code", "--metric-data"),
        ("cache = 'kept'", "says where to write", "--cache"),
    ],
)
def test_a_file_that_nobody_named_runs_no_code_and_writes_nowhere(
    run: Run, model: Path, tmp_path: Path, name: str, line: str, fault: str, option: str
) -> None:
    Path("evil.py").write_text(EVIL)
    Path("link.npz").symlink_to(tmp_path.parent / "calib.npz")
    Path(name).write_text(f"{'[tool.cerwu-onnx]' if name == 'pyproject.toml' else ''}\n{line}\n")
    before = set(tmp_path.iterdir())
    for command in (("compress", model, "m.cwb"), ("compress", model, "--dry-run"), ("sweep", model, "--lambda", "1")):
        result = run(*command, *(("--out-dir", "swept") if command[0] == "sweep" else ()))
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"error: {name}: {line.partition(' ')[0]} = ")
        assert result.err.endswith(
            f" {fault}, which a file may do only if you name it: add --config {name} if you trust it, "
            f"or give {option} yourself\n"
        )
        assert result.err.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


def test_what_the_user_names_counts(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    Path("evil.py").write_text(EVIL.replace("return 1.0", "import numpy; yield numpy.ones((8, 2, 8, 8), 'f')"))
    Path("cerwu.toml").write_text(f"{FAST}calib = 'evil.py:f'\ncache = 'kept'\n")
    found = report(run, "--calib", calib, "--cache", "mine")  # the command line replaces both
    assert found["calibration"] == "data"
    assert not Path("ran").exists()
    assert not Path("kept").exists()
    assert report(run, "--config", "cerwu.toml")["calibration"] == "data"
    assert Path("ran").exists()
    assert list(Path("kept").iterdir())


def test_data_of_the_project_needs_no_trust(run: Run, model: Path, calib: Path) -> None:
    Path("data").mkdir()
    calib.rename("data/model.npz")
    Path("cerwu.toml").write_text(
        f"{FAST}calib = 'data/{{stem}}.npz'\nmetric = 'error'\nmetric-data = 'data/model.npz'"
    )
    assert report(run, "--fail-drop", "99%")["scores"]


def test_modules_of_the_working_directory_are_not_imported(model: Path, calib: Path) -> None:
    """Children of the program import what it imports: not files of that name in a clone."""
    for name in ("numpy", "typer", "joblib", "onnx", "json"):
        Path(f"{name}.py").write_text(EVIL)
    program = [sys.executable, "-c", PROGRAM]
    options = ["--method", "cerwu", "--calib", str(calib), "-q"]
    many = subprocess.run([*program, "compress", str(model), "--out-dir", "many", *options], check=False)
    assert (many.returncode, Path("many/model.cwb").exists()) == (0, True)
    assert not Path("ran").exists()
    if sys.version_info >= (3, 11):
        swept = ["sweep", str(model), "--out-dir", "swept", "--lambda", "1", "--lambda", "2", "-j", "2", *options]
        assert subprocess.run([*program, *swept], check=False).returncode == 0
        assert len(list(Path("swept").iterdir())) == 2
        assert not Path("ran").exists()
