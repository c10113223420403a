"""``cerwu-onnx compress`` and ``decompress``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from cerwu_onnx import Settings
from cerwu_onnx.cli.options import parse_numbers, parse_share, parse_size
from cerwu_onnx.errors import UsageError

from .conftest import Run, command, run_process, small_model


def test_the_table_and_the_totals(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.cwb"
    result = run("compress", model, output, "--calib", calib)
    assert result.code == 0
    assert not result.err
    lines = result.out.splitlines()
    assert lines[1].split() == ["layer", "op", "shape", "weights", "weight", "bound", "bytes", "error", "of", "loss"]
    rows = [line.split() for line in lines if line.startswith(("conv.weight", "fc.weight"))]
    assert [row[:4] for row in rows] == [
        ["conv.weight", "Conv", "12x2x3x3", "216"],
        ["fc.weight", "Gemm", "10x432", "4,320"],
    ]
    assert all(row[-1].endswith("%") for row in rows)
    assert f"{model.stat().st_size:,} bytes" in result.out
    assert f"{output.stat().st_size:,} bytes, " in result.out
    assert "times smaller" in result.out
    assert "float parameters" in result.out
    assert "inspect model.onnx" not in result.out
    assert "40 samples" in result.out
    assert "output loss" in result.out
    assert "output loss" not in run("compress", model, output, "--method", "cerwu", "--calib", calib, "-f").out


@pytest.mark.parametrize("columns", [80, 100])
def test_long_names_are_cut_in_the_middle(
    run: Run, tmp_path: Path, calib: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    model = tmp_path / "model.onnx"
    onnx.save(small_model(suffix="/a/very/long" * 12 + ":tail"), model)
    for arguments in (
        ["compress", model, tmp_path / "o.cwb", "--calib", calib],
        ["inspect", model],
        ["inspect", tmp_path / "o.cwb"],
    ):
        result = run(*arguments)
        assert result.code == 0, result.err
        assert max(map(len, result.out.splitlines())) <= columns
        row = next(line for line in result.out.splitlines() if line.startswith("conv.weight"))
        assert "…" in row.split()[0]
        assert row.split()[0].endswith(":tail")
        assert "216" in row or "12x2x3x3" in row


def test_json_is_one_object_with_everything(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.cwb"
    result = run("compress", model, output, "--calib", calib, "--json", "--lambda", "0.2")
    assert result.code == 0
    report = json.loads(result.out)
    assert report["output"] == str(output)
    assert report["file_bytes"] == output.stat().st_size
    assert report["model_bytes"] == model.stat().st_size
    assert report["weights"] == 216 + 4320
    assert report["bits_per_weight"] == pytest.approx(8 * report["weight_bytes"] / report["weights"])
    assert report["weight_bytes"] + sum(report["other_bytes"].values()) == report["file_bytes"]
    assert [layer["name"] for layer in report["layers"]] == ["conv.weight", "fc.weight"]
    assert [parameter["name"] for parameter in report["parameters"]] == ["conv.bias", "fc.bias"]
    assert not report["kept"]
    assert (report["lambda"], report["levels"], report["method"]) == (0.2, None, "trellis")
    assert 0 < report["output_loss"] < 1
    assert sum(layer["loss_share"] for layer in report["layers"]) == pytest.approx(1)
    assert all(layer["output_loss"] > 0 for layer in report["layers"])
    papers = ("--method", "cerwu", "--lambda", "0.002", "--levels", "24", "--json", "--force")
    report = json.loads(run("compress", model, output, "--calib", calib, *papers).out)
    assert (report["lambda"], report["levels"], report["method"]) == (0.002, 24, "cerwu")
    assert report["output_loss"] is None
    assert {layer["loss_share"] for layer in report["layers"]} == {None}


def test_float_parameters_stay_exact_when_asked(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    arguments = ["compress", model, tmp_path / "small.cwb", "--calib", calib, "--float-params"]
    result = run(*arguments, "exact")
    assert "exact tensors" in result.out
    assert "inspect model.onnx" in result.out
    assert "float parameters" not in result.out
    report = json.loads(run(*arguments, "exact", "--json", "--force").out)
    assert {kept["name"] for kept in report["kept"]} == {"conv.bias", "fc.bias"}
    assert not report["parameters"]
    assert run(*arguments, "some", "--force").code == 2


def test_without_calibration_there_is_a_warning(run: Run, model: Path, tmp_path: Path) -> None:
    result = run("compress", model, tmp_path / "small.cwb")
    assert result.code == 0
    assert result.err.startswith("warning: no calibration data")
    assert result.err.count("\n") == 1
    assert "calibration none" in result.out
    as_json = run("compress", model, tmp_path / "small.cwb", "--json", "--force")
    assert as_json.err == result.err
    assert json.loads(as_json.out)["calibration"] == "none"


def test_quiet_says_nothing(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    result = run("compress", model, tmp_path / "small.cwb", "--calib", calib, "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert run("compress", model, tmp_path / "other.cwb", "-q").err.startswith("warning: ")


def test_native_libraries_are_silent_too(model: Path, calib: Path, tmp_path: Path) -> None:
    result = run_process("compress", model, tmp_path / "small.cwb", "--calib", calib, "-q")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_every_setting_has_a_flag_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    import inspect
    from dataclasses import fields

    from cerwu_onnx.cli.compress import compress

    parameters = inspect.signature(compress).parameters
    defaults = Settings()
    assert parameters["skip"].default is None
    for field in fields(Settings):
        if field.name in ("rules", "about"):  # --skip, and a file's [layers]; lists of pairs
            continue
        default = parameters[field.name].default
        expected = getattr(defaults, field.name)
        assert (parse_size(default) if field.name == "memory" else default) == expected


def test_a_cache_changes_no_byte(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    for name, cache in (("a.cwb", ()), ("b.cwb", ("--cache", "new/folder")), ("c.cwb", ("--cache", "new/folder"))):
        extra = [tmp_path / part if "/" in part else part for part in cache]
        arguments = ("compress", model, tmp_path / name, "--calib", calib, "--effort", "fast", "-q")
        assert run(*arguments, *extra).code == 0
    assert {(tmp_path / name).read_bytes() for name in ("b.cwb", "c.cwb")} == {(tmp_path / "a.cwb").read_bytes()}


@pytest.mark.parametrize(("folder", "reason"), [("file", "File exists"), ("file/sub", "Not a directory")])
def test_a_folder_that_can_be_no_cache(
    run: Run, model: Path, calib: Path, tmp_path: Path, folder: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    result = run("compress", model, tmp_path / "a.cwb", "--calib", calib, "--cache", tmp_path / folder)
    assert (result.code, result.err) == (2, f"error: cache {tmp_path / folder}: {reason}\n")


def test_an_existing_output_is_safe(run: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.cwb"
    output.write_text("precious")
    result = run("compress", model, output)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"error: {output} exists: use -f (force) to overwrite it\n"
    assert output.read_text() == "precious"
    assert run("compress", model, output, "-f", "-q").code == 0
    assert output.read_bytes()[:4] == b"\x89CWB"


@pytest.mark.parametrize(
    ("source", "target", "code", "message"),
    [
        ("missing.onnx", "out.cwb", 2, "missing.onnx"),
        ("model.onnx", "nowhere/out.cwb", 2, "does not exist"),
        ("model.onnx", ".", 2, "is a folder"),
        ("text.onnx", "out.cwb", 3, "not an ONNX model"),
        ("calib.npz", "out.cwb", 3, "rows are outputs"),  # a file of arrays, whose --calib are moments
    ],
)
def test_bad_paths_and_models(
    run: Run, model: Path, calib: Path, tmp_path: Path, source: str, target: str, code: int, message: str
) -> None:
    (tmp_path / "text.onnx").write_text("this is no protobuf at all")
    before = sorted(tmp_path.iterdir())
    result = run("compress", tmp_path / source, tmp_path / target, "--calib", calib)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    result = run("compress", model, tmp_path / "locked" / "out.cwb")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "not writable" in result.err


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"wrong": np.zeros((4, 2, 8, 8), np.float32)}, 3),
        ({"x": np.zeros((4, 3, 8, 8), np.float32)}, 3),
        ({"x": np.zeros((0, 2, 8, 8), np.float32)}, 3),
    ],
)
def test_calibration_data_that_does_not_fit(
    run: Run, model: Path, tmp_path: Path, arrays: dict[str, np.ndarray], code: int
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    result = run("compress", model, tmp_path / "out.cwb", "--calib", tmp_path / "bad.npz")
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out.cwb").exists()


def test_calibration_data_that_is_missing(run: Run, model: Path, tmp_path: Path) -> None:
    result = run("compress", model, tmp_path / "out.cwb", "--calib", tmp_path / "nothing.npz")
    assert result.code == 2
    assert "nothing.npz" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_progress_is_drawn_on_a_terminal_only(model: Path, calib: Path, tmp_path: Path) -> None:
    import pty
    import subprocess

    leader, follower = pty.openpty()
    running = subprocess.Popen(  # a terminal holds a few KiB: somebody must read while it draws
        command("compress", model, tmp_path / "out.cwb", "--calib", calib),
        stdout=subprocess.PIPE,
        stderr=follower,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(follower)
    drawn = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        drawn += chunk
    os.close(leader)
    out, _ = running.communicate()
    assert running.returncode == 0
    assert b"quantising" in drawn
    assert b"\x1b" not in out


def test_decompress_gives_a_model_that_runs(run: Run, cwb: Path, calib: Path, tmp_path: Path) -> None:
    output = tmp_path / "back.onnx"
    result = run("decompress", cwb, output)
    assert (result.code, result.err) == (0, "")
    assert f"{output.stat().st_size:,} bytes" in result.out
    session = onnxruntime.InferenceSession(str(output))
    (y,) = session.run(None, {"x": np.load(calib)["x"]})
    assert y.shape == (40, 10)
    again = run("decompress", cwb, output)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "exists" in again.err
    assert run("decompress", cwb, output, "-f", "-q").out == ""


def test_decompress_does_not_overwrite_its_input(run: Run, cwb: Path) -> None:
    content = cwb.read_bytes()
    result = run("decompress", cwb, cwb, "-f")
    assert (result.code, result.err) == (2, f"error: {cwb} is the input itself: give another output\n")
    assert cwb.read_bytes() == content


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("65536", 65536),
        ("512MiB", 512 << 20),
        ("1.5GB", 1_500_000_000),
        ("2g", 2 << 30),
        ("1 kB", 1000),
        ("7B", 7),
        ("0.5KiB", 512),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1e9", "5 XB", "1.2.3"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is not understood"):
        parse_size(text)


def test_numbers_and_shares() -> None:
    assert parse_numbers("0.485, .456,1", "--mean") == (0.485, 0.456, 1.0)
    assert parse_share("5%", "--max-error") == 0.05
    assert parse_share("0.05", "--max-error") == 0.05
    for text in ("nan", "inf", "-1%", "five"):
        with pytest.raises(UsageError):
            parse_share(text, "--max-error")
    assert parse_share("150%", "--max-error") == 1.5  # who writes the sign means it


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--fidelity", "99", "--fidelity '99' would be 9900 %: write 99%"),
        ("--fidelity", " 99.5 ", "--fidelity ' 99.5 ' would be 9950 %: write 99.5%"),
        ("--max-drop", "1", "--max-drop '1' would be 100 %: write 1%"),
        ("--fail-drop", "2", "--fail-drop '2' would be 200 %: write 2%"),
        ("--confidence", "90", "--confidence '90' would be 9000 %: write 90%"),
    ],
)
def test_a_share_without_its_sign(run: Run, model: Path, tmp_path: Path, option: str, text: str, said: str) -> None:
    result = run("compress", model, tmp_path / "m.cwb", "--metric", "error", option, text)
    assert (result.code, result.err) == (2, f"error: {said}\n")
    assert not (tmp_path / "m.cwb").exists()
