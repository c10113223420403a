"""Models that exporters write in unusual ways, compressed as a whole: what comes back is close to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx.compression.pipeline import compress
from cerwu_onnx.config import Settings
from cerwu_onnx.runtime import compare, decompress

from ..model.test_graph import carrying
from ..models import build, normal, settled, value


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def negative_axes() -> onnx.ModelProto:
    """Conv, BatchNormalization and MatMul, whose batch axis has the length -1, as Paddle writes it."""
    rng = np.random.default_rng(3)
    tensors = {
        "w": normal(16, 3, 3, 3),
        **{name: rng.uniform(0.5, 2, 16).astype(np.float32) for name in ("s", "b", "m", "v")},
        "v2": normal(16, 12, seed=1),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv"),
        helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["c"], name="bn"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "v2"], ["y"], name="fc"),
    ]
    return build(nodes, [value("x", [-1, 3, 8, 8])], [value("y", [-1, 12])], tensors)


@pytest.mark.parametrize("calibrated", [False, True])
def test_an_axis_of_length_minus_one_is_free(
    tmp_path: Path, calibrated: bool, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"x": normal(40, 3, 8, 8, seed=5)}
    path = saved(settled(negative_axes(), data), tmp_path)
    settings = Settings(output_loss="mse")  # as classes, random weights would answer one to nearly all samples
    report = compress(path, tmp_path / "m.cwb", calib=data if calibrated else None, settings=settings)
    assert {layer.name for layer in report.layers} == {"w", "v2"}
    assert report.folded == ("bn",)
    assert compare(tmp_path / "m.cwb", path, data)[0].relative < 0.3
    assert [record.message[:19] for record in caplog.records] == ([] if calibrated else ["no calibration data"])
    rebuilt = decompress(tmp_path / "m.cwb")
    assert rebuilt.graph.input[0].type.tensor_type.shape.dim[0].dim_value == -1


@pytest.mark.parametrize("op", ["Loop", "Scan"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_a_weight_that_a_loop_carries(
    tmp_path: Path, op: str, calibrated: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path, file = saved(carrying(op), tmp_path), tmp_path / "m.cwb"
    if op == "Loop":
        data: object = {"x": normal(32, 16, seed=7)}
    else:
        data = [{"x": normal(2, 16, seed=seed)} for seed in range(32)]  # Scan reads two rows
    report = compress(path, file, calib=data if calibrated else None, settings=Settings(lambda_=1e-4))
    assert [layer.name for layer in report.layers] == ["w"]
    assert report.file_bytes < 0.8 * path.stat().st_size
    assert all(error.relative < 0.05 for error in compare(file, path, data))
    assert [record.message[:19] for record in caplog.records] == ([] if calibrated else ["no calibration data"])
    assert decompress(file).graph.node[0].op_type == op
