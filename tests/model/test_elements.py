"""Tensors of every element type: quantised ones keep their type, integers come back bit for bit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

import cerwu_onnx
from cerwu_onnx.config import Settings
from cerwu_onnx.errors import CorruptFileError, ModelError
from cerwu_onnx.model.elements import FLOATS, float_tensor, floats_of, from_float32, raw_bytes, stored_floats
from cerwu_onnx.model.placeholders import MAX_SYMBOL, fill_coded, placeholder, tables
from cerwu_onnx.model.skeleton import join, split
from cerwu_onnx.model.tensors import constant_tensors
from cerwu_onnx.report_files.page import describe

from ..compression.test_walk_quantizer import dense_net, rows, squeeze
from ..models import build, constant, normal, run, value

INTEGERS = (2, 3, 4, 5, 6, 7, 9, 12, 13)
TINY = [number for number in (17, 18, 19, 20, 21, 22, 23, 24, 25, 26) if number in TensorProto.DataType.values()]
BITS = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}


def table_of(kind: int, values: np.ndarray, shape: tuple[int, ...]) -> onnx.TensorProto:
    """A tensor whose ``raw_data`` are the bytes of ``values``, as many as it takes."""
    size = -(-math.prod(shape) * BITS.get(kind, 8) // 8) if kind in TINY else None
    raw = values.tobytes()[:size]
    return TensorProto(name="t", data_type=kind, dims=shape, raw_data=raw)


@st.composite
def integer_tensors(draw: st.DrawFn) -> onnx.TensorProto:
    kind = draw(st.sampled_from([*INTEGERS, *TINY]))
    shape = draw(hnp.array_shapes(max_dims=3, max_side=9))
    if kind in TINY:
        # what is left of the last byte is 0
        raw = draw(hnp.arrays(np.uint8, math.prod(shape)))
        tensor = table_of(kind, raw, shape)
        spare = -math.prod(shape) * BITS.get(kind, 8) % 8
        if spare:
            last = tensor.raw_data[-1] & (1 << 8 - spare) - 1
            tensor.raw_data = tensor.raw_data[:-1] + bytes([last])
        return tensor
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    if kind == TensorProto.BOOL:
        return numpy_helper.from_array(draw(hnp.arrays(bool, shape)), "t")
    info = np.iinfo(dtype)
    lo = draw(st.integers(info.min, info.max))
    hi = min(info.max, lo + draw(st.sampled_from([0, 1, 15, 255, 4095, 5000])))
    return numpy_helper.from_array(draw(hnp.arrays(dtype, shape, elements=st.integers(lo, hi))), "t")


@given(tensor=integer_tensors())
def test_integers_come_back_bit_for_bit(tensor: onnx.TensorProto) -> None:
    raw = raw_bytes(tensor)
    for table in tables(tensor):
        assert table.symbols.dtype == np.int32
        counts = np.unique_counts(table.symbols) if hasattr(np, "unique_counts") else None
        if counts is not None and np.ptp(table.symbols) <= MAX_SYMBOL:  # the most frequent is 0
            assert counts.counts[counts.values == 0] == counts.counts.max()
        assert np.abs(table.symbols).max() <= MAX_SYMBOL
        mark = placeholder(tensor, table)
        assert fill_coded(mark, table.symbols.astype(np.float32)) == raw
        assert (mark.data_type, mark.dims) == (tensor.data_type, tensor.dims)
        assert not mark.data_location


def test_the_range_of_a_table_is_limited() -> None:
    assert tables(numpy_helper.from_array(np.array([0, 4094], np.int64)))
    assert not tables(numpy_helper.from_array(np.array([0, 4095], np.int64)))
    assert not tables(numpy_helper.from_array(np.array([2**63, 2**63 + 1], np.uint64)))
    (table,) = tables(numpy_helper.from_array(np.array([7, 7, 7, 7 + 2048], np.int64)))
    assert (table.offset, table.symbols.tolist()) == (
        7 + 1024,
        [-1024, -1024, -1024, 1024],
    )  # not the most frequent one
    assert not tables(numpy_helper.from_array(normal(3)))
    assert not tables(numpy_helper.from_array(np.empty((0, 3), np.int8)))
    assert not tables(helper.make_tensor("s", TensorProto.STRING, [1], [b"a"]))


@pytest.mark.parametrize("kind", [*FLOATS, *INTEGERS])
def test_elements_outside_raw_data(kind: int) -> None:
    values = [0, 1, 1, 0, 1] if kind == TensorProto.BOOL else [0, 1, 100, 5, 7]
    typed = helper.make_tensor("t", kind, [5], values)
    assert not typed.HasField("raw_data")
    array = numpy_helper.to_array(typed)
    assert raw_bytes(typed) == array.tobytes()


@given(
    values=hnp.arrays(np.float32, 20, elements=st.floats(-65000, 65000, width=32)),
    kind=st.sampled_from(list(FLOATS)),
)
def test_floats_are_rounded_to_nearest_even(values: np.ndarray, kind: int) -> None:
    tensor = float_tensor(values, kind, "t")
    expected = values.astype(helper.tensor_dtype_to_np_dtype(kind))
    assume(expected.nbytes == len(raw_bytes(tensor)))  # onnx before 1.19 has no bfloat16
    assert raw_bytes(tensor) == expected.tobytes()
    back = floats_of(tensor)
    assert back.dtype == np.float32
    assert np.array_equal(back, expected.astype(np.float32))
    assert np.array_equal(from_float32(back, kind), stored_floats(tensor))  # what has been rounded stays


def typed(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """The model in another float type, inputs and outputs included."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in constant_tensors(copy).values():
        tensor.CopyFrom(float_tensor(numpy_helper.to_array(tensor), kind, tensor.name))
    for info in (*copy.graph.input, *copy.graph.output):
        info.type.tensor_type.elem_type = kind
    return copy


def cast_weights(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """A float32 model whose constants are stored in another type and cast."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    casts = []
    for tensor in copy.graph.initializer:
        name = tensor.name
        tensor.CopyFrom(float_tensor(numpy_helper.to_array(tensor), kind, f"{name}.stored"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *copy.graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_weights_keep_their_type_and_what_was_evaluated_is_what_comes_back(kind: int, tmp_path: Path) -> None:
    model = typed(dense_net(24, 48, 32, 10), kind)
    feed = {"x": rows(200, 24)["x"].astype(helper.tensor_dtype_to_np_dtype(kind))}
    done = squeeze(tmp_path, model, feed, lambda_=0.01)
    assert {layer.name for layer in done.report.layers} == {"w0", "w1", "w2"}
    assert done.report.parameters
    before, after = constant_tensors(model), constant_tensors(done.after)
    assert {name: tensor.data_type for name, tensor in after.items()} == dict.fromkeys(before, kind)
    opened = cerwu_onnx.open(done.file)
    for name in ("w0", "w1", "w2"):
        assert opened[name].dtype == np.float32
        assert np.array_equal(from_float32(opened[name], kind), stored_floats(after[name]))
        assert raw_bytes(before[name]) != raw_bytes(after[name])
    assert 0 < done.loss(feed) == pytest.approx(done.report.output_loss, rel=1e-2)
    assert {layer.name for layer in describe(done.file).report.layers} == {"w0", "w1", "w2"}


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_counts_two_bytes(kind: int, tmp_path: Path) -> None:
    """A code that beats float32 but not the two bytes that a weight has is not worth it."""
    model = build(
        [constant("w", np.zeros(1, np.float32)), helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", [2, 3], kind)],
        [value("y", [2, 4], kind)],
        {},
    )
    model.graph.node[0].attribute[0].t.CopyFrom(float_tensor(normal(3, 4), kind, "w"))
    onnx.save(model, tmp_path / "m.onnx")
    settings = Settings(method="rtn", levels=4096)
    report = cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", settings=settings)
    assert [(kept.name, kept.reason) for kept in report.kept] == [
        ("w", "its coded form would not be smaller than exact floats")
    ]
    assert report.kept[0].nbytes == 24
    rebuilt = cerwu_onnx.decompress(tmp_path / "m.cwb")
    assert raw_bytes(constant_tensors(rebuilt)["w"]) == raw_bytes(constant_tensors(model)["w"])


def test_a_step_beyond_float16_is_not_taken(tmp_path: Path) -> None:
    weight = np.full((64, 64), 65504, np.float16)
    weight[::2] = -60000
    model = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", [2, 64], 10)],
        [value("y", [2, 64], 10)],
        {"w": weight},
    )
    onnx.save(model, tmp_path / "m.onnx")
    for levels in (2, 3, 5, 8, 16):
        settings = Settings(method="rtn", levels=levels)
        cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", settings=settings, force=True)
        rebuilt = numpy_helper.to_array(constant_tensors(cerwu_onnx.decompress(tmp_path / "m.cwb"))["w"])
        assert rebuilt.dtype == np.float16
        assert np.isfinite(rebuilt).all()


def quantised_model() -> onnx.ModelProto:
    """QDQ: int8 weights with a scale, and a large table of bytes that are two nibbles each."""
    rng = np.random.default_rng(3)
    weight = np.clip(np.rint(rng.normal(0, 20, (64, 48))), -127, 127).astype(np.int8)
    packed = np.clip(np.rint(rng.normal(8, 1.5, (48, 64, 2))), 0, 15).astype(np.uint8)
    tensors = {
        "w": weight,
        "s": np.full(48, 0.01, np.float32),
        "z": np.zeros(48, np.int8),
        "nibbles": packed[..., 0] | packed[..., 1] << 4,
        "positions": np.arange(512).reshape(1, 512),
        "flags": rng.random(1000) < 0.02,
        "text": np.array(["a", "b"], object),
        "mask": np.where(np.tri(40, dtype=bool), 0, -np.inf).astype(np.float32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"], axis=1),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
        *(helper.make_node("Identity", [name], [f"{name}.y"]) for name in list(tensors)[3:]),
    ]
    outputs = [value("y", ["N", 48])]
    outputs += [
        value(f"{name}.y", tensors[name].shape, helper.np_dtype_to_tensor_dtype(tensors[name].dtype))
        for name in list(tensors)[3:]
    ]
    return build(nodes, [value("x", ["N", 64])], outputs, tensors)


def test_models_that_are_quantised_already_shrink_and_come_back_exactly(tmp_path: Path) -> None:
    model = quantised_model()
    onnx.save(model, tmp_path / "m.onnx")
    report = cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", calib={"x": normal(32, 64)})
    assert not report.layers
    opened = cerwu_onnx.open(tmp_path / "m.cwb")
    assert opened.tables == {"w", "nibbles", "flags", "positions"}
    assert "mask" not in opened  # deflated with the graph
    rebuilt = cerwu_onnx.decompress(tmp_path / "m.cwb")
    before, after = constant_tensors(model), constant_tensors(rebuilt)
    for name, tensor in before.items():
        assert (tensor.data_type, tensor.dims, tensor.string_data) == (
            after[name].data_type,
            after[name].dims,
            after[name].string_data,
        )
        assert raw_bytes(tensor) == raw_bytes(after[name])
    feed = {"x": normal(3, 64)}
    for x, y in zip(run(model, feed), run(rebuilt, feed), strict=True):
        assert np.array_equal(x, y)
    bits = {record.name: 8 * record.size / record.count for record in opened.container.tensors}
    assert bits["w"] < 6.6  # a Gaussian of deviation 20 has 6.37 bits
    assert bits["nibbles"] < 2.8  # 2.63
    assert report.other_bytes == describe(tmp_path / "m.cwb").report.other_bytes
    assert not describe(tmp_path / "m.cwb").report.layers


def test_without_a_graph_symbols_are_the_integers_themselves(tmp_path: Path) -> None:
    model = quantised_model()
    onnx.save(model, tmp_path / "m.onnx")
    settings = Settings(weights_only=True)
    cerwu_onnx.compress(tmp_path / "m.onnx", tmp_path / "m.cwb", settings=settings)
    opened = cerwu_onnx.open(tmp_path / "m.cwb")
    for name in ("w", "nibbles", "positions"):
        assert name in opened.tables
        assert np.array_equal(opened[name], numpy_helper.to_array(constant_tensors(model)[name]))


HOSTILE = {
    "a coded tensor of the type 8": {"data_type": TensorProto.STRING},
    "values that are not integers": {"data_type": TensorProto.INT8, "scale": 0.5},
    "values out of the type's range": {"data_type": TensorProto.INT8, "int64_data": [120]},
    "values out of the type's range: the file is damaged": {"data_type": TensorProto.BOOL},
    "halves that do not make up bytes": {"data_type": TensorProto.UINT8, "dims": [3]},
    "values that are not finite": {"data_type": TensorProto.FLOAT16, "scale": 1e5},
    "more than one offset": {"data_type": TensorProto.INT8, "int64_data": [0, 0]},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_placeholders_that_ask_for_the_impossible(what: str) -> None:
    form = dict(HOSTILE[what])
    values = np.arange(15, dtype=np.float32).reshape(3, 5) * np.float32(form.pop("scale", 1))
    model = build([], [], [], {"w": values})
    mark = TensorProto(data_location=TensorProto.EXTERNAL, **form)
    skeleton = split(model, ["w"], {"w": mark})
    with pytest.raises(CorruptFileError, match=f"tensor 'w': the graph section asks for {what}"):
        join(skeleton, [("w", TensorProto.FLOAT, values)])


def test_ties_of_bfloat16_go_to_the_even_one() -> None:
    """1 + 1/256 lies between 1 and 1 + 1/128, and 1 + 3/256 between that and 1 + 1/64."""
    values = np.array([1 + 1 / 256, 1 + 3 / 256, -1 - 1 / 256], np.float32)
    assert from_float32(values, TensorProto.BFLOAT16).tolist() == [0x3F80, 0x3F82, 0xBF80]


@pytest.mark.parametrize("length", [7, 8])
def test_elements_in_a_file_that_was_cut_short(tmp_path: Path, length: int) -> None:
    (tmp_path / "weights").write_bytes(bytes(length))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", str(tmp_path / "weights")), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=text)
    if length == 8:
        assert raw_bytes(tensor) == bytes(8)
        return
    with pytest.raises(ModelError, match="'w' keeps its data in another file"):
        raw_bytes(tensor)
