"""Frequency tables and the ANS coder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cerwu_onnx.entropy import ans, tables
from cerwu_onnx.errors import CerwuError, CorruptFileError

symbol_arrays = st.integers(1, 400).flatmap(
    lambda spread: hnp.arrays(
        np.int32, hnp.array_shapes(max_dims=3, max_side=12), elements=st.integers(-spread, spread)
    )
)


@given(symbol_arrays)
def test_every_coder_round_trips_and_agrees(symbols: np.ndarray) -> None:
    table = tables.fit(symbols)
    words = ans.encode(symbols, table)
    assert np.array_equal(ans.decode(words, table, symbols.size), symbols.ravel())
    if len(table.frequencies) > 1:
        assert ans.encode_plain(symbols, table) == words
        assert np.array_equal(ans.decode_plain(words, table, symbols.size), symbols.ravel())


@given(symbol_arrays)
def test_a_table_survives_its_bytes(symbols: np.ndarray) -> None:
    table = tables.fit(symbols)
    data = table.to_bytes()
    assert tables.FrequencyTable.from_bytes(data + b"rest", table.lo, len(table.frequencies)) == (table, len(data))


@given(symbol_arrays)
def test_every_symbol_owns_a_slot_and_slots_fill_the_range(symbols: np.ndarray) -> None:
    table = tables.fit(symbols)
    boundaries = table.cumulative
    assert boundaries[0] == 0
    assert boundaries[-1] == 1 << 24
    assert (np.diff(boundaries) > 0).all()
    assert sum(table.frequencies) == 4096


def test_slots_are_those_of_constriction() -> None:
    constriction = pytest.importorskip("constriction")
    symbols = np.array([0, 0, 0, 1, 5, 5, 2], dtype=np.int32)
    table = tables.fit(symbols)
    model = constriction.stream.model.Categorical(np.array(table.frequencies) / 4096, perfect=False)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(symbols, model)
    assert coder.get_compressed()[::-1].astype("<u4").tobytes() == ans.encode_plain(symbols, table)


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_written_bytes_are_within_one_percent_of_the_estimate_and_the_entropy(scale: float) -> None:
    symbols = np.rint(np.random.default_rng(1).laplace(size=60_000) * scale).astype(np.int32)
    table = tables.fit(symbols)
    bits = 8 * len(ans.encode(symbols, table))
    assert table.bits(symbols) <= bits <= table.bits(symbols) + 64
    assert bits <= 1.01 * tables.entropy(symbols) * symbols.size + 64


def test_allocation_is_optimal_for_three_symbols() -> None:
    occurrences = [1000, 3, 117]
    best = min(
        (-sum(n * np.log2(f) for n, f in zip(occurrences, fs, strict=True)), fs)
        for fs in ((a, b, 4096 - a - b) for a in range(1, 4095) for b in range(1, min(60, 4096 - a)))
    )
    assert tables._allocate(occurrences) == list(best[1])


def test_a_rare_symbol_of_a_large_tensor_takes_no_frequency() -> None:
    occurrences = [500_000, 1, 400_000]
    assert tables._allocate(occurrences)[1] == 0


def test_symbols_that_span_too_much_are_refused() -> None:
    with pytest.raises(CerwuError, match="span 4097 values"):
        tables.fit(np.array([0, 4096]))


def test_bits_outside_the_table_are_refused() -> None:
    table = tables.fit(np.array([0, 1]))
    with pytest.raises(CerwuError, match="leave the table's range"):
        table.bits(np.array([2]))


@pytest.mark.parametrize(
    ("data", "count", "what"),
    [
        (b"", 1, "cut short"),
        (b"\x80", 1, "cut short"),
        (b"\x80\x20", 2, "cut short"),
        (b"\x80\x00", 1, "shortest form"),
        (b"\x80\x80\x01", 1, "shortest form"),
        (b"\x81\x20", 1, "sum is not"),
        (b"\x00\x80\x20", 2, "an end is 0"),
    ],
)
def test_bad_tables_are_refused(data: bytes, count: int, what: str) -> None:
    with pytest.raises(CorruptFileError, match=what):
        tables.FrequencyTable.from_bytes(data, 0, count)


@pytest.mark.parametrize("coder", [ans.decode, ans.decode_plain])
def test_words_too_many_or_too_few_are_refused(coder) -> None:  # type: ignore[no-untyped-def]
    symbols = np.random.default_rng(2).integers(0, 9, 500).astype(np.int32)
    table = tables.fit(symbols)
    words = ans.encode(symbols, table)
    for damaged in (words[:-4], words + b"\1\0\0\0", words[4:]):
        with pytest.raises(CorruptFileError, match="does not end"):
            coder(damaged, table, symbols.size)


def test_malformed_words_are_refused() -> None:
    table = tables.fit(np.array([0, 1]))
    for damaged in (b"\1\0\0", b"\0\0\0\0\1\0\0\0"):
        with pytest.raises(CorruptFileError, match="whole number of words"):
            ans.decode(damaged, table, 2)
    with pytest.raises(CorruptFileError, match="one symbol"):
        ans.decode(b"\1\0\0\0", tables.fit(np.array([7, 7])), 2)


def test_without_constriction_the_plain_coder_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = np.random.default_rng(3).integers(-5, 6, 700).astype(np.int32)
    table = tables.fit(symbols)
    words = ans.encode(symbols, table)
    monkeypatch.setattr(ans, "constriction", None)
    assert ans.encode(symbols, table) == words
    assert np.array_equal(ans.decode(words, table, symbols.size), symbols)
