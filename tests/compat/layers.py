"""Operators that multiply weights, large enough that coding them pays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import onnx
from onnx import helper

from ..models import build, normal, value
from .case import Case, case, completed

SOURCE = "layer"
SPACES: dict[int, tuple[int, ...]] = {1: (20,), 2: (9, 8), 3: (5, 6, 5)}


def cases() -> Iterator[Case]:
    """One case per way to multiply."""
    for rank in SPACES:
        for name, channels, groups, attributes in (
            ("plain", (6, 16), 1, {}),
            ("strided, padded, dilated", (6, 16), 1, {"strides": 2, "dilations": 2, "pads": 2}),
            ("grouped", (8, 24), 4, {}),
            ("depthwise", (16, 16), 16, {}),
            ("same, upper", (6, 16), 1, {"auto_pad": "SAME_UPPER"}),
        ):
            make = partial(_conv, "Conv", rank, channels, groups, attributes)
            yield case(SOURCE, f"Conv {rank}-D, {name}", make)
            if "same" not in name:
                make = partial(_conv, "ConvTranspose", rank, channels, groups, attributes)
                yield case(SOURCE, f"ConvTranspose {rank}-D, {name}", make)
    for trans_a in (0, 1):
        for trans_b in (0, 1):
            for side in "AB":
                make = partial(_gemm, side, trans_a, trans_b)
                yield case(SOURCE, f"Gemm, constant {side}, transA={trans_a}, transB={trans_b}", make)
    for name, x, w, right in (
        ("2-D", (5, 24), (24, 16), True),
        ("1-D weight", (5, 64), (64,), True),
        ("left", (24, 5), (16, 24), False),
        ("batched weight", (4, 5, 12), (4, 12, 16), True),
        ("batched weight, left", (4, 12, 5), (4, 16, 12), False),
        ("broadcast input", (5, 12), (3, 12, 16), True),
        ("4-D input", (2, 3, 5, 12), (12, 16), True),
        ("broadcast weight", (2, 3, 5, 12), (3, 12, 16), True),
    ):
        yield case(SOURCE, f"MatMul, {name}", partial(_matmul, x, w, right))
    for equation, x, w in (
        ("bi,io->bo", (4, 20), (20, 24)),
        ("bij,jk->bik", (2, 5, 20), (20, 24)),
        ("oi,bi->bo", (24, 20), (4, 20)),
        ("bhi,hio->bho", (4, 3, 12), (3, 12, 10)),
        ("b...d,dhe->bh...e", (2, 5, 16), (16, 2, 12)),
        ("abc,cde->abde", (2, 3, 8), (8, 5, 6)),
        ("bc,bc->b", (6, 40), (6, 40)),
        ("ij,jk,kl->il", (4, 16), (16, 18)),
    ):
        yield case(SOURCE, f"Einsum {equation}", partial(_einsum, equation, x, w))
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction in ("forward", "reverse", "bidirectional"):
            yield case(SOURCE, f"{op}, {direction}", partial(_recurrent, op, gates, direction, states=False))
        yield case(SOURCE, f"{op} with initial states", partial(_recurrent, op, gates, "forward", states=True))
    yield case(SOURCE, "GRU, linear before reset", partial(_recurrent, "GRU", 3, "forward", linear_before_reset=1))
    yield case(SOURCE, "Gather from a table", partial(_gather, 0))
    yield case(SOURCE, "Gather along the last axis", partial(_gather, 1))
    yield case(SOURCE, "DeformConv", _deform_conv)


def _conv(op: str, rank: int, channels: tuple[int, int], groups: int, attributes: dict[str, Any]) -> onnx.ModelProto:
    inputs, outputs = channels
    kernel = (3,) * rank
    shape = (outputs, inputs // groups, *kernel) if op == "Conv" else (inputs, outputs // groups, *kernel)
    wide = {
        key: [number] * (2 * rank if key == "pads" else rank) if isinstance(number, int) else number
        for key, number in attributes.items()
    }
    nodes = [helper.make_node(op, ["x", "w", "b"], ["y"], group=groups, **wide)]
    tensors = {"w": normal(*shape, seed=rank), "b": normal(outputs, seed=9)}
    return _single(nodes, (2, inputs, *SPACES[rank]), tensors)


def _gemm(side: str, trans_a: int, trans_b: int) -> onnx.ModelProto:
    rows, inner, columns = (5, 24, 16) if side == "B" else (16, 24, 5)
    a, b = (inner, rows) if trans_a else (rows, inner), (columns, inner) if trans_b else (inner, columns)
    names = ["w", "x"] if side == "A" else ["x", "w"]
    nodes = [helper.make_node("Gemm", [*names, "c"], ["y"], transA=trans_a, transB=trans_b, alpha=0.5, beta=2.0)]
    tensors = {"w": normal(*(a if side == "A" else b)), "c": normal(columns, seed=1)}
    return _single(nodes, b if side == "A" else a, tensors)


def _matmul(x: tuple[int, ...], w: tuple[int, ...], right: bool) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"] if right else ["w", "x"], ["y"])]
    return _single(nodes, x, {"w": normal(*w)})


def _einsum(equation: str, x: tuple[int, ...], w: tuple[int, ...]) -> onnx.ModelProto:
    tensors = {"w": normal(*w)}
    inputs = ["x", "w"]
    if equation.startswith("oi"):
        x, tensors, inputs = w, {"w": normal(*x)}, ["w", "x"]
    if equation.count(",") == 2:
        tensors["v"], inputs = normal(18, 7, seed=2), ["x", "w", "v"]
    return _single([helper.make_node("Einsum", inputs, ["y"], equation=equation)], x, tensors)


def _recurrent(op: str, gates: int, direction: str, *, states: bool = False, **attributes: int) -> onnx.ModelProto:
    hidden, width, directions = 10, 7, 2 if direction == "bidirectional" else 1
    tensors = {
        "w": normal(directions, gates * hidden, width, seed=1) / 3,
        "r": normal(directions, gates * hidden, hidden, seed=2) / 3,
        "b": normal(directions, 2 * gates * hidden, seed=3) / 3,
    }
    inputs = [value("x", [6, 3, width])]
    names = ["x", "w", "r", "b", ""]
    for state in ["h", "c"][: 2 if op == "LSTM" else 1] if states else ():
        inputs.append(value(state, [directions, 3, hidden]))
        names.append(state)
    outputs = ["y", "y_h", "y_c"][: 3 if op == "LSTM" else 2]
    nodes = [helper.make_node(op, names, outputs, hidden_size=hidden, direction=direction, **attributes)]
    return completed(build(nodes, inputs, [value(name, ()) for name in outputs], tensors))


def _gather(axis: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["y"], axis=axis)]
    inputs = [value("ids", ["N", 4], onnx.TensorProto.INT64)]
    return completed(build(nodes, inputs, [value("y", ())], {"table": normal(20, 24)}))


def _deform_conv() -> onnx.ModelProto:
    nodes = [helper.make_node("DeformConv", ["x", "w", "offset"], ["y"], kernel_shape=[3, 3])]
    inputs = [value("x", [1, 6, 6, 6]), value("offset", [1, 18, 4, 4])]
    return build(nodes, inputs, [value("y", [1, 8, 4, 4])], {"w": normal(8, 6, 3, 3)}, opset=19, ir_version=9)


def _single(nodes: Sequence[onnx.NodeProto], shape: Sequence[int], tensors: dict[str, Any]) -> onnx.ModelProto:
    return completed(build(nodes, [value("x", shape)], [value("y", ())], tensors))
