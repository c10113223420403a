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
    differs = f"tensor 'fc.bias' is stored exactly and differs from the one in {model}"
    assert result.err == f"error: {differs} (and 1 more)\n"
    body = json.loads(run("verify", cwb, "--against", model, "--json").out)
    assert not body["ok"]
    assert body["differing"] == ["fc.bias"]
    assert body["same_file"] is False
    assert body["problems"][0] == differs
    assert "is not the file that this one was made from" in body["problems"][1]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("conv.weight", "is not the file"), ("conv.bias", "is not the file"), ("fc.weight", "is not the file")],
)
def test_a_changed_number_of_the_model_is_noticed(run: Run, cwb: Path, model: Path, name: str, problem: str) -> None:
    """Also one of a tensor that is quantised, whose new values say nothing of the old."""
    loaded = onnx.load(model)
    tensor = next(tensor for tensor in loaded.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[7] = -values.flat[7]
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(loaded, model)
    result = run("verify", cwb, "--against", model)
    assert result.code == 1
    assert problem in result.err


def test_another_graph_is_noticed(run: Run, cwb: Path, model: Path) -> None:
    loaded = onnx.load(model)
    loaded.graph.node[1].op_type = "Sigmoid"
    onnx.save(loaded, model)
    body = json.loads(run("verify", cwb, "--against", model, "--json").out)
    assert body["differing"] == []
    assert (
        body["problems"][0] == f"the graph differs from that of {model}: node 1 is Relu, not Sigmoid, "
        "or has other attributes"
    )


def test_swapped_tensors_are_noticed(run: Run, model: Path, tmp_path: Path) -> None:
    """Two exact tensors of one shape under each other's name."""
    made, random = small_model(), np.random.default_rng(1)
    made.graph.initializer.extend(
        numpy_helper.from_array(random.normal(size=10).astype(np.float32), name) for name in ("e1", "e2")
    )
    made.graph.node[-1].output[0] = "z"
    made.graph.node.append(onnx.helper.make_node("Div", ["z", "e1"], ["z1"]))
    made.graph.node.append(onnx.helper.make_node("Div", ["z1", "e2"], ["y"]))
    onnx.save(made, model)
    assert run("compress", model, tmp_path / "m.cwb", "-q").code == 0
    assert run("verify", tmp_path / "m.cwb", "--against", model).code == 0
    first, second = made.graph.initializer[-2:]
    first.raw_data, second.raw_data = second.raw_data, first.raw_data
    onnx.save(made, model)
    body = json.loads(run("verify", tmp_path / "m.cwb", "--against", model, "--json").out)
    assert body["differing"] == ["e1", "e2"]


def test_a_constant_node_may_lose_its_name(run: Run, tmp_path: Path) -> None:
    """What the file keeps of a node that holds integers is their values."""
    made = small_model()
    shape = numpy_helper.from_array(np.array([-1, 432], np.int64))
    made.graph.node[2].CopyFrom(onnx.helper.make_node("Reshape", ["relu", "shape"], ["flat"]))
    made.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["shape"], value=shape))
    onnx.save(made, tmp_path / "m.onnx")
    assert run("compress", tmp_path / "m.onnx", tmp_path / "m.cwb", "-q").code == 0
    result = run("verify", tmp_path / "m.cwb", "--against", tmp_path / "m.onnx")
    assert result.code == 0, result.err
    assert "3 exact tensors bit-identical" in result.out


def test_a_moved_bias_is_not_exact_and_no_fault(run: Run, tmp_path: Path) -> None:
    """A bias of two numbers stays float, but makes up for the error of its layer's weight."""
    random = np.random.default_rng(0)
    names = {"w": (16, 64), "b": (64,), "v": (64, 2), "c": (2,)}
    values = {name: random.normal(size=size).astype(np.float32) for name, size in names.items()}
    values["c"] *= 1e6  # no grid that is fine enough would make it smaller
    tensors = [numpy_helper.from_array(array, name) for name, array in values.items()]
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        onnx.helper.make_node("Relu", ["h"], ["r"]),
        onnx.helper.make_node("Gemm", ["r", "v", "c"], ["y"]),
    ]
    ends = [onnx.helper.make_tensor_value_info(n, 1, ["N", size]) for n, size in (("x", 16), ("y", 2))]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=random.normal(size=(200, 16)).astype(np.float32))
    file = tmp_path / "m.cwb"
    assert run("compress", tmp_path / "m.onnx", file, "--calib", tmp_path / "x.npz", "-q").code == 0
    result = run("verify", file, "--against", tmp_path / "m.onnx")
    assert result.code == 0, result.err
    assert "1 float parameter moved" in result.out
    change_model(tmp_path / "m.onnx", "c", 3.0)
    assert run("verify", file, "--against", tmp_path / "m.onnx").code == 1


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
    assert "6 folded" in result.out  # weight and bias change, four vectors go


def test_folding_hides_no_mismatch(run: Run, model: Path, tmp_path: Path) -> None:
    made = small_model(batch_norm=True)
    made.graph.initializer.append(numpy_helper.from_array(np.linspace(1, 2, 10).astype(np.float32), "scale"))
    made.graph.node[-1].output[0] = "z"
    made.graph.node.append(onnx.helper.make_node("Div", ["z", "scale"], ["y"]))
    onnx.save(made, model)
    file = tmp_path / "m.cwb"
    assert run("compress", model, file, "-q", "--skip", "fc.weight").code == 0
    body = json.loads(run("verify", file, "--against", model, "--json").out)
    assert body["ok"]
    assert body["folded"]
    assert (body["quantised"], body["identical"]) == (1, 4)  # biases without data, fc.weight, scale
    change_model(model, "scale", 0.25)
    change_model(model, "bn.shift", 0.25)
    body = json.loads(run("verify", file, "--against", model, "--json").out)
    assert body["differing"] == ["conv.bias", "scale"]


def test_layers_that_were_not_folded(run: Run, model: Path, tmp_path: Path) -> None:
    """``--skip`` leaves a layer and its normalisation alone; verify finds out which."""
    made = small_model(batch_norm=True)
    onnx.save(made, model)
    file = tmp_path / "m.cwb"
    assert run("compress", model, file, "-q", "--skip", "conv.weight").code == 0
    result = run("verify", file, "--against", model)
    assert result.code == 0, result.err
    assert "folded" not in result.out


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


def test_an_error_that_is_no_number_exceeds_any_budget(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    """Outputs that overflow: one infinity beside a number makes the relative error infinity over infinity."""
    made = small_model()
    made.graph.initializer.append(numpy_helper.from_array(np.float32(1e4), "large"))
    made.graph.node[-1].output[0] = "z"
    made.graph.node.append(onnx.helper.make_node("Mul", ["z", "large"], ["m"]))
    made.graph.node.append(onnx.helper.make_node("Exp", ["m"], ["y"]))
    onnx.save(made, model)
    assert run("compress", model, tmp_path / "m.cwb", "--lambda", "1", "-q").code == 0
    result = run("verify", tmp_path / "m.cwb", "--against", model, "--data", calib, "--max-error", "60%")
    assert (result.code, result.err) == (1, "error: output 'y': relative error nan exceeds --max-error 0.6\n")


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


@pytest.mark.parametrize("batch_norm", [False, True])
def test_weights_alone_run_in_the_graph_of_the_model(
    run: Run, model: Path, calib: Path, tmp_path: Path, batch_norm: bool
) -> None:
    onnx.save(small_model(batch_norm=batch_norm), model)
    bodies = []
    for options in ([], ["--weights-only"]):
        file = tmp_path / "m.cwb"
        assert run("compress", model, file, "-q", "-f", "--calib", calib, *options).code == 0
        verified = run("verify", file, "--against", model, "--data", calib, "--json")
        assert verified.code == 0, verified.err
        compared = run("compare", model, file, "--data", calib, "--json")
        assert compared.code == 0, compared.err
        bodies.append((json.loads(verified.out)["outputs"], json.loads(compared.out)["layers"]))
    assert 0 < bodies[0][0][0]["relative"] < 0.5
    assert bodies[0] == bodies[1]


def test_weights_alone_of_another_model(run: Run, model: Path, calib: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.cwb"
    assert run("compress", model, file, "-q", "--weights-only", "--calib", calib).code == 0
    other = small_model(suffix="2")
    onnx.save(other, model)
    for arguments in (["verify", file, "--against", model, "--data", calib], ["compare", model, file, "--data", calib]):
        result = run(*arguments)
        assert (result.code, result.err.count("\n")) == (1, 1)
    narrow = small_model()
    narrow.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((6, 2, 3, 3), np.float32), "conv.weight"))
    onnx.save(narrow, model)
    result = run("verify", file, "--against", model)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "'conv.weight'" in result.err


def test_integers_that_were_quantised_anew(run: Run, model: Path, tmp_path: Path) -> None:
    """With --requantize the floats behind DequantizeLinear are what the file holds; verify computes them again."""
    made = small_model()
    random = np.random.default_rng(2)
    parts = {"q": random.integers(-127, 128, (10, 432)).astype(np.int8), "scale": np.float32(0.01), "zero": np.int8(0)}
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in parts.items())
    made.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", list(parts), ["fc.floats"]))
    made.graph.node[-1].input[1] = "fc.floats"
    onnx.save(made, model)
    for options, quantised in (([], 1), (["--requantize"], 2)):
        file = tmp_path / "m.cwb"
        assert run("compress", model, file, "-f", "-q", *options).code == 0
        result = run("verify", file, "--against", model, "--json")
        assert result.code == 0, result.err
        assert json.loads(result.out)["quantised"] == quantised
