"""Models without tensors: nothing lost, nothing added, nothing trusted."""

from __future__ import annotations

import contextlib
import os
import random
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cerwu_onnx.container.dictionary import DICTIONARY, deflate, inflate
from cerwu_onnx.container.packed import pack, unpack
from cerwu_onnx.errors import CorruptFileError, ModelError, UsageError
from cerwu_onnx.model.loading import load_model
from cerwu_onnx.model.skeleton import container_tensors, join, split, stored_tensor
from cerwu_onnx.model.tensors import all_messages, all_tensors, bodies, constant_tensors

from ..models import build, constant, conv_net, normal, random_models, run, value

ROOT = Path(__file__).resolve().parents[2]
ZOO = sorted([*ROOT.glob("sample_models/*/model.onnx"), *ROOT.parent.glob("shared/models/*/model.onnx")])


def stored(model: onnx.ModelProto) -> list[tuple[str, int, np.ndarray]]:
    return [(name, *stored_tensor(tensor)) for name, tensor in container_tensors(model).items()]


def rebuild(model: onnx.ModelProto) -> onnx.ModelProto:
    return join(split(model, container_tensors(model)), stored(model))


def contents(model: onnx.ModelProto) -> list[tuple]:
    """What a user can address by name in the model, and the values of every tensor."""
    tensors = sorted((t.data_type, tuple(t.dims), numpy_helper.to_array(t).tobytes()) for t in all_tensors(model))
    inputs, outputs = (list(map(str, values)) for values in (model.graph.input, model.graph.output))
    return [inputs, outputs, [t.name for t in model.graph.initializer], list(container_tensors(model)), tensors]


def check(model: onnx.ModelProto, feeds: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """The rebuilt model, after everything that must hold of it was found to hold."""
    before = model.SerializeToString(deterministic=True)
    back = rebuild(model)
    assert model.SerializeToString(deterministic=True) == before, "split() must not change its argument"
    assert contents(back) == contents(model)
    assert split(back, container_tensors(back)) == split(model, container_tensors(model))
    onnx.checker.check_model(back)
    if feeds is not None:
        for ours, theirs in zip(run(back, feeds), run(model, feeds), strict=True):
            assert ours.tobytes() == theirs.tobytes()
    return back


@given(random_models(), st.integers(0, 1000))
@settings(max_examples=80, deadline=None)
def test_round_trip(model: onnx.ModelProto, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((2, model.graph.input[0].type.tensor_type.shape.dim[1].dim_value))
    check(model, {"x": x.astype(np.float32)})


def rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Replace names of the main graph of a flat model."""
    graph = model.graph
    for named in (*graph.input, *graph.output, *graph.initializer):
        named.name = names.get(named.name, named.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


TRAPS = [
    "0",
    "1",
    "2",
    "+",
    "-",
    "+0",
    "+1",
    "-2",
    "'",
    "'x",
    "''",
    "'0",
    "x",
    "w",
    " ",
    "é",
    "Add_2",
    "Add_3",
    "Add_2_",
]
TRAPS += [
    "MatMul_2",
    "Gemm_3",
    "Cast_4",
    "Identity_2",
    "input_0",
    "Add",
    "to",
    "graph",
    "cerwu-onnx",
    "value",
    "00",
    "01",
]


@given(random_models(), st.permutations(TRAPS))
@settings(max_examples=80, deadline=None)
def test_names_that_look_like_references(model: onnx.ModelProto, traps: list[str]) -> None:
    names = [model.graph.input[0].name, *(tensor.name for tensor in model.graph.initializer)]
    names += [name for node in model.graph.node for name in node.output]
    traps += [f"t{i}" for i in range(len(names))]
    rename(model, dict(zip(names, traps, strict=False)))
    x = normal(2, model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
    check(model, {model.graph.input[0].name: x})


@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.parent.name)
def test_trained_models(path: Path) -> None:
    model = load_model(path)
    feeds = {}
    for info in model.graph.input:
        shape = [dim.dim_value or 3 for dim in info.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        feeds[info.name] = (np.random.default_rng(1).uniform(0, 200, shape)).astype(dtype)
    back = check(model, feeds)
    assert not any(node.name for node in back.graph.node)
    skeleton = split(model, container_tensors(model))
    assert unpack(pack(skeleton), len(skeleton)) == skeleton
    limit = {"sequence_gru": 150, "cifar10_resnet20": 320, "magika_v3_3": 1450}.get(path.parent.name, 220)
    assert len(pack(skeleton)) <= limit


@given(random_models(), st.data())
@settings(max_examples=40, deadline=None)
def test_any_subset_in_order(model: onnx.ModelProto, data: st.DataObject) -> None:
    names = [name for name in container_tensors(model) if data.draw(st.booleans())]
    back = join(split(model, names), [tensor for tensor in stored(model) if tensor[0] in names])
    assert contents(back)[:3] == contents(model)[:3]
    assert contents(back)[4] == contents(model)[4]
    assert set(names) <= set(container_tensors(back))


@pytest.mark.parametrize("ir_version", [3, 8])
def test_conv_net(ir_version: int) -> None:
    model = conv_net(ir_version)
    names = list(container_tensors(model))
    assert names == ["conv.w", "conv.b", "bn.s", "bn.b", "bn.m", "bn.v", "dw.w", "fc.b", "fc.w"]
    back = check(model, {"x": normal(2, 3, 8, 8)})
    assert [list(node.output) for node in back.graph.node[:3]] == [
        [f"{node.op_type}_{len(back.graph.input) + 1 + i}"] for i, node in enumerate(back.graph.node[:3])
    ]
    if ir_version > 3:
        assert len(split(model, names)) < 600


def outer_and_bodies() -> onnx.ModelProto:
    """If in If and Loop in If whose bodies read outer names; both branches define the same names."""

    def then(name: str, then_nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
        return helper.make_graph(then_nodes, name, [], [value("s")], [numpy_helper.from_array(normal(3), "k")])

    step = helper.make_graph(
        [
            helper.make_node("Add", ["state", "w"], ["next"]),
            helper.make_node("Add", ["next", "hidden"], ["out"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "step",
        [value("i", [], TensorProto.INT64), value("going", [], TensorProto.BOOL), value("state", [3])],
        [value("still", [], TensorProto.BOOL), value("next", [3]), value("out", [3])],
    )
    loop = [
        helper.make_node("Loop", ["trips", "", "hidden"], ["last", "all"], body=step, name="loop"),
        helper.make_node("ReduceSum", ["all", "axes"], ["total"], keepdims=0),
        helper.make_node("Add", ["last", "total"], ["m"]),
        helper.make_node("Mul", ["m", "k"], ["s"]),
    ]
    inner = helper.make_node(
        "If",
        ["c"],
        ["m"],
        then_branch=then("a", [helper.make_node("Add", ["hidden", "k2"], ["s"])]),
        else_branch=then("b", [helper.make_node("Sub", ["w", "hidden"], ["s"])]),
    )
    for branch, name in zip(bodies(inner), ("k3", "k4"), strict=True):
        branch.initializer[0].name = name
        branch.output[0].name = branch.node[0].output[0] = f"s{name}"
    other = [inner, helper.make_node("Add", ["m", "k2"], ["s"])]
    nodes = [
        constant("trips", np.array(3)),
        constant("axes", np.array([0])),
        helper.make_node("Mul", ["x", "w"], ["hidden"]),
        helper.make_node("If", ["c"], ["r"], then_branch=then("t", loop), else_branch=then("e", other)),
        helper.make_node("Add", ["r", "hidden"], ["y"]),
        constant("w2", normal(3, seed=4)),
        helper.make_node("Clip", ["r", "", "low"], ["z"]),
    ]
    inputs = [value("x", [3]), value("c", [], TensorProto.BOOL)]
    tensors = {"w": normal(3, seed=1), "k2": normal(3, seed=2), "low": normal(1, seed=3).reshape(())}
    return build(nodes, inputs, [value("y", [3]), value("z", [3])], tensors)


@pytest.mark.parametrize("branch", [False, True])
def test_bodies(branch: bool) -> None:
    model = outer_and_bodies()
    back = check(model, {"x": normal(3, seed=5), "c": np.array(branch)})
    assert constant_tensors(back).keys() >= {"w", "k2", "low", "w2"}
    for node in back.graph.node:
        for body in bodies(node):
            assert [tensor.name for tensor in body.initializer] == ["k"]
    for message in all_messages(back):
        if isinstance(message, onnx.GraphProto):
            assert message.name == "graph"


def test_constant_read_before_it_is_defined() -> None:
    model = build(
        [helper.make_node("Add", ["x", "late"], ["y"]), constant("late", normal(3))],
        [value("x", [3])],
        [value("y", [3])],
        {},
    )
    back = rebuild(model)
    assert back.graph.node[0].input[1] == back.graph.node[1].output[0] == "late"
    assert split(back, ["late"]) == split(model, ["late"])


def test_input_that_is_output() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["y"], ["h"])]
    nodes += [helper.make_node("Add", ["h", "y"], ["z"])]
    ends = [value("x", [3]), value("y", [3]), value("z", [3])]
    check(build(nodes, ends[:1], ends, {}), {"x": normal(3)})


def test_local_functions() -> None:
    inner = helper.make_node("Mul", ["a", "a"], ["w"])  # other scopes use these names too
    scale = helper.make_node("Constant", [], ["h"])
    scale.attribute.add(name="value_float", type=onnx.AttributeProto.FLOAT, ref_attr_name="scale")
    opsets = [helper.make_opsetid("", 17)]
    square = helper.make_function(
        "own", "Square", ["a"], ["x"], [inner, scale, helper.make_node("Mul", ["w", "h"], ["x"])], opsets, ["scale"]
    )
    nodes = [
        helper.make_node("Square", ["x"], ["h"], domain="own", scale=2.0),
        helper.make_node("Add", ["h", "w"], ["a"]),
        helper.make_node("Square", ["a"], ["y"], domain="own", scale=3.0),
    ]
    model = build(nodes, [value("x", [3])], [value("y", [3])], {"w": normal(3)}, functions=[square], domains=["own"])
    back = check(model, {"x": normal(3, seed=1)})
    assert [(f.domain, f.name, list(f.attribute)) for f in back.functions] == [("own", "Square", ["scale"])]


def test_names_mentioned_elsewhere_stay() -> None:
    body = helper.make_graph([helper.make_node("Add", ["mine", "h"], ["t"])], "b", [value("mine")], [value("theirs")])
    body.node.add(op_type="Add", input=["t", "q"], output=["theirs"])
    model = build(
        [
            helper.make_node("Neg", ["x"], ["h"]),
            helper.make_node("Abs", ["h"], ["q"]),
            helper.make_node("Exp", ["q"], ["named"]),
            helper.make_node("Log", ["named"], ["trained"]),
            helper.make_node("Gradient", ["x", "trained"], ["g"], domain="own", y="g", xs=["trained", "x"]),
            helper.make_node("Own", ["g"], ["y"], domain="own", body=body),
        ],
        [value("x", [3])],
        [value("y", [3])],
        {"w": normal(3)},
        domains=["own"],
    )
    annotation = model.graph.quantization_annotation.add(tensor_name="q")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    model.training_info.add().update_binding.add(key="w", value="named")
    model.graph.sparse_initializer.add().values.name = "sparse"
    model.graph.node[0].input.append("sparse")
    back = rebuild(model)
    assert back.graph.quantization_annotation[0] == annotation
    assert [list(node.output) for node in back.graph.node[1:5]] == [["q"], ["named"], ["trained"], ["g"]]
    assert back.graph.node[0].input[1] == "sparse"
    (inner,) = bodies(back.graph.node[5])
    assert (inner.input[0].name, inner.output[0].name) == ("mine", "theirs")
    assert inner.node[0].input[1] == back.graph.node[0].output[0] == "Neg_2"
    assert inner.node[0].output == inner.node[1].input[:1] == ["Add_3"]


def test_provenance_goes() -> None:
    model = conv_net()
    model.producer_name, model.producer_version, model.model_version, model.domain = "maker", "1.2", 7, "org.example"
    back = check(model)
    assert (back.producer_name, back.producer_version) == ("cerwu-onnx", "")
    assert (back.model_version, back.domain, back.ir_version) == (7, "org.example", 8)
    assert list(back.opset_import) == list(model.opset_import)


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
    for message in list(all_messages(model)):
        if "metadata_props" in message.DESCRIPTOR.fields_by_name:
            message.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="line 7")
    del model.metadata_props[:]
    helper.set_model_props(model, {"labels": "a,b"})
    back = onnx.ModelProto.FromString(split(model, ["w"]))
    for message in all_messages(back):
        assert not getattr(message, "doc_string", "")
        assert not list(getattr(message, "value_info", []))
        assert isinstance(message, onnx.ModelProto) or not list(getattr(message, "metadata_props", []))
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
    assert list(container_tensors(model)) == ["f", "h", "d", "b", "b2", "f2", "d2"]
    for name in ("b", "b2"):
        element, values = stored_tensor(container_tensors(model)[name])
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
    with pytest.raises(UsageError, match="the tensor 'shape' holds no floats"):
        stored_tensor(constant_tensors(model)["shape"])
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match=r"'conv\.w' keeps its data in another file"):
        split(model, [])


def test_join_refuses() -> None:
    model = conv_net()
    names = list(container_tensors(model))
    tensors = stored(model)
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


@pytest.mark.parametrize("reference", ["+10", "-", "-1", "9", "1x", "+x", "x", "++1", "1" * 10, "²", "-0", " 1"])
def test_join_refuses_references(reference: str) -> None:
    model = onnx.ModelProto.FromString(split(conv_net(), []))
    model.graph.node[0].input[0] = reference
    with pytest.raises(CorruptFileError, match="graph section"):
        join(model.SerializeToString(), [])


def test_join_survives_damage() -> None:
    model = outer_and_bodies()
    names = list(container_tensors(model))
    tensors = stored(model)
    skeleton = split(model, names)
    rng = random.Random(1)
    for _ in range(int(os.environ.get("CERWU_MUTATIONS", "3000"))):
        damaged = bytearray(skeleton)
        for _ in range(rng.choice((1, 2, 5))):
            damaged[rng.randrange(len(damaged))] = rng.choice((rng.randrange(256), rng.choice(skeleton)))
        with contextlib.suppress(CorruptFileError):
            join(bytes(damaged), tensors).SerializeToString()


def test_broken_text() -> None:
    model = conv_net()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "BROKEN"
    content = model.SerializeToString().replace(b"BROKEN", b"\xff\xfe" * 3)
    with pytest.raises(ModelError, match="not UTF-8"):
        split(onnx.ModelProto.FromString(content), [])
    with pytest.raises(CorruptFileError, match="not an ONNX model"):
        join(content, [])


def test_join_never_reads_other_files() -> None:
    model = conv_net()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="/etc/hostname")
    with pytest.raises(CorruptFileError, match="outside the file"):
        join(model.SerializeToString(), [])


def test_dictionary_is_frozen() -> None:
    assert (len(DICTIONARY), zlib.crc32(DICTIONARY)) == (11344, 0x9FB8725C)


@given(st.binary(max_size=300), st.integers(0, len(DICTIONARY)), st.integers(0, 300))
def test_deflate_round_trip(noise: bytes, start: int, length: int) -> None:
    content = DICTIONARY[start : start + length] + noise
    payload = deflate(content)
    assert inflate(payload, len(content)) == content
    with pytest.raises(CorruptFileError, match="does not end with"):
        inflate(payload + b"\0", len(content))
    if content:
        with pytest.raises(CorruptFileError, match=f"more than {len(content) - 1} bytes"):
            inflate(payload, len(content) - 1)


def test_inflate_refuses_damage() -> None:
    content = split(conv_net(), container_tensors(conv_net()))
    payload = deflate(content)
    for size in range(len(payload)):
        with pytest.raises(CorruptFileError):
            inflate(payload[:size], len(content))
    rng = random.Random(2)
    for _ in range(2000):
        damaged = bytearray(payload)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        with contextlib.suppress(CorruptFileError):
            inflate(bytes(damaged), 10**6)
