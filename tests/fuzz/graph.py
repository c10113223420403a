"""The graph in C (decoder_c/host/cwb_onnx.h) and the Python reader on the same mutants: they must give the same bytes.

Mutants are graph sections with some fields, or a few bytes, changed; tensors are as they were. Their number determines
them.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import onnx

from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader as container_reader
from cerwu_onnx.container.dictionary import deflate
from cerwu_onnx.container.packed import STORED, unpack

from ..c.onnx_library import SOURCES, given_by_c, given_by_python
from ..spec import container as spec
from . import campaign, reader, structure, wire

LEAST = 16
"""Bytes from which on tensors are apart, here."""

BATCH = 500
"""Mutants that one process reads."""


def build(folder: Path) -> Path:
    """The library as a program, under sanitizers.

    Raises:
        BuildError: it does not compile.
    """
    return campaign.compile_c(folder / "onnx", *SOURCES)


def sound_files() -> list[bytes]:
    """Files with graphs of every kind."""
    return [reader.whole_model(), reader.nested_model(), reader.typed_model()]


def mutant(number: int, files: list[bytes]) -> bytes:
    """Mutant ``number`` of some files; in half of them the graph is deflated, as in files of version 1."""
    rng = random.Random(number)
    data = rng.choice(files)
    records = container_reader.parse(data).records
    section = next(record for record in records if record.kind is f.Kind.GRAPH)
    content = unpack(data[section.offset :][: section.size], 1 << 22)
    tensors = sum(record.is_tensor for record in records)
    named = any(record.kind is f.Kind.NAMES for record in records)
    source = spec.Bytes(content)
    if not named:
        spec.read_names(source, tensors)
    names, content = content[: source.at], content[source.at :]
    if rng.random() < 0.8:
        message = wire.parsed(content, onnx.ModelProto.DESCRIPTOR)
        for _ in range(rng.randint(1, 3)):
            wire.change(message, rng)
        content = message.to_bytes()
    else:
        content = structure.hurt(content, rng)
    if not named and rng.random() < 0.1:
        names = structure.changed_names(names, tensors, rng)
    version = 1 if rng.random() < 0.5 and not any(record.run or record.stepped for record in records) else 2
    packed = deflate(names + content, rng.randrange(10)) if version == 1 else STORED + names + content
    if rng.random() < 0.05:
        packed = structure.hurt(packed, rng)
    directory, payloads = [], []
    for record in records:
        payload = data[record.offset :][: record.size]
        if record.kind is f.Kind.GRAPH:
            payload = packed
            record = replace(record, size=len(packed), crc=f.crc32(packed))
        if record.kind is not f.Kind.METADATA:  # they are packed in another way in files of version 1
            directory.append(record.to_bytes())
            payloads.append(payload)
    return reader.join(directory, payloads, version)


def compare(program: Path, first: int, count: int) -> list[str]:
    """What differs between both readers in mutants ``first`` to ``first + count - 1``: a line for each."""
    files = sound_files()
    mutants = [mutant(number, files) for number in range(first, first + count)]
    found = given_by_c(program, [(data, b"") for data in mutants], LEAST)
    lines = []
    for number, data, ours in zip(range(first, first + count), mutants, found, strict=True):
        theirs = given_by_python(data, b"", LEAST)
        if bool(ours.error) != bool(theirs.error):
            lines.append(f"mutant {number}: C says {ours.error!r}, Python {theirs.error!r}")
        elif ours.model != theirs.model:
            lines.append(f"mutant {number}: other bytes")
    return lines
