"""The tensors and the model that a .cwb file gives back, where the original model is at hand."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from cerwu_onnx.container.reader import Container
from cerwu_onnx.errors import CheckFailed
from cerwu_onnx.model.elements import raw_bytes
from cerwu_onnx.model.fold import fold_batch_norm
from cerwu_onnx.model.placeholders import fill_coded, placeholder
from cerwu_onnx.model.tensors import constant_tensors


def directory_tensors(container: Container, original: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The tensors of a file's directory by name; coded ones have the element type that the original gives them.

    Raises:
        CheckFailed: the original gives a coded tensor another type or size.
        CorruptFileError: a check of a tensor fails.
    """
    tensors, found = constant_tensors(original), {}
    for record in container.tensors:
        values = container.decode(record)
        tensor = onnx.TensorProto(data_type=record.element, dims=record.shape, raw_data=values.tobytes())
        if record.is_coded and record.name in tensors:
            tensor = placeholder(tensors[record.name])
            tensor.data_type = tensors[record.name].data_type
            try:
                tensor.raw_data = fill_coded(tensor, values)
            except ValueError as error:
                raise CheckFailed(f"tensor {record.name!r} does not fit the model: {error}") from None
        found[record.name] = tensor
    return found


def with_directory(container: Container, original: onnx.ModelProto) -> onnx.ModelProto:
    """The original model with the tensors of a file that has no graph of its own.

    Args:
        container: the file.
        original: the model that it was made from, after :func:`fold_again`.

    Raises:
        CheckFailed: the file has a tensor that the original lacks, or that has another type or shape there.
        CorruptFileError: a check of a tensor fails.
    """
    model = onnx.ModelProto()
    model.CopyFrom(original)
    found, tensors = directory_tensors(container, model), constant_tensors(model)
    for name, tensor in found.items():
        own = tensors.get(name)
        if own is None or (own.data_type, own.dims) != (tensor.data_type, tensor.dims):
            raise CheckFailed(f"the model has no tensor {name!r} of shape {tuple(tensor.dims)}: the file is of another")
        own.CopyFrom(tensor)
        own.name = name
    return model


def fold_again(model: onnx.ModelProto, container: Container) -> onnx.ModelProto:
    """Fold the BatchNormalization that was folded when a file was made of a model; the model itself if none was.

    A layer that the file keeps with all its bits was left alone then.
    """
    count = container.metadata().get("folded")
    if not count:
        return model
    folded, names = fold_batch_norm(model)
    if len(names) == count:
        return folded
    exact = {record.name: record for record in container.tensors if not record.is_coded}
    same = {
        name
        for name, tensor in constant_tensors(model).items()
        if name in exact and container.decode(exact[name]).tobytes() == raw_bytes(tensor)
    }
    return fold_batch_norm(model, same)[0]


def by_value(ours: Mapping[str, onnx.TensorProto], theirs: Mapping[str, onnx.TensorProto]) -> dict[str, str]:
    """Find tensors that have lost their names.

    Returns:
        For names of ``theirs`` that ``ours`` lacks, the name of an equal tensor of ``ours``, where there is one that
        stands for no other.
    """
    free: dict[object, list[str]] = {}
    for name, tensor in ours.items():
        if name not in theirs:
            free.setdefault(content(tensor), []).append(name)
    found = {}
    for name, tensor in theirs.items():
        if name not in ours and (equal := free.get(content(tensor))):
            found[name] = equal.pop()
    return found


def content(tensor: onnx.TensorProto) -> object:
    """Type, shape and elements of a tensor, in a form that can be compared."""
    text = tensor.data_type == onnx.TensorProto.STRING
    return tensor.data_type, tuple(tensor.dims), tuple(tensor.string_data) if text else raw_bytes(tensor)
