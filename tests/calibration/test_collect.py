"""Statistics against brute force, in any batch size, and what happens when an activation cannot be used."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from cerwu_onnx.calibration import collect, columns, identity_stats, model_inputs, open_source
from cerwu_onnx.errors import CalibrationError, ModelError
from cerwu_onnx.model.graph import Graph, analyse, load_model
from cerwu_onnx.types import ConvPatch, EinsumPatch, GatherPatch, Layer, LayerStats, MatMulPatch, Site

from ..models import build, constant, conv_net, normal, random_models, value
from ..reference import activations

SHARED = Path(__file__).resolve().parents[2] / "shared" / "models"


def gather(model: onnx.ModelProto, data, **options) -> dict[str, LayerStats]:
    return collect(analyse(model), open_source(data, model_inputs(model)), **options)[0]


def brute_force(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> dict[str, LayerStats]:
    """One position at a time, from the activations of a single run."""
    values = activations(model, feed)
    result = {}
    for layer in analyse(model).layers:
        groups, cols = layer.layout.groups, layer.layout.cols
        gram, total, positions = np.zeros((groups, cols, cols)), np.zeros((groups, cols)), 0
        for site in layer.sites:
            xs = columns(site.patch, values[site.activation]).astype(np.float64)
            positions += xs.shape[1]
            for group in range(groups):
                for x in xs[group]:
                    gram[group] += np.outer(x, x)
                    total[group] += x
        result[layer.weight] = LayerStats(gram / positions, total / positions, positions)
    return result


def assert_same(ours: dict[str, LayerStats], theirs: dict[str, LayerStats], tolerance: float = 1e-5) -> None:
    assert list(ours) == list(theirs)
    for name, stats in ours.items():
        expected = theirs[name]
        assert stats.positions == expected.positions
        assert stats.hessian.dtype == stats.mean.dtype == np.float64
        scale = np.abs(expected.hessian).max() + 1e-12
        np.testing.assert_allclose(stats.hessian, expected.hessian, rtol=0, atol=tolerance * scale)
        np.testing.assert_allclose(stats.mean, expected.mean, rtol=0, atol=tolerance * np.sqrt(scale))


@pytest.mark.parametrize("ir_version", [3, 8])
def test_conv_net(ir_version: int) -> None:
    feed = {"x": normal(7, 3, 8, 8)}
    assert_same(gather(conv_net(ir_version), feed), brute_force(conv_net(ir_version), feed))


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 3}, {"batch_size": 99}, {"memory": 1}])
def test_batch_size_does_not_matter(options: dict[str, int]) -> None:
    feed = {"x": normal(10, 3, 8, 8)}
    assert_same(gather(conv_net(), feed, **options), gather(conv_net(), feed))


def test_chunk_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = {"x": normal(4, 3, 8, 8)}
    expected = gather(conv_net(), feed)
    monkeypatch.setattr(importlib.import_module("cerwu_onnx.calibration.sums"), "CHUNK", 500)
    assert_same(gather(conv_net(), feed), expected)


@given(random_models(), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_random_models(model: onnx.ModelProto, seed: int) -> None:
    width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    x = np.random.default_rng(seed).standard_normal((2, width)).astype(np.float32)
    assert_same(gather(model, {"x": x}), brute_force(model, {"x": x}))


def test_sites_are_summed_and_shared_reads_counted_once() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="1"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="2"),
        helper.make_node("MatMul", ["x", "q"], ["c"], name="3"),
        helper.make_node("MatMul", ["x", "k"], ["d"], name="4"),
    ]
    tensors = {"w": normal(3, 3), "q": normal(3, 2, seed=1), "k": normal(3, 4, seed=2)}
    model = build(nodes, [value("x", ["N", 3])], [value("b"), value("c"), value("d")], tensors)
    feed = {"x": normal(5, 3, seed=3)}
    ours = gather(model, feed)
    assert_same(ours, brute_force(model, feed))
    assert ours["w"].positions == 10
    assert ours["q"].hessian is ours["k"].hessian
    x = feed["x"].astype(np.float64)
    np.testing.assert_allclose(ours["q"].hessian[0], x.T @ x / 5, rtol=1e-6)


def test_groups_of_a_batched_constant() -> None:
    nodes = [helper.make_node("MatMul", ["w", "x"], ["y"])]
    model = build(nodes, [value("x", ["N", 2, 3, 5])], [value("y")], {"w": normal(2, 4, 3)})
    feed = {"x": normal(6, 2, 3, 5, seed=1)}
    ours = gather(model, feed)
    assert ours["w"].hessian.shape == (2, 3, 3)
    assert ours["w"].positions == 30
    assert_same(ours, brute_force(model, feed))


def test_progress_and_sample_count() -> None:
    seen = []
    model = conv_net()
    source = open_source({"x": normal(5, 3, 8, 8)}, model_inputs(model))
    _, samples = collect(analyse(model), source, batch_size=2, progress=lambda *state: seen.append(state))
    assert samples == 5
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_identity() -> None:
    layer = analyse(conv_net()).layers[1]
    stats = identity_stats(layer)
    assert stats.hessian.shape == (4, 9, 9)
    assert np.array_equal(stats.hessian[3], np.eye(9))
    assert not stats.mean.any()
    assert stats.positions == 0


def test_a_layer_without_positions_gets_the_identity(caplog: pytest.LogCaptureFixture) -> None:
    nodes = [
        helper.make_node("Slice", ["x", "zero", "zero", "zero"], ["none"]),
        helper.make_node("MatMul", ["none", "w"], ["y"]),
        helper.make_node("MatMul", ["x", "v"], ["z"]),
    ]
    tensors = {"w": normal(3, 2), "v": normal(3, 2), "zero": np.array([0])}
    model = build(nodes, [value("x", ["N", 3])], [value("y"), value("z")], tensors)
    with caplog.at_level(logging.WARNING):
        stats = gather(model, {"x": normal(4, 3)})
    assert "layer 'w' saw no calibration data" in caplog.text
    assert stats["w"].positions == 0
    assert np.array_equal(stats["w"].hessian[0], np.eye(3))
    assert stats["v"].positions == 4


def test_a_constant_activation_gives_no_statistics(caplog: pytest.LogCaptureFixture) -> None:
    graph = analyse(conv_net())
    dense = graph.layers[2]
    # analyse() never builds this; a caller might
    layer = Layer(dense.weight, dense.layout, (Site("fc", "Gemm", "fc.b", MatMulPatch(-1)),))
    graph = Graph(graph.model, (layer,), ())
    with caplog.at_level(logging.WARNING):
        stats, _ = collect(graph, open_source({"x": normal(1, 3, 8, 8)}, model_inputs(graph.model)))
    assert "reads the constant 'fc.b'" in caplog.text
    assert stats["fc.w"].positions == 0


@pytest.mark.parametrize(("poison", "kind"), [("Log", "NaN"), ("Reciprocal", "infinity")])
def test_nan_and_infinity_name_the_layer(poison: str, kind: str) -> None:
    nodes = [helper.make_node(poison, ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    model = build(nodes, [value("x", ["N", 3])], [value("y")], {"w": normal(3, 2)})
    x = np.full((4, 3), -1.0 if kind == "NaN" else 1.0, np.float32)
    x[2, 1] = -1.0 if kind == "NaN" else 0.0
    with pytest.raises(CalibrationError, match=f"the input 'a' of layer 'w' holds {kind} on the calibration data"):
        gather(model, {"x": x})


def test_huge_but_finite_activations() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = build(nodes, [value("x", ["N", 3])], [value("y")], {"w": normal(3, 2)})
    x = (normal(4, 3) * 1e25).astype(np.float32)
    ours = gather(model, {"x": x})
    wide = x.astype(np.float64)
    np.testing.assert_allclose(ours["w"].hessian[0], wide.T @ wide / 4, rtol=1e-6)


def test_model_and_data_that_do_not_run() -> None:
    nodes = [helper.make_node("Magic", ["x"], ["a"], domain="none"), helper.make_node("MatMul", ["a", "w"], ["y"])]
    model = build(nodes, [value("x", ["N", 3])], [value("y")], {"w": normal(3, 2)}, domains=["none"])
    with pytest.raises(ModelError, match=r"onnxruntime cannot load the model: .*Magic"):
        gather(model, {"x": normal(2, 3)})
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    model = build(nodes, [value("x", ["N", "M"])], [value("y")], {"w": normal(3, 2)})
    with pytest.raises(CalibrationError, match="onnxruntime cannot run the model on the data"):
        gather(model, {"x": normal(2, 5)})
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = build(nodes, [value("x", ["N", "M"])], [value("y")], {"w": normal(3, 2)})
    with pytest.raises(CalibrationError, match="layer 'w': its input has 5 columns, the weight 3"):
        gather(model, {"x": normal(2, 5)})


def test_outputs_and_constant_nodes_as_activations() -> None:
    """An activation that is already a graph output, and a weight in a Constant node."""
    nodes = [
        constant("w", normal(3, 3)),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Gemm", ["a", "v"], ["y"], transB=1),
    ]
    model = build(nodes, [value("x", ["N", 3])], [value("a"), value("y")], {"v": normal(2, 3)})
    feed = {"x": normal(5, 3)}
    assert_same(gather(model, feed), brute_force(model, feed))


def test_fixed_batch_and_stacked_inputs() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", ""], ["a"]),
        helper.make_node("Cast", ["k"], ["kf"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["a", "kf"], ["y"]),
    ]
    inputs = [value("x", [1, 3]), value("k", [], TensorProto.INT64)]
    model = build(nodes, inputs, [value("y")], {"w": normal(3, 2)})
    x = normal(4, 3)
    stats = gather(model, {"x": x, "k": np.arange(4)})
    np.testing.assert_allclose(stats["w"].hessian[0], x.T @ x / 4, rtol=1e-5)


def test_patches_refuse_shapes_that_do_not_fit() -> None:
    conv = ConvPatch(2, (3,), (1,), (1,), (0, 0))
    for shape, message in [((1, 4), "3 axes"), ((1, 3, 9), "2 groups"), ((1, 4, 2), "larger than the padded input")]:
        with pytest.raises(ValueError, match=message):
            columns(conv, np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="at least 1 axis"):
        columns(MatMulPatch(-1), np.zeros((), np.float32))
    with pytest.raises(ValueError, match="do not fit the constant's"):
        columns(MatMulPatch(-1, (3,)), np.zeros((2, 4, 5), np.float32))
    with pytest.raises(ValueError, match="too few axes"):
        columns(EinsumPatch(-1, (1,), (), (1,)), np.zeros(4, np.float32))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the models for measuring (../shared/models) are not here")
def test_resnet20() -> None:
    folder = SHARED / "cifar10_resnet20"
    model = load_model(folder / "model.onnx")
    source = open_source(folder / "calib.npz", model_inputs(model), limit=32)
    stats, samples = collect(analyse(model), source)
    assert samples == 32
    assert stats["conv1.weight"].positions == 32 * 32 * 32
    for layer in stats.values():
        np.testing.assert_allclose(layer.hessian, layer.hessian.swapaxes(1, 2), rtol=1e-6)
        assert np.linalg.eigvalsh(layer.hessian)[:, 0].min() > -1e-3 * np.abs(layer.hessian).max()


def test_negative_indices_of_a_table_count_from_its_end() -> None:
    """Each row of four counts as often as it is read, and a share of all that are read."""
    found = columns(GatherPatch(-1, (4,)), np.array([[-1, 0, -4]]))
    np.testing.assert_allclose(np.square(found).ravel(), np.array([2, 0, 0, 1]) + 3 / 4, rtol=1e-6)
