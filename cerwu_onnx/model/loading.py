"""Read and check an ONNX file: weights move to the main graph, and large external data stays in its file."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from cerwu_onnx.container.format import MAGIC
from cerwu_onnx.errors import ModelError, UsageError, first_line, raise_if_out_of_memory
from cerwu_onnx.jobs.inputs import reading
from cerwu_onnx.model.elements import elsewhere, raw_bytes, storage_dtype
from cerwu_onnx.model.inline import flattened
from cerwu_onnx.model.sessions import loads
from cerwu_onnx.model.tensors import (
    MAX_BYTES,
    all_messages,
    all_tensors,
    subgraph_reads,
    tensor_bytes,
    without_initializers,
)

log = logging.getLogger(__name__)

LAZY = 1 << 16
"""External data of at least so many bytes stays in its file until it is needed."""

_LARGE = 1 << 20
"""Tensors of at least so many bytes are hidden from onnx.checker, which would copy them."""


def load_model(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Read and check an ONNX file.

    Weights inside bodies and local functions become initializers of the main graph
    (:mod:`cerwu_onnx.model.inline`). Small tensors stored beside the file become part of the result; large initializers
    stay where they are, with absolute paths, and :func:`cerwu_onnx.model.elements.raw_bytes` reads them.

    Raises:
        UsageError: there is no such file.
        ModelError: it is not a valid ONNX model, or refers to external data that is missing or lies outside its folder.
    """
    file = Path(path)
    if not file.exists():
        raise UsageError(f"{file}: no such file")
    if not file.is_file():
        raise UsageError(f"{file}: is not a file (give the .onnx file itself)")
    if file.stat().st_size > MAX_BYTES:
        raise ModelError(f"{file}: ONNX files cannot have 2 GB and more: save the model with external data")
    model = onnx.ModelProto()
    reading(file)
    content = file.read_bytes()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise_if_out_of_memory(error)
        if content.startswith(MAGIC):
            raise ModelError(f"{file}: not an ONNX model but a .cwb file") from error
        raise ModelError(
            f"{file}: not an ONNX model, or only a part of one (protobuf does not parse); export it to ONNX first"
        ) from error
    if not model.HasField("graph") or not model.ir_version:
        raise ModelError(f"{file}: not an ONNX model (it holds no graph)")
    _check_messages(model, file)
    _find_external(model, file)
    _check(model, file)
    return flattened(model)


def model_size(path: str | os.PathLike[str]) -> int:
    """Bytes of a valid ONNX file and of the external data that it refers to."""
    model = onnx.ModelProto()
    model.ParseFromString(Path(path).read_bytes())
    outside = (tensor for tensor in all_tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL)
    return Path(path).stat().st_size + sum(tensor_bytes(tensor) for tensor in outside)


def file_digest(path: str | os.PathLike[str]) -> str:
    """The first 16 digits of the SHA-256 of a valid ONNX file, and of the tensors that it keeps in other files."""
    content = Path(path).read_bytes()
    digest = hashlib.sha256(content)
    if b"location" in content:  # the key that external data needs
        model = onnx.ModelProto.FromString(content)
        for tensor in all_tensors(model):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                source, offset, size = _located(tensor, Path(path), f"{path}: tensor {tensor.name!r}")
                with source.open("rb") as stream:
                    stream.seek(offset)
                    while size and (block := stream.read(min(size, 1 << 20))):
                        digest.update(block)
                        size -= len(block)
    return digest.hexdigest()[:16]


def _check_messages(model: onnx.ModelProto, file: Path) -> None:
    """Refuse faults that protobuf and some versions of onnx.checker accept: texts that are not UTF-8, odd tensors."""
    for message in all_messages(model):
        if isinstance(message, onnx.TensorProto) and (fault := _fault(message)):
            raise ModelError(f"{file}: tensor {message.name!r} has {fault}")
        for word in _words(message):
            if isinstance(word, bytes):
                raise ModelError(f"{file}: {word[:80]!r} is not UTF-8: the file is damaged")


def _fault(tensor: onnx.TensorProto) -> str:
    """The fault of a tensor, in words; empty if it has none."""
    if tensor.data_type not in onnx.TensorProto.DataType.values():
        return f"the element type {tensor.data_type}, which ONNX does not know"
    if any(size < 0 for size in tensor.dims):
        return f"a negative dimension: {list(tensor.dims)}"
    if tensor.HasField("raw_data") and len(tensor.raw_data) != tensor_bytes(tensor):
        return f"{len(tensor.raw_data):,} bytes for the {tensor_bytes(tensor):,} that its shape takes"
    return ""


def _words(message: Any) -> Iterator[str | bytes]:
    """The texts of a message; as bytes if they are not UTF-8."""
    if isinstance(message, onnx.TensorProto):  # reading all of its fields would copy its elements
        yield message.name
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            yield from (value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,))


def _check(model: onnx.ModelProto, file: Path) -> None:
    """Check everything with onnx.checker but the elements of large initializers; their number is checked here.

    The checker refuses models that onnxruntime runs: with operators that only onnxruntime knows in ONNX's own domain,
    or a graph without a name. What onnxruntime loads is not refused.
    """
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"{file}: written in ONNX IR version {model.ir_version}; the installed onnx {onnx.__version__} "
            f"knows versions up to {onnx.IR_VERSION} (pip install -U onnx)"
        )
    large = {}
    for tensor in model.graph.initializer:
        size = tensor_bytes(tensor)
        if elsewhere(tensor) or (size >= _LARGE and len(tensor.raw_data) == size):
            large[tensor.name] = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
    shown = without_initializers(model, large)
    inputs = {value.name for value in shown.graph.input}
    shown.graph.input.extend(info for name, info in large.items() if name not in inputs)
    for value in shown.graph.output:  # the checker wants a shape, onnxruntime does not
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(shown)
    except onnx.checker.ValidationError as error:
        if not (_is_sorted(model.graph) and loads(model)):
            raise ModelError(f"{file}: onnx.checker refuses the model: {first_line(error)}") from error
        log.info("%s: onnx.checker refuses the model, but onnxruntime loads it: %s", file, first_line(error))
    except ValueError as error:
        raise ModelError(f"{file}: more than 2 GB outside of initializers cannot be read") from error


def _is_sorted(graph: onnx.GraphProto) -> bool:
    """Whether no node reads what a later one computes: onnxruntime sorts nodes itself, the analysis does not."""
    later = {name for node in graph.node for name in node.output}
    for node in graph.node:
        if not later.isdisjoint({*node.input, *subgraph_reads(node)} - {""}):
            return False
        later.difference_update(node.output)
    return True


def _find_external(model: onnx.ModelProto, file: Path) -> None:
    """Find all external data, which must be below the model's folder, and load the small tensors."""
    for tensor in all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            source, offset, size = _located(tensor, file, f"{file}: tensor {tensor.name!r}")
            del tensor.external_data[:]
            for key, value in (("location", source), ("offset", offset), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
    others = (*model.graph.node, *model.graph.sparse_initializer, *model.functions, *model.training_info)
    inside = (message for part in others for message in all_messages(part) if isinstance(message, onnx.TensorProto))
    for tensor in (*inside, *(tensor for tensor in model.graph.initializer if not _may_wait(tensor))):
        if elsewhere(tensor):
            raw = raw_bytes(tensor)
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            tensor.raw_data = raw


def _is_utf8(text: str) -> bool:
    """Whether a name of the file system is text: bytes that are none stand in it as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _may_wait(tensor: onnx.TensorProto) -> bool:
    """Whether an initializer may stay in its file."""
    return tensor_bytes(tensor) >= LAZY and storage_dtype(tensor.data_type) is not None


def _located(tensor: onnx.TensorProto, file: Path, what: str) -> tuple[Path, int, int]:
    """File, offset and size of external data of a model's file.

    Raises:
        ModelError: there is no such data, or it lies outside the model's folder and its cache.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    try:
        found = [(folder / location).resolve() for folder in (file.parent.resolve(), file.resolve().parent)]
        inside = [source for source in found if location and _may_read(file, location, source)]
        source = next((source for source in inside if source.is_file()), None)
    except (OSError, ValueError, RuntimeError):  # a name that is too long or holds a NUL, links in a circle
        raise ModelError(f"{what}: its external data {location[:80]!r} cannot be a file") from None
    if not inside:
        raise ModelError(f"{what}: its external data {location!r} lies outside the model's folder")
    if source is not None and not _is_utf8(str(source)):
        raise UsageError(
            f"{what}: the path of its external data is no UTF-8, which ONNX cannot hold: rename the folder"
        )
    if source is None:
        raise ModelError(f"{what}: its external data file {location!r} is missing beside the model")
    reading(source)
    size = tensor_bytes(tensor)
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size))
    except ValueError:
        raise ModelError(f"{what}: the offset or length of its external data is not a number") from None
    if size < 0 or length != size or offset < 0 or offset + size > source.stat().st_size:
        raise ModelError(
            f"{what}: needs {size} bytes, but {location!r} does not hold them (offset {offset}, "
            f"length {length}, file of {source.stat().st_size} bytes)"
        )
    return source, offset, size


def _may_read(file: Path, location: str, source: Path) -> bool:
    """Whether a model's file may name a file as its external data.

    That is one below its own folder, also by links. In a cache of Hugging Face, a snapshot's files are links to files
    in the folder ``blobs`` beside ``snapshots``, and these may be read, too.

    Args:
        file: the model's file; if it is a link, the folder of its target counts as well.
        location: what the model says.
        source: where that leads in the end.
    """
    folder = file.parent.resolve()
    if source.is_relative_to(folder) or source.is_relative_to(file.resolve().parent):
        return True
    if Path(location).is_absolute() or ".." in Path(location).parts:
        return False
    caches = (parent.parent for parent in (folder, *folder.parents) if parent.name == "snapshots")
    return any(source.parent == cache / "blobs" for cache in caches)
