"""Nothing that is needed at the same time shares memory, whatever the graph; elements find their places."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.inference.decoding import Piece, piece
from cerwu_onnx.inference.generator import Array, Call, Program
from cerwu_onnx.inference.memory import COPIES, MARK, SCRATCH, plan, weights_of
from cerwu_onnx.types import QuantizedTensor

OPERATORS = ("Conv", "Relu", "Add", "Reshape", "Softmax")


@st.composite
def programs(draw: st.DrawFn) -> tuple[Program, dict[str, tuple[Piece, ...]]]:
    """Random graphs: each node reads earlier values and weights, and writes one value of its own."""
    inputs, outputs = Array("input0", "float", (1, 4)), Array("output0", "float", (1, 4))
    arrays, calls, decoded, coded = {"input0": inputs}, [], {}, {}
    count = draw(st.integers(1, 9))
    for index in range(count):
        op = draw(st.sampled_from(OPERATORS))
        first = arrays[draw(st.sampled_from(sorted(arrays)))]
        same = op in COPIES or op == "Relu" or op == "Add"
        dims = first.dims if same else (1, draw(st.integers(1, 40)))
        output = outputs if index == count - 1 else Array(f"tmp{index}", "float", dims)
        read = [first]
        if op == "Add":
            read.append(arrays[draw(st.sampled_from(sorted(arrays)))])
        names = [f"w{weight}" for weight in range(draw(st.integers(0, 2)) if op == "Conv" else 0)]
        function = f"node{index}"
        pieces = tuple(
            Piece(f"{function}_{name}", 0, name, draw(st.integers(1, 50)), 1, 1, tiled=place == len(names) - 1 == 1)
            for place, name in enumerate(names)
        )
        coded |= {p.array: 0 for p in pieces}
        decoded[function] = pieces
        weights = [Array(p.array, "float", (p.count,)) for p in pieces]
        taken = (*read, *weights, output)
        written = (*[False] * (len(taken) - 1), True)
        calls.append(Call(op, function, "", tuple(array.name for array in taken), taken, written))
        arrays[output.name] = output
    temporaries = {name: array for name, array in arrays.items() if name.startswith("tmp")}
    return Program("", "", "", {}, coded, (inputs,), (outputs,), temporaries, tuple(calls), "0"), decoded


@settings(max_examples=200, deadline=None)
@given(programs(), st.integers(1, 300), st.booleans())
def test_a_run_in_the_arena(made: tuple[Program, dict[str, tuple[Piece, ...]]], scratch: int, once: bool) -> None:
    """Act out a run: each value is a run of one number; reading it later must give that number everywhere."""
    program, decoded = made
    arena = plan(program, decoded, scratch, once=once)
    memory: npt.NDArray[np.int64] = np.zeros(arena.size, np.int64)
    numbers: dict[str, int] = {"input0": 1}
    fresh = iter(range(2, 10_000))

    def put(offset: int, size: int) -> int:
        assert offset % 8 == 0
        assert offset + size <= arena.size
        number = next(fresh)
        memory[offset : offset + size] = number
        return number

    def decode(name: str, size: int) -> None:
        put(arena.offsets[SCRATCH], scratch)
        numbers[name] = put(arena.offsets[name], size)

    if once:
        for call in program.calls:
            for each in decoded[call.function]:
                decode(weights_of(call, each.array), each.size)
        mark = put(arena.offsets[MARK], 4)
    for call in program.calls:
        for each in decoded[call.function]:
            name = weights_of(call, each.array)
            if not once:
                decode(name, each.size)
            offset = arena.offsets[name]
            assert (memory[offset : offset + each.size] == numbers[name]).all()
        for name in call.arguments[:-1]:
            if name in program.temporaries:
                offset, size = arena.offsets[name], program.temporaries[name].size
                assert (memory[offset : offset + size] == numbers[name]).all()
        output = call.arguments[-1]
        if call.function in arena.skipped:
            assert arena.offsets[output] == arena.offsets[call.arguments[0]]
            numbers[output] = numbers[call.arguments[0]]
        elif output in program.temporaries:
            inputs = [name for name in call.arguments[:-1] if name in program.temporaries]
            whole = program.temporaries[output]
            for name in inputs:  # an output overlaps an input only where it takes its place
                start, end = arena.offsets[name], arena.offsets[name] + program.temporaries[name].size
                apart = arena.offsets[output] >= end or arena.offsets[output] + whole.size <= start
                assert apart or (call.op in ("Relu", "Add") and arena.offsets[output] == start)
            numbers[output] = put(arena.offsets[output], whole.size)
        if not once and any(each.tiled for each in decoded[call.function]):  # the next part is decoded after a write
            put(arena.offsets[SCRATCH], scratch)
            if output in program.temporaries:
                offset, size = arena.offsets[output], program.temporaries[output].size
                assert (memory[offset : offset + size] == numbers[output]).all()
        if once:
            assert (memory[arena.offsets[MARK] : arena.offsets[MARK] + 4] == mark).all()


SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@settings(max_examples=150, deadline=None)
@given(SHAPES, st.sampled_from(f.FORMS), st.booleans(), st.integers(0, 2**32 - 1))
def test_elements_find_their_places(shape: tuple[int, ...], form: f.Form, stepped: bool, seed: int) -> None:
    """The loops of decode_one() in Python, on the symbols of every form of file, with and without steps of rows."""
    if len(shape) < form.min_rank:
        return
    rng = np.random.default_rng(seed)
    symbols = np.arange(np.prod(shape)).reshape(shape) % 250 - 125
    record = f.Record(
        f.Kind.ANS,
        0,
        0,
        0,
        shape=shape,
        name="w",
        reach=125,
        order=form.order,
        run=form.run_length(shape),
        stepped=stepped,
    )
    exponents = rng.integers(0, 8, form.row_shape(shape) if stepped else [1] * len(shape))
    wanted = (symbols * 2.0**-exponents).ravel()
    stored = form.order.store(symbols).ravel()
    kept = form.order.store(np.broadcast_to(exponents, form.row_shape(shape) if stepped else exponents.shape)).ravel()
    made = piece("w", 0, record, shape)
    assert kept.size == made.rows
    out = np.full(symbols.size, np.nan)
    position = 0
    for start in range(0, made.count, made.inner * made.moved):
        for i in range(made.inner):
            for m in range(made.moved):
                exponent = kept[position // made.row % made.rows]
                out[start + m * made.inner + i] = stored[position] * 2.0**-exponent
                position += 1
    np.testing.assert_array_equal(out, wanted)


def test_the_record_of_a_real_file() -> None:
    """Rows that a writer has stepped are rows to :func:`steps` as well."""
    symbols = np.arange(-12, 12, dtype=np.int32).reshape(4, 6)
    quantized = QuantizedTensor(symbols, 0.5, 0.0, 1.0, 0.0)
    data = writer.assemble([writer.encode_tensor(writer.CodedTensor("w", quantized, "ans"))])
    (record,) = reader.parse(data).tensors
    assert (piece("w", 3, record, record.shape).rows, piece("w", 3, record, record.shape).row) == (1, 24)
