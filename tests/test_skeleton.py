"""Models without tensors: nothing lost, nothing added, nothing trusted."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cerwu_onnx.errors import CorruptFileError, ModelError, UsageError
from cerwu_onnx.onnx_io import all_messages, all_tensors, constant_tensors
from cerwu_onnx.skeleton import container_tensors, join, split, stored_tensor

from .models import build, conv_net, normal, random_models, run, value


def rebuild(model: onnx.ModelProto) -> onnx.ModelProto:
    names = container_tensors(model)
    return join(split(model, names), [(name, *stored_tensor(model, name)) for name in names])


def contents(model: onnx.ModelProto) -> list[tuple]:
    return [(t.name, t.data_type, tuple(t.dims), numpy_helper.to_array(t).tobytes()) for t in all_tensors(model)]


@given(random_models(), st.integers(0, 1000))
@settings(max_examples=80, deadline=None)
def test_round_trip(model: onnx.ModelProto, seed: int) -> None:
    before = model.SerializeToString(deterministic=True)
    back = rebuild(model)
    assert model.SerializeToString(deterministic=True) == before, "split() must not change its argument"
    assert contents(back) == contents(model)
    assert split(back, container_tensors(back)) == split(model, container_tensors(model))
    onnx.checker.check_model(back)
    x = np.random.default_rng(seed).standard_normal((2, model.graph.input[0].type.tensor_type.shape.dim[1].dim_value))
    feeds = {"x": x.astype(np.float32)}
    for ours, theirs in zip(run(back, feeds), run(model, feeds), strict=True):
        assert ours.tobytes() == theirs.tobytes()


@given(random_models(), st.data())
@settings(max_examples=40, deadline=None)
def test_any_subset_in_order(model: onnx.ModelProto, data: st.DataObject) -> None:
    names = [name for name in container_tensors(model) if data.draw(st.booleans())]
    back = join(split(model, names), [(name, *stored_tensor(model, name)) for name in names])
    assert contents(back) == contents(model)


@pytest.mark.parametrize("ir_version", [3, 8])
def test_conv_net(ir_version: int) -> None:
    model = conv_net(ir_version)
    names = container_tensors(model)
    assert names == ["conv.w", "conv.b", "bn.s", "bn.b", "bn.m", "bn.v", "dw.w", "fc.b", "fc.w"]
    back = rebuild(model)
    assert contents(back) == contents(model)
    x = {"x": normal(2, 3, 8, 8)}
    assert run(back, x)[0].tobytes() == run(model, x)[0].tobytes()
    assert len(split(model, names)) < 700


def test_documentation_and_types_go_metadata_stays() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["x", "k"], ["s"], doc_string="inner")],
        "body",
        [],
        [value("s")],
        [numpy_helper.from_array(normal(3), "k")],
        doc_string="body",
        value_info=[value("z")],
    )
    model = build(
        [helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)],
        [value("x", [3]), value("c", [], TensorProto.BOOL)],
        [value("y", [3])],
        {"w": normal(2)},
    )
    model.doc_string = model.graph.doc_string = "outer"
    model.graph.initializer[0].doc_string = "tensor"
    model.graph.value_info.append(value("q"))
    helper.set_model_props(model, {"labels": "a,b"})
    back = onnx.ModelProto.FromString(split(model, ["w"]))
    for message in all_messages(back):
        assert not getattr(message, "doc_string", "")
        assert not list(getattr(message, "value_info", []))
    assert [(p.key, p.value) for p in back.metadata_props] == [("labels", "a,b")]
    (placeholder,) = back.graph.initializer
    assert placeholder.SerializeToString() == onnx.TensorProto(data_location="EXTERNAL").SerializeToString()


def test_element_types_and_homes() -> None:
    tensors = {
        "f": normal(3),
        "h": normal(3).astype(np.float16),
        "d": normal(3).astype(np.float64),
        "i": np.arange(3),
        "none": np.zeros((0, 4), np.float32),
        "deep": np.zeros((1,) * 9, np.float32),
        "n" * 1025: normal(1),
    }
    model = build([], [], [], tensors)
    bits = np.array([0x3F80, 0x7FC1, 0xFF80], np.uint16)  # 1, a NaN with a payload, -infinity
    brain = helper.make_tensor("b", TensorProto.BFLOAT16, [3], bits.tobytes(), raw=True)
    model.graph.initializer.append(brain)
    unpacked = onnx.TensorProto(name="b2", data_type=TensorProto.BFLOAT16, dims=[3], int32_data=bits.tolist())
    model.graph.initializer.append(unpacked)
    model.graph.initializer.append(helper.make_tensor("f2", TensorProto.FLOAT, [2, 1], [1.5, -0.0]))
    model.graph.initializer.append(helper.make_tensor("d2", TensorProto.DOUBLE, [1], [0.1]))
    assert container_tensors(model) == ["f", "h", "d", "b", "b2", "f2", "d2"]
    for name in ("b", "b2"):
        element, values = stored_tensor(model, name)
        assert element == 16
        assert np.array_equal(values, bits)
    back = constant_tensors(rebuild(model))
    for name in ("f", "h", "d"):
        assert back[name].raw_data == tensors[name].tobytes()
    assert back["b"].raw_data == back["b2"].raw_data == bits.tobytes()
    assert back["f2"].raw_data == np.array([1.5, -0.0], np.float32).tobytes()
    assert list(back["f2"].dims) == [2, 1]
    assert back["d2"].raw_data == np.array([0.1]).tobytes()


def test_split_refuses() -> None:
    model = conv_net()
    with pytest.raises(UsageError, match="in its order"):
        split(model, ["fc.w", "conv.w"])
    with pytest.raises(UsageError, match="constants of the main graph"):
        split(model, ["nothing"])
    with pytest.raises(UsageError, match="no float constant 'shape'"):
        stored_tensor(model, "shape")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match=r"'conv\.w' keeps its data in another file"):
        split(model, [])


def test_join_refuses() -> None:
    model = conv_net()
    names = container_tensors(model)
    tensors = [(name, *stored_tensor(model, name)) for name in names]
    skeleton = split(model, names)
    with pytest.raises(CorruptFileError, match="9 placeholders for 8 tensors"):
        join(skeleton, tensors[:-1])
    with pytest.raises(CorruptFileError, match="9 placeholders for 10 tensors"):
        join(skeleton, [*tensors, tensors[0]])
    with pytest.raises(CorruptFileError, match="not an ONNX model"):
        join(b"\xff\xff\xff", [])
    with pytest.raises(CorruptFileError, match="do not fit element type 7"):
        join(skeleton, [("conv.w", 7, np.zeros(3)), *tensors[1:]])
    with pytest.raises(CorruptFileError, match="do not fit element type 1"):
        join(skeleton, [("conv.w", 1, np.zeros(3)), *tensors[1:]])


def test_join_never_reads_other_files() -> None:
    model = conv_net()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="/etc/hostname")
    with pytest.raises(CorruptFileError, match="outside the file"):
        join(model.SerializeToString(), [])
