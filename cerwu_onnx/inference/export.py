"""Make the program that runs the model of a .cwb file, and count what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cerwu_onnx.container.reader import Container
from cerwu_onnx.firmware.export import DECODER_FILES, Addition, Firmware, check_name, decoder_file, export
from cerwu_onnx.firmware.index import scratch_bytes
from cerwu_onnx.firmware.kernels import KernelScales
from cerwu_onnx.inference import source
from cerwu_onnx.inference.cost import Costs, costs, page
from cerwu_onnx.inference.decoding import pieces, steps
from cerwu_onnx.inference.generator import generate
from cerwu_onnx.inference.layers import layers_of
from cerwu_onnx.inference.measured import code_bytes
from cerwu_onnx.inference.memory import plan
from cerwu_onnx.inference.prepared import prepare
from cerwu_onnx.inference.split import merged, split


def export_program(
    container: Container, name: str, scales: Mapping[str, KernelScales] | None, *, decoder: bool, once: bool
) -> tuple[Firmware, Costs]:
    """Make the C sources of a file, and those that run its model, with all that this costs.

    Args and errors as for :func:`cerwu_onnx.firmware.export.export` and :func:`program_of`.
    """
    made = program_of(container, name, once=once)
    files = {path: decoder_file(path) for path in DECODER_FILES}
    layers = layers_of(container)
    files |= export(container, name, addition=made.addition, layers=layers).files
    whole = code_bytes(files, [f"{name}.c", f"{name}_run.c", "cwb.c"], [f"{name}_run", f"{name}_start"])
    plain = code_bytes({"plain.c": made.plain.encode()}, ["plain.c"], ["model"])
    found = replace(
        made.costs,
        code=None if whole is None else whole - made.costs.coded - made.costs.constants,
        plain_code=None if plain is None else plain - made.costs.plain,
    )
    addition = replace(made.addition, readme=page(name, found, once=once))
    return export(container, name, scales, decoder=decoder, layers=layers, addition=addition), found


@dataclass(frozen=True, slots=True)
class Inference:
    """A program.

    Attributes:
        addition: its sources.
        costs: what it costs.
        plain: what the generator wrote: a program with all weights as floats.
    """

    addition: Addition
    costs: Costs
    plain: str


def program_of(container: Container, name: str, *, once: bool = False) -> Inference:
    """Make the program that runs a model.

    Args:
        container: the file.
        name: the model's name in C.
        once: decode all weights at the start, instead of those of each layer before it runs.

    Raises:
        UsageError: the name does not fit, the generator is missing, or the file has no graph.
        GeneratorError: the generator is of a version that was not tried, or writes what is not known.
        ModelError: the generator refuses the model, or its shapes are open.
        CorruptFileError: the file is damaged.
    """
    check_name(name)
    prepared = prepare(container)
    plain = generate(prepared)
    orders = {record.name: record.order for record in container.tensors}
    tiled = split(prepared, plain, orders)
    programs = (merged(generate(tiled), plain), plain)
    names = {prepared.coded[place][0] for place in plain.coded.values()}
    records = [record for record in container.tensors if record.name in names]
    numbered = {record.name: (index, record) for index, record in enumerate(records)}
    scratch = max(map(scratch_bytes, records)) + max(steps(record)[0] for record in records)
    decoded, plans = [], []
    for program, kept in zip(programs, (False, True), strict=True):
        arrays = {array: numbered[prepared.coded[place][0]] for array, place in program.coded.items()}
        decoded.append(pieces(program, arrays))
        plans.append(plan(program, decoded[-1], scratch, once=kept))
    program, arena = programs[once], plans[once]
    labels = {
        call.function: " ".join([call.op, *(piece.name for piece in decoded[once][call.function])])
        for call in program.calls
    }
    text = source.source(name, program, decoded[once], arena, labels, once=once)
    found = costs(prepared.model, plain, plans, records, scratch)
    return Inference(
        Addition(
            tensors=frozenset(names),
            header=source.header(name, program, arena, once=once),
            files={f"{name}_run.c": text.encode()},
            readme=page(name, found, once=once),
        ),
        found,
        plain.whole,
    )
