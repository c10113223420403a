"""What gives way where memory does not suffice: Hessians in blocks, told of and refused by --strict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import cerwu_onnx
from cerwu_onnx import LayerRule, ModelError, Settings, report_files
from cerwu_onnx.calibration import model_inputs, open_source, sequential, walk
from cerwu_onnx.calibration import sums as sums_module
from cerwu_onnx.compression import memory_budget
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.quantize.blocks import cut
from cerwu_onnx.types import Layer, MatMulPatch, MatrixLayout

from ..models import build, normal, value
from .test_walk_quantizer import dense_net, rows

COLUMNS = 480
DATA = {"x": normal(700, COLUMNS, seed=1)}
MEMORY = 8 << 20


def model() -> onnx.ModelProto:
    """Two layers, of which only the first is wide, and neither has few rows."""
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "c"], ["y"]),
    ]
    tensors = {"a": normal(COLUMNS, 24, seed=2), "b": normal(24, seed=3), "c": normal(24, 12, seed=4)}
    return build(nodes, [value("x", ["N", COLUMNS])], [value("y", ["N", 12])], tensors)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(model(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_least_number_of_blocks() -> None:
    layer = analyse(model()).layers[0]
    whole = 2 * memory_budget.HESSIANS * 8 * COLUMNS**2
    memory = {1: whole, 2: whole // 2, 3: whole // 3 + 1, 8: whole // 7, COLUMNS: 1000}
    assert {memory_budget.blocks(layer, size) for size in memory.values()} == set(memory)
    assert all(memory_budget.blocks(layer, size) == count for count, size in memory.items())


def test_a_wide_layer_is_kept_in_blocks(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = cerwu_onnx.compress(path, path.with_suffix(".whole"), calib=DATA)
    assert {layer.blocks for layer in whole.layers} == {1}
    parts = cerwu_onnx.compress(path, path.with_suffix(".cwb"), calib=DATA, settings=Settings(memory=MEMORY))
    assert {layer.name: layer.blocks for layer in parts.layers} == {"a": 6, "c": 1}
    (warning,) = parts.warnings
    assert "the Hessians of a (480 columns, 6 blocks) are too large for 8 MiB of memory" in warning
    assert warning.endswith("--memory 43MiB holds them whole")
    enough = cerwu_onnx.compress(path, path.with_suffix(".43"), calib=DATA, settings=Settings(memory=43 << 20))
    assert {layer.blocks for layer in enough.layers} == {1}
    assert parts.output_loss is not None
    assert whole.output_loss is not None
    assert 0.5 < parts.output_loss / whole.output_loss < 2
    assert 0.8 < parts.weight_bytes / whole.weight_bytes < 1.25
    cerwu_onnx.open(path.with_suffix(".cwb")).verify()
    page = report_files.page_of(parts, path, path.with_suffix(".cwb"))
    report_files.write(page, [path.with_suffix(".md")], overwrite=True)
    assert "Hessians in blocks" in path.with_suffix(".md").read_text()


@pytest.mark.parametrize("method", ["trellis", "optq"])
def test_strict_refuses_blocks(path: Path, method: str) -> None:
    settings = Settings(method=method, memory=MEMORY, strict=True)
    with pytest.raises(ModelError, match="kept in blocks of columns"):
        cerwu_onnx.compress(path, path.with_suffix(".cwb"), calib=DATA, settings=settings)
    assert not path.with_suffix(".cwb").exists()
    skipped = replace(settings, rules=(LayerRule("a", skip=True),))
    assert not cerwu_onnx.compress(path, path.with_suffix(".cwb"), calib=DATA, settings=skipped).warnings


@pytest.mark.parametrize("folds", [1, 2])
def test_statistics_in_blocks_are_those_on_the_diagonal(folds: int) -> None:
    graph = analyse(model())
    parts = replace(graph, layers=tuple(replace(layer, blocks=3) for layer in graph.layers))
    found = []
    for each in (graph, parts):
        steps = walk(each, open_source(DATA, model_inputs(each.model)), folds=folds)
        for step in steps:
            found.append([step.stats[layer.weight] for layer in step.layers])
            if step.layers and step.layers[0].weight == "a":  # from here on the models differ
                step.commit({"a": np.round(graph.array("a"), 1)})
    for (whole,), (cut_apart,) in zip(found[:2], found[3:5], strict=True):
        assert (whole.blocks, cut_apart.blocks) == (1, 3)
        for one, other in zip((whole, *whole.folds), (cut_apart, *cut_apart.folds), strict=True):
            for name in ("hessian", "cross"):
                full, blocks = getattr(one, name), getattr(other, name)
                diagonal = [cut(full, 3)[i, i * blocks.shape[1] : (i + 1) * blocks.shape[1]] for i in range(3)]
                np.testing.assert_allclose(blocks, diagonal, rtol=1e-6, atol=1e-6)
            np.testing.assert_array_equal(one.mean, other.mean)
            np.testing.assert_array_equal(one.float_mean, other.float_mean)


@pytest.mark.parametrize("apart", [False, True])
def test_tiles_make_no_difference(apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(2, 90, 25, seed=7)
    other = np.round(x, 1) if apart else x
    found = []
    for tile in (100, 7):
        monkeypatch.setattr(sums_module, "TILE", tile)
        sums = sums_module.Sums("x", MatMulPatch(-1, (2,)), "w", (2, 25))
        sums.add(x, other)
        found.append(sums.arrays)
    assert len(found[0]) == (4 if apart else 2)
    for one, tiled in zip(*found, strict=True):
        np.testing.assert_allclose(one, tiled, rtol=1e-5, atol=1e-4)
    floats, wide = x.astype(np.float64), other.astype(np.float64)
    np.testing.assert_allclose(found[1][0], wide.swapaxes(1, 2) @ wide, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found[1][-2], floats.swapaxes(1, 2) @ wide, rtol=1e-5, atol=1e-4)


def test_gradients_that_do_not_fit(path: Path, tmp_path: Path) -> None:
    """Relative errors of all layers count the same, at a level measured along a walk."""
    network = dense_net(64, 300, 300, 10)
    onnx.save(network, path)
    data = rows(150, 64)
    graph = analyse(network)
    assert memory_budget.fits_whole(graph, 1 << 30)
    settings = Settings(memory=4 << 20)
    report = cerwu_onnx.compress(path, tmp_path / "m.cwb", calib=data, settings=settings)
    (warning,) = (text for text in report.warnings if "gradients" in text)
    assert (
        "more than 4 MiB of memory, so relative errors of all layers count the same: --memory 7MiB would do" in warning
    )
    (enough,) = (
        cerwu_onnx.compress(path, tmp_path / "n.cwb", calib=data, settings=Settings(memory=s << 20)) for s in [7]
    )
    assert not [text for text in enough.warnings if "gradients" in text]
    assert report.output_loss is not None
    assert enough.output_loss is not None
    assert report.output_loss < 4 * settings.price
    with pytest.raises(ModelError, match=r"are too large .* \(and 1 more\)"):
        cerwu_onnx.compress(path, tmp_path / "o.cwb", calib=data, settings=replace(settings, strict=True))


def test_new_values_are_forgotten_once_they_were_read() -> None:
    """All of them together are as large as the model."""
    graph = analyse(dense_net(12, 20, 20, 20, 5))
    steps = walk(graph, open_source(rows(30, 12), model_inputs(graph.model)), batch_size=8)
    held = []
    for step in steps:
        state = steps.gi_frame.f_locals["state"]
        held.append(len(state._committed))
        step.commit({layer.weight: np.round(graph.array(layer.weight), 1) for layer in step.layers})
    assert held == [0, 0, 0, 0, 0]


def test_the_batch_follows_from_one_sample_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """No session sees more than a segment."""
    graph = analyse(dense_net(12, 20, 20, 20, 5))
    opened: list[int] = []
    real = sequential.open_session

    def counted(segment: onnx.ModelProto) -> object:
        opened.append(len(segment.graph.node))
        return real(segment)

    monkeypatch.setattr(sequential, "open_session", counted)
    source = open_source(rows(30, 12), model_inputs(graph.model))
    assert sequential._choose_batch(graph, source, memory=4 * 4 * (12 + 20 + 20 + 20) * 3) == 3
    assert max(opened) < len(graph.model.graph.node)


@pytest.mark.parametrize(("share", "count"), [(1, 1), (2, 2), (3, 5), (5, 5), (6, 10), (50, 10)])
def test_blocks_divide_the_columns(share: int, count: int) -> None:
    """Ten of them, whose Hessians fit whole in so many times the half of the memory: 1, 2, 5 or 10 blocks."""
    layer = Layer("w", MatrixLayout((3, 10), (1, 3, 10), (0, 1, 2), 1, 3, 10), ())
    whole = memory_budget.HESSIANS * 8 * 10**2
    assert memory_budget.blocks(layer, 2 * whole // share) == count
