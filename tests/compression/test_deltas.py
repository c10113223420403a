"""``compress(base=...)``: deltas of later states of a model, what they cost, and when a file of its own is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import cerwu_onnx
from cerwu_onnx import BaseError, Settings, Target, UsageError
from cerwu_onnx.compression.fidelity import THIN
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader
from cerwu_onnx.firmware.export import without_packed_sections

from ..models import build, normal, value

LAMBDA = Settings(lambda_=0.02)


def network(seed: int = 0) -> onnx.ModelProto:
    """Two layers with biases, a table of integers and a mask."""
    tensors = {
        "w": normal(40, 64, seed=seed),
        "b": normal(64, seed=seed + 1),
        "v": normal(64, 30, seed=seed + 2),
        "c": normal(30, seed=seed + 3),
        "table": np.rint(4 * normal(20, 20, seed=9)).astype(np.int8),
        "mask": 1 + (np.arange(30) > 20).astype(np.float32),
    }
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        onnx.helper.make_node("Relu", ["h"], ["r"]),
        onnx.helper.make_node("Gemm", ["r", "v", "c"], ["z"]),
        onnx.helper.make_node("Mul", ["z", "mask"], ["y"]),
        onnx.helper.make_node("Identity", ["table"], ["t"]),
    ]
    outputs = [value("y", ["N", 30]), value("t", [20, 20], onnx.TensorProto.INT8)]
    return build(nodes, [value("x", ["N", 40])], outputs, tensors)


def moved(model: onnx.ModelProto, **amounts: float) -> onnx.ModelProto:
    """A later state: tensors that have moved by noise of this size, or integers by the number."""
    later = onnx.ModelProto()
    later.CopyFrom(model)
    random = np.random.default_rng(5)
    for tensor in later.graph.initializer:
        if tensor.name in amounts:
            values = numpy_helper.to_array(tensor)
            change = amounts[tensor.name] * random.normal(size=values.shape)
            after = values + (change if values.dtype.kind == "f" else int(amounts[tensor.name]))
            tensor.CopyFrom(numpy_helper.from_array(after.astype(values.dtype), tensor.name))
    return later


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, by calibration data."""
    path = tmp_path_factory.mktemp("deltas")
    onnx.save(network(), path / "base.onnx")
    np.savez(path / "calib.npz", x=normal(200, 40, seed=8))
    cerwu_onnx.compress(path / "base.onnx", path / "base.cwb", calib=path / "calib.npz", settings=LAMBDA)
    return path


def compress(folder: Path, model: onnx.ModelProto, name: str, **more: object) -> cerwu_onnx.Report:
    onnx.save(model, folder / f"{name}.onnx")
    arguments = {"calib": folder / "calib.npz", "settings": LAMBDA, "base": folder / "base.cwb", "force": True} | more
    return cerwu_onnx.compress(folder / f"{name}.onnx", folder / f"{name}.cwb", **arguments)  # type: ignore[arg-type]


def values(path: Path, base: Path | None = None) -> dict[str, np.ndarray]:
    model = cerwu_onnx.decompress(path, base=base)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_the_same_model_costs_bytes(folder: Path) -> None:
    report = compress(folder, network(), "same")
    assert report.delta is not None
    assert (report.delta.changed, report.delta.anew) == (0, 0)
    assert report.file_bytes < 150
    assert report.delta.full_bytes == pytest.approx((folder / "base.cwb").stat().st_size, rel=0.02)
    before, after = values(folder / "base.cwb"), values(folder / "same.cwb", folder / "base.cwb")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_delta_leaves_no_margin_beside_that_of_its_base(folder: Path) -> None:
    """A full file stays a standard error above what was asked for, a delta only what so few samples ask for."""
    later = moved(network(), w=0.2, v=0.5)
    delta, full = (
        compress(folder, later, "margin", settings=Settings(), base=base) for base in (folder / "base.cwb", None)
    )
    assert delta.delta is not None
    assert delta.fidelity is not None
    assert full.fidelity is not None
    assert delta.fidelity.error > 0
    assert full.fidelity.kept > delta.fidelity.kept + 0.0005
    thin = 0.01 / (1 + THIN / delta.fidelity.samples)
    assert 1 - delta.fidelity.kept == pytest.approx(thin, rel=0.02)


def test_a_moved_layer_costs_its_changes(folder: Path) -> None:
    later = moved(network(), v=0.5, c=0.5)
    report = compress(folder, later, "last")
    assert report.delta is not None
    full = cerwu_onnx.compress(
        folder / "last.onnx", folder / "full.cwb", calib=folder / "calib.npz", settings=LAMBDA, force=True
    )
    assert report.file_bytes < 0.45 * full.file_bytes
    assert report.delta.full_bytes == pytest.approx(full.file_bytes, rel=0.05)
    assert sum(report.other_bytes.values()) + report.weight_bytes == report.file_bytes
    container = reader.read(folder / "last.cwb", folder / "base.cwb")
    kinds = {record.name: record.kind for record in container.tensors}
    assert kinds["w"] is f.Kind.UNCHANGED
    assert kinds["v"] is f.Kind.CHANGED
    assert kinds["table"] is f.Kind.UNCHANGED
    exact = {tensor.name: numpy_helper.to_array(tensor) for tensor in later.graph.initializer}
    got, old = values(folder / "last.cwb", folder / "base.cwb"), values(folder / "base.cwb")
    for name in ("v", "c"):
        assert np.square(got[name] - exact[name]).mean() < np.square(old[name] - exact[name]).mean()
    for name in ("table", "mask"):
        assert np.array_equal(got[name], exact[name])
    assert report.output_loss is not None
    assert full.output_loss is not None
    assert report.output_loss < 3 * full.output_loss


def test_rows_of_a_base_may_have_steps_of_their_own(folder: Path) -> None:
    """Changes of such rows lie on no trellis: a file of its own could not hold them in this order."""
    scaled = network()
    for tensor in scaled.graph.initializer:
        if tensor.name == "w":
            spread = numpy_helper.to_array(tensor) * (np.float32(4) ** (np.arange(64) % 6)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(spread.T.copy(), "w"))
    scaled.graph.node[0].attribute.append(onnx.helper.make_attribute("transB", 1))
    compress(folder, scaled, "rows", base=None)
    (record,) = (record for record in reader.read(folder / "rows.cwb").tensors if record.name == "w")
    assert record.stepped
    assert record.run
    assert record.order is f.Order.ROW_MAJOR
    report = compress(folder, moved(scaled, w=0.5, v=0.5), "rows-later", base=folder / "rows.cwb")
    assert {layer.name: layer.coder for layer in report.layers} == {"w": "unchanged", "v": "changed"}


def test_columns_of_a_base_may_have_steps_of_their_own(folder: Path) -> None:
    """Inputs of many sizes make them; their changes are counted in the steps of the base."""
    sizes = (np.float32(2) ** (np.arange(40) % 9)).astype(np.float32)
    np.savez(folder / "sizes.npz", x=normal(200, 40, seed=8) * sizes)
    scaled = network()
    for tensor in scaled.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / sizes[:, None], "w"))
    compress(folder, scaled, "columns", base=None, calib=folder / "sizes.npz")
    (record,) = (record for record in reader.read(folder / "columns.cwb").tensors if record.name == "w")
    assert (record.stepped, record.run, record.order) == (True, 64, f.Order.ROW_MAJOR)
    later = moved(scaled, w=0.002, v=0.5)
    more = {"base": folder / "columns.cwb", "calib": folder / "sizes.npz"}
    report = compress(folder, later, "columns-later", **more)
    assert {layer.name: layer.coder for layer in report.layers} == {"w": "changed", "v": "changed"}
    full = compress(folder, later, "columns-full", base=None, calib=folder / "sizes.npz")
    assert report.file_bytes < 0.7 * full.file_bytes
    assert report.output_loss is not None
    assert full.output_loss is not None
    assert report.output_loss < 2 * full.output_loss


def test_each_tensor_takes_the_cheapest_way(folder: Path) -> None:
    """A layer made anew is coded as in a file of its own, beside one that does not change."""
    report = compress(folder, moved(network(), v=3.0), "anew")
    assert report.delta is not None
    coders = {layer.name: layer.coder for layer in report.layers}
    assert coders["w"] == "unchanged"
    assert coders["v"] in ("ans", "adaptive")


@pytest.mark.parametrize("data", [True, False])
def test_a_model_from_scratch_has_a_file_of_its_own(folder: Path, data: bool) -> None:
    def wide(seed: int) -> onnx.ModelProto:
        node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
        return build([node], [value("x", ["N", 40])], [value("y", ["N", 200])], {"w": normal(40, 200, seed=seed)})

    more = {} if data else {"calib": None}
    compress(folder, wide(0), "wide", base=None, **more)
    report = compress(folder, wide(50), "scratch", base=folder / "wide.cwb", **more)
    assert report.delta is None
    assert any("the model has little in common with the base" in warning for warning in report.warnings)
    compress(folder, wide(50), "alone", base=None, **more)
    ours, theirs = values(folder / "scratch.cwb"), values(folder / "alone.cwb")
    assert np.array_equal(ours["w"], theirs["w"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model: model.graph.node[1].__setattr__("op_type", "Tanh"), "its graph, or a constant"),
        (lambda model: model.graph.initializer[5].CopyFrom(
            numpy_helper.from_array((np.arange(30) > 10).astype(np.float32), "mask")), "its graph, or a constant"),
        (lambda model: model.graph.initializer[4].CopyFrom(
            numpy_helper.from_array(np.arange(400, dtype=np.int16).reshape(20, 20), "table")), "its graph"),
        (lambda model: model.graph.initializer[3].CopyFrom(
            numpy_helper.from_array(np.zeros((1, 30), np.float32), "c")), "has another shape than in the base"),
        (lambda model: model.graph.initializer[3].__setattr__("name", "d") or
            model.graph.node[2].input.__setitem__(2, "d"), "it has not the tensors of the base"),
    ],
)  # fmt: skip
def test_another_model_has_a_file_of_its_own(folder: Path, change: object, words: str) -> None:
    model = network()
    change(model)  # type: ignore[operator]
    model.graph.output[1].type.tensor_type.elem_type = model.graph.initializer[4].data_type
    report = compress(folder, model, "other")
    assert report.delta is None
    assert any("no later state of the base" in warning and words in warning for warning in report.warnings)
    assert values(folder / "other.cwb")


def test_without_data(folder: Path) -> None:
    base = folder / "blind.cwb"
    cerwu_onnx.compress(folder / "base.onnx", base, settings=LAMBDA, force=True)
    report = compress(folder, moved(network(), v=0.02), "blind-later", calib=None, base=base)
    assert report.delta is not None
    assert report.file_bytes < base.stat().st_size / 2
    assert values(folder / "blind-later.cwb", base)


def test_weights_only(folder: Path) -> None:
    """Names and graph are the base's: whether it has a graph decides."""
    base = folder / "weights.cwb"
    settings = Settings(lambda_=0.02, weights_only=True)
    calib = folder / "calib.npz"
    cerwu_onnx.compress(folder / "base.onnx", base, calib=calib, settings=settings, force=True)
    report = compress(folder, moved(network(), v=0.05), "weights-later", base=base)
    assert report.delta is not None
    model = cerwu_onnx.open(folder / "weights-later.cwb", base=base)
    assert set(model) == set(cerwu_onnx.open(base))
    assert not model.has_graph
    assert model.verify() == len(model)


def test_by_fidelity_and_by_score(folder: Path) -> None:
    later = moved(network(), v=0.05)
    judged = compress(folder, later, "judged", settings=Settings())
    assert judged.fidelity is not None
    scored = Target(max_drop=0.05, metric="agreement", metric_data=str(folder / "calib.npz"), confidence=0.5)
    assert compress(folder, later, "scored", settings=Settings(), target=scored).scores is not None


def test_what_deltas_do_not_support(folder: Path) -> None:
    for more, words in (
        ({"settings": Settings(method="cerwu")}, "method trellis, not cerwu"),
        ({"settings": Settings(), "target": Target(size=1000)}, "no target size"),
        ({"settings": Settings(in_place=True)}, "not in place"),
    ):
        with pytest.raises(UsageError, match=words):
            compress(folder, network(), "refused", **more)
    compress(folder, network(), "same")
    with pytest.raises(BaseError, match="is itself a delta, which cannot be a base"):
        compress(folder, network(), "refused", base=folder / "same.cwb")
    with pytest.raises(UsageError, match="base"):
        cerwu_onnx.compress(folder / "base.onnx", folder / "base.cwb", base=folder / "base.cwb", force=True)


def test_opening_a_delta_without_its_base(folder: Path) -> None:
    compress(folder, moved(network(), v=0.05), "lone")
    for call in (cerwu_onnx.open, cerwu_onnx.decompress, cerwu_onnx.load_session):
        with pytest.raises(BaseError, match="needs its base"):
            call(folder / "lone.cwb")
    cerwu_onnx.compress(folder / "lone.onnx", folder / "own.cwb", settings=LAMBDA, force=True)
    with pytest.raises(BaseError, match="a delta for another base"):
        cerwu_onnx.open(folder / "lone.cwb", base=folder / "own.cwb")
    with pytest.raises(BaseError, match="no delta"):
        cerwu_onnx.open(folder / "base.cwb", base=folder / "base.cwb")
    session = cerwu_onnx.load_session(folder / "lone.cwb", base=folder / "base.cwb")
    assert session.run(["y"], {"x": normal(3, 40, seed=1)})[0].shape == (3, 30)
    errors = cerwu_onnx.compare(
        folder / "lone.cwb", folder / "lone.onnx", folder / "calib.npz", base=folder / "base.cwb"
    )
    assert max(error.relative for error in errors) < 0.2


def test_what_firmware_keeps_of_a_base_is_a_base(folder: Path) -> None:
    """export-c leaves out the graph and the metadata; a delta over the air knows the tensors all the same."""
    compress(folder, moved(network(), v=0.5), "air")
    base = reader.read(folder / "base.cwb")
    kept = reader.parse(without_packed_sections(base))
    assert len(kept.data) < len(base.data)
    data = (folder / "air.cwb").read_bytes()
    theirs, ours = reader.parse(data, kept), reader.parse(data, base)
    for record, other in zip(theirs.tensors, ours.tensors, strict=True):
        assert theirs.decode(record).tobytes() == ours.decode(other).tobytes()
