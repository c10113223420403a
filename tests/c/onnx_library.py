"""What the library of decoder_c/host/cwb_onnx.h makes of a file, by a program of its own (onnx.c), and what Python."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
import onnx

from cerwu_onnx.container import reader
from cerwu_onnx.errors import BaseError, CorruptFileError
from cerwu_onnx.runtime import OUTSIDE, PAGE, CompressedModel

ROOT = Path(__file__).resolve().parents[2]
DECODER = ROOT / "decoder_c"
LIBRARY = (
    DECODER / "cwb.c",
    *(
        DECODER / "host" / f"cwb_{name}.c"
        for name in (
            "elements", "graph", "inflate", "members", "message_bytes", "messages", "onnx", "pack", "references",
            "sections", "strings", "texts",
        )
    ),
)  # fmt: skip
"""The sources of the library."""
SOURCES = (Path(__file__).with_name("onnx.c"), *LIBRARY)
LOCATION = "model.onnx.data"


@dataclass(frozen=True)
class Given:
    """What a reader makes of a file.

    Attributes:
        error: a text, empty if there is none.
        model: bytes of the ONNX model, then the graph without what is apart, then the data; None without a graph.
        tensors: name, type, dimensions and elements of each.
        read: names of those that are read.
    """

    error: str = ""
    model: tuple[bytes, bytes, bytes] | None = None
    tensors: tuple[tuple[str, int, tuple[int, ...], bytes], ...] = ()
    read: frozenset[str] = frozenset()


def given_by_c(program: Path, files: Sequence[tuple[bytes, bytes]], least: int = OUTSIDE) -> list[Given]:
    """What the library makes of files and their bases.

    Raises:
        AssertionError: the program failed: a sanitizer found something, or two ways to the same bytes differ.
    """
    sent = b"".join(struct.pack("<III", least, len(file), len(base)) + file + base for file, base in files)
    done = subprocess.run([program], input=sent, capture_output=True)
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr.decode(errors='replace')}"
    stream = BytesIO(done.stdout)
    return [_received(stream) for _ in files]


def _received(stream: IO[bytes]) -> Given:
    blocks: list[bytes] = []
    while (size := int.from_bytes(stream.read(4), "little")) != 2**32 - 1:
        blocks.append(stream.read(size))
    error = stream.read(int.from_bytes(stream.read(4), "little")).decode()
    if error:
        return Given(error)
    model = tuple(blocks[:3]) if len(blocks) % 5 == 3 else None
    rest = blocks[3:] if model else blocks
    tensors = [
        (name.decode(), int.from_bytes(kind, "little"), struct.unpack(f"<{len(dims) // 8}q", dims), elements)
        for name, kind, _, dims, elements in (rest[i : i + 5] for i in range(0, len(rest), 5))
    ]
    read = frozenset(rest[i].decode() for i in range(0, len(rest), 5) if any(rest[i + 2]))
    return Given("", model, tuple(tensors), read)  # type: ignore[arg-type]


def given_by_python(file: bytes, base: bytes = b"", least: int = OUTSIDE) -> Given:
    """What the Python reader makes of a file."""
    try:
        model = CompressedModel(reader.parse(file, reader.parse(base) if base else None))
        if not model.has_graph:
            tensors = [
                (record.name, int(record.element), record.shape, np.ascontiguousarray(model[record.name]).tobytes())
                for record in model.container.tensors
            ]
            model.verify()
            return Given("", None, tuple(tensors))
        whole = model.to_onnx()
        stream = bytearray()
        graph = model.to_onnx(lambda tensor, raw: _append(tensor, raw, stream, least))
    except (CorruptFileError, BaseError) as error:
        return Given(str(error))
    bytes_of = [message.SerializeToString(deterministic=True) for message in (whole, graph)]
    return Given("", (bytes_of[0], bytes_of[1], bytes(stream)))


def _append(tensor: onnx.TensorProto, raw: bytes, stream: bytearray, least: int) -> bool:
    if len(raw) < least:
        return False
    stream += bytes(-len(stream) % PAGE)
    for key, value in (("location", LOCATION), ("offset", len(stream)), ("length", len(raw))):
        tensor.external_data.add(key=key, value=str(value))
    stream += raw
    tensor.data_location = onnx.TensorProto.EXTERNAL
    return True
