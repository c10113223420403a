"""``cerwu-onnx verify``, ``inspect`` and ``doctor``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from .conftest import Run, small_model


def forge(path: Path, content: bytes) -> Path:
    """Write a damaged .cwb file."""
    path.write_bytes(content)
    return path


def change_model(path: Path, name: str, change: float) -> None:
    """Add a number to a tensor of an ONNX file."""
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(change), name))
    onnx.save(model, path)


def test_a_good_file(run: Run, cwb: Path) -> None:
    result = run("verify", cwb)
    assert (result.code, result.err) == (0, "")
    assert "4 tensors decoded" in result.out
    assert run("verify", cwb, "-q").out == ""
    body = json.loads(run("verify", cwb, "--json").out)
    assert body["ok"]
    assert body["tensors"] == 4
    assert body["problems"] == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c[:-150] + bytes([c[-150] ^ 1]) + c[-149:], "is damaged"),
        (lambda c: c[:40] + bytes([c[40] ^ 1]) + c[41:], "CRC mismatch of header and directory"),
        (lambda c: c[:12] + bytes([c[12] ^ 1]) + c[13:], "truncated or extended"),
        (lambda c: c[:6] + bytes([c[6] ^ 1]) + c[7:], "CRC mismatch of header and directory"),
        (lambda c: c[:-10], "bytes"),
        (lambda c: c[:19], "truncated"),
        (lambda c: c + b"\0", "bytes"),
        (lambda c: b"\x09" + c[1:], "not a .cwb file"),
        (lambda c: b"", "not a .cwb file"),
        (lambda c: c[:4] + b"\xe7\3" + c[6:], "version 999 is too new: update cerwu-onnx"),
    ],
)
def test_damaged_and_newer_files(run: Run, cwb: Path, tmp_path: Path, damage: object, message: str) -> None:
    assert callable(damage)
    bad = forge(tmp_path / "bad.cwb", damage(cwb.read_bytes()))
    for arguments in (["verify", bad], ["verify", bad, "--json"], ["decompress", bad, tmp_path / "out.onnx"]):
        result = run(*arguments)
        assert (result.code, result.out) == (4, "")
        assert result.err.startswith("error: ")
        assert message in result.err
        assert result.err.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_every_flipped_bit_is_noticed(run: Run, cwb: Path, tmp_path: Path) -> None:
    content = cwb.read_bytes()
    bad = tmp_path / "bad.cwb"
    for position in np.linspace(0, len(content) - 1, 60, dtype=int):
        forge(bad, content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        assert run("verify", bad).code == 4, position


def test_inspecting_a_mangled_cwb_does_not_call_it_a_bad_model(run: Run, cwb: Path, tmp_path: Path) -> None:
    result = run("inspect", forge(tmp_path / "bad", cwb.read_bytes()[:-1]))
    assert (result.code, result.out) == (4, "")


def test_against_its_model(run: Run, cwb: Path, model: Path) -> None:
    result = run("verify", cwb, "--against", model)
    assert (result.code, result.err) == (0, "")
    assert "2 quantised tensors of the right shape, 2 float parameters coded, 0 exact tensors" in result.out


def test_against_another_model(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    cwb = tmp_path / "exact.cwb"
    assert run("compress", model, cwb, "--calib", calib, "--float-params", "exact").code == 0
    assert "2 exact tensors bit-identical" in run("verify", cwb, "--against", model).out
    change_model(model, "fc.bias", 0.5)
    result = run("verify", cwb, "--against", model)
    assert result.code == 1
    assert "1 wrong" in result.out
    assert result.err == f"error: tensor 'fc.bias' is stored exactly and differs from the one in {model}\n"
    body = json.loads(run("verify", cwb, "--against", model, "--json").out)
    assert not body["ok"]
    assert body["differing"] == ["fc.bias"]


def test_against_a_model_with_other_tensors(run: Run, cwb: Path, model: Path) -> None:
    onnx.save(small_model(batch_norm=True, suffix="2"), model)
    result = run("verify", cwb, "--against", model)
    assert result.code == 1
    assert "tensor 'conv.weight' is not in" in result.err
    assert "more)" in result.err


def test_against_a_model_that_was_folded(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    onnx.save(small_model(batch_norm=True), model)
    output = tmp_path / "folded.cwb"
    compressed = run("compress", model, output, "--calib", calib, "--fold-bn")
    assert compressed.code == 0, compressed.err
    assert "1 BatchNormalization" in compressed.out
    result = run("verify", output, "--against", model, "--data", calib, "--max-error", "50%")
    assert result.code == 0, result.err
    assert "folded" in result.out


def test_outputs_are_compared(run: Run, cwb: Path, model: Path, calib: Path) -> None:
    result = run("verify", cwb, "--against", model, "--data", calib, "--max-error", "60%")
    assert (result.code, result.err) == (0, "")
    head, row = result.out.splitlines()[-3], result.out.splitlines()[-1]
    assert head.split() == ["output", "error", "difference", "argmax"]
    assert row.split()[0] == "y"
    assert row.count("%") == 2


def test_a_budget_that_does_not_hold(run: Run, cwb: Path, model: Path, calib: Path) -> None:
    result = run("verify", cwb, "--against", model, "--data", calib, "--max-error", "0", "--json")
    assert result.code == 1
    body = json.loads(result.out)
    assert not body["ok"]
    assert body["outputs"][0]["name"] == "y"
    assert body["outputs"][0]["relative"] > 0
    assert result.err.startswith("error: output 'y': relative error 0.")
    assert result.err.endswith("exceeds --max-error 0\n")


def test_data_that_does_not_fit(run: Run, cwb: Path, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", z=np.zeros((1, 2)))
    result = run("verify", cwb, "--against", model, "--data", tmp_path / "bad.npz")
    assert (result.code, result.err.count("\n")) == (3, 1)


def test_against_something_else(run: Run, cwb: Path, calib: Path, tmp_path: Path) -> None:
    assert run("verify", cwb, "--against", calib).code == 3
    assert run("verify", cwb, "--against", tmp_path / "missing.onnx").code == 2


def test_inspect_a_model(run: Run, model: Path) -> None:
    result = run("inspect", model)
    assert (result.code, result.err) == (0, "")
    assert "2 tensors, 4,536 weights" in result.out
    assert "bias of Conv" in result.out
    body = json.loads(run("inspect", model, "--json").out)
    assert body["kind"] == "onnx"
    assert [layer["name"] for layer in body["layers"]] == ["conv.weight", "fc.weight"]
    assert all(tensor["reason"] for tensor in body["kept"])


def test_inspect_goes_by_content(run: Run, model: Path, cwb: Path, tmp_path: Path) -> None:
    swapped = shutil.copy(cwb, tmp_path / "is.onnx"), shutil.copy(model, tmp_path / "is.cwb")
    assert [json.loads(run("inspect", path, "--json").out)["kind"] for path in swapped] == ["cwb", "onnx"]


def test_inspect_a_cwb_file(run: Run, cwb: Path) -> None:
    result = run("inspect", cwb)
    assert (result.code, result.err) == (0, "")
    for text in ("calibration", "data", "method", "trellis", "conv.weight", "adaptive", "12x2x3x3"):
        assert text in result.out
    body = json.loads(run("inspect", cwb, "--json").out)
    assert body["kind"] == "cwb"
    assert body["file_bytes"] == cwb.stat().st_size
    weight = next(tensor for tensor in body["tensors"] if tensor["name"] == "fc.weight")
    assert weight["coding"] in ("ans", "adaptive")
    assert weight["shape"] == [10, 432]
    assert weight["step"] > 0
    assert weight["largest"] > 0


def test_inspect_and_compress_count_alike(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    report = json.loads(run("compress", model, tmp_path / "a.cwb", "--calib", calib, "--json").out)
    body = json.loads(run("inspect", tmp_path / "a.cwb", "--json").out)
    keys = ("file_bytes", "weights", "weight_bytes", "bits_per_weight", "other_bytes")
    assert {key: body[key] for key in keys} == {key: report[key] for key in keys}
    for key, flag in (("layers", False), ("parameters", True)):
        coded = [tensor for tensor in body["tensors"] if tensor["coding"] != "exact" and tensor["parameter"] is flag]
        inspected = {tensor["name"]: tensor["bytes"] for tensor in coded}
        assert inspected == {entry["name"]: entry["coded_bytes"] for entry in report[key]}
        assert len(inspected) == 2
    assert "2 float tensors coded too" in run("inspect", tmp_path / "a.cwb").out


def test_metadata_cannot_pass_for_facts(run: Run, cwb: Path, tmp_path: Path) -> None:
    from cerwu_onnx.container import writer

    path = forge(tmp_path / "a.cwb", writer.assemble([writer.metadata_section({"file": "x\x1b[2J" + "y" * 9999})]))
    result = run("inspect", path)
    assert result.code == 0
    assert "file       a.cwb" in result.out
    assert "\x1b" not in result.out
    assert len(result.out) < 999


def test_names_cannot_write_to_the_terminal(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(small_model(suffix="\x1b[2J[bold]\n"), model)
    out = run("inspect", model).out
    assert "conv.weight\\x1b[2J[bold]\\n" in out
    assert "\x1b" not in out


def test_doctor(run: Run) -> None:
    result = run("doctor")
    assert (result.code, result.err) == (0, "")
    for name in (
        "python",
        "cerwu-onnx",
        "numpy",
        "scipy",
        "threadpoolctl",
        "onnx",
        "onnxruntime",
        "C decoder",
    ):
        assert f"\n{name} " in f"\n{result.out}"
    assert "plain Python, ans: identical" in result.out
    assert "C, adaptive: identical" in result.out
    assert "DIFFERS" not in result.out


def test_doctor_without_the_native_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cerwu_onnx import native

    monkeypatch.setattr(native, "available", lambda: False)
    monkeypatch.setattr(native, "unavailable_reason", lambda: "it was not built (the install found no C compiler)")
    result = run("doctor")
    assert (result.code, result.err) == (0, "")
    assert "not used: it was not built (the install found no C compiler)" in result.out
    assert "plain Python, ans: identical" in result.out
    assert "\nself-test     C, " not in result.out


def test_doctor_finds_a_wrong_decoder(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cerwu_onnx.entropy import ans

    monkeypatch.setattr(ans, "decode_plain", lambda words, table, count: np.zeros(count, np.int32))
    result = run("doctor")
    assert result.code == 1
    assert "plain Python, ans: DIFFERS" in result.out
    assert result.err.startswith("error: plain Python, ans: not what was encoded")


def test_doctor_finds_a_broken_dependency(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = run("doctor")
    assert result.code == 1
    assert "cannot be used: onnxruntime" in result.err
