"""Fisher matrices of layers' rows, against differences of the class probabilities and against their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scipy.special import log_softmax, softmax

from cerwu_onnx.calibration import OutputLoss, columns, fisher, kinds, model_inputs, open_source
from cerwu_onnx.calibration.adjoint import Adjoint, adjoint
from cerwu_onnx.calibration.fisher import DRAWS, FOLDS, LARGEST, TEMPERATURE, row_fishers
from cerwu_onnx.model.graph import analyse, with_tensors

from ..models import build, conv_net, normal, value
from .test_adjoint import in_double, net
from .test_recurrent import recurrent

NODE = helper.make_node
Feed = dict[str, np.ndarray]
K = 4


@pytest.fixture(autouse=True)
def _no_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random networks may be as sure as they like."""
    monkeypatch.setattr(kinds, "SURE", 0.0)


def fishers(model: onnx.ModelProto, *feeds: Feed, kind: str = "auto") -> Feed:
    """Of the float model, the parts added up."""
    graph = analyse(model)
    known = row_fishers(graph, OutputLoss(graph, open_source(list(feeds), model_inputs(model)), kind), most=1 << 20)
    found = {name: curvature.fishers for name, curvature in known.items()}
    shapes = {layer.weight: (layer.layout.groups, layer.layout.rows, layer.layout.rows) for layer in graph.layers}
    assert all(part.shape == shapes[name] for name, parts in found.items() for part in parts)
    return {name: np.sum(parts, axis=0) for name, parts in found.items()}


def classifier(nodes: list[onnx.NodeProto], feed: Feed, tensors: Feed, features: int, end: str = "") -> onnx.ModelProto:
    """Some nodes that compute ``h``, whose numbers give logits of four classes for each sample, or probabilities."""
    tensors = {
        **tensors,
        "head": 4 * normal(features, K, seed=77) / features**0.5,
        "flat": np.array([-1, features], np.int64),
    }
    nodes = [*nodes, NODE("Reshape", ["h", "flat"], ["f"]), NODE("MatMul", ["f", "head"], ["y" if not end else "z"])]
    if end:
        nodes.append(NODE(end, ["z"], ["y"]))
    model = net(nodes, feed, tensors)
    model.graph.output[0].CopyFrom(value("y", ["R", K]))
    return model


def expected(model: onnx.ModelProto, feed: Feed, weight: str, end: str = "") -> np.ndarray:
    """By central differences of each tempered class probability, over every weight.

    The gradient with respect to a matrix is the sum over positions of ``g x^T``. The columns x of the feed are
    orthonormal, so that times x it is g. A class that most rows answer counts no more than all others.
    """
    graph = analyse(model)
    layer = next(layer for layer in graph.layers if layer.weight == weight)
    x = columns(layer.sites[0].patch, feed[layer.sites[0].activation]).astype(np.float64)
    np.testing.assert_allclose(
        x @ x.swapaxes(1, 2), np.broadcast_to(np.eye(x.shape[1]), (*x.shape[:2], x.shape[1])), atol=1e-5
    )
    wide = {name: array.astype(np.float64) for name, array in feed.items()}

    def logs(tensor: np.ndarray) -> np.ndarray:
        runner = in_double(model)
        runner.rt_inits_[weight] = tensor
        y = runner.run(None, wide)[0]
        return np.log(y) if end == "Softmax" else log_softmax(y, axis=-1)

    tensor = graph.array(weight).astype(np.float64)
    shares = kinds.answer_of([logs(tensor)], "kl").importance(logs(tensor))
    q = softmax(logs(tensor) / TEMPERATURE, axis=-1)
    gradients = np.zeros((len(q), K, tensor.size))
    for index in range(tensor.size):
        step = np.zeros(tensor.size)
        step[index] = 1e-5
        moved = [logs(tensor + sign * step.reshape(tensor.shape)) for sign in (1, -1)]
        gradients[..., index] = (moved[0] - moved[1]) / 2e-5
    total = np.zeros((layer.layout.groups, layer.layout.rows, layer.layout.rows))
    for row, probabilities, share in zip(gradients, q, shares, strict=True):
        for k in range(K):
            slope = np.sqrt(probabilities[k]) * (row[k] - probabilities @ row)
            g = layer.layout.to_matrix(slope.reshape(tensor.shape)) @ x.swapaxes(1, 2)
            total += share * (g @ g.swapaxes(1, 2))
    return total / len(q)


def orthonormal(*shape: int) -> np.ndarray:
    """Stacks of matrices with orthonormal rows."""
    rows = min(shape[-2:])
    q = np.linalg.qr(normal(*shape[:-2], max(shape[-2:]), rows, seed=9))[0]
    return np.ascontiguousarray(q.swapaxes(-1, -2) if shape[-2] <= shape[-1] else q, np.float32)


CASES: dict[str, tuple[list[onnx.NodeProto], Feed, Feed, int]] = {
    "gemm": ([NODE("Gemm", ["x", "w"], ["h"], transB=1, alpha=0.6)], {"x": orthonormal(3, 5)}, {"w": normal(6, 5)}, 6),
    "gemm, a transposed": (
        [NODE("Gemm", ["x", "w"], ["h"], transA=1)],
        {"x": orthonormal(5, 3)},
        {"w": normal(5, 6)},
        6,
    ),
    "gemm, a constant": (
        [NODE("Gemm", ["w", "x"], ["a"], transB=1), NODE("Transpose", ["a"], ["h"])],
        {"x": orthonormal(3, 5)},
        {"w": normal(6, 5)},
        6,
    ),
    "matmul": ([NODE("MatMul", ["x", "w"], ["h"])], {"x": orthonormal(6, 7).reshape(3, 2, 7)}, {"w": normal(7, 4)}, 8),
    "matmul, left": ([NODE("MatMul", ["w", "x"], ["h"])], {"x": orthonormal(5, 3)[None]}, {"w": normal(4, 5)}, 12),
    "matmul, batches": (
        [NODE("MatMul", ["x", "w"], ["h"])],
        {"x": orthonormal(2, 4, 5)[None]},
        {"w": normal(2, 5, 3)},
        24,
    ),
    "matmul, broadcast batches": (
        [NODE("MatMul", ["w", "x"], ["h"])],
        {"x": orthonormal(1, 5, 2)[:, None]},
        {"w": normal(3, 1, 4, 5)},
        24,
    ),
    "matmul, vector": ([NODE("MatMul", ["w", "x"], ["h"])], {"x": orthonormal(1, 5)[0]}, {"w": normal(6, 5)}, 6),
    "matmul, constant vector": ([NODE("MatMul", ["x", "w"], ["h"])], {"x": orthonormal(4, 5)}, {"w": normal(5)}, 4),
    "conv": (
        [NODE("Conv", ["x", "w"], ["a"], strides=[2, 2]), NODE("Tanh", ["a"], ["h"])],
        {"x": orthonormal(4, 12).reshape(2, 1, 2, 3, 2, 2).transpose(0, 3, 1, 4, 2, 5).reshape(2, 3, 2, 4)},
        {"w": normal(5, 3, 2, 2)},
        10,
    ),
    "conv, groups": (
        [NODE("Conv", ["x", "w"], ["h"], group=2)],
        {"x": np.stack([orthonormal(2, 3)] * 2, axis=1).reshape(2, 6, 1)},
        {"w": normal(8, 3, 1)},
        8,
    ),
    "transposed convolution": (
        [NODE("ConvTranspose", ["x", "w"], ["a"], strides=[2, 1], pads=[1, 0, 0, 0]), NODE("Tanh", ["a"], ["h"])],
        {"x": orthonormal(4, 5).reshape(1, 2, 2, 5).transpose(0, 3, 1, 2).copy()},
        {"w": normal(5, 2, 3, 2)},
        24,
    ),
    "behind a transpose": (
        [NODE("Transpose", ["w"], ["t"], perm=[1, 0]), NODE("MatMul", ["x", "t"], ["h"])],
        {"x": orthonormal(3, 5)},
        {"w": normal(6, 5)},
        6,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_is_what_differences_of_the_probabilities_say(name: str) -> None:
    nodes, feed, tensors, features = CASES[name]
    model = classifier(nodes, feed, tensors, features)
    found = fishers(model, feed, kind="kl")["w"]
    np.testing.assert_allclose(found, expected(model, feed, "w"), rtol=1e-3, atol=1e-5 * np.abs(found).max())


@pytest.mark.parametrize("end", ["Softmax", "LogSoftmax"])
def test_logits_and_probabilities_are_alike(end: str) -> None:
    nodes, feed, tensors, features = CASES["gemm"]
    logits = fishers(classifier(nodes, feed, tensors, features), feed, kind="kl")
    found = fishers(classifier(nodes, feed, tensors, features, end), feed)
    for name in ("w", "head"):
        np.testing.assert_allclose(found[name], logits[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        found["w"], expected(classifier(nodes, feed, tensors, features, end), feed, "w", end), rtol=1e-3
    )


def test_classes_without_probability_do_no_harm() -> None:
    """Their probabilities underflow."""
    nodes, feed, tensors, features = CASES["gemm"]
    model = classifier(nodes, feed, {**tensors, "w": 200 * tensors["w"]}, features, "Softmax")
    found = fishers(model, feed)
    assert set(found) == {"w", "head"}
    logits = fishers(classifier(nodes, feed, {**tensors, "w": 200 * tensors["w"]}, features), feed, kind="kl")
    np.testing.assert_allclose(found["head"], logits["head"], atol=1e-2 * np.abs(logits["head"]).max())


def wide_net(end: str, outputs: int, rows: int = 1) -> onnx.ModelProto:
    """A product of 6 rows, and some linear outputs of it."""
    tensors = {
        "w": normal(5, 6, seed=1),
        "v": normal(6, outputs, seed=2),
        "shape": np.array([-1, rows, outputs // rows], np.int64),
    }
    nodes = [NODE("MatMul", ["x", "w"], ["h"]), NODE("MatMul", ["h", "v"], ["z"])]
    nodes += (
        [NODE("Reshape", ["z", "shape"], ["r"]), NODE(end, ["r"], ["y"])] if rows > 1 else [NODE(end, ["z"], ["y"])]
    )
    return build(nodes, [value("x", ["N", 5])], [value("y", None)], tensors)


def linear_fisher(model: onnx.ModelProto, x: np.ndarray, rows: int) -> np.ndarray:
    """Of ``w`` in :func:`wide_net` with Softmax, by the covariances of the tempered distributions."""
    graph = analyse(model)
    v = graph.array("v").astype(np.float64)
    logits = (x @ graph.array("w") @ v).reshape(len(x), rows, -1)
    q = softmax(logits / TEMPERATURE, axis=-1)
    v = v.reshape(6, rows, -1)
    total = sum(
        v[:, r] @ (np.diag(q[n, r]) - np.outer(q[n, r], q[n, r])) @ v[:, r].T
        for n in range(len(x))
        for r in range(rows)
    )
    return np.asarray(total) / (len(x) * rows)


@pytest.mark.parametrize(("outputs", "rows"), [(DRAWS + 36, 1), (3 * K, 3)])
def test_draws_are_right_on_average(outputs: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more classes than are enumerated, and of several distributions per sample, whose gradients must not add up."""
    monkeypatch.setattr(fisher, "DRAWS", 16)
    model, feed = wide_net("Softmax", outputs, rows), {"x": normal(400, 5, seed=3)}
    found = fishers(model, feed)["w"][0]
    exact = linear_fisher(model, feed["x"], rows)
    assert np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


def test_squared_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of ``tr F E H E^T`` is the loss of an error E, relative to the variance of each of two columns."""
    monkeypatch.setattr(fisher, "DRAWS", 16)
    model, feed = wide_net("Identity", 8, 2), {"x": normal(400, 5, seed=3)}
    found = fishers(model, feed)["w"][0]
    graph = analyse(model)
    v, y = graph.array("v").astype(np.float64), feed["x"] @ graph.array("w") @ graph.array("v")
    variance = y.reshape(len(y), 2, 4).var(axis=0, dtype=np.float64).mean(axis=1)
    exact = 2 * (v / np.repeat(variance, 4)) @ v.T / v.shape[1]
    assert np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


def test_an_output_may_be_a_single_number() -> None:
    model = net([NODE("MatMul", ["x", "w"], ["y"])], {"x": normal(5)}, {"w": normal(5, seed=1)})
    found = fishers(model, {"x": normal(5)})["w"]
    y = float(normal(5) @ normal(5, seed=1))
    np.testing.assert_allclose(found, [[[2 / y**2]]], rtol=1e-5)


def test_several_outputs_add_up() -> None:
    both = wide_net("Softmax", 12)
    both.graph.node.append(NODE("MatMul", ["h", "u"], ["s"]))
    both.graph.initializer.append(onnx.numpy_helper.from_array(normal(6, 3, 2, seed=5).reshape(6, 6), "u"))
    both.graph.node.append(NODE("Sigmoid", ["s"], ["t"]))  # independent probabilities: squared error
    both.graph.output.append(value("t", None))
    feed = {"x": normal(400, 5, seed=3)}
    alone = []
    for index in (0, 1):
        model = onnx.ModelProto()
        model.CopyFrom(both)
        del model.graph.output[1 - index]
        alone.append(fishers(model, feed)["w"])
    found = fishers(both, feed)["w"]
    assert np.abs(found - sum(alone)).max() < 0.1 * np.abs(found).max()


def test_parts_are_of_disjoint_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fisher, "DRAWS", 16)  # all classes: the same whatever was drawn before
    monkeypatch.setattr(fisher, "ENOUGH", 1 << 20)
    model = conv_net()
    feeds = [{"x": normal(4, 3, 8, 8, seed=seed)} for seed in range(3)]
    graph = analyse(model)
    found = row_fishers(graph, OutputLoss(graph, open_source(feeds, model_inputs(model)), "kl"), 1 << 20)
    assert {len(curvature.fishers) for curvature in found.values()} == {FOLDS}
    odd = row_fishers(graph, OutputLoss(graph, open_source(feeds[1:2], model_inputs(model)), "kl"), 1 << 20)
    for name, curvature in found.items():
        (alone,) = odd[name].fishers
        np.testing.assert_allclose(curvature.fishers[1], alone / 3, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("gradients", "each"), [(64, 1), (512, 2), (1024, 4), (1 << 20, DRAWS)])
def test_a_sample_takes_no_more_gradients_where_there_are_few(
    gradients: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[int] = []
    real = fisher._Output
    monkeypatch.setattr(fisher, "_Output", lambda *given: draws.append(given[-1]) or real(*given))
    model = wide_net("Softmax", 16)
    for samples in (3, 20):
        source = open_source([{"x": normal(samples, 5)}], model_inputs(model))
        assert row_fishers(analyse(model), OutputLoss(analyse(model), source, "kl"), gradients)
    assert draws == [each, each]


def test_every_layer_of_a_network() -> None:
    model = conv_net()
    found = fishers(model, {"x": normal(40, 3, 8, 8, seed=9)})
    assert set(found) == {"conv.w", "dw.w", "fc.w"}
    for matrix in found.values():
        np.testing.assert_allclose(matrix, matrix.swapaxes(1, 2), rtol=1e-6)
        assert np.linalg.eigvalsh(matrix).min() > -1e-6 * np.linalg.eigvalsh(matrix).max()


@pytest.mark.parametrize(("heavy", "opened"), [(0, 2), (1 << 20, 1)])
def test_no_session_of_a_large_model_waits_for_its_turn(
    heavy: int, opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That which gives the inputs of layers runs for two of eight batches."""
    model = conv_net()
    graph = analyse(model)
    source = open_source([{"x": normal(4, 3, 8, 8, seed=seed)} for seed in range(8)], model_inputs(model))
    expected = row_fishers(graph, OutputLoss(graph, source, "kl"))
    calls: list[object] = []
    real = fisher.open_session
    monkeypatch.setattr(fisher, "open_session", lambda found, *names: calls.append(names) or real(found, *names))
    monkeypatch.setattr(fisher, "HEAVY", heavy)
    found = row_fishers(graph, OutputLoss(graph, source, "kl"))
    assert len([names for names in calls if names]) == opened
    for name, curvature in found.items():
        assert (curvature.energy, *curvature.inputs) == (expected[name].energy, *expected[name].inputs)


def test_is_the_same_every_time() -> None:
    model, feed = wide_net("Softmax", DRAWS + 16), {"x": normal(20, 5, seed=3)}
    np.testing.assert_array_equal(fishers(model, feed)["w"], fishers(model, feed)["w"])


def test_predicts_the_loss_of_an_error() -> None:
    """At T = 1 it would be the second derivative of KL; near uniform outputs the temperature hardly matters."""
    feed = {"x": normal(300, 5, seed=3)}
    model = wide_net("Softmax", K)
    model = with_tensors(model, {"v": analyse(model).array("v") / 30})
    error = 0.1 * normal(5, 6, seed=8)
    moved = with_tensors(model, {"w": analyse(model).array("w") + error})
    wide = {"x": feed["x"].astype(np.float64)}
    p, other = (in_double(m).run(None, wide)[0] for m in (model, moved))
    loss = (p * np.log(p / other)).sum(axis=-1).mean()
    hessian = wide["x"].T @ wide["x"] / len(wide["x"])
    predicted = np.trace(fishers(model, feed)["w"][0] @ error.T @ hessian @ error) / 2
    assert predicted == pytest.approx(loss, rel=0.1)


def check_none(model: onnx.ModelProto, feed: Feed, *, left: set[str] | None = None) -> None:
    assert set(fishers(model, feed)) == (left or set())


def test_what_is_in_front_of_a_recurrence_has_none() -> None:
    model = recurrent("LSTM", sequence=False)
    (output,) = model.graph.output
    name = output.name
    model.graph.initializer.extend(
        [onnx.numpy_helper.from_array(normal(6, 4), "out"), onnx.numpy_helper.from_array(normal(4, 4), "in")]
    )
    model.graph.node.insert(0, NODE("MatMul", ["x", "in"], ["u"], "first"))
    next(node for node in model.graph.node if node.op_type == "LSTM").input[0] = "u"
    model.graph.node.append(NODE("MatMul", [name, "out"], ["logits"], "last"))
    output.CopyFrom(value("logits", None))
    check_none(model, {"x": normal(5, 3, 4, seed=1)}, left={"out"})


def test_labels_have_those_of_the_scores_they_are_chosen_from() -> None:
    x, tensors = {"x": normal(3, 5)}, {"w": normal(5, 4)}
    product, choice = NODE("MatMul", ["x", "w"], ["h"]), NODE("ArgMax", ["h"], ["y"], axis=1)
    labels = net([product, choice], x, tensors)
    labels.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    scores = net([NODE("MatMul", ["x", "w"], ["y"])], x, tensors)
    assert np.allclose(fishers(labels, x)["w"], fishers(scores, x, kind="kl")["w"])


def test_gradients_that_are_no_numbers_are_dropped() -> None:
    """The root has an infinite derivative at 0; behind it all is well."""
    nodes = [
        NODE("MatMul", ["x", "w"], ["h"]),
        NODE("Relu", ["h"], ["r"]),
        NODE("Sqrt", ["r"], ["s"]),
        NODE("MatMul", ["s", "v"], ["y"]),
    ]
    feed = {"x": normal(30, 5)}
    model = net(nodes, feed, {"w": normal(5, 6), "v": normal(6, 4)})
    model.graph.output[0].CopyFrom(value("y", ["N", 4]))
    check_none(model, feed, left={"v"})


def test_weights_that_are_read_otherwise_too_have_none() -> None:
    nodes = [NODE("MatMul", ["x", "w"], ["h"], "one"), NODE("MatMul", ["h", "w"], ["y"], "two")]
    check_none(net(nodes, {"x": normal(9, 5)}, {"w": normal(5, 5)}), {"x": normal(9, 5)})


def test_embeddings_and_other_operands_have_none() -> None:
    nodes = [
        NODE("Gather", ["table", "i"], ["e"]),
        NODE("Add", ["e", "position"], ["a"]),
        NODE("MatMul", ["a", "w"], ["y"]),
    ]
    tensors = {"table": normal(20, 64), "position": normal(6, 64, seed=1), "w": normal(64, 4, seed=2)}
    model = build(nodes, [value("i", ["N", 6], TensorProto.INT64)], [value("y", None)], tensors)
    assert {layer.weight for layer in analyse(model).layers} == set(tensors)
    check_none(model, {"i": np.arange(12).reshape(2, 6)}, left={"w"})


def test_layers_of_very_many_rows_have_the_diagonal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = int(LARGEST**0.5) + 1
    nodes = [NODE("MatMul", ["x", "w"], ["h"]), NODE("MatMul", ["h", "v"], ["y"])]
    graph = analyse(net(nodes, {"x": normal(3, 2)}, {"w": normal(2, rows), "v": normal(rows, 3)}))
    source = open_source([{"x": normal(3, 2)}], model_inputs(graph.model))
    found = []
    for largest in (LARGEST, rows**2):
        monkeypatch.setattr(fisher, "LARGEST", largest)
        found.append(row_fishers(graph, OutputLoss(graph, source)))
    diagonal, whole = found
    assert (len(diagonal["w"].fishers), len(whole["w"].fishers)) == (0, 1)
    np.testing.assert_allclose(diagonal["w"].rows, whole["w"].rows, rtol=1e-5)
    assert diagonal["w"].energy == whole["w"].energy
    np.testing.assert_array_equal(diagonal["v"].fishers, whole["v"].fishers)


def test_weights_of_half_precision_have_them_too() -> None:
    """Gradients that are gathered are summed in float32, which alone onnxruntime can scatter."""
    nodes = [NODE("MatMul", ["x", "w"], ["h"]), NODE("Gather", ["h", "i"], ["y"], axis=1)]
    found = {}
    for dtype in (np.float16, np.float32):
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        tensors = {"w": normal(5, 6).astype(dtype), "i": np.array([1, 2, 3])}
        model = build(nodes, [value("x", ["N", 5], element)], [value("y", None, element)], tensors)
        found[dtype] = fishers(model, {"x": normal(40, 5).astype(dtype)})["w"]
    np.testing.assert_allclose(found[np.float16], found[np.float32], rtol=5e-2, atol=2e-2 * found[np.float32].max())


def test_an_adjoint_that_onnxruntime_refuses_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Adjoint:
        found = adjoint(*arguments)
        for node in found.model.graph.node:
            node.op_type = "Nonsense" if node.op_type == "Slice" else node.op_type
        return found

    monkeypatch.setattr("cerwu_onnx.calibration.fisher.adjoint", broken)
    check_none(conv_net(), {"x": normal(4, 3, 8, 8)})


def test_a_model_that_cannot_be_differentiated_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise RuntimeError("no adapter")

    monkeypatch.setattr("cerwu_onnx.calibration.adjoint.types.shape_inference.infer_shapes", refuse)
    check_none(conv_net(), {"x": normal(4, 3, 8, 8)})


def test_a_model_without_layers_gives_none() -> None:
    check_none(net([NODE("Neg", ["x"], ["y"])], {"x": normal(2, 2)}), {"x": normal(2, 2)})


def test_nodes_that_cannot_be_told_apart_have_none() -> None:
    nodes = [
        NODE("MatMul", ["x", "w"], ["a"], "same"),
        NODE("MatMul", ["x", "v"], ["b"], "same"),
        NODE("Add", ["a", "b"], ["y"]),
    ]
    graph = analyse(net(nodes, {"x": normal(9, 5)}, {"w": normal(5, 4), "v": normal(5, 4, seed=2)}))
    assert [fisher.layer_node(graph, layer) for layer in graph.layers] == [None, None]
