"""Orders of stored symbols: what CMSIS-NN reads, and ONNX models that come back the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

import cerwu_onnx
from cerwu_onnx import native
from cerwu_onnx.config import CODERS, Settings
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.errors import UsageError
from cerwu_onnx.types import QuantizedTensor

from ..models import build, normal, value


def coded(symbols: np.ndarray, order: f.Order, coder: str = "auto") -> writer.CodedTensor:
    return writer.CodedTensor("w", QuantizedTensor(symbols.astype(np.int32), 0.125, 0.0, 1.0, 0.0), coder, order)


@settings(deadline=None)
@given(
    hnp.arrays(np.int32, hnp.array_shapes(min_dims=0, max_dims=5, max_side=5), elements=st.integers(-300, 300)),
    st.sampled_from(list(f.Order)),
    st.sampled_from(CODERS),
)
def test_round_trip(symbols: np.ndarray, order: f.Order, coder: str) -> None:
    container = reader.parse(writer.assemble([writer.encode_tensor(coded(symbols, order, coder))]))
    (record,) = container.tensors
    assert record.shape == symbols.shape
    stays = symbols.ndim < order.min_rank or order is f.Order.LAST_TWO_SWAPPED  # which only trellises use
    assert record.order == (f.Order.ROW_MAJOR if stays else order)
    for values in (container.decode_python(record), container.decode(record)):
        assert values.shape == symbols.shape
        assert values.flags["C_CONTIGUOUS"]
        assert (values == symbols * np.float32(0.125)).all()


@pytest.mark.parametrize(
    ("order", "axes"), [(f.Order.ROW_MAJOR, (0, 1, 2, 3)), (f.Order.AXIS1_LAST, (0, 2, 3, 1)), (2, (1, 2, 3, 0))]
)
def test_symbols_stand_as_the_order_says(order: int, axes: tuple[int, ...]) -> None:
    symbols = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    data = writer.assemble([writer.encode_tensor(coded(symbols, f.Order(order)))])
    container = reader.parse(data)
    expected = symbols.transpose(axes).ravel().tolist()
    assert container.symbols(container.tensors[0]).tolist() == expected
    if native.available():
        assert native.decode_symbols(data, 0).tolist() == expected


def every_kind_of_weight() -> onnx.ModelProto:
    """Convolution, depthwise and grouped ones, Gemm both ways, MatMul on either side, on inputs of ``(N, 3, 8, 8)``."""
    random = np.random.default_rng(3)
    shapes = {
        "conv": (8, 3, 3, 3),
        "depthwise": (16, 1, 3, 3),
        "grouped": (8, 8, 3, 3),
        "gemm": (32, 24),
        "gemm transposed": (16, 32),
        "right": (16, 12),
        "left": (6, 12),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"]),
        helper.make_node("Conv", ["a", "depthwise"], ["b"], group=8),
        helper.make_node("Conv", ["b", "grouped"], ["c"], group=2),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "gemm"], ["e0"]),
        helper.make_node("Concat", ["e0", "pad"], ["e"], axis=1),
        helper.make_node("Gemm", ["e", "gemm transposed"], ["f"], transB=1),
        helper.make_node("MatMul", ["f", "right"], ["g"]),
        helper.make_node("Transpose", ["g"], ["h"], perm=[1, 0]),
        helper.make_node("MatMul", ["left", "h"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "kinds",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, 1])],
        [
            numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
            for name, shape in {**shapes, "pad": (1, 8)}.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_cmsis_layout(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(every_kind_of_weight(), path)
    models = {}
    for layout in ("onnx", "cmsis"):
        chosen = Settings(weight_layout=layout, method="rtn")  # so that both hold the same values
        cerwu_onnx.compress(path, tmp_path / f"{layout}.cwb", settings=chosen)
        models[layout] = cerwu_onnx.open(tmp_path / f"{layout}.cwb")
    orders = {
        layout: {record.name: record.order.name for record in model.container.tensors if record.is_coded}
        for layout, model in models.items()
    }
    assert orders["cmsis"] == {
        "conv": "AXIS1_LAST",
        "depthwise": "AXIS0_LAST",
        "grouped": "AXIS1_LAST",
        "gemm": "AXIS0_LAST",
        "gemm transposed": "ROW_MAJOR",
        "right": "AXIS0_LAST",
        "left": "ROW_MAJOR",
    }
    assert orders["onnx"] == dict.fromkeys(orders["cmsis"], "ROW_MAJOR")  # without a trellis nothing asks for another
    rebuilt = [model.to_onnx().SerializeToString(deterministic=True) for model in models.values()]
    assert rebuilt[0] == rebuilt[1]


def test_a_trellis_needs_rows_in_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(every_kind_of_weight(), path)
    expected = {
        "onnx": {"gemm": "AXIS0_LAST", "right": "AXIS0_LAST"},
        "cmsis": {"conv": "AXIS1_LAST", "grouped": "AXIS1_LAST", "gemm": "AXIS0_LAST", "right": "AXIS0_LAST"},
    }
    for layout, moved in expected.items():
        cerwu_onnx.compress(path, tmp_path / f"{layout}.cwb", settings=Settings(weight_layout=layout))
        records = [r for r in cerwu_onnx.open(tmp_path / f"{layout}.cwb").container.tensors if r.is_coded and r.run]
        orders = {record.name: record.order.name for record in records}
        assert orders == dict.fromkeys(orders, "ROW_MAJOR") | moved
        assert ("depthwise" in orders) == (layout == "onnx")


@pytest.mark.parametrize(
    ("operator", "order"), [("MatMul", f.Order.ROW_MAJOR), ("Gemm", f.Order.AXIS0_LAST), ("tokens", None)]
)
@pytest.mark.parametrize("layout", ["onnx", "cmsis"])
def test_columns_with_steps_of_their_own(operator: str, order: f.Order | None, layout: str, tmp_path: Path) -> None:
    """Inputs of many sizes: columns are rows as stored, unless a kernel reads them, or there are tokens."""
    sizes = (np.float32(2) ** (np.arange(40) % 9)).astype(np.float32)
    weight, inputs = normal(40, 24) / sizes[:, None], normal(200, 40, seed=1) * sizes
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    if operator == "Gemm":
        node, weight = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), weight.T.copy()
    if operator == "tokens":
        inputs = inputs.reshape(50, 4, 40)
    shape = inputs.shape[1:-1]
    model = build([node], [value("x", ["N", *shape, 40])], [value("y", ["N", *shape, 24])], {"w": weight})
    onnx.save(model, tmp_path / "m.onnx")
    chosen = Settings(lambda_=0.02, weight_layout=layout)
    report = cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib={"x": inputs}, settings=chosen)
    container = reader.read(tmp_path / "m.cwb")
    (record,) = (record for record in container.tensors if record.is_coded)
    across = order is not None and layout == "onnx"
    assert record.stepped == across
    assert not across or (record.order, record.run) == (order, 24)
    decoded = container.decode(record)
    np.testing.assert_array_equal(decoded, container.decode_python(record))
    matrix = (decoded - weight).T if operator == "Gemm" else decoded - weight
    lost = np.square(inputs @ matrix).mean() / np.square(inputs @ (weight.T if operator == "Gemm" else weight)).mean()
    assert lost == pytest.approx(report.layers[0].relative_error, rel=0.02)


def test_unknown_layout() -> None:
    with pytest.raises(UsageError, match="weight layout 'nhwc' is unknown: choose one of onnx, cmsis"):
        Settings(weight_layout="nhwc")
