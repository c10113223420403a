"""Integer constants of int8 layers for CMSIS-NN's kernels, from the scales that a user gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cerwu_onnx.container import format as f
from cerwu_onnx.container.reader import Container
from cerwu_onnx.errors import UsageError
from cerwu_onnx.firmware.index import fits_int8
from cerwu_onnx.firmware.requantize import integer_bias, requantization

_INT8 = {"input_zero": 0, "output_zero": 0, "output_min": -128, "output_max": 127}
_KEYS = {"input", "output", "bias", "axis", *_INT8}


@dataclass(frozen=True, slots=True)
class KernelScales:
    """The grids of a layer's int8 input and output: an integer q stands for the value ``scale * (q - zero)``.

    Attributes:
        input: scale of the input.
        output: scale of the output.
        bias: name of the tensor that is added, if any.
        axis: the weight's axis of outputs. None takes the last axis if a matrix is stored in that order
            (``AXIS0_LAST``: axis 1), else 0; but where its rows have steps of their own, these may be of inputs, and
            only a bias of another length than that tells.
        input_zero: zero point of the input.
        output_zero: zero point of the output.
        output_min, output_max: the least and the greatest output: the limits of an activation function.
    """

    input: float
    output: float
    bias: str | None = None
    axis: int | None = None
    input_zero: int = 0
    output_zero: int = 0
    output_min: int = -128
    output_max: int = 127


def scales_text(scales: Mapping[str, KernelScales]) -> str:
    """The JSON text that :func:`read_scales` reads."""
    entries = {
        name: {key: value for key, value in asdict(entry).items() if value is not None}
        for name, entry in scales.items()
    }
    return json.dumps(entries, indent=1) + "\n"


def read_scales(path: Path) -> dict[str, KernelScales]:
    """Read the scales in a JSON file: ``{"fc.weight": {"input": 0.05, "output": 0.1, "bias": "fc.bias"}}``.

    Raises:
        UsageError: the file cannot be read, or does not have this form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a JSON object of weights")
    return {name: _scales(f"{path}: {name}", entry) for name, entry in content.items()}


def kernel_constants(container: Container, scales: Mapping[str, KernelScales]) -> dict[str, dict[str, tuple[int, ...]]]:
    """The constants by weight: ``multiplier``, ``shift`` and, if there is one, ``bias``, each one int32 per output.

    Raises:
        UsageError: a name is not a coded tensor whose symbols fit int8, a bias does not fit the weight, or a
            scale is out of range.
        CorruptFileError: a bias is damaged.
    """
    records = {record.name: record for record in container.tensors}
    constants = {}
    for name, scale in scales.items():
        record = records.get(name)
        if record is None or not record.is_coded:
            raise UsageError(f"scales of {name!r}: the file has no coded tensor of that name (inspect lists them)")
        if not fits_int8(record):
            raise UsageError(f"scales of {name!r}: its symbols do not fit int8: compress with fewer --levels")
        steps = output_steps(container, record, scale)
        rescale = requantization(steps, scale.input, scale.output)
        constants[name] = {"multiplier": rescale.multipliers, "shift": rescale.shifts}
        if scale.bias is not None:
            constants[name]["bias"] = integer_bias(
                _bias(container, records, name, scale.bias, len(steps)), steps, scale.input
            )
    return constants


def output_steps(container: Container, record: f.Record, scale: KernelScales) -> tuple[float, ...]:
    """The step of each output of a weight.

    Raises:
        UsageError: the weight does not have this axis, nothing tells which axis counts outputs, or the weights of an
            output have several steps.
        CorruptFileError: exponents are damaged.
    """
    axis = scale.axis
    if axis is None:
        untold = len(record.shape) == 2 and (scale.bias is None or record.shape[0] == record.shape[1])
        if untold and record.stepped:
            raise UsageError(f"scales of {record.name!r}: its rows may be outputs or inputs: give the axis of outputs")
        axis = 1 if record.order == f.Order.AXIS0_LAST and len(record.shape) == 2 else 0
    if not 0 <= axis < len(record.shape):
        raise UsageError(f"scales of {record.name!r}: axis {axis} is out of range for shape {record.shape}")
    steps = np.moveaxis(np.broadcast_to(container.steps(record), record.shape), axis, 0)
    steps = steps.reshape(record.shape[axis], -1)
    if np.ptp(steps, axis=1).any():
        raise UsageError(
            f"scales of {record.name!r}: weights of equal index on axis {axis} have several steps; "
            "give the axis of outputs, or compress with --weight-layout cmsis"
        )
    return tuple(steps[:, 0].tolist())


def _bias(
    container: Container, records: Mapping[str, f.Record], weight: str, name: str, outputs: int
) -> tuple[float, ...]:
    """The values of a bias: a coded tensor, or an exact one of type float32, float16 or float64."""
    record = records.get(name)
    if record is None or record.element is f.ElementType.BFLOAT16 or record.count != outputs:
        raise UsageError(f"scales of {weight!r}: {name!r} is not a float tensor of {outputs} elements")
    return tuple(np.asarray(container.decode(record), np.float64).ravel().tolist())


def _scales(where: str, entry: Any) -> KernelScales:
    """One entry of the JSON file, with its types checked."""
    if not isinstance(entry, dict) or not {"input", "output"} <= entry.keys() <= _KEYS:
        raise UsageError(f"{where}: give input and output, and optionally bias, axis, {', '.join(_INT8)}")
    numbers = [entry["input"], entry["output"]]
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
        raise UsageError(f"{where}: input and output must be numbers")
    bias, axis = entry.get("bias"), entry.get("axis")
    if not isinstance(bias, (str, type(None))) or not isinstance(axis, (int, type(None))) or isinstance(axis, bool):
        raise UsageError(f"{where}: bias must be a tensor's name, and axis a number")
    integers = {key: entry.get(key, default) for key, default in _INT8.items()}
    if not all(type(value) is int and -128 <= value <= 127 for value in integers.values()):
        raise UsageError(f"{where}: {', '.join(_INT8)} must be whole numbers from -128 to 127")
    try:
        return KernelScales(float(numbers[0]), float(numbers[1]), bias, axis, **integers)
    except OverflowError:
        raise UsageError(f"{where}: input or output exceeds every float") from None
