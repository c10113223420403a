"""Trellis coded tensors: indices and values, both coders, and the orders in which rows stay together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cerwu_onnx import native
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.container.in_place import margin, margin_plain
from cerwu_onnx.entropy import adaptive, trellis
from cerwu_onnx.errors import CorruptFileError, ModelError
from cerwu_onnx.model import layout
from cerwu_onnx.types import MatrixLayout, QuantizedTensor


@st.composite
def index_runs(draw: st.DrawFn) -> np.ndarray:
    """``(runs, run)`` indices, small or large."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=30))
    most = draw(st.sampled_from([0, 1, 2, 9, 13, 200]))
    return draw(hnp.arrays(np.int32, shape, elements=st.integers(-most, most)))


def coded(stored: np.ndarray, shape: tuple[int, ...], run: int, order: f.Order, coder: str) -> writer.Encoded:
    symbols = order.restore(stored, shape).astype(np.int32)
    return writer.encode_tensor(writer.CodedTensor("w", QuantizedTensor(symbols, 0.125, 0, 1, 0, run), coder, order))


@given(index_runs())
def test_values_and_indices(indices: np.ndarray) -> None:
    run = indices.shape[1]
    values = trellis.to_values(indices, run)
    again, grids = trellis.to_indices(values, run)
    assert np.array_equal(again, indices.ravel())
    walk = trellis.Walk(run)
    for index, grid, value in zip(indices.ravel().tolist(), grids.tolist(), values.tolist(), strict=True):
        assert walk.grid == grid
        assert walk.value(index) == value
        assert value % 2 == grid or value == 0


def test_the_first_states_by_hand() -> None:
    """States 0, 10, 5, 2 ^ 10 ^ 33 = 41, 20 ^ 33 = 53 after the indices 1, 2, -1, 0."""
    values, grids = trellis.to_values(np.array([1, 2, -1, 0, 3]), 5), trellis.to_indices(np.array([2, 4, -1, 0, 5]), 5)
    assert values.tolist() == [2, 4, -1, 0, 5]
    assert grids[1].tolist() == [0, 0, 1, 1, 1]


def test_the_first_states_of_version_1_by_hand() -> None:
    """States 0, 5, 2 ^ 9 = 11, 5 ^ 9 ^ 5 = 9, 4 ^ 9 = 13 after the indices 1, 2, -1, 0."""
    old, values = trellis.TRELLISES[1], np.array([2, 3, -1, 0, 5])
    assert trellis.to_values(np.array([1, 2, -1, 0, 3]), 5, old).tolist() == values.tolist()
    assert trellis.to_indices(values, 5, old)[1].tolist() == [0, 1, 1, 1, 1]


@given(index_runs(), st.data())
def test_values_of_no_path_are_refused(indices: np.ndarray, data: st.DataObject) -> None:
    run = indices.shape[1]
    values = trellis.to_values(indices, run)
    place = data.draw(st.integers(0, values.size - 1))
    grid = int(trellis.to_indices(values, run)[1][place])
    values[place] = data.draw(st.integers(-9, 9).filter(lambda value: value and value % 2 != grid))
    with pytest.raises(ValueError, match="no path"):
        trellis.to_indices(values, run)


@pytest.mark.parametrize("run", [0, -1, 4, 7])
def test_runs_divide_the_elements(run: int) -> None:
    for convert in (trellis.to_indices, trellis.to_values):
        with pytest.raises(ValueError, match="do not divide 6 elements"):
            convert(np.zeros(6, np.int32), run)


@settings(deadline=None)
@given(index_runs(), st.sampled_from(list(f.Order)), st.sampled_from(["ans", "adaptive"]))
@example(np.zeros((7, 9), np.int32), f.Order.ROW_MAJOR, "ans")
@example(np.full((7, 9), 2, np.int32), f.Order.ROW_MAJOR, "ans")  # never on the odd grid
@example(np.full((7, 9), -1023, np.int32), f.Order.ROW_MAJOR, "adaptive")
@example(np.full((7, 9), 1023, np.int32), f.Order.ROW_MAJOR, "ans")
def test_round_trip(indices: np.ndarray, order: f.Order, coder: str) -> None:
    runs, run = indices.shape
    values = trellis.to_values(indices, run)
    shape = {0: (runs, run), 1: (runs, run, 1), 2: (run, runs), 3: (1, run, runs)}[order]
    part = coded(values, shape, run, order, coder)
    container = reader.parse(writer.assemble([part]))
    (record,) = container.tensors
    assert (record.run, record.order, record.shape) == (run, order, shape)
    assert np.abs(values).max() <= record.largest
    assert np.array_equal(container.symbols(record), values)
    expected = order.restore(values, shape) * np.float32(0.125)
    assert np.array_equal(container.decode_python(record), expected)
    assert np.array_equal(container.decode(record), expected)
    if native.available():
        assert np.array_equal(native.decode_symbols(container.data, 0), values)
        assert margin(part) == margin_plain(part)


@given(index_runs(), st.integers(0, 0xFFFFFF).filter(lambda header: header & 0xF000F))
@example(np.tile(np.array([0, 0, 3], np.int32), (40, 1)), 0x8801)  # what was far is forgotten where a run begins
def test_c_writes_the_same_adaptive_bytes(indices: np.ndarray, header: int) -> None:
    if not native.available():
        pytest.skip("the C library was not built: no compiler at install time")
    flat, grids = trellis.to_indices(trellis.to_values(indices, indices.shape[1]), indices.shape[1])
    flat = flat.astype(np.int16)
    header = int(adaptive.Header.parse(header))
    reach, run = adaptive.reach_of(flat), indices.shape[1]
    payload = adaptive.encode_plain(flat, reach, header, grids, run)
    assert native.encode_adaptive(flat, reach, header, grids, run) == payload
    decoded = adaptive.decode_plain(payload, flat.size, reach, run=run)
    assert np.array_equal(decoded, trellis.to_values(indices, indices.shape[1]))


@pytest.mark.parametrize("coder", ["ans", "adaptive"])
def test_grids_have_models_of_their_own(coder: str) -> None:
    """Indices spread on one grid and nearly always 0 on the other cost what both do, not their mixture."""
    rng, state, indices = np.random.default_rng(1), 0, []
    for _ in range(20_000):
        indices.append(int(rng.integers(-4, 5)) if state & 1 else int(rng.random() < 0.02))
        state = state >> 1 ^ 10 * (indices[-1] & 1) ^ 33 * (state & 1)
    flat, grids = trellis.to_indices(trellis.to_values(np.array(indices), 20_000), 20_000)
    odd = float(grids.mean())
    entropy = odd * np.log2(9) + (1 - odd) * -(0.02 * np.log2(0.02) + 0.98 * np.log2(0.98))
    part = coded(trellis.to_values(flat, 20_000), (20_000,), 20_000, f.Order.ROW_MAJOR, coder)
    assert 8 * len(part.payload) / 20_000 < 1.05 * entropy + 0.01


def test_the_writer_refuses_what_the_format_cannot_hold() -> None:
    for indices in ([0, 1024], [-1024, -1024]):
        with pytest.raises(ModelError, match="exceed the format"):
            coded(trellis.to_values(np.array(indices), 2), (2,), 2, f.Order.ROW_MAJOR, "ans")
    with pytest.raises(ValueError, match="no path"):
        coded(np.array([1, 0]), (2,), 2, f.Order.ROW_MAJOR, "ans")
    with pytest.raises(ValueError, match="no form stores runs of 2"):
        coded(np.zeros(8, int), (2, 4), 2, f.Order.ROW_MAJOR, "ans")


def test_grids_fit_the_symbols() -> None:
    if not native.available():
        pytest.skip("the C library was not built: no compiler at install time")
    for grids in (np.zeros(2, np.uint8), np.full(3, 2, np.uint8)):
        with pytest.raises(ValueError, match="each symbol needs a grid"):
            native.encode_adaptive(np.zeros(3, np.int16), 0, 1, grids, 3)


@pytest.mark.parametrize(
    ("head", "fields", "message"),
    [
        (0x99, b"\x04\x50\x80\x08", "largest symbol out of range"),
        (0x99, b"\x04\0\0\0\0\0\x01", "step or"),
        (0x98, b"\x50\x01", "cannot have the shape"),
        (0xFA, b"\x02\x02\x50\x01", "cannot have the shape"),
        (0xA2, b"\0\x02\x50\x01", "cannot have the shape"),
    ],
)
def test_broken_rules(head: int, fields: bytes, message: str) -> None:
    directory = bytes([head]) + b"\0\0\0\0\0" + fields
    header = f.HEADER.pack(f.MAGIC, f.VERSION, 1, len(directory), 20 + len(directory), 0)[:-4]
    with pytest.raises(CorruptFileError, match=message):
        reader.parse(header + f.crc32(directory, f.crc32(header)).to_bytes(4, "little") + directory)


LAYOUTS = {
    "conv": (layout.conv_layout((4, 3, 2, 5), 1), f.Order.ROW_MAJOR),
    "grouped conv": (layout.conv_layout((4, 3, 2, 5), 2), f.Order.ROW_MAJOR),
    "gemm": (layout.gemm_layout((4, 6), "B", False), f.Order.AXIS0_LAST),
    "gemm, transposed": (layout.gemm_layout((4, 6), "B", True), f.Order.ROW_MAJOR),
    "gemm, left": (layout.gemm_layout((4, 6), "A", False), f.Order.ROW_MAJOR),
    "matmul": (layout.matmul_layout((4, 6), "right"), f.Order.AXIS0_LAST),
    "matmul, left": (layout.matmul_layout((4, 6), "left"), f.Order.ROW_MAJOR),
    "matmul, vector": (layout.matmul_layout((6,), "right"), f.Order.ROW_MAJOR),
    "matmul, stack": (layout.matmul_layout((3, 4, 6), "right"), f.Order.LAST_TWO_SWAPPED),
    "matmul, stack of stacks": (layout.matmul_layout((2, 3, 4, 6), "right"), f.Order.LAST_TWO_SWAPPED),
    "matmul, stack on the left": (layout.matmul_layout((3, 4, 6), "left"), f.Order.ROW_MAJOR),
    "transposed conv": (layout.conv_transpose_layout((4, 3, 2, 5), 1), f.Order.AXIS0_LAST),
    "transposed grouped conv": (layout.conv_transpose_layout((4, 3, 2, 5), 2), None),
    "recurrent W": (layout.recurrent_layout((2, 12, 5), "W"), f.Order.ROW_MAJOR),
    "recurrent R": (layout.recurrent_layout((2, 12, 3), "R"), f.Order.ROW_MAJOR),
    "gather": (layout.gather_layout((5, 4)), None),
    "einsum, columns first": (layout.einsum_layout((4, 3, 5), "dhk", "bsd", "bshk"), f.Order.AXIS0_LAST),
    "einsum, columns in the middle": (layout.einsum_layout((3, 4, 5), "hdk", "bsd", "bhsk"), f.Order.LAST_TWO_SWAPPED),
    "einsum, columns last": (layout.einsum_layout((3, 4, 5), "hkd", "bsd", "bhsk"), f.Order.ROW_MAJOR),
    "einsum, columns on both sides": (layout.einsum_layout((3, 4, 5), "hkd", "bhd", "bk"), None),
    "einsum, two columns first": (layout.einsum_layout((3, 4, 5), "hdk", "bhd", "bk"), None),
}


def rows_are_runs(matrices: MatrixLayout, order: f.Order) -> bool:
    """Whether a file can say that each row is a run of a trellis, its columns in order."""
    places = np.arange(matrices.size).reshape(matrices.shape)
    stored = np.ascontiguousarray(order.store(places))
    rows = {tuple(row) for row in matrices.to_matrix(places).reshape(-1, matrices.cols).tolist()}
    last, rest = stored.shape[-1], stored[0].size
    runs = {f.Order.ROW_MAJOR: (last, rest), f.Order.AXIS1_LAST: (rest,)}.get(order, (last,))
    return any({tuple(row) for row in stored.reshape(-1, run).tolist()} == rows for run in runs)


@pytest.mark.parametrize("name", LAYOUTS)
def test_row_order(name: str) -> None:
    matrices, expected = LAYOUTS[name]
    assert f.row_order(matrices) == expected
    whole = [order for order in f.Order if len(matrices.shape) >= order.min_rank and rows_are_runs(matrices, order)]
    assert whole[:1] == ([] if expected is None else [expected])


@given(st.data())
def test_row_order_of_any_einsum(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 5))
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
    perm = tuple(data.draw(st.permutations(range(rank))))
    columns = data.draw(st.integers(0, rank))
    cols = int(np.prod([shape[axis] for axis in perm[rank - columns :]], dtype=int))
    matrices = MatrixLayout(shape, shape, perm, 1, int(np.prod(shape)) // cols, cols)
    order = f.row_order(matrices)
    assume(cols > 1)
    for candidate in f.Order:
        if rank >= candidate.min_rank and rows_are_runs(matrices, candidate):
            assert order == candidate
            return
    assert order is None
