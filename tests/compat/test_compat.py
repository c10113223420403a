"""A short form of the compatibility bench, and the bench itself: it sees what it is there to see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cerwu_onnx.compression import prepare

from ..models import conv_net
from . import forms, layers, quantised, table, values
from .case import Case, Sample, random_feeds
from .check import Failed, Row, check, output_error
from .contents import Contents, differing, float_elements

SHORT = (
    "Conv 2-D, grouped",
    "ConvTranspose 1-D, plain",
    "Gemm, constant A, transA=1, transB=0",
    "MatMul, batched weight",
    "Einsum abc,cde->abde",
    "RNN, bidirectional",
    "Gather from a table",
    "weight behind Transpose, Identity, Reshape",
    "weights in Constant nodes",
    "initializers that are inputs",
    "tied: one weight, two inputs",
    "If, weights in the branches",
    "Scan, weights in the body",
    "local function, weights inside",
    "no node: the input is the output",
    "no input",
    "input of length 0",
    "operator of an unknown domain",
    "float16 weight and input",
    "uint8 weight, DequantizeLinear",
    "weights: NaN",
    "weights: heavy tails",
    "shape: zero rows",
    "sparse initializer",
    "strings: constants",
    "external data",
    "CNN, opset 9",
)
CASES = {case.name: case for part in (layers, forms, values, quantised) for case in part.cases()}


@pytest.mark.parametrize("name", SHORT)
def test_graph(name: str) -> None:
    assert check(CASES[name]).status == "ok"


def test_names_are_unique() -> None:
    names = [case.name for part in (layers, forms, values, quantised) for case in part.cases()]
    assert len(names) == len(set(names))


def _swap(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[3:5] = reversed(model.graph.node[1].input[3:5])


def _attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].ints[0] += 1


def _output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "z"


def _shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3, 9), np.float32), "conv.w"))


def _metadata(model: onnx.ModelProto) -> None:
    helper.set_model_props(model, {"author": "nobody"})


@pytest.mark.parametrize("change", [_swap, _attribute, _output, _shape, _metadata])
def test_a_change_of_structure_is_seen(change: Callable[[onnx.ModelProto], None]) -> None:
    model = conv_net()
    before = Contents(model)
    assert before.structure == Contents(model).structure
    change(model)
    try:
        assert before.structure != Contents(model).structure
    except KeyError:  # a name that nothing defines
        assert change is _output


def test_names_and_documentation_may_change_and_a_bit_may_not() -> None:
    model, other = conv_net(), conv_net()
    for node in other.graph.node:
        node.name, node.doc_string = f"{node.name}'", "words"
    for old, new in (("a", "first"), ("conv.w", "w")):
        for node in other.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
    other.graph.initializer[0].name = "w"
    before, after = Contents(model), Contents(other)
    assert before.structure == after.structure
    assert not differing(before, after)
    assert float_elements(before) == sum(numpy_helper.to_array(tensor).size for _, tensor in before.tensors) - 2
    changed = numpy_helper.to_array(other.graph.initializer[1]).copy()
    changed[2] = np.nextafter(changed[2], np.float32(9))
    other.graph.initializer[1].raw_data = changed.tobytes()
    assert differing(before, Contents(other)) == ["conv.b"]


def test_errors_are_measured() -> None:
    model, other = conv_net(), conv_net()
    feeds = random_feeds(model, 2)
    assert output_error(model, other, feeds) == 0
    bias = other.graph.initializer[7]
    assert bias.name == "fc.b"
    bias.raw_data = (numpy_helper.to_array(bias) + np.float32(1)).tobytes()
    error = output_error(model, other, feeds)
    assert error is not None
    assert 0.01 < error < 10
    bias.raw_data = np.full(5, np.nan, np.float32).tobytes()
    with pytest.raises(Failed, match="NaN or infinity"):
        output_error(model, other, feeds)
    assert output_error(model, other, feeds, strict=False) is None


def test_what_goes_wrong_is_in_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(model: onnx.ModelProto) -> Row:
        return check(Case("net", "test", lambda: Sample(model, random_feeds(model, 2))))

    invalid = conv_net()
    invalid.graph.node[0].input[0] = "nowhere"
    assert row(invalid).status.startswith("refused: ")

    def touched(graph: object) -> object:
        graph.tensors["fc.b"].raw_data = bytes(20)  # type: ignore[attr-defined]
        return graph

    analyse = prepare.analyse
    monkeypatch.setattr(prepare, "analyse", lambda model: touched(analyse(model)))
    assert row(conv_net()).status == "changed: tensors that are not quantised: fc.b"
    monkeypatch.setattr(prepare, "analyse", lambda model: 1 / 0)
    assert row(conv_net()).status == "crashed: ZeroDivisionError: division by zero"


def test_the_page(tmp_path: Path) -> None:
    rows = [
        Row("a|b", "layer", "Conv", ["Conv"], 10, 5, [1e-4, None, 0.25], note="1 folded"),
        Row("x [w]", "onnx.backend.test", "Gemm", ["Gemm"], 4, 0, [0.0], status="refused: why"),
    ]
    (tmp_path / "benchmarks").mkdir()
    table.write(rows, {"torch": "absent"}, tmp_path)
    page = (tmp_path / "compatibility.md").read_text(encoding="utf-8")
    assert "| a\\|b | Conv | 10 | 50 % | 1.0e-04, -, 2.5e-01 | ok (1 folded) |" in page
    assert "| Gemm | 1 | 4 | 0 % | 0, -, - | x [w]: refused: why |" in page
    assert "| all | 2 | 1 | 1 | 14 | 36 % | 1.0e-04 |" in page
    assert "Not measured: torch: absent." in page
    assert len((tmp_path / "benchmarks" / "compat.json").read_text(encoding="utf-8").splitlines()) == 4
