"""Models that onnxruntime's tools have quantised already or turned into float16, and one model in every opset."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, version_converter

from ..models import build, normal, value
from . import case
from .case import Case, Sample, Skipped, completed, quiet, random_feeds
from .check import runs, session

SOURCE = "onnxruntime.quantization"
OLDEST = 9
"""Opset of the model that is converted."""

LARGEST_ERROR = 1e-2
"""Where activations are rounded to 8 bits, a weight that moves by a hair moves some of them by a whole step."""

Make = Callable[[], onnx.ModelProto]


def cases() -> Iterator[Case]:
    """Four models in each form that the tools can give them, then the opsets."""
    for name, network in (("CNN", cnn), ("MLP", mlp), ("attention", attention), ("LSTM", lstm)):
        for form, change in (
            ("static, QDQ", partial(_static, form="QDQ", per_channel=False)),
            ("static, QDQ, per channel", partial(_static, form="QDQ", per_channel=True)),
            ("static, QOperator", partial(_static, form="QOperator", per_channel=False)),
            ("dynamic", _dynamic),
            ("MatMulNBits, 4 bits", partial(_few_bits, bits=4)),
            ("MatMulNBits, 8 bits", partial(_few_bits, bits=8)),
            ("float16", _half),
        ):
            yield Case(f"{name}, {form}", SOURCE, partial(_sample, network, change))
    for opset in range(OLDEST, onnx.defs.onnx_opset_version() + 1):
        make = partial(_newer, partial(_converted, opset=opset))
        yield Case(f"CNN, opset {opset}", "onnx.version_converter", make)
    for version in range(3, onnx.IR_VERSION + 1):
        yield Case(f"CNN, IR version {version}", "form", partial(_newer, partial(_ir_version, version=version)))


def cnn() -> onnx.ModelProto:
    """Convolutions, one of them depthwise, with BatchNormalization, and a classifier."""
    rng = np.random.default_rng(0)
    tensors = {
        "conv.w": normal(8, 3, 3, 3) / 5,
        "conv.b": normal(8, seed=1),
        **{f"bn.{name}": rng.uniform(0.5, 2, 8).astype(np.float32) for name in "sbmv"},
        "dw.w": normal(8, 1, 3, 3, seed=2) / 3,
        "pw.w": normal(24, 8, 1, 1, seed=3) / 3,
        "pw.b": normal(24, seed=4),
        "fc.w": normal(24, 10, seed=5) / 2,
        "fc.b": normal(10, seed=6),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.w", "conv.b"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "bn.s", "bn.b", "bn.m", "bn.v"], ["b"], name="bn"),
        helper.make_node("Relu", ["b"], ["c"], name="relu"),
        helper.make_node("Conv", ["c", "dw.w"], ["d"], name="dw", group=8, strides=[2, 2]),
        helper.make_node("Conv", ["d", "pw.w", "pw.b"], ["e"], name="pw"),
        helper.make_node("GlobalAveragePool", ["e"], ["f"], name="pool"),
        helper.make_node("Flatten", ["f"], ["g"], name="flat"),
        helper.make_node("Gemm", ["g", "fc.w", "fc.b"], ["y"], name="fc"),
    ]
    return build(nodes, [value("x", ["N", 3, 8, 8])], [value("y", ["N", 10])], tensors, opset=OLDEST)


def mlp() -> onnx.ModelProto:
    """Two dense layers."""
    tensors = {"w": normal(32, 48) / 6, "b": normal(48, seed=1), "v": normal(48, 16, seed=2) / 7}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Add", ["a", "b"], ["c"], name="bias"),
        helper.make_node("Relu", ["c"], ["d"], name="relu"),
        helper.make_node("MatMul", ["d", "v"], ["y"], name="second"),
    ]
    return build(nodes, [value("x", ["N", 32])], [value("y", ["N", 16])], tensors)


def attention() -> onnx.ModelProto:
    """One head of self-attention with a residual and normalisation."""
    tensors = {name: normal(32, 32, seed=seed) / 6 for seed, name in enumerate("qkvo")}
    tensors |= {"scale": np.float32(32**-0.5), "gain": np.ones(32, np.float32), "shift": normal(32, seed=9) / 9}
    nodes = [helper.make_node("MatMul", ["x", name], [f"x{name}"], name=f"to_{name}") for name in "qkv"]
    nodes += [
        helper.make_node("Transpose", ["xk"], ["kt"], perm=[0, 2, 1], name="transpose"),
        helper.make_node("MatMul", ["xq", "kt"], ["dot"], name="dots"),
        helper.make_node("Mul", ["dot", "scale"], ["scaled"], name="scaling"),
        helper.make_node("Softmax", ["scaled"], ["weights"], axis=-1, name="softmax"),
        helper.make_node("MatMul", ["weights", "xv"], ["mixed"], name="mixing"),
        helper.make_node("MatMul", ["mixed", "o"], ["out"], name="to_o"),
        helper.make_node("Add", ["x", "out"], ["sum"], name="residual"),
        helper.make_node("LayerNormalization", ["sum", "gain", "shift"], ["y"], name="norm"),
    ]
    return build(nodes, [value("x", ["N", 5, 32])], [value("y", ["N", 5, 32])], tensors)


def lstm() -> onnx.ModelProto:
    """A bidirectional LSTM with a dense layer."""
    tensors = {
        "w": normal(2, 64, 12) / 4,
        "r": normal(2, 64, 16, seed=1) / 4,
        "b": normal(2, 128, seed=2) / 4,
        "fc": normal(16, 6, seed=3) / 4,
    }
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "b"], ["h"], hidden_size=16, direction="bidirectional", name="lstm"),
        helper.make_node("MatMul", ["h", "fc"], ["y"], name="fc"),
    ]
    return completed(build(nodes, [value("x", [7, "N", 12])], [value("y", ())], tensors))


def _sample(make: Make, change: Callable[[onnx.ModelProto, Path], onnx.ModelProto]) -> Sample:
    with quiet(), tempfile.TemporaryDirectory() as folder:
        try:
            model = change(make(), Path(folder))
            feeds = random_feeds(model, 8)
            session(model).run(None, feeds[0])
        except Exception as error:  # the tools give up in many ways
            raise Skipped(f"cannot be made: {type(error).__name__}: {str(error).splitlines()[0]}") from error
    rounded = any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph.node)
    return Sample(model, feeds, largest_error=LARGEST_ERROR if rounded else case.LARGEST_ERROR)


def _newer(change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> Sample:
    """A model that may be too new for onnxruntime."""
    model = change(cnn())
    feeds = random_feeds(model, 8)
    return Sample(model, feeds, runs=runs(model, feeds))


def _paths(model: onnx.ModelProto, folder: Path) -> tuple[Path, Path]:
    onnx.save(model, folder / "float.onnx")
    return folder / "float.onnx", folder / "quantised.onnx"


def _static(model: onnx.ModelProto, folder: Path, *, form: str, per_channel: bool) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter(random_feeds(model, 8))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    before, after = _paths(model, folder)
    quantize_static(
        before,
        after,
        Reader(),
        quant_format=QuantFormat[form],
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return onnx.load(after)


def _dynamic(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    from onnxruntime.quantization import quantize_dynamic

    before, after = _paths(model, folder)
    quantize_dynamic(before, after)
    return onnx.load(after)


def _few_bits(model: onnx.ModelProto, folder: Path, *, bits: int) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=16, is_symmetric=False)
    quantizer.process()
    result: onnx.ModelProto = quantizer.model.model
    if not any(node.op_type == "MatMulNBits" for node in result.graph.node):
        raise Skipped("it has no MatMul with a constant of two dimensions")
    return result


def _half(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    result: onnx.ModelProto = convert_float_to_float16(model)
    return result


def _converted(model: onnx.ModelProto, *, opset: int) -> onnx.ModelProto:
    converted = version_converter.convert_version(model, opset)
    converted.ir_version = max(model.ir_version, helper.find_min_ir_version_for(converted.opset_import, True))
    return converted


def _ir_version(model: onnx.ModelProto, *, version: int) -> onnx.ModelProto:
    model.ir_version = version
    if version < 4:
        model.graph.input.extend(
            value(tensor.name, tensor.dims, tensor.data_type) for tensor in model.graph.initializer
        )
    return model
