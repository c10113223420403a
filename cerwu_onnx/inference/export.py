"""Make the program that runs the model of a .cwb file, and count what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from cerwu_onnx.container.reader import Container
from cerwu_onnx.firmware.export import Addition, check_name
from cerwu_onnx.firmware.index import scratch_bytes
from cerwu_onnx.inference import source
from cerwu_onnx.inference.cost import Costs, costs, page
from cerwu_onnx.inference.generator import generate
from cerwu_onnx.inference.memory import plan
from cerwu_onnx.inference.prepared import prepare


@dataclass(frozen=True, slots=True)
class Inference:
    """A program, and what it costs."""

    addition: Addition
    costs: Costs


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
    program = generate(prepared)
    decoded = {prepared.coded[place][0] for place in program.coded.values()}
    records = [record for record in container.tensors if record.name in decoded]
    numbers = {record.name: source.weight(index, record) for index, record in enumerate(records)}
    weights = {place: numbers[prepared.coded[place][0]] for place in program.coded.values()}
    sizes = {array: 4 * weights[place].count for array, place in program.coded.items()}
    scratch = max(map(scratch_bytes, records), default=2)
    plans = [plan(program, sizes, scratch, once=each) for each in (False, True)]
    arena = plans[once]
    labels = {}
    for call in program.calls:
        read = [weights[program.coded[array]].name for array in call.arguments if array in program.coded]
        labels[call.function] = " ".join([call.op, *read])
    text = source.source(name, program, weights, arena, labels, once=once)
    found = costs(prepared.model, program, plans, records, scratch)
    return Inference(
        Addition(
            tensors=frozenset(decoded),
            header=source.header(name, program, arena, once=once),
            files={f"{name}_run.c": text.encode()},
            readme=page(name, found, once=once),
        ),
        found,
    )
