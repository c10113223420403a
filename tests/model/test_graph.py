"""Which weights are found, and the reason for each constant that is not."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cerwu_onnx.errors import ModelError, UsageError
from cerwu_onnx.model.graph import (
    Graph,
    InputInfo,
    analyse,
    get_tensor,
    load_model,
    model_inputs,
    node_label,
    weights_of,
    with_tensors,
)
from cerwu_onnx.model.roles import LEAST_OPERAND
from cerwu_onnx.types import ConvPatch, MatMulPatch, Reader, Site

from ..models import build, constant, conv_net, normal, run, value

SHARED = Path(__file__).resolve().parents[2] / "shared" / "models"


def chain(nodes, tensors, inputs=("x",), outputs=("y",), **options) -> onnx.ModelProto:
    return build(nodes, [value(name) for name in inputs], [value(name) for name in outputs], tensors, **options)


def reasons(graph: Graph) -> dict[str, str]:
    return {kept.name: kept.reason for kept in graph.kept}


def reason_for(nodes, tensors, name="w", **options) -> str:
    graph = analyse(chain(nodes, tensors, **options))
    assert not [layer for layer in graph.layers if layer.weight == name]
    return reasons(graph)[name]


@pytest.mark.parametrize("ir_version", [3, 8])
def test_conv_net(ir_version: int) -> None:
    graph = analyse(conv_net(ir_version))
    assert [layer.weight for layer in graph.layers] == ["conv.w", "dw.w", "fc.w"]
    conv, depthwise, dense = graph.layers
    assert (conv.layout.groups, conv.layout.rows, conv.layout.cols) == (1, 4, 27)
    patch = ConvPatch(1, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    assert conv.sites == (Site("conv", "Conv", "x", patch),)
    assert (depthwise.layout.groups, depthwise.layout.rows, depthwise.layout.cols) == (4, 1, 9)
    assert depthwise.sites[0].patch == ConvPatch(4, (3, 3), (2, 2), (1, 1), (0, 0, 0, 0))
    assert dense.sites == (Site("fc", "Gemm", "f", MatMulPatch(-1)),)
    assert reasons(graph) == {
        "conv.b": "bias of Conv 'conv'",
        "bn.s": "scale of BatchNormalization 'bn'",
        "bn.b": "bias of BatchNormalization 'bn'",
        "bn.m": "mean of BatchNormalization 'bn'",
        "bn.v": "variance of BatchNormalization 'bn'",
        "fc.b": "bias of Gemm 'fc'",
        "shape": "int64 tensor (shape, index or flag)",
    }
    bias = graph.kept[0]
    assert (bias.shape, bias.dtype, bias.nbytes) == ((4,), "float32", 16)
    infos = model_inputs(graph.model)
    assert infos == (InputInfo("x", np.dtype(np.float32), ("N", 3, 8, 8)),)


def matmul(*names: str, name: str = "mm", out: str = "y") -> onnx.NodeProto:
    return helper.make_node("MatMul", list(names), [out], name=name)


KEPT = {
    "more than 8 axes, or a name of more than 1024 bytes": ([matmul("x", "w")], normal(1, 1, 1, 1, 1, 1, 1, 3, 4)),
    "complex64 tensor": ([matmul("x", "w")], normal(3, 4).astype(np.complex64)),
    "int8 tensor": ([matmul("x", "w")], np.ones((3, 4), np.int8)),
    "empty tensor": ([matmul("x", "w")], normal(3, 0)),
    "a single value": ([matmul("x", "w")], normal(1, 1)),
    "no node reads it": ([helper.make_node("Relu", ["x"], ["y"])], normal(3, 4)),
    "is also an output of the model": ([matmul("x", "w", out="z")], normal(3, 4)),
    "the other operand of MatMul 'mm' is constant too": ([matmul("w", "w")], normal(3, 3)),
    "operand of Add 'a', which is not a matrix product": (
        [helper.make_node("Add", ["x", "w"], ["y"], name="a")],
        normal(3, 4),
    ),
    "also: operand of Add 'y', which is not a matrix product": (
        [matmul("x", "w", out="t"), helper.make_node("Add", ["t", "w"], ["y"])],
        normal(3, 4),
    ),
    "weight of ConvTranspose 'c': group = 2 does not divide 3 input channels": (
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="c", group=2)],
        normal(3, 4, 2),
    ),
    "weight of ConvTranspose 'c': kernel_shape (3,) differs from the weight's (2,)": (
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="c", kernel_shape=[3])],
        normal(3, 4, 2),
    ),
    "weight of ConvTranspose 'c': convolutions of 0 spatial axes are not supported": (
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="c")],
        normal(3, 4),
    ),
    "operand of Einsum 'e', which is not a matrix product": (
        [helper.make_node("Einsum", ["x", "w"], ["y"], name="e", equation="bi,i->bi")],
        normal(3),
    ),
    "weight of Einsum 'e': the equation 'bi,io' does not have two operands and a result": (
        [helper.make_node("Einsum", ["x", "w"], ["y"], name="e", equation="bi, io")],
        normal(3, 4),
    ),
    "weight of Einsum 'e': the equation 'bi,ii->b' repeats a letter in an operand": (
        [helper.make_node("Einsum", ["x", "w"], ["y"], name="e", equation="bi,ii->b")],
        normal(3, 3),
    ),
    "weight of Einsum 'e': in the equation '...i,io->o' an ellipsis stands in the constant or is summed over": (
        [helper.make_node("Einsum", ["x", "w"], ["y"], name="e", equation="...i,io->o")],
        normal(3, 4),
    ),
    "weight of Einsum 'e': in the equation 'bi,...i->b...' an ellipsis stands in the constant or is summed over": (
        [helper.make_node("Einsum", ["x", "w"], ["y"], name="e", equation="bi,...i->b...")],
        normal(4, 3),
    ),
    "weight of Einsum 'e': a sum over b of one operand alone is not supported": (
        [helper.make_node("Einsum", ["x", "w"], ["y"], name="e", equation="bi,io->o")],
        normal(3, 4),
    ),
    "weight of Einsum 'e': a sum over o of one operand alone is not supported": (
        [helper.make_node("Einsum", ["x", "w"], ["y"], name="e", equation="bi,io->b")],
        normal(3, 4),
    ),
    "weight of Einsum 'e': the letters 'io' do not fit the shape (3,)": (
        [helper.make_node("Einsum", ["x", "w"], ["y"], name="e", equation="bi,io->bo")],
        normal(3),
    ),
    "peephole of LSTM 'l'": (
        [helper.make_node("LSTM", ["x", "u", "v", "", "", "", "", "w"], ["y"], name="l", hidden_size=2)],
        normal(1, 6),
    ),
    "weight of LSTM 'l': a recurrent weight has 3 axes, got shape (8, 2)": (
        [helper.make_node("LSTM", ["x", "w", "u"], ["y"], name="l", hidden_size=2)],
        normal(8, 2),
    ),
    "table of Gather 'g'": ([helper.make_node("Gather", ["w", "x"], ["y"], name="g", axis=1)], normal(3, 4)),
    "table of Gather 'h'": ([helper.make_node("Gather", ["w", "x"], ["y"], name="h")], normal(3)),
    "operand of FusedMatMul 'f' of the domain 'com.microsoft'": (
        [helper.make_node("FusedMatMul", ["x", "w"], ["y"], name="f", domain="com.microsoft", transBatchB=1)],
        normal(2, 3, 4),
    ),
    "data of Conv 'c'": ([helper.make_node("Conv", ["w", "x"], ["y"], name="c")], normal(1, 3, 4)),
    "weight of Conv 'c': group = 2 does not divide 3 output channels": (
        [helper.make_node("Conv", ["x", "w"], ["y"], name="c", group=2)],
        normal(3, 2, 3),
    ),
    "weight of Conv 'c': kernel_shape (2,) differs from the weight's (3,)": (
        [helper.make_node("Conv", ["x", "w"], ["y"], name="c", kernel_shape=[2])],
        normal(3, 2, 3),
    ),
    "weight of Conv 'c': convolutions of 4 spatial axes are not supported": (
        [helper.make_node("Conv", ["x", "w"], ["y"], name="c")],
        normal(2, 1, 1, 1, 1, 3),
    ),
    "weight of Conv 'c': negative pads, strides or dilations are not supported": (
        [helper.make_node("Conv", ["x", "w"], ["y"], name="c", pads=[-1, 0])],
        normal(2, 1, 3),
    ),
    "weight of Conv 'c': strides, dilations or pads have the wrong length": (
        [helper.make_node("Conv", ["x", "w"], ["y"], name="c", pads=[1])],
        normal(2, 1, 3),
    ),
    "weight of Conv 'c': unknown auto_pad 'BEST'": (
        [helper.make_node("Conv", ["x", "w"], ["y"], name="c", auto_pad="BEST")],
        normal(2, 1, 3),
    ),
    "weight of Gemm 'g': an operand of Gemm has 2 axes, got shape (3,)": (
        [helper.make_node("Gemm", ["x", "w"], ["y"], name="g")],
        normal(3),
    ),
}


@pytest.mark.parametrize("reason", KEPT)
def test_kept(reason: str) -> None:
    nodes, weight = KEPT[reason]
    outputs = ("z", "w") if "output of the model" in reason else ("y",)
    assert reason_for(nodes, {"w": weight}, outputs=outputs) == reason


def test_nan_is_kept_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    weight = normal(3, 4)
    weight[1, 2] = np.nan
    with caplog.at_level(logging.WARNING):
        assert reason_for([matmul("x", "w")], {"w": weight}) == "holds NaN or infinity"
    assert "weight 'w' holds NaN or infinity" in caplog.text


def test_shared_weight_lists_all_sites() -> None:
    nodes = [matmul("x", "w", name="a", out="t"), matmul("t", "w", name="b")]
    (layer,) = analyse(chain(nodes, {"w": normal(3, 3)})).layers
    assert [(site.node, site.activation) for site in layer.sites] == [("a", "x"), ("b", "t")]
    strides = [
        helper.make_node("Conv", ["x", "w"], ["t"], name="a"),
        helper.make_node("Conv", ["x", "w"], ["u"], name="b", strides=[2]),
    ]
    (layer,) = analyse(chain(strides, {"w": normal(3, 2, 3)}, outputs=("t", "u"))).layers
    assert [site.patch.strides for site in layer.sites] == [(1,), (2,)]


def test_order_is_initializers_then_constant_nodes() -> None:
    nodes = [
        constant("first", normal(3, 3), "inner"),
        matmul("x", "first", out="a"),
        matmul("a", "second", out="b", name=""),
        matmul("b", "third", name="m3"),
    ]
    graph = analyse(chain(nodes, {"third": normal(3, 3), "second": normal(3, 3)}))
    assert [layer.weight for layer in graph.layers] == ["third", "second", "first"]
    assert graph.layers[1].sites[0].node == "b"  # a node without a name goes by its output
    assert node_label(graph.model.graph.node[2]) == "MatMul 'b'"


def loop(reads: str, name: str = "loop") -> onnx.NodeProto:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["v", reads], ["v2"]),
            helper.make_node("Identity", ["cond"], ["cond2"]),
            constant("inside.k", normal(2)),
        ],
        "body",
        [value("i", [], TensorProto.INT64), value("cond", [], TensorProto.BOOL), value("v")],
        [value("cond2", [], TensorProto.BOOL), value("v2")],
        [numpy_helper.from_array(normal(3, 3), "inside.w")],
    )
    return helper.make_node("Loop", ["n", "", "x"], ["y"], name=name, body=body)


def carrying(op: str = "Loop", returns: str = "", after: str = "last") -> onnx.ModelProto:
    """A loop that multiplies a state with a weight, which it is given and returns: as it is, or something else.

    Args:
        op: Loop or Scan.
        returns: an operator between the weight and what the body returns; Identity if empty.
        after: name of the output that holds the weight in the end.
    """
    loops = op == "Loop"
    nodes = [
        helper.make_node("MatMul", ["h", "u"], ["product"]),
        helper.make_node("Tanh", ["product"], ["h2"]),
        helper.make_node(returns or "Identity", ["u"], ["u2"]),
    ]
    inputs, outputs = [value("h", ["N", 16]), value("u", [16, 16])], [value("h2", ["N", 16]), value("u2", [16, 16])]
    if loops:
        nodes.append(helper.make_node("Identity", ["go"], ["go2"]))
        inputs = [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), *inputs]
        outputs = [value("go2", [], TensorProto.BOOL), *outputs]
    else:
        inputs.append(value("step", ["N", 16]))
    body = helper.make_graph(nodes, "body", inputs, outputs)
    given = ["n", "", "x", "w"] if loops else ["x", "w", "steps"]
    attributes = {"body": body} if loops else {"body": body, "num_scan_inputs": 1}
    tensors = {"n": np.array(3, np.int64), "w": normal(16, 16) / 4, "steps": normal(3, 2, 16)}
    nodes = [helper.make_node(op, given, ["y", after], name="loop", **attributes)]
    if after == "last":
        nodes.append(helper.make_node("MatMul", ["y", "last"], ["z"], name="behind"))
    return build(nodes, [value("x", ["N", 16])], [value("y"), value("z" if after == "last" else after)], tensors)


@pytest.mark.parametrize("op", ["Loop", "Scan"])
def test_a_weight_that_a_loop_hands_on_unchanged_is_quantised(op: str) -> None:
    model = carrying(op)
    assert len(run(model, {"x": normal(2, 16)})) == 2
    (layer,) = [layer for layer in analyse(model).layers if layer.weight == "w"]
    assert [site.node for site in layer.sites] == ["behind"]  # the product behind the loop reads it, too
    assert layer.readers == (Reader("product", "MatMul", "Loop 'loop'" if op == "Loop" else "Scan 'loop'"),)
    kept = reasons(analyse(carrying(op, returns="Neg")))
    assert kept["w"] == f"operand of {op} 'loop', which is not a matrix product"
    assert "w" in reasons(analyse(carrying(op, after="w_end")))  # it is an output of the model


def test_bodies_capture_and_hold_weights() -> None:
    tensors = {"n": np.array(2), "w": normal(3, 3)}
    graph = analyse(chain([loop("w"), matmul("x", "w", out="z")], tensors, outputs=("y", "z")))
    (layer,) = graph.layers
    assert [site.activation for site in layer.sites] == ["x"]
    assert layer.readers == (Reader("v2", "MatMul", "Loop 'loop'"),)
    assert reasons(graph)["inside.w"] == reasons(graph)["inside.k"] == "inside the body of Loop 'loop'"

    outer = helper.make_graph([loop("w", "deep")], "branch", [], [value("y")])
    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=outer, else_branch=outer)
    graph = analyse(chain([node], {**tensors, "c": np.array(True)}))
    (layer,) = graph.layers
    assert (layer.weight, layer.layout.cols, layer.sites, layer.op) == ("w", 3, (), "MatMul")
    assert layer.readers == (Reader("v2", "MatMul", "If 'if'"),)
    assert reasons(graph)["inside.w"] == "inside the body of Loop 'deep'"

    through = helper.make_graph([], "branch", [], [value("w")])
    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=through, else_branch=outer)
    found = reasons(analyse(chain([node], {**tensors, "c": np.array(True)})))
    assert found["w"] == "is also an output of the body of If 'if'"

    # A name the body defines itself is not the outer one.
    graph = analyse(chain([loop("inside.w"), matmul("x", "inside.w", out="z")], {"n": np.array(2)}))
    assert "read inside" not in str(graph.kept)


TIED = {
    "a table and the transposed table": (
        [
            helper.make_node("Gather", ["w", "ids"], ["e"], name="g"),
            helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
            matmul("e", "wt"),
        ],
        (1, 5, 4),
        ["e"],
        ["Gather"],
    ),
    "both sides of a product": (
        [matmul("x", "w", out="t", name="a"), helper.make_node("Transpose", ["w"], ["wt"]), matmul("t", "wt")],
        (1, 4, 5),
        ["x"],
        ["MatMul"],
    ),
    "a product and a sum": (
        [matmul("x", "w", out="t", name="a"), helper.make_node("Add", ["w", "t"], ["y"])],
        None,
        [],
        [],
    ),
}


@pytest.mark.parametrize("case", TIED)
def test_tied_weights_are_one_layer(case: str) -> None:
    nodes, matrices, activations, readers = TIED[case]
    model = chain(nodes, {"w": normal(5, 4)}, inputs=("x", "ids"))
    graph = analyse(model)
    if matrices is None:
        assert reasons(graph)["w"] == "also: operand of Add 'y', which is not a matrix product"
        return
    (layer,) = graph.layers
    assert (layer.layout.groups, layer.layout.rows, layer.layout.cols) == matrices
    assert [site.activation for site in layer.sites] == activations
    assert [reader.op for reader in layer.readers] == readers


def test_large_operands_are_quantised_without_statistics() -> None:
    add = helper.make_node("Add", ["x", "w"], ["y"], name="a")
    (layer,) = analyse(chain([add], {"w": normal(10, 30)})).layers
    assert (layer.op, layer.sites, layer.readers) == ("Add", (), (Reader("a", "Add"),))
    assert (layer.layout.groups, layer.layout.rows, layer.layout.cols) == (1, 3, 100)
    regular = np.repeat(normal(10, 1), 300, axis=1)
    assert reason_for([add], {"w": regular}) == "not a factor of a product, and so regular that deflate does better"
    assert reason_for([helper.make_node("Div", ["x", "w"], ["y"], name="d")], {"w": normal(10, 30)}).startswith(
        "operand"
    )
    assert reason_for(
        [helper.make_node("Mish", ["w"], ["y"], domain="own")], {"w": normal(10, 30)}, domains=["own"]
    ) == ("operand of Mish 'y' of the domain 'own'")
    assert not analyse(chain([add, helper.make_node("Shape", ["w"], ["z"])], {"w": normal(10, 30)})).kept


@pytest.mark.parametrize(("size", "coded"), [(LEAST_OPERAND, True), (LEAST_OPERAND - 1, False)])
def test_scales_and_shifts_of_a_normalisation(size: int, coded: bool) -> None:
    node = helper.make_node("LayerNormalization", ["x", "s", "b"], ["y"], name="n")
    graph = analyse(chain([node], {"s": normal(size), "b": normal(size, seed=1)}))
    assert [layer.weight for layer in graph.layers] == (["s", "b"] if coded else [])
    if not coded:
        assert reasons(graph) == {"s": "scale of LayerNormalization 'n'", "b": "bias of LayerNormalization 'n'"}


def test_scales_that_differ_by_orders_of_magnitude_stay_exact() -> None:
    """One grid for all would lose the channels of the small ones."""
    scales, x = np.geomspace(1e-3, 10, 64).astype(np.float32), helper.make_node("Mul", ["x", "s"], ["y"], name="m")
    assert reason_for([x], {"s": scales}, name="s") == "operand of Mul 'm', which is not a matrix product"
    assert [layer.weight for layer in analyse(chain([x], {"s": scales + 1})).layers] == ["s"]
    shift = helper.make_node("Add", ["x", "s"], ["y"], name="a")
    assert [layer.weight for layer in analyse(chain([shift], {"s": scales})).layers] == ["s"]


MOVES = {
    "transpose": [("Transpose", {"perm": [1, 0]}, None)],
    "reshape": [("Reshape", {}, [4, 6])],
    "reshape of unknown": [("Reshape", {}, [0, -1])],
    "flatten": [("Flatten", {"axis": 2}, None)],
    "squeeze, unsqueeze": [("Squeeze", {}, [0]), ("Unsqueeze", {}, [1]), ("Squeeze", {}, None)],
    "identity, cast": [("Identity", {}, None), ("Cast", {"to": TensorProto.FLOAT}, None)],
    "all": [
        ("Reshape", {}, [2, 3, 2, 2]),
        ("Transpose", {"perm": [3, 1, 0, 2]}, None),
        ("Reshape", {}, [6, 4]),
        ("Transpose", {}, None),
    ],
}


@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_weights_are_followed_through_nodes_that_move_their_elements(moves: str, side: str) -> None:
    """The matrices of the layout are those of the tensor that the product reads."""
    shape = {"transpose": (4, 6), "flatten": (2, 2, 6), "squeeze, unsqueeze": (1, 4, 6)}.get(moves, (4, 6))
    tensors = {"w": normal(*shape)}
    nodes, current = [], "w"
    for index, (op, attributes, given) in enumerate(MOVES[moves]):
        inputs = [current]
        if given is not None:
            tensors[f"k{index}"] = np.array(given)
            inputs.append(f"k{index}")
        current = f"m{index}"
        nodes.append(helper.make_node(op, inputs, [current], **attributes))
    operands = [current, "x"] if side == "left" else ["x", current]
    model = chain([*nodes, matmul(*operands)], tensors, outputs=("y", current))
    assert analyse(model).layers == ()  # an output of the model
    seen = run(chain(nodes, tensors, inputs=(), outputs=(current,)), {})[0]
    del model.graph.output[1]
    (layer,) = analyse(model).layers
    matrix = layer.layout.to_matrix(tensors["w"])
    assert np.array_equal(matrix[0], seen if side == "left" else seen.T)
    assert np.array_equal(layer.layout.to_tensor(matrix), tensors["w"])


def test_a_reshape_that_mixes_axes_keeps_the_weight() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("Reshape", ["t", "k"], ["v"]),
        matmul("x", "v"),
    ]
    tensors = {"w": normal(4, 6), "k": np.array([8, 3])}
    assert reason_for(nodes, tensors) == "weight of MatMul 'mm': a reshape on the way mixes its axes"


def test_local_functions_and_sparse_tensors() -> None:
    function = helper.make_function(
        "local", "Scale", ["a"], ["b"], [constant("k", normal(3, 3)), matmul("a", "k", out="b")],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [helper.make_node("Scale", ["x"], ["y"], domain="local")]
    model = chain(nodes, {}, functions=[function], domains=["local"])
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [1], [2.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [4]),
        [3, 3],
    )
    model.graph.sparse_initializer.append(sparse)
    model.graph.node.append(helper.make_node("Constant", [], ["sc"], sparse_value=sparse))
    graph = analyse(model)
    assert graph.layers == ()
    assert reasons(graph) == {
        "s": "sparse tensor",
        "sc": "sparse tensor",
        "k": "inside the local function 'Scale'",
    }
    assert [kept.shape for kept in graph.kept if kept.name == "s"] == [(3, 3)]


def test_a_product_with_a_sparse_constant_is_kept() -> None:
    model = chain([matmul("w", "s")], {"w": normal(3, 3)}, inputs=())
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [1], [2.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [4]),
        [3, 3],
    )
    model.graph.sparse_initializer.append(sparse)
    assert reasons(analyse(model))["w"] == "the other operand of MatMul 'mm' is constant too"


def test_tensors_by_name() -> None:
    model = conv_net()
    graph = analyse(model)
    weights = weights_of(graph)
    assert {name: w.shape for name, w in weights.items()} == {
        "conv.w": (4, 3, 3, 3),
        "dw.w": (4, 1, 3, 3),
        "fc.w": (4, 5),
    }
    assert weights_of(graph, ["fc.w"]).keys() == {"fc.w"}
    assert np.array_equal(get_tensor(model, "shape"), [0, -1])
    for name in ("nothing", "shape"):
        with pytest.raises(UsageError, match=f"no constant tensor '{name}' of floats"):
            graph.array(name)
    with pytest.raises(UsageError, match=r"'conv\.b' is not a quantisable weight"):
        weights_of(graph, ["conv.b"])
    with pytest.raises(UsageError, match="no constant tensor 'nothing'"):
        get_tensor(model, "nothing")

    before = model.SerializeToString(deterministic=True)
    changed = with_tensors(model, {name: w * 2 for name, w in weights.items()})
    assert model.SerializeToString(deterministic=True) == before
    for name, weight in weights.items():
        assert np.array_equal(get_tensor(changed, name), weight * 2)
    assert changed.graph.node[-2].attribute[0].t.name == "inner"
    onnx.checker.check_model(changed)
    assert not np.array_equal(*(run(m, {"x": normal(1, 3, 8, 8)})[0] for m in (model, changed)))
    with pytest.raises(UsageError, match="no constant tensor 'nothing'"):
        with_tensors(model, {"nothing": normal(1)})
    with pytest.raises(UsageError, match=r"'fc.w' is float32 \(4, 5\), its new value float64 \(4, 5\)"):
        with_tensors(model, {"fc.w": np.zeros((4, 5))})
    with pytest.raises(UsageError, match=r"new value float32 \(5, 4\)"):
        with_tensors(model, {"fc.w": normal(5, 4)})


def test_a_name_defined_twice_is_refused() -> None:
    model = chain([constant("w", normal(2, 2)), matmul("x", "w")], {"w": normal(2, 2)})
    with pytest.raises(ModelError, match="defines the tensor 'w' twice"):
        analyse(model)


def test_inputs() -> None:
    model = chain([matmul("x", "w")], {"w": normal(2, 2)})
    assert model_inputs(model)[0].shape is None
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    model.graph.input.append(sequence)
    with pytest.raises(ModelError, match="input 's' is not a tensor"):
        model_inputs(model)
    model = chain([], {})
    model.graph.input[0].CopyFrom(value("x", [1, "T"], TensorProto.STRING))
    model.graph.input[0].type.tensor_type.shape.dim.add()
    assert model_inputs(model) == (InputInfo("x", np.dtype(object), (1, "T", None)),)


# load_model


def save(folder: Path, model: onnx.ModelProto, **options) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path, **options)
    return path


def external(folder: Path) -> Path:
    model = conv_net()
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    return save(folder, model, **options)


def edit_external(path: Path, **changes: str | None) -> None:
    model = onnx.load(path, load_external_data=False)
    entries = {e.key: e.value for e in model.graph.initializer[0].external_data} | changes
    del model.graph.initializer[0].external_data[:]
    for key, text in entries.items():
        if text is not None:
            model.graph.initializer[0].external_data.add(key=key, value=text)
    path.write_bytes(model.SerializeToString())


def test_load(tmp_path: Path) -> None:
    model = conv_net()
    assert load_model(save(tmp_path, model)) == model
    assert load_model(str(save(tmp_path, model))) == model


def test_load_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    assert (tmp_path / "weights.bin").stat().st_size > 500
    assert load_model(path) == conv_net()
    edit_external(path, length=None)
    assert load_model(path) == conv_net()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"location": "../weights.bin"}, r"'\.\./weights\.bin' lies outside the model's folder"),
        ({"location": "/etc/hostname"}, "'/etc/hostname' lies outside"),
        ({"location": None}, "'' lies outside"),
        ({"location": "gone.bin"}, r"'gone\.bin' is missing beside the model"),
        ({"offset": "100000"}, "needs 432 bytes, but 'weights.bin' does not hold them"),
        ({"offset": "-8"}, "does not hold them"),
        ({"length": "7"}, "does not hold them .*length 7"),
        ({"offset": "x"}, "offset or length of its external data is not a number"),
    ],
)
def test_bad_external_data(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    path = external(tmp_path)
    edit_external(path, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert "tensor 'conv.w'" in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_external_data_through_a_link_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder)
    (folder / "weights.bin").rename(tmp_path / "elsewhere.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(ModelError, match="lies outside"):
        load_model(path)


def test_load_refuses(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.onnx: no such file"):
        load_model(tmp_path / "gone.onnx")
    with pytest.raises(UsageError, match="is not a file"):
        load_model(tmp_path)
    path = tmp_path / "bad.onnx"
    for content in (b"\xff\xff\xff\xff", b"just text, no protobuf at all"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not an ONNX model"):
            load_model(path)
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="holds no graph"):
        load_model(path)
    model = chain([matmul("x", "nowhere")], {"w": normal(3, 4)})
    with pytest.raises(ModelError, match=r"onnx\.checker refuses the model: "):
        load_model(save(tmp_path, model))
    model = conv_net()
    model.ir_version = 999
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"IR version 999; .* knows versions up to \d+ \(pip install -U onnx\)"):
        load_model(path)


def test_unknown_domains_are_accepted(tmp_path: Path) -> None:
    nodes = [helper.make_node("Magic", ["x"], ["y"], domain="my.company")]
    model = build(nodes, [value("x", [2])], [value("y", [2])], {}, domains=["my.company"])
    assert load_model(save(tmp_path, model)) == model


def test_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31)
    with pytest.raises(ModelError, match="ONNX files cannot have 2 GB and more"):
        load_model(path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the models for measuring (../shared/models) are not here")
@pytest.mark.parametrize(
    ("name", "layers", "weights"),
    [
        ("cifar10_resnet20", 20, 268336),
        ("kws_arm_dnn_s", 4, 79200),
        ("kws_arm_lstm_m", 3, 194312),
        ("magika_v3_3", 8, 783936),
        ("mlperf_ic01_resnet8", 10, 77360),
        ("mlperf_kws01_dscnn", 10, 22016),
    ],
)
def test_shared_models(name: str, layers: int, weights: int) -> None:
    graph = analyse(load_model(SHARED / name / "model.onnx"))
    assert (len(graph.layers), sum(layer.layout.size for layer in graph.layers)) == (layers, weights)
    names = [t.name for t in graph.model.graph.initializer]
    assert len(names) == len(graph.layers) + sum(kept.name in names for kept in graph.kept)
