"""Models that take one sample at a time, whatever they declare, are found out; all others get batches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx.calibration import open_data
from cerwu_onnx.calibration.opening import TOLERANCE
from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.config import Settings, Target
from cerwu_onnx.evaluate.culprits import find_culprits
from cerwu_onnx.runtime import compare

from ..models import build, constant, normal, value

DATA = {"x": normal(40, 40, seed=3)}


def net(*middle: onnx.NodeProto, **tensors: np.ndarray) -> onnx.ModelProto:
    """MatMul Relu, then nodes from ``b`` to ``c``, then MatMul."""
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        *middle,
        helper.make_node("MatMul", ["c", "V"], ["y"], name="second"),
    ]
    weights = {"W": normal(40, 64) / 6, "V": normal(64, 10, seed=1) / 8, **tensors}
    return build(nodes, [value("x", ["batch", 40])], [value("y")], weights)


def fixed() -> onnx.ModelProto:
    """A Reshape fixes the batch to 1 behind a free axis."""
    return net(helper.make_node("Reshape", ["b", "shape"], ["c"]), shape=np.array([1, 64], np.int64))


def recurrent() -> onnx.ModelProto:
    """An LSTM whose initial states have a batch of 1, behind a free axis."""
    zeros = np.zeros((1, 1, 16), np.float32)
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "", "", "h", "c"], ["", "last"], name="lstm", hidden_size=16),
        helper.make_node("Squeeze", ["last", "axes"], ["s"]),
        helper.make_node("MatMul", ["s", "V"], ["y"], name="head"),
    ]
    tensors = {"w": normal(1, 64, 8), "r": normal(1, 64, 16, seed=1) / 4, "h": zeros, "c": zeros}
    tensors |= {"V": normal(16, 10, seed=2), "axes": np.array([0], np.int64)}
    return build(nodes, [value("x", [5, "batch", 8])], [value("y")], tensors)


def states() -> onnx.ModelProto:
    """An LSTM as tf2onnx writes it: the batch axis comes first and is free, initial states have a batch of 1."""
    zeros = np.zeros((1, 1, 16), np.float32)
    nodes = [
        helper.make_node("Reshape", ["x", "steps"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "W", "r0", "", "", "h", "c"], ["", "last"], name="lstm", hidden_size=16),
        helper.make_node("Squeeze", ["last", "axes"], ["s"]),
        helper.make_node("MatMul", ["s", "V"], ["y"], name="head"),
    ]
    tensors = {"W": normal(1, 64, 8), "r0": normal(1, 64, 16, seed=1) / 4, "h": zeros, "c": zeros}
    tensors |= {"V": normal(16, 10, seed=2), "axes": np.array([0], np.int64), "steps": np.array([-1, 5, 8], np.int64)}
    return build(nodes, [value("x", ["batch", 40])], [value("y")], tensors)


def centred() -> onnx.ModelProto:
    """The mean over the batch is subtracted."""
    mean = helper.make_node("ReduceMean", ["b"], ["m"], axes=[0], keepdims=1)
    return net(mean, helper.make_node("Sub", ["b", "m"], ["d"]), helper.make_node("Add", ["d", "b"], ["c"]))


def pairwise() -> onnx.ModelProto:
    """Every sample is compared with every other one: the output has a fixed number of rows."""
    return net(helper.make_node("Gemm", ["b", "b"], ["c"], transA=1))


def honest() -> onnx.ModelProto:
    return net(helper.make_node("Softmax", ["b"], ["c"], axis=-1))


def random() -> onnx.ModelProto:
    noise = helper.make_node("RandomNormalLike", ["b"], ["n"])
    return net(noise, helper.make_node("Add", ["b", "n"], ["c"]))


def sizes(model: onnx.ModelProto, data: object = DATA, size: int = 8) -> list[int]:
    source = open_data(data, model)
    return [source.count(feed) for feed in source.batches(size)]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (fixed(), "onnxruntime cannot run the model"),
        (states(), "onnxruntime cannot run the model"),
        (centred(), "'y' of a sample changes"),
        (pairwise(), "'y' of a sample changes"),
    ],
    ids=["fixed", "states", "centred", "pairwise"],
)
def test_models_of_single_samples(model: onnx.ModelProto, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cerwu_onnx")
    assert sizes(model) == [1] * 40
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "one sample at a time" in caplog.text
    assert reason in caplog.text


@pytest.mark.parametrize("model", [honest(), random()], ids=["honest", "random"])
def test_other_models_get_batches_without_a_word(model: onnx.ModelProto, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cerwu_onnx")
    assert sizes(model) == [8] * 5
    assert not caplog.records


def test_rounding_is_not_a_mixture() -> None:
    """A model that changes by less than the tolerance is honest; one that changes by more is not."""
    for factor, expected in ((0.1 * TOLERANCE, 5), (10 * TOLERANCE, 40)):
        mean = helper.make_node("ReduceMean", ["b"], ["m"], axes=[0], keepdims=1)
        scaled = helper.make_node("Mul", ["m", "f"], ["s"])
        add = helper.make_node("Add", ["b", "s"], ["c"])
        model = net(mean, constant("f", np.array([factor], np.float32)), scaled, add)
        assert len(sizes(model)) == expected


def test_a_single_sample_says_nothing_of_batches(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cerwu_onnx")
    assert sizes(honest(), {"x": normal(1, 40)}) == [1]
    assert not caplog.records


def test_what_fails_anyway_fails_where_it_is_used() -> None:
    """Data that the model cannot run at all is no reason to divide it."""
    broken = net(helper.make_node("Reshape", ["b", "shape"], ["c"]), shape=np.array([1, 63], np.int64))
    assert sizes(broken) == [8] * 5


def test_feeds_are_given_as_they_are() -> None:
    assert sizes(fixed(), [{"x": normal(1, 40)}, {"x": normal(3, 40)}]) == [1, 3]


@pytest.mark.parametrize("make", [fixed, states, centred, pairwise])
@pytest.mark.parametrize("method", ["trellis", "cerwu"])
def test_compressed_compared_and_verified(tmp_path: Path, make: Callable[[], onnx.ModelProto], method: str) -> None:
    model = make()
    path, file = tmp_path / "m.onnx", tmp_path / "m.cwb"
    onnx.save(model, path)
    report = compress(path, file, calib=DATA, settings=Settings(method=method, strict=True, batch_size=8))
    assert {layer.name for layer in report.layers} >= {"W", "V"}
    assert report.calibration_samples == 40
    assert 0 < compare(file, path, DATA)[0].relative < 0.6
    target = Target(metric="agreement", metric_data=DATA)
    for chosen in (None, target) if model.graph.node[2].op_type != "Gemm" else (None,):  # whose rows are no samples
        found = find_culprits(path, file, DATA, target=chosen)
        assert {layer.name for layer in found.layers} >= {"W", "V"}
        assert 0 <= found.lost < 0.5


def test_initial_states_of_one_sample(tmp_path: Path) -> None:
    """Each entry of the data is a whole input, because the batch axis is not the first one."""
    onnx.save(recurrent(), tmp_path / "m.onnx")
    report = compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib={"x": normal(40, 5, 1, 8, seed=4)})
    assert {layer.name for layer in report.layers} == {"w", "r", "V"}
