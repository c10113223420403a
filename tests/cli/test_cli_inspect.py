"""``cerwu-onnx inspect`` of models that hold weights of every kind, and of the files made of them."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.model.test_elements import quantised_model
from tests.models import build, normal, value

from .conftest import Run

NODE = helper.make_node


def mixed() -> onnx.ModelProto:
    """A float16 table that is looked up and multiplied, an LSTM, a depthwise convolution, a large operand."""
    nodes = [
        NODE("Gather", ["table", "ids"], ["e16"], name="look"),
        NODE("Cast", ["e16"], ["e"], to=TensorProto.FLOAT),
        NODE("Add", ["e", "positions"], ["h"], name="add"),
        NODE("LSTM", ["h", "W", "R"], ["", "state"], name="lstm", hidden_size=16),
        NODE("Squeeze", ["state"], ["s"]),
        NODE("Cast", ["s"], ["s16"], to=TensorProto.FLOAT16),
        NODE("Transpose", ["table"], ["wt"]),
        NODE("MatMul", ["s16", "wt"], ["y"], name="head"),
    ]
    tensors = {
        "table": normal(40, 16).astype("float16"),
        "positions": normal(20, 1, 16),
        "W": normal(1, 64, 16),
        "R": normal(1, 64, 16),
    }
    inputs = [value("ids", [20, "N"], TensorProto.INT64)]
    return build(nodes, inputs, [value("y", ["N", 40], TensorProto.FLOAT16)], tensors)


def test_the_plan_shows_type_method_and_readers(run: Run, tmp_path: Path) -> None:
    onnx.save(mixed(), tmp_path / "m.onnx")
    plan = {layer["name"]: layer for layer in json.loads(run("inspect", tmp_path / "m.onnx", "--json").out)["layers"]}
    assert {name: (p["op"], p["type"], p["trellis"], p["statistics"], p["nodes"]) for name, p in plan.items()} == {
        "table": ("MatMul", "float16", True, True, ["head", "look"]),
        "positions": ("Add", "float32", False, False, ["add"]),
        "W": ("LSTM", "float32", True, True, ["lstm"]),
        "R": ("LSTM", "float32", True, True, ["lstm"]),
    }
    out = run("inspect", tmp_path / "m.onnx").out
    assert sum("lstm" in line for line in out.splitlines()) == 2
    assert "head +1" in out
    assert "grid, noise" in out
    assert "noise: no statistics of its inputs" in out
    bytes_ = 2 * 640 + 4 * (320 + 1024 + 1024)
    assert f"{bytes_:,} bytes as floats" in out


def test_a_file_shows_what_is_on_a_trellis_and_what_is_lossless(run: Run, tmp_path: Path) -> None:
    model = quantised_model()
    model.graph.initializer.append(numpy_helper.from_array(normal(48, 64), "v2"))
    model.graph.node.append(NODE("MatMul", ["y", "v2"], ["y2"]))
    model.graph.output.append(value("y2", ["N", 64]))
    onnx.save(model, tmp_path / "m.onnx")
    assert run("compress", tmp_path / "m.onnx", tmp_path / "m.cwb", "-q").code == 0
    body = json.loads(run("inspect", tmp_path / "m.cwb", "--json").out)
    rows = {row["name"]: row for row in body["tensors"]}
    assert rows["v2"]["trellis"]
    assert not rows["w"]["trellis"]
    assert rows["w"]["table"]
    assert (body["weights"], body["metadata"]["tables"]) == (48 * 64, "f")
    out = run("inspect", tmp_path / "m.cwb").out
    assert any(line.startswith("v2") and (" adaptive T " in line or " ans T " in line) for line in out.splitlines())
    assert any(line.startswith("w ") and " lossless " in line for line in out.splitlines())
    assert "1 tensor along a trellis" in out
    assert "4 tables of integers coded" in out
    result = run("verify", tmp_path / "m.cwb", "--against", tmp_path / "m.onnx")
    assert result.code == 0, result.err


def test_files_of_weights_alone_are_verified_against_their_model(run: Run, tmp_path: Path) -> None:
    onnx.save(quantised_model(), tmp_path / "q.onnx")
    onnx.save(mixed(), tmp_path / "m.onnx")
    for name in ("q", "m"):
        model, file = tmp_path / f"{name}.onnx", tmp_path / f"{name}.cwb"
        assert run("compress", model, file, "--weights-only", "-q").code == 0
        result = run("verify", file, "--against", model)
        assert result.code == 0, result.err


def test_decompress_with_external_data(run: Run, cwb: Path, tmp_path: Path) -> None:
    result = run("decompress", cwb, tmp_path / "o.onnx", "--external-data")
    assert result.code == 0, result.err
    assert run("decompress", cwb, tmp_path / "o.onnx", "--external-data").code == 2


def test_what_a_file_says_about_its_model(run: Run, tmp_path: Path) -> None:
    onnx.save(mixed(), tmp_path / "m.onnx")
    about = {"name": "spotter", "version": "1.3 = last", "acme.camera": "left\x1b[31m"}
    options = [part for key, text in about.items() for part in ("--about", f"{key}={text}")]
    assert run("compress", tmp_path / "m.onnx", tmp_path / "m.cwb", "--quiet", *options).code == 0
    assert json.loads(run("inspect", tmp_path / "m.cwb", "--json").out)["metadata"]["about"] == about
    shown = run("inspect", tmp_path / "m.cwb").out
    assert "spotter" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version", "write KEY=TEXT, like version=1.3"),
        ("camera=left", "about 'camera' is unknown: write one of name, version"),
        ("version=", "about 'version' has 0 characters"),
        (f"version={'1' * 1001}", "about 'version' has 1001 characters: give 1 to 1000"),
    ],
)
def test_what_it_may_not_say(run: Run, tmp_path: Path, text: str, message: str) -> None:
    onnx.save(mixed(), tmp_path / "m.onnx")
    result = run("compress", tmp_path / "m.onnx", tmp_path / "m.cwb", "--about", text)
    assert result.code == 2
    assert message in " ".join(result.err.split())
    assert not (tmp_path / "m.cwb").exists()
