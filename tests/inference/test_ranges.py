"""Grids of int8 layers: which layers have one, which values share one, and what the data gives; the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import helper

from cerwu_onnx.calibration import open_data
from cerwu_onnx.calibration.collect import open_session, run_session
from cerwu_onnx.cli.app import run
from cerwu_onnx.config import LayerRule
from cerwu_onnx.container.reader import Container
from cerwu_onnx.errors import CalibrationError, UsageError
from cerwu_onnx.firmware.export import export
from cerwu_onnx.firmware.kernels import KernelScales, read_scales, scales_text
from cerwu_onnx.inference.layers import layers_of
from cerwu_onnx.inference.ranges import grid, kernel_scales
from cerwu_onnx.opened import CompressedModel

from ..models import build, normal, value
from .programs import compressed, net

EIGHT_BITS = {"lambda_": 1e-4, "weight_layout": "cmsis", "rules": (LayerRule("*", bits=8),)}
DATA = {"x": normal(12, 1, 12, 12, seed=3)}


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Container:
    return compressed(net(), tmp_path_factory.mktemp("net"), **EIGHT_BITS)


def found(container: Container, data: dict[str, np.ndarray]) -> tuple[dict[str, KernelScales], dict[str, str]]:
    opened = CompressedModel(container)
    return kernel_scales(opened, open_data(data, opened.to_onnx()))


def value_ranges(container: Container) -> dict[str, tuple[float, float]]:
    """The least and the greatest element of each value of :func:`net` over the data, by its name there."""
    model = CompressedModel(container).to_onnx()
    here = [node.output[0] for node in model.graph.node]  # a file does not keep names of values
    arrays = run_session(open_session(model, here), here, DATA)
    names = [node.output[0] for node in net().graph.node]
    values = dict(zip(names, (arrays[name] for name in here), strict=True)) | DATA
    return {name: (float(array.min()), float(array.max())) for name, array in values.items()}


ends = st.floats(-1e6, 1e6, width=32)


@given(ends, ends)
@example(0.0, 4.456129116552918e-43)
def test_a_grid_covers_its_range(first: float, second: float) -> None:
    """The ends of the range are half a step from an integer at most, and so is all between them."""
    least, greatest = min(first, second), max(first, second)
    scale, zero = grid(least, greatest)
    assert -128 <= zero <= 127
    assert np.float32(scale) == scale > 0
    for end in (min(least, 0.0), max(greatest, 0.0)):
        nearest = np.clip(np.rint(end / scale) + zero, -128, 127)
        assert abs(scale * (nearest - zero) - end) <= 0.5001 * scale + 1e-6 * abs(end)


def test_layers_and_their_values(container: Container) -> None:
    scales, left = found(container, DATA)
    assert left == {}
    assert list(scales) == ["stem", "depth", "point", "side", "wide", "fc", "last"]
    read = {"stem": "x", "depth": "b", "point": "d", "side": "d", "wide": "e", "last": "k"}
    written = {"stem": "b", "depth": "d", "point": "e", "side": "s", "wide": "w", "fc": "k", "last": "l"}
    ranges = value_ranges(container)
    for names, side in ((read, "input"), (written, "output")):
        for weight, name in names.items():
            entry = scales[weight]
            assert (getattr(entry, side), getattr(entry, f"{side}_zero")) == grid(*ranges[name])
    # The mean and what is flattened stay in the grid of what they read.
    assert (scales["fc"].input, scales["fc"].input_zero) == grid(*ranges["g"])
    assert {name: entry.bias for name, entry in scales.items()} == {
        "stem": "stem.b", "depth": None, "point": "point.b", "side": None, "wide": None, "fc": "fc.b", "last": None
    }  # fmt: skip
    assert {name: entry.axis for name, entry in scales.items() if entry.axis} == {"last": 1}
    assert (scales["stem"].output_zero, scales["stem"].output_min) == (-128, -128)  # Relu
    assert scales["depth"].output_max == round(scales["depth"].output_zero + 6 / scales["depth"].output)  # Clip


def test_limits_of_an_activation_whose_grid_is_wider(tmp_path: Path) -> None:
    """Where Relu's output shares a grid with negative values, saturation is not enough; Clip may leave 0 out."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "a"], ["1"]),
        node("Relu", ["1"], ["2"]),
        node("Conv", ["x", "b", "b.b"], ["3"]),
        node("Concat", ["2", "3"], ["4"], axis=1),
        node("Conv", ["4", "c"], ["5"]),
        node("Clip", ["5", "least", "most"], ["y"]),
    ]
    tensors = {name: normal(4, 4, 3, 3, seed=seed) for seed, name in enumerate("ab")} | {"c": normal(4, 8, 3, 3)}
    tensors |= {"b.b": normal(4), "least": np.array(0.5, np.float32), "most": np.array(6.0, np.float32)}
    model = build(nodes, [value("x", ["N", 4, 8, 8])], [value("y", ["N", 4, 4, 4])], tensors)
    scales, _ = found(compressed(model, tmp_path, **EIGHT_BITS), {"x": normal(4, 4, 8, 8)})
    assert scales["a"].output == scales["b"].output == scales["c"].input
    assert scales["a"].output_min == scales["a"].output_zero > -128
    assert scales["b"].output_min == -128
    assert scales["c"].output_min == round(scales["c"].output_zero + 0.5 / scales["c"].output) > -128


def test_layers_without_kernel(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "line"], ["a"]),
        node("Flatten", ["a"], ["b"]),
        node("Gemm", ["b", "scaled"], ["c"], alpha=2.0),
        node("MatMul", ["c", "shared"], ["d"]),
        node("MatMul", ["d", "shared"], ["e"]),
        node("MatMul", ["e", "fine"], ["y"]),
    ]
    tensors = {
        "line": normal(8, 4, 3),
        "scaled": normal(48, 16),
        "shared": normal(16, 16),
        "fine": normal(16, 16),
    }
    model = build(nodes, [value("x", ["N", 4, 8])], [value("y", ["N", 16])], tensors)
    scales, left = found(compressed(model, tmp_path, **EIGHT_BITS), {"x": normal(4, 4, 8)})
    assert list(scales) == ["fine"]
    assert left == {
        "line": "no kernel computes this Conv",
        "scaled": "its Gemm scales or transposes",
        "shared": "several nodes use it",
    }


def test_what_the_header_says(container: Container) -> None:
    scales, _ = found(container, DATA)
    header = export(container, "net", scales, layers=layers_of(container)).files["net.h"].decode()
    assert f"#define NET_INPUT_ZERO_DEPTH ({scales['depth'].input_zero})" in header
    assert f"#define NET_OUTPUT_SCALE_STEM {np.float32(scales['stem'].output)}f" in header
    assert f"#define NET_OUTPUT_MAX_DEPTH {scales['depth'].output_max}" in header
    assert "#define NET_INPUT_DIMS_DEPTH 1, 8, 12, 12\n#define NET_OUTPUT_DIMS_DEPTH 1, 8, 6, 6" in header
    listed = header[header.index("#define NET_INT8_LAYERS") :].splitlines()
    assert listed[1:3] == ["    LAYER(conv, STEM, stem, net_bias_stem) \\", "    LAYER(depthwise, DEPTH, depth, 0) \\"]
    assert listed[7] == "    LAYER(fully_connected, LAST, last, 0)"


def test_data_that_does_not_fit(container: Container) -> None:
    with pytest.raises(CalibrationError, match="NaN or infinity"):
        found(container, {"x": np.full((2, 1, 12, 12), 3e38, np.float32)})


def test_command(container: Container, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "net.cwb", tmp_path / "scales.json"
    path.write_bytes(container.data)
    np.savez(tmp_path / "calib.npz", **DATA)
    command = ["calibrate", str(path), str(out), "--calib", str(tmp_path / "calib.npz")]
    assert run([*command, "--json"]) == 0
    body = json.loads(capfd.readouterr().out)
    assert body["left_out"] == {}
    assert {weight: KernelScales(**entry) for weight, entry in body["scales"].items()} == read_scales(out)
    assert read_scales(out) == found(container, DATA)[0]
    before = out.read_bytes()
    assert run(command) == 2
    assert "exists: use -f" in capfd.readouterr().err
    assert out.read_bytes() == before
    assert run([*command, "-f"]) == 0
    assert "stem" in capfd.readouterr().out
    assert run(["export-c", str(path), str(tmp_path / "firmware"), "--scales", str(out), "-q"]) == 0
    assert run(["calibrate", str(path), str(tmp_path / "no.json"), "--calib", str(tmp_path / "none.npz")]) == 2
    assert not (tmp_path / "no.json").exists()


def test_files_that_no_kernel_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weights only, no graph"):
        found(compressed(net(), tmp_path, weights_only=True), DATA)
    with pytest.raises(UsageError, match="no layer of this file fits int8 kernels"):
        found(compressed(net(), tmp_path, method="rtn", levels=1024), DATA)


positive, small = st.floats(1e-9, 1e9), st.integers(-128, 127)
name = st.none() | st.text(max_size=5)
entries = st.builds(KernelScales, positive, positive, name, st.none() | st.integers(0, 6), small, small, small, small)


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=5), entries, max_size=3))
def test_scales_come_back(tmp_path_factory: pytest.TempPathFactory, scales: dict[str, KernelScales]) -> None:
    path = tmp_path_factory.getbasetemp() / "scales.json"
    path.write_text(scales_text(scales), encoding="utf-8")
    assert read_scales(path) == scales
