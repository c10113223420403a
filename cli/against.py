"""``verify --against``: compare the tensors of a .cwb file with those of the model that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from cerwu_onnx.runtime import CompressedModel


@dataclass(frozen=True, slots=True)
class Exactness:
    """The result of the comparison.

    Attributes:
        quantised: weights stored as symbols; only their shapes are compared.
        parameters: biases and BatchNormalization parameters stored as symbols; only their shapes are compared.
        identical: tensors stored exactly, bit-identical to the original's.
        folded: tensors that differ or are missing because BatchNormalization was folded.
        differing: tensors that differ or are missing for no such reason.
        problems: one sentence for each of the differing tensors.
    """

    quantised: int
    parameters: int
    identical: int
    folded: tuple[str, ...]
    differing: tuple[str, ...]
    problems: tuple[str, ...]


def compare_tensors(compressed: CompressedModel, original: Path) -> Exactness:
    """Compare names, shapes and, for tensors stored exactly, bits.

    Raises:
        UsageError: ``original`` cannot be read.
        ModelError: it is not a valid ONNX model.
    """
    from cerwu_onnx.model.elements import FLOATS
    from cerwu_onnx.model.graph import load_model
    from cerwu_onnx.model.tensors import constant_tensors

    tensors = constant_tensors(load_model(original))
    rebuilt, complete = _rebuilt(compressed, tensors)
    records = {record.name: record for record in compressed.container.tensors if record.is_coded}
    coded_parameters, tables = compressed.parameters, compressed.tables
    quantised = parameters = identical = 0
    found = {name: f"tensor {name!r} is not in {original}" for name in rebuilt if name not in tensors}
    misfits: dict[str, str] = {}
    for name, tensor in tensors.items():
        ours = rebuilt.get(name)
        if ours is None:
            if complete or tensor.data_type in FLOATS:
                found[name] = f"tensor {name!r} of {original} is missing"
        elif (ours.data_type, ours.dims) != (tensor.data_type, tensor.dims):
            misfits[name] = f"tensor {name!r} has another shape or type than in {original}: {tuple(ours.dims)}"
        elif name in coded_parameters:
            parameters += 1
        elif name in records and name not in tables:
            quantised += 1
        elif _bits(ours) == _bits(tensor):
            identical += 1
        else:
            found[name] = f"tensor {name!r} is stored exactly and differs from the one in {original}"
    folded: tuple[str, ...] = ()
    if compressed.metadata.get("folded"):  # folding changes and adds biases, removes scales, reshapes nothing
        folded, found = tuple(found), {}
    misfits |= found
    return Exactness(quantised, parameters, identical, folded, tuple(misfits), tuple(misfits.values()))


def _rebuilt(
    compressed: CompressedModel, original: Mapping[str, onnx.TensorProto]
) -> tuple[dict[str, onnx.TensorProto], bool]:
    """The tensors of the decompressed model by name, and whether these are all of them.

    A file without a graph gives only those of its directory, coded ones in the original's type.
    """
    import onnx

    from cerwu_onnx.container.format import Kind
    from cerwu_onnx.model.placeholders import fill_coded, placeholder
    from cerwu_onnx.model.tensors import constant_tensors

    if any(record.kind == Kind.GRAPH for record in compressed.container.records):
        return constant_tensors(compressed.to_onnx()), True
    found = {}
    for record in compressed.container.tensors:
        values = compressed.container.decode(record)
        tensor = onnx.TensorProto(data_type=record.element, dims=record.shape, raw_data=values.tobytes())
        if record.is_coded and record.name in original:
            tensor = placeholder(original[record.name])
            tensor.data_type = original[record.name].data_type
            tensor.raw_data = fill_coded(tensor, values)
        found[record.name] = tensor
    return found, False


def _bits(tensor: onnx.TensorProto) -> object:
    """The elements of a tensor, in a form that can be compared."""
    import onnx

    from cerwu_onnx.model.elements import raw_bytes

    return list(tensor.string_data) if tensor.data_type == onnx.TensorProto.STRING else raw_bytes(tensor)
