"""The C text of a program that runs a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cerwu_onnx._version import __version__
from cerwu_onnx.firmware import c_source
from cerwu_onnx.inference.decoding import Piece
from cerwu_onnx.inference.generator import PACKAGE, Array, Call, Program
from cerwu_onnx.inference.memory import MARK, SCRATCH, Arena, nodes, weights_of


def header(name: str, program: Program, arena: Arena, *, once: bool) -> str:
    """What the model's header says of running it."""
    upper = name.upper()
    lines = ["/* Running the model. */"]
    for array, macro in zip((*program.inputs, *program.outputs), _macros(program), strict=True):
        shape = "x".join(map(str, array.dims))
        lines.append(f"#define {upper}_{macro}_COUNT UINT32_C({array.elements}) /* {shape}, {array.type} */")
    when = (
        "checks the file and decodes all weights into the arena, which must stay as it is"
        if once
        else "checks every byte of the file. Running checks no CRC again"
    )
    lines += [
        f"#define {upper}_ARENA_BYTES UINT32_C({arena.size})",
        "",
        "/* The memory of a run: values between layers, decoded weights, the decoder's scratch. It may be static. */",
        "typedef union {",
        "    double alignment;",
        "    int64_t long_alignment;",
        f"    uint8_t bytes[{upper}_ARENA_BYTES];",
        f"}} {name}_arena;",
        "",
        "/* Bytes of the arena. */",
        f"size_t {name}_arena_bytes(void);",
        "",
        f"/* Call it once before {name}_run: it {when}. The arena is aligned as {name}_arena is.",
        " * Returns CWB_OK, CWB_ERR_SPACE (too small), CWB_ERR_ARGUMENT (null, not aligned) or what the file lacks. */",
        f"int {name}_start(void *arena, size_t bytes);",
        "",
        "/* Run the model once. Arrays are dense and row-major. Returns CWB_OK, or an error as above. */",
        f"int {name}_run({_signature(program)});",
    ]
    return "\n".join(lines) + "\n"


def source(
    name: str,
    program: Program,
    decoded: Mapping[str, Sequence[Piece]],
    arena: Arena,
    labels: Mapping[str, str],
    *,
    once: bool,
) -> str:
    """The file that runs the model.

    Args:
        name: of the model in C.
        program: the graph.
        decoded: what is decoded for each node.
        arena: where everything lies.
        labels: what to call a node in comments, by its function.
        once: whether all weights are decoded at the start.
    """
    running = nodes(program, arena)
    table: list[str] = []
    steps: list[str] = []
    for call in running:
        rows = [_row(piece, arena.offsets[weights_of(call, piece.array)]) for piece in decoded[call.function]]
        steps += ["", f"    /* {c_source.comment_text(labels[call.function])} */"]
        steps += _step(
            call, f"{call.function}({', '.join(_arguments(call, program, arena))});", len(table), len(rows), once
        )
        table += [] if once else rows
    if once:
        whole = {piece.array: piece for call in program.calls for piece in decoded[call.function]}
        table = [_row(piece, arena.offsets[array]) for array, piece in whole.items()]
    loops = any(call.parts > 1 for call in running)
    used = {argument for call in running for argument in call.arguments}
    parts = [
        f"/* {c_source.comment_text(f'Written by cerwu-onnx {__version__} export-c --inference.')} Nodes and helpers",
        f" * were written by {PACKAGE} {program.version}, Copyright its authors, Apache License 2.0. */",
        f'#include "{name}.h"',
        "",
        program.preamble.strip(),
        "",
        _QUIET,
        *(text for array, (text, _) in program.constants.items() if array in used),
        program.helpers.strip(),
        "",
        *(call.text for call in running),
        _COMMON,
        *(
            [f"#define MARK {arena.offsets[MARK]}", "#define STARTED UINT32_C(0x53544152) /* run asks for it */", ""]
            if once
            else []
        ),
        _START + (_KEEP if once else "    return error;\n}\n"),
        f"int {name}_run({_signature(program)})",
        "{",
        "    unsigned char *const base = (unsigned char *)arena;",
        *([] if once else ["    decoder state;"]),
        *(["    uint32_t part;"] if loops else []),
        "    cwb_error error = usable(arena, bytes);",
        "",
        f"    if (error == CWB_OK{' && *(const uint32_t *)AT(MARK) != STARTED' if once else ''}) "
        + ("error = CWB_ERR_ARGUMENT;" if once else "error = prepare(&state);"),
        _RETURN,
        *steps,
        "    return CWB_OK;",
        "}",
    ]
    words = {"name": name, "NAME": name.upper(), "rows": "\n".join(table), "scratch": arena.offsets[SCRATCH]}
    words["end"] = len(table)
    text = "\n".join(parts) + "\n"
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text


def _step(call: Call, run: str, first: int, count: int, once: bool) -> list[str]:
    """Decode what a node needs, and run it; if it takes parts of its weights, those are the last row of the table."""
    if once or not count:
        return [f"    {run}"]
    whole = first + count - (call.parts > 1)
    lines = [f"    error = decode(&state, base, {first}, {whole});", _RETURN] if whole > first else []
    if call.parts == 1:
        return [*lines, f"    {run}"]
    return [
        *lines,
        f"    for (part = 0; part < {call.parts}; part++) {{",
        f"        error = decode(&state, base, {whole}, {whole + 1});",
        f"    {_RETURN}",
        f"        {run}",
        "    }",
    ]


def _macros(program: Program) -> list[str]:
    return [_public(array, arrays).upper() for arrays in (program.inputs, program.outputs) for array in arrays]


def _public(array: Array, arrays: Sequence[Array]) -> str:
    """The name that users see: no number if there is one only."""
    return array.name.rstrip("0123456789") if len(arrays) == 1 else array.name


def _signature(program: Program) -> str:
    inputs = [f"const {array.type} *{_public(array, program.inputs)}" for array in program.inputs]
    outputs = [f"{array.type} *{_public(array, program.outputs)}" for array in program.outputs]
    return ", ".join([*inputs, *outputs, "void *arena", "size_t bytes"])


def _arguments(call: Call, program: Program, arena: Arena) -> list[str]:
    """What a node is called with. Pointers to void fit any array."""
    out = []
    outside = {array.name: _public(array, arrays) for arrays in (program.inputs, program.outputs) for array in arrays}
    for name, parameter, written in zip(call.arguments, call.parameters, call.written, strict=True):
        ours = name in program.coded or name in program.constants
        moves = call.parts > 1 and (written or (ours and name != call.tiled))
        place = weights_of(call, name) if name in program.coded else name
        if name in outside:
            rows = "".join(f"[{dim}]" for dim in parameter.dims[1:])
            qualifier = "" if written else "const "
            start = f"({outside[name]} + part * {parameter.elements})" if moves else outside[name]
            out.append(f"({qualifier}{parameter.type} (*){rows}){start}" if rows else start)
        elif place in arena.offsets:
            out.append(f"AT({arena.offsets[place]}{f' + part * {parameter.size}' if moves else ''})")
        else:
            out.append(f"{name} + part * {parameter.elements}" if moves else name)
    return out


def _row(piece: Piece, offset: int) -> str:
    numbers = (piece.index, piece.rows, piece.row, piece.count, piece.inner, piece.moved, offset)
    return f"    {{{', '.join(map(str, numbers))}}}, /* {c_source.comment_text(piece.name)} */"


_RETURN = "    if (error != CWB_OK) return error;"

_QUIET = """\
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
"""

_COMMON = """\
/* What to decode, to floats at `offset`: the next `count` elements of a tensor. They are stored as
 * [outer][inner][moved] and wanted as [outer][moved][inner]. Of `rows` steps the next begins after `row` elements. */
static const struct {
    uint16_t tensor;
    uint32_t rows, row, count, inner, moved, offset;
} weights[] = {
@rows@
};

typedef struct {
    cwb_file file;
    cwb_tensor tensor;
    cwb_stream stream;
    uint32_t left; /* elements of the tensor */
    uint32_t row_left, rows_done, step_bits;
} decoder;

#define AT(offset) ((void *)(base + (offset)))
#define SCRATCH AT(@scratch@)
#define EXPONENTS AT(@scratch@ + @NAME@_SCRATCH_BYTES)
#define TILE 32 /* symbols that are read at once */

/* The step of a row is the tensor's, times 2 to the power of minus its exponent. */
static void next_row(decoder *state, const unsigned char *base, uint32_t number)
{
    const int8_t *const exponents = (const int8_t *)EXPONENTS;

    if (weights[number].rows > 1) {
        state->tensor.step_bits = state->step_bits - ((uint32_t)exponents[state->rows_done] << 23);
        state->rows_done = (state->rows_done + 1) % weights[number].rows;
    }
    state->row_left = weights[number].row;
}

static cwb_error begin(decoder *state, unsigned char *base, uint32_t number)
{
    cwb_error error = cwb_tensor_at(&state->file, weights[number].tensor, &state->tensor);

#ifndef CWB_NO_EXPONENTS
    if (error == CWB_OK && weights[number].rows > 1) {
        error = cwb_exponents(&state->tensor, (int8_t *)EXPONENTS, weights[number].rows);
    }
#endif
    if (error == CWB_OK) error = cwb_begin(&state->tensor, SCRATCH, @NAME@_SCRATCH_BYTES, &state->stream);
    state->left = state->tensor.count;
    state->row_left = 0;
    state->rows_done = 0;
    state->step_bits = state->tensor.step_bits;
    return error;
}

static cwb_error decode_one(decoder *state, unsigned char *base, uint32_t number)
{
    const uint32_t inner = weights[number].inner, moved = weights[number].moved, count = weights[number].count;
    float *const out = (float *)AT(weights[number].offset);
    int16_t tile[TILE];
    uint32_t start, i, m, k, part;
    float step;
    cwb_error error = state->left == 0 ? begin(state, base, number) : CWB_OK;

    if (error != CWB_OK) return error;
    for (start = 0; start < count; start += inner * moved) {
        for (i = 0; i < inner; i++) {
            for (m = 0; m < moved; m += part) {
                if (state->row_left == 0) next_row(state, base, number);
                part = moved - m < TILE ? moved - m : TILE;
                if (part > state->row_left) part = state->row_left;
                state->row_left -= part;
                step = cwb_step(&state->tensor);
                error = cwb_read_i16(&state->stream, tile, part);
                if (error != CWB_OK) return error;
                for (k = 0; k < part; k++) out[start + (m + k) * inner + i] = step * (float)tile[k];
            }
        }
    }
    state->left -= count;
    return state->left == 0 ? cwb_end(&state->stream) : CWB_OK;
}

static cwb_error decode(decoder *state, unsigned char *base, uint32_t first, uint32_t end)
{
    cwb_error error = CWB_OK;

    for (; first < end && error == CWB_OK; first++) error = decode_one(state, base, first);
    return error;
}

static cwb_error prepare(decoder *state)
{
    state->left = 0;
    return cwb_open(&state->file, @name@_cwb, sizeof @name@_cwb);
}

static cwb_error usable(const void *arena, size_t bytes)
{
    if (arena == NULL || (uintptr_t)arena % 8 != 0) return CWB_ERR_ARGUMENT;
    return bytes < @NAME@_ARENA_BYTES ? CWB_ERR_SPACE : CWB_OK;
}

size_t @name@_arena_bytes(void)
{
    return @NAME@_ARENA_BYTES;
}
"""

_START = """\
int @name@_start(void *arena, size_t bytes)
{
    unsigned char *const base = (unsigned char *)arena;
    decoder state;
    uint32_t i;
    cwb_error error = usable(arena, bytes);

    if (error == CWB_OK) error = prepare(&state);
    for (i = 0; i < @NAME@_TENSORS && error == CWB_OK; i++) {
        error = cwb_tensor_at(&state.file, i, &state.tensor);
        if (error == CWB_OK) error = cwb_check(&state.tensor, SCRATCH, @NAME@_SCRATCH_BYTES);
    }
"""

_KEEP = """\
    if (error == CWB_OK) error = decode(&state, base, 0, @end@);
    if (error == CWB_OK) *(uint32_t *)AT(MARK) = STARTED;
    return error;
}

"""
