"""External data, and models beyond protobuf's 2 GB: tensor by tensor, with the same results as in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import cerwu_onnx
from cerwu_onnx import runtime
from cerwu_onnx.calibration.collect import open_session, run_session
from cerwu_onnx.compression.model_quantizer import quantize_layers, statistics
from cerwu_onnx.compression.spilled_tensors import SpilledTensors
from cerwu_onnx.config import Settings
from cerwu_onnx.container import format as container_format
from cerwu_onnx.errors import CheckFailed, ModelError, UsageError
from cerwu_onnx.model import loading, sessions
from cerwu_onnx.model.elements import elsewhere, raw_bytes
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.model.loading import load_model, model_size
from cerwu_onnx.model.tensors import constant_tensors
from cerwu_onnx.types import QuantizedTensor

from ..compression.test_walk_quantizer import dense_net, rows
from ..models import build, normal, value

MODEL = dense_net(24, 48, 32, 10)
DATA = rows(200, 24)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A model in one file, and with its data beside it, of which all but the biases stay there."""
    monkeypatch.setattr(loading, "LAZY", 1000)
    monkeypatch.setattr(runtime, "OUTSIDE", 1000)
    inside, outside = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(MODEL, inside)
    copy = onnx.ModelProto.FromString(MODEL.SerializeToString())  # saving changes it
    onnx.save(copy, outside, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return inside, outside


def tensors(path: Path) -> dict[str, bytes]:
    return {name: tensor.raw_data for name, tensor in constant_tensors(onnx.load(path)).items()}


def test_large_initializers_stay_in_their_file(pair: tuple[Path, Path]) -> None:
    inside, outside = pair
    whole, parts = load_model(inside), load_model(outside)
    assert [tensor.name for tensor in parts.graph.initializer if elsewhere(tensor)] == ["w0", "w1", "w2"]
    assert not any(map(elsewhere, whole.graph.initializer))
    for ours, theirs in zip(parts.graph.initializer, whole.graph.initializer, strict=True):
        assert raw_bytes(ours) == raw_bytes(theirs)
    assert model_size(inside) == inside.stat().st_size
    data = sum(len(raw_bytes(tensor)) for tensor in whole.graph.initializer)
    assert model_size(outside) == outside.stat().st_size + data
    for one, other in zip(
        *(run_session(open_session(m), ["logits"], DATA).values() for m in (whole, parts)), strict=True
    ):
        assert np.array_equal(one, other)
    (outside.parent / "weights.bin").unlink()
    with pytest.raises(ModelError, match="tensor 'w0' keeps its data in another file"):
        raw_bytes(parts.graph.initializer[0])


@pytest.mark.parametrize("calib", [None, DATA])
def test_external_data_makes_no_difference(pair: tuple[Path, Path], calib: object, tmp_path: Path) -> None:
    for model in pair:
        report = cerwu_onnx.compress(model, model.with_suffix(".cwb"), calib=calib)  # type: ignore[arg-type]
        assert report.model_bytes == model_size(model)
    one, other = (cerwu_onnx.open(model.with_suffix(".cwb")) for model in pair)
    assert {name: values.tobytes() for name, values in one.items()} == {
        name: values.tobytes() for name, values in other.items()
    }
    assert cerwu_onnx.compare(pair[1].with_suffix(".cwb"), pair[1], DATA) == cerwu_onnx.compare(
        pair[0].with_suffix(".cwb"), pair[0], DATA
    )


def test_models_are_written_with_external_data_on_request_or_need(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "m.cwb"
    cerwu_onnx.compress(pair[1], file)
    plain, asked, needed = (tmp_path / f"{name}.onnx" for name in ("plain", "asked", "needed"))
    cerwu_onnx.decompress(file, plain)
    model = cerwu_onnx.decompress(file, asked, external_data=True)
    assert [tensor.name for tensor in model.graph.initializer if tensor.external_data] == ["w0", "w1", "w2"]
    monkeypatch.setattr(runtime, "INSIDE", 100)
    cerwu_onnx.decompress(file, needed)
    assert asked.stat().st_size < plain.stat().st_size / 4
    assert tensors(plain) == tensors(asked) == tensors(needed)
    for path in (asked, needed):
        onnx.checker.check_model(str(path))
        assert Path(f"{path}.data").stat().st_size < 3 * 4096 + 4 * (24 * 48 + 48 * 32 + 32 * 10)
    assert not Path(f"{plain}.data").exists()
    asked.unlink()
    with pytest.raises(UsageError, match=r"asked\.onnx\.data exists"):
        cerwu_onnx.decompress(file, asked, external_data=True)
    assert not asked.exists()
    cerwu_onnx.decompress(file, asked, external_data=True, force=True)
    assert cerwu_onnx.open(file).verify() == len(cerwu_onnx.open(file))


def test_sessions_of_parts_that_do_not_read_everything(pair: tuple[Path, Path]) -> None:
    model = load_model(pair[1])
    del model.graph.node[1:]
    found = run_session(open_session(model, ["h0"]), ["h0"], DATA)
    assert np.array_equal(found["h0"], run_session(open_session(load_model(pair[0]), ["h0"]), ["h0"], DATA)["h0"])


def test_sessions_of_models_too_large_for_one_message(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cerwu_onnx.compress(pair[0], tmp_path / "m.cwb")
    before = cerwu_onnx.load_session(tmp_path / "m.cwb").run(None, DATA)
    monkeypatch.setattr(sessions, "_HEAVY", 4000)
    monkeypatch.setattr(sessions, "_LARGE", 2000)
    after = cerwu_onnx.load_session(tmp_path / "m.cwb").run(None, DATA)
    assert np.array_equal(before[0], after[0])


def test_a_search_and_a_metric_work_on_external_data(pair: tuple[Path, Path], tmp_path: Path) -> None:
    target = cerwu_onnx.Target(max_drop=0.05, metric="agreement", metric_data=DATA)
    report = cerwu_onnx.compress(pair[1], tmp_path / "m.cwb", calib=DATA, target=target)
    assert report.scores is not None
    assert report.scores.score >= 0.95
    with pytest.raises(CheckFailed):
        cerwu_onnx.compress(pair[1], tmp_path / "n.cwb", calib=DATA, target=cerwu_onnx.Target(size=100))


def test_more_tensors_than_the_directory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_format, "MAX_RECORDS", 12)
    names = [f"c{index}" for index in range(20)]
    constants = {name: normal(index + 2, seed=index) for index, name in enumerate(names)}
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
    nodes += [helper.make_node("Neg", [name], [f"{name}.y"]) for name in names]
    outputs = [value("y", ["N", 32]), *(value(f"{name}.y", [len(constants[name])]) for name in names)]
    model = build(nodes, [value("x", ["N", 32])], outputs, {"w": normal(32, 32), **constants})
    onnx.save(model, tmp_path / "m.onnx")
    cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb")
    opened = cerwu_onnx.open(tmp_path / "m.cwb")
    assert set(opened) == {"w", "c17", "c18", "c19"}
    after = constant_tensors(opened.to_onnx())
    assert all(np.array_equal(numpy_helper.to_array(after[name]), values) for name, values in constants.items())
    with pytest.raises(ModelError, match="the format holds 12"):
        cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "n.cwb", settings=Settings(weights_only=True))


def test_a_shelf_gives_back_what_it_was_given() -> None:
    spilled = SpilledTensors(memory=100)
    given = {
        str(limit): QuantizedTensor(np.array([[-limit, 0, limit]] * 50, np.int32), 0.5, 1.0, 2.0, 0.1, 3)
        for limit in (0, 127, 128, 32767, 40000)
    }
    for name, tensor in given.items():
        spilled.put(name, tensor)
    assert list(spilled) == list(given)
    assert len(spilled) == 5
    assert "other" not in spilled
    for name, tensor in given.items():
        assert spilled[name].symbols.dtype == np.int32
        assert np.array_equal(spilled[name].symbols, tensor.symbols)
        assert (spilled[name].step, spilled[name].run, spilled[name].energy) == (0.5, 3, 2.0)
    folder = Path(spilled._spill._folder.name)  # type: ignore[union-attr]
    assert len(list(folder.iterdir())) == 5
    del spilled
    assert not folder.exists()


def test_symbols_beyond_the_memory_bound_go_to_files() -> None:
    graph = analyse(dense_net(300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 10))
    settings = Settings(method="rtn", memory=1 << 25)
    stats, _ = statistics(graph, None, settings)
    spilled, _ = quantize_layers(graph, stats, settings)
    assert spilled._spill._folder is not None
    assert len(list(Path(spilled._spill._folder.name).iterdir())) == 1
    assert spilled["w11"].symbols.shape == (300, 300)
