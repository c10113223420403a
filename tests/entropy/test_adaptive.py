"""The adaptive coder: its Python and C forms, and damaged payloads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cerwu_onnx import native
from cerwu_onnx.entropy import adaptive, tables
from cerwu_onnx.errors import CorruptFileError

arrays = st.sampled_from([0, 1, 3, 12, 13, 20, 2047]).flatmap(
    lambda spread: hnp.arrays(np.int16, st.integers(1, 200), elements=st.integers(-spread, spread))
)

headers = st.integers(0, 0xFFFFFF).map(lambda bits: bits & 0xFFFF if bits & 15 else bits | (bits >> 16 & 15 == 0) << 16)
"""Any header: of two bytes, or of three where signs depend on those of neighbours."""


@given(arrays, headers)
@example(np.full(3000, 0, np.int16), 0x21F00)
@example(np.full(300, 2047, np.int16), 0xFFFF)
@example(np.full(2000, 1, np.int16), 0x1F0F)
@example(np.full(2000, -11, np.int16), 0xF1F80)
@example(np.array([-2047, 2047, 0], np.int16), 1)
def test_every_header_round_trips(symbols: np.ndarray, header: int) -> None:
    reach = adaptive.reach_of(symbols)
    payload = adaptive.encode_plain(symbols, reach, header)
    assert payload.startswith(adaptive.Header.parse(header).to_bytes())
    assert int(adaptive.Header.parse(header)) == header
    assert int.from_bytes(payload[:2], "big") == header & 0xFFFF
    assert payload[-1]
    assert np.array_equal(adaptive.decode_plain(payload, symbols.size, reach), symbols)


@given(arrays, headers)
@example(np.repeat(np.array([0, 2000, 0, -1], np.int16), 400), 0x8801)
def test_c_writes_the_same_bytes(symbols: np.ndarray, header: int) -> None:
    if not native.available():
        pytest.skip("the C library was not built: no compiler at install time")
    reach = adaptive.reach_of(symbols)
    assert native.encode_adaptive(symbols, reach, header) == adaptive.encode_plain(symbols, reach, header)


def test_carries_run_through_many_bytes() -> None:
    """Improbable bits of an extreme model make long runs of 0xFF that a carry turns over."""
    rng = np.random.default_rng(4)
    for seed_header in (0x30000, 0x1FFF, 0xE007):
        symbols = np.where(rng.random(4000) < 0.004, 40, 0).astype(np.int16)
        payload = adaptive.encode_plain(symbols, 40, seed_header)
        assert np.array_equal(adaptive.decode_plain(payload, symbols.size, 40), symbols)
        if native.available():
            assert native.encode_adaptive(symbols, 40, seed_header) == payload


def test_the_beginning_of_a_long_tensor_chooses_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    symbols = np.rint(rng.laplace(size=(50, 61)) * 2).astype(np.int32)
    whole = adaptive.encode(symbols)
    sizes: list[int] = []
    real = native.encode_adaptive if native.available() else adaptive.encode_plain

    def watched(flat: np.ndarray, reach: int, header: int, **options: Any) -> bytes:
        sizes.append(flat.size)
        return real(flat, reach, header, **options)

    monkeypatch.setattr(native, "encode_adaptive", watched)
    monkeypatch.setattr(adaptive, "encode_plain", watched)
    monkeypatch.setattr(adaptive, "TELLING", 1000)
    found = adaptive.encode(symbols)
    assert sizes.count(1000) >= 4
    assert sizes.count(3050) <= 4  # alone, and with neighbours in blocks of up to three shapes
    assert len(found) <= 1.01 * len(whole)
    assert np.array_equal(adaptive.decode_plain(found, 3050, adaptive.reach_of(symbols)), symbols.ravel())


def test_encode_without_the_library_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = np.rint(np.random.default_rng(5).laplace(size=(20, 30)) * 2).astype(np.int32)
    payload = adaptive.encode(symbols)
    monkeypatch.setattr(native, "available", lambda: False)
    assert adaptive.encode(symbols) == payload


@pytest.mark.parametrize(("count", "scale", "most"), [(500, 2.0, 1.03), (20_000, 2.0, 1.006), (20_000, 0.2, 1.01)])
def test_size_is_near_the_entropy_without_any_table(count: int, scale: float, most: float) -> None:
    symbols = np.rint(np.random.default_rng(6).laplace(size=count) * scale).astype(np.int32)
    assert 8 * len(adaptive.encode(symbols)) < most * tables.entropy(symbols) * count + 24


def test_contexts_pay_where_scales_drift() -> None:
    rng = np.random.default_rng(7)
    symbols = np.rint(rng.laplace(size=(40, 200)) * np.tile([0.3, 4.0], 20)[:, None]).astype(np.int16).ravel()
    without, with_contexts = (
        len(adaptive.encode_plain(symbols, adaptive.reach_of(symbols), 0x2588 | bit)) for bit in (0, 0x8000)
    )
    assert with_contexts < 0.98 * without
    assert adaptive.encode(symbols)[0] >> 7 == 1


def test_damaged_payloads_are_refused() -> None:
    symbols = np.rint(np.random.default_rng(8).laplace(size=300) * 3).astype(np.int16)
    reach = adaptive.reach_of(symbols)
    payload = adaptive.encode(symbols)
    for damaged, message in [
        (b"", "empty"),
        (b"\x30\x40", "rows of 0"),
        (b"\x30", "rows of 0"),
        (b"\x30\x40\x50", "rows of 0"),
        (payload + b"\0", "the last byte is 0"),
        (payload + b"\1\1\1\1\1\1", "does not end"),
    ]:
        with pytest.raises(CorruptFileError, match=message):
            adaptive.decode_plain(damaged, symbols.size, reach)
    beyond = adaptive.encode_plain(np.array([20]), 20, 1)
    with pytest.raises(CorruptFileError, match=r"20 is not in -13\.\.13"):
        adaptive.decode_plain(beyond, 1, 13)
    with pytest.raises(CorruptFileError, match="does not end"):
        adaptive.decode_plain(payload, symbols.size // 2, reach)


def test_large_symbols_cost_about_their_width() -> None:
    """A bias on a fine grid: few elements, hundreds of values; low bits are coded as they are."""
    symbols = np.random.default_rng(9).integers(-400, 400, 256).astype(np.int32)
    assert 8 * len(adaptive.encode(symbols)) / 256 < 10.2  # log2(800) is 9.64
    normal = np.rint(np.random.default_rng(9).normal(size=64) * 200).astype(np.int32)
    assert 8 * len(adaptive.encode(normal)) / 64 < np.log2(200 * np.sqrt(2 * np.pi * np.e)) + 0.5


def test_symbols_out_of_reach_are_refused() -> None:
    if not native.available():
        pytest.skip("the C library was not built: no compiler at install time")
    for symbols, reach in ([[3], 2], [[-2048], 2048]):
        with pytest.raises(ValueError, match="symbols exceed"):
            native.encode_adaptive(np.array(symbols, np.int16), reach, 1)
    with pytest.raises(ValueError, match="rows of 0"):
        native.encode_adaptive(np.zeros(1, np.int16), 0, 0x3330)


def test_the_last_learning_rate_suits_the_tensor() -> None:
    """Stationary symbols are learnt slowly, drifting ones fast."""
    rng = np.random.default_rng(10)
    steady = np.rint(rng.laplace(size=60_000)).astype(np.int32)
    drifting = np.rint(rng.laplace(size=20_000) * np.repeat(rng.uniform(0.2, 6, 200), 100)).astype(np.int32)
    slow, fast = (adaptive.encode(symbols)[0] >> 6 & 1 for symbols in (steady, drifting))
    assert (slow, fast) == (1, 0)


def test_a_sign_that_prevails_is_cheap() -> None:
    symbols = np.abs(np.rint(np.random.default_rng(11).laplace(size=20_000) * 2)).astype(np.int32)
    assert 8 * len(adaptive.encode(symbols)) < 1.03 * tables.entropy(symbols) * symbols.size


def smooth_kernels(rng: np.random.Generator, rows: int, width: int, count: int = 300) -> np.ndarray:
    """Kernels in which neighbours tend to have the same sign."""
    values = rng.normal(size=(count, 1, rows, width))
    values[:, :, :, 1:] += values[:, :, :, :-1]
    values[:, :, 1:] += values[:, :, :-1]
    return np.rint(values).astype(np.int32)


def test_signs_of_neighbours_pay_in_smooth_kernels() -> None:
    rng = np.random.default_rng(11)
    kernels = smooth_kernels(rng, 4, 3)
    payload = adaptive.encode(kernels)
    assert adaptive.Header.parse(payload[2] << 16 | payload[0] << 8 | payload[1]) == adaptive.Header.parse(
        0x430000 | payload[0] << 8 | payload[1]
    )
    alone = adaptive.encode(rng.permutation(kernels.ravel()).reshape(kernels.shape))
    assert alone[1] & 15
    assert len(payload) < 0.95 * len(alone)
    assert np.array_equal(adaptive.decode_plain(payload, kernels.size, adaptive.reach_of(kernels)), kernels.ravel())


def test_the_width_of_rows_in_a_matrix_is_found() -> None:
    """A dense layer behind feature maps: a row of the matrix is a picture of ten columns."""
    matrix = smooth_kernels(np.random.default_rng(12), 25, 10, 40).reshape(40, 250)
    payload = adaptive.encode(matrix)
    assert payload[1] & 15 == 0
    assert payload[2] & 15 == 10


def test_neighbours_are_those_of_the_specification() -> None:
    """By its words: rows, blocks, nobody to the left of a row or above a block."""
    signs = np.array([1, -1, 0, 1, 1, -1, 0, 0, 1, -1, 1])
    model = adaptive._Model(adaptive.Header(0, 0, 8, 4, 0, 0, width=2, rows=2), 1, 0, adaptive.FAR)
    seen = []
    for sign in signs.tolist():
        seen.append(divmod(model.neighbours(), 4))
        model.next_symbol(sign)
    zero, plus, minus, nobody = 0, 1, 2, 3
    assert seen == [
        *[(zero, nobody), (zero, plus), (plus, nobody), (minus, zero)],
        *[(zero, nobody), (zero, plus), (plus, nobody), (minus, zero)],
        *[(zero, nobody), (zero, plus), (plus, nobody)],
    ]
