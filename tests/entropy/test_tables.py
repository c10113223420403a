"""Frequency tables and the ANS coder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cerwu_onnx import native
from cerwu_onnx.container import writer
from cerwu_onnx.entropy import ans, tables
from cerwu_onnx.entropy.tables import FrequencyTable
from cerwu_onnx.errors import CerwuError, CorruptFileError
from cerwu_onnx.types import QuantizedTensor

symbol_arrays = st.integers(1, 400).flatmap(
    lambda spread: hnp.arrays(
        np.int32, hnp.array_shapes(max_dims=3, max_side=12), elements=st.integers(-spread, spread)
    )
)


@st.composite
def any_table(draw: st.DrawFn) -> FrequencyTable:
    """Whatever the format can hold, not only what ``fit`` makes."""
    resolution = draw(st.integers(0, 2))
    most = tables.OCTAVES << resolution
    levels = draw(st.lists(st.integers(0, most) | st.just(0), min_size=3, max_size=301).filter(lambda x: len(x) % 2))
    levels[draw(st.sampled_from([0, -1]))] = draw(st.integers(1, most))
    return FrequencyTable(resolution, tuple(levels))


@settings(deadline=None)
@given(symbol_arrays)
@example(np.full(3000, 7, np.int32))
@example(np.array([-2047, 2047], np.int32))
@example(np.array([5], np.int32))
def test_round_trip_and_both_encoders_agree(symbols: np.ndarray) -> None:
    table = tables.fit(symbols)
    words = ans.encode_plain(symbols.ravel() + table.reach, table.frequencies)
    assert np.array_equal(ans.decode_plain(words, table, count=symbols.size), symbols.ravel())
    assert ans.encode(symbols, table) == words


def test_without_the_library_the_words_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = np.random.default_rng(3).integers(-5, 6, 700).astype(np.int32)
    table = tables.fit(symbols)
    words = ans.encode(symbols, table)
    monkeypatch.setattr(native, "available", lambda: False)
    assert ans.encode(symbols, table) == words


@given(any_table())
def test_a_table_survives_its_bytes(table: FrequencyTable) -> None:
    data = table.to_bytes()
    assert len(data) == table.size
    assert FrequencyTable.from_bytes(data + b"rest", table.reach) == (table, len(data))


@given(any_table())
def test_frequencies_fill_the_slots_and_follow_the_levels(table: FrequencyTable) -> None:
    frequencies, levels = table.frequencies, np.array(table.levels)
    assert frequencies.sum() == 4096
    assert np.array_equal(frequencies > 0, levels > 0)
    order = np.argsort(levels, kind="stable")
    largest = np.flatnonzero(frequencies == frequencies.max())[0]  # it gets what is left over
    assert (np.diff(frequencies[order[order != largest]]) >= 0).all()
    assert table.cumulative[-1] == 4096


def test_zeros_cost_nothing() -> None:
    table = tables.fit(np.zeros(500, int))
    assert (table.to_bytes(), ans.encode(np.zeros(500, int), table)) == (b"", b"")
    assert (ans.decode_plain(b"", table, count=500) == 0).all()
    one = tables.fit(np.full(500, -9))
    assert ans.encode(np.full(500, -9), one) == b""


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_written_bytes_are_near_the_estimate_and_the_entropy(scale: float) -> None:
    symbols = np.rint(np.random.default_rng(1).laplace(size=60_000) * scale).astype(np.int32)
    table = tables.fit(symbols)
    bits = 8 * len(ans.encode(symbols, table))
    assert table.bits(symbols) - 8 <= bits <= table.bits(symbols) + 32
    assert bits + 8 * table.size <= 1.012 * tables.entropy(symbols) * symbols.size


def test_code_length_is_that_of_constriction() -> None:
    constriction = pytest.importorskip("constriction")
    symbols = np.rint(np.random.default_rng(2).laplace(size=20_000) * 3).astype(np.int32)
    table = tables.fit(symbols)
    present = np.flatnonzero(table.frequencies)
    model = constriction.stream.model.Categorical(table.frequencies[present] / 4096, perfect=False)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(np.searchsorted(present, symbols + table.reach).astype(np.int32), model)
    assert abs(len(ans.encode(symbols, table)) - 4 * len(coder.get_compressed())) <= 12


@pytest.mark.parametrize(("count", "most"), [(300, 14), (3_000, 16), (100_000, 22)])
def test_a_table_takes_few_bytes(count: int, most: int) -> None:
    """24 levels and more: 3 to 5 bits per symbol."""
    symbols = np.rint(np.random.default_rng(4).normal(size=count) * 4).astype(np.int32)
    assert tables.fit(symbols).size <= most


def test_a_rare_symbol_of_a_large_tensor_has_a_slot() -> None:
    symbols = np.repeat([0, 1, 2], [500_000, 1, 400_000])
    assert tables.fit(symbols).frequencies.tolist()[3] == 1


def test_symbols_that_span_too_much_are_refused() -> None:
    with pytest.raises(CerwuError, match="up to 2048"):
        tables.fit(np.array([0, -2048]))


def test_bits_outside_the_table_are_refused() -> None:
    table = tables.fit(np.array([0, 1]))
    with pytest.raises(CerwuError, match="leave the table's range"):
        table.bits(np.array([2]))
    assert tables.fit(np.array([0, 2])).bits(np.array([1])) == np.inf


@pytest.mark.skipif(not native.available(), reason="the C library was not built: no compiler at install time")
def test_the_encoder_in_c_refuses_what_it_cannot_code() -> None:
    frequencies = np.array([4000, 0, 96], np.uint16)
    for indices, table in [([1], frequencies), ([3], frequencies), ([0], frequencies // 2)]:
        with pytest.raises(ValueError, match="sum to 4096"):
            native.encode_ans(np.array(indices, np.uint16), table)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "cut short"),
        (b"\xf0", "cut short"),
        (b"\xf1\xff\xff\xff\xff\xff\0", "is not in 0..24"),
        (b"\x04\x07", "is not in 0..12"),
        (b"\x34\x0b", "first or last level"),
        (b"\xf1\x84", "last byte's bits"),
        (b"\xf3\x04", "resolution"),
    ],
)
def test_bad_tables_are_refused(data: bytes, what: str) -> None:
    with pytest.raises(CorruptFileError, match=what):
        FrequencyTable.from_bytes(data, 1)


def test_words_too_many_or_too_few_are_refused() -> None:
    symbols = np.random.default_rng(2).integers(0, 9, 500).astype(np.int32)
    table = tables.fit(symbols)
    words = ans.encode(symbols, table)
    for damaged in (words[:-2], words + b"\1\0", words[2:], b"\0\0" + words, b"\0" + words):
        with pytest.raises(CorruptFileError, match="does not end"):
            ans.decode_plain(damaged, table, count=symbols.size)


def test_levels_as_far_from_their_prediction_as_can_be() -> None:
    """A prediction may exceed the highest level by one: the longest unary code is 2 (12 + 1)."""
    table = FrequencyTable(0, (12, 0, 0, 0, 12))
    assert FrequencyTable.from_bytes(table.to_bytes(), 2) == (table, len(table.to_bytes()))
    symbols = np.repeat(np.array([-130, -124, -30, -18], np.int32), [1798, 1, 178, 8])
    table = tables.fit(symbols)
    assert FrequencyTable.from_bytes(table.to_bytes(), table.reach)[0] == table
    if native.available():
        quantized = QuantizedTensor(symbols, 1.0, 0.0, 1.0, 0.0)
        data = writer.assemble([writer.encode_tensor(writer.CodedTensor("w", quantized, "ans"))])
        assert (native.decode_symbols(data, 0) == symbols).all()
