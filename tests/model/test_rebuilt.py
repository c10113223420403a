"""What a file gives back where its original is at hand: tensors without a graph, folding again, tensors by value."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.errors import CheckFailed
from cerwu_onnx.model.fold import fold_batch_norm
from cerwu_onnx.model.rebuilt import by_value, fold_again, with_directory
from cerwu_onnx.model.tensors import constant_tensors
from cerwu_onnx.types import QuantizedTensor

from ..models import build, normal, value

STEP = 0.125
SYMBOLS = np.arange(12, dtype=np.int32).reshape(3, 4)


def coded(name: str, symbols: np.ndarray = SYMBOLS) -> writer.Encoded:
    return writer.encode_tensor(writer.CodedTensor(name, QuantizedTensor(symbols, STEP, 0, 1, 0)))


def raw(name: str, values: np.ndarray) -> writer.Encoded:
    return writer.encode_tensor(writer.RawTensor(name, f.ElementType.FLOAT32, values))


def file(*parts: writer.Encoded, folded: int = 0) -> reader.Container:
    """A file without a graph."""
    names = writer.names_section([part.record.name for part in parts])
    return reader.parse(writer.assemble([*parts, names, writer.metadata_section({"folded": folded})]))


def dense(weight: np.ndarray) -> onnx.ModelProto:
    return build([helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x")], [value("y")], {"w": weight})


@pytest.mark.parametrize("part", [coded("w"), raw("w", np.float32(STEP) * SYMBOLS)], ids=["coded", "raw"])
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_tensors_take_their_places_in_the_original(part: writer.Encoded, element: int) -> None:
    original = dense(normal(3, 4).astype(helper.tensor_dtype_to_np_dtype(element)))
    before = original.SerializeToString()
    if part.record.is_coded or element == TensorProto.FLOAT:
        (tensor,) = with_directory(file(part), original).graph.initializer
        assert (tensor.name, tensor.data_type) == ("w", element)
        assert np.array_equal(numpy_helper.to_array(tensor), STEP * SYMBOLS)
    else:
        with pytest.raises(CheckFailed, match=r"no tensor 'w' of shape \(3, 4\): the file is of another"):
            with_directory(file(part), original)
    assert original.SerializeToString() == before


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(coded("v"), id="coded, another name"),
        pytest.param(coded("w", SYMBOLS[:2]), id="coded, another size"),
        pytest.param(raw("v", normal(3, 4)), id="raw, another name"),
        pytest.param(raw("w", normal(4, 3)), id="raw, another shape"),
    ],
)
def test_tensors_of_another_model_are_refused(part: writer.Encoded) -> None:
    with pytest.raises(CheckFailed, match="the file is of another"):
        with_directory(file(part), dense(normal(3, 4)))


def normalised() -> onnx.ModelProto:
    """Two layers, each with a normalisation behind it that changes nothing but the bias."""
    ones, nodes, tensors = np.ones(4, np.float32), [], {}
    for layer, (x, y) in {"a": ("x", "h"), "b": ("h", "y")}.items():
        own = {"w": STEP * np.arange(16).reshape(4, 4), "c": ones, "s": ones, "t": ones, "m": 0 * ones, "v": ones}
        tensors |= {f"{layer}.{name}": array.astype(np.float32) for name, array in own.items()}
        nodes.append(helper.make_node("Gemm", [x, f"{layer}.w", f"{layer}.c"], [f"{layer}.g"]))
        inputs = [f"{layer}.g", *(f"{layer}.{name}" for name in "stmv")]
        nodes.append(helper.make_node("BatchNormalization", inputs, [y], epsilon=0.0))
    return build(nodes, [value("x", ["N", 4])], [value("y", ["N", 4])], tensors)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_only_what_was_folded_is_folded_again() -> None:
    """A layer kept with all its bits was left alone; one whose symbols happen to mean its floats was not."""
    model = normalised()
    exact = raw("a.w", numpy_helper.to_array(constant_tensors(model)["a.w"]))
    symbols = coded("b.w", np.arange(16, dtype=np.int32).reshape(4, 4))
    assert fold_again(model, file(exact, symbols)) is model
    once = fold_again(model, file(exact, symbols, folded=1))
    assert operators(once) == ["Gemm", "BatchNormalization", "Gemm"]
    assert once == fold_batch_norm(model, {"a.w"})[0]
    assert operators(fold_again(model, file(exact, symbols, folded=2))) == ["Gemm", "Gemm"]


def test_tensors_that_lost_their_names_are_found_by_their_value() -> None:
    one, two = (numpy_helper.from_array(normal(3, seed=seed)) for seed in range(2))
    text = numpy_helper.from_array(np.array(["a", "b"], object))
    ours = {"1": one, "2": one, "same": two, "3": text}
    theirs = {"a": one, "b": one, "c": one, "d": text, "same": two, "e": two}
    found = by_value(ours, theirs)
    assert found.keys() == {"a", "b", "d"}, "each stands for one other"
    assert {found["a"], found["b"], found["d"]} == {"1", "2", "3"}
