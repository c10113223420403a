"""The C text of a program that runs a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cerwu_onnx._version import __version__
from cerwu_onnx.container import format as f
from cerwu_onnx.firmware import c_source
from cerwu_onnx.inference.generator import PACKAGE, Array, Call, Program
from cerwu_onnx.inference.memory import MARK, SCRATCH, Arena, nodes, weights_of


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor that is decoded to floats.

    Attributes:
        index: its number in the file.
        name: its name in the model.
        count: elements.
        inner, moved: stored are ``[outer][inner][moved]`` elements, wanted ``[outer][moved][inner]``.
    """

    index: int
    name: str
    count: int
    inner: int
    moved: int


def weight(index: int, record: f.Record) -> Weight:
    """How to decode the tensor with this number in the file."""
    inner, moved = 1, record.count
    if record.order is not f.Order.ROW_MAJOR:
        axis = record.order.axes(len(record.shape))[-1]
        inner, moved = math.prod(record.shape[axis + 1 :]), record.shape[axis]
    if inner == 1:
        moved = record.count
    return Weight(index, record.name, record.count, inner, moved)


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
        "/* The memory of a run, for instance static: values between layers, decoded weights, the decoder's scratch. */",
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
        " * Returns CWB_OK, CWB_ERR_SPACE (arena too small), CWB_ERR_ARGUMENT (null or not aligned) or what is wrong. */",
        f"int {name}_start(void *arena, size_t bytes);",
        "",
        "/* Run the model once. Arrays are dense and row-major. Returns CWB_OK, or an error as above. */",
        f"int {name}_run({_signature(program)});",
    ]
    return "\n".join(lines) + "\n"


def source(
    name: str, program: Program, weights: Mapping[int, Weight], arena: Arena, labels: Mapping[str, str], *, once: bool
) -> str:
    """The file that runs the model.

    Args:
        name: of the model in C.
        program: the graph.
        weights: by the place of a coded tensor.
        arena: where everything lies.
        labels: what to call a node in comments, by its function.
        once: whether all weights are decoded at the start.
    """
    table: list[str] = []
    steps: list[str] = []
    for call in nodes(program, arena):
        coded = [] if once else [argument for argument in dict.fromkeys(call.arguments) if argument in program.coded]
        first = len(table)
        table += [
            _row(weights[program.coded[argument]], arena.offsets[weights_of(call, argument)]) for argument in coded
        ]
        steps += ["", f"    /* {c_source.comment_text(labels[call.function])} */"]
        if coded:
            steps += [
                f"    error = decode(&file, base, {first}, {len(table)});",
                "    if (error != CWB_OK) return error;",
            ]
        steps.append(f"    {call.function}({', '.join(_arguments(call, program, arena))});")
    if once:
        places = {program.coded[argument]: arena.offsets[argument] for argument in program.coded}
        table += [_row(weights[place], offset) for place, offset in places.items()]
    running = nodes(program, arena)
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
        _START + (_KEEP if once else "    return error;\n}\n"),
        f"int {name}_run({_signature(program)})",
        _RUN_ONCE if once else _RUN,
        *steps,
        "    return CWB_OK;",
        "}",
    ]
    words = {"name": name, "NAME": name.upper(), "rows": "\n".join(table), "scratch": arena.offsets[SCRATCH]}
    words |= {"end": len(table), "mark": arena.offsets.get(MARK, 0)}
    text = "\n".join(parts) + "\n"
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    return text


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
    """What a node is called with: pointers to void fit any array."""
    out = []
    outside = {array.name: _public(array, arrays) for arrays in (program.inputs, program.outputs) for array in arrays}
    constant = {array.name for array in program.inputs}
    for name, parameter in zip(call.arguments, call.parameters, strict=True):
        if name in outside:
            rows = "".join(f"[{dim}]" for dim in parameter.dims[1:])
            qualifier = "const " if name in constant else ""
            out.append(f"({qualifier}{parameter.type} (*){rows}){outside[name]}" if rows else outside[name])
        elif name in program.coded:
            out.append(f"AT({arena.offsets[weights_of(call, name)]})")
        elif name in arena.offsets:
            out.append(f"AT({arena.offsets[name]})")
        else:
            out.append(name)
    return out


def _row(weight: Weight, offset: int) -> str:
    where = f"{{{weight.index}, {weight.inner}, {weight.moved}, {offset}}}"
    return f"    {where}, /* {c_source.comment_text(weight.name)} */"


_QUIET = """\
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#endif
"""

_COMMON = """\
/* The tensors to decode. They are stored as [outer][inner][moved] and wanted as [outer][moved][inner], at `offset`. */
static const struct {
    uint16_t tensor;
    uint32_t inner, moved, offset;
} weights[] = {
@rows@
};

#define AT(offset) ((void *)(base + (offset)))
#define SCRATCH AT(@scratch@)
#define TILE 32 /* symbols that are read at once */

static cwb_error decode_one(const cwb_file *file, unsigned char *base, unsigned number)
{
    const uint32_t inner = weights[number].inner, moved = weights[number].moved;
    float *const out = (float *)AT(weights[number].offset);
    int16_t tile[TILE];
    cwb_tensor tensor;
    cwb_stream stream;
    uint32_t start, i, m, k, part;
    float step;
    cwb_error error = cwb_tensor_at(file, weights[number].tensor, &tensor);

    if (error == CWB_OK) error = cwb_begin(&tensor, (uint16_t *)SCRATCH, @NAME@_SCRATCH_BYTES, &stream);
    if (error != CWB_OK) return error;
    step = cwb_step(&tensor);
    for (start = 0; start < tensor.count; start += inner * moved) {
        for (i = 0; i < inner; i++) {
            for (m = 0; m < moved; m += part) {
                part = moved - m < TILE ? moved - m : TILE;
                error = cwb_read_i16(&stream, tile, part);
                if (error != CWB_OK) return error;
                for (k = 0; k < part; k++) out[start + (m + k) * inner + i] = step * (float)tile[k];
            }
        }
    }
    return cwb_end(&stream);
}

static cwb_error decode(const cwb_file *file, unsigned char *base, unsigned first, unsigned end)
{
    cwb_error error = CWB_OK;

    for (; first < end && error == CWB_OK; first++) error = decode_one(file, base, first);
    return error;
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
    cwb_file file;
    cwb_tensor tensor;
    uint32_t i;
    cwb_error error = usable(arena, bytes);

    if (error == CWB_OK) error = cwb_open(&file, @name@_cwb, sizeof @name@_cwb);
    for (i = 0; i < @NAME@_TENSORS && error == CWB_OK; i++) {
        error = cwb_tensor_at(&file, i, &tensor);
        if (error == CWB_OK) error = cwb_check(&tensor, (uint16_t *)SCRATCH, @NAME@_SCRATCH_BYTES);
    }
"""

_KEEP = """\
    if (error == CWB_OK) error = decode(&file, base, 0, @end@);
    if (error == CWB_OK) *(uint32_t *)AT(@mark@) = UINT32_C(0x53544152); /* run asks for it */
    return error;
}
"""

_RUN = """\
{
    unsigned char *const base = (unsigned char *)arena;
    cwb_file file;
    cwb_error error = usable(arena, bytes);

    if (error == CWB_OK) error = cwb_open(&file, @name@_cwb, sizeof @name@_cwb);
    if (error != CWB_OK) return error;"""

_RUN_ONCE = """\
{
    unsigned char *const base = (unsigned char *)arena;
    cwb_error error = usable(arena, bytes);

    if (error == CWB_OK && *(const uint32_t *)AT(@mark@) != UINT32_C(0x53544152)) error = CWB_ERR_ARGUMENT;
    if (error != CWB_OK) return error;"""
