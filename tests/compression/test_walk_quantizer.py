"""The project's own method over whole models: what was evaluated is what is stored."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cerwu_onnx
from cerwu_onnx import Report, Settings
from cerwu_onnx.calibration import answer_of, answers_of
from cerwu_onnx.calibration.compared import compared_values
from cerwu_onnx.compression import layer_walk
from cerwu_onnx.compression.walk_quantizer import MENDED, _levelled, _mended
from cerwu_onnx.compression.walk_result import WalkedLayer, WalkResult
from cerwu_onnx.config import EFFORTS
from cerwu_onnx.container import format as f
from cerwu_onnx.errors import CalibrationError
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.model.tensors import constant_tensors

from ..calibration.test_recurrent import BATCH, INPUT, STEPS, recurrent
from ..models import build, conv_net, normal, run, settled, value

Feed: TypeAlias = dict[str, np.ndarray]

NODE = helper.make_node
IMAGES = {"x": normal(60, 3, 8, 8, seed=20)}
CONVOLUTIONS = settled(conv_net(), IMAGES)


@dataclass(frozen=True)
class Compressed:
    """A model before and after."""

    report: Report
    before: onnx.ModelProto
    after: onnx.ModelProto
    file: Path

    def tensor(self, name: str, model: onnx.ModelProto | None = None) -> np.ndarray:
        return numpy_helper.to_array(constant_tensors(model or self.after)[name])

    def loss(self, data: Feed | list[Feed]) -> float:
        """The loss of the rebuilt model, computed from values of whole models."""
        names = compared_values(self.before)
        models = [showing(model, names) for model in (self.before, self.after)]
        feeds = data if isinstance(data, list) else [data]
        before, after = (
            dict(zip(names, zip(*(run(model, feed) for feed in feeds), strict=True), strict=True)) for model in models
        )
        answers = answers_of(before, self.before)
        return sum(answer.loss(before[name], after[name]) for name, answer in answers.items())


def showing(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The model with these values as its only outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return shown


def squeeze(folder: Path, model: onnx.ModelProto, feed: object, **settings: object) -> Compressed:
    """Compress and rebuild."""
    onnx.save(model, folder / "model.onnx")
    file = folder / "model.cwb"
    chosen = Settings(**settings)  # type: ignore[arg-type]
    report = cerwu_onnx.compress(folder / "model.onnx", file, calib=feed, settings=chosen, force=True)  # type: ignore[arg-type]
    return Compressed(report, model, cerwu_onnx.decompress(file), file)


def dense_net(*widths: int, home: str = "logits") -> onnx.ModelProto:
    """Gemm - Relu - Gemm ..., each with a bias."""
    nodes, tensors = [], {}
    current = "x"
    for index, (n, m) in enumerate(itertools.pairwise(widths)):
        last = index == len(widths) - 2
        tensors |= {f"w{index}": normal(n, m, seed=index) / n**0.5, f"b{index}": normal(m, seed=50 + index)}
        nodes.append(NODE("Gemm", [current, f"w{index}", f"b{index}"], [home if last else f"h{index}"]))
        if not last:
            nodes.append(NODE("Relu", [f"h{index}"], [f"r{index}"]))
            current = f"r{index}"
    return build(nodes, [value("x", ["N", widths[0]])], [value(home, ["N", widths[-1]])], tensors)


def rows(samples: int, width: int, seed: int = 21) -> dict[str, np.ndarray]:
    """Correlated inputs."""
    return {"x": normal(samples, width, seed=seed) @ normal(width, width, seed=seed + 1) / width**0.5}


RECURRENT = recurrent("GRU", "bidirectional", sequence=False, initial="input", hidden=24)
SEQUENCES = [
    {"x": normal(STEPS, BATCH, INPUT, seed=seed), "h0": normal(2, BATCH, 24, seed=100 + seed)} for seed in range(40)
]
CASES: dict[str, tuple[onnx.ModelProto, Feed | list[Feed]]] = {
    "dense": (dense_net(24, 48, 32, 10), rows(200, 24)),
    "tiny": (dense_net(16, 6, 3), rows(200, 16)),
    "convolutions": (CONVOLUTIONS, IMAGES),
    "recurrent": (RECURRENT, SEQUENCES),
}


VARIANTS: dict[str, dict[str, object]] = {
    "default": {},
    "cmsis": {"weight_layout": "cmsis"},
    "exact": {"float_params": "exact"},
    "unfolded": {"fold_bn": False},
    "max": {"effort": "max"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CASES)
def test_the_loss_reported_is_that_of_the_file(name: str, variant: str, tmp_path: Path) -> None:
    model, feed = CASES[name]
    done = squeeze(tmp_path, model, feed, **VARIANTS[variant])
    assert done.report.output_loss is not None
    assert done.report.output_loss > 0
    assert done.loss(feed) == pytest.approx(done.report.output_loss, rel=1e-3)


def test_a_bias_that_is_not_worth_coding_keeps_its_correction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_walk, "pays", lambda name, *_, **__: name.startswith("w"))
    model, feed = CASES["tiny"]
    done = squeeze(tmp_path, model, feed)
    assert "b1" in {kept.name for kept in done.report.kept}
    assert not np.array_equal(done.tensor("b1"), done.tensor("b1", model))
    x, y = (run(one, feed)[0].mean(axis=0) for one in (model, done.after))
    np.testing.assert_allclose(x, y, atol=1e-5)  # nothing behind it: its outputs are right on average


def test_a_weight_that_is_not_worth_coding_leaves_everything_as_it_was(tmp_path: Path) -> None:
    model = dense_net(3, 3)
    done = squeeze(tmp_path, model, rows(50, 3), lambda_=0.0, coder="ans")  # its table would be larger than the weight
    assert not done.report.layers
    assert {kept.name for kept in done.report.kept} == {"w0", "b0"}
    assert done.report.output_loss == 0
    assert all(np.array_equal(done.tensor(name), done.tensor(name, model)) for name in ("w0", "b0"))


@pytest.mark.parametrize("name", ["dense", "convolutions"])
def test_a_higher_lambda_buys_fewer_bytes(name: str, tmp_path: Path) -> None:
    model, feed = CASES[name]
    reports = [squeeze(tmp_path, model, feed, lambda_=price).report for price in (0.003, 0.03, 0.3, 3.0)]
    sizes, losses = [report.file_bytes for report in reports], [report.output_loss for report in reports]
    assert sizes == sorted(sizes, reverse=True)
    assert losses == sorted(losses)
    assert sizes[0] > 1.3 * sizes[-1]
    assert [report.lambda_ for report in reports] == [0.003, 0.03, 0.3, 3.0]


def test_lambda_zero_is_as_fine_as_the_format_allows(tmp_path: Path) -> None:
    model, feed = CASES["dense"]
    done = squeeze(tmp_path, model, feed, lambda_=0.0)
    assert done.report.output_loss < 1e-6
    for layer in done.report.layers:
        weight = done.tensor(layer.name, model)
        assert np.abs(weight).max() / layer.step > 1750  # of 2046
        assert np.abs(done.tensor(layer.name) - weight).max() < 50 * layer.step


@pytest.mark.parametrize("calibrated", [True, False])
def test_at_a_high_rate_a_weight_is_coded_well_or_not_at_all(calibrated: bool, tmp_path: Path) -> None:
    """The range of the format bounds accuracy: what it cannot hold as finely as lambda asks stays exact."""
    gaussian, tailed = normal(24, 20), normal(20, 16, seed=1) ** 7
    nodes = [NODE("MatMul", ["x", "fine"], ["h"]), NODE("MatMul", ["h", "tailed"], ["y"])]
    outputs = [value("y", ["N", 4, 16]), value("h", ["N", 4, 20])]
    model = build(nodes, [value("x", ["N", 4, 24])], outputs, {"fine": gaussian, "tailed": tailed})
    feed = {"x": normal(40, 4, 24, seed=2)}
    done = squeeze(tmp_path, model, feed if calibrated else None, lambda_=5e-8 if calibrated else 5e-7)
    assert [layer.name for layer in done.report.layers] == ["fine"]
    assert [(kept.name, kept.reason) for kept in done.report.kept] == [
        ("tailed", "the format has no grid that is fine enough for this lambda")
    ]
    assert done.tensor("tailed").tobytes() == tailed.tobytes()
    step = np.float32(done.report.layers[0].step)
    assert np.abs(done.tensor("fine") - gaussian).max() <= 2 * step  # a uniform grid over all of the range
    assert step < 1.05 * np.abs(gaussian).max() / 2047
    coarse = squeeze(tmp_path, model, feed if calibrated else None, lambda_=0.05)
    assert {layer.name for layer in coarse.report.layers} == {"fine", "tailed"}


@pytest.mark.parametrize("scale", [1e-3, 1e-30])
def test_small_outputs_count_as_much_as_large_ones(scale: float, tmp_path: Path) -> None:
    """A regression with several outputs: as logits they would all be alike, and all weights would become zero."""
    weights = normal(24, 6) * np.float32(scale)
    model = build([NODE("MatMul", ["x", "w"], ["y"])], [value("x", ["N", 24])], [value("y", ["N", 6])], {"w": weights})
    feed = rows(80, 24)
    done = squeeze(tmp_path, model, feed, lambda_=1e-3)
    assert [layer.name for layer in done.report.layers] == ["w"]
    (reference,), (result,) = run(model, feed), run(done.after, feed)
    error = np.square((reference - result) / scale).mean() / np.square(reference / scale).mean()
    assert 1e-6 < error < 1e-2


@pytest.mark.parametrize("effort", ["fast", "default", "max"])
def test_efforts(effort: str, tmp_path: Path) -> None:
    model, feed = CASES["dense"]
    done = squeeze(tmp_path, model, feed, effort=effort)
    seen = {name: array[: EFFORTS[effort].samples] for name, array in feed.items()}
    assert done.report.calibration_samples == len(seen["x"])
    assert done.loss(seen) == pytest.approx(done.report.output_loss, rel=1e-3)  # type: ignore[arg-type]
    assert {layer.name for layer in done.report.layers} == {"w0", "w1", "w2"}
    assert done.report.output_loss < 1


def test_parameters_stay_exact_when_asked(tmp_path: Path) -> None:
    model = CONVOLUTIONS
    for fold in (False, None):
        done = squeeze(tmp_path, model, IMAGES, float_params="exact", fold_bn=fold)
        assert not done.report.parameters
        names = {"fc.b"} if fold is None else {"fc.b", "conv.b", "bn.s", "bn.b", "bn.m", "bn.v"}
        for name in names:
            assert done.tensor(name).tobytes() == done.tensor(name, model).tobytes(), name


def test_without_data(tmp_path: Path) -> None:
    model = CASES["dense"][0]
    sizes = []
    for price in (0.015, 0.15, 1.5):
        done = squeeze(tmp_path, model, None, lambda_=price)
        assert done.report.calibration == "none"
        assert done.report.output_loss is None
        assert any("no calibration data" in warning for warning in done.report.warnings)
        for name in ("b0", "b1", "b2"):
            assert np.array_equal(done.tensor(name), done.tensor(name, model))
        sizes.append(done.report.file_bytes)
    assert sizes == sorted(sizes, reverse=True)
    x, y = (run(one, rows(50, 24))[0] for one in (model, squeeze(tmp_path, model, None).after))
    assert np.linalg.norm(x - y) < 0.3 * np.linalg.norm(x)


@pytest.mark.parametrize("method", ["trellis", "cerwu"])
@pytest.mark.parametrize("known", [False, True])
def test_scales_and_shifts_of_normalisations(method: str, known: bool, tmp_path: Path) -> None:
    """They are coded where data tells what their errors cost, and exact elsewhere."""
    tensors = {"w": normal(24, 64, seed=1), "s": 1 + 0.2 * normal(64, seed=2), "t": 0.1 * normal(64, seed=3)}
    tensors["v"] = normal(64, 10, seed=4) / 8
    nodes = [
        NODE("MatMul", ["x", "w"], ["a"], "in"),
        NODE("LayerNormalization", ["a", "s", "t"], ["n"], "norm"),
        NODE("MatMul", ["n", "v"], ["y"], "out"),
    ]
    model = build(nodes, [value("x", ["N", 24])], [value("y", ["N", 10])], tensors)
    done = squeeze(tmp_path, model, rows(80, 24) if known else None, method=method)
    coded = known and method == "trellis"
    for name in ("s", "t"):
        assert np.array_equal(done.tensor(name), done.tensor(name, model)) is not coded
        assert np.abs(done.tensor(name) - done.tensor(name, model)).max() < 0.1


def test_the_trellis_follows_stored_rows(tmp_path: Path) -> None:
    """OHWI for CMSIS-NN: the columns of a row, taps and channels, change their order."""
    tensors = {"w": normal(8, 6, 3, 3, seed=30) / 8, "d": normal(8, 1, 3, 3, seed=31) / 3}
    nodes = [
        NODE("Conv", ["x", "w"], ["a"], "conv"),
        NODE("Relu", ["a"], ["b"]),
        NODE("Conv", ["b", "d"], ["y"], "depthwise", group=8),
    ]
    model = build(nodes, [value("x", ["N", 6, 8, 8])], [value("y", ["N", 8, 4, 4])], tensors)
    feed = {"x": normal(40, 6, 8, 8, seed=32) + normal(40, 1, 1, 1, seed=33)}
    runs, errors = {}, {}
    for layout in ("onnx", "cmsis"):
        done = squeeze(tmp_path, model, feed, weight_layout=layout, lambda_=0.01)
        records = {record.name: record for record in cerwu_onnx.open(done.file).container.tensors}
        runs[layout] = {name: (record.order, record.run) for name, record in records.items()}
        errors[layout] = done.loss(feed)
        assert done.loss(feed) == pytest.approx(done.report.output_loss, rel=1e-3)
    assert runs["onnx"] == {"w": (f.Order.ROW_MAJOR, 54), "d": (f.Order.ROW_MAJOR, 9)}
    assert runs["cmsis"] == {"w": (f.Order.AXIS1_LAST, 54), "d": (f.Order.AXIS0_LAST, 0)}
    assert errors["cmsis"] < 2 * errors["onnx"]


def sick(kind: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The dense net or its data with something wrong."""
    model, feed = dense_net(24, 48, 32, 10), rows(200, 24)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    if kind == "zero weights":
        tensors["w1"].CopyFrom(numpy_helper.from_array(np.zeros((48, 32), np.float32), "w1"))
    elif kind == "dead inputs":
        feed["x"][:, ::2] = 0
    elif kind == "dead layer":
        tensors["b0"].CopyFrom(numpy_helper.from_array(np.full(48, -1e3, np.float32), "b0"))
    elif kind == "raw pixels":
        feed["x"] *= 1e4
    elif kind == "whispers":
        feed["x"] *= 1e-12
    return model, feed


SICK = (
    "zero weights",
    "dead inputs",
    "dead layer",
    "raw pixels",
    "whispers",
)


@pytest.mark.parametrize("kind", SICK)
def test_awkward_layers_and_data(kind: str, tmp_path: Path) -> None:
    model, feed = sick(kind)
    done = squeeze(tmp_path, model, feed)
    assert np.isfinite(done.report.output_loss)  # type: ignore[arg-type]
    assert done.loss(feed) == pytest.approx(done.report.output_loss, rel=1e-3, abs=1e-9)  # type: ignore[arg-type]
    for layer in done.report.layers:
        assert np.isfinite(done.tensor(layer.name)).all()
        assert layer.step > 0
    if kind == "zero weights":
        assert not done.tensor("w1").any()
    if kind in ("dead inputs", "raw pixels"):  # what calibration does not see is kept all the same
        for layer in done.report.layers:
            error = done.tensor(layer.name) - done.tensor(layer.name, model)
            # Behind dead inputs little is left that weights decide: biases do their work.
            most = 1.0 if kind == "raw pixels" else 1.1
            assert np.linalg.norm(error) < most * np.linalg.norm(done.tensor(layer.name, model))


@pytest.mark.parametrize(
    ("thin", "reason"),
    [
        (rows(1, 24)["x"], "1 calibration sample says less than none"),
        (rows(7, 24)["x"], "7 calibration samples say less than none"),
        (np.full((40, 24), 0.5, np.float32), "1 different calibration sample says less than none"),
        (0 * rows(40, 24)["x"], "1 different calibration sample says less than none"),
    ],
    ids=["one sample", "seven samples", "constant inputs", "no input"],
)
def test_data_that_says_less_than_none(thin: np.ndarray, reason: str, tmp_path: Path) -> None:
    """The file is the one that is written without data."""
    model = CASES["dense"][0]
    done = squeeze(tmp_path, model, {"x": thin})
    (warning,) = done.report.warnings
    assert warning.startswith(f"{reason}: the model is quantised as without data; give at least 32 different inputs")
    assert (done.report.calibration, done.report.calibration_samples, done.report.output_loss) == ("none", 0, None)
    assert done.report.fidelity is None
    written = done.file.read_bytes()
    assert written == squeeze(tmp_path, model, None).file.read_bytes()


def test_noise_that_changes_nothing(tmp_path: Path) -> None:
    """All is saturated: small errors cost nothing, large ones everything."""
    rng = np.random.default_rng(3)
    weight = rng.uniform(5, 9, (24, 16)) * rng.choice([-1.0, 1.0], 16)
    nodes = [NODE("MatMul", ["x", "w"], ["a"]), NODE("Tanh", ["a"], ["y"])]
    shapes = [value("x", ["N", 5, 24])], [value("y", ["N", 5, 16])]
    model = build(nodes, *shapes, {"w": weight.astype(np.float32)})
    feed = {"x": rng.uniform(1, 2, (40, 5, 24)).astype(np.float32)}
    done = squeeze(tmp_path, model, feed, lambda_=1e-4)
    assert done.loss(feed) < 1e-3
    assert any("errors cost far more" in warning for warning in done.report.warnings)
    assert 0 < done.report.bits_per_weight < 12


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_calibration_data_that_holds_no_numbers(bad: float, tmp_path: Path) -> None:
    model, feed = CASES["dense"]
    broken = {"x": feed["x"].copy()}  # type: ignore[call-overload]
    broken["x"][7, 3] = bad
    with pytest.raises(CalibrationError, match=r"NaN|infini"):
        squeeze(tmp_path, model, broken)
    assert not (tmp_path / "model.cwb").exists()


@pytest.mark.parametrize("name", ["dense", "convolutions", "recurrent"])
def test_the_same_bytes_twice(name: str, tmp_path: Path) -> None:
    model, feed = CASES[name]
    contents = {squeeze(tmp_path, model, feed).file.read_bytes() for _ in range(2)}
    assert len(contents) == 1


def test_where_folding_is_impossible(tmp_path: Path) -> None:
    """The convolution's output is used twice: the mean of BatchNormalization takes up the error instead of a bias."""
    model = conv_net()
    del model.graph.node[0].input[2]  # the bias
    model = settled(model, IMAGES)
    model.graph.output.append(value("a", ["N", 4, 8, 8]))
    done = squeeze(tmp_path, model, IMAGES)
    assert not done.report.folded
    assert {"BatchNormalization"} <= {node.op_type for node in done.after.graph.node}
    assert done.loss(IMAGES) == pytest.approx(done.report.output_loss, rel=1e-3)


def test_several_outputs(tmp_path: Path) -> None:
    """A classification, a regression, labels and text behind one trunk."""
    tensors = {
        "trunk": normal(16, 32, seed=1) / 4,
        "classes": normal(32, 10, seed=2) / 4,
        "amount": normal(32, 3, seed=3) / 4,
        "shape": np.array([-1, 1, 3], np.int64),
        "zero": np.array(0.0, np.float32),
    }
    nodes = [
        NODE("MatMul", ["x", "trunk"], ["t"]),
        NODE("Relu", ["t"], ["h"]),
        NODE("MatMul", ["h", "classes"], ["logits"]),
        NODE("MatMul", ["h", "amount"], ["flat"]),
        NODE("Reshape", ["flat", "shape"], ["number"]),
        NODE("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        NODE("Gather", ["names", "label"], ["name"]),
        NODE("Greater", ["logits", "zero"], ["flags"]),
    ]
    outputs = [
        value("logits", ["N", 10]),
        value("number", ["N", 1, 3]),
        value("label", ["N"], TensorProto.INT64),
        value("name", ["N"], TensorProto.STRING),
        value("flags", ["N", 10], TensorProto.BOOL),
    ]
    model = build(nodes, [value("x", ["N", 16])], outputs, tensors)
    names = [f"class {index}".encode() for index in range(10)]
    model.graph.initializer.append(helper.make_tensor("names", TensorProto.STRING, [10], names))
    feed = rows(150, 16)
    done = squeeze(tmp_path, model, feed)
    assert {layer.name for layer in done.report.layers} == {"trunk", "classes", "amount"}
    assert done.loss(feed) == pytest.approx(done.report.output_loss, rel=1e-3)
    assert done.report.output_loss < 0.5


def test_labels_alone_are_compared_too(tmp_path: Path) -> None:
    nodes = [NODE("MatMul", ["x", "w"], ["l"]), NODE("ArgMax", ["l"], ["label"], axis=1, keepdims=0)]
    output = value("label", ["N"], TensorProto.INT64)
    model = build(nodes, [value("x", ["N", 12])], [output], {"w": normal(12, 10)})
    done = squeeze(tmp_path, model, rows(100, 12))
    same = run(model, rows(100, 12))[0] == run(done.after, rows(100, 12))[0]
    assert same.mean() > 0.7


def test_tokens(tmp_path: Path) -> None:
    """Integer inputs: an embedding, and a head that is the same table transposed."""
    table = normal(50, 24, seed=9) / 5
    nodes = [
        NODE("Gather", ["table", "x"], ["e"], "embed"),
        NODE("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        NODE("MatMul", ["m", "mix"], ["h"], "mix"),
        NODE("Gemm", ["h", "head"], ["y"], "head", transB=1),
    ]
    inputs = [value("x", ["N", "T"], TensorProto.INT64)]
    tensors = {"table": table, "mix": normal(24, 24, seed=10) / 5, "head": table}
    model = build(nodes, inputs, [value("y", ["N", 50])], tensors)
    feed = {"x": np.random.default_rng(11).integers(0, 50, (120, 7))}
    done = squeeze(tmp_path, model, feed, lambda_=0.01)
    assert {layer.name for layer in done.report.layers} == {"table", "mix", "head"}
    assert done.loss(feed) == pytest.approx(done.report.output_loss, rel=1e-3)


def test_a_model_without_layers(tmp_path: Path) -> None:
    model = build([NODE("Relu", ["x"], ["y"])], [value("x", ["N", 4])], [value("y", ["N", 4])], {})
    done = squeeze(tmp_path, model, rows(20, 4))
    assert not done.report.layers
    assert not done.report.output_loss


def test_the_loss_that_is_asked_for(tmp_path: Path) -> None:
    """Logits, whose relative squared error is another number than their KL divergence, and asks for another file."""
    model, feed = dense_net(24, 48, 32, 10), CASES["dense"][1]
    for tensor in model.graph.initializer:
        if tensor.name in ("w2", "b2"):  # far apart, with mean zero, as training leaves them
            last = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(4 * (last - last.mean(axis=-1, keepdims=True)), tensor.name))
    files = {}
    for kind in ("auto", "kl", "mse"):
        done = squeeze(tmp_path, model, feed, output_loss=kind, lambda_=0.01)
        (reference,), (result,) = run(model, feed), run(done.after, feed)
        expected = answer_of([reference], kind).loss([reference], [result])
        assert done.report.output_loss == pytest.approx(expected, rel=1e-3)
        files[kind] = done.file.read_bytes()
    assert files["auto"] == files["kl"] != files["mse"]


def test_parameters_that_moved_are_kept_of_every_layer() -> None:
    found = WalkResult(1 << 20)
    for name in ("first", "second"):
        found.add(name, WalkedLayer(changed=(f"{name}.bias",), moved={f"{name}.bias": np.ones(2, np.float32)}))
    assert list(found.values) == ["first.bias", "second.bias"]


def test_sensitivities_around_a_coarse_model_keep_their_level() -> None:
    """Their geometric mean over weights stays; how they stand to each other is what was measured."""
    weights = {"a": np.zeros(300, np.float32), "b": np.zeros(100, np.float32)}
    level, noise = {"a": 2.0, "b": 8.0}, {"a": 50.0, "b": 100.0}
    found = _levelled(noise, level, weights)
    assert found["b"] == pytest.approx(2 * found["a"])
    mean, expected = (np.exp((3 * np.log(one["a"]) + np.log(one["b"])) / 4) for one in (found, level))
    assert mean == pytest.approx(expected)


def test_later_layers_mend_what_earlier_ones_break() -> None:
    """Each layer counts the same factor more than the one before it, in the order of the graph; the level stays."""
    model = dense_net(6, 5, 4, 3)
    model.graph.initializer.sort(key=lambda tensor: tensor.name, reverse=True)  # they may be stored in any order
    graph = analyse(model)
    weights = {layer.weight: graph.array(layer.weight) for layer in graph.layers}
    assert list(weights) == ["w2", "w1", "w0"]
    alone = {"w0": 3.0, "w1": 0.5, "w2": 7.0}
    found = _mended(alone, graph, weights)
    ratio = {name: found[name] / alone[name] for name in alone}
    assert ratio["w2"] / ratio["w1"] == pytest.approx(MENDED**0.5)
    assert ratio["w1"] / ratio["w0"] == pytest.approx(MENDED**0.5)
    assert np.prod([ratio[name] ** weights[name].size for name in alone]) == pytest.approx(1)
    one = analyse(dense_net(6, 3))
    assert _mended({"w0": 3.0}, one, {"w0": one.array("w0")}) == pytest.approx({"w0": 3.0})


def test_sensitivities_of_a_walk_are_mended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A larger factor buys fewer bits for the first layer, and more for the last."""
    model, feed = CASES["dense"]
    bits = []
    for factor in (1.0, 16.0):
        monkeypatch.setattr("cerwu_onnx.compression.walk_quantizer.MENDED", factor)
        report = squeeze(tmp_path, model, feed, lambda_=0.05).report
        bits.append({layer.name: layer.bits_per_weight for layer in report.layers})
    assert bits[1]["w0"] < bits[0]["w0"] - 0.3
    assert bits[1]["w2"] > bits[0]["w2"] + 0.3
