"""What tensors hold and how they are called: element types, extreme numbers, shapes, names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..models import build, normal, value
from .case import Case, Sample, case, completed, random_feeds

SOURCE = "value"
T = TensorProto


def cases() -> Iterator[Case]:
    """Graphs around one peculiar tensor each."""
    for kind in (T.FLOAT16, T.DOUBLE, T.BFLOAT16):
        name = T.DataType.Name(kind).lower()
        yield Case(f"{name} weight and input", SOURCE, partial(_typed_sample, kind))
        yield case(SOURCE, f"{name} weight, cast to float32", partial(_cast, kind))
        yield case(SOURCE, f"{name} table, cast to float32", partial(_cast_table, kind))
    for kind in (T.INT8, T.UINT8, T.INT16, T.UINT16, T.INT32, T.INT64, T.UINT32, T.UINT64, T.BOOL):
        yield case(SOURCE, f"{T.DataType.Name(kind).lower()} table", partial(_integers, kind))
    for kind in (T.INT8, T.UINT8, T.INT4, T.UINT4, T.FLOAT8E4M3FN, T.FLOAT8E5M2):
        yield case(SOURCE, f"{T.DataType.Name(kind).lower()} weight, DequantizeLinear", partial(_dequantized, kind))
    weights = normal(20, 24)
    for name, array in (
        ("all zero", np.zeros((20, 24), np.float32)),
        ("all the same", np.full((20, 24), 0.37, np.float32)),
        ("one column is zero", weights * (np.arange(24) > 0)),
        ("a single one", np.eye(20, 24, dtype=np.float32) * (np.arange(24) == 3)),
        ("signs", np.sign(weights)),
        ("huge", weights * np.float32(1e30)),
        ("tiny", weights * np.float32(1e-30)),
        ("subnormal", weights * np.float32(1e-40)),
        ("heavy tails", np.float32(weights**5)),
        ("rows of different scale", weights * np.logspace(-3, 3, 24, dtype=np.float32)),
        ("NaN", np.where(weights > 2, np.nan, weights)),
        ("infinity", np.where(weights > 2, np.inf, weights)),
        ("minus zero", np.float32(weights * -0.0)),
        ("near the largest float", np.sign(weights) * np.finfo(np.float32).max / 1e3),
    ):
        yield case(SOURCE, f"weights: {name}", partial(_matmul, np.float32(array)))
    for name, shape in (("one value", (1, 1)), ("one row", (1, 64)), ("one column", (64, 1)), ("two", (2, 1))):
        yield case(SOURCE, f"shape: {name}", partial(_matmul, normal(*shape)))
    for name, make in (
        ("external data", _external),
        ("shape: zero rows", partial(_matmul, np.zeros((0, 24), np.float32))),
        ("shape: zero columns", partial(_matmul, np.zeros((20, 0), np.float32))),
        ("shape: rank 0", partial(_added, np.float32(3.5))),
        ("shape: rank 7", partial(_added, normal(2, 1, 3, 1, 2, 1, 4))),
        ("shape: rank 9", _rank_nine),
        ("sparse initializer", _sparse),
        ("sparse Constant", _sparse_constant),
        ("strings: input and labels", _strings),
        ("strings: constants", _string_constants),
        ("names that look alike", _names),
        ("names of one letter", _short_names),
        ("a name of 2000 letters", partial(_named, "w" * 2000)),
        ("a name in Greek", partial(_named, "βάρος/0:✓")),
        ("a name with a NUL", partial(_named, "w\0w")),
        ("float elements in their own field", _typed_field),
        ("complex constant", _complex),
    ):
        yield case(SOURCE, name, make)


def _matmul(array: np.ndarray) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return build(nodes, [value("x", ["N", array.shape[0]])], [value("y", ["N", array.shape[1]])], {"w": array})


def _tensor(kind: int, name: str, array: np.ndarray) -> onnx.TensorProto:
    """A tensor of any element type from an array of another."""
    return numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(kind)), name)


def _typed(kind: int) -> onnx.ModelProto:
    inputs, outputs = [value("x", ["N", 20], kind)], [value("y", ["N", 24], kind)]
    model = build([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], inputs, outputs, {})
    model.graph.initializer.extend([_tensor(kind, "w", normal(20, 24)), _tensor(kind, "b", normal(24, seed=1))])
    return model


def _typed_sample(kind: int) -> Sample:
    """Nothing in onnxruntime multiplies matrices of bfloat16 on a CPU."""
    model = _typed(kind)
    return Sample(model, runs=False) if kind == T.BFLOAT16 else Sample(model, random_feeds(model, 8))


def _cast(kind: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["w"], ["v"], to=T.FLOAT),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
    ]
    model = build(nodes, [value("x", ["N", 20])], [value("y", ["N", 24])], {})
    model.graph.initializer.append(_tensor(kind, "w", normal(20, 24)))
    return model


def _cast_table(kind: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Gather", ["w", "ids"], ["r"]), helper.make_node("Cast", ["r"], ["y"], to=T.FLOAT)]
    model = build(nodes, [value("ids", ["N"], T.INT64)], [value("y", ["N", 24])], {})
    model.graph.initializer.append(_tensor(kind, "w", normal(20, 24)))
    return model


def _integers(kind: int) -> onnx.ModelProto:
    inputs, outputs = [value("ids", ["N"], T.INT64)], [value("y", ["N", 24], kind)]
    model = build([helper.make_node("Gather", ["w", "ids"], ["y"])], inputs, outputs, {})
    low = 0 if kind in (T.BOOL, T.UINT8, T.UINT16, T.UINT32, T.UINT64) else -50
    high = 2 if kind == T.BOOL else 50
    model.graph.initializer.append(_tensor(kind, "w", np.random.default_rng(0).integers(low, high, (20, 24))))
    return model


def _dequantized(kind: int) -> onnx.ModelProto:
    bits = 4 if kind in (T.INT4, T.UINT4) else 8
    steps = np.clip(np.rint(normal(20, 24) * 2 ** (bits - 3)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    unsigned = kind in (T.UINT8, T.UINT4)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", *(["zero"] if unsigned else [])], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    tensors = {"scale": np.float32(0.1)}
    model = build(nodes, [value("x", ["N", 20])], [value("y", ["N", 24])], tensors, opset=21, ir_version=10)
    middle = 2 ** (bits - 1)
    model.graph.initializer.append(_tensor(kind, "q", steps + (middle if unsigned else 0)))
    if unsigned:
        model.graph.initializer.append(_tensor(kind, "zero", np.array(middle)))
    return model


def _added(array: np.ndarray) -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    return completed(build(nodes, [value("x", ["N", 4])], [value("y", ())], {"w": array}))


def _rank_nine() -> onnx.ModelProto:
    nodes = [helper.make_node("Reshape", ["w", "flat"], ["v"]), helper.make_node("Add", ["x", "v"], ["y"])]
    tensors = {"w": normal(2, 1, 2, 1, 2, 1, 2, 1, 2), "flat": np.array([-1])}
    return build(nodes, [value("x", ["N", 32])], [value("y", ["N", 32])], tensors)


def _sparse_tensor(name: str) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(normal(9), name)
    places = numpy_helper.from_array(np.arange(3, 480, 55), f"{name}.places")
    return helper.make_sparse_tensor(values, places, [20, 24])


def _sparse() -> onnx.ModelProto:
    model = _matmul(normal(20, 24))
    del model.graph.initializer[:]
    model.graph.sparse_initializer.append(_sparse_tensor("w"))
    return model


def _sparse_constant() -> onnx.ModelProto:
    model = _sparse()
    node = helper.make_node("Constant", [], ["w"], sparse_value=model.graph.sparse_initializer[0])
    del model.graph.sparse_initializer[:]
    model.graph.node.insert(0, node)
    return model


def _strings() -> onnx.ModelProto:
    """Words to numbers, a matrix, a label in words."""
    encode = {"keys_strings": ["one", "two", "three"], "values_int64s": [1, 2, 3], "default_int64": 0}
    decode = {"keys_int64s": [0, 1], "values_strings": ["no", "yes"], "default_string": "?"}
    nodes = [
        helper.make_node("LabelEncoder", ["words"], ["ids"], domain="ai.onnx.ml", **encode),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
        helper.make_node("LabelEncoder", ["best"], ["label"], domain="ai.onnx.ml", **decode),
    ]
    tensors = {"table": normal(4, 40), "w": normal(40, 2, seed=1)}
    outputs = [value("label", ["N"], T.STRING), value("scores", ["N", 2])]
    model = build(nodes, [value("words", ["N"], T.STRING)], outputs, tensors, domains=["ai.onnx.ml"])
    model.opset_import[1].version = 3
    return model


def _string_constants() -> onnx.ModelProto:
    nodes = [helper.make_node("Gather", ["words", "ids"], ["y"])]
    model = build(nodes, [value("ids", ["N"], T.INT64)], [value("y", ["N"], T.STRING)], {})
    words = [f"wörd {number}" for number in range(20)]
    model.graph.initializer.append(helper.make_tensor("words", T.STRING, [20], [word.encode() for word in words]))
    return model


def _layers(names: list[str]) -> onnx.ModelProto:
    """One MatMul after the other, their weights called so."""
    values = ["x", *(f"{name}|" for name in names[:-1]), "y"]
    nodes = [
        helper.make_node("MatMul", [before, name], [after])
        for name, before, after in zip(names, values, values[1:], strict=False)
    ]
    tensors = {name: normal(20, 20, seed=seed) / 4 for seed, name in enumerate(names)}
    return build(nodes, [value("x", ["N", 20])], [value("y", ["N", 20])], tensors)


def _names() -> onnx.ModelProto:
    return _layers(["w", "W", "w ", " w", "w\n", "w.0", "w/0", "#0", "0", "+1", "w\u200b"])


def _short_names() -> onnx.ModelProto:
    return _layers(["1", "-", "+"])


def _named(name: str) -> onnx.ModelProto:
    return _layers([name])


def _typed_field() -> onnx.ModelProto:
    model = _matmul(normal(20, 24))
    array = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(helper.make_tensor("w", T.FLOAT, array.shape, array.ravel().tolist()))
    return model


def _complex() -> onnx.ModelProto:
    model = _matmul(normal(20, 24))
    model.graph.initializer.append(helper.make_tensor("c", T.COMPLEX64, [2], [1 + 2j, 3 - 1j]))
    return model


def _external() -> onnx.ModelProto:
    """The bench saves the tensors of this one in a file of their own, because it says so."""
    model = _layers(["w", "v"])
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    return model
