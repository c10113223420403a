"""Whole networks in int8: the example is the arithmetic that it claims, bit for bit, here and on a Cortex-M4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

pytest.importorskip("ziglang", reason="no emulation of microcontrollers: pip install -e '.[emu]'")
pytest.importorskip("unicorn", reason="no emulation of microcontrollers: pip install -e '.[emu]'")

from cerwu_onnx.config import LayerRule
from cerwu_onnx.container.reader import Container
from cerwu_onnx.firmware.export import export, write_folder
from cerwu_onnx.firmware.kernels import KernelScales, kernel_constants
from cerwu_onnx.inference.layers import layers_of
from cerwu_onnx.opened import CompressedModel

from ..inference.programs import compiler, compressed
from ..models import build, normal, value
from . import int8

Made = tuple[Path, dict[str, KernelScales]]

INPUT, CLASSES = (2, 9, 7), 5


def net() -> onnx.ModelProto:
    """A small DS-CNN: strides, uneven pads, Clip, a layer without activation function, one without bias."""
    tensors = {
        "stem": normal(8, 2, 3, 2, seed=1),
        "stem.b": normal(8, seed=2),
        "depth": normal(8, 1, 3, 3, seed=3),
        "depth.b": normal(8, seed=4),
        "point": normal(12, 8, 1, 1, seed=5),
        "deep": normal(12, 1, 3, 3, seed=6),
        "deep.b": normal(12, seed=7),
        "wide": normal(6, 12, 2, 2, seed=8) / 4,
        "wide.b": normal(6, seed=9),
        "fc": normal(6, CLASSES, seed=10),
        "fc.b": normal(CLASSES, seed=11),
        "least": np.array(-0.5, np.float32),
        "most": np.array(2.0, np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "stem", "stem.b"], ["a"], strides=[2, 1], pads=[2, 1, 1, 0]),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "depth", "depth.b"], ["c"], group=8, pads=[1, 1, 1, 1]),
        node("Clip", ["c", "least", "most"], ["d"]),
        node("Conv", ["d", "point"], ["e"]),
        node("Conv", ["e", "deep", "deep.b"], ["f"], group=12, strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["f"], ["g"]),
        node("Conv", ["g", "wide", "wide.b"], ["h"], dilations=[1, 2]),
        node("Relu", ["h"], ["i"]),
        node("ReduceMean", ["i"], ["j"], axes=[2, 3], keepdims=0),
        node("MatMul", ["j", "fc"], ["k"]),
        node("Add", ["k", "fc.b"], ["y"]),
    ]
    return build(nodes, [value("x", ["N", *INPUT])], [value("y", ["N", CLASSES])], tensors)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Container:
    rules = (LayerRule("*", bits=8),)
    return compressed(net(), tmp_path_factory.mktemp("net"), lambda_=1e-4, weight_layout="cmsis", rules=rules)


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return normal(20, *INPUT, seed=12)


@pytest.fixture(scope="module")
def made(container: Container, samples: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("int8")
    firmware, scales = int8.firmware(container, {"x": samples})
    write_folder(firmware, folder, force=False)
    return folder, scales


@pytest.fixture(scope="module")
def host(made: Made) -> int8.Host:
    return int8.Host(made[0], compiler("cc", "gcc", "clang"), CLASSES)


def reference(container: Container, scales: Mapping[str, KernelScales], sample: np.ndarray) -> np.ndarray:
    """The network in Python's integers and numpy: what int8 kernels compute."""
    constants = kernel_constants(container, scales)
    symbols = {record.name: record for record in container.tensors}
    weights = {
        name: record.order.restore(container.symbols(record), record.shape)
        for name, record in symbols.items()
        if record.is_coded
    }
    layers = {layer.tensors[0]: layer.numbers for layer in layers_of(container)}
    first = next(iter(scales.values()))
    q = np.clip(
        np.trunc(sample / np.float32(first.input) + np.copysign(np.float32(0.5), sample)) + first.input_zero, -128, 127
    )
    q = q.astype(np.int64)
    for name, scale in scales.items():
        weight = weights[name].astype(np.int64)
        if weight.ndim == 2:
            total = q.sum(axis=(1, 2))
            area = q.shape[1] * q.shape[2]
            q = np.trunc((total + np.where(total > 0, area // 2, -(area // 2))) / area).astype(np.int64)
            sums = (q - scale.input_zero) @ weight
        else:
            sums = convolution(q - scale.input_zero, weight, layers[name])
        out = sums.reshape(len(sums), -1) + np.array(constants[name].get("bias", [0] * len(sums)))[:, None]
        pairs = zip(out.tolist(), constants[name]["multiplier"], constants[name]["shift"], strict=True)
        rows = [[rescaled(total, multiplier, shift) for total in row] for row, multiplier, shift in pairs]
        q = np.clip(np.array(rows).reshape(sums.shape) + scale.output_zero, scale.output_min, scale.output_max)
    return np.float32(scale.output) * (q - scale.output_zero).astype(np.float32)


def convolution(x: np.ndarray, weight: np.ndarray, numbers: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    top, left, bottom, right = numbers["pads"]
    x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    (sy, sx), (dy, dx) = numbers["strides"], numbers["dilations"]
    height = (x.shape[1] - (weight.shape[2] - 1) * dy - 1) // sy + 1
    width = (x.shape[2] - (weight.shape[3] - 1) * dx - 1) // sx + 1
    out = np.zeros((len(weight), height, width), np.int64)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            seen = x[:, i * dy :, j * dx :][:, ::sy, ::sx][:, :height, :width]
            if weight.shape[1] == 1 and len(x) > 1:
                out += weight[:, 0, i, j, None, None] * seen
            else:
                out += np.einsum("oc,chw->ohw", weight[:, :, i, j], seen)
    return out


def rescaled(total: int, multiplier: int, shift: int) -> int:
    """Two roundings: of the product by 2^31, halves up; of the shift to the right, halves away from 0."""
    high = ((total << max(shift, 0)) * multiplier + (1 << 30)) >> 31
    right = max(-shift, 0)
    half = (1 << right) >> 1
    return (abs(high) + half >> right) * (1 if high >= 0 else -1)


def test_every_bit_is_that_of_the_arithmetic(
    container: Container, samples: np.ndarray, made: Made, host: int8.Host
) -> None:
    scales = made[1]
    found = host.run(samples)
    expected = np.array([reference(container, scales, sample) for sample in samples])
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 20
    model = CompressedModel(container).to_onnx().SerializeToString()
    (floats,) = ort.InferenceSession(model).run(None, {"x": samples})
    assert np.sqrt(np.square(found - floats).mean() / floats.var()) < 0.1
    np.testing.assert_array_equal(host.run(1000 * samples[:1]), [reference(container, scales, 1000 * samples[0])])
    with pytest.raises(RuntimeError, match="-15"):
        host.run(samples[:1], arena=host.arena - 8)


def test_on_an_emulated_cortex_m4(samples: np.ndarray, made: Made, host: int8.Host, tmp_path: Path) -> None:
    run = int8.OnMachine(made[0], tmp_path, samples[3].size, CLASSES).run(samples[3])
    np.testing.assert_array_equal(run.output, host.run(samples[3:4])[0])
    assert 0 < run.stack < 2048


def test_networks_that_are_no_chain_are_refused(
    samples: np.ndarray, container: Container, made: Made, tmp_path: Path
) -> None:
    """A layer that reads in another grid than the one before it writes does not follow it."""
    scales = dict(made[1])
    scales["deep"] = replace(scales["deep"], input=2 * scales["deep"].input)
    write_folder(export(container, "model", scales, layers=layers_of(container)), tmp_path, force=False)
    with pytest.raises(RuntimeError, match="-16"):
        int8.Host(tmp_path, compiler("cc", "gcc", "clang"), CLASSES).run(samples[:1])
