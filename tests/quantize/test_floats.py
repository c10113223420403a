"""Biases and BatchNormalization parameters: which are found, how they are quantised, and what a file says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import cerwu_onnx
from cerwu_onnx import Settings, UsageError
from cerwu_onnx.cli.against import compare_tensors
from cerwu_onnx.compression.encode import encode
from cerwu_onnx.compression.model_quantizer import quantize_layers, statistics
from cerwu_onnx.compression.prepare import prepare
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.entropy.step import below
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.model.layout import conv_layout
from cerwu_onnx.model.tensors import constant_tensors
from cerwu_onnx.opened import coded_parameters
from cerwu_onnx.quantize.floats import (
    ETA,
    MAX_VARIANCE_CHANGE,
    TAKEN,
    WALKED_ETA,
    _moments,
    centred,
    on_grid,
    quantize_floats,
    taken,
)
from cerwu_onnx.quantize.methods import MAX_SYMBOL
from cerwu_onnx.types import (
    Bias,
    ConvPatch,
    Layer,
    LayerStats,
    MatMulPatch,
    Norm,
    PairStats,
    QuantizedTensor,
    Residual,
    Site,
)

from ..models import build, conv_net, normal, value

NODE = helper.make_node


def found(nodes: list[onnx.NodeProto], outputs: tuple[str, ...] = ("y",), **tensors: np.ndarray) -> Layer:
    """The layer of the weight ``w`` in a model of these nodes."""
    model = build(nodes, [value("x")], [value(name) for name in outputs], tensors)
    (layer,) = (layer for layer in analyse(model).layers if layer.weight == "w")
    return layer


def gemm(bias: str = "b", **attributes: float) -> list[onnx.NodeProto]:
    return [NODE("Gemm", ["x", "w", bias], ["y"], "fc", **attributes)]


def add(product: onnx.NodeProto, *more: onnx.NodeProto, swap: bool = False) -> list[onnx.NodeProto]:
    return [product, NODE("Add", ["b", "p"] if swap else ["p", "b"], ["y"], "add"), *more]


MATMUL = NODE("MatMul", ["x", "w"], ["p"], "mm")
LEFT = NODE("MatMul", ["w", "x"], ["p"], "mm")
CONV = NODE("Conv", ["x", "w"], ["p"], "conv")
W, K = normal(3, 4), normal(4, 2, 3, 3)


@pytest.mark.parametrize(
    ("nodes", "weight", "shape", "factor"),
    [
        (gemm(), W, (4,), 1),
        (gemm(), W, (1, 4), 1),
        (gemm(beta=0.5, alpha=2.0), W, (4,), 0.25),
        (gemm(beta=-3.0), W, (4,), 3),
        ([NODE("Gemm", ["w", "x", "b"], ["y"], "fc")], W, (3, 1), 1),
        ([NODE("Conv", ["x", "w", "b"], ["y"], "conv")], K, (4,), 1),
        ([NODE("Conv", ["x", "w", "b"], ["y"], "conv", group=2)], K, (4,), 1),
        (add(MATMUL), W, (4,), 1),
        (add(MATMUL, swap=True), W, (1, 1, 4), 1),
        (add(LEFT), W, (3, 1), 1),
        (add(CONV), K, (1, 4, 1, 1), 1),
        (add(CONV), K, (4, 1, 1), 1),
        (add(NODE("Gemm", ["x", "w"], ["p"], alpha=0.5)), W, (4,), 2),
    ],
)
def test_a_bias_is_found(
    nodes: list[onnx.NodeProto], weight: np.ndarray, shape: tuple[int, ...], factor: float
) -> None:
    assert found(nodes, w=weight, b=normal(*shape)).bias == Bias("b", factor)


@pytest.mark.parametrize(
    ("nodes", "weight", "bias", "outputs"),
    [
        (gemm(beta=0.0), W, normal(4), ("y",)),
        (gemm(alpha=0.0), W, normal(4), ("y",)),
        (gemm(), W, normal(2, 4), ("y",)),  # differs between rows of the output
        (gemm(), W, normal(1), ("y",)),
        ([NODE("Gemm", ["w", "x", "b"], ["y"])], W, normal(3), ("y",)),  # runs along the columns
        (add(MATMUL), W, normal(2, 1), ("y",)),
        (add(MATMUL), W, normal(5, 4), ("y",)),
        (add(LEFT), W, normal(3), ("y",)),
        (add(CONV), K, normal(4), ("y",)),  # runs along the width
        (add(MATMUL), W, np.ones(4, np.int32), ("y",)),
        (add(MATMUL), W, np.array([1, np.nan, 2, 3], np.float32), ("y",)),
        (add(MATMUL), W, np.array([1, np.inf, 2, 3], np.float32), ("y",)),
        (add(MATMUL), W, normal(4), ("y", "p")),  # the product is an output itself
        (add(MATMUL), W, normal(4), ("y", "b")),
        (add(MATMUL, NODE("Relu", ["p"], ["z"])), W, normal(4), ("y", "z")),
        (add(MATMUL, NODE("Relu", ["b"], ["z"])), W, normal(4), ("y", "z")),
        ([MATMUL, NODE("Add", ["p", "p"], ["y"])], W, normal(4), ("y",)),
        ([MATMUL, NODE("Mul", ["p", "b"], ["y"])], W, normal(4), ("y",)),
        ([MATMUL, NODE("Relu", ["p"], ["r"]), NODE("Add", ["r", "b"], ["y"])], W, normal(4), ("y",)),
        ([MATMUL, NODE("MatMul", ["p", "w"], ["q"]), NODE("Add", ["q", "b"], ["y"])], normal(4, 4), normal(4), ("y",)),
    ],
)
def test_what_is_no_bias(
    nodes: list[onnx.NodeProto], weight: np.ndarray, bias: np.ndarray, outputs: tuple[str, ...]
) -> None:
    assert found(nodes, outputs, w=weight, b=bias).bias is None


def test_a_bias_of_two_layers_stays_exact() -> None:
    nodes = [NODE("Gemm", ["x", "w", "b"], ["p"]), NODE("Gemm", ["p", "v", "b"], ["y"])]
    assert found(nodes, w=normal(4, 4), v=normal(4, 4), b=normal(4)).bias is None


def test_a_normalisation_is_found() -> None:
    graph = analyse(conv_net())
    conv, depthwise, dense = graph.layers
    assert (conv.bias, conv.norm) == (Bias("conv.b", 1), Norm("bn.s", "bn.b", "bn.m", "bn.v", pytest.approx(1e-5)))
    assert (depthwise.parameters, dense.parameters) == ((), ("fc.b",))
    assert set(graph.parameters) == {"conv.b", "bn.s", "bn.b", "bn.m", "bn.v", "fc.b"}
    assert set(graph.parameters) <= {kept.name for kept in graph.kept}


@pytest.mark.parametrize("change", ["shared", "training", "spread"])
def test_what_is_no_normalisation(change: str) -> None:
    model = conv_net()
    norm = model.graph.node[1] if model.graph.node[1].op_type == "BatchNormalization" else model.graph.node[2]
    if change == "shared":
        norm.input[4] = norm.input[1]
    elif change == "training":
        norm.attribute.append(helper.make_attribute("training_mode", 1))
    else:
        model.graph.node.append(NODE("Relu", ["a"], ["z"]))
        model.graph.output.append(value("z", ["N", 4, 8, 8]))
    assert analyse(model).layers[0].norm is None


@pytest.mark.parametrize(
    ("nodes", "weight", "patch"),
    [
        ([MATMUL, NODE("Add", ["p", "x"], ["y"])], normal(4, 4), MatMulPatch(-1)),
        ([LEFT, NODE("Add", ["x", "p"], ["y"])], normal(4, 4), MatMulPatch(-2)),
        ([NODE("Gemm", ["x", "w"], ["p"], transA=1), NODE("Add", ["p", "x"], ["y"])], normal(4, 4), MatMulPatch(-1)),
        ([NODE("Gemm", ["w", "x"], ["p"], transB=1), NODE("Add", ["p", "x"], ["y"])], normal(4, 4), MatMulPatch(-2)),
        ([MATMUL, NODE("Add", ["b", "p"], ["q"]), NODE("Add", ["q", "x"], ["y"])], normal(4, 4), MatMulPatch(-1)),
        ([CONV, NODE("Add", ["p", "x"], ["y"])], K, ConvPatch(1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0))),
        (
            [NODE("Conv", ["x", "w", "b"], ["p"], group=2, strides=[2, 1]), NODE("Add", ["x", "p"], ["y"])],
            K,
            ConvPatch(2, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
        ),
    ],
)
def test_a_residual_is_found(nodes: list[onnx.NodeProto], weight: np.ndarray, patch: object) -> None:
    assert found(nodes, w=weight, b=normal(4)).residual == Residual("x", patch)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        (add(MATMUL), ("y",)),  # the bias
        ([MATMUL, NODE("Add", ["p", "b"], ["q"]), NODE("Add", ["q", "c"], ["y"])], ("y",)),
        ([NODE("Gemm", ["x", "w"], ["p"], alpha=0.5), NODE("Add", ["p", "x"], ["y"])], ("y",)),
        ([MATMUL, NODE("Add", ["p", "x"], ["y"])], ("y", "p")),
        ([MATMUL, NODE("Add", ["p", "x"], ["y"]), NODE("Relu", ["p"], ["z"])], ("y", "z")),
        ([MATMUL, NODE("Relu", ["p"], ["q"]), NODE("Add", ["q", "x"], ["y"])], ("y",)),
        ([MATMUL, NODE("Mul", ["p", "x"], ["y"])], ("y",)),
        (
            [
                NODE("Conv", ["x", "w"], ["p"]),
                NODE("BatchNormalization", ["p", "b", "c", "d", "e"], ["q"]),
                NODE("Add", ["x", "q"], ["y"]),
            ],
            ("y",),
        ),
    ],
)
def test_what_is_no_residual(nodes: list[onnx.NodeProto], outputs: tuple[str, ...]) -> None:
    weight = normal(4, 4, 1, 1) if nodes[0].op_type == "Conv" else normal(4, 4)
    vectors = {name: np.abs(normal(4)) for name in "bcde"}
    assert found(nodes, outputs, w=weight, **vectors).residual is None


def test_the_grid_has_the_variance_asked_for() -> None:
    values = normal(5000)
    result = on_grid(values, 1e-4)
    assert result is not None
    assert result.step == below(np.sqrt(12e-4))
    errors = (result.values() - values.astype(np.float64)) ** 2
    assert errors.mean() == pytest.approx(result.step**2 / 12, rel=0.05)
    assert errors.mean() <= 1e-4
    assert result.distortion == pytest.approx(errors.sum())
    assert result.energy == pytest.approx((values.astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("seed", range(20))
def test_few_values_keep_the_bound_too(seed: int) -> None:
    values = normal(2, seed=seed)
    for variance in (1e-6, 1e-2, 1.0, 100.0):
        result = on_grid(values, variance)
        assert result is not None
        assert ((result.values() - values.astype(np.float64)) ** 2).mean() <= variance


def test_degenerate_values() -> None:
    zeros = on_grid(np.zeros(8, np.float32), 1e-3)
    assert zeros is not None
    assert not zeros.symbols.any()
    assert zeros.step == 1
    constant = on_grid(np.full(8, 0.7, np.float32), 1e-3)
    assert constant is not None
    assert len(np.unique(constant.symbols)) == 1
    coarse = on_grid(normal(8), 1.0, coarsest=0.125)
    assert coarse is not None
    assert coarse.step == 0.125
    huge = np.array([1.0, 1e6], np.float32)
    assert on_grid(huge, 1e-3) is None
    reach = on_grid(np.array([1.0, -MAX_SYMBOL], np.float32), 1 / 12)
    assert reach is not None
    assert np.abs(reach.symbols).max() == MAX_SYMBOL
    for bad in (np.nan, np.inf):
        assert on_grid(np.array([1.0, bad], np.float32), 1e-3) is None
    for variance in (0.0, -1.0, np.nan, np.inf, 1e-300):
        assert on_grid(normal(8), variance) is None


def layer_of(groups: int = 1, *, norm: bool = False, seed: int = 0, positions: int = 100):
    """A Conv of six outputs with correlated inputs, its tensors, statistics and quantised weight."""
    rng = np.random.default_rng(seed)
    layout = conv_layout((6, 4, 1), groups)
    x = rng.normal(size=(groups, 4, 4)) @ rng.normal(size=(groups, 4, positions)) + 0.5
    stats = LayerStats(x @ x.transpose(0, 2, 1) / positions, x.mean(-1), positions)
    tensors = {name: normal(6, seed=seed + i) for i, name in enumerate("btm")}
    tensors |= {"w": normal(6, 4, 1, seed=seed), "s": rng.uniform(0.5, 2, 6).astype(np.float32)}
    tensors["v"] = rng.uniform(0.1, 3, 6).astype(np.float32)
    symbols = np.rint(tensors["w"] / 0.25).astype(np.int32)
    error = layout.to_matrix(tensors["w"].astype(np.float64) - 0.25 * symbols)
    quantized = QuantizedTensor(symbols, 0.25, float(((error @ stats.hessian) * error).sum()), 1.0, 0.0)
    layer = Layer("w", layout, (), Bias("b", 1), Norm("s", "t", "m", "v", 1e-5) if norm else None)
    return layer, tensors, stats, quantized, x


def test_the_bias_adds_eta_of_the_error_of_the_weights() -> None:
    layer, tensors, stats, quantized, _ = layer_of(groups=2)
    result = quantize_floats(layer, tensors, stats, quantized)["b"]
    assert 0.5 < result.step / np.sqrt(12 * ETA * quantized.distortion / 6) < 1.0001
    walked = quantize_floats(layer, tensors, stats, quantized, walked=True)["b"]
    assert walked.step / result.step == pytest.approx(np.sqrt(WALKED_ETA / ETA), rel=0.5)
    finer = quantize_floats(replace(layer, bias=Bias("b", 10)), tensors, stats, quantized)["b"]
    assert 10 * finer.step == pytest.approx(result.step, rel=0.5)


def test_without_data_or_error_all_stay_exact() -> None:
    layer, tensors, stats, quantized, _ = layer_of(norm=True)
    assert not quantize_floats(layer, tensors, replace(stats, positions=0), quantized)
    assert not quantize_floats(layer, tensors, stats, replace(quantized, distortion=0.0))
    assert not quantize_floats(layer, tensors, stats, replace(quantized, distortion=np.nan))
    assert not quantize_floats(replace(layer, bias=None, norm=None), tensors, stats, quantized)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("seed", range(10))
def test_the_four_of_a_normalisation_add_little_to_its_output(groups: int, seed: int) -> None:
    """Brute force: every parameter alone, at the output, on the data the statistics come from."""
    layer, tensors, stats, quantized, x = layer_of(groups, norm=True, seed=seed)
    result = quantize_floats(layer, tensors, stats, quantized)
    assert set(result) == {"b", "s", "t", "m", "v"}

    def output(**changed: np.ndarray) -> np.ndarray:
        p = {name: array.astype(np.float64) for name, array in (tensors | changed).items()}
        u = (layer.layout.to_matrix(p["w"]) @ x).reshape(6, -1) + p["b"][:, None]
        gain = p["s"] / np.sqrt(p["v"] + 1e-5)
        return gain[:, None] * (u - p["m"][:, None]) + p["t"][:, None]

    by_weights = ((output(w=quantized.values()) - output()) ** 2).mean()
    for name in "stmv":
        # Six values scatter about the mean over many: 4 is generous, and far below 1 / ETA.
        assert ((output(**{name: result[name].values()}) - output()) ** 2).mean() < 4 * ETA * by_weights, name


@pytest.mark.parametrize("norm", [False, True])
def test_a_parameter_takes_up_the_mean_error(*, norm: bool) -> None:
    """With what the residual misses: y + s is right on average, on the data the statistics come from."""
    layer, tensors, _, quantized, x = layer_of(norm=norm)
    layer = replace(layer, bias=None if norm else layer.bias)
    other, missing = x + normal(*x.shape), (normal(6, 100, seed=3) + 0.3) * (not norm)
    stats = PairStats(x @ x.transpose(0, 2, 1) / 100, other.mean(-1), 100, x, x.mean(-1))
    stats = replace(stats, missing=x, missing_mean=missing.mean(-1)[None])
    moved = centred(layer, tensors, tensors["w"], stats, quantized.values())
    assert set(moved) == {"m" if norm else "b"}

    def output(weight: np.ndarray, x: np.ndarray, **changed: np.ndarray) -> np.ndarray:
        p = {name: array.astype(np.float64)[:, None] for name, array in (tensors | changed).items() if name != "w"}
        u = layer.layout.to_matrix(weight.astype(np.float64))[0] @ x[0] + p["b"]
        return (u - p["m"]) * p["s"] / np.sqrt(p["v"] + 1e-5) + p["t"] if norm else u

    left = output(tensors["w"], x) + missing - output(quantized.values(), other, **moved)
    np.testing.assert_allclose(left.mean(axis=1), 0, atol=1e-6)


def test_the_share_of_the_mean_that_hessians_need_not_count() -> None:
    layer, *_ = layer_of()
    layer = replace(layer, sites=(Site("n", "Conv", "x", MatMulPatch(-1)),))
    assert taken(layer) == taken(replace(layer, bias=None, norm=Norm(*"stmv", 1e-5))) == TAKEN
    assert taken(replace(layer, bias=None)) == 0
    assert taken(replace(layer, sites=(Site("n", "GRU", "x", MatMulPatch(-1)),))) == 0


def test_moments_do_not_depend_on_what_is_taken() -> None:
    """Outputs are as large as ever; the error of the weights is what is left of it."""
    layer, tensors, stats, quantized, _ = layer_of(norm=True)
    outer = stats.mean[:, :, None] * stats.mean[:, None, :]
    part = replace(stats, hessian=stats.hessian - 0.8 * outer, taken=0.8)
    (first, second, error), (same, alike, less) = (_moments(layer, tensors, s, quantized) for s in (stats, part))
    np.testing.assert_allclose(same, first)
    np.testing.assert_allclose(alike, second)
    weight = layer.layout.to_matrix(tensors["w"].astype(np.float64) - quantized.values())
    np.testing.assert_allclose(error - less, 0.8 * (weight @ stats.mean[:, :, None]).ravel() ** 2)


def test_a_variance_near_zero_is_hardly_changed() -> None:
    layer, tensors, stats, quantized, _ = layer_of(norm=True)
    tensors["v"][2] = 0.05
    lost = replace(quantized, symbols=0 * quantized.symbols)  # an error that leaves room for any grid
    tensors["w"][2] = 0.01
    result = quantize_floats(layer, tensors, stats, lost)
    change = np.abs(result["v"].values() - tensors["v"])
    assert result["v"].step <= 2 * MAX_VARIANCE_CHANGE * 0.05002
    assert (change <= MAX_VARIANCE_CHANGE * 1.001 * (tensors["v"] + 1e-5)).all()
    tensors["v"][2] = 0
    assert "v" not in quantize_floats(layer, tensors, stats, quantized)
    tensors["v"][2] = -1
    assert set(quantize_floats(layer, tensors, stats, quantized)) == {"b"}


def test_a_normalisation_of_nothing() -> None:
    layer, tensors, stats, quantized, _ = layer_of(norm=True)
    tensors["s"][:] = 0
    assert set(quantize_floats(layer, tensors, stats, quantized)) == {"b"}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A model of 64 + 64 biases, its calibration data, and where to write."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.laplace(size=(64, 64)).astype(np.float32) for name in ("w1", "w2")}
    tensors |= {"b1": normal(64, seed=1), "b2": normal(64, seed=2), "c": normal(3, 64)}
    nodes = [
        NODE("Gemm", ["x", "w1", "b1"], ["h"], "one"),
        NODE("Relu", ["h"], ["r"]),
        NODE("MatMul", ["r", "w2"], ["m"], "two"),
        NODE("Add", ["m", "b2"], ["a"], "add"),
        NODE("Cos", ["c"], ["cosine"]),
        NODE("Concat", ["a", "cosine"], ["y"], axis=0),
    ]
    onnx.save(build(nodes, [value("x", ["N", 64])], [value("y", ["M", 64])], tensors), tmp_path / "m.onnx")
    np.savez(tmp_path / "calib.npz", x=rng.normal(size=(400, 64)).astype(np.float32))
    return tmp_path / "m.onnx", tmp_path / "calib.npz", tmp_path / "o.cwb"


def test_the_file_and_its_report(files: tuple[Path, Path, Path]) -> None:
    model, calib, output = files
    settings = Settings(lambda_=0.05)
    report = cerwu_onnx.compress(model, output, calib=calib, settings=settings)
    assert {layer.name for layer in report.layers} == {"w1", "w2"}
    assert {(p.name, p.layer) for p in report.parameters} == {("b1", "w1"), ("b2", "w2")}
    assert {kept.name for kept in report.kept} == {"c"}
    assert report.weights == 2 * 64 * 64
    assert report.other_bytes["float parameters"] == sum(p.coded_bytes for p in report.parameters) < 2 * 256
    assert report.other_bytes["exact tensors"] == 3 * 256
    assert report.file_bytes == report.weight_bytes + sum(report.other_bytes.values())
    opened = cerwu_onnx.open(output)
    assert opened.parameters == {"b1", "b2"}
    exactness = compare_tensors(opened, model)
    assert (exactness.quantised, exactness.parameters, exactness.identical) == (2, 2, 1)
    assert not exactness.problems
    exact = replace(settings, float_params="exact")
    by_exact = cerwu_onnx.compress(model, output, calib=calib, settings=exact, force=True)
    assert by_exact.file_bytes > report.file_bytes
    assert by_exact.weight_bytes == pytest.approx(report.weight_bytes, rel=0.02)  # later layers see the parameters
    assert not by_exact.parameters
    assert "params" not in cerwu_onnx.open(output).metadata


@pytest.mark.parametrize("settings", [Settings(float_params="exact"), None], ids=["exact", "no data"])
def test_exact_means_every_bit(files: tuple[Path, Path, Path], settings: Settings | None) -> None:
    model, calib, output = files
    report = cerwu_onnx.compress(model, output, calib=calib if settings else None, settings=settings)
    assert not report.parameters
    assert report.other_bytes["float parameters"] == 0
    original = constant_tensors(onnx.load(model))
    opened = cerwu_onnx.open(output)
    for name in ("b1", "b2", "c"):
        assert opened[name].tobytes() == numpy_helper.to_array(original[name]).tobytes()
    assert compare_tensors(opened, model).identical == 3


@pytest.mark.parametrize(("method", "tolerance"), [("cerwu", 0.03), ("trellis", 0.1)])
def test_the_output_hardly_notices(files: tuple[Path, Path, Path], method: str, tolerance: float) -> None:
    """Of the default method even the weights differ: later layers see what became of the parameters."""
    model, calib, output = files
    errors = {}
    for choice in ("exact", "auto"):
        settings = Settings(method=method, float_params=choice, lambda_=0.05 if method == "trellis" else None)
        cerwu_onnx.compress(model, output, calib=calib, settings=settings, force=True)
        errors[choice] = cerwu_onnx.compare(output, model, calib)[0].relative
    assert errors["auto"] == pytest.approx(errors["exact"], rel=tolerance)


def test_parameters_of_an_exact_weight_stay_exact(files: tuple[Path, Path, Path]) -> None:
    """Where coding a weight does not pay, there is no error that would hide that of its bias."""
    model, calib, _ = files
    graph, _, source = prepare(model, Settings(), calib)
    stats, _ = statistics(graph, source, Settings())
    quantized = dict(quantize_layers(graph, stats, Settings())[0])
    assert {"b1", "b2"} <= set(quantized)
    del quantized["w1"]
    coded = encode(graph, quantized, {})
    assert {p.name for p in coded.parameters} == {"b2"}
    kinds = {record.name: record.kind for record in reader.parse(coded.content).tensors}
    assert kinds["b1"] is f.Kind.RAW
    assert {kept.name for kept in coded.kept} == {"b1", "c"}


@pytest.mark.parametrize("params", ["nonsense", "-", "", None, 3, [1], "ff" * 99, "0"])
def test_what_the_metadata_says_is_not_trusted(params: object) -> None:
    quantized = QuantizedTensor(np.arange(5, dtype=np.int32), 1.0, 0.0, 0.0, 0.0)
    parts = [
        writer.encode_tensor(writer.RawTensor("raw", f.ElementType.FLOAT32, normal(3))),
        writer.encode_tensor(writer.CodedTensor("coded", quantized)),
        writer.metadata_section({"params": params}),
    ]
    container = reader.parse(writer.assemble(parts))
    assert coded_parameters(container) <= {container.tensors[1].name}


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(UsageError, match="float params 'some' is unknown"):
        Settings(float_params="some")
