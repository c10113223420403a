"""A .cwb file as a plain ONNX model whose weights are integers behind DequantizeLinear.

A coded weight is ``step * q`` for integers q: just what DequantizeLinear computes of a scale and integers, by the same
multiplication of two float32 numbers. So every weight is, bit for bit, that of the float model which ``decompress``
rebuilds. Where rows have steps of their own, they are the scales of an axis; where these are of more than one axis, a
product with powers of two follows, which is exact. Weights of other types than float32 are cast, which rounds as
``decompress`` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from cerwu_onnx.container.format import Record
from cerwu_onnx.errors import UsageError
from cerwu_onnx.model.references import strings_of
from cerwu_onnx.model.tensors import constant_tensors, tensor_bytes, value_of
from cerwu_onnx.runtime import CompressedModel, coded_tables

WIDTHS = ("auto", "int8", "int4")
"""What may be asked for: the narrowest type that holds a weight, of 4 bits and more, of 8 bits and more, or, of 4 bits
and more, with an error where the model's operator set has no int4."""

_TYPES = {4: (TensorProto.INT4, 21), 8: (TensorProto.INT8, 10), 16: (TensorProto.INT16, 21)}
"""By bits: the element type, and the first operator set whose DequantizeLinear takes it."""

_PER_AXIS = 13
"""The first operator set whose DequantizeLinear has scales of an axis."""

_NODE = 160
"""Bytes that a node, its scale and its names take: less is not worth saving."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What became of a coded weight: its name, its shape, and its type in the file, "int4" to "float64"."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class IntegerModel:
    """The model, and what became of each coded weight."""

    model: onnx.ModelProto
    weights: tuple[Weight, ...]

    def counts(self) -> dict[str, int]:
        """Number of weights by type, the narrowest first."""
        types = ["int4", "int8", "int16"]
        types += sorted({weight.dtype for weight in self.weights} - set(types))
        counts = {dtype: sum(weight.dtype == dtype for weight in self.weights) for dtype in types}
        return {dtype: count for dtype, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Integers:
    """A coded weight as integers: ``steps * symbols``, both of which broadcast to the weight's shape."""

    symbols: npt.NDArray[np.int32]
    steps: npt.NDArray[np.float32]

    @property
    def axes(self) -> list[int]:
        """Axes along which the steps differ."""
        return [axis for axis, length in enumerate(self.steps.shape) if length > 1]


def integer_weights(compressed: CompressedModel, width: str = "auto") -> IntegerModel:
    """Rebuild the model of a file with integer weights where that saves bytes.

    Args:
        compressed: the file.
        width: one of :data:`WIDTHS`.

    Raises:
        UsageError: the file holds no graph, or its operator set is too old for what is asked for.
        CorruptFileError: a check fails.
    """
    return with_integers(compressed.to_onnx(), compressed, width)


def with_integers(model: onnx.ModelProto, compressed: CompressedModel, width: str) -> IntegerModel:
    """Replace the coded weights that a model still has as floats by integers; the model is changed.

    Args:
        model: what :meth:`CompressedModel.to_onnx` rebuilds, or what was made of it.
        compressed: the file.
        width: one of :data:`WIDTHS`.

    Raises:
        UsageError: the operator set is too old for what is asked for.
        CorruptFileError: a check fails.
    """
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    least = _TYPES[4 if width == "int4" else 8][1]
    if opset < least:
        raise UsageError(
            f"the model has operator set {opset}; {least} is the first whose DequantizeLinear takes "
            f"{'int4' if width == 'int4' else 'int8'}: convert the model before you compress it"
        )
    return _replaced(model, compressed, opset, 8 if width == "int8" else 4)


def _replaced(model: onnx.ModelProto, compressed: CompressedModel, opset: int, narrowest: int) -> IntegerModel:
    """Replace coded weights by integers in the model, which is changed."""
    container, tables = compressed.container, coded_tables(compressed.container)
    tensors, taken = constant_tensors(model), strings_of(model)
    if model.ir_version < 4:  # where initializers are inputs, too; now they need not be
        model.ir_version = 4
        overridable: set[str] = set()
        free = set(tensors)
    else:
        overridable = {value.name for value in model.graph.input}
        free = set()
    found, nodes, gone = list[Weight](), list[onnx.NodeProto](), set[str]()
    for record in container.tensors:
        if not record.is_coded or record.name in tables or record.name not in tensors:
            continue
        tensor = tensors[record.name]
        integers = Integers(record.order.restore(container.values(record), record.shape), container.steps(record))
        bits = _bits(record, integers, opset, narrowest)
        if bits is None or bits * record.count // 8 + _NODE >= tensor_bytes(tensor) or record.name in overridable:
            found.append(Weight(record.name, record.shape, TensorProto.DataType.Name(tensor.data_type).lower()))
            continue
        found.append(Weight(record.name, record.shape, f"int{bits}"))
        nodes += _dequantised(model.graph, record.name, tensor.data_type, integers, bits, opset, taken)
        gone.add(record.name)
    _remove(model.graph, gone, free)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    return IntegerModel(model, tuple(found))


def _bits(record: Record, integers: Integers, opset: int, narrowest: int) -> int | None:
    """The fewest bits whose type holds the integers; None if the operator set has none."""
    least, most = int(integers.symbols.min()), int(integers.symbols.max())
    for bits, (_, first) in _TYPES.items():
        if bits >= narrowest and opset >= first and -(1 << bits - 1) <= least and most < 1 << bits - 1:
            return bits
    return None


def _dequantised(
    graph: onnx.GraphProto, name: str, element: int, integers: Integers, bits: int, opset: int, taken: set[str]
) -> Iterator[onnx.NodeProto]:
    """Add initializers, and give the nodes that make a tensor of this name of them."""
    kind = _TYPES[bits][0]
    raw = integers.symbols.ravel()
    if bits == 4:
        halves = np.append(raw, np.zeros(raw.size % 2, np.int32)).astype(np.uint8) & 15
        content = (halves[::2] | halves[1::2] << 4).astype(np.uint8).tobytes()
    else:
        content = raw.astype(f"<i{bits // 8}").tobytes()
    shape, steps, axes = integers.symbols.shape, integers.steps, integers.axes
    per_axis = len(axes) == 1 and opset >= _PER_AXIS
    scale: npt.NDArray[np.float32] = steps.ravel() if per_axis else np.asarray(steps.max(), np.float32)
    stored, scales = _free(f"{name}_int{bits}", taken), _free(f"{name}_step", taken)
    graph.initializer.append(TensorProto(name=stored, data_type=kind, dims=shape, raw_data=content))
    graph.initializer.append(_floats(scales, scale))
    parts: list[tuple[str, list[str], dict[str, Any]]] = [
        ("DequantizeLinear", [scales], {"axis": axes[0]} if per_axis else {})
    ]
    if axes and not per_axis:
        factors = _free(f"{name}_exponents", taken)
        graph.initializer.append(_floats(factors, np.asarray(steps / scale, np.float32)))
        parts.append(("Mul", [factors], {}))
    if element != TensorProto.FLOAT:
        parts.append(("Cast", [], {"to": element}))
    value = stored
    for index, (operator, others, attributes) in enumerate(parts):
        output = name if index == len(parts) - 1 else _free(f"{name}_{operator}", taken)
        yield helper.make_node(operator, [value, *others], [output], name=_free(f"{name}_{index}", taken), **attributes)
        value = output


def _floats(name: str, values: npt.NDArray[np.float32]) -> TensorProto:
    raw = np.ascontiguousarray(values, "<f4").tobytes()
    return TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape, raw_data=raw)


def _free(name: str, taken: set[str]) -> str:
    """The name, made longer until it is not taken; then it is."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _remove(graph: onnx.GraphProto, names: set[str], inputs: set[str]) -> None:
    """Remove initializers and Constant nodes of these names, and inputs that initializers were."""
    initializers = [tensor for tensor in graph.initializer if tensor.name not in names]
    nodes = [node for node in graph.node if value_of(node) is None or not names.intersection(node.output)]
    values = [value for value in graph.input if value.name not in names & inputs]
    for field, left in ((graph.initializer, initializers), (graph.node, nodes), (graph.input, values)):
        del field[:]
        field.extend(left)


__all__ = ["WIDTHS", "IntegerModel", "Weight", "integer_weights"]
