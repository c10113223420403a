"""Damage to whole files, and what the Python reader makes of it.

Allowed is that a file reads as ever, or that a :class:`CorruptFileError` says what is wrong. Everything else is a
failure: another exception ("crash"), other values without an error ("silent"), more lines of Python than
``MAX_LINES`` ("hang"), more memory than ``MAX_MEMORY`` ("memory").
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import random
import struct
import sys
import traceback
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import onnx
from onnx import helper

from cerwu_onnx.compression.encode import encode
from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader, writer
from cerwu_onnx.container.dictionary import deflate, inflate
from cerwu_onnx.container.packed import pack, unpack
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.model.graph import analyse
from cerwu_onnx.model.skeleton import container_tensors, split, stored_tensor
from cerwu_onnx.opened import CompressedModel
from cerwu_onnx.types import QuantizedTensor

from .. import models
from . import seeds

MAX_LINES = 3_000_000
MAX_MEMORY = 32 << 20
MAX_DECODED = 1 << 14
"""Elements of a tensor that is decoded: a file that claims more is read, but not decoded."""

OUTCOMES = ("detected", "harmless", "silent", "crash", "hang", "memory")
FORGERIES = 4000
"""Random forgeries of each file."""

BATCH = 5000
"""Files of random damage that a process tries at a time."""


class Hang(BaseException):
    """More lines than allowed."""


def whole_model() -> bytes:
    """A small model with all it needs: exact tensors, graph, packed names, metadata."""
    return exact_file(models.conv_net())


def nested_model() -> bytes:
    """A model with bodies, one of which has a body, a local function, names kept as text, and a Constant."""
    value = models.value
    inner = helper.make_graph([helper.make_node("Mul", ["s", "w"], ["m"])], "", [], [value("m", [2])])
    test = helper.make_node("If", ["c"], ["t"], then_branch=inner, else_branch=inner)
    step = [helper.make_node("Identity", ["c"], ["c2"]), test, helper.make_node("Add", ["t", "k"], ["s2"])]
    body = helper.make_graph(
        step,
        "",
        [value("i", [], 7), value("c", [], 9), value("s", [2])],
        [value("c2", [], 9), value("s2", [2])],
    )
    twice = helper.make_function(
        "own", "Twice", ["p"], ["q"], [helper.make_node("Add", ["p", "p"], ["q"])], [helper.make_opsetid("", 17)]
    )
    nodes = [
        models.constant("k", models.normal(2)),
        helper.make_node("Loop", ["n", "", "x"], ["l"], body=body),
        helper.make_node("Twice", ["l"], ["z"], domain="own"),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    tensors = {"w": models.normal(2), "n": np.array(3)}
    model = models.build(nodes, [value("x", [2])], [value("y", [2])], tensors, functions=[twice], domains=["own"])
    model.graph.quantization_annotation.add(tensor_name="z")
    return exact_file(model)


def exact_file(model: onnx.ModelProto) -> bytes:
    """The file of a model whose tensors are all exact."""
    tensors = container_tensors(model)
    exact = [
        writer.encode_tensor(writer.RawTensor(name, f.ElementType(element), values))
        for name, tensor in tensors.items()
        for element, values in [stored_tensor(tensor)]
    ]
    sections = [
        writer.graph_section(list(tensors), split(model, list(tensors))),
        writer.metadata_section({"tool": "fuzz", "params": "0"}),
    ]
    return writer.assemble([*exact, *sections])


def typed_model() -> bytes:
    """A small model of float16 weights, integers in bytes and in halves of bytes, and a mask in the graph section."""
    rng = np.random.default_rng(7)
    halves = np.clip(np.rint(rng.normal(8, 1, (200, 2))), 0, 15).astype(np.uint8)
    tensors = {
        "w": rng.standard_normal((12, 8)).astype(np.float16),
        "table": np.clip(np.rint(rng.normal(3, 2, 90)), -128, 127).astype(np.int8),
        "halves": halves[:, 0] | halves[:, 1] << 4,
        "mask": np.tri(6, dtype=np.float32),
    }
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    nodes += [helper.make_node("Identity", [name], [f"{name}.y"]) for name in list(tensors)[1:]]
    model = models.build(nodes, [models.value("x", [1, 12], 10)], [models.value("y", [1, 8], 10)], tensors)
    graph = analyse(model)
    symbols = np.rint(8 * tensors["w"].astype(np.float32)).astype(np.int32)
    return encode(graph, {"w": QuantizedTensor(symbols, 0.125, 0.0, 1.0, 0.0)}, {"tool": "fuzz"}).content


def digest(data: bytes, *, plain: bool = True) -> str:
    """A hash of everything that the reader finds in a file, by every way of reading or without the plain decoders.

    Raises:
        CorruptFileError: as the reader does.
    """
    found = hashlib.sha256()
    container = reader.parse(data)
    large = False
    for record in container.tensors:
        found.update(repr((record.name, record.kind, record.shape, record.element)).encode())
        if record.count > MAX_DECODED:
            large = True
            continue
        values = container.decode(record).tobytes()
        if plain and container.decode_python(record).tobytes() != values:
            raise AssertionError("both decoders find other values")
        found.update(values)
    container.check_sections()
    found.update(repr((container.metadata(), container.margins())).encode())
    graph = container.graph()
    found.update(graph or b"none")
    if graph is not None and graph != b"no graph" and not large:
        found.update(CompressedModel(container).to_onnx().SerializeToString(deterministic=True))
    return found.hexdigest()


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Raises :class:`Hang` after too many lines of the package."""
    left = MAX_LINES

    def count(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal left
        if event == "call" and "cerwu_onnx" not in frame.f_code.co_filename:
            return None
        left -= 1
        if left < 0:
            raise Hang
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)


def outcome(data: bytes, expected: str | None, *, plain: bool = True) -> tuple[str, str]:
    """How reading ends, and the error's type; ``expected`` is the digest of the undamaged file, None for forgeries."""
    tracemalloc.reset_peak()
    base = tracemalloc.get_traced_memory()[0]
    try:
        with limits():
            same = digest(data, plain=plain) == expected
        result = ("harmless", "") if same or expected is None else ("silent", "")
    except CorruptFileError as error:
        result = ("detected", type(error).__name__)
    except Hang:
        result = ("hang", "")
    except Exception:
        result = ("crash", traceback.format_exc(limit=-3))
    if tracemalloc.get_traced_memory()[1] - base > MAX_MEMORY:
        return "memory", result[1]
    return result


@dataclass
class Table:
    """How many cases ended how, by what was done to the file."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[str, bytes, str]] = field(default_factory=list)

    def add(self, kind: str, data: bytes, expected: str | None) -> None:
        """Try one file."""
        result, why = outcome(data, expected, plain=kind != "noise")
        self.counts[kind, result] += 1
        if result not in ("detected", "harmless"):
            self.failures.append((f"{kind}: {result} {why}", data, why))

    def update(self, other: Table) -> None:
        """Add another table."""
        self.counts += other.counts
        self.failures += other.failures

    def failed(self) -> bool:
        """Whether anything ended as it must not."""
        return bool(self.failures)

    def text(self) -> str:
        """One line for each kind of damage."""
        kinds = sorted({kind for kind, _ in self.counts})
        lines = [f"{'damage':12}" + "".join(f"{name:>10}" for name in OUTCOMES)]
        lines += [f"{kind:12}" + "".join(f"{self.counts[kind, name]:>10,}" for name in OUTCOMES) for kind in kinds]
        lines += [f"\n{message}\n{data.hex()}" for message, data, _ in self.failures[:10]]
        return "\n".join(lines)


def parts(data: bytes) -> tuple[list[f.Record], list[bytes]]:
    """Records and payloads of a file."""
    records = list(reader.parse(data).records)
    return records, [data[record.offset : record.offset + record.size] for record in records]


def join(directory: Sequence[bytes], payloads: Sequence[bytes], version: int = f.VERSION) -> bytes:
    """A file of these records, as they are, with right CRCs of header and directory."""
    joined, body = b"".join(directory), b"".join(payloads)
    size = f.HEADER.size + len(joined) + len(body)
    header = struct.pack("<4sHHII", f.MAGIC, version, len(directory), len(joined), size)
    return header + struct.pack("<I", zlib.crc32(header + joined)) + joined + body


def with_payload(data: bytes, index: int, payload: bytes) -> bytes:
    """The file with another payload in record ``index``, and a record to match."""
    records, payloads = parts(data)
    payloads[index] = payload
    directory = [record.to_bytes() for record in records]
    record = records[index]
    size = len(f.varint(record.size))
    fields = directory[index][1 + size + 4 :]
    crc = zlib.crc32(
        payload
    )  # of a coded tensor the values are unknown: what it decodes to is only found out by decoding
    directory[index] = directory[index][:1] + f.varint(len(payload)) + crc.to_bytes(4, "little") + fields
    return join(directory, payloads, data[4])


def flips(data: bytes, step: int = 1) -> Iterator[tuple[str, bytes]]:
    """Each bit the other way; every ``step``-th, from one that moves with the length of the file."""
    for bit in range(len(data) % step, 8 * len(data), step):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield "flip", bytes(damaged)


def cuts(data: bytes, step: int = 1) -> Iterator[tuple[str, bytes]]:
    """Each shorter length, every ``step``-th, and bytes added."""
    for length in range(0, len(data), step):
        yield "cut", data[:length]
    for tail in (b"\0", b"\xff", data):
        yield "cut", data + tail


def splices(data: bytes, other: bytes) -> Iterator[tuple[str, bytes]]:
    """Records left out, doubled, exchanged, taken from the other file; each with its own payload or another's.

    Header and directory have right CRCs, and payloads that stay with their record too: some of these files are valid.
    """
    records, payloads = parts(data)
    directory = [record.to_bytes() for record in records]
    foreign, foreign_payloads = parts(other)
    for i in range(len(records)):
        yield "splice", join(directory[:i] + directory[i + 1 :], payloads[:i] + payloads[i + 1 :], data[4])
        yield "splice", join(directory[:i] + directory[i + 1 :], payloads, data[4])
        yield "splice", join(directory[: i + 1] + directory[i:], payloads[: i + 1] + payloads[i:], data[4])
        for j in range(i):
            mixed, moved = list(directory), list(payloads)
            mixed[i], mixed[j] = mixed[j], mixed[i]
            yield "splice", join(mixed, payloads, data[4])
            moved[i], moved[j] = moved[j], moved[i]
            yield "splice", join(mixed, moved, data[4])
            yield "splice", join(directory, moved, data[4])
            yield "splice", with_payload(data, i, payloads[j])
        for record, payload in zip(foreign, foreign_payloads, strict=True):
            yield "splice", with_payload(data, i, payload)
            more = [*directory[:i], record.to_bytes(), *directory[i:]]
            yield "splice", join(more, [*payloads[:i], payload, *payloads[i:]], data[4])


def forgeries(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Random damage to payloads (packed ones: inside) or to the directory, under right CRCs."""
    rng = random.Random(seed)
    records, payloads = parts(data)
    directory = [record.to_bytes() for record in records]
    for _ in range(count):
        i = rng.randrange(len(records))
        if rng.random() < 0.3:
            changed = list(directory)
            changed[i] = hurt(changed[i], rng)
            yield "directory", join(changed, payloads, data[4])
        elif records[i].kind.is_packed and rng.random() < 0.9:
            content = (inflate if data[4] == 1 else unpack)(payloads[i], 1 << 20)
            yield "inside", with_payload(data, i, (deflate if data[4] == 1 else pack)(hurt(content, rng)))
        else:
            yield "payload", with_payload(data, i, hurt(payloads[i], rng))


def noises(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Random damage to the whole file, its CRCs as they were."""
    rng = random.Random(seed)
    for _ in range(count):
        yield "noise", hurt(data, rng)


def hurt(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, taken out, put in or moved."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(out) + 1)
        length = rng.randint(1, 8)
        choice = rng.randrange(5)
        if choice == 0:
            del out[at : at + length]
        elif choice == 1:
            out[at:at] = rng.choice([rng.randbytes(length), bytes(length), b"\xff" * length])
        elif choice == 2:
            start = rng.randrange(len(out) + 1)
            out[at:at] = out[start : start + length]
        elif at < len(out):
            out[at] = rng.choice([rng.randrange(256), out[at] ^ 1 << rng.randrange(8), 0, 255])
    return bytes(out)


def _try(job: tuple[str, bytes, bytes, int, int, int]) -> Table:
    """One sort of damage to one file; a job is a name, two files, a step, a count, a seed."""
    name, data, other, step, count, seed = job
    table = Table()
    with tracing():
        expected = digest(data)
        cases = {
            "flips": lambda: flips(data, step),
            "cuts": lambda: cuts(data, 1 + step // 10),
            "splices": lambda: splices(data, other),
            "forgeries": lambda: forgeries(data, count, seed),
            "noise": lambda: noises(data, count, seed),
        }[name]()
        for kind, damaged in cases:
            table.add(kind, damaged, expected if name in ("flips", "cuts", "noise") else None)
    return table


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Memory is watched inside."""
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        yield
    finally:
        if started:
            tracemalloc.stop()


def files() -> list[bytes]:
    """What is damaged."""
    return [seeds.tensors(), seeds.packed(), whole_model(), typed_model()]


def run(step: int, count: int, processes: int, noise: int = 0) -> Table:
    """Every ``step``-th bit flipped, truncations ten times as often, all splices, ``count`` forgeries of each file.

    Of ``noise`` files of random damage each, the plain decoders in Python are left out.
    """
    whole = files()
    jobs = [
        (name, data, whole[i - 1], step, count, i)
        for i, data in enumerate(whole)
        for name in ("flips", "cuts", "splices", "forgeries")
    ]
    jobs += [
        ("noise", whole[i % len(whole)], b"", 1, min(BATCH, noise - BATCH * i), i) for i in range(-(-noise // BATCH))
    ]
    table = Table()
    if processes == 1:
        for job in jobs:
            table.update(_try(job))
        return table
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        for part in pool.map(_try, jobs):
            table.update(part)
    return table


def long_campaign(noise: int, processes: int) -> Table:
    """Every bit, many forgeries, and so many files of random damage."""
    return run(1, FORGERIES, processes, noise)
