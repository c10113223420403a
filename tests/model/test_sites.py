"""Every kind of layer through the whole pipeline, at a rate so high that the outputs stay what they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cerwu_onnx import compress, decompress
from cerwu_onnx.calibration import collect, columns, model_inputs, open_source, walk
from cerwu_onnx.config import Settings
from cerwu_onnx.model.graph import analyse, get_tensor, load_model
from cerwu_onnx.quantize.methods import METHODS
from cerwu_onnx.types import ConvPatch, MatMulPatch, Site

from ..calibration.test_recurrent import feeds, recurrent
from ..models import build, normal, run, value


def decoder(rank: int = 2, groups: int = 2) -> onnx.ModelProto:
    """Two transposed convolutions, the second with a bias and overlapping taps."""
    tensors = {
        "up.w": normal(8, 6 // groups, *(2,) * rank, seed=1),
        "out.w": normal(6, 4, *(3,) * rank, seed=2),
        "out.b": normal(4, seed=3),
    }
    nodes = [
        helper.make_node("ConvTranspose", ["x", "up.w"], ["a"], name="up", group=groups, strides=[2] * rank),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "out.w", "out.b"], ["y"], name="out", pads=[1] * (2 * rank)),
    ]
    sizes = ["N", *(["S"] * rank)]
    inputs = [value("x", [sizes[0], 8, *sizes[1:]])]
    return build(nodes, inputs, [value("y", [sizes[0], 4, *["U"] * rank])], tensors)


def check_high_rate(folder: Path, model: onnx.ModelProto, feed: dict[str, np.ndarray], method: str) -> None:
    """Compress, decompress: all layers are coded, nodes keep their outputs, which hardly change."""
    onnx.save(model, folder / "model.onnx")
    settings = Settings(method=method, levels=2000, lambda_=0.0)
    report = compress(folder / "model.onnx", folder / "model.cwb", calib=[feed], settings=settings)
    assert report.calibration_samples
    assert not report.warnings
    assert {layer.name for layer in report.layers} == {layer.weight for layer in analyse(model).layers}
    decompress(folder / "model.cwb", folder / "back.onnx")
    back = load_model(folder / "back.onnx")
    for before, after in zip(model.graph.node, back.graph.node, strict=True):
        assert [bool(name) for name in before.output] == [bool(name) for name in after.output]
    expected, found = run(model, feed)[0], run(back, feed)[0]
    assert 0 < np.linalg.norm(found - expected) <= 1e-2 * np.linalg.norm(expected)


@pytest.mark.parametrize("method", METHODS)
def test_every_method(tmp_path: Path, method: str) -> None:
    model = recurrent("LSTM", "bidirectional", sequence=False, initial="input", hidden=24)
    for name, case, feed in [("lstm", model, feeds(model)), ("decoder", decoder(), {"x": normal(2, 8, 5, 5)})]:
        (tmp_path / name).mkdir()
        check_high_rate(tmp_path / name, case, feed, method)


@pytest.mark.parametrize("op", ["GRU", "RNN"])
def test_other_recurrences(tmp_path: Path, op: str) -> None:
    model = recurrent(op, "reverse", hidden=24)
    check_high_rate(tmp_path, model, feeds(model), "cerwu")


@pytest.mark.parametrize("rank", [1, 3])
def test_other_transposed_convolutions(tmp_path: Path, rank: int) -> None:
    check_high_rate(tmp_path, decoder(rank, groups=1), {"x": normal(2, 8, *(5,) * rank)}, "cerwu")


def test_a_transposed_convolution_reads_pixels() -> None:
    up, out = analyse(decoder()).layers
    assert (up.layout.groups, up.layout.rows, up.layout.cols) == (2, 3 * 4, 4)
    assert up.sites == (Site("up", "ConvTranspose", "x", ConvPatch(2, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0))),)
    assert (out.layout.groups, out.layout.rows, out.layout.cols) == (1, 4 * 9, 6)
    assert out.bias is None  # a row is a tap, not an output


def fused(op: str, **attributes: object) -> onnx.ModelProto:
    """An operator of onnxruntime's own domain between a Relu and a product."""
    inputs, tensors = ["x", "w"], {"w": normal(32, 40) / 6}
    if op == "FusedConv":
        tensors = {"w": normal(12, 4, 3, 3) / 6}
    elif attributes.get("transB"):
        tensors = {"w": normal(40, 32) / 6}
    if op != "FusedMatMul":
        inputs.append("b")
        tensors["b"] = normal(12 if op == "FusedConv" else 40, seed=2)
    nodes = [helper.make_node(op, inputs, ["y"], name="f", domain="com.microsoft", **attributes)]
    shape = ["N", 4, 6, 6] if op == "FusedConv" else [32, "N"] if attributes.get("transA") else ["N", 32]
    return build(nodes, [value("x", shape)], [value("y")], tensors, domains=["com.microsoft"])


FUSED = [
    ("FusedConv", {"activation": "Relu", "pads": [1, 1, 1, 1]}),
    ("FusedGemm", {"activation": "Relu", "alpha": 1.5, "beta": 0.5}),
    ("FusedGemm", {"activation": "Relu", "transB": 1}),
    ("FusedMatMul", {"alpha": 0.25}),
    ("FusedMatMul", {"transB": 1}),
    ("FusedMatMul", {"transA": 1}),
]


@pytest.mark.parametrize(("op", "attributes"), FUSED, ids=lambda case: str(case))
@pytest.mark.parametrize("method", ["trellis", "cerwu"])
def test_fused_operators(tmp_path: Path, op: str, attributes: dict[str, object], method: str) -> None:
    model = fused(op, **attributes)
    feed = {"x": normal(*([32, 4, 6, 6] if op == "FusedConv" else [32, 64] if "transA" in attributes else [64, 32]))}
    check_high_rate(tmp_path, model, feed, method)


@pytest.mark.parametrize(("op", "attributes"), FUSED, ids=lambda case: str(case))
def test_fused_operators_have_the_statistics_and_the_bias_of_plain_ones(op: str, attributes: dict[str, object]) -> None:
    model = fused(op, **attributes)
    (layer,) = analyse(model).layers
    if op == "FusedMatMul":
        plain = fused("FusedGemm", **{k: v for k, v in attributes.items() if k.startswith("trans")})
    else:
        plain = fused(op, **attributes)
    for node in plain.graph.node:
        node.op_type, node.domain = node.op_type.removeprefix("Fused"), ""
        for attribute in [attribute for attribute in node.attribute if attribute.name == "activation"]:
            node.attribute.remove(attribute)
    (other,) = analyse(plain).layers
    assert (
        layer.layout.to_matrix(get_tensor(model, "w")).tobytes()
        == other.layout.to_matrix(get_tensor(plain, "w")).tobytes()
    )
    feed = {"x": normal(*([4, 4, 6, 6] if op == "FusedConv" else [32, 32]))}
    found, expected = (
        next(iter(collect(graph, open_source([feed], model_inputs(graph.model)))[0].values()))
        for graph in (analyse(model), analyse(plain))
    )
    assert np.array_equal(found.hessian, expected.hessian)
    if op != "FusedMatMul":
        assert layer.bias == other.bias is not None


def test_what_follows_an_activation_is_not_the_bias() -> None:
    """The Add behind a FusedConv, which has an activation, is no bias of its product."""
    for op, expected in (("FusedConv", None), ("FusedMatMul", "c")):
        model = fused(op)
        del model.graph.node[0].input[2:]
        model.graph.node[0].output[0] = "a"
        size = (12, 1, 1) if op == "FusedConv" else (40,)
        model.graph.initializer.append(numpy_helper.from_array(normal(*size), "c"))
        model.graph.node.append(helper.make_node("Add", ["a", "c"], ["y"]))
        (layer,) = analyse(model).layers
        assert (layer.bias and layer.bias.name) == expected


def embedding(rows: int = 40, width: int = 16) -> onnx.ModelProto:
    """The mean of some rows of a table."""
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["a"], name="table"),
        helper.make_node("ReduceMean", ["a"], ["y"], axes=[1], keepdims=0),
    ]
    inputs = [value("x", ["N", "T"], TensorProto.INT64)]
    return build(nodes, inputs, [value("y", ["N", width])], {"table": normal(rows, width)})


@pytest.mark.parametrize("method", METHODS)
def test_embeddings(tmp_path: Path, method: str) -> None:
    check_high_rate(tmp_path, embedding(), {"x": np.random.default_rng(1).integers(-40, 40, (6, 5))}, method)


def test_rows_of_an_embedding_count_as_often_as_they_are_read() -> None:
    model = embedding(rows=4, width=3)
    graph = analyse(model)
    (layer,) = graph.layers
    assert (layer.layout.groups, layer.layout.rows, layer.layout.cols) == (4, 3, 1)
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert np.array_equal(layer.layout.to_matrix(table), table[:, :, None])
    x = np.array([[0, 0, -1], [2, 0, 3], [3, 0, 0]])
    stats, _ = collect(graph, open_source({"x": x}, model_inputs(model)), batch_size=2)
    counts = np.bincount(x.ravel() % 4) + x.size / 4
    np.testing.assert_allclose(stats["table"].hessian[:, 0, 0], counts / 2, rtol=1e-6)  # two batches
    assert list(columns(layer.sites[0].patch, np.zeros((0, 3), np.int64)).shape) == [4, 0, 1]
    for index in (4, -5):
        with pytest.raises(ValueError, match="out of range for 4 rows"):
            columns(layer.sites[0].patch, np.array([index]))


@pytest.mark.parametrize("settings", [Settings(lambda_=0.02), Settings(method="cerwu", levels=8, lambda_=0.1)], ids=str)
def test_rows_that_calibration_hardly_reads_stay(settings: Settings, tmp_path: Path) -> None:
    """Although a rate-distortion optimum would drop them."""
    model = embedding(rows=60)
    onnx.save(model, tmp_path / "model.onnx")
    x = np.minimum(np.random.default_rng(2).zipf(2.5, (200, 20)), 40) - 1  # half of them once or never
    compress(tmp_path / "model.onnx", tmp_path / "model.cwb", calib={"x": x}, settings=settings)
    decompress(tmp_path / "model.cwb", tmp_path / "back.onnx")
    before, after = (get_tensor(load_model(tmp_path / name), "table") for name in ("model.onnx", "back.onnx"))
    error = np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)
    assert error.max() < 0.7


GRU = recurrent("GRU", "bidirectional", sequence=False, initial="input")
PROJECTION = build(
    [helper.make_node("Einsum", ["x", "w"], ["y"], equation="bthi,hio->bto")],
    [value("x", ["N", "T", 2, 5])],
    [value("y", ["N", "T", 4])],
    {"w": normal(2, 5, 4)},
)
KINDS = {
    "recurrent": (GRU, feeds(GRU)),
    "transposed": (decoder(), {"x": normal(2, 8, 5, 5)}),
    "embedding": (embedding(), {"x": np.arange(30).reshape(6, 5)}),
    "einsum": (PROJECTION, {"x": normal(3, 7, 2, 5)}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_sequential_calibration_knows_all_kinds(kind: str) -> None:
    model, feed = KINDS[kind]
    graph = analyse(model)
    assert graph.layers
    expected, _ = collect(graph, open_source([feed], model_inputs(model)))
    found = {}
    for step in walk(graph, open_source([feed], model_inputs(model))):
        found |= step.stats
    for name, stats in expected.items():
        assert found[name].positions == stats.positions > 0
        np.testing.assert_allclose(found[name].hessian, stats.hessian, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("transposed", "axis"), [(0, -1), (1, -2)])
def test_gemm_reads_the_columns_of_a_transposed_operand(transposed: int, axis: int) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=transposed)
    model = build([node], [value("x", [3, 3])], [value("y")], {"w": normal(3, 4)})
    (layer,) = analyse(model).layers
    assert layer.sites == (Site("y", "Gemm", "x", MatMulPatch(axis=axis)),)


def test_both_biases_of_a_recurrence_share_its_error() -> None:
    """They add up at the same outputs: with errors of equal variance that of their sum is twice as large."""
    biases = [layer.bias for layer in analyse(recurrent("GRU")).layers if layer.bias is not None]
    assert [bias.factor for bias in biases] == [pytest.approx(2**0.5)]
