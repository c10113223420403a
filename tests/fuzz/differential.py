"""The C decoder, the Python reader and the decoder of tests/spec on the same mutants.

They must refuse the same files, and read the same values from the others.

All mutants go through the C decoder, built with sanitizers and every function of cwb.h called (verdicts.c). A share of
them goes through the other two as well.
"""

from __future__ import annotations

import concurrent.futures
import struct
import subprocess
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cerwu_onnx.container import format as f
from cerwu_onnx.container import reader as container_reader
from cerwu_onnx.errors import CorruptFileError
from cerwu_onnx.opened import CompressedModel

from ..spec import container as spec
from ..spec import graph as spec_graph
from ..spec.coders import exponents
from ..spec.refused import Refused
from . import campaign, reader, seeds, structure

MAX_DECODED = 1 << 14
"""Elements of a tensor that the readers decode: exercise.h."""

BATCH = 2000
COLUMNS = ("mutants", "refused", "compared", "equal", "silent", "crash", "hang")
HANG = 1
ORDERS = (0, 1, 2, 0, 0, 1, 2, 3)
"""cwb_order of each form."""

C_READS = {"a name that is not UTF-8", "a name with NUL", "two tensors of one name", "limit of coded elements"}
"""What the C decoder need not check (docs/format.md), of what the specification refuses in tensors and names."""


class Disagreement(Exception):
    """Two readers make different things of a file."""


@dataclass
class Table:
    """What became of the mutants of each target; ``failures`` are the files that made trouble."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[str, bytes]] = field(default_factory=list)
    work: float = 0.0
    """Most basic blocks of the C decoder for each byte that it was given and element that it decoded."""

    def update(self, other: Table) -> None:
        self.counts += other.counts
        self.failures += other.failures
        self.work = max(self.work, other.work)

    def total(self, column: str) -> int:
        return sum(n for (_, name), n in self.counts.items() if name == column)

    def failed(self) -> bool:
        return bool(self.failures)

    def text(self) -> str:
        """One line for each target: "refused" by C; of the "compared", which all three saw, "equal" are read by all."""
        targets = [kind for kind in structure.KINDS if self.counts[kind, "mutants"]]
        lines = [f"{'target':18}" + "".join(f"{name:>10}" for name in COLUMNS)]
        lines += [f"{kind:18}" + "".join(f"{self.counts[kind, name]:>10,}" for name in COLUMNS) for kind in targets]
        lines.append(f"{'all':18}" + "".join(f"{self.total(name):>10,}" for name in COLUMNS))
        lines.append(f"\nmost basic blocks in C for each byte read and element decoded: {self.work:,.0f}")
        return "\n".join(lines)


def sound_files() -> list[bytes]:
    """What is changed: small files, of which each byte counts."""
    return [*reader.files(), reader.nested_model(), seeds.nameless(), seeds.forms()]


def files() -> list[list[structure.Part]]:
    """The records of these files."""
    return [structure.parts_of(data) for data in sound_files()]


def build(folder: Path, *flags: str) -> Path:
    """verdicts.c with the decoder, whose blocks are counted.

    Raises:
        BuildError: it does not compile.
    """
    return campaign.build_driver(folder, "verdicts.c", *flags)


# ---- the C decoder -----------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What verdicts.c prints: the first error (0: none, HANG), a CRC-32 of all values, and how much work it was."""

    error: int
    values: int
    elements: int
    blocks: int
    data: bytes = b""


def verdicts(program: Path, mutants: Sequence[structure.Mutant], back: Sequence[bool]) -> tuple[list[Verdict], str]:
    """Of each mutant, with its bytes if wanted ``back``; fewer, and what was said of the next, if that is a crash."""
    with tempfile.TemporaryFile() as sent:
        for mutant, wanted in zip(mutants, back, strict=True):
            sent.write(struct.pack("<BI", mutant.sealed + 2 * wanted, len(mutant.data)) + mutant.data)
        sent.seek(0)
        done = subprocess.run([program], stdin=sent, capture_output=True)
    found, at = [], 0
    for wanted in back:
        if at + 20 > len(done.stdout):
            break
        verdict = Verdict(*struct.unpack_from("=iIIQ", done.stdout, at))
        at += 20
        if wanted:
            (size,) = struct.unpack_from("=I", done.stdout, at)
            verdict.data = done.stdout[at + 4 : at + 4 + size]
            at += 4 + size
        found.append(verdict)
    return found, done.stderr.decode(errors="replace")


# ---- the other two -----------------------------------------------------------------------------------------------


def of_spec(data: bytes) -> tuple[spec.File, int]:
    """The file, and the CRC-32 of its tensors that verdicts.c computes too."""
    file = spec.read(data)
    file.check()
    names = [b""] * len(file.tensors)
    if file.section(spec.NAMES) is not None:
        names = [name.encode() for name in file.names() or ()]
    crc = 0
    for record, name in zip(file.tensors, names, strict=True):
        crc = zlib.crc32(struct.pack(f"<{len(record.dims)}I", *record.dims), crc)
        crc = zlib.crc32(name, crc)
        if not record.is_coded:
            crc = zlib.crc32(record.payload, crc)
            continue
        crc = zlib.crc32(struct.pack("<fI", record.step, ORDERS[record.form]), crc)
        if record.elements <= MAX_DECODED:
            values = file.symbols(record)
            crc = zlib.crc32(struct.pack(f"<{len(values)}h", *values), crc)
            if record.stepped:
                crc = zlib.crc32(bytes(exponents(record.payload, record.rows)[0]), crc)
    return file, crc


def whole_of_spec(file: spec.File) -> tuple[Any, ...]:
    """Names, metadata, margins and model, of a file whose tensors were read."""
    graph = file.section(spec.GRAPH)
    model = None if graph is None or no_model(file, graph) or large(file) else spec_graph.model(file)
    return file.names(), file.metadata(), file.margins(), model


def no_model(file: spec.File, section: bytes) -> bool:
    """Whether a graph section is one of the seeds' texts in place of a graph."""
    return file.unpacked(section).endswith((b"no graph", b"golden graph"))


def large(file: spec.File) -> bool:
    return any(record.elements > MAX_DECODED for record in file.tensors)


def of_reader(data: bytes, file: spec.File | None) -> tuple[Any, ...]:
    """What the Python reader finds: values of all tensors, names, metadata, margins, model."""
    container = container_reader.parse(data)
    values = []
    for record in container.tensors:
        if record.count > MAX_DECODED:
            continue
        plain = container.decode_python(record)
        if container.decode(record).tobytes() != plain.tobytes():
            raise Disagreement("decode and decode_python")
        values.append((plain.shape, plain.tobytes()))
    container.check_sections()
    margins = container.margins()
    graph = container.section(f.Kind.GRAPH)
    big = any(record.count > MAX_DECODED for record in container.tensors)
    absent = graph is None or big or graph.endswith((b"no graph", b"golden graph"))
    model = None if absent else CompressedModel(container).to_onnx()
    names = [record.name for record in container.tensors]
    return values, names, container.metadata(), margins and list(margins.values()), model


def compare(verdict: Verdict) -> bool:
    """Hold the three against each other; whether all of them read the whole file.

    Raises:
        Disagreement: with what they say.
    """
    file, theirs, refused = None, None, ""
    try:
        file, crc = of_spec(verdict.data)
    except Refused as error:
        refused = str(error)
    if verdict.error < 0 and not refused:
        raise Disagreement(f"C: {campaign.ERRORS[-verdict.error]}; the specification reads it")
    if verdict.error == 0 and refused and refused not in C_READS:
        raise Disagreement(f"C reads it; the specification: {refused}")
    if file is not None:
        if crc != verdict.values:
            raise Disagreement("C and the specification read other values")
        try:
            theirs = whole_of_spec(file)
        except Refused as error:
            refused = str(error)
    try:
        ours = of_reader(verdict.data, file)
    except CorruptFileError as error:
        if not refused:
            raise Disagreement(f"Python: {error}; the specification reads it") from None
        return False
    if refused:
        raise Disagreement(f"Python reads it; the specification: {refused}")
    assert file is not None
    assert theirs is not None
    compare_contents(file, theirs, ours)
    return True


def compare_contents(file: spec.File, theirs: tuple[Any, ...], ours: tuple[Any, ...]) -> None:
    """What the specification and the reader have read of a file that both accept."""
    values, names, metadata, margins, model = ours
    small = [record for record in file.tensors if record.elements <= MAX_DECODED]
    for (shape, content), record in zip(values, small, strict=True):
        if list(shape) != record.dims or content != bytes_of(file, record):
            raise Disagreement("other values of a tensor in Python")
    if (theirs[0] or [f"#{i}" for i in range(len(file.tensors))]) != names:
        raise Disagreement("other names")
    if repr(theirs[1]) != repr(metadata) or (theirs[2] or None) != (margins or None):
        raise Disagreement("other metadata or margins")
    if (theirs[3] is None) != (model is None):
        raise Disagreement("a model, and none")
    if model is not None and not same_model(theirs[3], model):
        raise Disagreement("another model")


def bytes_of(file: spec.File, record: spec.Record) -> bytes:
    if not record.is_coded:
        return record.payload
    return np.array(file.values(record), np.float64).astype(np.float32).tobytes()


def same_model(theirs: Any, ours: Any) -> bool:
    """Whether two models are equal but for what lost names are replaced by, and the producer's name."""
    renamed: dict[str, str] = {}
    for model in (theirs, ours):
        model.ClearField("producer_name")
        for tensor in spec_graph.tensors(model):
            if not tensor.name:
                tensor.ClearField("name")  # absent and empty are the same
    pair_names(theirs, ours, renamed)
    if len(set(renamed.values())) != len(renamed):
        return False
    return bool(theirs.SerializeToString(deterministic=True) == ours.SerializeToString(deterministic=True))


def pair_names(theirs: Any, ours: Any, renamed: dict[str, str]) -> None:
    """Replace lost names by those that the reader invented in their places, always the same for the same."""

    def name(lost: str, invented: str) -> str:
        return renamed.setdefault(lost, invented) if lost.startswith(spec_graph.LOST) else lost

    for descriptor, value in theirs.ListFields():
        other = getattr(ours, descriptor.name)
        if descriptor.message_type is not None:
            repeated = not hasattr(value, "ListFields")
            for one, two in zip(value if repeated else [value], other if repeated else [other], strict=False):
                pair_names(one, two, renamed)
        elif descriptor.type == descriptor.TYPE_STRING and isinstance(value, str):
            setattr(theirs, descriptor.name, name(value, other))
        elif descriptor.type == descriptor.TYPE_STRING and len(value) == len(other):
            value[:] = [name(one, two) for one, two in zip(value, other, strict=True)]


# ---- campaigns ---------------------------------------------------------------------------------------------------


def batch(program: Path, first: int, count: int, share: int) -> Table:
    """Mutants ``first`` to ``first + count - 1``; of each ``share`` of them, one goes through all three readers."""
    table, whole = Table(), files()
    mutants = [structure.mutant(number, whole) for number in range(first, first + count)]
    # shares are taken of every target: the number of targets and that of a share may have a common factor
    back = [(number // len(structure.KINDS) + number) % share == 0 for number in range(first, first + count)]
    at = 0
    while at < count:
        found, said = verdicts(program, mutants[at:], back[at:])
        for mutant, verdict, wanted in zip(mutants[at:], found, back[at:], strict=False):
            judge(table, mutant, verdict, wanted)
        at += len(found)
        if at < count:
            table.counts[mutants[at].target, "mutants"] += 1
            table.counts[mutants[at].target, "crash"] += 1
            table.failures.append((f"mutant {first + at}: {said[:2000]}", mutants[at].data))
            at += 1
    return table


def judge(table: Table, mutant: structure.Mutant, verdict: Verdict, compared: bool) -> None:
    """Count a mutant."""
    target = mutant.target
    table.counts[target, "mutants"] += 1
    if verdict.error == HANG:
        table.counts[target, "hang"] += 1
        table.failures.append(("too many basic blocks", mutant.data))
        return
    table.work = max(table.work, verdict.blocks / (len(mutant.data) + verdict.elements))
    table.counts[target, "refused"] += verdict.error != 0
    if not compared:
        return
    table.counts[target, "compared"] += 1
    try:
        table.counts[target, "equal"] += compare(verdict)
    except Disagreement as error:
        table.counts[target, "silent"] += 1
        table.failures.append((f"{target}: {error}", verdict.data))
    except Exception as error:
        table.counts[target, "crash"] += 1
        table.failures.append((f"{target}: {error!r}", verdict.data))


def run(program: Path, count: int, share: int, processes: int) -> Table:
    """So many mutants."""
    table = Table()
    jobs = [(program, first, min(BATCH, count - first), share) for first in range(0, count, BATCH)]
    if processes == 1:
        for job in jobs:
            table.update(batch(*job))
        return table
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        for part in pool.map(batch, *zip(*jobs, strict=True)):
            table.update(part)
    return table
