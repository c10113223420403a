"""Grids of activations for int8 kernels: which values share one, and what range the calibration data gives each.

A layer's output is quantised behind what a kernel does on the way: it adds the bias, and clamps to the limits of Relu
or Clip. Pools, and nodes that only move elements, keep the grid of what they read. A range reaches from the least to
the greatest value of the data, and contains 0, which int8 represents exactly; it is divided into 255 steps.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from cerwu_onnx.calibration import Source
from cerwu_onnx.calibration.collect import open_session, run_session
from cerwu_onnx.errors import CalibrationError, UsageError
from cerwu_onnx.firmware.index import fits_int8
from cerwu_onnx.firmware.kernels import KernelScales
from cerwu_onnx.model.tensors import attributes_of, constant_tensors
from cerwu_onnx.opened import CompressedModel

BATCH = 16
"""Samples per run of the model."""

_KEEP = {"AveragePool", "Concat", "Dropout", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool"}
_KEEP |= {"Pad", "ReduceMean", "Relu", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators whose kernels write in the grid that they read."""


@dataclass(frozen=True, slots=True)
class Int8Layer:
    """A node whose weight a kernel reads as int8.

    Attributes:
        weight: its tensor.
        axis: the weight's axis of outputs.
        input, output: the values that the kernel reads and writes.
        bias: the tensor that it adds, if any.
        limits: the least and the greatest output.
    """

    weight: str
    axis: int
    input: str
    output: str
    bias: str | None
    limits: tuple[float, float]


def kernel_scales(compressed: CompressedModel, source: Source) -> tuple[dict[str, KernelScales], dict[str, str]]:
    """Choose the grids of the inputs and outputs of a file's int8 layers.

    Args:
        compressed: the file.
        source: data whose least and greatest activations become the ranges.

    Returns:
        The grids by weight, in the order in which the graph runs, and a reason for each Conv, Gemm and MatMul that has
        none.

    Raises:
        UsageError: the file holds no graph, or no layer fits.
        CalibrationError: the data does not fit the model, or an activation holds NaN or infinity.
        CorruptFileError: the file is damaged.
    """
    model = compressed.to_onnx()
    layers, left = int8_layers(model, compressed)
    if not layers:
        raise UsageError("no layer of this file fits int8 kernels: [layers] with bits = 8 keeps symbols small enough")
    groups = _shared_grids(model, {layer.output for layer in layers})
    wanted = {group for layer in layers for name in (layer.input, layer.output) for group in [groups.get(name, name)]}
    values = sorted({name for name, group in groups.items() if group in wanted} | wanted)
    ranges = _measure(model, values, source)
    grids = {}
    for group in wanted:
        members = [name for name in values if groups.get(name, name) == group]
        grids[group] = grid(min(ranges[name][0] for name in members), max(ranges[name][1] for name in members))
    found = {}
    for layer in layers:
        (read, read_zero), (written, written_zero) = (
            grids[groups.get(name, name)] for name in (layer.input, layer.output)
        )
        least, greatest = (int(np.clip(np.rint(written_zero + end / written), -128, 127)) for end in layer.limits)
        found[layer.weight] = KernelScales(
            read, written, layer.bias, layer.axis, read_zero, written_zero, least, greatest
        )
    return found, left


def grid(least: float, greatest: float) -> tuple[float, int]:
    """Scale, a float32, and zero point of the int8 grid that covers a range and 0; (1, 0) if there is nothing else.

    Steps below the smallest normal float32 count as nothing: they have too few digits for a grid.
    """
    low, high = min(least, 0.0), max(greatest, 0.0)
    scale = float(np.float32((high - low) / 255))
    if scale < np.finfo(np.float32).tiny:
        return 1.0, 0
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def int8_layers(model: onnx.ModelProto, compressed: CompressedModel) -> tuple[list[Int8Layer], dict[str, str]]:
    """The layers that int8 kernels compute, in the order of the graph, and a reason for each that they cannot."""
    constants, readers = constant_tensors(model), _readers(model)
    records = {record.name: record for record in compressed.container.tensors if record.is_coded}
    layers: list[Int8Layer] = []
    left: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or not records.keys() & set(node.input[:2]):
            continue
        first, second = node.input[:2]
        weight = second if second in records else first
        given = attributes_of(node)
        if not fits_int8(records[weight]):
            left[weight] = "its symbols do not fit int8"
        elif first in constants or len(constants[weight].dims) not in ((4,) if node.op_type == "Conv" else (2,)):
            left[weight] = f"no kernel computes this {node.op_type}"
        elif weight in {layer.weight for layer in layers}:
            left[weight] = "several nodes use it"
        elif given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1 or given.get("transA", 0):
            left[weight] = "its Gemm scales or transposes"
        else:
            bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
            output = node.output[0]
            following = _only_reader(output, readers)
            if node.op_type == "MatMul" and following is not None and following.op_type == "Add":
                added = [name for name in following.input if name in constants]
                if added and list(constants[added[0]].dims) == [constants[weight].dims[1]]:
                    bias, output = added[0], following.output[0]
            limits = (-np.inf, np.inf)
            following = _only_reader(output, readers)
            clamp = None if following is None else _limits(following, constants)
            if following is not None and clamp is not None:
                output, limits = following.output[0], clamp
            axis = 0 if node.op_type == "Conv" or given.get("transB", 0) else 1
            layers.append(Int8Layer(weight, axis, first, output, bias, limits))
    return [layer for layer in layers if layer.weight not in left], left


def _limits(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> tuple[float, float] | None:
    """What a Relu or Clip clamps to; None for another node, or limits that are computed."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type != "Clip" or not set(filter(None, node.input[1:])) <= constants.keys():
        return None
    given = attributes_of(node)
    ends = [given.get("min", -np.inf), given.get("max", np.inf)]
    for index, name in enumerate(node.input[1:]):
        if name:
            ends[index] = numpy_helper.to_array(constants[name]).max(initial=-np.inf)
    return (float(ends[0]), float(ends[1])) if ends[0] <= ends[1] else None


def _readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto | None]]:
    """Who reads each value; None stands for the caller of the model."""
    found: dict[str, list[onnx.NodeProto | None]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    for value in model.graph.output:
        found.setdefault(value.name, []).append(None)
    return found


def _only_reader(name: str, readers: dict[str, list[onnx.NodeProto | None]]) -> onnx.NodeProto | None:
    reading = readers.get(name, [])
    return reading[0] if len(reading) == 1 else None


def _shared_grids(model: onnx.ModelProto, written: Container[str]) -> dict[str, str]:
    """The values that share a grid, by name: the first of them stands for all. Kernels write ``written``."""
    constants = constant_tensors(model)
    found: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type not in _KEEP or node.output[0] in written:
            continue
        names = [name for name in (*node.input, node.output[0]) if name and name not in constants]
        if node.op_type != "Concat":
            names = [names[0], node.output[0]]
        groups = {found.get(name, name) for name in names}
        first = found.get(names[0], names[0])
        found |= {name: first for name, group in found.items() if group in groups}
        found |= dict.fromkeys(names, first)
    return found


def _measure(model: onnx.ModelProto, values: Iterable[str], source: Source) -> dict[str, tuple[float, float]]:
    """The least and the greatest element of each value over the data."""
    inputs = {value.name for value in model.graph.input}
    fetched = [name for name in values if name not in inputs]
    session = open_session(model, fetched)
    found = dict.fromkeys(values, (np.inf, -np.inf))
    for feed in source.batches(BATCH):
        arrays = {**feed, **run_session(session, fetched, feed)}
        for name, (least, greatest) in found.items():
            with np.errstate(over="ignore"):
                array = np.asarray(arrays[name], np.float32)
            if not np.isfinite(array).all():
                raise CalibrationError(f"the value {name!r} holds NaN or infinity for some sample")
            found[name] = float(array.min(initial=least)), float(array.max(initial=greatest))
    if np.inf in (least for least, _ in found.values()):
        raise CalibrationError("the calibration data holds no sample")
    return found
