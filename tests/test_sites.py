"""Every kind of layer through the whole pipeline, at a rate so high that the outputs stay what they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from cerwu_onnx import compress, decompress
from cerwu_onnx.config import Settings
from cerwu_onnx.graph import analyse, load_model
from cerwu_onnx.quantize.methods import METHODS
from cerwu_onnx.types import ConvPatch, Site

from .models import build, normal, run, value
from .test_recurrent import feeds, recurrent


def decoder(rank: int = 2, groups: int = 2) -> onnx.ModelProto:
    """Two transposed convolutions, the second with a bias and overlapping taps."""
    tensors = {
        "up.w": normal(8, 6 // groups, *(2,) * rank, seed=1),
        "out.w": normal(6, 4, *(3,) * rank, seed=2),
        "out.b": normal(4, seed=3),
    }
    nodes = [
        helper.make_node("ConvTranspose", ["x", "up.w"], ["a"], name="up", group=groups, strides=[2] * rank),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "out.w", "out.b"], ["y"], name="out", pads=[1] * (2 * rank)),
    ]
    sizes = ["N", *(["S"] * rank)]
    inputs = [value("x", [sizes[0], 8, *sizes[1:]])]
    return build(nodes, inputs, [value("y", [sizes[0], 4, *["U"] * rank])], tensors)


def check_high_rate(folder: Path, model: onnx.ModelProto, feed: dict[str, np.ndarray], method: str) -> None:
    """Compress, decompress: all layers are coded, nodes keep their outputs, which hardly change."""
    onnx.save(model, folder / "model.onnx")
    settings = Settings(method=method, levels=2000, lambda_=0.0)
    report = compress(folder / "model.onnx", folder / "model.cwb", calib=[feed], settings=settings)
    assert report.calibration_samples
    assert not report.warnings
    assert {layer.name for layer in report.layers} == {layer.weight for layer in analyse(model).layers}
    decompress(folder / "model.cwb", folder / "back.onnx")
    back = load_model(folder / "back.onnx")
    for before, after in zip(model.graph.node, back.graph.node, strict=True):
        assert [bool(name) for name in before.output] == [bool(name) for name in after.output]
    expected, found = run(model, feed)[0], run(back, feed)[0]
    assert 0 < np.linalg.norm(found - expected) <= 1e-2 * np.linalg.norm(expected)


@pytest.mark.parametrize("method", METHODS)
def test_every_method(tmp_path: Path, method: str) -> None:
    model = recurrent("LSTM", "bidirectional", sequence=False, initial="input", hidden=24)
    for name, case, feed in [("lstm", model, feeds(model)), ("decoder", decoder(), {"x": normal(2, 8, 5, 5)})]:
        (tmp_path / name).mkdir()
        check_high_rate(tmp_path / name, case, feed, method)


@pytest.mark.parametrize("op", ["GRU", "RNN"])
def test_other_recurrences(tmp_path: Path, op: str) -> None:
    model = recurrent(op, "reverse", hidden=24)
    check_high_rate(tmp_path, model, feeds(model), "cerwu")


@pytest.mark.parametrize("rank", [1, 3])
def test_other_transposed_convolutions(tmp_path: Path, rank: int) -> None:
    check_high_rate(tmp_path, decoder(rank, groups=1), {"x": normal(2, 8, *(5,) * rank)}, "cerwu")


def test_a_transposed_convolution_reads_pixels() -> None:
    up, out = analyse(decoder()).layers
    assert (up.layout.groups, up.layout.rows, up.layout.cols) == (2, 3 * 4, 4)
    assert up.sites == (Site("up", "ConvTranspose", "x", ConvPatch(2, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0))),)
    assert (out.layout.groups, out.layout.rows, out.layout.cols) == (1, 4 * 9, 6)
    assert out.bias is None  # a row is a tap, not an output
