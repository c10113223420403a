"""Export a .cwb file as C sources: the file as an array, an index of its tensors, the decoder and a memory table.

The array leaves out the packed sections, which the C decoder cannot use; payloads keep their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cerwu_onnx
from cerwu_onnx.container import writer
from cerwu_onnx.container.reader import Container
from cerwu_onnx.errors import UsageError
from cerwu_onnx.firmware import c_source, texts
from cerwu_onnx.firmware.index import FirmwareTensor, firmware_tensors
from cerwu_onnx.firmware.kernels import KernelScales, kernel_constants
from cerwu_onnx.jobs.files import check_target, write_atomic

DECODER_FILES = ("cwb.h", "cwb.c")
"""The decoder, in the folder decoder_c of the package."""


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
    container: Container, name: str, scales: Mapping[str, KernelScales] | None = None, *, decoder: bool = True
) -> Firmware:
    """Make the C sources of a file.

    Args:
        container: the file.
        name: the model's name in C: letters, digits and underscores.
        scales: input and output scales by tensor, for int8 kernels.
        decoder: whether the decoder's sources are among the files.

    Raises:
        UsageError: ``name`` is no identifier, means something in C or C++ or is the decoder's own, a scale does not
            fit, or this install lacks the decoder's sources.
        CorruptFileError: the file is damaged. Every tensor is decoded to find out, because nothing checks the bytes
            again before they are in flash.
    """
    if not c_source.is_model_name(name):
        raise UsageError(
            f"model name {name!r} does not fit: 1 to 32 of a-z, 0-9 and _, a letter first, other than 'cwb', a header, "
            "or a word of C or C++ (model_... is always free)"
        )
    for record in container.tensors:
        container.decode(record)
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
    files = {
        f"{name}.h": texts.header(name, container, data, tensors, scratch, arrays).encode(),
        f"{name}.c": texts.source(name, data, arrays).encode(),
        "README.md": texts.readme(name, data, tensors, scratch, arrays).encode(),
    }
    files |= {path: decoder_file(path) for path in DECODER_FILES if decoder}
    return Firmware(name, files, tensors, len(data), scratch)


def default_name(path: Path) -> str:
    """Make a model name from a file name; "model" if it has no usable character."""
    name = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")[:32].rstrip("_")
    return name if c_source.is_model_name(name) else f"model_{name}"[:32].rstrip("_")


def write_folder(firmware: Firmware, folder: Path, *, force: bool) -> None:
    """Write the files into a folder, which is made if it does not exist; each is written completely or not at all.

    Raises:
        UsageError: the folder cannot be made or written, or a file exists and ``force`` is not set.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{folder} is a file: give a folder") from None
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from None
    for name in firmware.files:
        check_target(folder / name, overwrite=force)
    for name, content in firmware.files.items():
        write_atomic(folder / name, content, overwrite=force)


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
