"""What noise on a layer's weights says about its worth at the model's outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx.calibration import OutputLoss, model_inputs, noise_sensitivity, open_source, row_fishers, sensitivities
from cerwu_onnx.calibration.sensitivity import FLOOR, SAMPLES
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.model.graph import Graph, analyse

from ..models import build, constant, conv_net, normal, value
from .test_recurrent import feeds, recurrent

NODE = helper.make_node


def measured(model: onnx.ModelProto, feed: dict[str, np.ndarray], variance: float = 1e-4) -> dict[str, float]:
    """Sensitivities of all layers of a model."""
    graph = analyse(model)
    loss, weights = loss_of(graph, feed)
    return noise_sensitivity(loss, weights, dict.fromkeys(weights, variance))


def loss_of(graph: Graph, feed: dict[str, np.ndarray]) -> tuple[OutputLoss, dict[str, np.ndarray]]:
    loss = OutputLoss(graph, open_source([feed], model_inputs(graph.model)))
    return loss, {layer.weight: graph.array(layer.weight) for layer in graph.layers}


def parallel(gain: float, home: str = "initializer") -> onnx.ModelProto:
    """Two matrices that read the same input; the second one's output counts ``gain`` times."""
    tensors = {"a": normal(12, 8, 2, seed=1), "b": normal(12, 8, 2, seed=2)}
    nodes = [
        NODE("MatMul", ["x", "a"], ["u"], "one"),
        NODE("MatMul", ["x", "b"], ["v"], "two"),
        NODE("Mul", ["v", "gain"], ["w"]),
        NODE("Add", ["u", "w"], ["s"]),
        NODE("Reshape", ["s", "shape"], ["y"]),
    ]
    tensors = {name: array.reshape(12, 16) for name, array in tensors.items()}
    shapes = {"gain": np.array(gain, np.float32), "shape": np.array([-1, 4, 4], np.int64)}  # no logits: squared error
    if home == "node":
        nodes = [constant(name, array) for name, array in tensors.items()] + nodes
        tensors = {}
    return build(nodes, [value("x", ["N", 12])], [value("y", ["M", 4, 4])], tensors | shapes)


X = {"x": normal(300, 12, seed=3)}


def test_an_output_that_counts_ten_times_is_a_hundred_times_as_sensitive() -> None:
    found = measured(parallel(10.0), X)
    assert found["b"] / found["a"] == pytest.approx(100, rel=0.2)
    found = measured(parallel(1.0), X)
    assert found["b"] / found["a"] == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("batch", ["N", 4])
def test_samples_from_everywhere_measure_sensitivities(batch: int | str) -> None:
    """The first 256 of 2,000 samples sorted by class were of two classes of ten."""
    model = parallel(1.0)
    model.graph.input[0].CopyFrom(value("x", [batch, 12]))
    where = np.repeat(np.arange(2000, dtype=np.float32)[:, None], 12, axis=1)
    source = open_source({"x": where}, model_inputs(model))
    seen = np.concatenate([feed["x"][:, 0] for feed in OutputLoss(analyse(model), source).feeds])
    assert len(np.unique(seen)) == len(seen) == SAMPLES
    assert np.diff([0, *seen, 2000]).max() <= 80
    few = OutputLoss(analyse(model), open_source({"x": where[:200]}, model_inputs(model))).feeds
    assert np.concatenate([feed["x"][:, 0] for feed in few]).tolist() == [*range(200)]


def test_squared_error_is_what_noise_makes_of_it() -> None:
    """Of a linear model: variance times input energy times outputs, over the energy of the outputs."""
    model = parallel(1.0)
    found = measured(model, X)
    x = X["x"].astype(np.float64)
    _, weights = loss_of(analyse(model), X)
    expected = np.square(x).sum() * 16 / np.square(x @ (weights["a"] + weights["b"]).astype(np.float64)).sum()
    assert found["a"] == pytest.approx(expected, rel=0.2)


def test_constant_nodes_are_as_good_as_initializers() -> None:
    assert measured(parallel(3.0, "node"), X) == pytest.approx(measured(parallel(3.0), X), rel=1e-4)


def test_a_tied_weight_is_moved_wherever_it_is_read() -> None:
    def twice(second: str) -> onnx.ModelProto:
        nodes = [
            NODE("MatMul", ["x", "w"], ["h"], "one"),
            NODE("MatMul", ["h", second], ["y"], "two"),
        ]
        tensors = {"w": normal(6, 6, seed=4), "v": normal(6, 6, seed=4)}
        tensors = {name: tensors[name] for name in {"w", second}}
        return build(nodes, [value("x", ["N", 6])], [value("y", ["N", 6])], tensors)

    x = {"x": normal(200, 6, seed=5)}
    tied, apart = measured(twice("w"), x), measured(twice("v"), x)
    assert set(tied) == {"w"}
    assert tied["w"] > 1.2 * max(apart.values())


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrent_weights_are_felt(op: str) -> None:
    model = recurrent(op, "bidirectional", sequence=False, initial="input")
    found = measured(model, feeds(model))
    assert len(found) == 2  # W and R
    assert all(0 < number < np.inf for number in found.values())


def test_always_positive_finite_and_the_same() -> None:
    model, feed = conv_net(), {"x": normal(20, 3, 8, 8)}
    for variance in (1e-30, 1e-6, 1.0, 1e30):
        found = measured(model, feed, variance)
        assert set(found) == {layer.weight for layer in analyse(model).layers}
        assert all(0 < number < np.inf for number in found.values())
        assert found == measured(model, feed, variance)


def test_a_layer_without_influence_keeps_a_floor() -> None:
    model = parallel(0.0)
    found = measured(model, X)
    squares = {name: np.square(w.astype(np.float64)).mean() for name, w in loss_of(analyse(model), X)[1].items()}
    relative = {name: found[name] * squares[name] for name in found}
    assert relative["b"] == pytest.approx(FLOOR * relative["a"] / 2)  # of the mean


def test_around_a_base_the_first_derivative_cancels() -> None:
    """There the loss has a slope, which noise on one side only would measure."""
    graph = analyse(parallel(1.0))
    loss, weights = loss_of(graph, X)
    base = {name: (w + 0.2 * normal(*w.shape, seed=7)).astype(np.float32) for name, w in weights.items()}
    variance = dict.fromkeys(weights, 1e-4)
    around, alone = noise_sensitivity(loss, weights, variance, base), noise_sensitivity(loss, weights, variance)
    assert around == pytest.approx(alone, rel=0.05)  # the loss is quadratic


def test_no_change_no_loss() -> None:
    graph = analyse(conv_net())
    loss, weights = loss_of(graph, {"x": normal(40, 3, 8, 8)})
    parameters = {name: graph.array(name) for layer in graph.layers for name in layer.parameters}
    assert loss({}) == 0
    assert loss(weights | parameters) == 0
    assert loss({"conv.w": 0 * weights["conv.w"]}) > 0


@pytest.mark.parametrize("ir_version", [3, 8])
def test_models_whose_initializers_are_inputs(ir_version: int) -> None:
    model = conv_net(ir_version)
    assert len(measured(model, {"x": normal(8, 3, 8, 8)})) == 3


def test_losses_of_all_outputs_add_up() -> None:
    """A classification and a regression, each with its own kind of loss."""
    tensors = {"w": normal(12, 10, seed=8), "r": normal(12, 1, seed=9)}
    nodes = [
        NODE("MatMul", ["x", "w"], ["logits"], "classes"),
        NODE("MatMul", ["x", "r"], ["number"], "amount"),
    ]
    outputs = [value("logits", ["N", 10]), value("number", ["N", 1])]
    both = build(nodes, [value("x", ["N", 12])], outputs, tensors)
    graph = analyse(both)
    loss, weights = loss_of(graph, X)
    moved = {name: (w + 0.1 * normal(*w.shape)).astype(np.float32) for name, w in weights.items()}
    parts = [loss({name: moved[name]}) for name in weights]
    assert loss(moved) == pytest.approx(sum(parts), rel=1e-5)
    assert all(part > 0 for part in parts)


def test_data_that_does_not_fit_is_refused() -> None:
    graph = analyse(parallel(1.0))
    with pytest.raises(CalibrationError):
        loss_of(graph, {"x": np.full((4, 12), np.nan, np.float32)})


def test_moments_say_what_noise_says() -> None:
    """At outputs that are not classes there is no temperature, and rows of a matrix product are independent."""
    model, graph = parallel(10.0), analyse(parallel(10.0))
    source = open_source([X], model_inputs(model))
    loss, weights = loss_of(graph, X)
    variance = dict.fromkeys(weights, 1e-4)
    curvatures = row_fishers(graph, OutputLoss(graph, source))
    assert set(curvatures) == set(weights)
    by_moments = sensitivities(loss, weights, variance, curvatures)
    by_noise = noise_sensitivity(loss, weights, variance, repeats=20)
    for name in weights:
        assert by_moments[name] == pytest.approx(by_noise[name], rel=0.3)


def test_noise_sets_the_level() -> None:
    """Gradients say how layers stand to each other; a factor that all have in common, of a temperature say, does not
    count."""
    model, graph = parallel(10.0), analyse(parallel(10.0))
    loss, weights = loss_of(graph, X)
    variance = dict.fromkeys(weights, 1e-4)
    curvatures = row_fishers(graph, OutputLoss(graph, open_source([X], model_inputs(model))))
    steep = {
        name: replace(one, rows=100 * one.rows, energy=100 * (one.energy or 0.0)) for name, one in curvatures.items()
    }
    expected = sensitivities(loss, weights, variance, curvatures)
    assert sensitivities(loss, weights, variance, steep) == pytest.approx(expected)


def test_layers_without_gradients_are_measured_by_noise() -> None:
    model = recurrent("GRU")
    graph, feed = analyse(model), feeds(model)
    loss, weights = loss_of(graph, feed)
    variance = dict.fromkeys(weights, 1e-4)
    assert sensitivities(loss, weights, variance, {}) == noise_sensitivity(loss, weights, variance)


def test_positions_that_see_the_same_add_up() -> None:
    """Behind a global average, errors at pixels of equal inputs count together: their number times more."""
    nodes = [
        NODE("Conv", ["x", "w"], ["u"], "conv"),
        NODE("GlobalAveragePool", ["u"], ["v"]),
        NODE("Reshape", ["v", "shape"], ["y"]),
    ]
    tensors = {"w": normal(4, 3, 1, 1, seed=5), "shape": np.array([-1, 2, 2], np.int64)}
    model = build(nodes, [value("x", ["N", 3, 8, 8])], [value("y", ["M", 2, 2])], tensors)
    energies = []
    for flat in (True, False):
        x = normal(200, 3, 8, 8, seed=6)
        x[:] = x[:, :, :1, :1] if flat else x
        graph = analyse(model)
        curvature = row_fishers(graph, OutputLoss(graph, open_source([{"x": x}], model_inputs(model)), "mse"))["w"]
        apart = float(np.einsum("gmm->", np.sum(curvature.fishers, axis=0))) * 3  # tr H is that of 3 unit variances
        assert curvature.energy is not None
        energies.append(curvature.energy / apart)
    assert energies[0] == pytest.approx(64, rel=0.3)
    assert energies[1] == pytest.approx(1, rel=0.3)
