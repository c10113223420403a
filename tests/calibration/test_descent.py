"""Gradients of the loss at the outputs with respect to a layer, against differences of that loss."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx.calibration import descent, model_inputs, open_source
from cerwu_onnx.calibration.descent import Descent, View
from cerwu_onnx.errors import ModelError
from cerwu_onnx.model.graph import Graph, analyse
from cerwu_onnx.types import FloatArray, Layer

from ..models import conv_net, normal, settled
from .test_adjoint import net
from .test_fisher import CASES, classifier

NODE = helper.make_node
DATA = {"x": normal(40, 3, 8, 8, seed=20)}
NET = settled(conv_net(), DATA)
EYE = np.eye(6, dtype=np.float32)
ROWS = {"x": normal(5, 6, seed=3)}


def follow(
    model: onnx.ModelProto, feeds: object, changed: str | None = None, kind: str = "auto"
) -> tuple[Graph, Descent]:
    """A walk that has changed one weight."""
    graph = analyse(model)
    found = Descent(graph, open_source(feeds, model_inputs(model)), kind)  # type: ignore[arg-type]
    if changed is not None:
        weight = graph.array(changed)
        found.commit({changed: weight + np.float32(0.3 * weight.std()) * normal(*weight.shape, seed=5)})
    return graph, found


def layer_of(graph: Graph, weight: str) -> Layer:
    return next(layer for layer in graph.layers if layer.weight == weight)


def check(view: View, at: dict[str, FloatArray], mean: np.ndarray | None = None) -> None:
    """Along some directions; a bias may take up the mean of the change."""
    layer = view.layer
    for half in (0, 1):
        loss, gradient = view.slope(at, half, mean)
        assert loss == view.loss(at, half)
        assert gradient.shape == (layer.layout.groups, layer.layout.rows, layer.layout.cols)
        assert np.abs(gradient).max() > 0
        for seed in range(3):
            step = 0.003 * at[layer.weight].std() * normal(*gradient.shape, seed=seed).astype(np.float64)

            def moved(sign: int, step: np.ndarray = step) -> dict[str, FloatArray]:
                weight = (at[layer.weight] + sign * layer.layout.to_tensor(step)).astype(np.float32)
                values = {**at, layer.weight: weight}
                if mean is not None:
                    assert layer.bias is not None
                    shift = np.einsum("gmn,gn->gm", step, mean).reshape(at[layer.bias.name].shape)
                    values[layer.bias.name] = (at[layer.bias.name] - sign * shift).astype(np.float32)
                return values

            change = (view.loss(moved(1), half) - view.loss(moved(-1), half)) / 2
            scale = np.linalg.norm(gradient) * np.linalg.norm(step)
            assert change == pytest.approx(float((gradient * step).sum()), abs=0.003 * scale)


@pytest.mark.parametrize("name", [name for name in CASES if name != "transposed convolution"])
def test_gradients_are_differences_of_the_loss(name: str) -> None:
    nodes, feed, tensors, features = CASES[name]
    model = classifier(nodes, feed, tensors, features)
    graph, found = follow(model, [feed, {"x": np.float32(0.5) * feed["x"][::-1]}, feed], "head", "kl")
    view = found.at(layer_of(graph, "w"), ["w"])
    assert view is not None
    check(view, {"w": tensors["w"] + np.float32(0.2) * normal(*tensors["w"].shape, seed=6)})


@pytest.mark.parametrize("kind", ["kl", "mse", "cosine"])
@pytest.mark.parametrize("weight", ["dw.w", "fc.w"])
def test_behind_quantised_layers(weight: str, kind: str) -> None:
    graph, found = follow(NET, DATA, "conv.w", kind)
    view = found.at(layer_of(graph, weight), [weight])
    assert view is not None
    check(view, {weight: graph.array(weight)})


def test_a_bias_takes_up_the_mean() -> None:
    graph, found = follow(NET, DATA, "conv.w", "kl")
    view = found.at(layer_of(graph, "fc.w"), ["fc.w", "fc.b"])
    assert view is not None
    check(view, {name: graph.array(name) for name in ("fc.w", "fc.b")}, mean=np.abs(normal(1, 4, seed=1)))


def test_halves_are_of_different_samples() -> None:
    """What has no error in one half has no loss there."""
    weight = normal(6, 4)
    model = net([NODE("MatMul", ["x", "v"], ["h"]), NODE("MatMul", ["h", "w"], ["y"])], ROWS, {"v": EYE, "w": weight})
    graph, found = follow(model, [ROWS, {"x": np.eye(6, dtype=np.float32)[:2]}])
    found.commit({"v": (EYE + np.diag([0, 0, 0, 0, 0, 1])).astype(np.float32)})
    view = found.at(layer_of(graph, "w"), ["w"])
    assert view is not None
    assert view.loss({"w": weight}, 0) > 0
    assert view.loss({"w": weight}, 1) == 0
    assert not view.slope({"w": weight}, 1, None)[1].any()


def test_where_there_is_nothing_to_follow() -> None:
    graph, found = follow(NET, DATA)
    assert found.at(layer_of(graph, "fc.w"), ["fc.w"]) is None  # nothing has changed yet
    graph, found = follow(NET, [DATA], "conv.w")
    assert found.at(layer_of(graph, "fc.w"), ["fc.w"]) is None  # a single batch


def test_where_gradients_do_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, feed, tensors, features = CASES["transposed convolution"]
    graph, found = follow(classifier(nodes, feed, tensors, features), [feed, feed], "head", "kl")
    assert found.at(layer_of(graph, "w"), ["w"]) is None

    def refuse(*_: object) -> None:
        raise ModelError("no")

    graph, found = follow(NET, DATA, "conv.w")
    monkeypatch.setattr(descent, "adjoint", refuse)
    assert found.at(layer_of(graph, "fc.w"), ["fc.w"]) is None
