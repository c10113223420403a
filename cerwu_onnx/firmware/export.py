"""Export a .cwb file as C sources: the file as an array, an index of its tensors, the decoder and a memory table.

The array leaves out the packed sections, which the C decoder cannot use; payloads keep their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cerwu_onnx
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.container.reader import Container
from cerwu_onnx.errors import UsageError
from cerwu_onnx.firmware import c_source, texts
from cerwu_onnx.firmware.index import FirmwareTensor, firmware_tensors
from cerwu_onnx.firmware.kernels import KernelScales, kernel_constants
from cerwu_onnx.firmware.layers import Layer, grid_text, kernel_kinds, layer_text
from cerwu_onnx.jobs.files import check_target, write_atomic

DECODER_FILES = ("cwb.h", "cwb.c")
"""The decoder, in the folder decoder_c of the package."""


@dataclass(frozen=True, slots=True)
class Addition:
    """What a program that uses the tensors adds to the sources.

    Attributes:
        tensors: names of the tensors that it decodes: no others are in the array.
        header: text for the model's header.
        files: contents by file name.
        readme: text for the page.
    """

    tensors: frozenset[str]
    header: str
    files: Mapping[str, bytes]
    readme: str


@dataclass(frozen=True, slots=True)
class Firmware:
    """C sources of a model.

    Attributes:
        name: its name in C.
        files: contents by file name.
        tensors: the index.
        flash: bytes of the array.
        scratch: bytes of scratch memory for the tensor that needs most.
    """

    name: str
    files: Mapping[str, bytes]
    tensors: tuple[FirmwareTensor, ...]
    flash: int
    scratch: int


def export(
    container: Container,
    name: str,
    scales: Mapping[str, KernelScales] | None = None,
    *,
    decoder: bool = True,
    layers: Sequence[Layer] = (),
    addition: Addition | None = None,
) -> Firmware:
    """Make the C sources of a file.

    Args:
        container: the file.
        name: the model's name in C: letters, digits and underscores.
        scales: input and output scales by tensor, for int8 kernels.
        decoder: whether the decoder's sources are among the files.
        layers: what the header says of the layers, in the order in which the graph runs.
        addition: a program that uses the tensors.

    Raises:
        UsageError: ``name`` is no identifier, means something in C or C++ or is the decoder's own, a scale does not
            fit, or this install lacks the decoder's sources.
        CorruptFileError: the file is damaged. Every tensor is decoded to find out, because nothing checks the bytes
            again before they are in flash.
    """
    check_name(name)
    for record in container.tensors:
        container.decode(record)
    if addition is not None:
        container = only(container, addition.tensors)
    data = without_packed_sections(container)
    tensors = firmware_tensors(container)
    scratch = max((tensor.scratch for tensor in tensors), default=0)
    constants = kernel_constants(container, scales or {})
    by_name = {tensor.name: tensor.identifier for tensor in tensors}
    arrays = {
        f"{name}_{kind}_{by_name[tensor].lower()}": values
        for tensor, kinds in constants.items()
        for kind, values in kinds.items()
    }
    more = layer_text(name, layers, by_name) + grid_text(name, scales or {}, kernel_kinds(layers), by_name)
    more += addition.header if addition else ""
    about = texts.readme(name, data, tensors, scratch, arrays, runs=addition is not None)
    files = {
        f"{name}.h": texts.header(name, container, data, tensors, scratch, arrays, more).encode(),
        f"{name}.c": texts.source(name, data, arrays).encode(),
        **(addition.files if addition else {}),
        f"{name}.md": (about + (addition.readme if addition else "")).encode(),
    }
    files |= {path: decoder_file(path) for path in DECODER_FILES if decoder}
    return Firmware(name, files, tensors, len(data), scratch)


def check_name(name: str) -> None:
    """Check that a model may have this name in C.

    Raises:
        UsageError: it may not.
    """
    if not c_source.is_model_name(name):
        raise UsageError(
            f"model name {name!r} does not fit: 1 to 32 of a-z, 0-9 and _, a letter first, other than 'cwb', a header, "
            "or a word of C or C++ (model_... is always free)"
        )


def default_name(path: Path) -> str:
    """Make a model name from a file name; "model" if it has no usable character."""
    name = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")[:32].rstrip("_")
    return name if c_source.is_model_name(name) else f"model_{name}"[:32].rstrip("_")


def write_folder(firmware: Firmware, folder: Path, *, force: bool) -> None:
    """Write the files into a folder, which is made if it does not exist; each is written completely or not at all.

    Files that are there already, with the same content, are left alone.

    Raises:
        UsageError: the folder cannot be made or written, or a file exists and ``force`` is not set.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{folder} is a file: give a folder") from None
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from None
    missing = {name: content for name, content in firmware.files.items() if not _is_there(folder / name, content)}
    for name in missing:
        check_target(folder / name, overwrite=force)
    for name, content in missing.items():
        write_atomic(folder / name, content, overwrite=force)


def _is_there(path: Path, content: bytes) -> bool:
    """Whether a file with this content exists: models in one folder share the decoder."""
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def only(container: Container, names: Collection[str]) -> Container:
    """The file with no tensors but these, which keep their names here though the file has none, and its metadata."""
    kept = [record for record in container.tensors if record.name in names]
    about = [record for record in container.records if record.kind is f.Kind.METADATA]
    parts = [writer.Encoded(record, container.payload(record)) for record in (*kept, *about)]
    smaller = reader.parse(writer.assemble(parts, container.version))
    named = [replace(record, name=old.name) for record, old in zip(smaller.tensors, kept, strict=True)]
    return Container(smaller.data, (*named, *smaller.records[len(named) :]))


def without_packed_sections(container: Container) -> bytes:
    """The file without the sections that C cannot read: the graph, the metadata, packed names.

    Raises:
        CorruptFileError: a payload is damaged.
    """
    return writer.assemble(
        [
            writer.Encoded(record, container.payload(record))
            for record in container.records
            if not record.kind.is_packed
        ],
        container.version,
    )


def decoder_file(path: str) -> bytes:
    """Read a file of the C decoder that was installed with the package.

    Raises:
        UsageError: it was not installed.
    """
    for folder in cerwu_onnx.__path__:
        found = Path(folder, "decoder_c", path)
        if found.is_file():
            return found.read_bytes()
    raise UsageError(f"this install lacks decoder_c/{path}: reinstall cerwu-onnx")
