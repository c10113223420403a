"""What running a model costs: bytes of flash and RAM, multiply-adds, weights that are decoded."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from cerwu_onnx.container import format as f
from cerwu_onnx.inference.generator import PACKAGE, SIZES, Call, Program
from cerwu_onnx.inference.layers import multiply_adds
from cerwu_onnx.inference.measured import MACHINE
from cerwu_onnx.inference.memory import Arena, uncompressed

DECODER_STACK = 600
"""Bytes of stack that checking and decoding take on a Cortex-M4, with the frame of the run: docs/mcu.md."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes, unless said otherwise.

    Attributes:
        coded: of the weights in flash, as they are coded.
        constants: of the tensors that stay as they are, in flash.
        plain: of all constants in flash if nothing were coded.
        arena, arena_once: RAM of a run, with weights decoded layer by layer, or once.
        activations: part of the arena: the most values between layers at one time.
        weights, weights_once: part of the arena: decoded weights.
        scratch: part of the arena, while a tensor is decoded.
        plain_ram: RAM of the generator's own program, which keeps every value between layers for itself.
        multiply_adds: products of weights and values per run.
        decoded: weights that are decoded in each run, layer by layer.
        node_stack: the most bytes of arrays that a node has on the stack.
        code, plain_code: of flash, code and tables, also those of the decoder, compiled for
            :data:`cerwu_onnx.inference.measured.MACHINE`; None if there is no compiler.
    """

    coded: int
    constants: int
    plain: int
    arena: int
    arena_once: int
    activations: int
    weights: int
    weights_once: int
    scratch: int
    plain_ram: int
    multiply_adds: int
    decoded: int
    node_stack: int
    code: int | None = None
    plain_code: int | None = None


def costs(
    model: onnx.ModelProto, program: Program, plans: Sequence[Arena], records: Sequence[f.Record], scratch: int
) -> Costs:
    """Count; ``plans`` are the arenas for decoding layer by layer and once, ``records`` the tensors in the array."""
    layer, once = plans
    counts = [record.count for record in records]
    constants = sum(size for _, size in program.constants.values())
    decoded = sum(
        parameter.elements
        for call in program.calls
        for name, parameter in dict(zip(call.arguments, call.parameters, strict=True)).items()
        if name in program.coded
    )
    return Costs(
        coded=sum(len(record.to_bytes()) + record.size for record in records),
        constants=constants,
        plain=4 * sum(counts) + constants,
        arena=layer.size,
        arena_once=once.size,
        activations=layer.activations,
        weights=layer.weights,
        weights_once=once.weights,
        scratch=scratch,
        plain_ram=uncompressed(program),
        multiply_adds=multiply_adds(model),
        decoded=decoded,
        node_stack=max(map(stack_arrays, program.calls)),
    )


def page(name: str, found: Costs, *, once: bool) -> str:
    """The table for the page of the model."""
    code, plain_code = (("?" if size is None else str(size)) for size in (found.code, found.plain_code))
    rows = [
        ("flash: weights, coded", found.coded, found.coded, "-"),
        ("flash: constants, as they are", found.constants, found.constants, found.plain),
        ("flash: code and tables", *((code, "as there") if not once else ("as there", code)), plain_code),
        ("RAM: the arena", found.arena, found.arena_once, found.plain_ram),
        ("of it, at most: values between layers", found.activations, found.activations, found.plain_ram),
        ("of it, at most: decoded weights", found.weights, found.weights_once, "-"),
        ("RAM: stack, about", found.node_stack + DECODER_STACK, found.node_stack + DECODER_STACK, found.node_stack),
        ("weights that a run decodes", found.decoded, 0, "-"),
        ("multiply-adds of a run", found.multiply_adds, found.multiply_adds, found.multiply_adds),
    ]
    titles = ["layer by layer", "decoded once"]
    titles[once] += " (this program)"
    lines = [
        "",
        "## Running the model",
        "",
        "```c",
        f'#include "{name}.h"',
        "",
        f"static {name}_arena arena;",
        "",
        f"{name}_start(&arena, sizeof arena); /* once: checks the file{', decodes the weights' if once else ''} */",
        f"{name}_run(input, output, &arena, sizeof arena);",
        "```",
        "",
        f"Both return 0 or an error of `cwb.h`. Sizes of input and output are macros in `{name}.h`.",
        "",
        f"| bytes, unless it says otherwise | {titles[0]} | {titles[1]} | uncompressed |",
        "|---|---:|---:|---:|",
        *(f"| {what} | {' | '.join(map(str, values))} |" for what, *values in rows),
        "",
        f"*Uncompressed* is what {PACKAGE} itself writes: floats in flash, and no two values between layers",
        f"share memory. The code is that of {MACHINE}, with the decoder, without the C library's mathematics"
        + ("." if found.code is not None else ":"),
        *([] if found.code is not None else ["`pip install 'cerwu-onnx[emu]'` brings the compiler that counts it."]),
    ]
    return "\n".join(lines) + "\n"


def stack_arrays(call: Call) -> int:
    """Bytes of the arrays that a node's function declares."""
    body = call.text.partition("\n")[2]
    found = re.findall(rf"^\s+({'|'.join(SIZES)}) \w+((?:\[\d+\])+)(?: = [^;]*)?;", body, re.MULTILINE)
    return sum(SIZES[kind] * math.prod(map(int, re.findall(r"\d+", dims))) for kind, dims in found)
