"""LSTM, GRU and RNN: what their weights multiply, against cells that are run by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx.calibration import collect, columns, model_inputs, open_source
from cerwu_onnx.model.graph import analyse, get_tensor
from cerwu_onnx.types import Bias, HiddenPatch, Layer, LayerStats, MatMulPatch, Site

from ..models import build, normal, run, value

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
REVERSE = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 6


def recurrent(
    op: str,
    direction: str = "forward",
    *,
    sequence: bool = True,
    initial: str = "",
    lengths: np.ndarray | None = None,
    hidden: int = HIDDEN,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node. ``sequence``: it returns Y, else Y_h alone. ``initial``: "", "input" or "constant"."""
    directions = len(REVERSE[direction])
    rows = GATES[op] * hidden
    tensors = {
        "w": normal(directions, rows, INPUT, seed=1),
        "r": normal(directions, rows, hidden, seed=2) * 0.4,
        "b": normal(directions, 2 * rows, seed=3) * 0.3,
    }
    inputs = [value("x", ["T", "N", INPUT])]
    if initial == "input":
        inputs.append(value("h0", [directions, "N", hidden]))
    elif initial:
        tensors["h0"] = normal(directions, BATCH, hidden, seed=4)
    if lengths is not None:
        tensors["lengths"] = lengths.astype(np.int32)
    names = ["x", "w", "r", "b", "lengths" if lengths is not None else "", "h0" if initial else ""]
    output = value("y", ["T", directions, "N", hidden]) if sequence else value("yh", [directions, "N", hidden])
    node = helper.make_node(
        op, names, ["y" if sequence else "", "yh"], name="cell", hidden_size=hidden, direction=direction, **attributes
    )
    return build([node], inputs, [output], tensors)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@dataclass
class ByHand:
    """The cells of one model, run in float64; what W and R multiply on the way, by direction."""

    model: onnx.ModelProto
    read: dict[str, list[list[np.ndarray]]] = field(default_factory=lambda: {"w": [[], []], "r": [[], []]})

    def run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        """Y: ``(T, directions, B, H)``."""
        (node,) = self.model.graph.node
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        tensors = {t.name: get_tensor(self.model, t.name).astype(np.float64) for t in self.model.graph.initializer}
        x = feed["x"].astype(np.float64)
        h0 = {**tensors, **feed}.get("h0")
        results = []
        for d, reverse in enumerate(REVERSE[attributes["direction"].decode()]):
            hidden = tensors["r"].shape[2]
            h = np.zeros((x.shape[1], hidden)) if h0 is None else h0[d].astype(np.float64)
            c = np.zeros_like(h)
            states = np.zeros((len(x), *h.shape))
            for t in range(len(x))[:: -1 if reverse else 1]:
                self.read["w"][d].append(x[t])
                self.read["r"][d].append(h)
                wx = x[t] @ tensors["w"][d].T + tensors["b"][d, : len(tensors["b"][d]) // 2]
                rh = h @ tensors["r"][d].T + tensors["b"][d, len(tensors["b"][d]) // 2 :]
                h, c = self.step(node.op_type, attributes, wx, rh, h, c, tensors, d)
                states[t] = h
            results.append(states)
        return np.stack(results, axis=1)

    def step(self, op, attributes, wx, rh, h, c, tensors, d) -> tuple[np.ndarray, np.ndarray]:
        if op == "RNN":
            return np.tanh(wx + rh), c
        if op == "LSTM":
            i, o, f, g = np.split(wx + rh, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            return sigmoid(o) * np.tanh(c), c
        (wz, wr, wh), (rz, rr, hidden) = np.split(wx, 3, axis=1), np.split(rh, 3, axis=1)
        z, r = sigmoid(wz + rz), sigmoid(wr + rr)
        if not attributes.get("linear_before_reset", 0):
            rows = slice(2 * h.shape[1], None)
            hidden = (r * h) @ tensors["r"][d, rows].T + np.split(tensors["b"][d], 6)[5]
            g = np.tanh(wh + hidden)
        else:
            g = np.tanh(wh + r * hidden)
        return (1 - z) * g + z * h, c


def statistics(model: onnx.ModelProto, feed: dict[str, np.ndarray], **options: Any) -> dict[str, LayerStats]:
    return collect(analyse(model), open_source([feed], model_inputs(model)), **options)[0]


def feeds(model: onnx.ModelProto, steps: int = STEPS) -> dict[str, np.ndarray]:
    feed = {"x": normal(steps, BATCH, INPUT, seed=9)}
    if len(model.graph.input) > 1:
        directions = get_tensor(model, "r").shape[0]
        feed["h0"] = normal(directions, BATCH, get_tensor(model, "r").shape[2], seed=8)
    return feed


CASES = [
    (op, direction, initial, sequence)
    for op in GATES
    for direction in REVERSE
    for initial, sequence in [("", True), ("", False), ("input", True), ("input", False)]
]


@pytest.mark.parametrize(("op", "direction", "initial", "sequence"), CASES)
def test_what_the_cells_multiply(op: str, direction: str, initial: str, sequence: bool) -> None:
    options = {"linear_before_reset": 1} if op == "GRU" else {}
    model = recurrent(op, direction, initial=initial, sequence=sequence, **options)
    feed = feeds(model)
    hand = ByHand(model)
    y = hand.run(feed)
    if sequence:  # by hand, the cells are those of onnxruntime
        np.testing.assert_allclose(run(model, feed)[0], y, atol=1e-5)
    stats = statistics(model, feed)
    directions = len(REVERSE[direction])

    (w,) = (layer for layer in analyse(model).layers if layer.weight == "w")
    assert (w.layout.groups, w.layout.rows, w.layout.cols) == (1, directions * GATES[op] * HIDDEN, INPUT)
    x = np.concatenate(hand.read["w"][0])
    assert stats["w"].positions == len(x)
    np.testing.assert_allclose(stats["w"].hessian[0], x.T @ x / len(x), atol=1e-5)
    np.testing.assert_allclose(stats["w"].mean[0], x.mean(axis=0), atol=1e-5)

    # Zero states before the first step add nothing to the sums and are not counted.
    positions = BATCH * (STEPS if initial else STEPS - 1)
    assert stats["r"].positions == positions
    assert stats["r"].hessian.shape == (directions, HIDDEN, HIDDEN)
    for d in range(directions):
        h = np.concatenate(hand.read["r"][d])
        np.testing.assert_allclose(stats["r"].hessian[d], h.T @ h / positions, atol=1e-5)
        np.testing.assert_allclose(stats["r"].mean[d], h.sum(axis=0) / positions, atol=1e-5)


def test_gru_reset_before_the_product() -> None:
    """The hidden gate multiplies r * h; the statistics take h for it."""
    model = recurrent("GRU", linear_before_reset=0)
    feed = feeds(model)
    hand = ByHand(model)
    np.testing.assert_allclose(run(model, feed)[0], hand.run(feed), atol=1e-5)
    h = np.concatenate(hand.read["r"][0])
    stats = statistics(model, feed)["r"]
    np.testing.assert_allclose(stats.hessian[0] * stats.positions, h.T @ h, atol=1e-4)


def test_a_single_step_reads_the_initial_state() -> None:
    """Streaming models keep their state outside: one step at a time."""
    model = recurrent("GRU", initial="input")
    feed = feeds(model, steps=1)
    stats = statistics(model, feed)["r"]
    h = feed["h0"][0].astype(np.float64)
    assert stats.positions == BATCH
    np.testing.assert_allclose(stats.hessian[0], h.T @ h / BATCH, atol=1e-6)


def test_constant_initial_states_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    model = recurrent("RNN", initial="constant")
    (layer,) = (layer for layer in analyse(model).layers if layer.weight == "r")
    assert [site.activation for site in layer.sites] == ["y"]
    assert statistics(model, feeds(model))["r"].positions == BATCH * (STEPS - 1)
    assert not caplog.text


@pytest.mark.parametrize("op", GATES)
def test_steps_beyond_the_end_of_a_sequence_add_nothing_to_r(op: str) -> None:
    """onnxruntime fills Y with zeros there. Forwards, the last state counts although nothing multiplies it."""
    lengths = np.array([5, 2, 4])
    model = recurrent(op, "bidirectional", lengths=lengths)
    feed = feeds(model)
    y = run(model, feed)[0].astype(np.float64)
    stats = statistics(model, feed)["r"]
    forward = np.concatenate([y[: min(n, STEPS - 1), 0, b] for b, n in enumerate(lengths)])
    backward = np.concatenate([y[1:n, 1, b] for b, n in enumerate(lengths)])
    for d, h in enumerate((forward, backward)):
        np.testing.assert_allclose(stats.hessian[d] * stats.positions, h.T @ h, atol=1e-4)


def test_batch_first_states() -> None:
    """Of layout = 1, which onnxruntime does not run."""
    states, first = normal(STEPS, 2, BATCH, HIDDEN), normal(2, BATCH, HIDDEN, seed=1)
    plain, swapped = (HiddenPatch(-1, (2, 1), (False, True), batch_first) for batch_first in (False, True))
    for patch, sequence, initial in [
        (plain, states, first),
        (swapped, states.transpose(2, 0, 1, 3), first.transpose(1, 0, 2)),
    ]:
        for found, expected in [
            (columns(patch, sequence), np.stack([states[:-1, 0], states[1:, 1]])),
            (columns(patch, initial), first),
        ]:
            assert np.array_equal(found, expected.reshape(2, -1, HIDDEN))
    for shape, message in [((2, 3), "3 or 4 axes"), ((5, 1, 3, 6), "of 1 directions, the weight has 2")]:
        with pytest.raises(ValueError, match=message):
            columns(plain, np.zeros(shape, np.float32))
    model = recurrent("LSTM", "bidirectional", layout=1)
    w, r = analyse(model).layers
    assert w.sites[0].patch == MatMulPatch(-1)
    assert r.sites[0].patch == swapped


def test_sites() -> None:
    """The input weight is read like any matrix, and B is its bias; initial states are no layers."""
    graph = analyse(recurrent("LSTM", initial="input"))
    w, r = graph.layers
    assert w.sites == (Site("cell", "LSTM", "x", MatMulPatch(-1)),)
    patch = HiddenPatch(-1, (1, 1))
    assert r.sites == (Site("cell", "LSTM", "y", patch), Site("cell", "LSTM", "h0", patch))
    assert (w.bias, r.bias) == (Bias("b", math.sqrt(2)), None)
    assert [(kept.name, kept.reason) for kept in graph.kept] == [("b", "bias of LSTM 'cell'")]
    assert graph.observed is graph.model


def test_hidden_states_that_the_model_does_not_return() -> None:
    """A copy returns them, under a free name, the same each time."""
    model = recurrent("GRU", sequence=False)
    before = model.SerializeToString(deterministic=True)
    model.graph.node.append(helper.make_node("Identity", ["yh"], ["cell:Y"]))
    graph = analyse(model)
    assert graph.layers[1].sites[0].activation == "cell:Y'"
    assert list(graph.observed.graph.node[0].output) == ["cell:Y'", "yh"]
    assert list(graph.model.graph.node[0].output) == ["", "yh"]
    del model.graph.node[1]
    assert model.SerializeToString(deterministic=True) == before
    nameless = recurrent("GRU", sequence=False)
    nameless.graph.node[0].name = ""
    assert analyse(nameless).layers[1].sites[0].activation == "yh:Y"


BAD = {
    "a recurrent weight has 3 axes, got shape (6, 4)": ({}, "w", (6, 4)),
    "its directions and rows should be (1, 5), got shape (1, 6, 5)": ({}, "r", (1, 6, 5)),
    "its directions and rows should be (2, 6), got shape (1, 6, 4)": ({"direction": "bidirectional"}, "w", (1, 6, 4)),
    "its directions and rows should be (1, 7), got shape (1, 6, 4)": ({"hidden_size": 7}, "w", (1, 6, 4)),
    "unknown direction 'up'": ({"direction": "up"}, "w", (1, 6, 4)),
}


@pytest.mark.parametrize("reason", BAD)
def test_weights_that_do_not_fit_are_kept(reason: str) -> None:
    attributes, name, shape = BAD[reason]
    tensors = {"w": normal(1, 6, 4), "r": normal(1, 6, 6), name: normal(*shape)}
    node = helper.make_node("RNN", ["x", "w", "r"], ["y"], name="cell", **{"hidden_size": 6, **attributes})
    kept = {kept.name: kept.reason for kept in analyse(build([node], [value("x")], [value("y")], tensors)).kept}
    assert kept[name] == f"weight of RNN 'cell': {reason}"


def test_tied_weights_sum_over_nodes() -> None:
    model = recurrent("RNN")
    second = helper.make_node("RNN", ["x2", "w", "r"], ["y2"], name="second", hidden_size=HIDDEN)
    model.graph.node.append(second)
    model.graph.input.append(value("x2", ["T", "N", INPUT]))
    model.graph.output.append(value("y2"))
    layers: tuple[Layer, ...] = analyse(model).layers
    assert [[site.activation for site in layer.sites] for layer in layers] == [["x", "x2"], ["y", "y2"]]
    stats = statistics(model, {**feeds(recurrent("RNN")), "x2": normal(2, BATCH, INPUT)})
    assert stats["r"].positions == BATCH * (STEPS - 1 + 2 - 1)
