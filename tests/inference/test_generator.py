"""The generator's text is taken apart only where it is what is expected; models that do not fit are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("emx_onnx_cgen", reason="no C generator: pip install -e '.[inference]'")

from onnx import helper

from cerwu_onnx.cli.app import run as run_app
from cerwu_onnx.container import reader
from cerwu_onnx.errors import GeneratorError, ModelError, UsageError
from cerwu_onnx.inference import generator, measured
from cerwu_onnx.inference.prepared import Prepared, prepare

from ..models import build, normal, value
from .programs import compressed, firmware, net


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(compressed(net(), tmp_path_factory.mktemp("net"), method="rtn"))


@pytest.fixture(scope="module")
def text(prepared: Prepared) -> str:
    return generator.generate(prepared).whole


CHANGES: dict[str, Callable[[str], str]] = {
    "no model_load": lambda text: text.replace("_Bool model_load", "bool model_load"),
    "model_load reads a file": lambda text: text.replace("(void)path;", "if (!fopen(path, 0)) return 0;"),
    "another entry": lambda text: text.replace("void model(", "int model("),
    "text after the entry": lambda text: text + "int more;\n",
    "a loop in the entry": lambda text: text.replace("    node1_", "    for (;;) node1_"),
    "a temporary on the heap": lambda text: re.sub(r"    float (tmp1_\w+)\[.*;", r"    float *\1 = malloc(4);", text),
    "a static temporary": lambda text: text.replace("    float tmp1_", "    static float tmp1_"),
    "a parameter of variable size": lambda text: text.replace("void model(", "void model(int n, "),
    "restricted pointers": lambda text: text.replace("(const float input0[", "(const float input0[restrict "),
    "a node that is called twice": lambda text: re.sub(r"(    node1_\w+\(.*\);\n)", r"\1\1", text),
    "a node that is not called": lambda text: re.sub(r"    node1_\w+\(.*\);\n", "", text),
    "an unknown argument": lambda text: re.sub(r"(    node1_\w+\()\w+", r"\1other", text),
    "weights that are not constant": lambda text: text.replace("const EMX_UNUSED float w", "EMX_UNUSED float w"),
    "weights that are not declared": lambda text: re.sub(r"extern const float weight1_.*\n", "", text),
    "weights in a file": lambda text: text.replace("extern const float", "extern float"),
    "another macro": lambda text: text.replace("EMX_NODE_FN void node1_", "NODE void node1_"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_text_is_an_error(
    monkeypatch: pytest.MonkeyPatch, prepared: Prepared, text: str, change: str
) -> None:
    changed = CHANGES[change](text)
    assert changed != text
    monkeypatch.setattr(generator, "_write", lambda _: changed)
    with pytest.raises(GeneratorError, match=r"emx-onnx-cgen 1\.4\.0 wrote"):
        generator.generate(prepared)


def test_weights_that_are_not_ours_stay(monkeypatch: pytest.MonkeyPatch, prepared: Prepared, text: str) -> None:
    """If the generator folds something into a tensor it is no longer the one that the file has."""
    name = next(iter(generator.generate(prepared).coded))
    start = text.index("0x", text.index(f"const EMX_UNUSED float {name}["))
    changed = f"{text[:start]}0x1.fp+9f{text[text.index(',', start) :]}"
    monkeypatch.setattr(generator, "_write", lambda _: changed)
    program = generator.generate(prepared)
    assert name not in program.coded
    assert "0x1.fp+9f" in program.constants[name][0]


@pytest.mark.parametrize(
    ("version", "error"), [("1.3.1", GeneratorError), ("2.0.0", GeneratorError), (None, UsageError)]
)
def test_versions(
    monkeypatch: pytest.MonkeyPatch, prepared: Prepared, version: str | None, error: type[Exception]
) -> None:
    def answer(_: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(metadata, "version", answer)
    with pytest.raises(error, match=r"pip install 'emx-onnx-cgen==1\.4\.0'"):
        generator.generate(prepared)


def test_hostile_names_reach_no_c_text(tmp_path: Path) -> None:
    bad = '*/ int hacked; /*\n#error"??/'
    weight = normal(6, 8, seed=3)
    node = helper.make_node("Gemm", [bad + "x", bad + "w"], [bad + "y"], name=bad, transB=1, doc_string=bad)
    model = build([node], [value(bad + "x", [bad, 8])], [value(bad + "y", [bad, 6])], {bad + "w": weight})
    model.graph.name = model.producer_name = model.doc_string = bad
    made = firmware(compressed(model, tmp_path, method="rtn"))
    for name in ("model.h", "model_run.c"):
        content = made.files[name].decode()
        assert not any(text in content for text in ("*/ int", "\n#error", "??/")), name


def _open_axis() -> onnx.ModelProto:
    model = net()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    return model


def _body() -> onnx.ModelProto:
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "b", [], [value("z", [1, 8])])
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["y"]),
        helper.make_node("If", ["c"], ["z2"], then_branch=branch, else_branch=branch),
    ]
    inputs = [value("x", [1, 8]), value("c", [], onnx.TensorProto.BOOL)]
    return build(nodes, inputs, [value("y", [1, 6]), value("z2", [1, 8])], {"w": normal(8, 6, seed=1)})


def _maps() -> onnx.ModelProto:
    """What scikit-learn's exporter makes of a classifier unless told otherwise."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["y"]),
        helper.make_node("ZipMap", ["y"], ["map"], domain="ai.onnx.ml", classlabels_int64s=list(range(6))),
    ]
    entry = helper.make_map_type_proto(onnx.TensorProto.INT64, helper.make_tensor_type_proto(1, None))
    outputs = [onnx.ValueInfoProto(name="map", type=helper.make_sequence_type_proto(entry))]
    return build(nodes, [value("x", [1, 8])], outputs, {"w": normal(8, 6, seed=1)}, domains=["ai.onnx.ml"])


def _unknown_operator() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["y"]),
        helper.make_node("Mystery", ["y"], ["z"], domain="some.where"),
    ]
    return build(nodes, [value("x", [1, 8])], [value("z", [1, 6])], {"w": normal(8, 6, seed=1)}, domains=["some.where"])


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (_open_axis, "axis 2"),
        (_body, "If with a body"),
        (_maps, r"output 'map' is no tensor: .*ZipMap.*'zipmap': False"),
        (_unknown_operator, "cannot write this model"),
    ],
)
def test_models_that_do_not_fit(tmp_path: Path, model: Callable[[], onnx.ModelProto], says: str) -> None:
    container = compressed(model(), tmp_path, method="rtn")
    with pytest.raises(ModelError, match=says):
        firmware(container)


def test_without_a_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compressed(net(), tmp_path, method="rtn", weights_only=True)
    arguments = ["export-c", str(tmp_path / "model.cwb"), str(tmp_path / "c"), "--inference"]
    assert run_app(arguments) == 2
    assert "compress without --weights-only" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "c").exists()
    assert run_app([*arguments[:-1], "--decode-once"]) == 2
    with pytest.raises(UsageError, match="no float32 weight"):
        prepare(_all_exact(tmp_path))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "code_bytes", lambda *_: None)
    monkeypatch.setattr("cerwu_onnx.inference.export.code_bytes", lambda *_: None)
    compressed(net(), tmp_path, method="rtn")
    command = ["export-c", str(tmp_path / "model.cwb"), str(tmp_path / "c"), "--inference"]
    capsys.readouterr()
    assert run_app([*command, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    costs = body["inference"]
    files = ["cwb.c", "cwb.h", "model.c", "model.h", "model.md", "model_run.c"]
    assert sorted(body["files"]) == files == sorted(path.name for path in (tmp_path / "c").iterdir())
    assert costs["arena"] < costs["arena_once"]
    weights = 8 * 9 * 2 + 12 * 8 * 2 + 12 * 12 * 9 + 16 * 108 + 16 * 5
    assert costs["plain"] >= 4 * (weights + 8 + 12 + 16)
    assert costs["coded"] < costs["plain"] / 4
    spatial = 144 * 72 + 36 * (72 + 96 + 96 + 1296)
    assert costs["multiply_adds"] == spatial + 16 * 108 + 16 * 5
    page = (tmp_path / "c" / "model.md").read_text()
    assert f"| RAM: the arena | {costs['arena']} | {costs['arena_once']} | {costs['plain_ram']} |" in page
    assert "cerwu-onnx[emu]" in page
    assert run_app([*command, "--decode-once"]) == 2  # nothing is overwritten
    assert run_app([*command, "--decode-once", "--force"]) == 0
    assert "runs with" in capsys.readouterr().out


def test_code_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="no cross-compiler: pip install -e '.[emu]'")
    table = b"const int big[500] = {1};\nfloat missing(float x);\nint unused(void) { return 1; }\n"
    source = table + b"int first(int i) { return big[i] + (int)missing(2); }\n"
    found = measured.code_bytes({"a.c": source}, ["a.c"], ["first"])
    assert found is not None
    assert 2000 < found < 2200
    assert measured.code_bytes({"a.c": b"no C"}, ["a.c"], ["first"]) is None


def _all_exact(folder: Path) -> reader.Container:
    model = build(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", [3])],
        [value("y", [3])],
        {"w": np.ones(3, np.float32)},
    )
    return compressed(model, folder, method="rtn")
