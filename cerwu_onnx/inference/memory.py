"""Place everything that a run needs in one arena: values that are needed at different times share their bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cerwu_onnx.inference.decoding import Piece
from cerwu_onnx.inference.generator import Call, Program

ALIGNMENT = 8
"""Of every buffer: that of int64 and double."""

COPIES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose output has the bytes of their input: where both may share memory, nothing needs to run."""

ELEMENTWISE = frozenset(
    {"Add", "BatchNormalization", "Clip", "Div", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu"}
) | {*("Mul", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Sub", "Tanh", "ThresholdedRelu")}
"""Operators that read an element of an input of the output's shape for the last time before they write that element."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that are needed for some time.

    Attributes:
        name: of the value.
        size: bytes.
        first, last: the steps between which it is needed, both included. Weights of node i are decoded in step 2 i,
            and it runs in step 2 i + 1.
    """

    name: str
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Arena:
    """Where everything lies.

    Attributes:
        size: bytes.
        offsets: by name of a value, :func:`weights_of` a node, :data:`SCRATCH` or :data:`MARK`.
        skipped: functions of nodes that need not run, because their output lies where their input does.
        activations: the most bytes of values between nodes that are needed at once.
        weights: the most bytes of decoded weights that are needed at once.
    """

    size: int
    offsets: Mapping[str, int]
    skipped: frozenset[str]
    activations: int
    weights: int


SCRATCH, MARK = "scratch", "mark"
"""The decoder's memory; a word that tells that all weights have been decoded."""


def weights_of(call: Call, name: str) -> str:
    """The name of an array of weights as it is decoded for one node."""
    return f"{call.function}.{name}"


def plan(program: Program, decoded: Mapping[str, Sequence[Piece]], scratch: int, *, once: bool) -> Arena:
    """Place values, decoded weights and the decoder's scratch memory.

    Args:
        program: the nodes.
        decoded: what is decoded for each node.
        scratch: bytes that decoding any of them takes.
        once: keep all weights for good, instead of those of one node at a time.
    """
    shared, skipped = _shared(program)
    end = 2 * len(program.calls)
    values: dict[str, Buffer] = {}
    weights: dict[str, Buffer] = {}
    scratches = [Buffer(SCRATCH, scratch, -1, -1)]
    for index, call in enumerate(program.calls):
        for name in call.arguments:
            if name in program.temporaries:
                owner = shared[name]
                first = values[owner].first if owner in values else 2 * index + 1
                values[owner] = Buffer(owner, program.temporaries[owner].size, first, 2 * index + 1)
        for piece in decoded[call.function]:
            if once:
                weights[piece.array] = Buffer(piece.array, piece.size, -1, end)
                continue
            name = weights_of(call, piece.array)
            weights[name] = Buffer(name, piece.size, 2 * index, 2 * index + 1)
            scratches.append(Buffer(SCRATCH, scratch, 2 * index, 2 * index + piece.tiled))
    if once:
        values[MARK] = Buffer(MARK, 4, -1, end)
    offsets, size = _place([*values.values(), *weights.values()], scratches)
    if once:
        offsets |= {
            weights_of(call, p.array): offsets[p.array] for call in program.calls for p in decoded[call.function]
        }
    for name, owner in shared.items():
        offsets[name] = offsets[owner]
    return Arena(size, offsets, skipped, _most(list(values.values())), _most(list(weights.values())))


def _shared(program: Program) -> tuple[dict[str, str], frozenset[str]]:
    """For each temporary the one in whose memory it lies, and the functions that then have nothing to do."""
    last = {name: index for index, call in enumerate(program.calls) for name in call.arguments}
    shared = {name: name for name in program.temporaries}
    ends = {name: last.get(name, 0) for name in program.temporaries}
    skipped = set()
    for index, call in enumerate(program.calls):
        if sum(call.written) != 1 or call.op not in COPIES | ELEMENTWISE:
            continue
        place = call.written.index(True)
        output = call.arguments[place]
        if output not in shared:
            continue
        for name, parameter in zip(call.arguments, call.parameters, strict=True):
            same = parameter.dims == call.parameters[place].dims or call.op in COPIES
            fits = same and name in shared and program.temporaries[name].size == program.temporaries[output].size
            typed = parameter.type == call.parameters[place].type
            if name != output and fits and typed and ends[shared[name]] == index and call.arguments.count(name) == 1:
                shared[output] = shared[name]
                ends[shared[name]] = ends[output]
                if call.op in COPIES:
                    skipped.add(call.function)
                break
    return shared, frozenset(skipped)


def _place(buffers: Sequence[Buffer], scratches: Sequence[Buffer]) -> tuple[dict[str, int], int]:
    """Offsets, and the size of all: largest first, each at the lowest place that is free while it is needed.

    The same scratch memory serves whenever something is decoded, so it is one buffer with several lives.
    """
    lives: list[tuple[str, int, Sequence[Buffer]]] = [(buffer.name, buffer.size, [buffer]) for buffer in buffers]
    lives.append((SCRATCH, scratches[0].size, scratches))
    placed: list[tuple[int, int, Sequence[Buffer]]] = []
    offsets: dict[str, int] = {}
    for name, size, spans in sorted(lives, key=lambda life: -life[1]):
        offset = 0
        for start, end, others in sorted(placed, key=lambda entry: entry[0]):
            if offset + size > start and end > offset and _meet(spans, others):
                offset = end
        end = offset + -(-size // ALIGNMENT) * ALIGNMENT
        placed.append((offset, end, spans))
        offsets[name] = offset
    return offsets, max(end for _, end, _ in placed)


def _meet(ours: Sequence[Buffer], theirs: Sequence[Buffer]) -> bool:
    return any(a.first <= b.last and b.first <= a.last for a in ours for b in theirs)


def _most(buffers: Sequence[Buffer]) -> int:
    steps = {buffer.first for buffer in buffers}
    return max((sum(b.size for b in buffers if b.first <= step <= b.last) for step in steps), default=0)


def uncompressed(program: Program) -> int:
    """Bytes of RAM that the generator's own program takes: all values between nodes at once."""
    return sum(array.size for array in program.temporaries.values())


def nodes(program: Program, arena: Arena) -> list[Call]:
    """The nodes that run."""
    return [call for call in program.calls if call.function not in arena.skipped]
