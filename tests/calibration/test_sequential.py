"""Sequential calibration against two full models with everything exposed, and what it keeps meanwhile."""

from __future__ import annotations

import importlib
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from cerwu_onnx.calibration import collect, columns, model_inputs, open_source, walk
from cerwu_onnx.calibration.compared import compared_values
from cerwu_onnx.calibration.segments import Nodes, value_type
from cerwu_onnx.calibration.spill import Batches, Spill
from cerwu_onnx.calibration.sums import FEW, Sums, pair_stats
from cerwu_onnx.errors import CalibrationError, ModelError, UsageError
from cerwu_onnx.model.graph import Graph, analyse, get_tensor, load_model, with_tensors
from cerwu_onnx.model.sites import with_hidden_states
from cerwu_onnx.model.tensors import constant_tensors
from cerwu_onnx.quantize.crossval import repaired
from cerwu_onnx.types import ConvPatch, HiddenPatch, Layer, MatMulPatch, PairStats, Residual, Site

from ..models import build, constant, conv_net, normal, random_models, run, value

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "models"
SAMPLES = ROOT / "sample_models"
sequential = importlib.import_module("cerwu_onnx.calibration.sequential")

Walked = tuple[dict[str, PairStats], dict[str, tuple[list[Any], list[Any]]], dict[str, np.ndarray]]


def shaken(model: onnx.ModelProto, layer: Layer, amount: float = 0.2) -> dict[str, np.ndarray]:
    """A layer's weight and parameters, each a little off; variances stay positive."""
    found = {}
    for name in (layer.weight, *layer.parameters):
        tensor = get_tensor(model, name)
        noise = np.random.default_rng(len(name)).uniform(-amount, amount, tensor.shape)
        found[name] = (tensor * (1 + noise)).astype(np.float32)
    return found


def walked(model: onnx.ModelProto, data: Any, *, shake: bool = True, graph: Graph | None = None, **options) -> Walked:
    """Statistics by layer, of all positions unless told otherwise, outputs, and all that was committed."""
    graph, options = graph or analyse(model), {"enough": 1 << 30, **options}
    stats, outputs, committed = {}, {}, {}
    for step in walk(graph, open_source(data, model_inputs(model)), **options):
        assert not (step.layers and step.outputs)
        stats |= step.stats
        for layer in step.layers:
            if shake:
                values = shaken(model, layer)
                step.commit(values)
                committed |= values
        outputs |= {name: (list(x), list(y)) for name, (x, y) in step.outputs.items()}
    assert sorted(stats) == sorted(layer.weight for layer in graph.layers)
    assert list(outputs) == compared_values(model)
    return stats, outputs, committed


def exposed(model: onnx.ModelProto, names: list[str], feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    wanted = [name for name in dict.fromkeys(names) if name not in feed]
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    return {**feed, **(dict(zip(wanted, run(shown, feed), strict=True)) if wanted else {})}


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * (np.abs(theirs).max(initial=0) + 1e-12))


def check_brute_force(
    model: onnx.ModelProto,
    feed: dict[str, np.ndarray],
    sites: dict[str, list[int]] | None = None,
    tolerance: float = 1e-5,
    data: Any = None,
    **options,
) -> dict[str, PairStats]:
    """Walk, with commits, and compare with the two complete models.

    ``sites`` says which sites of a layer count, all by default; ``data`` how the feed is given.
    A recurrence weight sees states that it computes itself, before its own commit.
    """
    graph = analyse(model)
    stats, outputs, committed = walked(model, data or feed, **options)
    other = with_tensors(model, committed)
    names = [site.activation for layer in graph.layers for site in layer.sites] + list(outputs)
    values, whole = exposed(graph.observed, names, feed), exposed(with_hidden_states(other), names, feed)
    for layer in graph.layers:
        changed = whole
        if any(isinstance(site.patch, HiddenPatch) for site in layer.sites):
            own = {name: get_tensor(model, name) for name in (layer.weight, *layer.parameters)}
            changed = exposed(with_hidden_states(with_tensors(other, own)), names, feed)
        ours = stats[layer.weight]
        chosen = [layer.sites[i] for i in (sites or {}).get(layer.weight, range(len(layer.sites)))]
        x = np.concatenate([columns(s.patch, values[s.activation]).astype(np.float64) for s in chosen], axis=1)
        y = np.concatenate([columns(s.patch, changed[s.activation]).astype(np.float64) for s in chosen], axis=1)
        positions = x.shape[1]
        assert ours.positions == positions
        close(ours.hessian, y.swapaxes(1, 2) @ y / positions, tolerance)
        scale = np.sqrt(np.abs(ours.hessian).max()) * tolerance
        np.testing.assert_allclose(ours.mean, y.mean(axis=1), atol=scale)
        if ours.missing is None or ours.cross is not ours.hessian:
            assert layer.residual is not None or ours.missing is None
            close(ours.cross, x.swapaxes(1, 2) @ y / positions, tolerance)
            np.testing.assert_allclose(ours.float_mean, x.mean(axis=1), atol=scale)
        elif layer.residual is None:
            assert 2 * layer.layout.rows < layer.layout.cols
            assert ours.cross is ours.hessian
            assert ours.float_mean is ours.mean
            matrix = layer.layout.to_matrix(graph.array(layer.weight)).astype(np.float64)
            missed = (x - y) @ matrix.swapaxes(1, 2)
            loud = np.abs(matrix).sum() * np.sqrt(np.abs(ours.hessian).max())
            np.testing.assert_allclose(ours.missing, missed.swapaxes(1, 2) @ y / positions, atol=loud * scale)
            np.testing.assert_allclose(ours.missing_mean, missed.mean(axis=1), atol=loud * tolerance)
    for name, (floats, quantized) in outputs.items():
        close(np.concatenate(floats), values[name], 1e-4)
        close(np.concatenate(quantized), whole[name], 1e-4)
    return stats


def check_like_collect(model: onnx.ModelProto, data: Any, tolerance: float = 1e-5, **options) -> None:
    """Walk without commits: one model, whose statistics are those of ``collect``."""
    expected, _ = collect(analyse(model), open_source(data, model_inputs(model)), **options)
    stats, outputs, _ = walked(model, data, shake=False, **options)
    for name, theirs in expected.items():
        assert stats[name].positions == theirs.positions
        assert stats[name].cross is stats[name].hessian
        assert stats[name].float_mean is stats[name].mean
        close(stats[name].hessian, theirs.hessian, tolerance)
        np.testing.assert_allclose(
            stats[name].mean, theirs.mean, rtol=0, atol=tolerance * np.sqrt(np.abs(theirs.hessian).max())
        )
    for floats, quantized in outputs.values():
        for x, y in zip(floats, quantized, strict=True):
            assert np.array_equal(x, y)


def residual_net(batch: int | str = "N") -> onnx.ModelProto:
    """Conv - Relu - (Conv 3x3 - Conv 3x3 | Conv 1x1) - Add - two heads, one of them at an early activation."""
    tensors = {
        "stem": normal(4, 3, 3, 3, seed=1),
        "stem.b": normal(4, seed=2),
        "one": normal(6, 4, 3, 3, seed=3),
        "two": normal(6, 6, 3, 3, seed=4),
        "skip": normal(6, 4, 1, 1, seed=5),
        "fc": normal(6, 5, seed=6),
        "head": normal(4, 2, seed=7),
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem", "stem.b"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "one"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "two"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "skip"], ["f"], strides=[2, 2]),
        helper.make_node("Add", ["e", "f"], ["g"]),
        helper.make_node("ReduceMean", ["g"], ["h"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["h", "fc"], ["i"]),
        helper.make_node("Sigmoid", ["i"], ["y"]),
        helper.make_node("ReduceMean", ["b"], ["early"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["early", "head"], ["z"]),
    ]
    outputs = [value("y", [batch, 5]), value("z", [batch, 2])]
    return build(nodes, [value("x", [batch, 3, 8, 8])], outputs, tensors)


def attention_net() -> onnx.ModelProto:
    """Q, K and V read the same; two inputs; the shape is computed; a scale comes from constants alone."""
    tensors = {
        "in": normal(3, 4, seed=1),
        "q": normal(4, 4, seed=2),
        "k": normal(4, 4, seed=3),
        "v": normal(4, 6, seed=4),
        "out": normal(6, 2, seed=5),
        "root": np.float32([4.0]),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "in"], ["h"]),
        helper.make_node("Add", ["h", "pos"], ["e"]),
        helper.make_node("MatMul", ["e", "q"], ["qe"]),
        helper.make_node("MatMul", ["e", "k"], ["ke"]),
        helper.make_node("MatMul", ["e", "v"], ["ve"]),
        helper.make_node("Transpose", ["ke"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["qe", "kt"], ["s"]),
        helper.make_node("Sqrt", ["root"], ["scale"]),
        helper.make_node("Div", ["s", "scale"], ["t"]),
        helper.make_node("Sigmoid", ["t"], ["p"]),
        helper.make_node("MatMul", ["p", "ve"], ["m"]),
        helper.make_node("Shape", ["ve"], ["dims"]),
        helper.make_node("Reshape", ["m", "dims"], ["r"]),
        helper.make_node("Div", ["r", "scale"], ["u"]),
        helper.make_node("MatMul", ["u", "out"], ["y"]),
    ]
    inputs = [value("x", ["N", "T", 3]), value("pos", ["N", "T", 4])]
    return build(nodes, inputs, [value("y", ["N", "T", 2])], tensors)


def pairs(n: int = 7) -> dict[str, np.ndarray]:
    return {"x": normal(n, 5, 3, seed=11), "pos": normal(n, 5, 4, seed=12)}


@pytest.mark.parametrize("ir_version", [3, 8])
def test_conv_net(ir_version: int) -> None:
    feed = {"x": normal(7, 3, 8, 8)}
    check_like_collect(conv_net(ir_version), feed)
    check_brute_force(conv_net(ir_version), feed, batch_size=3)


def test_branches_and_residuals() -> None:
    feed = {"x": normal(7, 3, 8, 8)}
    check_like_collect(residual_net(), feed)
    check_brute_force(residual_net(), feed, batch_size=2)


def test_what_the_residual_misses() -> None:
    """By hand: a stream whose own weight is not yet quantised, then one that holds only quantised ones.

    The first layer has few rows: what its own outputs miss is in the same sum.
    """
    model, feed = residual_net(), {"x": normal(7, 3, 8, 8)}
    stats, _, committed = walked(model, feed, batch_size=2)
    residuals = {layer.weight: layer.residual for layer in analyse(model).layers if layer.residual is not None}
    assert {weight: residual.stream for weight, residual in residuals.items()} == {"two": "f", "skip": "e"}
    for weight, activation, known in (("two", "d", "stem stem.b one"), ("skip", "b", "stem stem.b one two")):
        stream, fresh = residuals[weight].stream, {name: committed[name] for name in known.split()}
        floats, quantized = (exposed(m, [stream, activation], feed) for m in (model, with_tensors(model, fresh)))
        (layer,) = (layer for layer in analyse(model).layers if layer.weight == weight)
        wanted, x = (
            columns(layer.sites[0].patch, each[activation])[0].astype(np.float64) for each in (floats, quantized)
        )
        missing = (floats[stream] - quantized[stream]).transpose(0, 2, 3, 1).reshape(len(x), -1).astype(np.float64)
        assert (stats[weight].cross is stats[weight].hessian) == (weight == "two")
        if weight == "two":
            missing += (wanted - x) @ layer.layout.to_matrix(get_tensor(model, weight).astype(np.float64))[0].T
        close(stats[weight].missing[0], missing.T @ x / len(x))
        close(stats[weight].missing_mean[0], missing.mean(axis=0))
    layouts = {layer.weight: layer.layout for layer in analyse(model).layers}
    for name, found in stats.items():
        few = name != "stem" and 2 * layouts[name].rows < layouts[name].cols  # the stem sees one model
        assert name in residuals or (found.missing is not None) == few


@pytest.mark.parametrize("size", [1.0, 1e22])
@pytest.mark.parametrize("with_stream", [False, True])
def test_what_few_rows_miss_is_what_products_of_inputs_say(size: float, with_stream: bool) -> None:
    """Of two groups, a share of the means taken out; large values, whose squares are beyond single precision, too."""
    conv = ConvPatch(2, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    weight, residual = normal(2, 3, 18, seed=1), Residual("s", ConvPatch(2, (1, 1), (1, 1), (1, 1), (0,) * 4))
    x, noise, stream = size * normal(3, 4, 6, 6), normal(3, 4, 6, 6, seed=2), size * normal(3, 6, 6, 6, seed=3)
    found = []
    for matrix in (weight, None):
        sums = Sums("x", conv, "w", (2, 18), residual=residual if with_stream else None, rows=3, weight=matrix)
        sums.add(x, (x * (1 + noise / 8)).astype(np.float32), stream, 0.9 * stream if with_stream else stream)
        found.append(pair_stats([[sums]], apart=False, taken=0.8))
    ours, theirs = found
    assert ours.cross is ours.hessian
    assert (theirs.missing is None) == (not with_stream)
    wide = weight.astype(np.float64)
    close(repaired(wide, ours, 0.1), repaired(wide, theirs, 0.1), 1e-4)
    means = [wide @ one.float_mean[:, :, None] for one in found]
    means = [
        mean[:, :, 0] + (0 if one.missing_mean is None else one.missing_mean)
        for mean, one in zip(means, found, strict=True)
    ]
    close(*means, 1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_few_rows_see_what_only_the_float_model_has(bad: float) -> None:
    sums = Sums("x", MatMulPatch(-1, ()), "w", (1, 6), rows=2, weight=normal(1, 2, 6))
    x = normal(9, 6)
    x[3, 4] = bad
    with pytest.raises(CalibrationError, match="the input 'x' of layer 'w' holds"):
        sums.add(x, normal(9, 6, seed=1))


@pytest.mark.parametrize("shape", [["N", 1, 8, 8], [1, 4, 8, 8], ["N", 4, 1, 1]])
def test_a_residual_of_another_shape_counts_for_nothing(shape: list[Any]) -> None:
    tensors = {"w": normal(4, 3, 1, 1), "v": normal(4, 4, 1, 1, seed=1)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Tanh", ["s"], ["t"]),
        helper.make_node("Conv", ["a", "v"], ["b"]),
        helper.make_node("Add", ["t", "b"], ["y"]),
    ]
    model = build(nodes, [value("x", ["N", 3, 8, 8]), value("s", shape)], [value("y")], tensors)
    graph = analyse(model)
    assert graph.layers[1].residual is not None
    sums = Sums("a", graph.layers[1].sites[0].patch, "v", (1, 4), residual=graph.layers[1].residual, rows=4)
    x, stream = normal(3, 4, 8, 8), normal(*(3 if axis == "N" else axis for axis in shape))
    sums.add(x, 2 * x, stream, 2 * stream)
    assert sums.names == ["a"]
    assert not sums.missing
    assert pair_stats([[sums]], apart=False).missing is None


def test_means_taken_out() -> None:
    """Hessians of what is left when a share of the mean is taken away; for each fold, of its own mean."""
    feed = {"x": normal(8, 3, 8, 8) + 1}
    whole, _, _ = walked(residual_net(), feed, batch_size=2, folds=2)
    part, _, _ = walked(residual_net(), feed, batch_size=2, folds=2, taken=lambda _: 0.8)
    both = [(whole[name], part[name]) for name in whole]
    both += [pair for a, b in both for pair in zip(a.folds, b.folds, strict=True)]
    assert len(both) == 3 * len(whole)
    for a, b in both:
        assert (a.taken, b.taken) == (0, 0.8)
        outer = a.mean[:, :, None] * a.mean[:, None, :]
        close(b.hessian, a.hessian - 0.8 * outer)
        close(b.cross, a.cross - 0.8 * a.float_mean[:, :, None] * a.mean[:, None, :])
        assert a.left == 1
        assert b.left == pytest.approx(np.trace(b.hessian[0]) / np.trace(a.hessian[0]))
        if a.missing is not None:
            close(b.missing, a.missing - 0.8 * a.missing_mean[:, :, None] * a.mean[:, None, :])
    shared, _, _ = walked(attention_net(), pairs(), taken=lambda layer: 0.5 * (layer.weight != "k"))
    assert [shared[name].taken for name in "qkv"] == [0, 0, 0]


def test_fixed_batch_of_one() -> None:
    feed = {"x": normal(5, 3, 8, 8)}
    check_like_collect(residual_net(1), feed)
    alike, _, _ = walked(residual_net(1), feed)
    for name, stats in walked(residual_net(), feed)[0].items():
        close(alike[name].hessian, stats.hessian)
        close(alike[name].cross, stats.cross)
        assert (alike[name].missing is None) == (stats.missing is None)
        if stats.missing is not None:
            close(alike[name].missing, stats.missing)


def test_several_inputs_and_layers_that_read_the_same() -> None:
    model = attention_net()
    check_like_collect(model, pairs())
    stats = check_brute_force(model, pairs(), batch_size=2)
    assert stats["q"] is stats["k"] is stats["v"]
    steps = [
        [layer.weight for layer in step.layers]
        for step in walk(analyse(model), open_source(pairs(), model_inputs(model)))
    ]
    assert steps == [["in"], ["q", "k", "v"], ["out"], []]


@given(random_models(), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_random_models(model: onnx.ModelProto, seed: int) -> None:
    width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    feed = {"x": np.random.default_rng(seed).standard_normal((2, width)).astype(np.float32)}
    check_like_collect(model, feed)
    check_brute_force(model, feed)


def test_a_part_of_the_positions_suffices() -> None:
    """A third of them, of every batch, the same of either model: the Hessians come close, what is exact stays so."""
    generator = np.random.default_rng(0)
    weights = {"w": generator.normal(size=(4, 2, 3, 3)), "v": generator.normal(size=(2, 4, 1, 1))}
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Conv", ["a", "v"], ["y"])]
    model = build(
        nodes,
        [value("x", ["N", 2, 18, 18])],
        [value("y")],
        {name: array.astype(np.float32) for name, array in weights.items()},
    )
    feed = {"x": generator.normal(size=(40, 2, 18, 18)).astype(np.float32)}
    whole = walked(model, feed, batch_size=8)[0]
    enough = 40 * 16 * 16 // 3 // FEW
    part = walked(model, feed, batch_size=8, enough=enough)[0]
    for name, stats in part.items():
        assert whole[name].positions / 3 <= stats.positions <= whole[name].positions / 1.9
        assert np.abs(stats.hessian - whole[name].hessian).max() < 0.1 * whole[name].hessian.max()
    again = walked(model, feed, batch_size=8, enough=enough)[0]
    np.testing.assert_array_equal(again["v"].cross, part["v"].cross)
    assert not np.array_equal(part["v"].cross, part["v"].hessian)


def test_the_first_layer_sees_one_model() -> None:
    feed = {"x": normal(4, 3, 8, 8)}
    stats, _, _ = walked(residual_net(), feed)
    assert stats["stem"].cross is stats["stem"].hessian
    assert stats["stem"].missing is None
    assert stats["one"].missing is not None


def test_batches_of_unequal_sizes_and_shapes() -> None:
    feeds = [{"x": normal(n, t, 3, seed=n), "pos": normal(n, t, 4, seed=t)} for n, t in [(2, 5), (1, 3), (4, 7)]]
    model = attention_net()
    stats, outputs, committed = walked(model, feeds)
    assert [x.shape for x in outputs["y"][0]] == [(2, 5, 2), (1, 3, 2), (4, 7, 2)]
    other = with_tensors(model, committed)
    for batch, feed in enumerate(feeds):
        close(outputs["y"][0][batch], run(model, feed)[0])
        close(outputs["y"][1][batch], run(other, feed)[0])
    assert stats["in"].positions == 10 + 3 + 28


def test_a_feed_may_be_reused_by_its_owner() -> None:
    def feeds() -> Iterator[np.ndarray]:
        buffer = np.zeros((2, 3), np.float32)
        for index in range(3):
            buffer[:] = index
            yield buffer

    model = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", ["N", 3])], [value("y")], {"w": normal(3, 2)}
    )
    stats, _, _ = walked(model, feeds)
    np.testing.assert_allclose(stats["w"].mean, 1)


class Empty:
    """A source without feeds."""

    samples = 0

    def first(self) -> dict[str, np.ndarray]:
        raise AssertionError

    def batches(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        return iter(())

    def count(self, feed: dict[str, np.ndarray]) -> int:
        raise AssertionError


def count_runs(monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], Callable[[], int]]:
    """How often each value is computed per batch, by the models that the walk opens; and the number of runs."""
    computed: Counter[str] = Counter()
    runs = [0]
    opened, ran = sequential.open_session, sequential.run_session

    def opens(model: onnx.ModelProto, *rest: Any) -> Any:
        computed.update(out for node in model.graph.node for out in node.output)
        return opened(model, *rest)

    def runs_it(*arguments: Any) -> Any:
        runs[0] += 1
        return ran(*arguments)

    monkeypatch.setattr(sequential, "open_session", opens)
    monkeypatch.setattr(sequential, "run_session", runs_it)
    return computed, lambda: runs[0]


@pytest.mark.parametrize("shake", [False, True])
def test_every_node_runs_once_per_model(monkeypatch: pytest.MonkeyPatch, *, shake: bool) -> None:
    computed, _ = count_runs(monkeypatch)
    model = residual_net()
    walked(model, {"x": normal(4, 3, 8, 8)}, shake=shake, batch_size=2)
    times = {"f": 2}  # what is added to the outputs of "two" runs for that, and again with its own new weight
    assert computed == {out: times.get(out, 1) * (1 + shake) for node in model.graph.node for out in node.output}


def test_what_no_commit_reaches_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tower behind the other input stays shared; equal values are no change; fixed nodes are copied."""
    computed, runs = count_runs(monkeypatch)
    model = attention_net()
    for step in walk(analyse(model), open_source(pairs(4), model_inputs(model)), batch_size=2):
        for layer in step.layers:
            same = {layer.weight: get_tensor(model, layer.weight)}
            step.commit(shaken(model, layer) if layer.weight == "v" else same)
    twice = {"ve", "m", "dims", "r", "u", "y"}
    assert {name for name, number in computed.items() if number > 1} == twice | {"scale"}
    assert max(computed[name] for name in twice) == 2
    assert runs() == 2 * (1 + 3 + 2)  # per batch: h and e; p and both m ... u; both y


def test_a_weight_in_two_places() -> None:
    """Both sites count if both can be reached, as in a Siamese network; else the first."""
    siamese = build(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "v"], ["c"]),
            helper.make_node("MatMul", ["z", "w"], ["d"]),
            helper.make_node("Relu", ["d"], ["e"]),
            helper.make_node("MatMul", ["e", "v"], ["f"]),
            helper.make_node("Sub", ["c", "f"], ["y"]),
        ],
        [value("x", ["N", 3]), value("z", ["N", 3])],
        [value("y")],
        {"w": normal(3, 4, seed=1), "v": normal(4, 2, seed=2)},
    )
    feed = {"x": normal(6, 3, seed=3), "z": normal(6, 3, seed=4)}
    check_like_collect(siamese, feed)
    assert check_brute_force(siamese, feed, batch_size=4)["v"].positions == 12
    recurrent = build(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Tanh", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w"], ["y"]),
        ],
        [value("x", ["N", 3])],
        [value("y")],
        {"w": normal(3, 3)},
    )
    check_brute_force(recurrent, {"x": normal(5, 3, seed=1)}, {"w": [0]})


def test_one_site_shared_and_one_changed() -> None:
    """Sums over x x~^T mix sites on which the models agree with others."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "v"], ["b"]),
        helper.make_node("MatMul", ["x", "v"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    tensors = {"w": normal(3, 3, seed=1), "v": normal(3, 3, seed=2)}
    model = build(nodes, [value("x", ["N", 3])], [value("y")], tensors)
    check_brute_force(model, {"x": normal(5, 3, seed=3)})


@st.composite
def random_dags(draw: st.DrawFn) -> onnx.ModelProto:
    """Products, sums and activations of earlier values, in any order, some of which nobody reads; several outputs."""
    values, nodes, tensors = ["x", "z"], [], {"offset": normal(4)}
    nodes.append(helper.make_node("Abs", ["offset"], ["fixed"]))
    for index in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["MatMul", "MatMul", "Gemm", "Add", "Relu", "Mul", "Split"]))
        first, second = (draw(st.sampled_from(values)) for _ in range(2))
        out = f"t{index}"
        if kind in ("MatMul", "Gemm"):
            tensors[f"w{index}"] = normal(4, 4, seed=index) / np.float32(2)
            nodes.append(helper.make_node(kind, [first, f"w{index}"], [out]))
        elif kind == "Add":
            nodes.append(helper.make_node(kind, [first, second], [out]))
        elif kind == "Mul":
            nodes.append(helper.make_node(kind, [first, "fixed"], [out]))
        elif kind == "Relu":
            nodes.append(helper.make_node(kind, [first], [out]))
        else:
            nodes.append(helper.make_node(kind, [first], [f"{out}a", f"{out}b"], axis=1))
            nodes.append(helper.make_node("Concat", [f"{out}b", f"{out}a"], [out], axis=1))
        values.append(out)
    outputs = draw(st.lists(st.sampled_from(values[2:]), min_size=1, max_size=3, unique=True))
    return build(nodes, [value("x", ["N", 4]), value("z", ["N", 4])], [value(name) for name in outputs], tensors)


@given(random_dags(), st.sampled_from([0, 100, 10_000]), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_random_dags(model: onnx.ModelProto, memory: int, batch_size: int) -> None:
    feed = {"x": normal(5, 4, seed=1), "z": normal(5, 4, seed=2)}
    check_like_collect(model, feed, memory=memory, batch_size=batch_size)
    with pytest.MonkeyPatch.context() as patch:
        computed, _ = count_runs(patch)
        check_brute_force(model, feed, memory=memory, batch_size=batch_size)
    more = sum(
        layer.residual is not None for layer in analyse(model).layers
    )  # what is added to one runs for it as well
    assert max((number for name, number in computed.items() if name != "fixed"), default=0) <= 2 + 2 * more


def recurrent_net() -> onnx.ModelProto:
    """Two bidirectional LSTMs: the first one's states are read, of the second only the last; R stands before W."""
    rng = np.random.default_rng(5)
    shapes = {"r1": (2, 12, 3), "w1": (2, 12, 4), "b1": (2, 24), "r2": (2, 8, 2), "w2": (2, 8, 6), "fc": (2, 5)}
    tensors = {name: (0.5 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    tensors["flat"] = np.array([0, 0, -1])
    nodes = [
        helper.make_node(
            "LSTM", ["x", "w1", "r1", "b1", "", "start"], ["y1"], hidden_size=3, direction="bidirectional", name="one"
        ),
        helper.make_node("Transpose", ["y1"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "flat"], ["s"]),
        helper.make_node("LSTM", ["s", "w2", "r2"], ["", "h"], hidden_size=2, direction="bidirectional", name="two"),
        helper.make_node("ReduceSum", ["h", "axis"], ["m"], keepdims=0),
        helper.make_node("MatMul", ["m", "fc"], ["y"]),
    ]
    tensors["axis"] = np.array([0])
    return build(nodes, [value("x", [7, "N", 4]), value("start", [2, "N", 3])], [value("y")], tensors)


def test_recurrent_nodes_run_once_more_for_their_states(monkeypatch: pytest.MonkeyPatch) -> None:
    model = recurrent_net()
    feeds = [{"x": normal(7, 3, 4, seed=1), "start": normal(2, 3, 3, seed=2)}]
    check_like_collect(model, feeds)
    computed, _ = count_runs(monkeypatch)
    stats = check_brute_force(model, feeds[0], data=feeds, batch_size=1)
    assert set(stats) == {"r1", "w1", "r2", "w2", "fc"}
    assert stats["r1"].positions == 3 * 6 + 3
    assert stats["r1"].cross is not stats["r1"].hessian  # w1 has changed
    assert {computed["y1"], computed["h"]} == {4}
    assert max(computed[name] for name in ("t", "s", "m", "y")) == 2


def branching(kind: str) -> onnx.ModelProto:
    """An If or Loop whose body reads an activation and a constant of the main graph."""
    body_nodes = [helper.make_node("Mul", ["a", "gain"], ["m"])]
    tensors = {"w": normal(3, 4, seed=1), "v": normal(4, 2, seed=2), "gain": normal(4, seed=3)}
    if kind == "If":
        other = helper.make_graph([helper.make_node("Identity", ["a"], ["n"])], "else", [], [value("n")])
        body = helper.make_graph(body_nodes, "then", [], [value("m")])
        tensors["cond"] = np.array(True)
        node = helper.make_node("If", ["cond"], ["b"], then_branch=body, else_branch=other)
    else:
        body = helper.make_graph(
            [*body_nodes, helper.make_node("Add", ["s", "m"], ["t"]), helper.make_node("Identity", ["c"], ["d"])],
            "body",
            [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("s")],
            [value("d", [], TensorProto.BOOL), value("t")],
        )
        tensors |= {"trips": np.array(3), "cond": np.array(True)}
        node = helper.make_node("Loop", ["trips", "cond", "a"], ["b"], body=body)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "u"], ["e"]),
        node,
        helper.make_node("Add", ["b", "e"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    tensors["u"] = normal(4, 4, seed=4)
    return build(nodes, [value("x", ["N", 3])], [value("y")], tensors)


@pytest.mark.parametrize("kind", ["If", "Loop"])
def test_bodies_read_what_surrounds_them(kind: str) -> None:
    model = branching(kind)
    check_like_collect(model, {"x": normal(5, 3)})
    check_brute_force(model, {"x": normal(5, 3)}, batch_size=2)


def test_what_is_random_is_not_fixed() -> None:
    """A node that reads constants alone is part of each segment that needs it, unless it would differ there."""
    nodes = [
        helper.make_node("Neg", ["g"], ["fixed"]),
        helper.make_node("RandomNormal", [], ["noise"], shape=[4]),
        helper.make_node("RandomUniformLike", ["g"], ["more"]),
        helper.make_node("Neg", ["noise"], ["behind"]),
    ]
    found = Nodes(build(nodes, [value("x", [1])], [value("behind")], {"g": normal(4)}))
    assert found.fixed == {0}
    assert found.fixed_names == {"g", "fixed"}


def test_local_functions_sequences_and_strings() -> None:
    """A sequence and a string tensor are handed from segment to segment."""
    double = helper.make_function(
        "local",
        "Double",
        ["i"],
        ["o"],
        [helper.make_node("Add", ["i", "i"], ["o"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
        helper.make_node("SequenceAt", ["s", "zero"], ["x0"]),
        helper.make_node("MatMul", ["x0", "w"], ["a"]),
        helper.make_node("SequenceAt", ["s", "one"], ["x1"]),
        helper.make_node("Double", ["a"], ["b"], domain="local"),
        helper.make_node("Add", ["b", "x1"], ["c"]),
        helper.make_node("MatMul", ["c", "v"], ["y"]),
        helper.make_node("Identity", ["word"], ["spoken"]),
    ]
    tensors = {"w": normal(3, 3), "v": normal(3, 2), "zero": np.array(0), "one": np.array(1)}
    inputs = [value("x", ["N", 3]), value("word", ["N"], TensorProto.STRING)]
    outputs = [value("y"), value("spoken", ["N"], TensorProto.STRING)]
    model = build(nodes, inputs, outputs, tensors, functions=[double], domains=["local"])
    words = np.array([f"w{i}" for i in range(5)], dtype=object)
    x = normal(5, 3)
    _, found, committed = walked(model, {"x": x, "word": words}, memory=0, batch_size=2)
    assert np.concatenate(found["spoken"][1]).tolist() == words.tolist()
    expected = run(with_tensors(model, committed), {"x": x, "word": words})[0]
    close(np.concatenate(found["y"][1]), expected)


def test_types_of_values() -> None:
    assert value_type("a", "tensor(float16)").tensor_type.elem_type == TensorProto.FLOAT16
    nested = value_type("a", "seq(tensor(double))").sequence_type.elem_type
    assert nested.tensor_type.elem_type == TensorProto.DOUBLE
    with pytest.raises(ModelError, match=r"the value 'a' is of type map\(int64,tensor\(float\)\)"):
        value_type("a", "map(int64,tensor(float))")


def test_outputs_that_are_inputs_constants_or_activations() -> None:
    nodes = [
        constant("k", normal(2)),
        helper.make_node("Exp", ["k"], ["derived"]),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "v"], ["y"]),
        helper.make_node("Identity", ["c"], ["copy"]),
    ]
    tensors = {"w": normal(3, 3), "v": normal(3, 2), "c": normal(2, seed=1)}
    outputs = [value(name) for name in ("y", "a", "derived", "copy", "x")]
    model = build(nodes, [value("x", ["N", 3])], outputs, tensors)
    x = normal(5, 3)
    graph = analyse(model)
    found: dict[str, Any] = {}
    for step in walk(graph, open_source({"x": x}, model_inputs(model)), batch_size=3):
        if step.layers and step.layers[0].weight == "w":
            step.commit({"c": get_tensor(model, "c") + 1})  # any constant that has not been read
        found |= {name: (list(floats), list(quantized)) for name, (floats, quantized) in step.outputs.items()}
    assert list(found) == ["y", "a", "derived", "copy", "x"]
    for name, expected in zip(found, run(model, {"x": x}), strict=True):
        first = 3 if len(expected) == 5 else 2
        close(found[name][0][0], expected[:first])
    np.testing.assert_array_equal(np.concatenate(found["x"][1]), x)
    np.testing.assert_allclose(found["copy"][1][0], tensors["c"] + 1)
    assert found["a"][0][0] is found["a"][1][0]


def test_layers_whose_results_nobody_reads() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
        helper.make_node("Neg", ["r"], ["n"]),
        helper.make_node("MatMul", ["n", "u"], ["b"]),
    ]
    tensors = {"w": normal(3, 2), "v": normal(3, 2), "u": normal(3, 2)}
    model = build(nodes, [value("x", ["N", 3])], [value("y")], tensors)
    check_like_collect(model, {"x": normal(4, 3)})
    check_brute_force(model, {"x": normal(4, 3)})


def test_layers_without_statistics(caplog: pytest.LogCaptureFixture) -> None:
    nodes = [
        helper.make_node("Slice", ["x", "zero", "zero", "zero"], ["none"]),
        helper.make_node("MatMul", ["none", "w"], ["y"]),
        helper.make_node("MatMul", ["x", "v"], ["z"]),
    ]
    tensors = {"w": normal(3, 2), "v": normal(3, 2), "zero": np.array([0])}
    model = build(nodes, [value("x", ["N", 3])], [value("y"), value("z")], tensors)
    with caplog.at_level(logging.WARNING):
        stats, _, _ = walked(model, {"x": normal(4, 3)})
    assert "layer 'w' saw no calibration data" in caplog.text
    assert stats["w"].positions == 0
    assert np.array_equal(stats["w"].hessian[0], np.eye(3))
    caplog.clear()
    graph = analyse(conv_net())
    dense = graph.layers[2]
    # analyse() never builds this; a caller might
    layer = Layer(dense.weight, dense.layout, (Site("fc", "Gemm", "fc.b", MatMulPatch(-1)),))
    with caplog.at_level(logging.WARNING):
        stats, _, _ = walked(conv_net(), {"x": normal(1, 3, 8, 8)}, graph=Graph(graph.model, (layer,), ()))
    assert "reads the constant 'fc.b'" in caplog.text
    assert stats["fc.w"].positions == 0
    assert stats["fc.w"].cross is stats["fc.w"].hessian


@pytest.mark.parametrize("memory", [0, 3000, 12_000])
def test_spilled_and_in_memory_are_the_same(memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spilled = []
    save = np.save
    monkeypatch.setattr(np, "save", lambda path, *rest, **options: (spilled.append(path), save(path, *rest, **options)))
    feed = {"x": normal(7, 3, 8, 8)}
    expected, outputs, _ = walked(residual_net(), feed, batch_size=3)
    assert not spilled
    stats, others, _ = walked(residual_net(), feed, batch_size=3, memory=memory)
    assert spilled
    assert not list(tmp_path.iterdir())
    for name, theirs in expected.items():
        for ours, array in zip(
            (stats[name].hessian, stats[name].cross, stats[name].mean, stats[name].float_mean),
            (theirs.hessian, theirs.cross, theirs.mean, theirs.float_mean),
            strict=True,
        ):
            assert np.array_equal(ours, array)
    for name, streams in outputs.items():
        for ours, theirs in zip(others[name], streams, strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(ours, theirs, strict=True))


def test_files_live_as_long_as_their_activation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = conv_net()
    counts = []
    for step in walk(
        analyse(model), open_source({"x": normal(6, 3, 8, 8)}, model_inputs(model)), batch_size=2, memory=0
    ):
        counts.append(len(list(tmp_path.rglob("*.npy"))))
        for layer in step.layers:
            step.commit(shaken(model, layer))
    assert counts == [3, 6, 6, 6]  # x; then one activation, or the output, in each model, for 3 batches


def test_temporary_files_are_gone_after_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = conv_net()
    source = open_source({"x": normal(6, 3, 8, 8)}, model_inputs(model))

    def broken() -> Iterator[dict[str, np.ndarray]]:
        yield {"x": normal(2, 3, 8, 8)}
        assert list(tmp_path.iterdir())
        yield {"x": normal(3, 3, 8, 8)}
        raise OSError("the disk is gone")

    def consume() -> None:
        for step in walk(analyse(model), source, memory=0):
            assert list(tmp_path.iterdir())
            if "dw.w" in step.stats:
                raise RuntimeError("the quantiser failed")

    with pytest.raises(RuntimeError, match="quantiser"):
        consume()
    assert not list(tmp_path.iterdir())
    with pytest.raises(CalibrationError, match="the disk is gone"):
        walked(model, broken, memory=0)
    assert not list(tmp_path.iterdir())
    steps = walk(analyse(model), source, memory=0)
    next(steps)
    assert list(tmp_path.iterdir())
    steps.close()
    assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(CalibrationError, match=r"No space left on device.*use fewer samples"):
        walked(conv_net(), {"x": normal(6, 3, 8, 8)}, memory=0)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=12), st.integers(0, 400))
@settings(deadline=None, max_examples=30)
def test_spool(operations: list[tuple[int, int]], memory: int) -> None:
    """Values come back as they were, whatever was kept and dropped before."""
    with Spill(memory) as spool:
        kept: list[tuple[Any, np.ndarray]] = []
        for drop, size in operations:
            if drop == 0 and kept:
                spool.drop(kept.pop(0)[0])
            array = normal(*([size] if size % 3 else [size, 2]), seed=size)
            kept.append((spool.put(array), array))
        batches = Batches(spool, [held for held, _ in kept])
        assert len(batches) == len(kept)
        for (held, array), value_ in zip(kept, batches, strict=True):
            assert np.array_equal(spool.get(held), array)
            assert np.array_equal(value_, array)
        assert len(batches[1:]) == max(len(kept) - 1, 0)


def test_progress() -> None:
    model = attention_net()
    seen = []
    walked(model, pairs(), progress=lambda *state: seen.append(state))
    assert seen == [(0, 5), (1, 5), (4, 5), (5, 5)]


def test_samples() -> None:
    model = conv_net()
    steps = walk(analyse(model), open_source({"x": normal(5, 3, 8, 8)}, model_inputs(model)), batch_size=2)
    assert {step.samples for step in steps} == {5}


def test_commits_that_cannot_be() -> None:
    model = conv_net()
    steps = walk(analyse(model), open_source({"x": normal(5, 3, 8, 8)}, model_inputs(model)))
    first = next(steps)
    weight = get_tensor(model, "conv.w")
    with pytest.raises(UsageError, match="no constant tensor 'x'"):
        first.commit({"x": weight})
    with pytest.raises(UsageError, match=r"'conv\.w' of shape \(4, 3, 3, 3\) cannot become float64"):
        first.commit({"conv.w": weight.astype(np.float64)})
    with pytest.raises(UsageError, match=r"cannot become float32 \(4,\)"):
        first.commit({"conv.w": weight[:, 0, 0, 0]})
    with pytest.raises(UsageError, match="'shape'"):
        first.commit({"shape": np.zeros(2, np.float32)})
    first.commit({"conv.w": weight + 1})
    second = next(steps)
    with pytest.raises(UsageError, match=r"nodes that read 'conv\.w' have already run"):
        second.commit({"conv.w": weight + 2})


@pytest.mark.parametrize(("poison", "kind"), [("Log", "NaN"), ("Reciprocal", "infinity")])
def test_nan_and_infinity_name_the_layer(poison: str, kind: str) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["b"]),
        helper.make_node(poison, ["b"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["y"]),
    ]
    tensors = {"v": np.eye(3, dtype=np.float32), "w": normal(3, 2)}
    model = build(nodes, [value("x", ["N", 3])], [value("y")], tensors)
    source = open_source({"x": np.ones((4, 3), np.float32)}, model_inputs(model))
    steps = walk(analyse(model), source)
    broken = np.diag([1, 1, -1 if kind == "NaN" else 0]).astype(np.float32)  # only in the quantised model
    next(steps).commit({"v": broken})
    with pytest.raises(CalibrationError, match=f"the input 'a' of layer 'w' holds {kind} on the calibration data"):
        next(steps)


def test_huge_but_finite_activations() -> None:
    nodes = [helper.make_node("MatMul", ["x", "v"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    tensors = {"v": np.eye(3, dtype=np.float32), "w": normal(3, 2)}
    model = build(nodes, [value("x", ["N", 3])], [value("y")], tensors)
    check_brute_force(model, {"x": (normal(4, 3) * 1e25).astype(np.float32)})


def test_shapes_that_depend_on_the_values() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Greater", ["a", "zero"], ["m"]),
        helper.make_node("NonZero", ["m"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["v", "f"], ["y"]),
    ]
    tensors = {"w": np.ones((2, 2), np.float32), "v": normal(3, 2), "zero": np.float32([0])}
    model = build(nodes, [value("x", ["N", 2])], [value("y")], tensors)
    steps = walk(analyse(model), open_source({"x": np.ones((4, 2), np.float32)}, model_inputs(model)))
    next(steps).commit({"w": -tensors["w"]})
    second, last = steps  # its inputs cannot be paired: those of the float model count as both
    assert second.stats["v"].positions == 8
    assert np.array_equal(second.stats["v"].hessian, second.stats["v"].cross)
    assert list(last.outputs) == ["m"]  # what is before the operator
    assert [[len(batch) for batch in batches] for batches in last.outputs["m"]] == [[4], [4]]


def test_model_and_data_that_do_not_run() -> None:
    nodes = [helper.make_node("Magic", ["x"], ["a"], domain="none"), helper.make_node("MatMul", ["a", "w"], ["y"])]
    model = build(nodes, [value("x", ["N", 3])], [value("y")], {"w": normal(3, 2)}, domains=["none"])
    with pytest.raises(ModelError, match=r"onnxruntime cannot load the model: .*Magic"):
        walked(model, {"x": normal(2, 3)})
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    model = build(nodes, [value("x", ["N", "M"])], [value("y")], {"w": normal(3, 2)})
    with pytest.raises(CalibrationError, match="layer 'w': its input has 5 columns, the weight 3"):
        walked(model, {"x": normal(2, 5)}, batch_size=2)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = build(nodes, [value("x", ["N", 3])], [value("y")], {"w": normal(3, 2)})
    steps = walk(analyse(model), Empty(), batch_size=1)
    with pytest.raises(CalibrationError, match="holds no sample"):
        next(steps)


def sample_folders() -> list[Path]:
    return sorted(path.parent for path in SAMPLES.glob("*/model.onnx"))


@pytest.mark.parametrize("folder", sample_folders(), ids=lambda path: path.name)
def test_sample_models(folder: Path) -> None:
    model = load_model(folder / "model.onnx")
    with np.load(folder / "calib.npz") as data:
        feed = {name: data[name][:32] for name in data.files}
    check_like_collect(model, feed)
    check_brute_force(model, feed, tolerance=1e-4, batch_size=13)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the models for measuring (../shared/models) are not here")
@pytest.mark.parametrize("name", ["cifar10_resnet20", "kws_arm_lstm_m"])
def test_shared_models(name: str) -> None:
    folder = SHARED / name
    model = load_model(folder / "model.onnx")
    with np.load(folder / "calib.npz") as data:
        feed = {key: data[key][:8] for key in data.files}
    check_like_collect(model, feed)
    check_brute_force(model, feed, tolerance=1e-4, batch_size=3)
    assert set(constant_tensors(model)) >= set(walked(model, feed, batch_size=8)[2])
