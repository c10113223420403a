"""Exponents of rows: their code, and tensors that have them, in Python, in C and by the specification."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cerwu_onnx import native
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.container.in_place import margin, margin_plain
from cerwu_onnx.entropy import exponents, trellis
from cerwu_onnx.errors import CorruptFileError, ModelError
from cerwu_onnx.types import QuantizedTensor

from ..spec import container as spec

SHAPE = (3, 4, 2, 5)
FORMS = range(f.FIRST_STEPPED, 8)
some = hnp.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 31))


@given(some, st.binary(max_size=4))
@example(np.array([31, 0]), b"")
@example(np.array([0, 31, 31, 31]), b"\xff")
def test_code(rows: np.ndarray, behind: bytes) -> None:
    code = exponents.encode(rows)
    found, used = exponents.decode(code + behind, len(rows))
    assert (found.tolist(), used) == (rows.tolist(), len(code))
    assert 8 * len(code) < 5 + exponents.lengths(rows, int(np.median(rows))).sum() + 8
    for short in range(len(code)):
        with pytest.raises(CorruptFileError, match="cut short"):
            exponents.decode(code[:short], len(rows))


def test_the_code_by_hand() -> None:
    """Around 2, the exponents 2, 1, 3, 0 are the codes 0, 2, 1, 4: five bits 01000, then 0 110 10 11110."""
    bits = "01000" + "0" + "110" + "10" + "11110"
    found, used = exponents.decode(int(bits[::-1], 2).to_bytes(2, "little"), 4)
    assert (found.tolist(), used) == ([2, 1, 3, 0], 2)


@pytest.mark.parametrize(
    ("rows", "bits", "message"),
    [
        (2, "00000" + "10" + "110", "out of range"),  # 0 + 1, 0 - 1
        (1, "11111" + "10", "out of range"),  # 31 + 1
        (1, "00000" + "0" + "1", "not 0"),
        (1, "00000" + "111", "cut short"),
        (1, "00000" + "1" * 63 + "0", "out of range"),
        (1, "00000" + "1" * 3000, "out of range"),
    ],
)
def test_broken_rules(rows: int, bits: str, message: str) -> None:
    payload = int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")
    with pytest.raises(CorruptFileError, match=message):
        exponents.decode(payload, rows)


def stepped(number: int, seed: int, coder: str, step: float, spread: int) -> tuple[writer.Encoded, QuantizedTensor]:
    """A tensor of a form with random exponents."""
    rng, form = np.random.default_rng(seed), f.FORMS[number]
    run = form.run_length(SHAPE)
    symbols = np.rint(rng.laplace(size=np.prod(SHAPE)) * 2).astype(np.int32)
    values = form.order.restore(trellis.to_values(symbols, run) if run else symbols, SHAPE).astype(np.int32)
    rows = rng.integers(0, spread + 1, form.row_shape(SHAPE))
    tensor = QuantizedTensor(values, step, 0.0, 1.0, 0.0, run, exponents=rows)
    return writer.encode_tensor(writer.CodedTensor("w", tensor, coder, form.order)), tensor


@settings(deadline=None)
@given(
    st.sampled_from(FORMS),
    st.integers(0, 999),
    st.sampled_from(["ans", "adaptive"]),
    st.sampled_from([0.125, 2.0**-95, 2.0**-31 * 1.3, 2.0**116]),
    st.sampled_from([0, 1, 5, 31]),
)
def test_round_trip(number: int, seed: int, coder: str, step: float, spread: int) -> None:
    part, tensor = stepped(number, seed, coder, float(np.float32(step)), spread)
    data = writer.assemble([part])
    container = reader.parse(data)
    (record,) = container.tensors
    assert record.stepped
    assert record.to_bytes() == part.record.to_bytes()
    expected = tensor.values()
    assert np.array_equal(container.steps(record), tensor.steps)
    assert np.array_equal(container.decode_python(record), expected)
    assert np.array_equal(container.decode(record), expected)
    finite = expected[expected != 0]
    assert finite.size == 0 or np.abs(finite).min() >= np.finfo(np.float32).tiny
    file = spec.read(data)
    file.check()
    assert struct.pack(f"<{expected.size}f", *file.values(file.tensors[0])) == expected.tobytes()
    if native.available():
        native.verify(data)
        assert np.array_equal(native.decode_symbols(data, 0), container.symbols(record))
        assert margin(part) == margin_plain(part)


def test_other_tensors_pay_nothing() -> None:
    part, tensor = stepped(4, 1, "ans", 0.5, 3)
    bare = writer.encode_tensor(
        writer.CodedTensor("w", QuantizedTensor(tensor.symbols, 0.5, 0.0, 1.0, 0.0, tensor.run), "ans")
    )
    assert not bare.record.stepped
    assert part.cost - bare.cost == 1 + len(exponents.encode(tensor.exponents))
    assert part.payload.endswith(bare.payload)


def test_the_writer_refuses_what_the_format_cannot_hold() -> None:
    with pytest.raises(ModelError, match="step"):
        stepped(4, 1, "ans", 2.0**-96, 3)
    _, tensor = stepped(4, 1, "ans", 0.5, 3)
    with pytest.raises(ValueError, match="broadcast"):  # rows are all axes but the first
        writer.encode_tensor(writer.CodedTensor("w", replace(tensor, exponents=np.zeros((3, 4, 1, 1), int))))


def decoded(data: bytes) -> np.ndarray:
    container = reader.parse(data)
    return container.decode_python(container.tensors[0])


@pytest.mark.parametrize("number", FORMS)
def test_every_flipped_bit_is_detected(number: int) -> None:
    data = writer.assemble([stepped(number, 5, "adaptive", 0.125, 6)[0]])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptFileError):
            decoded(bytes(damaged))
        if native.available():
            with pytest.raises(CorruptFileError):
                native.verify(bytes(damaged))
