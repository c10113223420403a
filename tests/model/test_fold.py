"""BatchNormalization folding: what is folded, what is not, and that outputs stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cerwu_onnx.errors import ModelError
from cerwu_onnx.model import fold
from cerwu_onnx.model.fold import check_folding, fold_batch_norm
from cerwu_onnx.model.graph import analyse, get_tensor

from ..models import build, constant, conv_net, normal, run, value


def bn_parameters(channels: int, prefix: str = "bn") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(prefix))
    return {
        f"{prefix}.s": rng.uniform(0.5, 2, channels).astype(np.float32),
        f"{prefix}.b": rng.standard_normal(channels).astype(np.float32),
        f"{prefix}.m": rng.standard_normal(channels).astype(np.float32),
        f"{prefix}.v": rng.uniform(0.5, 2, channels).astype(np.float32),
    }


def bn(source: str, target: str, prefix: str = "bn", **attributes) -> onnx.NodeProto:
    names = [source, *(f"{prefix}.{key}" for key in "sbmv")]
    return helper.make_node("BatchNormalization", names, [target], name=prefix, **attributes)


def conv_bn(extra_nodes=(), outputs=("y",), tensors=None, **bn_attributes) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], name="conv"),
        bn("a", "y", **bn_attributes),
        *extra_nodes,
    ]
    every = {"w": normal(4, 2, 3), "b": normal(4, seed=1), **bn_parameters(4), **(tensors or {})}
    return build(nodes, [value("x", ["N", 2, 7])], [value(name) for name in outputs], every)


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("ir_version", [3, 8])
def test_conv(ir_version: int) -> None:
    model = conv_net(ir_version)
    before = model.SerializeToString(deterministic=True)
    folded, names = fold_batch_norm(model)
    assert names == ("bn",)
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(folded)
    assert "BatchNormalization" not in ops(folded)
    assert not [t.name for t in folded.graph.initializer if t.name.startswith("bn.")]
    assert not [i.name for i in folded.graph.input if i.name.startswith("bn.")]
    assert check_folding(model, folded) < 1e-5
    assert check_folding(model, folded, {"x": normal(3, 3, 8, 8)}) < 1e-5
    assert [layer.weight for layer in analyse(folded).layers] == ["conv.w", "dw.w", "fc.w"]


@pytest.mark.parametrize("ir_version", [3, 8])
def test_conv_without_bias_gets_one(ir_version: int) -> None:
    tensors = {"w": normal(6, 1, 3, 3), "w_bias": normal(1), **bn_parameters(6)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], group=3),
        bn("a", "c"),
        helper.make_node("Mul", ["c", "w_bias"], ["y"]),
    ]
    inputs = [value("x", [2, 3, 5, 5])]
    if ir_version < 4:
        inputs += [value(name, tensor.shape) for name, tensor in tensors.items()]
    opset = 8 if ir_version < 4 else 17
    model = build(nodes, inputs, [value("y", [2, 6, 3, 3])], tensors, ir_version=ir_version, opset=opset)
    model.graph.value_info.append(value("a"))
    folded, names = fold_batch_norm(model)
    assert names == ("bn",)
    onnx.checker.check_model(folded)
    assert list(folded.graph.node[0].input) == ["x", "w", "w_bias_2"]
    assert [v.name for v in folded.graph.value_info] == []
    assert check_folding(model, folded) < 1e-5


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", ["none", "vector", "row", "scalar", "one"])
def test_gemm(trans_b: int, bias: str) -> None:
    shapes = {"vector": (4,), "row": (1, 4), "scalar": (), "one": (1,)}
    tensors = {"w": normal(*((4, 3) if trans_b else (3, 4))), **bn_parameters(4)}
    names = ["x", "w"]
    if bias != "none":
        tensors["c"] = np.full(shapes[bias], 0.7, np.float32)
        names.append("c")
    nodes = [helper.make_node("Gemm", names, ["a"], transB=trans_b, alpha=0.5, beta=2.0), bn("a", "y")]
    model = build(nodes, [value("x", ["N", 3])], [value("y", ["N", 4])], tensors)
    folded, gone = fold_batch_norm(model)
    assert gone == ("bn",)
    onnx.checker.check_model(folded)
    assert check_folding(model, folded, [{"x": normal(5, 3)}, {"x": normal(1, 3)}]) < 1e-5


def test_chain_of_two_and_constants_in_nodes() -> None:
    parameters = bn_parameters(4, "bn")
    nodes = [constant(name, array) for name, array in parameters.items()]
    nodes += [
        constant("w", normal(4, 2, 3)),
        helper.make_node("Conv", ["x", "w"], ["a"]),
        bn("a", "c"),
        bn("c", "y", "second"),
    ]
    model = build(nodes, [value("x", [1, 2, 6])], [value("y")], bn_parameters(4, "second"))
    folded, names = fold_batch_norm(model)
    assert names == ("bn", "second")
    assert ops(folded) == ["Constant", "Conv"]
    assert check_folding(model, folded) < 1e-5


def test_parameters_shared_by_two_norms_stay_for_the_other() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        bn("a", "c"),
        helper.make_node("Relu", ["c"], ["r"]),
        bn("r", "y"),
    ]
    nodes[3].name = "kept"
    model = build(nodes, [value("x", [1, 2, 6])], [value("y")], {"w": normal(4, 2, 3), **bn_parameters(4)})
    folded, names = fold_batch_norm(model)
    assert names == ("bn",)
    assert check_folding(model, folded) < 1e-5


def read_elsewhere(name: str):
    return conv_bn([helper.make_node("Relu", [name], ["z"])], ("y", "z"))


def own_bias() -> onnx.ModelProto:
    """A Gemm whose bias is its weight: scaling one would scale the other."""
    nodes = [helper.make_node("Gemm", ["x", "w", "w"], ["a"]), bn("a", "y")]
    return build(nodes, [value("x", ["N", 1])], [value("y")], {"w": normal(1, 4), **bn_parameters(4)})


NOT_FOLDED = {
    "training form with a single output": lambda: conv_bn(training_mode=1),
    "one statistic for each element of an output": lambda: conv_bn(spatial=0),
    "the weight is the bias, too": own_bias,
    "the layer's output is read elsewhere": lambda: read_elsewhere("a"),
    "the weight is read elsewhere": lambda: read_elsewhere("w"),
    "the bias is read elsewhere": lambda: read_elsewhere("b"),
    "the layer's output is a graph output": lambda: conv_bn(outputs=("y", "a")),
    "infinite result": lambda: conv_bn(tensors={"bn.s": np.full(4, np.inf, np.float32)}),
    "negative variance": lambda: conv_bn(tensors={"bn.v": np.full(4, -1, np.float32)}),
}


@pytest.mark.parametrize("case", NOT_FOLDED)
def test_not_folded(case: str) -> None:
    model = NOT_FOLDED[case]()
    folded, names = fold_batch_norm(model)
    assert names == ()
    assert folded.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_training_form_and_replaceable_and_captured_are_not_folded() -> None:
    model = conv_bn()
    model.graph.node[1].output.extend(["m2", "v2"])
    model.graph.node[1].attribute.append(helper.make_attribute("training_mode", 1))
    assert fold_batch_norm(model)[1] == ()

    model = conv_bn()
    model.graph.input.append(value("w", [4, 2, 3]))  # a caller may replace it
    assert fold_batch_norm(model)[1] == ()

    body = helper.make_graph([helper.make_node("Relu", ["a"], ["r"])], "body", [], [value("r")])
    node = helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body)
    model = conv_bn([node], ("y", "z"), {"c": np.array(True)})
    assert fold_batch_norm(model)[1] == ()

    tensors = {"w": normal(2, 4), "c": normal(4, 1), **bn_parameters(4)}  # a bias per sample, not per output
    nodes = [helper.make_node("Gemm", ["x", "w", "c"], ["a"]), bn("a", "y")]
    model = build(nodes, [value("x", [4, 2])], [value("y")], tensors)
    assert fold_batch_norm(model)[1] == ()

    nodes = [helper.make_node("Relu", ["x"], ["a"]), bn("a", "y")]
    model = build(nodes, [value("x", [1, 4])], [value("y")], bn_parameters(4))
    assert fold_batch_norm(model)[1] == ()


def test_check_folding_refuses_a_difference() -> None:
    model = conv_net()
    folded, _ = fold_batch_norm(model)
    weight = get_tensor(folded, "conv.w").copy()
    weight[0] *= 1.5
    folded.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "conv.w"))
    with pytest.raises(ModelError, match=r"changes the output 'y' by .* do without --fold-bn"):
        check_folding(model, folded)
    with pytest.raises(ModelError, match="cannot run the model to check folding"):
        check_folding(model, model, {"x": normal(1, 2)})
    assert check_folding(model, model) == 0.0


def test_integer_inputs_and_outputs() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "i"], ["g"]),
        helper.make_node("Gemm", ["g", "w"], ["a"]),
        bn("a", "y"),
        helper.make_node("ArgMax", ["y"], ["k"], axis=1),
    ]
    tensors = {"table": normal(2, 3), "w": normal(3, 4), **bn_parameters(4)}
    inputs = [value("i", ["N"], onnx.TensorProto.INT64)]
    outputs = [value("y"), value("k", None, onnx.TensorProto.INT64)]
    model = build(nodes, inputs, outputs, tensors)
    folded, names = fold_batch_norm(model)
    assert names == ("bn",)
    assert check_folding(model, folded) < 1e-5
    assert run(folded, {"i": np.array([0, 1, 1])})[0].shape == (3, 4)


@pytest.mark.parametrize("name", ["w", "b", "bn.s", "bn.b", "bn.m", "bn.v"])
def test_tensors_that_must_stay_exact_are_not_folded(name: str) -> None:
    model = conv_bn()
    assert fold_batch_norm(model, exact=["y"])[1] == ("bn",)
    folded, names = fold_batch_norm(model, exact=[name])
    assert names == ()
    assert folded.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_outputs_that_become_nan_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = conv_net()
    folded, _ = fold_batch_norm(model)
    folded.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((4, 3, 3, 3), np.nan, np.float32), "conv.w"))
    with pytest.raises(ModelError, match=r"changes the output 'y' by inf"):
        check_folding(model, folded)
    monkeypatch.setattr(fold, "_relative_error", lambda *_: np.nan)  # no comparison with it holds
    with pytest.raises(ModelError, match=r"changes the output 'y' by nan"):
        check_folding(model, model)


def test_epsilon_counts() -> None:
    model = conv_bn(epsilon=0.25)
    folded, names = fold_batch_norm(model)
    assert names == ("bn",)
    assert check_folding(model, folded) < 1e-5


def test_what_a_body_inside_a_body_reads_is_not_folded_away() -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["a"], ["r"])], "inner", [], [value("r")])
    node = helper.make_node("If", ["c"], ["s"], then_branch=inner, else_branch=inner)
    outer = helper.make_graph([node], "outer", [], [value("s")])
    node = helper.make_node("If", ["c"], ["z"], then_branch=outer, else_branch=outer)
    assert fold_batch_norm(conv_bn([node], ("y", "z"), {"c": np.array(True)}))[1] == ()
