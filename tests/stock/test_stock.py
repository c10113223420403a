"""Plain ONNX files of integers: their weights are, bit for bit, those of the float model that the file rebuilds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import cerwu_onnx
from cerwu_onnx.calibration import open_data
from cerwu_onnx.calibration.output_errors import OutputError
from cerwu_onnx.compression.encode import encode
from cerwu_onnx.container import reader
from cerwu_onnx.entropy.trellis import to_values
from cerwu_onnx.errors import CalibrationError, UsageError
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.opened import CompressedModel
from cerwu_onnx.stock import export
from cerwu_onnx.stock.activations import quantised_activations
from cerwu_onnx.stock.side_by_side import FOLD, Candidate, Form
from cerwu_onnx.stock.weights import integer_weights
from cerwu_onnx.types import QuantizedTensor

from .. import models
from ..cli.conftest import Run, run

__all__ = ["run"]  # the fixture

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {"conv.w": (8, 3, 3, 3), "fc.w": (32, 10)}
FEED = {"x": models.normal(2, 3, 6, 6, seed=8)}


def net(
    opset: int = 17, ir_version: int = 8, element: int = TensorProto.FLOAT, *, node: bool = False
) -> onnx.ModelProto:
    """Conv - Relu - Flatten - MatMul, whose second weight may be the value of a Constant node."""
    tensors = {name: models.normal(*shape, seed=index) for index, (name, shape) in enumerate(SHAPES.items())}
    nodes = [
        helper.make_node("Conv", ["x", "conv.w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("AveragePool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "fc.w"], ["y"]),
    ]
    if element != TensorProto.FLOAT:
        nodes[0].input[0] = "half"
        nodes[4].output[0] = "z"
        nodes = [helper.make_node("Cast", ["x"], ["half"], to=element), *nodes]
        nodes.append(helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT))
    if node:
        nodes.insert(0, models.constant("fc.w", tensors.pop("fc.w")))
    inputs = [models.value("x", ("N", 3, 6, 6))]
    if ir_version < 4:
        inputs += [models.value(name, array.shape) for name, array in tensors.items()]
    model = models.build(nodes, inputs, [models.value("y", ("N", 10))], tensors, opset=opset, ir_version=ir_version)
    for tensor in model.graph.initializer:
        if element != TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    return model


def packed(model: onnx.ModelProto, tensors: dict[str, QuantizedTensor]) -> CompressedModel:
    """A file whose weights have the integers and steps that are given."""
    return CompressedModel(reader.parse(encode(analyse(model), tensors, {}).content))


def grid(name: str, reach: int, seed: int = 0) -> QuantizedTensor:
    """Random integers of up to ``reach``, which occurs."""
    shape = SHAPES[name]
    symbols = np.random.default_rng(seed).integers(-reach, reach + 1, shape).astype(np.int32)
    symbols.ravel()[:2] = reach, -reach
    return QuantizedTensor(symbols, float(np.float32(0.0123)), 0.0, 1.0, 0.0)


def weights_of(model: onnx.ModelProto, names: list[str]) -> dict[str, bytes]:
    """What onnxruntime makes of weights, by the nodes that need nothing but initializers: bits by name."""
    if not names:
        return {}
    shown, known = onnx.ModelProto(), {tensor.name for tensor in model.graph.initializer}
    shown.CopyFrom(model)
    for field in (shown.graph.node, shown.graph.input, shown.graph.output):
        del field[:]
    for node in model.graph.node:
        if known.issuperset(node.input):
            known.update(node.output)
            shown.graph.node.append(node)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(shown.SerializeToString(), options)
    found = session.run_with_ort_values(names, {})
    return dict(zip(names, (array.numpy().tobytes() for array in found), strict=True))


def floats_of(model: onnx.ModelProto) -> dict[str, bytes]:
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    found |= {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
    return {name: numpy_helper.to_array(tensor).tobytes() for name, tensor in found.items()}


def check(file: CompressedModel, width: str, dtypes: set[str], rounding: float = 1e-5) -> onnx.ModelProto:
    """The integer model, after what holds for all of them was checked."""
    floats, made = file.to_onnx(), integer_weights(file, width)
    onnx.checker.check_model(made.model)
    assert {weight.dtype for weight in made.weights} == dtypes
    assert sum(made.counts().values()) == len(made.weights)
    names = [weight.name for weight in made.weights if weight.dtype.startswith("int")]
    expected = floats_of(floats)
    assert weights_of(made.model, names) == {name: expected[name] for name in names}
    candidates = [Candidate("a", floats), Candidate("b", made.model, folds=True)]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")  # else activations become int8
    sessions = [candidate.session() for candidate in candidates]
    sessions.append(ort.InferenceSession(made.model.SerializeToString(), options, providers=["CPUExecutionProvider"]))
    a, b, c = (session.run(None, FEED)[0] for session in sessions)
    assert a.tobytes() == b.tobytes(), "with its weights folded it is the float model"
    assert np.abs(a - c).max() <= rounding * np.abs(a).max()
    return made.model


@pytest.mark.parametrize(
    ("reach", "opset", "width", "dtype"),
    [
        (7, 21, "auto", "int4"),
        (7, 21, "int4", "int4"),
        (7, 21, "int8", "int8"),
        (7, 17, "auto", "int8"),
        (8, 21, "auto", "int8"),
        (127, 11, "int8", "int8"),
        (128, 17, "auto", "float"),
        (128, 21, "auto", "int16"),
        (2047, 21, "int4", "int16"),
        (2047, 17, "int8", "float"),
    ],
)
def test_the_narrowest_type_that_holds_the_integers(reach: int, opset: int, width: str, dtype: str) -> None:
    file = packed(net(opset, 10 if opset > 20 else 7), {name: grid(name, reach) for name in SHAPES})
    model = check(file, width, {dtype})
    used = {TensorProto.DataType.Name(tensor.data_type).lower() for tensor in model.graph.initializer}
    assert used == {dtype, "float"}  # steps are floats
    size = {"int4": 1 / 8, "int8": 1 / 4, "int16": 1 / 2, "float": 1}[dtype] * 4 * (8 * 27 + 320)
    assert 0 <= model.ByteSize() - size < 1100


@pytest.mark.parametrize(("opset", "operators"), [(17, {"DequantizeLinear"}), (12, {"DequantizeLinear", "Mul"})])
def test_steps_of_rows(opset: int, operators: set[str]) -> None:
    """As scales of an axis, where the operator set has them, else by a product with powers of two."""
    rows = np.arange(8, dtype=np.int8).reshape(8, 1, 1, 1) % 5
    indices = np.random.default_rng(3).integers(-40, 41, 8 * 27)
    values = to_values(indices, 27).reshape(SHAPES["conv.w"])
    conv = QuantizedTensor(values, float(np.float32(0.0123)), 0.0, 1.0, 0.0, run=27, exponents=rows)
    file = packed(net(opset), {"conv.w": conv, "fc.w": grid("fc.w", 100)})
    assert any(record.stepped for record in file.container.tensors)
    model = check(file, "auto", {"int8"})
    assert {node.op_type for node in model.graph.node if "conv.w" in node.name} == operators
    scales = [len(t.dims) for t in model.graph.initializer if t.name == "conv.w_step"]
    assert scales == [1 if opset == 17 else 0]


@given(st.integers(1, 2047), st.sampled_from([13, 17, 21]), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_any_integers(reach: int, opset: int, node: bool, seed: int) -> None:
    dtype = next(
        name
        for name, most, first in (("int4", 7, 21), ("int8", 127, 10), ("int16", 2047, 21), ("float", 2047, 1))
        if reach <= most and opset >= first
    )
    file = packed(net(opset, 10, node=node), {name: grid(name, reach, seed=seed) for name in SHAPES})
    check(file, "auto", {dtype})


def test_other_types_of_weights_are_cast() -> None:
    file = packed(net(element=TensorProto.FLOAT16), {name: grid(name, 100) for name in SHAPES})
    model = check(file, "int8", {"int8"}, rounding=1e-3)
    assert [node.op_type for node in model.graph.node][:2] == ["DequantizeLinear", "Cast"]


def test_old_models_and_inputs_with_defaults() -> None:
    """Before IR 4 initializers are inputs as well; later such an input may be overridden, and stays."""
    old = packed(net(11, 3), {name: grid(name, 50) for name in SHAPES})
    model = check(old, "auto", {"int8"})
    assert [value.name for value in model.graph.input] == ["x"]
    overridable = net()
    overridable.graph.input.append(models.value("fc.w", SHAPES["fc.w"]))
    found = encode(analyse(overridable), {name: grid(name, 50) for name in SHAPES}, {})
    made = integer_weights(CompressedModel(reader.parse(found.content)))
    assert "fc.w" in {value.name for value in made.model.graph.input}
    assert "fc.w" in {tensor.name for tensor in made.model.graph.initializer}


def test_names_that_are_taken() -> None:
    model = net()
    for old, new in (("c", "conv.w_int8"), ("r", "fc.w_step")):
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]
    check(packed(model, {name: grid(name, 50) for name in SHAPES}), "auto", {"int8"})


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_golden_models(version: str) -> None:
    """Floats of all types beside integers, which stay as they are."""
    file = cerwu_onnx.open(ROOT / f"tests/golden/{version}/model.cwb")
    floats, made = file.to_onnx(), integer_weights(file)
    names = [weight.name for weight in made.weights if weight.dtype.startswith("int")]
    assert names == ["half"]
    assert weights_of(made.model, names) == {name: floats_of(floats)[name] for name in names}
    integers = {t.name: t for t in floats.graph.initializer if t.data_type != TensorProto.FLOAT and t.name != "half"}
    for tensor in made.model.graph.initializer:
        assert tensor.name not in integers or tensor == integers[tensor.name]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test looks at speeds."""
    monkeypatch.setattr("cerwu_onnx.stock.side_by_side.SECONDS", 0.1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample model, compressed."""
    folder = tmp_path_factory.mktemp("stock")
    sample = ROOT / "sample_models/fashion_dscnn"
    settings = cerwu_onnx.Settings(effort="fast", lambda_=0.3)
    cerwu_onnx.compress(sample / "model.onnx", folder / "m.cwb", calib=str(sample / "calib.npz"), settings=settings)
    return folder / "m.cwb"


def samples(count: int = 32) -> dict[str, np.ndarray]:
    with np.load(ROOT / "sample_models/fashion_dscnn/calib.npz") as arrays:
        return {name: arrays[name][:count] for name in arrays.files}


def test_a_quarter_of_the_size(file: Path, tmp_path: Path) -> None:
    done = export(file, tmp_path / "m.onnx", weights="int8")
    floats = cerwu_onnx.decompress(file).ByteSize()
    assert (
        done.file_bytes == (tmp_path / "m.onnx").stat().st_size < 0.36 * floats
    )  # a quarter, and the graph of a tiny model
    assert done.weights["int8"] >= 10
    assert done.forms == ()


def test_integer_kernels_run_with_the_integers_of_the_file(file: Path) -> None:
    compressed = cerwu_onnx.open(file)
    model = quantised_activations(compressed, open_data(samples(), compressed.to_onnx()))
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    same = 0
    for record in compressed.container.tensors:
        if f"{record.name}_quantized" in found and len(record.shape) > 1 and record.largest <= 127:
            symbols = record.order.restore(compressed.container.values(record), record.shape)
            assert np.array_equal(found[f"{record.name}_quantized"], symbols)
            assert np.array_equal(found[f"{record.name}_scale"].ravel(), compressed.container.steps(record).ravel())
            same += 1
    assert same >= 8
    options = ort.SessionOptions()
    options.log_severity_level = 4
    floats = ort.InferenceSession(compressed.to_onnx().SerializeToString(), options).run(None, samples())[0]
    integers = ort.InferenceSession(model.SerializeToString(), options).run(None, samples())[0]
    assert np.linalg.norm(integers - floats) < 0.1 * np.linalg.norm(floats)


def test_integer_kernels_have_no_steps_of_inputs(tmp_path: Path) -> None:
    """A weight whose columns have steps of their own is rounded again, to steps of outputs."""
    sizes = (np.float32(2) ** (np.arange(32) % 7)).astype(np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    tensors = {"w": models.normal(32, 32) / sizes, "b": models.normal(32, seed=1)}
    onnx.save(
        models.build(nodes, [models.value("x", ("N", 32))], [models.value("y", ("N", 32))], tensors),
        tmp_path / "m.onnx",
    )
    inputs = {"x": models.normal(200, 32, seed=2) * sizes}
    settings = cerwu_onnx.Settings(lambda_=0.01)
    cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib=inputs, settings=settings)
    compressed = cerwu_onnx.open(tmp_path / "m.cwb")
    steps = {record.name: compressed.container.steps(record).shape for record in compressed.container.tensors}
    assert steps["w"] == (1, 32)
    floats = compressed.to_onnx()
    model = quantised_activations(compressed, open_data(inputs, floats))
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert "w_int8" not in found
    options = ort.SessionOptions()
    options.log_severity_level = 4
    expected, got = (
        ort.InferenceSession(one.SerializeToString(), options).run(None, inputs)[0] for one in (floats, model)
    )
    assert np.linalg.norm(got - expected) < 0.5 * np.linalg.norm(expected)  # inputs of all sizes share one step


def test_optimised_models_have_integer_operators(file: Path, tmp_path: Path) -> None:
    export(file, tmp_path / "q.onnx", qdq=True, data=samples())
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(tmp_path / "q.onnx"), options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert counts["QLinearConv"] == 9
    assert counts["Conv"] == 0


def test_what_the_quantiser_leaves_gets_integer_weights(tmp_path: Path) -> None:
    """Recurrent operators have no integers in QDQ; their weights still take a quarter."""
    sample = ROOT / "sample_models/sequence_gru"
    cerwu_onnx.compress(sample / "model.onnx", tmp_path / "m.cwb", settings=cerwu_onnx.Settings(lambda_=3.0))
    compressed = cerwu_onnx.open(tmp_path / "m.cwb")
    floats = compressed.to_onnx()
    model = quantised_activations(compressed, open_data(str(sample / "calib.npz"), floats, limit=8))
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    gru = next(node for node in model.graph.node if node.op_type == "GRU")
    assert kinds[f"{gru.input[1]}_int8"] == TensorProto.INT8


def test_forms_side_by_side(file: Path, tmp_path: Path) -> None:
    done = export(file, tmp_path / "q.onnx", qdq=True, data=samples(), target=agreement())
    assert [form.name for form in done.forms] == [
        "float",
        "integer weights",
        "integer weights, folded",
        "QDQ",
    ]
    floats, weights, folded, qdq = done.forms
    assert floats.file_bytes > 2.5 * weights.file_bytes
    assert qdq.file_bytes == done.file_bytes == (tmp_path / "q.onnx").stat().st_size
    assert (floats.error.relative, floats.speed, floats.score) == (0, 1, 1)
    assert folded.error.relative == 0
    assert weights.error.relative < 1e-5 < qdq.error.relative < 0.2
    assert qdq.score is not None
    assert 0.8 < qdq.score <= 1


@pytest.mark.parametrize(
    ("relative", "kept", "says"),
    [
        (1.36, 0.5, "only 50 % of the answers stay the same"),
        (0.2, 0.96, ""),
        (1.36, None, "its outputs are off by 136 %"),
        (0.05, None, ""),
    ],
)
def test_forms_that_hurt(relative: float, kept: float | None, says: str) -> None:
    assert Form("QDQ", 1, 1.0, OutputError("y", relative, 1.0, kept)).hurts == says


def agreement() -> cerwu_onnx.Target:
    return cerwu_onnx.Target(metric="agreement", metric_data=samples())


def test_what_cannot_be_done(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.onnx"
    with pytest.raises(UsageError, match="choose one of auto, int8, int4"):
        export(file, output, weights="int2")
    with pytest.raises(UsageError, match="operator set 17; 21 is the first whose DequantizeLinear takes int4"):
        export(file, output, weights="int4")
    with pytest.raises(UsageError, match="need data"):
        export(file, output, qdq=True)
    with pytest.raises(UsageError, match="need data"):
        export(file, output, target=agreement())
    with pytest.raises(UsageError, match="weights only"):
        export(ROOT / "tests/golden/v1/forms.cwb", output)
    with pytest.raises(CalibrationError, match="misses 'input'"):
        export(file, output, qdq=True, data={"x": np.zeros((4, 1), np.float32)})
    content = encode(analyse(net(9)), {name: grid(name, 50) for name in SHAPES}, {}).content
    (tmp_path / "nine.cwb").write_bytes(content)
    with pytest.raises(UsageError, match="operator set 9; 10 is the first"):
        export(tmp_path / "nine.cwb", output)
    assert not output.exists()


def test_the_command_line(file: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("calib.npz", **samples(8))
    done = run("decompress", str(file), "w.onnx", "--weights", "auto")
    assert "coded weights: " in done.out
    assert (done.code, done.err) == (0, "")
    done = run("decompress", str(file), "q.onnx", "--qdq", "--calib", "calib.npz", "--metric", "agreement", "--json")
    body = json.loads(done.out)
    assert [form["score"] for form in body["forms"]][:3] == [1, 1, 1]
    assert body["output"] == "q.onnx"
    shown = run("decompress", str(file), "q.onnx", "-f", "--qdq", "--calib", "calib.npz").out
    assert "integer weights, folded" in shown
    if "times the speed" in shown:
        assert FOLD[0] not in shown
    for words, message in (
        (("w.onnx",), "exists"),
        (("x.onnx", "--calib", "calib.npz"), "give --weights or --qdq"),
        (("x.onnx", "--weights", "int8", "--external-data"), "leave out --external-data"),
        (("x.npz", "--weights", "int8"), "write one .onnx file"),
        (("x.onnx", "--weights", "int3"), "choose one of"),
        (("x.onnx", "--qdq"), "give --calib"),
    ):
        failed = run("decompress", str(file), *words, *(("--weights", "auto") if words == ("w.onnx",) else ()))
        assert (failed.code, failed.err.count("\n")) == (2, 1), words
        assert message in failed.err
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == ["q.onnx", "w.onnx"]
