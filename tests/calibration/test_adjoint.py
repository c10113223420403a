"""Gradients by the adjoint model in onnxruntime, against differences of the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cerwu_onnx.calibration.adjoint import adjoint, halves
from cerwu_onnx.errors import ModelError

from ..model.test_sites import decoder
from ..models import FLOAT, build, constant, conv_net, normal, run, value
from .test_recurrent import recurrent

NODE = helper.make_node
Feed = dict[str, np.ndarray]
OLD = tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 24)
"""Whether onnxruntime is not of the last versions."""
QUICK = settings(max_examples=40, deadline=None)


def net(
    nodes: Sequence[onnx.NodeProto],
    feed: Feed,
    tensors: Feed | None = None,
    outputs: Sequence[str] = ("y",),
    **more: Any,
) -> onnx.ModelProto:
    """A model of some nodes whose inputs have as many axes as the arrays of a feed, all of unknown length."""
    inputs = [value(name, [f"{name}{axis}" for axis in range(array.ndim)]) for name, array in feed.items()]
    return build(nodes, inputs, [value(name) for name in outputs], tensors or {}, **more)


def sized(model: onnx.ModelProto, feed: Feed) -> onnx.ModelProto:
    """The same model, whose inputs have the lengths of these arrays."""
    for info in model.graph.input:
        info.CopyFrom(value(info.name, feed[info.name].shape))
    return model


def gradients(model: onnx.ModelProto, feed: Feed, targets: Sequence[str], seeds: Feed) -> Feed:
    """By onnxruntime."""
    backward = adjoint(model, [output.name for output in model.graph.output], targets)
    assert not backward.unsupported
    assert list(backward.gradients) == list(targets)
    fed = {backward.seeds[name]: seed for name, seed in seeds.items() if name in backward.seeds}
    return dict(zip(targets, run(backward.model, {**feed, **fed}), strict=True))


def outputs_of(model: onnx.ModelProto, feed: Feed) -> Feed:
    return dict(zip([output.name for output in model.graph.output], run(model, feed), strict=True))


def seeds_for(outputs: Feed) -> Feed:
    rng = np.random.default_rng(5)
    return {name: np.asarray(rng.standard_normal(array.shape), array.dtype) for name, array in outputs.items()}


def in_double(model: onnx.ModelProto) -> ReferenceEvaluator:
    """The model in float64, whatever its floats are."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    tensors = [*wide.graph.initializer, *(a.t for node in wide.graph.node for a in node.attribute if a.HasField("t"))]
    for tensor in tensors:
        if tensor.data_type == FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for info in (*wide.graph.input, *wide.graph.output):
        if info.type.tensor_type.elem_type == FLOAT:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    return ReferenceEvaluator(wide)


def check(
    nodes: Sequence[onnx.NodeProto] | onnx.ModelProto,
    feed: Feed,
    tensors: Feed | None = None,
    *,
    targets: Sequence[str] | None = None,
    linear: bool = False,
    step: float = 1e-5,
    tolerance: float = 1e-4,
    **more: Any,
) -> None:
    """Gradients with respect to the float inputs, in random directions, are differences of the outputs.

    Of models that are linear, up to a constant, as onnxruntime runs them; of others in float64.
    """
    model = nodes if isinstance(nodes, onnx.ModelProto) else net(nodes, feed, tensors, **more)
    targets = targets or [name for name, array in feed.items() if array.dtype.kind == "f"]
    outputs = outputs_of(model, feed)
    seeds = seeds_for(outputs)
    found = gradients(model, feed, targets, seeds)
    rng = np.random.default_rng(6)
    evaluator, step = (None, 1.0) if linear else (in_double(model), step)
    for name in targets:
        assert found[name].shape == feed[name].shape
        assert found[name].dtype == feed[name].dtype
        for _ in range(3):
            direction = rng.standard_normal(feed[name].shape)
            sides = []
            for sign in (1, -1):
                wide = {
                    key: array.astype(np.float64) if array.dtype.kind == "f" else array for key, array in feed.items()
                }
                wide[name] = wide[name] + sign * step * direction
                if evaluator is None:
                    values = outputs_of(model, {key: np.asarray(array, feed[key].dtype) for key, array in wide.items()})
                else:
                    values = dict(zip(outputs, evaluator.run(None, wide), strict=True))
                floats = [key for key in outputs if outputs[key].dtype.kind == "f"]
                sides.append(sum(np.vdot(seeds[key].astype(np.float64), values[key]) for key in floats))
            expected = (sides[0] - sides[1]) / (2 * step)
            scale = np.linalg.norm(found[name].astype(np.float64)) + 1e-3
            assert np.vdot(found[name].astype(np.float64), direction) == pytest.approx(
                expected, abs=tolerance * scale * 4
            )


X = {"x": normal(2, 3, 4, 5, seed=11)}
POSITIVE = {"x": np.abs(normal(2, 3, 4, seed=12)) + 0.3}
WIDE = {"x": 4 * normal(2, 3, 4, seed=13)}


@pytest.mark.parametrize(
    "op",
    [
        *("Relu", "Sigmoid", "Tanh", "Softplus", "Exp", "Neg", "Abs", "HardSwish", "Identity"),
        *("Sin", "Cos", "Softsign"),
    ],
)
def test_functions_of_one_number(op: str) -> None:
    check([NODE(op, ["x"], ["y"])], WIDE)


@pytest.mark.parametrize("op", ["Log", "Sqrt", "Reciprocal"])
def test_functions_of_positive_numbers(op: str) -> None:
    check([NODE(op, ["x"], ["y"])], POSITIVE)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("LeakyRelu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {}),
        ("Elu", {"alpha": 0.5}),
        ("Celu", {"alpha": 0.5}),
        ("Selu", {}),
        ("Selu", {"alpha": 2.0, "gamma": 0.5}),
        ("Mish", {}),
        ("LpNormalization", {}),
        ("LpNormalization", {"axis": 1}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("Gelu", {}),
        ("Gelu", {"approximate": "tanh"}),
        ("Softmax", {}),
        ("Softmax", {"axis": 1}),
        ("LogSoftmax", {}),
        ("LogSoftmax", {"axis": -2}),
        ("Erf", {}),
    ],
)
def test_functions_with_attributes(op: str, attributes: dict[str, Any]) -> None:
    single = op in ("Erf", "Gelu")  # erf in the reference is that of float32
    check([NODE(op, ["x"], ["y"], **attributes)], WIDE, opset=20, step=3e-3 if single else 1e-5)


def test_prelu_clip_and_pow() -> None:
    check([NODE("PRelu", ["x", "slope"], ["y"])], X, {"slope": np.abs(normal(3, 1, 1, seed=1))})
    bounds = {"low": np.array(-0.5, np.float32), "high": np.array(0.7, np.float32)}
    check([NODE("Clip", ["x", "low", "high"], ["y"])], X, bounds)
    check([NODE("Clip", ["x", "", "high"], ["y"])], X, bounds)
    for exponent in (np.array(2, np.int64), np.array([0.5, 1.5, -1, 3], np.float32)):
        check([NODE("Pow", ["x", "p"], ["y"])], POSITIVE, {"p": exponent})


SHAPES = st.lists(st.integers(1, 3), max_size=3)


@st.composite
def broadcast_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    full = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    parts = []
    for _ in range(2):
        kept = [length if draw(st.booleans()) else 1 for length in full]
        parts.append(tuple(kept[draw(st.integers(0, len(full))) :]))
    return parts[0], parts[1]


@QUICK
@given(
    broadcast_shapes(),
    st.sampled_from(["Add", "Sub", "Mul", "Div", "Sum", "Mean", "Max", "Min", "Where"]),
    st.booleans(),
)
def test_broadcasting(shapes: tuple[tuple[int, ...], tuple[int, ...]], op: str, typed: bool) -> None:
    """With shapes that are known, in part, or not at all."""
    feed = {
        name: 1.5 + np.abs(normal(*shape, seed=3 + i)) for i, (name, shape) in enumerate(zip("ab", shapes, strict=True))
    }
    feed = {name: np.asarray(array, np.float32) for name, array in feed.items()}
    tensors = {"c": np.array([True, False, True])[: max([1, *shapes[0][-1:], *shapes[1][-1:]])]}
    node = NODE(op, ["c", "a", "b"] if op == "Where" else ["a", "b"], ["y"])
    model = net([node], feed, tensors)
    if typed:
        sized(model, feed)
    check(model, feed, linear=op in ("Add", "Sub", "Sum", "Mean", "Where"))


def test_a_value_used_several_times_collects_all_gradients() -> None:
    nodes = [NODE("Mul", ["x", "x"], ["a"]), NODE("Add", ["a", "x"], ["b"]), NODE("Mul", ["b", "x"], ["y"])]
    check(nodes, WIDE, tolerance=3e-4)


@st.composite
def windows(draw: st.DrawFn, ranks: Sequence[int] = (1, 2, 3)) -> tuple[dict[str, Any], list[int]]:
    """Attributes of a convolution or pool and the spatial lengths of its input."""
    rank = draw(st.sampled_from(ranks))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if draw(st.booleans()):
        attributes["strides"] = [draw(st.integers(1, 3)) for _ in range(rank)]
    if draw(st.booleans()):
        attributes["dilations"] = [draw(st.integers(1, 2)) for _ in range(rank)]
    padding = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if padding != "NOTSET":
        attributes["auto_pad"] = padding
    elif draw(st.booleans()):
        attributes["pads"] = [draw(st.integers(0, kernel[axis % rank] - 1)) for axis in range(2 * rank)]
    dilations = attributes.get("dilations", [1] * rank)
    lengths = [(k - 1) * d + draw(st.integers(1, 5)) for k, d in zip(kernel, dilations, strict=True)]
    return attributes, lengths


def runs(model: onnx.ModelProto, feed: Feed) -> bool:
    """Whether onnxruntime takes the combination of attributes."""
    try:
        run(model, feed)
    except Exception:  # its exceptions have no common base but this
        return False
    return True


@QUICK
@given(windows(), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.booleans())
def test_conv(window: tuple[dict[str, Any], list[int]], groups: int, inputs: int, outputs: int, known: bool) -> None:
    attributes, lengths = window
    feed = {"x": normal(2, groups * inputs, *lengths, seed=1)}
    weights = {
        "w": normal(groups * outputs, inputs, *attributes["kernel_shape"], seed=2),
        "b": normal(groups * outputs, seed=3),
    }
    model = net([NODE("Conv", ["x", "w", "b"], ["y"], group=groups, **attributes)], feed, weights)
    assume(runs(model, feed))
    check(sized(model, feed) if known else model, feed, linear=True)


@QUICK
@given(windows(), st.integers(1, 2), st.integers(0, 2))
def test_conv_transpose(window: tuple[dict[str, Any], list[int]], groups: int, extra: int) -> None:
    attributes, lengths = window
    assume(not attributes.get("auto_pad", "").startswith("SAME"))
    if extra and "strides" in attributes:
        attributes["output_padding"] = [min(extra, stride - 1) for stride in attributes["strides"]]
    feed = {"x": normal(2, groups * 2, *lengths, seed=1)}
    weights = {"w": normal(groups * 2, 3, *attributes["kernel_shape"], seed=2)}
    model = net([NODE("ConvTranspose", ["x", "w"], ["y"], group=groups, **attributes)], feed, weights)
    assume(runs(model, feed))
    check(model, feed, linear=True)


@QUICK
@given(windows(), st.booleans(), st.booleans())
@example(({"kernel_shape": [1, 2], "auto_pad": "SAME_UPPER"}, [1, 2]), False, True)  # several windows as large as x
def test_average_pool(window: tuple[dict[str, Any], list[int]], include: bool, known: bool) -> None:
    attributes, lengths = window
    assume("dilations" not in attributes or not attributes.get("auto_pad", "").startswith("SAME"))
    assume("dilations" not in attributes or not OLD)  # it averages wrongly with dilations and pads
    feed = {"x": normal(2, 3, *lengths, seed=1)}
    node = NODE("AveragePool", ["x"], ["y"], count_include_pad=int(include), **attributes)
    model = net([node], feed, opset=19 if "dilations" in attributes else 16)
    assume(runs(model, feed))
    check(sized(model, feed) if known else model, feed, linear=True)


@QUICK
@given(windows(), st.booleans())
def test_max_pool(window: tuple[dict[str, Any], list[int]], ceil: bool) -> None:
    """Its output is the input at some places, so seed and output have the inner product of gradient and input."""
    attributes, lengths = window
    feed = {"x": normal(2, 3, *lengths, seed=1)}
    model = net([NODE("MaxPool", ["x"], ["y"], ceil_mode=int(ceil), **attributes)], feed)
    assume(runs(model, feed))
    seeds = seeds_for(outputs_of(model, feed))
    found = gradients(model, feed, ["x"], seeds)["x"]
    assert np.vdot(found, feed["x"]) == pytest.approx(
        np.vdot(seeds["y"], outputs_of(model, feed)["y"]), rel=1e-4, abs=1e-4
    )
    assert found.sum() == pytest.approx(seeds["y"].sum(), rel=1e-4, abs=1e-4)


def test_max_pool_finds_the_largest() -> None:
    feed = {"x": np.array([[[3.0, 1, 2, 7, 7]]], np.float32)}
    model = net([NODE("MaxPool", ["x"], ["y"], kernel_shape=[3], strides=[1], pads=[1, 1])], feed)
    found = gradients(model, feed, ["x"], {"y": np.array([[[1.0, 2, 4, 8, 16]]], np.float32)})
    assert found["x"].tolist() == [[[3, 0, 0, 28, 0]]]


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(op: str) -> None:
    check([NODE(op, ["x"], ["y"])], X)


@pytest.mark.parametrize(
    "op",
    [
        *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"),
        *("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"),
    ],
)
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [None, [1], [-1, 1], [0, 1, 2, 3]])
def test_reductions(op: str, keep: int, axes: list[int] | None) -> None:
    """With the axes as an attribute and as an input, as far as both exist."""
    for opset in (16, 18):
        as_input = opset == 18 or op == "ReduceSum"
        names = ["x", "axes"] if axes and as_input else ["x"]
        attributes = {"axes": axes} if axes and not as_input else {}
        tensors = {"axes": np.array(axes, np.int64)} if axes else {}
        check([NODE(op, names, ["y"], keepdims=keep, **attributes)], X, tensors, opset=opset)


def test_equal_largest_values_share() -> None:
    feed = {"x": np.array([[2.0, 2, 1]], np.float32)}
    model = net([NODE("ReduceMax", ["x"], ["y"], axes=[1])], feed, opset=16)
    assert gradients(model, feed, ["x"], {"y": np.array([[1.0]], np.float32)})["x"].tolist() == [[0.5, 0.5, 0]]


@pytest.mark.parametrize(
    ("op", "attributes"), [("ReduceL2", {"axes": [1], "keepdims": 0}), ("LpNormalization", {"axis": 1})]
)
def test_rows_of_zeros_have_a_norm(op: str, attributes: dict[str, Any]) -> None:
    feed = {"x": np.array([[0.0, 0], [3, 4]], np.float32)}
    model = net([NODE(op, ["x"], ["y"], **attributes)], feed, opset=16)
    (y,) = run(model, feed)
    found = gradients(model, feed, ["x"], {"y": np.ones_like(y)})["x"]
    assert np.isfinite(found).all()
    assert found[1].any()


@pytest.mark.parametrize("equation", ["bhid,bhjd->bhij", "bij,bjd->bid", "ik, jk -> ji", "i,i->", "ij->ji"])
def test_einsum(equation: str) -> None:
    sizes = dict(zip("bhijdk", (2, 3, 4, 5, 6, 3), strict=True))
    terms = equation.replace(" ", "").split("->")[0].split(",")
    feed = {f"x{i}": normal(*(sizes[axis] for axis in term), seed=i) for i, term in enumerate(terms)}
    check([NODE("Einsum", list(feed), ["y"], equation=equation)], feed)


@pytest.mark.parametrize("equation", ["ij->i", "ii->i", "ij,jk", "...j,jk->...k", "ij,jk,kl->il"])
def test_other_einsums_have_no_gradient(equation: str) -> None:
    names = [f"x{i}" for i in range(equation.count(",") + 1)]
    model = net([NODE("Einsum", names, ["y"], equation=equation)], {name: normal(2, 2) for name in names})
    assert adjoint(model, ["y"], names).unsupported.keys() == set(names)


def test_normalisations() -> None:
    vector = {
        "s": normal(3, seed=1),
        "b": normal(3, seed=2),
        "m": normal(3, seed=3),
        "v": np.abs(normal(3, seed=4)) + 0.1,
    }
    check([NODE("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=1e-3)], X, vector)
    check([NODE("InstanceNormalization", ["x", "s", "b"], ["y"], epsilon=1e-2)], X, vector)
    for axis, shape in ((-1, (5,)), (2, (4, 5)), (-3, (3, 4, 5))):
        scale = {"s": normal(*shape, seed=1), "b": normal(*shape, seed=2)}
        check([NODE("LayerNormalization", ["x", "s", "b"], ["y"], axis=axis)], X, scale)
    check([NODE("LayerNormalization", ["x", "s"], ["y"])], X, {"s": normal(5, seed=1)})


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("c", [(), (1,), (2,), (3, 1), (3, 2)])
def test_gemm(trans_a: int, trans_b: int, c: tuple[int, ...]) -> None:
    feed = {
        "a": normal(*((4, 3) if trans_a else (3, 4)), seed=1),
        "b": normal(*((2, 4) if trans_b else (4, 2)), seed=2),
        "c": np.asarray(normal(*c, seed=3), np.float32),
    }
    node = NODE("Gemm", ["a", "b", "c"], ["y"], transA=trans_a, transB=trans_b, alpha=0.7, beta=1.3)
    check([node], feed)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 2)),
        ((4,), (4, 2)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((5, 3, 4), (4, 2)),
        ((3, 4), (5, 4, 2)),
        ((5, 3, 4), (5, 4, 2)),
        ((1, 3, 4), (5, 4, 2)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((5, 3, 4), (4,)),
        ((4,), (5, 4, 2)),
    ],
)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    feed = {"a": normal(*a, seed=1), "b": normal(*b, seed=2)}
    check([NODE("MatMul", ["a", "b"], ["y"])], feed)
    for constant_one, variable in (("a", "b"), ("b", "a")):
        check([NODE("MatMul", ["a", "b"], ["y"])], {variable: feed[variable]}, {constant_one: feed[constant_one]})


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_matrices_after_values_of_unknown_rank(rank: int) -> None:
    """Scalers of scikit-learn, for one, tell no shape: no layer of its networks had gradients."""
    shape = np.array((2, 3, 4)[3 - rank :], np.int64)
    feed = {"x": normal(int(shape.prod()), seed=1), "s": shape}
    model = net([NODE("Reshape", ["x", "s"], ["a"]), NODE("MatMul", ["a", "b"], ["y"])], feed, {"b": normal(4, 5)})
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    (y,) = run(model, feed)
    seed = normal(*y.shape, seed=3)
    backward = adjoint(model, ["y"], ["a"])
    assert not backward.unsupported
    (found,) = run(backward.model, {**feed, backward.seeds["y"]: seed})
    assert found == pytest.approx(seed @ normal(4, 5).T, rel=1e-5)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


MOVES = {
    "reshape": ([NODE("Reshape", ["x", "i"], ["y"])], {"i": ints(0, -1, 2)}),
    "flatten": ([NODE("Flatten", ["x"], ["y"], axis=2)], {}),
    "unsqueeze": ([NODE("Unsqueeze", ["x", "i"], ["y"])], {"i": ints(0, 3)}),
    "squeeze": ([NODE("Unsqueeze", ["x", "i"], ["a"]), NODE("Squeeze", ["a"], ["y"])], {"i": ints(0, 3)}),
    "transpose": ([NODE("Transpose", ["x"], ["y"], perm=[2, 0, 3, 1])], {}),
    "reversed": ([NODE("Transpose", ["x"], ["y"])], {}),
    "dropout": ([NODE("Dropout", ["x"], ["y"])], {}),
    "cast": ([NODE("Cast", ["x"], ["a"], to=TensorProto.DOUBLE), NODE("Cast", ["a"], ["y"], to=FLOAT)], {}),
    "concat": ([NODE("Neg", ["x"], ["a"]), NODE("Concat", ["c", "x", "a"], ["y"], axis=-2)], {"c": normal(2, 3, 1, 5)}),
    "split": (
        [NODE("Split", ["x", "i"], ["a", "b", "c"], axis=-1), NODE("Concat", ["c", "a"], ["y"], axis=3)],
        {"i": ints(1, 2, 2)},
    ),
    "slice": (
        [NODE("Slice", ["x", "i", "j", "k", "l"], ["y"])],
        {"i": ints(-1, 1), "j": ints(-100, 3), "k": ints(3, 1), "l": ints(-2, 1)},
    ),
    "pad": ([NODE("Pad", ["x", "i", "c"], ["y"])], {"i": ints(0, 1, 0, 2, 0, 0, -1, 3), "c": np.float32(7)}),
    "reflect": ([NODE("Pad", ["x", "i"], ["y"], mode="reflect")], {"i": ints(0, 0, 2, 1, 0, 0, 1, 2)}),
    "edge": ([NODE("Pad", ["x", "i"], ["y"], mode="edge")], {"i": ints(0, 0, 2, 1, 0, 0, 1, 2)}),
    "gather": ([NODE("Gather", ["x", "i"], ["y"], axis=2)], {"i": ints(3, 0, 3, -1)}),
    "gather scalar": ([NODE("Gather", ["x", "i"], ["y"], axis=-1)], {"i": np.array(2)}),
    "gather elements": (
        [NODE("GatherElements", ["x", "i"], ["y"], axis=3)],
        {"i": np.zeros((2, 3, 4, 2), np.int64) - 1},
    ),
    "gather nd": ([NODE("GatherND", ["x", "i"], ["y"])], {"i": np.array([[0, 1], [1, 1], [0, 1]])}),
    "tile": ([NODE("Tile", ["x", "i"], ["y"])], {"i": ints(1, 2, 1, 3)}),
    "expand": (
        [NODE("Unsqueeze", ["x", "j"], ["a"]), NODE("Expand", ["a", "i"], ["y"])],
        {"i": ints(3, 1), "j": ints(3)},
    ),
    "resize": ([NODE("Resize", ["x", "", "s"], ["y"], mode="nearest")], {"s": np.array([1, 1, 2, 3], np.float32)}),
    "shrink": ([NODE("Resize", ["x", "", "s"], ["y"], mode="nearest")], {"s": np.array([1, 1, 0.5, 0.6], np.float32)}),
    "trilu": ([NODE("Trilu", ["x"], ["y"], upper=0)], {}),
}


@pytest.mark.parametrize("name", MOVES)
def test_moved_elements(name: str) -> None:
    check(MOVES[name][0], X, MOVES[name][1], linear=True)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(mode: str) -> None:
    feed = {"x": normal(2, 8, 2, 3)}
    check([NODE("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)], feed, linear=True)
    check([NODE("SpaceToDepth", ["x"], ["y"], blocksize=2)], {"x": normal(2, 2, 4, 6)}, linear=True)


def attention() -> tuple[onnx.ModelProto, Feed]:
    """Two heads: both operands of a product depend on the input; shapes are computed from it."""
    feed = {"x": normal(2, 5, 8, seed=1)}
    tensors = {f"w{name}": normal(8, 8, seed=2 + i) / 3 for i, name in enumerate("qkvo")}
    tensors |= {"heads": ints(0, 0, 2, 4), "whole": ints(8), "two": ints(2), "zero": ints(0)}
    nodes = []
    for name in "qkv":
        nodes += [
            NODE("MatMul", ["x", f"w{name}"], [name]),
            NODE("Reshape", [name, "heads"], [f"{name}4"]),
            NODE("Transpose", [f"{name}4"], [f"{name}h"], perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]
    nodes += [
        NODE("MatMul", ["qh", "kh"], ["scores"]),
        constant("scale", np.array(0.5, np.float32)),
        NODE("Mul", ["scores", "scale"], ["scaled"]),
        NODE("Softmax", ["scaled"], ["weights"]),
        NODE("MatMul", ["weights", "vh"], ["mixed"]),
        NODE("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        NODE("Shape", ["x"], ["shape"]),
        NODE("Slice", ["shape", "zero", "two"], ["leading"]),
        NODE("Concat", ["leading", "whole"], ["joined"], axis=0),
        NODE("Reshape", ["back", "joined"], ["flat"]),
        NODE("MatMul", ["flat", "wo"], ["z"]),
        NODE("Add", ["z", "x"], ["y"]),
    ]
    return net(nodes, feed, tensors), feed


def test_attention() -> None:
    model, feed = attention()
    check(model, feed)


@pytest.mark.parametrize("ir_version", [3, 8])
def test_a_small_network(ir_version: int) -> None:
    """Version 3 is of opset 8, which is converted."""
    model = conv_net(ir_version)
    feed = {"x": normal(3, 3, 8, 8, seed=9)}
    evaluated = conv_net()
    seeds = seeds_for(outputs_of(model, feed))
    found = gradients(model, feed, ["x"], seeds)["x"]
    expected = gradients(evaluated, feed, ["x"], seeds)["x"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    check(evaluated, feed)


def test_a_decoder() -> None:
    check(decoder(groups=1), {"x": normal(2, 8, 4, 4, seed=1)}, tolerance=2e-4)


def test_inner_activations_are_targets() -> None:
    """Gradient with respect to a Conv's output = what its own adjoint makes of it at its input."""
    model = conv_net()
    feed = {"x": normal(3, 3, 8, 8, seed=9)}
    seeds = seeds_for(outputs_of(model, feed))
    found = gradients(model, feed, ["x", "a", "d", "y"], seeds)
    np.testing.assert_array_equal(found["y"], seeds["y"])
    conv = net([model.graph.node[0]], feed, {"conv.w": normal(4, 3, 3, 3, seed=2), "conv.b": normal(4, seed=3)}, ["a"])
    np.testing.assert_allclose(gradients(conv, feed, ["x"], {"a": found["a"]})["x"], found["x"], rtol=1e-5, atol=1e-6)


def test_several_outputs_add_up() -> None:
    nodes = [NODE("Exp", ["x"], ["y"]), NODE("Tanh", ["y"], ["z"])]
    check(nodes, {"x": normal(3, 4)}, outputs=["y", "z"])


def test_what_is_not_seeded_counts_as_zero() -> None:
    model = net([NODE("Exp", ["x"], ["y"]), NODE("Neg", ["x"], ["z"])], X, outputs=["y", "z"])
    backward = adjoint(model, ["z"], ["x"])
    assert list(backward.seeds) == ["z"]
    (found,) = run(backward.model, {**X, backward.seeds["z"]: X["x"]})
    np.testing.assert_array_equal(found, -X["x"])


def test_integers_have_no_gradient() -> None:
    nodes = [
        NODE("ArgMax", ["x"], ["best"], axis=3),
        NODE("Cast", ["best"], ["number"], to=FLOAT),
        NODE("Neg", ["x"], ["a"]),
        NODE("Add", ["a", "number"], ["y"]),
    ]
    model = net(nodes, X)
    model.graph.output.append(value("best", None, TensorProto.INT64))
    backward = adjoint(model, ["y", "best"], ["x"])
    assert list(backward.seeds) == ["y"]
    seed = normal(2, 3, 4, 5, seed=2)
    np.testing.assert_array_equal(run(backward.model, {**X, backward.seeds["y"]: seed})[0], -seed)
    alone = adjoint(net(nodes[:2], X, outputs=["number"]), ["number"], ["x"])
    assert (alone.gradients, alone.unsupported, alone.seeds) == ({}, {}, {})


def test_what_blocks_a_gradient_is_named() -> None:
    """Only targets that reach the outputs through it; those behind it have theirs."""
    model = recurrent("LSTM")
    output = model.graph.output[0].name
    model.graph.node.append(NODE("Exp", [output], ["e"]))
    model.graph.output.append(value("e"))
    found = adjoint(model, ["e"], ["x", output, "nowhere"])
    assert list(found.gradients) == [output]
    assert list(found.unsupported) == ["x"]
    assert "LSTM" in found.unsupported["x"]
    around = net(
        [NODE("Resize", ["x", "", "s"], ["a"], name="up", mode="linear"), NODE("Add", ["a", "c"], ["y"])],
        X,
        MOVES["resize"][1] | {"c": normal(1)},
    )
    assert "up" in adjoint(around, ["y"], ["x"]).unsupported["x"]
    assert list(adjoint(around, ["y"], ["a"]).gradients) == ["a"]


@pytest.mark.parametrize(
    "node",
    [
        NODE("Conv", ["c", "x"], ["y"]),
        NODE("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], ceil_mode=1),
        NODE("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], storage_order=1),
        NODE("ConvTranspose", ["x", "c"], ["y"], auto_pad="SAME_UPPER"),
        NODE("Pow", ["c", "x"], ["y"]),
        NODE("Dropout", ["x", "", "training"], ["y"]),
        NODE("BatchNormalization", ["x", "s", "s", "s", "s"], ["y", "m", "v"], training_mode=1),
        NODE("QuantizeLinear", ["x", "one"], ["y"]),
        NODE("LayerNormalization", ["x", "l"], ["z", "y"]),
    ],
    ids=lambda node: node.op_type,
)
def test_forms_without_rules_block(node: onnx.NodeProto) -> None:
    tensors = {
        "c": normal(3, 3, 2, 2),
        "s": np.ones(3, np.float32),
        "l": np.ones(5, np.float32),
        "training": np.array(True),
        "one": np.array(1, np.float32),
    }
    nodes = [node, NODE("Cast", ["y"], ["out"], to=FLOAT)]
    found = adjoint(net(nodes, X, tensors, ["out"]), ["out"], ["x"])
    assert not found.gradients
    assert node.op_type in found.unsupported["x"]


def test_other_domains_block() -> None:
    nodes = [NODE("Relu", ["x"], ["a"], domain="somewhere"), NODE("Neg", ["a"], ["y"])]
    found = adjoint(net(nodes, X, domains=["somewhere"]), ["y"], ["x", "a"])
    assert "Relu" in found.unsupported["x"]
    assert list(found.gradients) == ["a"]


def test_bodies_block() -> None:
    body = helper.make_graph([NODE("Exp", ["x"], ["inner"])], "body", [], [value("inner")])
    nodes = [NODE("If", ["c"], ["y"], then_branch=body, else_branch=body)]
    found = adjoint(net(nodes, X, {"c": np.array(True)}), ["y"], ["x"])
    assert "If" in found.unsupported["x"]


def test_names_do_not_collide() -> None:
    nodes = [NODE("Exp", ["x"], ["adjoint/0"]), NODE("Neg", ["adjoint/0"], ["y/seed"]), NODE("Neg", ["y/seed"], ["y"])]
    check(nodes, X)


def test_types_are_kept() -> None:
    for dtype in (np.float64, np.float16):
        feed = {"x": normal(2, 4).astype(dtype)}
        inputs = [value("x", ["N", 4], helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))]
        nodes = [NODE("Sigmoid", ["x"], ["a"]), NODE("Softmax", ["a"], ["y"])]
        model = build(nodes, inputs, [value("y", None, inputs[0].type.tensor_type.elem_type)], {})
        seed = normal(2, 4, seed=3).astype(dtype)
        found = gradients(model, feed, ["x"], {"y": seed})["x"]
        assert found.dtype == dtype
        wide = {"x": feed["x"].astype(np.float32)}
        exact = gradients(net(nodes, wide), wide, ["x"], {"y": seed.astype(np.float32)})["x"]
        np.testing.assert_allclose(found, exact, rtol=1e-2, atol=1e-3)


def test_a_model_that_cannot_be_converted_is_refused() -> None:
    model = net([NODE("Upsample", ["x", "s"], ["y"], mode="nearest")], X, {"s": np.ones(4, np.float32)}, opset=9)
    model.graph.node[0].op_type = "Nonsense"
    with pytest.raises(ModelError, match="cannot be brought to opset 16"):
        adjoint(model, ["y"], ["x"])


def test_only_what_is_needed_is_computed() -> None:
    """Nodes that no gradient depends on are gone, and so is the model's own output."""
    model = net([NODE("Neg", ["x"], ["y"]), NODE("Exp", ["x"], ["z"])], X, outputs=["y", "z"])
    backward = adjoint(model, ["y", "z"], ["y"])
    assert [node.op_type for node in backward.model.graph.node] == ["Identity"]
    assert [output.name for output in backward.model.graph.output] == [backward.gradients["y"]]


@pytest.mark.parametrize("name", ["small", "attention", "linear"])
def test_the_half_before_the_seeds_runs_once(name: str) -> None:
    linear = net([NODE("Neg", ["x"], ["y"])], {"x": normal(2, 5, 8)})
    feed = {"x": normal(3, 3, 8, 8, seed=9)} if name == "small" else {"x": normal(2, 5, 8, seed=1)}
    model = {"small": conv_net(), "attention": attention()[0], "linear": linear}[name]
    backward = adjoint(model, ["y"], ["x"])
    early, late = halves(backward.model, backward.seeds.values())
    seeds = {backward.seeds["y"]: seeds_for(outputs_of(model, feed))["y"]}
    passed = [output.name for output in early.graph.output]
    known = {**feed, **(dict(zip(passed, run(early, feed), strict=True)) if passed else {})}
    read = {info.name: known[info.name] for info in late.graph.input if info.name not in seeds}
    np.testing.assert_array_equal(run(late, {**read, **seeds})[0], run(backward.model, {**feed, **seeds})[0])
    kinds = {node.op_type for node in late.graph.node}
    assert kinds.isdisjoint({"Softmax", "Relu", "Greater"})
    convs = [sum(node.op_type == "Conv" for node in part.graph.node) for part in (early, late, backward.model)]
    assert convs[0] + convs[1] == convs[2]
    assert [output.name for output in late.graph.output] == list(backward.gradients.values())


def test_halves_of_a_model_that_reads_an_input_in_both() -> None:
    """What constants alone give is in both; an output that no late input reaches is passed on."""
    nodes = [
        NODE("Mul", ["c", "c"], ["d"]),
        NODE("Add", ["x", "d"], ["a"]),
        NODE("Mul", ["s", "x"], ["b"]),
        NODE("Sub", ["b", "d"], ["y"]),
    ]
    feed = {"x": normal(2, 3), "s": normal(2, 3, seed=1)}
    model = net(nodes, feed, {"c": normal(3, seed=2)}, ["y", "a"])
    early, late = halves(model, ["s"])
    assert [output.name for output in early.graph.output] == ["a"]
    (a,) = run(early, {"x": feed["x"]})
    found = run(late, {**feed, "a": a})
    for array, expected in zip(found, run(model, feed), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((4, 3, 3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ((4, 3, 2, 2), {"strides": [3, 2], "auto_pad": "SAME_LOWER"}),
        ((4, 3, 1, 1), {"strides": [2, 2]}),
        ((3, 1, 3, 3), {"strides": [2, 3], "group": 3, "pads": [1, 1, 1, 1]}),
    ],
)
def test_strides_of_known_sizes_crop_nothing_at_run_time(shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    """onnxruntime's Pad copies one number at a time where the last axis is padded."""
    nodes = [NODE("Conv", ["x", "w"], ["y"], **attributes)]
    feed, tensors = {"x": normal(2, 3, 8, 9)}, {"w": normal(*shape, seed=1)}
    model = sized(net(nodes, feed, tensors), feed)
    check(model, feed, linear=True)
    added = adjoint(model, ["y"], ["x"]).model.graph.node
    constants = {node.output[0]: node for node in added if node.op_type == "Constant"}
    for node in added:
        if node.op_type == "Pad":
            pads = numpy_helper.to_array(constants[node.input[1]].attribute[0].t)
            assert pads[-1] == pads[len(pads) // 2 - 1] == 0


def test_one_window_of_average_pooling_repeats_the_gradient() -> None:
    model = net([NODE("AveragePool", ["x"], ["y"], kernel_shape=[4, 5])], X)
    check(sized(model, X), X, linear=True)
    assert "ConvTranspose" not in {node.op_type for node in adjoint(model, ["y"], ["x"]).model.graph.node}


def test_a_gradient_has_one_name_and_no_copy_of_its_own() -> None:
    nodes = [NODE("Neg", ["x"], ["a"]), NODE("Exp", ["a"], ["b"]), NODE("Neg", ["b"], ["y"])]
    found = adjoint(net(nodes, X), ["y"], ["a", "b"])
    assert len(set(found.gradients.values())) == 2
    assert "Identity" not in {node.op_type for node in found.model.graph.node}


def test_against_torch() -> None:
    torch = pytest.importorskip("torch")
    model = conv_net()
    tensors = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    feed = {"x": normal(3, 3, 8, 8, seed=9)}
    seeds = seeds_for(outputs_of(model, feed))
    x = torch.tensor(feed["x"], requires_grad=True)
    a = torch.nn.functional.conv2d(x, tensors["conv.w"], tensors["conv.b"], padding=1)
    norm = [tensors[f"bn.{name}"] for name in "mvsb"]
    c = torch.relu(torch.nn.functional.batch_norm(a, *norm, eps=1e-5))
    f = torch.nn.functional.conv2d(c, tensors["dw.w"], stride=2, groups=4).mean((2, 3))
    y = f @ torch.tensor(normal(4, 5, seed=8)) + tensors["fc.b"]
    y.backward(torch.tensor(seeds["y"]))
    np.testing.assert_allclose(gradients(model, feed, ["x"], seeds)["x"], x.grad, rtol=1e-4, atol=1e-6)
