"""Small ONNX models for tests, fixed and random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def value(name: str, shape: Sequence[int | str] | None = None, elem_type: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    tensors: dict[str, np.ndarray],
    *,
    ir_version: int = 8,
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        list(inputs),
        list(outputs),
        [numpy_helper.from_array(t, n) for n, t in tensors.items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, functions=list(functions))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def constant(name: str, array: np.ndarray, inner: str = "") -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, inner))


def conv_net(ir_version: int = 8) -> onnx.ModelProto:
    """Conv - BatchNormalization - Relu - depthwise Conv - pool - Gemm (its weight in a Constant node)."""
    rng = np.random.default_rng(1)
    tensors = {
        "conv.w": normal(4, 3, 3, 3, seed=2),
        "conv.b": normal(4, seed=3),
        "bn.s": rng.uniform(0.5, 2, 4).astype(np.float32),
        "bn.b": normal(4, seed=4),
        "bn.m": normal(4, seed=5),
        "bn.v": rng.uniform(0.5, 2, 4).astype(np.float32),
        "dw.w": normal(4, 1, 3, 3, seed=6),
        "fc.b": normal(5, seed=7),
        "shape": np.array([0, -1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.w", "conv.b"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "bn.s", "bn.b", "bn.m", "bn.v"], ["b"], name="bn"),
        helper.make_node("Relu", ["b"], ["c"], name="relu"),
        helper.make_node("Conv", ["c", "dw.w"], ["d"], name="dw", group=4, strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
        helper.make_node("Reshape", ["e", "shape"], ["f"], name="flat"),
        constant("fc.w", normal(4, 5, seed=8), "inner"),
        helper.make_node("Gemm", ["f", "fc.w", "fc.b"], ["y"], name="fc"),
    ]
    inputs = [value("x", ["N", 3, 8, 8])]
    if ir_version < 4:
        inputs += [value(n, t.shape, helper.np_dtype_to_tensor_dtype(t.dtype)) for n, t in tensors.items()]
    return build(
        nodes,
        inputs,
        [value("y", ["N", 5])],
        tensors,
        ir_version=ir_version,
        opset=8 if ir_version < 4 else 17,
    )


def settled(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The model with the means and variances of its BatchNormalization nodes as they are on some data."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in found.graph.initializer}
    for node in found.graph.node:
        if node.op_type == "BatchNormalization":
            probe = onnx.ModelProto()
            probe.CopyFrom(found)
            del probe.graph.output[:]
            probe.graph.output.append(onnx.ValueInfoProto(name=node.input[0]))
            (values,) = run(probe, feed)
            axes = tuple(axis for axis in range(values.ndim) if axis != 1)
            for name, statistic in zip(node.input[3:5], (values.mean(axis=axes), values.var(axis=axes)), strict=True):
                tensors[name].CopyFrom(numpy_helper.from_array(statistic, name))
    return found


@st.composite
def random_models(draw: st.DrawFn) -> onnx.ModelProto:
    """A chain of elementwise and matrix nodes on a (2, n) input, constants of several types in both homes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.integers(1, 5))
    nodes: list[onnx.NodeProto] = []
    tensors: dict[str, np.ndarray] = {}
    current = "x"
    size = width
    for index in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["MatMul", "Gemm", "Add", "Identity", "Cast"]))
        name, out = f"c{index}", f"t{index}"
        array: np.ndarray | None = None
        if kind in ("MatMul", "Gemm"):
            following = draw(st.integers(1, 5))
            array = rng.standard_normal((size, following)).astype(np.float32)
            size = following
        elif kind == "Add":
            array = rng.standard_normal(draw(st.sampled_from([(), (1,), (size,), (1, size)]))).astype(np.float32)
        if kind == "Cast":  # a constant of another type, cast and added
            dtype = draw(st.sampled_from([np.float16, np.float64, np.int64]))
            array = (rng.standard_normal(size) * 3).astype(dtype)
            nodes.append(helper.make_node("Cast", [name], [f"{name}f"], to=FLOAT))
            nodes.append(helper.make_node("Add", [current, f"{name}f"], [out], doc_string="adds"))
        elif array is None:
            nodes.append(helper.make_node(kind, [current], [out]))
        else:
            nodes.append(helper.make_node(kind, [current, name], [out], name=f"n{index}"))
        if array is not None and draw(st.booleans()):
            nodes.insert(0, constant(name, array, draw(st.sampled_from(["", "value"]))))
        elif array is not None:
            tensors[name] = array
        current = out
    model = build(nodes, [value("x", [2, width])], [value(current, [2, size])], tensors)
    if draw(st.booleans()):
        model = onnx.shape_inference.infer_shapes(model)
    model.doc_string = draw(st.sampled_from(["", "words"]))
    return model


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)
