"""The whole path on small models: compress, open, decompress, load_session, compare."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import cerwu_onnx
from cerwu_onnx import METHODS, Settings
from cerwu_onnx.compression.model_quantizer import quantize_layers, quantize_model, statistics
from cerwu_onnx.compression.prepare import prepare
from cerwu_onnx.config import Settings as ConfigSettings
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.model.tensors import constant_tensors

from ..bench.models import ABSENT, BenchModel, shared_models
from ..models import build, normal, value


def build_model(seed: int = 0) -> onnx.ModelProto:
    """Conv + BatchNormalization + depthwise Conv + MatMul from a Constant node + Gemm, on 1x4x8x8 inputs."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.laplace(size=shape).astype(np.float32) * 0.2, name)

    positive = numpy_helper.from_array(rng.uniform(0.5, 2, 16).astype(np.float32), "bn.var")
    constant = weight("", 16, 24)
    nodes = [
        helper.make_node("Conv", ["x", "conv.w", "conv.b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "bn.s", "bn.b", "bn.m", "bn.var"], ["n"], "bn"),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "dw.w"], ["d"], "depthwise", group=16, strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        helper.make_node("Flatten", ["p"], ["v"]),
        helper.make_node("Constant", [], ["mm.w"], value=constant),
        helper.make_node("MatMul", ["v", "mm.w"], ["m"], "matmul"),
        helper.make_node("Gemm", ["m", "fc.w", "fc.b"], ["y"], "fc", transB=1),
    ]
    initializers = [
        weight("conv.w", 16, 4, 3, 3),
        weight("conv.b", 16),
        weight("bn.s", 16),
        weight("bn.b", 16),
        weight("bn.m", 16),
        positive,
        weight("dw.w", 16, 1, 3, 3),
        weight("fc.w", 10, 24),
        weight("fc.b", 10),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        initializers,
        doc_string="not worth its bytes",
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The model as a file."""
    path = tmp_path / "model.onnx"
    onnx.save(build_model(), path)
    return path


@pytest.fixture
def calib(tmp_path: Path) -> Path:
    """40 samples for it."""
    path = tmp_path / "calib.npz"
    np.savez(path, x=np.random.default_rng(1).normal(size=(40, 4, 8, 8)).astype(np.float32))
    return path


@pytest.mark.parametrize("settings", [Settings(fold_bn=False), Settings(), Settings(method="cerwu")], ids=str)
def test_what_is_rebuilt_is_what_was_quantised(settings: Settings, model: Path, calib: Path, tmp_path: Path) -> None:
    """Weights, and parameters that moved, are the quantiser's, bit for bit; everything else is the original's."""
    report = cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib, settings=settings)
    graph, _, source = prepare(model, settings, calib)
    found = quantize_model(graph, source, replace(settings, lambda_=report.lambda_))
    expected, left = found.quantized, constant_tensors(found.graph.model)
    parameters = {name for layer in graph.layers for name in layer.parameters}
    assert {layer.name for layer in report.layers} == {"conv.w", "mm.w", "fc.w", "dw.w"}
    coded = {entry.name for entry in (*report.layers, *report.parameters)}
    assert coded <= set(expected)
    original = constant_tensors(graph.model)
    rebuilt_model = cerwu_onnx.decompress(tmp_path / "o.cwb", tmp_path / "o.onnx")
    assert onnx.load(tmp_path / "o.onnx") == rebuilt_model
    onnx.checker.check_model(rebuilt_model, full_check=True)
    rebuilt = constant_tensors(rebuilt_model)
    assert rebuilt.keys() == original.keys()
    for name, tensor in rebuilt.items():
        exact = left if name in parameters else original
        values = expected[name].values() if name in coded else numpy_helper.to_array(exact[name])
        assert numpy_helper.to_array(tensor).tobytes() == values.tobytes(), name


@pytest.mark.parametrize("method", ["trellis", "cerwu"])
def test_the_report_accounts_for_every_byte(method: str, model: Path, calib: Path, tmp_path: Path) -> None:
    report = cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib, settings=Settings(method=method))
    assert report.file_bytes == (tmp_path / "o.cwb").stat().st_size
    assert report.file_bytes == report.weight_bytes + sum(report.other_bytes.values())
    assert report.model_bytes == model.stat().st_size
    assert report.weights == 16 * 4 * 9 + 16 * 9 + 16 * 24 + 240
    assert report.calibration_samples == 40
    folded = method == "trellis"  # as it is by default
    rest = {"conv.b", "fc.b"} if folded else {"conv.b", "bn.s", "bn.b", "bn.m", "bn.var", "fc.b"}
    assert sorted(tensor.name for tensor in (*report.kept, *report.parameters)) == sorted(rest)
    assert all(kept.reason for kept in report.kept)
    assert set(report.seconds) == {"load", "search" if method == "trellis" else "calibrate", "quantize", "encode"}
    assert (report.fidelity is not None) == (method == "trellis")
    body = report.to_dict()
    assert {"schema", "file_bytes", "weights", "weight_bytes", "bits_per_weight", "layers", "lambda"} <= set(body)
    assert body["bits_per_weight"] == pytest.approx(8 * report.weight_bytes / report.weights)


def test_a_session_gives_what_the_rebuilt_model_gives(model: Path, calib: Path, tmp_path: Path) -> None:
    cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib)
    cerwu_onnx.decompress(tmp_path / "o.cwb", tmp_path / "o.onnx")
    x = np.random.default_rng(2).normal(size=(3, 4, 8, 8)).astype(np.float32)
    ours = cerwu_onnx.load_session(tmp_path / "o.cwb").run(None, {"x": x})[0]
    session = ort.InferenceSession(str(tmp_path / "o.onnx"), providers=["CPUExecutionProvider"])
    assert np.array_equal(ours, session.run(None, {"x": x})[0])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_at_high_rate_hardly_changes_the_output(
    method: str, model: Path, calib: Path, tmp_path: Path
) -> None:
    settings = Settings(method=method, levels=1024, lambda_=1e-9)
    report = cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib, settings=settings)
    assert report.method == method
    (error,) = cerwu_onnx.compare(tmp_path / "o.cwb", model, calib)
    assert error.name == "y"
    assert error.relative < 0.02
    assert error.agreement is not None
    assert error.agreement > 0.9


def test_lambda_moves_along_the_curve(model: Path, calib: Path, tmp_path: Path) -> None:
    sizes, errors = [], []
    for lam in (1e-4, 3e-2, 0.3):
        report = cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib, settings=Settings(lambda_=lam), force=True)
        sizes.append(report.file_bytes)
        errors.append(max(layer.relative_error for layer in report.layers))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert sizes[0] > 1.1 * sizes[-1]


def test_without_data_it_warns_and_says_so_in_the_file(model: Path, tmp_path: Path) -> None:
    report = cerwu_onnx.compress(model, tmp_path / "o.cwb")
    assert report.calibration == "none"
    assert report.calibration_samples == 0
    assert any("no calibration data" in warning for warning in report.warnings)
    assert cerwu_onnx.open(tmp_path / "o.cwb").metadata["calibration"] == "none"


def test_data_beats_no_data(model: Path, calib: Path, tmp_path: Path) -> None:
    settings = Settings(method="optq", levels=8)
    cerwu_onnx.compress(model, tmp_path / "a.cwb", calib=calib, settings=settings)
    cerwu_onnx.compress(model, tmp_path / "b.cwb", settings=settings)
    with_data, without = (cerwu_onnx.compare(tmp_path / n, model, calib)[0].relative for n in ("a.cwb", "b.cwb"))
    assert with_data < without


def test_folding_is_recorded_and_keeps_the_output(model: Path, calib: Path, tmp_path: Path) -> None:
    settings = Settings(fold_bn=True, levels=1024, lambda_=0.0)
    report = cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib, settings=settings)
    assert report.folded == ("bn",)
    opened = cerwu_onnx.open(tmp_path / "o.cwb")
    assert opened.metadata["folded"] == 1
    assert "BatchNormalization" not in {node.op_type for node in opened.to_onnx().graph.node}
    assert cerwu_onnx.compare(tmp_path / "o.cwb", model, calib)[0].relative < 0.02


def test_a_model_that_random_inputs_do_not_fit_is_compressed_all_the_same(tmp_path: Path) -> None:
    """Folding is checked on random inputs; where that fails it is left out, and without it nothing has to run."""
    conv = helper.make_node("Conv", ["x", "w"], ["c"])
    norm = helper.make_node("BatchNormalization", ["c", "s", "t", "m", "v"], ["n"])
    tensors = {"w": normal(8, 4, 3, 3), **{name: np.ones(8, np.float32) for name in "stmv"}}
    for name, nodes in (("fold", [conv, norm]), ("plain", [conv])):
        result = value(nodes[-1].output[0], [1, 8, "H", "W"])
        onnx.save(build(nodes, [value("x", [1, 4, "H", "W"])], [result], tensors), tmp_path / f"{name}.onnx")
    report = cerwu_onnx.compress(tmp_path / "fold.onnx", tmp_path / "o.cwb")  # free axes get the length 1
    assert report.folded == ()
    assert any("not folded" in warning for warning in report.warnings)
    with pytest.raises(cerwu_onnx.ModelError, match="to check folding"):
        cerwu_onnx.compress(tmp_path / "fold.onnx", tmp_path / "p.cwb", settings=Settings(fold_bn=True))
    assert cerwu_onnx.compress(tmp_path / "plain.onnx", tmp_path / "q.cwb", settings=Settings(fold_bn=True)).layers


def test_a_model_without_layers_needs_no_calibration(tmp_path: Path) -> None:
    """Its outputs may be empty or infinite, which says nothing about any weight."""
    nodes = [helper.make_node("Div", ["x", "zero"], ["y"])]
    model = build(nodes, [value("x", ["N", 2])], [value("y", ["N", 2])], {"zero": np.zeros(2, np.float32)})
    onnx.save(model, tmp_path / "model.onnx")
    for samples in (np.ones((3, 2), np.float32), np.ones((0, 2), np.float32)):
        report = cerwu_onnx.compress(tmp_path / "model.onnx", tmp_path / "o.cwb", calib=[{"x": samples}], force=True)
        assert [kept.name for kept in report.kept] == ["zero"]


def test_same_input_same_bytes_in_this_and_another_process(model: Path, calib: Path, tmp_path: Path) -> None:
    for name in ("a.cwb", "b.cwb"):
        cerwu_onnx.compress(model, tmp_path / name, calib=calib)
    code = f"import cerwu_onnx; cerwu_onnx.compress({str(model)!r}, {str(tmp_path / 'c.cwb')!r}, calib={str(calib)!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.cwb", "b.cwb", "c.cwb"))
    assert a == b == c


def test_metadata_holds_no_path_and_says_what_was_done(model: Path, calib: Path, tmp_path: Path) -> None:
    report = cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib)
    metadata = cerwu_onnx.open(tmp_path / "o.cwb").metadata
    defaults = ConfigSettings()
    assert metadata["tool"] == f"cerwu-onnx {cerwu_onnx.__version__}"
    assert (metadata["method"], metadata["lambda"], metadata["folded"]) == (defaults.method, report.lambda_, 1)
    assert report.lambda_ != defaults.price  # a search found it
    assert "levels" not in metadata  # steps follow from lambda
    assert metadata["calibration"] == "data"
    assert len(metadata["model"]) == 16
    assert str(tmp_path) not in str(metadata)
    cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib, settings=Settings(method="cerwu"), force=True)
    metadata = cerwu_onnx.open(tmp_path / "o.cwb").metadata
    assert (metadata["method"], metadata["lambda"], metadata["levels"]) == ("cerwu", 1e-3, defaults.levels)
    assert "folded" not in metadata


def test_a_weight_too_small_to_gain_stays_exact(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.array([[1.5], [-3.25]], np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "m.onnx")
    fine = cerwu_onnx.Settings(lambda_=0.0, coder="ans")  # a table for two weights
    report = cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "o.cwb", settings=fine)
    assert not report.layers
    assert report.bits_per_weight == 0
    assert "would not be smaller" in report.kept[0].reason
    assert reader.read(tmp_path / "o.cwb").tensors[0].kind is f.Kind.RAW


def test_a_weights_only_file_holds_the_same_weights_by_name(model: Path, calib: Path, tmp_path: Path) -> None:
    whole = cerwu_onnx.compress(model, tmp_path / "a.cwb", calib=calib)
    bare = cerwu_onnx.compress(model, tmp_path / "b.cwb", calib=calib, settings=Settings(weights_only=True))
    assert bare.file_bytes < whole.file_bytes
    assert bare.file_bytes == bare.weight_bytes + sum(bare.other_bytes.values())
    a, b = cerwu_onnx.open(tmp_path / "a.cwb"), cerwu_onnx.open(tmp_path / "b.cwb")
    assert list(a) == list(b)
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    assert b.verify() == 6
    assert b"conv.w" in (tmp_path / "b.cwb").read_bytes()
    with pytest.raises(cerwu_onnx.UsageError, match="weights only"):
        cerwu_onnx.decompress(tmp_path / "b.cwb")


def test_an_open_file_is_a_mapping(model: Path, calib: Path, tmp_path: Path) -> None:
    cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib)
    opened = cerwu_onnx.open(tmp_path / "o.cwb")
    assert len(opened) == 6 == len(list(opened)) == opened.verify()
    assert opened["conv.w"].shape == (16, 4, 3, 3)
    assert opened["conv.w"].dtype == np.float32
    assert "nothing" not in opened
    with pytest.raises(KeyError):
        opened["nothing"]


def test_verifying_a_file_reads_its_graph_too(tmp_path: Path) -> None:
    """Every check value is right, and still no model can be made of it."""
    tensor = writer.encode_tensor(writer.RawTensor("w", f.ElementType.FLOAT32, normal(3)))
    for skeleton in (b"\x0a", b""):  # no protobuf message; no place for the tensor
        (tmp_path / "g.cwb").write_bytes(writer.assemble([tensor, writer.graph_section(["w"], skeleton)]))
        with pytest.raises(cerwu_onnx.CorruptFileError, match="graph section"):
            cerwu_onnx.open(tmp_path / "g.cwb").verify()


def test_outputs_are_never_lost_or_overwritten_by_surprise(model: Path, calib: Path, tmp_path: Path) -> None:
    target = tmp_path / "o.cwb"
    target.write_bytes(b"precious")
    with pytest.raises(cerwu_onnx.UsageError, match="exists"):
        cerwu_onnx.compress(model, target, calib=calib)
    with pytest.raises(cerwu_onnx.UsageError, match="is the input itself"):
        cerwu_onnx.compress(model, model, calib=calib, force=True)
    with pytest.raises(cerwu_onnx.UsageError, match="does not exist"):
        cerwu_onnx.compress(model, tmp_path / "missing" / "o.cwb", calib=calib)
    with pytest.raises(cerwu_onnx.UsageError, match="is a folder"):
        cerwu_onnx.compress(model, tmp_path, calib=calib, force=True)
    bad = tmp_path / "bad.npz"
    np.savez(bad, wrong=np.zeros((3, 4, 8, 8), np.float32))
    with pytest.raises(cerwu_onnx.CalibrationError):
        cerwu_onnx.compress(model, target, calib=bad, force=True)
    assert target.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.npz", "calib.npz", "model.onnx", "o.cwb"]


def test_a_one_shot_iterator_of_feeds_loses_none(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    feeds = ({"x": rng.normal(size=(4, 4, 8, 8)).astype(np.float32)} for _ in range(5))
    report = cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=feeds, settings=Settings(fold_bn=True))
    assert report.calibration_samples == 20


def test_decompress_never_overwrites_its_input_and_sees_all_damage(model: Path, calib: Path, tmp_path: Path) -> None:
    path = tmp_path / "o.cwb"
    cerwu_onnx.compress(model, path, calib=calib)
    with pytest.raises(cerwu_onnx.UsageError, match="is the input itself"):
        cerwu_onnx.decompress(path, path, force=True)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # in the metadata
    path.write_bytes(content)
    with pytest.raises(cerwu_onnx.CorruptFileError, match="section: payload CRC"):
        cerwu_onnx.decompress(path)


def test_compare_refuses_another_model(model: Path, calib: Path, tmp_path: Path) -> None:
    cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib)
    other = build_model()
    other.graph.output[0].name = "z"
    other.graph.node[-1].output[0] = "z"
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(cerwu_onnx.CheckFailed, match="different outputs"):
        cerwu_onnx.compare(tmp_path / "o.cwb", tmp_path / "other.onnx", calib)


@pytest.mark.parametrize("case", shared_models() or [None], ids=lambda case: case.name if case else "absent")
def test_real_models_come_back_as_they_were_quantised(case: BenchModel | None, tmp_path: Path) -> None:
    """The score of the decompressed file is that of the quantised weights before coding."""
    if case is None:
        pytest.skip(ABSENT)
    from cerwu_onnx.model.tensors import with_tensors

    settings = Settings(method="optq", levels=16)
    report = cerwu_onnx.compress(case.onnx, tmp_path / "o.cwb", calib=case.calib, settings=settings)
    coded = {entry.name for entry in (*report.layers, *report.parameters)}
    cerwu_onnx.decompress(tmp_path / "o.cwb", tmp_path / "o.onnx")
    graph, _, source = prepare(case.onnx, settings, case.calib)
    stats, _ = statistics(graph, source, settings)
    quantized = dict(quantize_layers(graph, stats, settings)[0])
    onnx.save(with_tensors(graph.model, {n: quantized[n].values() for n in coded}), tmp_path / "before.onnx")
    rebuilt, before = (constant_tensors(onnx.load(tmp_path / name)) for name in ("o.onnx", "before.onnx"))
    assert all(
        numpy_helper.to_array(rebuilt[n]).tobytes() == numpy_helper.to_array(before[n]).tobytes() for n in before
    )
    score = case.evaluate()
    assert score(str(tmp_path / "o.onnx"), limit=500) == score(str(tmp_path / "before.onnx"), limit=500)


def test_a_layer_that_loses_its_output_is_named(model: Path, calib: Path, tmp_path: Path) -> None:
    report = cerwu_onnx.compress(model, tmp_path / "o.cwb", calib=calib, settings=Settings(method="rtn", levels=2))
    assert any("layer dw.w loses" in warning or "layer conv.w loses" in warning for warning in report.warnings)
