"""Canonical matrices: round trips, and W @ columns(x) against onnxruntime for every operator of the table."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cerwu_onnx.calibration import columns, iter_columns
from cerwu_onnx.calibration.patches import positions
from cerwu_onnx.container.format import row_order
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.model.layout import (
    Move,
    conv_layout,
    conv_transpose_layout,
    einsum_layout,
    gather_layout,
    gemm_layout,
    matmul_layout,
    moved_layout,
    recurrent_layout,
)
from cerwu_onnx.types import ConvPatch, MatrixLayout

RELAXED = settings(max_examples=120, deadline=None)


@st.composite
def layouts(draw):
    kind = draw(st.sampled_from(["conv", "conv_transpose", "einsum", "gather", "gemm", "matmul", "recurrent"]))
    dims = st.integers(1, 4)
    if kind.startswith("conv"):
        groups, channels = draw(dims), draw(dims)
        rest = draw(st.lists(dims, min_size=2, max_size=4))
        layout = conv_layout if kind == "conv" else conv_transpose_layout
        return layout((groups * channels, *rest), groups)
    if kind == "einsum":
        roles = draw(st.lists(st.sampled_from(["g", "m", "n"]), min_size=1, max_size=4))
        labels = "abcd"[: len(roles)]
        operand, result = ("".join(a for a, r in zip(labels, roles, strict=True) if r != out) for out in "mn")
        return einsum_layout(tuple(draw(dims) for _ in labels), labels, operand, result)
    if kind == "gather":
        return gather_layout(tuple(draw(st.lists(dims, min_size=2, max_size=4))))
    if kind == "recurrent":
        return recurrent_layout((draw(st.integers(1, 2)), draw(dims), draw(dims)), draw(st.sampled_from("WR")))
    if kind == "gemm":
        return gemm_layout((draw(dims), draw(dims)), draw(st.sampled_from("AB")), draw(st.booleans()))
    shape = tuple(draw(st.lists(dims, min_size=1, max_size=5)))
    return matmul_layout(shape, draw(st.sampled_from(["left", "right"])))


@given(layouts())
@RELAXED
def test_round_trip(layout: MatrixLayout) -> None:
    x = np.arange(layout.size, dtype=np.float32).reshape(layout.shape)
    matrix = layout.to_matrix(x)
    assert matrix.shape == (layout.groups, layout.rows, layout.cols)
    assert np.array_equal(layout.to_tensor(matrix), x)
    assert sorted(matrix.ravel()) == list(range(layout.size))


@RELAXED
@given(layouts())
def test_transposed(layout: MatrixLayout) -> None:
    x = np.arange(layout.size).reshape(layout.shape)
    turned = layout.transposed
    assert turned is not None
    np.testing.assert_array_equal(turned.to_matrix(x), layout.to_matrix(x).swapaxes(1, 2))


def test_an_axis_of_rows_and_columns_cannot_be_transposed() -> None:
    """Without data, matrices of few columns are quantised as if each row held several."""
    layout = MatrixLayout((160, 10), (1, 160, 10), (0, 2, 1), 1, 20, 80)
    assert layout.transposed is None


@RELAXED
@given(layouts())
def test_numbers_of_rows(layout: MatrixLayout) -> None:
    """They broadcast to the tensor, where a trellis can follow the rows from one number for each."""
    rows = np.arange(layout.groups * layout.rows).reshape(layout.groups, layout.rows)
    found = layout.of_rows(rows)
    whole = np.broadcast_to(rows[:, :, None], (layout.groups, layout.rows, layout.cols))
    np.testing.assert_array_equal(np.broadcast_to(found, layout.shape), layout.to_tensor(whole))
    if row_order(layout) is not None:  # each row is stored in one piece
        assert found.size == rows.size


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        conv_layout((5, 2, 3), 2)
    with pytest.raises(ValueError, match="at least 3 axes"):
        conv_layout((5, 2), 1)
    with pytest.raises(ValueError, match="does not divide 5 input channels"):
        conv_transpose_layout((5, 2, 3), 2)
    with pytest.raises(ValueError, match="at least 3 axes"):
        conv_transpose_layout((5, 2), 1)
    with pytest.raises(ValueError, match="at least 2 axes"):
        gather_layout((5,))
    with pytest.raises(ValueError, match="3 axes"):
        recurrent_layout((5, 2), "W")
    with pytest.raises(ValueError, match="2 axes"):
        gemm_layout((2, 3, 4), "A", False)
    with pytest.raises(ValueError, match="at least 1 axis"):
        matmul_layout((), "left")


def one_node(node, weight, name: str, opset: int = 17) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, name)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def ours(model: onnx.ModelProto, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``(G, M, P)``: the canonical product, by way of what analyse() found in the model."""
    (layer,) = analyse(model).layers
    (site,) = layer.sites
    cols = columns(site.patch, x)
    pieces = list(iter_columns(site.patch, x, max_bytes=256))
    assert sum(piece.shape[1] for piece in pieces) == cols.shape[1]
    whole = np.concatenate(pieces, axis=1)
    for group in range(cols.shape[0]):
        assert sorted(map(tuple, whole[group].tolist())) == sorted(map(tuple, cols[group].tolist()))
    return layer.layout.to_matrix(weight) @ cols.swapaxes(1, 2)


@pytest.mark.parametrize("max_bytes", [1 << 10, 1 << 20])
def test_a_part_of_the_positions(max_bytes: int) -> None:
    rng = np.random.default_rng(0)
    patch = ConvPatch(1, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    x = rng.normal(size=(2, 3, 12, 12)).astype(np.float32)
    whole = {tuple(column) for column in columns(patch, x)[0].tolist()}
    assert positions(patch, x) == 2 * 12 * 12 == len(whole)
    parts = [list(iter_columns(patch, y, max_bytes, one_in=5, seed=seed)) for y, seed in ((x, 1), (-x, 1), (x, 2))]
    first, same, other = (np.concatenate(pieces, axis=1)[0] for pieces in parts)
    assert 2 * 12 * 12 / 5 <= len(first) < 2 * 12 * 12 / 3
    assert len({tuple(column) for column in first.tolist()} & whole) == len(first)  # none twice
    np.testing.assert_array_equal(first, -same)
    assert not np.array_equal(first, other)


@st.composite
def convolutions(draw):
    rank = draw(st.integers(1, 3))
    groups, per_group, rows = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    strides = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    auto_pad = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    # onnxruntime refuses dilations with SAME padding
    widest = 1 if auto_pad.startswith("SAME") else 2
    dilations = tuple(draw(st.integers(1, widest)) for _ in range(rank))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(2 * rank))
    spatial = tuple(draw(st.integers(5, 7)) for _ in range(rank))
    attributes = {"group": groups, "strides": strides, "dilations": dilations, "auto_pad": auto_pad}
    if auto_pad == "NOTSET":
        attributes["pads"] = pads
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    weight = (groups * rows, per_group, *kernel)
    assume(np.prod(weight) > 1)  # a single value is kept exact
    return attributes, weight, (draw(st.integers(1, 2)), groups * per_group, *spatial)


@given(convolutions(), st.integers(0, 2**32 - 1))
@RELAXED
def test_conv_equals_onnxruntime(case, seed: int) -> None:
    attributes, shape, x_shape = case
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(shape).astype(np.float32)
    x = rng.standard_normal(x_shape).astype(np.float32)
    model = one_node(helper.make_node("Conv", ["x", "w"], ["y"], **attributes), weight, "w")
    expected = run(model, x)  # (B, O, out...)
    groups = attributes["group"]
    batch, _, *out = expected.shape
    by_group = expected.reshape(batch, groups, -1, *out).swapaxes(0, 1)  # (G, B, M, out...)
    by_group = np.moveaxis(by_group, 1, 2).reshape(groups, shape[0] // groups, -1)
    np.testing.assert_allclose(ours(model, weight, x), by_group, rtol=1e-4, atol=1e-4)


@st.composite
def transposed_convolutions(draw):
    rank = draw(st.integers(1, 3))
    groups, per_group, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    strides = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    spatial = tuple(draw(st.integers(2, 4)) for _ in range(rank))
    pads = tuple(min(draw(st.integers(0, 1)), size - 1) for size in (*kernel, *kernel))
    weight = (groups * per_group, outputs, *kernel)
    assume(np.prod(weight) > 1)  # a single value is kept exact
    attributes = {"group": groups, "strides": strides, "pads": pads}
    return attributes, weight, (draw(st.integers(1, 2)), groups * per_group, *spatial)


@given(transposed_convolutions(), st.integers(0, 2**32 - 1))
@RELAXED
def test_conv_transpose_equals_onnxruntime(case, seed: int) -> None:
    """Each row of the product is one tap of one output channel; added where they land, they are the output."""
    attributes, shape, x_shape = case
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(shape).astype(np.float32)
    x = rng.standard_normal(x_shape).astype(np.float32)
    model = one_node(helper.make_node("ConvTranspose", ["x", "w"], ["y"], **attributes), weight, "w")
    kernel, batch, spatial, strides = shape[2:], x_shape[0], x_shape[2:], attributes["strides"]
    product = ours(model, weight, x).reshape(attributes["group"], shape[1], *kernel, batch, *spatial)
    full = tuple((n - 1) * s + k for n, s, k in zip(spatial, strides, kernel, strict=True))
    y = np.zeros((attributes["group"], shape[1], batch, *full), np.float32)
    for tap in np.ndindex(*kernel):
        places = tuple(slice(t, t + (n - 1) * s + 1, s) for t, n, s in zip(tap, spatial, strides, strict=True))
        y[(..., *places)] += product[(slice(None), slice(None), *tap)]
    rank = len(kernel)
    ends = zip(attributes["pads"][:rank], attributes["pads"][rank:], full, strict=True)
    cropped = y[(..., *(slice(before, size - after) for before, after, size in ends))]
    expected = np.moveaxis(cropped, 2, 0).reshape(batch, -1, *cropped.shape[3:])
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm_equals_onnxruntime(side: str, trans_a: int, trans_b: int) -> None:
    rng = np.random.default_rng(5)
    a = rng.standard_normal((4, 3) if trans_a else (3, 4)).astype(np.float32)
    b = rng.standard_normal((5, 4) if trans_b else (4, 5)).astype(np.float32)
    weight, x = (a, b) if side == "A" else (b, a)
    names = ["w", "x"] if side == "A" else ["x", "w"]
    model = one_node(helper.make_node("Gemm", names, ["y"], transA=trans_a, transB=trans_b), weight, "w")
    expected = run(model, x)
    product = ours(model, weight, x)[0]
    np.testing.assert_allclose(product if side == "A" else product.T, expected, rtol=1e-4, atol=1e-5)


@st.composite
def einsums(draw):
    """An equation whose constant is the second operand, and the shapes of both."""
    letters = iter(draw(st.permutations("abcdefghijk")))
    groups, rows, cols, positions = (
        [next(letters) for _ in range(draw(st.integers(least, 2)))] for least in (0, 0, 1, 0)
    )
    sizes = {label: draw(st.integers(1, 3)) for label in (*groups, *rows, *cols, *positions)}
    labels, operand, result = (
        "".join(draw(st.permutations(terms)))
        for terms in ([*groups, *rows, *cols], [*groups, *cols, *positions], [*groups, *rows, *positions])
    )
    shape, x_shape = (tuple(sizes[label] for label in term) for term in (labels, operand))
    place = draw(st.integers(0, len(operand)))
    if draw(st.booleans()):  # two more axes of positions
        operand, result = f"{operand[:place]}...{operand[place:]}", f"...{result}"
        x_shape = (*x_shape[:place], 2, 3, *x_shape[place:])
    return operand, labels, result, shape, x_shape, groups, rows


@given(einsums(), st.booleans(), st.integers(0, 2**32 - 1))
@RELAXED
def test_einsum_equals_onnxruntime(case, swapped: bool, seed: int) -> None:
    operand, labels, result, shape, x_shape, groups, rows = case
    assume(np.prod(shape) > 1)  # a single value is kept exact
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(shape).astype(np.float32)
    x = rng.standard_normal(x_shape).astype(np.float32)
    terms, names = ([labels, operand], ["w", "x"]) if swapped else ([operand, labels], ["x", "w"])
    equation = f"{','.join(terms)}->{result}"
    model = one_node(helper.make_node("Einsum", names, ["y"], equation=equation), weight, "w")
    expected = run(model, x)
    # In the order of the constant's groups and rows, then the operand's positions.
    plain, result = operand.replace("...", "YZ"), result.replace("...", "YZ")
    order = [label for label in labels if label in groups] + [label for label in labels if label in rows]
    order += [label for label in plain if label not in labels]
    product = ours(model, weight, x)
    found = expected.transpose([result.index(label) for label in order])
    np.testing.assert_allclose(product.ravel(), found.ravel(), rtol=1e-4, atol=1e-5)


@st.composite
def products(draw):
    """Shapes of a constant and a variable operand, and the side of the constant."""
    side = draw(st.sampled_from(["left", "right"]))
    m, n, p = (draw(st.integers(1, 4)) for _ in range(3))
    rank = draw(st.integers(0, 3))
    full = [draw(st.integers(1, 3)) for _ in range(rank)]

    def batch() -> tuple[int, ...]:
        keep = draw(st.integers(0, rank))
        return tuple(draw(st.sampled_from([1, size])) for size in full[rank - keep :])

    weight = (n,) if draw(st.integers(0, 3)) == 0 else (*batch(), *((m, n) if side == "left" else (n, m)))
    x = (n,) if draw(st.integers(0, 3)) == 0 else (*batch(), *((n, p) if side == "left" else (p, n)))
    return weight, x, side


@given(products(), st.integers(0, 2**32 - 1))
@RELAXED
def test_matmul_equals_onnxruntime(case, seed: int) -> None:
    weight_shape, x_shape, side = case
    assume(np.prod(weight_shape) > 1)  # a single value is kept exact
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(weight_shape).astype(np.float32)
    x = rng.standard_normal(x_shape).astype(np.float32)
    names = ["w", "x"] if side == "left" else ["x", "w"]
    model = one_node(helper.make_node("MatMul", names, ["y"]), weight, "w")
    expected = run(model, x)
    # Both as (batch..., rows of W, N) @ (batch..., N, positions): each group is a slice of the batch axes.
    as_rows = {"left": weight, "right": np.swapaxes(np.atleast_2d(weight), -1, -2)}[side]
    left = weight[None, :] if weight.ndim == 1 else as_rows
    as_columns = {"left": x, "right": np.swapaxes(np.atleast_2d(x), -1, -2)}[side]
    right = x[:, None] if x.ndim == 1 else as_columns
    stacked = np.matmul(left, right)
    constant = (1,) * (stacked.ndim - left.ndim) + left.shape[:-2]
    groups = np.broadcast_to(np.arange(int(np.prod(constant))).reshape(constant), stacked.shape[:-2])
    product = ours(model, weight, x)
    np.testing.assert_allclose(np.sort(stacked.ravel()), np.sort(expected.ravel()), rtol=1e-3, atol=1e-4)
    for group in range(product.shape[0]):
        rows = np.moveaxis(stacked[groups == group], 1, 0).reshape(left.shape[-2], -1)
        np.testing.assert_allclose(product[group], rows, rtol=1e-4, atol=1e-5)


def test_a_reshape_that_mixes_axes_has_no_layout() -> None:
    """Two rows of three, transposed: rows of the 2 x 3 matrix made of that begin in the middle of an axis."""
    transposed = Move(perm=(1, 0))
    layout = matmul_layout((2, 3), "left")
    assert moved_layout(layout, (3, 2), [transposed]).to_matrix(np.arange(6).reshape(3, 2)).tolist() == [
        [[0, 2, 4], [1, 3, 5]]
    ]
    with pytest.raises(ValueError, match="mixes its axes"):
        moved_layout(layout, (2, 3), [transposed, Move(shape=(2, 3))])
