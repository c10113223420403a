"""Where weights can be in a graph, and what a graph can be made of besides operators and weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..models import build, constant, normal, value
from .case import Case, Sample, array_type, case, completed, random_feeds

SOURCE = "form"
INT64 = TensorProto.INT64


def cases() -> Iterator[Case]:
    """Graphs that onnxruntime runs, but for operators of an unknown domain."""
    for name, nodes in (
        ("Transpose", [helper.make_node("Transpose", ["w"], ["v"], perm=[1, 0])]),
        ("Identity", [helper.make_node("Identity", ["w"], ["v"])]),
        ("Reshape", [helper.make_node("Reshape", ["w", "shape"], ["v"])]),
        ("Cast", [helper.make_node("Cast", ["w"], ["v"], to=TensorProto.FLOAT)]),
        ("Mul", [helper.make_node("Mul", ["w", "scale"], ["v"])]),
        ("Unsqueeze and Squeeze", _chain(["Unsqueeze", "Squeeze"])),
        ("Transpose, Identity, Reshape", _chain(["Transpose", "Identity", "Reshape"])),
    ):
        yield case(SOURCE, f"weight behind {name}", partial(_behind, nodes))
    for name, make in (
        ("weights in Constant nodes", _constant_nodes),
        ("Constant nodes of other forms", _constant_forms),
        ("initializers that are inputs", _overridable),
        ("initializer that is an output", _initializer_output),
        ("initializers that nothing reads", _unread),
        ("tied: embedding and projection", _tied_embedding),
        ("tied: one weight, two inputs", _siamese),
        ("tied: one weight, two operators", _two_readers),
        ("both operands constant", _constant_product),
        ("If, weights in the branches", partial(_branches, inside=True)),
        ("If, weights around it", partial(_branches, inside=False)),
        ("If in If", _nested),
        ("Loop, weights in the body", partial(_loop, inside=True)),
        ("Loop, weights around it", partial(_loop, inside=False)),
        ("Scan, weights in the body", _scan),
        ("SequenceMap, weights in the body", _sequence_map),
        ("local function, weights inside", partial(_function, inside=True)),
        ("local function, weights passed to it", partial(_function, inside=False)),
        ("local function with attributes", _function_attributes),
        ("several inputs and outputs", _many),
        ("no node: the input is the output", _empty),
        ("no input", _no_input),
        ("no weight", _no_weight),
        ("data-dependent shape: NonZero", _nonzero),
        ("data-dependent shape: NonMaxSuppression", _detection),
        ("optional outputs left out", _optional_outputs),
        ("output of a sequence type", _sequence),
        ("labels only", _labels),
        ("metadata and annotations", _metadata),
    ):
        yield case(SOURCE, name, make)
    yield Case("operator of an unknown domain", SOURCE, lambda: Sample(_custom(), runs=False))
    yield Case("input of length 0", SOURCE, _empty_cache)


def _dense(name: str, out: str, x: str, inputs: int, outputs: int) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    """A Gemm with a weight and a bias of its own."""
    node = helper.make_node("Gemm", [x, f"{name}.w", f"{name}.b"], [out], name=name)
    seed = sum(name.encode())
    return node, {f"{name}.w": normal(inputs, outputs, seed=seed) / 4, f"{name}.b": normal(outputs, seed=seed + 1)}


def _finish(
    nodes: Sequence[onnx.NodeProto],
    tensors: dict[str, np.ndarray],
    inputs: Sequence[onnx.ValueInfoProto] = (),
    outputs: Sequence[str] = ("y",),
    **options: Any,
) -> onnx.ModelProto:
    results = [value(name, ()) for name in outputs]
    return completed(build(nodes, inputs or [value("x", ["N", 20])], results, tensors, **options))


def _chain(ops: Sequence[str]) -> list[onnx.NodeProto]:
    names = ["w", *(f"t{index}" for index in range(len(ops) - 1)), "v"]
    second = {"Reshape": ["shape"], "Unsqueeze": ["axis"], "Squeeze": ["axis"]}
    return [
        helper.make_node(op, [before, *second.get(op, [])], [after])
        for op, before, after in zip(ops, names, names[1:], strict=False)
    ]


def _behind(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    tensors = {"w": normal(24, 20), "scale": np.float32([0.5]), "axis": np.array([0])}
    flipped = nodes[0].op_type == "Transpose"
    tensors["shape"] = np.array([20, 24])
    if not flipped and not any(node.op_type == "Reshape" for node in nodes):
        tensors["w"] = normal(20, 24)
    if nodes[0].op_type == "Cast":
        tensors["w"] = tensors["w"].astype(np.float16)
    used = {name for node in nodes for name in node.input}
    tensors = {name: array for name, array in tensors.items() if name in used}
    return _finish([*nodes, helper.make_node("MatMul", ["x", "v"], ["y"])], tensors)


def _constant_nodes() -> onnx.ModelProto:
    nodes = [
        constant("w", normal(20, 24)),
        constant("b", normal(24, seed=1), "a name of its own"),
        helper.make_node("Gemm", ["x", "w", "b"], ["y"]),
    ]
    return _finish(nodes, {})


def _constant_forms() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], ["a"], value_floats=[0.5] * 20),
        helper.make_node("Constant", [], ["b"], value_float=2.0),
        helper.make_node("Constant", [], ["shape"], value_ints=[-1, 4, 5]),
        helper.make_node("Constant", [], ["words"], value_strings=["a", "b"]),
        helper.make_node("Mul", ["x", "a"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["n"]),
        helper.make_node("Reshape", ["n", "shape"], ["y"]),
    ]
    return _finish(nodes, {}, outputs=("y", "words"))


def _overridable() -> onnx.ModelProto:
    node, tensors = _dense("fc", "y", "x", 20, 24)
    infos = [value(name, array.shape, array_type(array)) for name, array in tensors.items()]
    return _finish([node], tensors, [value("x", ["N", 20]), *infos])


def _initializer_output() -> onnx.ModelProto:
    model = _finish([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": normal(20, 24), "v": normal(6, 8)})
    model.graph.output.extend([value("w", [20, 24]), value("v", [6, 8])])
    return model


def _unread() -> onnx.ModelProto:
    return _finish([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": normal(20, 24), "old": normal(30, 40)})


def _tied_embedding() -> onnx.ModelProto:
    node, tensors = _dense("fc", "h", "e", 16, 16)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e3"]),
        helper.make_node("ReduceMean", ["e3"], ["e"], axes=[1], keepdims=0),
        node,
        helper.make_node("Transpose", ["table"], ["head"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "head"], ["y"]),
    ]
    return _finish(nodes, {"table": normal(40, 16) / 4, **tensors}, [value("ids", ["N", 6], INT64)])


def _siamese() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", [name, "w"], [f"{name}w"]) for name in ("a", "b")]
    nodes.append(helper.make_node("Sub", ["aw", "bw"], ["y"]))
    return _finish(nodes, {"w": normal(20, 24)}, [value("a", ["N", 20]), value("b", ["N", 20])])


def _two_readers() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Gemm", ["h", "w"], ["g"], transB=1),
        helper.make_node("Tanh", ["w"], ["t"]),
        helper.make_node("MatMul", ["g", "t"], ["y"]),
    ]
    return _finish(nodes, {"w": normal(20, 24)})


def _constant_product() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["a", "b"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    return _finish(nodes, {"a": normal(20, 6), "b": normal(6, 24)})


def _branch(name: str, *, inside: bool) -> tuple[onnx.GraphProto, dict[str, np.ndarray]]:
    node, tensors = _dense(name, f"{name}.y", "x", 20, 24)
    own = [numpy_helper.from_array(array, key) for key, array in tensors.items()] if inside else []
    return helper.make_graph([node], name, [], [value(f"{name}.y", ["N", 24])], own), {} if inside else tensors


def _branches(*, inside: bool) -> onnx.ModelProto:
    (then, some), (other, more) = (_branch(name, inside=inside) for name in ("then", "else"))
    node = helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other)
    inputs = [value("x", ["N", 20]), value("flag", [], TensorProto.BOOL)]
    return _finish([node], {**some, **more}, inputs)


def _nested() -> onnx.ModelProto:
    then, _ = _branch("then", inside=True)
    other, _ = _branch("else", inside=True)
    inner = helper.make_node("If", ["second"], ["inner.y"], then_branch=then, else_branch=other)
    body = helper.make_graph([inner], "body", [], [value("inner.y", ["N", 24])])
    third, _ = _branch("third", inside=True)
    node = helper.make_node("If", ["first"], ["y"], then_branch=body, else_branch=third)
    flags = [value(name, [], TensorProto.BOOL) for name in ("first", "second")]
    return _finish([node], {}, [value("x", ["N", 20]), *flags])


def _loop(*, inside: bool) -> onnx.ModelProto:
    weight = {"w": normal(20, 20) / 9}  # errors shrink from step to step
    nodes = [
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Tanh", ["m"], ["h_out"]),
        helper.make_node("Identity", ["go"], ["go_out"]),
    ]
    inputs = [value("i", [], INT64), value("go", [], TensorProto.BOOL), value("h", [2, 20])]
    outputs = [value("go_out", [], TensorProto.BOOL), value("h_out", [2, 20])]
    own = [numpy_helper.from_array(weight["w"], "w")] if inside else []
    body = helper.make_graph(nodes, "body", inputs, outputs, own)
    node = helper.make_node("Loop", ["times", "", "x"], ["y"], body=body)
    tensors = {"times": np.array(3), **({} if inside else weight)}
    return build([node], [value("x", [2, 20])], [value("y", [2, 20])], tensors)


def _scan() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gemm", ["h", "r"], ["m"], transB=1),
        helper.make_node("Add", ["m", "s"], ["a"]),
        helper.make_node("Tanh", ["a"], ["h_out"]),
        helper.make_node("Identity", ["h_out"], ["seen"]),
    ]
    state = [2, 20]
    body = helper.make_graph(
        nodes,
        "body",
        [value("h", state), value("s", state)],
        [value("h_out", state), value("seen", state)],
        [numpy_helper.from_array(normal(20, 20) / 4, "r")],
    )
    node = helper.make_node("Scan", ["h0", "x"], ["last", "y"], body=body, num_scan_inputs=1)
    return _finish([node], {}, [value("h0", state), value("x", [5, *state])], ("last", "y"))


def _sequence_map() -> onnx.ModelProto:
    node, tensors = _dense("fc", "r", "e", 20, 24)
    own = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    body = helper.make_graph([node], "body", [value("e", [3, 20])], [value("r", [3, 24])], own)
    nodes = [
        helper.make_node("SplitToSequence", ["x", "three"], ["pieces"], axis=0),
        helper.make_node("SequenceMap", ["pieces"], ["mapped"], body=body),
        helper.make_node("ConcatFromSequence", ["mapped"], ["y"], axis=0),
    ]
    model = build(nodes, [value("x", [6, 20])], [value("y", [6, 24])], {"three": np.array(3)})
    return model


def _function(*, inside: bool) -> onnx.ModelProto:
    node, tensors = _dense("fc", "m", "a", 20, 24)
    body = [node, helper.make_node("Relu", ["m"], ["r"])]
    opsets = [helper.make_opsetid("", 17)]
    if inside:
        body = [*(constant(name, array) for name, array in tensors.items()), *body]
    names = ["a"] if inside else ["a", *tensors]
    function = helper.make_function("local", "Block", names, ["r"], body, opsets)
    node = helper.make_node("Block", ["x", *names[1:]], ["y"], domain="local")
    return build(
        [node],
        [value("x", ["N", 20])],
        [value("y", ["N", 24])],
        {} if inside else tensors,
        functions=[function],
        domains=["local"],
    )


def _function_attributes() -> onnx.ModelProto:
    relu = helper.make_node("LeakyRelu", ["m"], ["r"])
    reference = onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    relu.attribute.append(reference)
    body = [constant("w", normal(20, 24)), helper.make_node("MatMul", ["a", "w"], ["m"]), relu]
    function = helper.make_function("local", "Block", ["a"], ["r"], body, [helper.make_opsetid("", 17)], ["slope"])
    node = helper.make_node("Block", ["x"], ["y"], domain="local", slope=0.3)
    inputs, outputs = [value("x", ["N", 20])], [value("y", ["N", 24])]
    return build([node], inputs, outputs, {}, functions=[function], domains=["local"])


def _many() -> onnx.ModelProto:
    first, some = _dense("first", "a", "x", 20, 24)
    second, more = _dense("second", "b", "table_row", 8, 24)
    nodes = [
        first,
        helper.make_node("Gather", ["table", "ids"], ["table_row"]),
        second,
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Where", ["mask", "sum", "a"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]
    inputs = [value("x", ["N", 20]), value("ids", ["N"], INT64), value("mask", ["N", 1], TensorProto.BOOL)]
    return _finish(nodes, {**some, **more, "table": normal(10, 8)}, inputs, ("y", "label", "a"))


def _empty() -> onnx.ModelProto:
    return build([], [value("x", ["N", 20])], [value("x", ["N", 20])], {})


def _no_input() -> onnx.ModelProto:
    model = build([helper.make_node("MatMul", ["a", "b"], ["y"])], [], [value("y", [20, 24])], {})
    model.graph.initializer.extend(numpy_helper.from_array(normal(*shape), n) for n, shape in _AB.items())
    return model


_AB = {"a": (20, 6), "b": (6, 24)}


def _no_weight() -> onnx.ModelProto:
    return _finish([helper.make_node("Relu", ["x"], ["y"])], {})


def _nonzero() -> onnx.ModelProto:
    node, tensors = _dense("fc", "h", "x", 20, 24)
    nodes = [node, helper.make_node("Relu", ["h"], ["r"]), helper.make_node("NonZero", ["r"], ["y"])]
    return build(nodes, [value("x", ["N", 20])], [value("y", [2, None], INT64), value("h", ["N", 24])], tensors)


def _detection() -> onnx.ModelProto:
    boxes, some = _dense("boxes", "b", "x", 20, 24)
    scores, more = _dense("scores", "s", "x", 20, 6)
    nodes = [
        boxes,
        scores,
        helper.make_node("Reshape", ["b", "to_boxes"], ["boxes"]),
        helper.make_node("Reshape", ["s", "to_scores"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["y"]),
    ]
    shapes = {"to_boxes": np.array([-1, 6, 4]), "to_scores": np.array([-1, 1, 6])}
    limits = {"most": np.array([3]), "overlap": np.float32([0.5]), "least": np.float32([0])}
    return build(nodes, [value("x", ["N", 20])], [value("y", [None, 3], INT64)], {**some, **more, **shapes, **limits})


def _optional_outputs() -> onnx.ModelProto:
    weights = {"w": normal(1, 40, 7, seed=1) / 3, "r": normal(1, 40, 10, seed=2) / 3}
    node = helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=10)
    return _finish([node], weights, [value("x", [6, 3, 7])])


def _sequence() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("SplitToSequence", ["h"], ["y"], axis=1)]
    model = build(nodes, [value("x", [3, 20])], [], {"w": normal(20, 24)})
    model.graph.output.append(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))
    return model


def _labels() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("ArgMax", ["h"], ["y"], axis=1)]
    return build(nodes, [value("x", ["N", 20])], [value("y", ["N", 1], INT64)], {"w": normal(20, 24)})


def _metadata() -> onnx.ModelProto:
    node, tensors = _dense("fc", "y", "x", 20, 24)
    model = _finish([node], tensors)
    helper.set_model_props(model, {"author": "somebody", "classes": "a,b"})
    annotation = model.graph.quantization_annotation.add(tensor_name="fc.w")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="fc.b")
    return model


def _custom() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mystery", ["x", "w"], ["h"], domain="com.example", depth=3, table=[0.5, 1.5]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    tensors = {"w": normal(20, 20), "v": normal(20, 24)}
    return build(nodes, [value("x", ["N", 20])], [value("y", ["N", 24])], tensors, domains=["com.example"])


def _empty_cache() -> Sample:
    node, tensors = _dense("fc", "k", "x", 20, 24)
    nodes = [node, helper.make_node("Concat", ["past", "k"], ["y"], axis=0)]
    model = _finish(nodes, tensors, [value("past", ["P", 24]), value("x", ["N", 20])])
    return Sample(model, random_feeds(model, 8, P=0))
