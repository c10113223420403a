"""``verify --against``: the tensors of a .cwb file beside those of the model it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from cerwu_onnx.container.format import ElementType
    from cerwu_onnx.runtime import CompressedModel


@dataclass(frozen=True, slots=True)
class Exactness:
    """What the comparison found.

    Attributes:
        quantised: weights stored as symbols; only their shapes are compared.
        parameters: biases and BatchNormalization parameters stored as symbols, likewise.
        identical: tensors stored exactly, bit-identical to the original's.
        folded: tensors that differ or are gone, which folding BatchNormalization explains.
        differing: tensors that differ or are gone, without that excuse.
        problems: a sentence about each of those.
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
    from cerwu_onnx.graph import load_model
    from cerwu_onnx.skeleton import container_tensors, stored_tensor

    tensors = container_tensors(load_model(original))
    absent = dict.fromkeys(tensors)
    coded_parameters = compressed.parameters
    quantised = parameters = identical = 0
    found: dict[str, str] = {}
    misfits: dict[str, str] = {}
    for record in compressed.container.tensors:
        name = record.name
        if name not in absent:
            found[name] = f"tensor {name!r} is not in {original}"
            continue
        del absent[name]
        element, values = stored_tensor(tensors[name])
        if (element, values.shape) != (record.element, record.shape):
            misfits[name] = f"tensor {name!r} has another shape or type than in {original}: {record.shape}"
        elif name in coded_parameters:
            parameters += 1
        elif record.is_coded:
            quantised += 1
        elif _bits(values, record.element) == compressed.container.payload(record):
            identical += 1
        else:
            found[name] = f"tensor {name!r} is stored exactly and differs from the one in {original}"
    found |= {name: f"tensor {name!r} of {original} is missing" for name in absent}
    folded: tuple[str, ...] = ()
    if compressed.metadata.get("folded"):  # folding changes and adds biases, removes scales, reshapes nothing
        folded, found = tuple(found), {}
    misfits |= found
    return Exactness(quantised, parameters, identical, folded, tuple(misfits), tuple(misfits.values()))


def _bits(values: npt.NDArray[Any], element: ElementType) -> bytes:
    """The payload that holds ``values`` exactly."""
    import numpy as np

    from cerwu_onnx.container.format import STORAGE

    return np.ascontiguousarray(values, STORAGE[element]).tobytes()
