"""The C decoder against files of make_cwb.py: what it decodes, what it refuses, and no stray access."""

from __future__ import annotations

import math
import re
import struct
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from . import make_cwb as cwb
from .conftest import DECODER, STRICT, BuildHarness, Compile, Run
from .make_cwb import Record, adaptive, ans, build, on_trellis, raw

ERRORS = {
    name: int(value)
    for name, value in re.findall(r"^    (CWB_(?:OK|ERR_\w+)) = (-?\d+)", (DECODER / "cwb.h").read_text(), re.MULTILINE)
}


def small_file() -> bytes:
    """Both kinds of tensors and of sections in a few bytes."""
    return build(
        [
            ans("ü", (2, 3), [-1, 0, 1, 0, 0, -1], [3, 5, 3]),
            raw("r", 10, (2,), b"\x00\x3c\x00\xc0"),
            adaptive("d", [0, 3, -1, 0, 20, 0]),
            on_trellis(cwb.ADAPTIVE, (2, 3), [1, 1, -2, 1, 0, 3], 3, name="t"),
            on_trellis(cwb.ANS, (1, 4), [1, -1, 0, 1], 4, levels=[[3, 5, 3], [5, 1, 5]], name="s"),
            Record(cwb.GRAPH, b"graph"),
            Record(cwb.METADATA, b""),
        ]
    )


def check_dump(harness: Run, records: Sequence[Record], tmp_path: Path, version: int = 2) -> None:
    """Decode all tensors in every way and compare with what they were made of."""
    path, out = tmp_path / "in.cwb", tmp_path / "out.bin"
    path.write_bytes(build(records, version=version))
    lines = harness("dump", path, out).stdout.decode().splitlines()
    data = out.read_bytes()
    tensors = [record for record in records if record.kind < cwb.GRAPH]
    assert len(lines) == len(tensors)
    for line, record in zip(lines, tensors, strict=True):
        kind, type_, count, largest, _step, crc, *rest = line.split(" ", 6 + len(record.dims))
        assert (int(kind), int(type_)) == (record.kind, record.type)
        assert int(count) == np.prod(record.dims, dtype=int)
        assert int(largest) == record.largest
        assert int(crc, 16) == record.right_crc
        assert [int(dim) for dim in rest[:-1]] == list(record.dims)
        assert rest[-1] == record.name
        if record.symbols is not None:
            expected = record.symbols.astype("<i2").tobytes()
            assert data[: len(expected)] == expected
            data = data[len(expected) :]
        if record.symbols is None or harness.floats:  # type: ignore[attr-defined]
            assert data[: len(record.decoded)] == record.decoded
            data = data[len(record.decoded) :]
    assert data == b""


@pytest.mark.parametrize("reach", [0, 1, 2, 8, 127, 150, 2047])
def test_round_trip(harness: Run, tmp_path: Path, reach: int) -> None:
    rng = np.random.default_rng(reach)
    records = []
    for n in (1, 2, 3, 64, 1001):
        for repeat in range(3):
            table = cwb.random_table(rng, 2 * reach + 1, repeat)
            step = float(np.float32(np.exp(rng.uniform(-20, 3)))) if repeat else bytes([rng.integers(1, 256)])
            symbols = cwb.random_symbols(rng, table, n, repeat)
            records.append(ans(f"w{n}/{repeat}", (n,), symbols, table, resolution=repeat, step=step))
    check_dump(harness, records, tmp_path)


@pytest.mark.parametrize("scale", [0, 0.02, 0.5, 3, 40, 600])
def test_adaptive_round_trip(harness: Run, tmp_path: Path, scale: float) -> None:
    rng = np.random.default_rng(int(10 * scale))
    records = []
    for header in (0x10000, 0x3939, 0x7FFF, 0x338000, 0xA2C2, 0xFFFF, 0x0FB300, 0x5FA2C0, 0xB30C):
        for n in (1, 2, 5, 1000):
            symbols = np.clip(np.rint(rng.laplace(size=n) * scale), -2000, 2000).astype(int)
            records.append(adaptive(f"{header:04x}/{n}", symbols.tolist(), header=header))
    records.append(adaptive("zeros", [0] * 5000))
    records.append(adaptive("zeros, a larger range", [0] * 50, reach=900, header=0x0071))
    records.append(adaptive("far", [-2047, -2047]))
    records.append(adaptive("up", [2047, 2047, 2046]))
    check_dump(harness, records, tmp_path)


@pytest.mark.parametrize("kind", [cwb.ANS, cwb.ADAPTIVE])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("reach", [0, 1, 2, 12, 13, 40, 63, 64, 1023])
def test_trellis_round_trip(harness: Run, tmp_path: Path, kind: int, reach: int, version: int) -> None:
    rng = np.random.default_rng(reach)
    records = []
    for runs, run in ((1, 1), (1, 7), (5, 1), (3, 40), (40, 33)):
        levels = [[max(1, level) for level in cwb.random_table(rng, 2 * reach + 1)] for _ in range(2)]
        indices = rng.integers(-reach, reach + 1, runs * run).tolist()
        header = int(rng.integers(1 << 16)) | (int(rng.integers(15)) + 1) << 16
        name = f"{runs}x{run}"
        more = {"levels": levels, "name": name, "reach": reach, "header": header, "version": version}
        records.append(on_trellis(kind, (runs, run), indices, run, **more))
    check_dump(harness, records, tmp_path, version)


def test_the_run_of_each_form(harness: Run, tmp_path: Path) -> None:
    """The last axis as it is stored, or all but the first."""
    indices = np.rint(np.sin(np.arange(60) ** 2) * 3).astype(int).tolist()
    runs = {cwb.RUN_LAST: 5, cwb.RUN_REST: 20, cwb.AXIS1_REST: 20, cwb.AXIS0_RUN: 3, cwb.SWAPPED_RUN: 4}
    records = [
        on_trellis(cwb.ADAPTIVE, (3, 4, 5), indices, run, form=form, name=f"{form}") for form, run in runs.items()
    ]
    check_dump(harness, records, tmp_path)


def test_ranks_and_raw_types(harness: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = []
    for rank in range(8):
        dims = tuple(int(d) for d in rng.integers(1, 4, size=rank))
        n = int(np.prod(dims, dtype=int))
        symbols = cwb.random_symbols(rng, [9, 1, 9], n)
        records.append(ans(f"ans{rank}", dims, symbols, [9, 1, 9]))
        for type_, size in cwb.SIZES.items():
            records.append(raw(f"raw{rank}/{type_}", type_, dims, rng.bytes(size * n)))
    records.append(raw("empty", 1, (3, 0, 2), b""))
    records.append(raw("empty and large", 11, (2**16, 2**14, 0), b""))
    records.append(raw("empty and as large as can be", 1, (2**31 - 1, 0), b""))
    records.append(raw("n" * 1024, 11, (), rng.bytes(8)))
    records.append(raw("name with ünïcode \U0001f600\ue000 ", 1, (0,), b""))
    check_dump(harness, records, tmp_path)


@pytest.mark.parametrize(
    "records", [[], [Record(cwb.GRAPH, b"x")], [Record(cwb.GRAPH, b""), Record(cwb.METADATA, b"x")]]
)
def test_no_tensors(harness: Run, tmp_path: Path, records: list[Record]) -> None:
    check_dump(harness, records, tmp_path)


def test_gaps_in_a_table(harness: Run, tmp_path: Path) -> None:
    """A symbol that a table leaves out has no slot: the search steps over it."""
    wide = [1, *[0] * 3000, 24, *[0] * 1088, 7, *[0] * 2]
    check_dump(
        harness,
        [
            ans("w", (8,), [0, 0, 0, -3, -3, 2, 0, 0], [1, 0, 0, 24, 0, 1, 0]),
            ans("only above", (3,), [0, 3, 0], [0, 0, 0, 24, 0, 0, 1]),
            ans("wide", (5,), [-2046, 955, 2044, 955, -2046], wide),
        ],
        tmp_path,
    )


def test_the_least_int8(harness: Run, tmp_path: Path) -> None:
    """-128 is one, 128 is none."""
    records = [adaptive(f"{value}", [3, value, 5, 127, -127]) for value in (-128, 128, -129)]
    check_dump(harness, [*records, ans("least", (3,), [0, -128, 0], [9, *[0] * 127, 9, *[0] * 128])], tmp_path)


def test_the_largest_state_that_reads_a_word(harness: Run, tmp_path: Path) -> None:
    """The first of these symbols leaves a state of 65535, by a search for the shortest such series."""
    symbols = [1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1]
    check_dump(harness, [ans("w", (len(symbols),), symbols, T)], tmp_path)


def test_extreme_steps(harness: Run, tmp_path: Path) -> None:
    table = [1] * 4095
    records = [
        ans(f"{bits:08x}", (5,), [-2047, -1, 0, 1, 2047], table, step=b"\0" + struct.pack("<I", bits))
        for bits in (0x00800000, 0x3F800001, 0x79FFFFFF)
    ]
    records += [ans(f"{number}", (3,), [-1, 0, 1], [3, 5, 3], step=bytes([number])) for number in (1, 8, 200, 255)]
    check_dump(harness, records, tmp_path)


def test_code_length_is_that_of_constriction() -> None:
    """The encoder that the other tests rely on makes words as few as those of another implementation of ANS."""
    constriction = pytest.importorskip("constriction")
    rng = np.random.default_rng(5)
    for k in (3, 5, 41):
        table = cwb.frequencies(cwb.random_table(rng, k), 1)
        indices = rng.choice(k, size=3000, p=np.asarray(table) / 4096)
        present = np.flatnonzero(table)
        model = constriction.stream.model.Categorical(np.array(table)[present] / 4096, perfect=False)
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(np.searchsorted(present, indices).astype(np.int32), model)
        assert abs(len(cwb.encode(indices.tolist(), table)) - 4 * len(coder.get_compressed())) <= 8


def test_every_truncation_is_refused(harness: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(small_file())
    assert int(harness("cuts", tmp_path / "f").stdout) == len(small_file()) + 1


def test_every_flipped_bit_is_refused(harness: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(small_file())
    assert int(harness("flips", tmp_path / "f").stdout) == 8 * len(small_file())


@pytest.mark.parametrize("seed", range(3))
def test_damage_under_valid_crcs_stays_in_bounds(harness: Run, tmp_path: Path, seed: int) -> None:
    (tmp_path / "f").write_bytes(small_file())
    opened = int(harness("fuzz", tmp_path / "f", seed, 20000).stdout)
    assert 100 < opened < 20000


def test_misuse(harness: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(small_file())
    harness("misuse", tmp_path / "f")


T = [3, 5, 3]
F = cwb.frequencies(T, 1)
ABC = [-1, 0, 1]
ONE = ans("a", (3,), ABC, T)
LONG = ans("a", (3,), ABC, T)
R = raw("r", 1, (1,), b"\0\0\0\0")
GRAPH = Record(cwb.GRAPH, b"g")
META = Record(cwb.METADATA, b"m")


def bad(record: Record, **changes: object) -> Record:
    for key, value in changes.items():
        setattr(record, key, value)
    return record


def named(*entries: bytes) -> bytes:
    """A file of tensors with these names."""
    return build([R] * len(entries), named=cwb.names(*entries))


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


TWO = on_trellis(cwb.ANS, (4,), [0, 1, 1, 0], 4, levels=[[1, 3, 3], [1, 3, 5]])

STEPPED = on_trellis(cwb.ANS, (2, 2), [0, 1, 1, 0], 2, levels=[[1, 3, 3], [1, 3, 5]], name="s")
THREES = ans("a", (3, 1), ABC, T, form=cwb.AXIS0_LAST)

HOSTILE = {
    # header
    "empty": (b"", "TRUNCATED"),
    "one byte of magic": (b"\x89", "TRUNCATED"),
    "another file": (b"PK\3\4", "TRUNCATED"),
    "another file of 40 bytes": (b"ONNX" * 10, "MAGIC"),
    "CRC": (build([ONE], crc=0), "HEADER_CRC"),
    "version 0": (build([ONE], version=0), "VERSION"),
    "version 3": (build([ONE], version=3), "VERSION"),
    "version 257": (build([ONE], version=257), "VERSION"),
    "version 258": (build([ONE], version=258), "VERSION"),
    "declares more bytes": (build([ONE], file_size=len(build([ONE])) + 1), "TRUNCATED"),
    "declares fewer bytes": (build([ONE], file_size=len(build([ONE])) - 1), "TRAILING"),
    "declares no bytes": (build([ONE], file_size=0), "TRAILING"),
    "declares 4 GiB": (build([ONE], file_size=2**32 - 1), "TRUNCATED"),
    "directory exceeds file": (build([ONE], directory_size=len(build([ONE])) - 19), "LAYOUT"),
    "directory of 4 GiB": (build([ONE], directory_size=2**32 - 1), "LAYOUT"),
    # how records fill the directory
    "more records than there are": (build([ONE], count=2), "DIRECTORY"),
    "empty but huge": (build([raw("e", 1, (0, 2**16, 2**15), b"")]), "SHAPE"),
    "65535 records": (build([ONE, R], count=65535), "DIRECTORY"),
    "fewer records than there are": (build([ONE, R], count=1), "DIRECTORY"),
    "no records": (build([ONE], count=0), "DIRECTORY"),
    "kind 35": (build([Record(35, b"")]), "VERSION"),
    "kind 36": (build([ONE, Record(36, b"")]), "VERSION"),
    "kind 63": (build([ONE, Record(63, b"")]), "VERSION"),
    "metadata before graph": (build([META, GRAPH]), "DIRECTORY"),
    "ancillary section twice": (build([Record(100, b"x"), Record(100, b"x")]), "DIRECTORY"),
    "tensor after ancillary section": (build([Record(100, b"x"), ONE], named=False), "DIRECTORY"),
    "two graphs": (build([ONE, GRAPH, GRAPH]), "DIRECTORY"),
    "two metadata": (build([META, GRAPH, META]), "DIRECTORY"),
    "tensor after graph": (build([GRAPH, ONE]), "DIRECTORY"),
    "tensor after metadata": (build([R, META, ONE]), "DIRECTORY"),
    "gap at the end": (build([ONE], tail=b"\0"), "LAYOUT"),
    "payload beyond the file": (build([bad(ans("a", (3,), ABC, T), size=10**6)]), "LAYOUT"),
    "number of 33 bits": (build([bad(LONG, fields=LONG.fields[:-1] + b"\x81\x80\x80\x80\x10")]), "DIRECTORY"),
    "payload of 4 GiB": (build([bad(Record(cwb.GRAPH, b""), size=2**32 - 1), META]), "LAYOUT"),
    "payloads sum to the size modulo 2^32": (
        build([bad(Record(cwb.GRAPH, b"x" * 8), size=2**31 + 4), bad(Record(cwb.METADATA, b""), size=2**31 + 4)]),
        "LAYOUT",
    ),
    # tensors
    "axis 1 last of one": (build([ans("a", (3,), ABC, T, form=cwb.AXIS1_LAST)]), "SHAPE"),
    "axis 1 last of two": (build([ans("a", (3, 1), ABC, T, form=cwb.AXIS1_LAST)]), "SHAPE"),
    "axis 0 last of one": (build([ans("a", (3,), ABC, T, form=cwb.AXIS0_LAST)]), "SHAPE"),
    "last two axes of two swapped": (build([ans("a", (3, 1), ABC, T, form=cwb.SWAPPED_RUN)]), "SHAPE"),
    "a run of no axes": (build([ans("a", (), [0], T, form=cwb.RUN_LAST)]), "SHAPE"),
    "axis 1 last of two, trellis": (build([ans("a", (3, 1), ABC, T, form=cwb.AXIS1_REST)]), "SHAPE"),
    "rank beyond the record": (build([bad(raw("r", 1, (), b"\0" * 4), head=2)], named=False), "DIRECTORY"),
    "2^31 elements": (build([ans("a", (2**16, 2**15), [], [1], words=b"")]), "SHAPE"),
    "2^32 elements": (build([ans("a", (2**16, 2**16), [], [1], words=b"")]), "SHAPE"),
    "2^32 + 1 elements": (build([ans("a", (641, 6700417), [], [1], words=b"")]), "SHAPE"),
    "2^64 elements": (build([ans("a", (2**16,) * 4, [], [1], words=b"")]), "SHAPE"),
    "2^31 raw elements": (build([raw("a", 1, (2**31,), b"")]), "SHAPE"),
    "2^30 raw elements, 0 bytes modulo 2^32": (build([raw("a", 1, (2**30,), b"")]), "SHAPE"),
    "no ANS elements": (build([ans("a", (3, 0), [], T, words=b"")]), "SHAPE"),
    "raw payload short": (build([raw("a", 1, (2,), b"\0" * 4)]), "SHAPE"),
    "raw payload long": (build([raw("a", 10, (2,), b"\0" * 5)]), "SHAPE"),
    "raw empty with payload": (build([raw("a", 1, (0,), b"\0" * 4)]), "SHAPE"),
    # names
    "no name": (named(b""), "NAME"),
    "name of 1025 bytes": (named(b"n" * 1025), "NAME"),
    "name beyond the section": (build([R], named=b"\4abc"), "NAME"),
    "name of 65535 bytes": (build([R], named=b"\xff\xff\3abc"), "NAME"),
    "length not in its shortest form": (build([R], named=b"\x81\0a"), "NAME"),
    "a name too few": (build([R, ONE], named=b"\1a"), "NAME"),
    "a name too many": (build([R], named=b"\1a\1b"), "NAME"),
    "names damaged": (build([R, bad(Record(cwb.NAMES, b"\1a"), crc=1)], named=False), "PAYLOAD_CRC"),
    "names twice": (build([R, Record(cwb.NAMES, b"\1a"), Record(cwb.NAMES, b"\1a")], named=False), "DIRECTORY"),
    # grid
    "step 0": (build([ans("a", (3,), ABC, T, step=0.0)]), "GRID"),
    "step -0": (build([ans("a", (3,), ABC, T, step=-0.0)]), "GRID"),
    "step negative": (build([ans("a", (3,), ABC, T, step=-1.0)]), "GRID"),
    "step infinite": (build([ans("a", (3,), ABC, T, step=float("inf"))]), "GRID"),
    "step NaN": (build([ans("a", (3,), ABC, T, step=float("nan"))]), "GRID"),
    "step subnormal": (build([ans("a", (3,), ABC, T, step=b"\0\xff\xff\x7f\0")]), "GRID"),
    "step 2^117": (build([ans("a", (3,), ABC, T, step=2.0**117)]), "GRID"),
    "symbols up to 2048": (build([ans("a", (3,), ABC, T, reach=2048)]), "GRID"),
    "symbols up to 2^32 - 1": (build([ans("a", (3,), ABC, T, reach=2**32 - 1)]), "GRID"),
    "indices up to 1024": (build([on_trellis(cwb.ADAPTIVE, (1,), [0], 1, reach=1024)]), "GRID"),
    "indices up to 2^31": (build([on_trellis(cwb.ADAPTIVE, (1,), [0], 1, reach=2**31, payload=b"")]), "GRID"),
    "trellis, order 3 of a matrix": (
        build([on_trellis(cwb.ANS, (2, 1), [0, 1], 2, levels=[[1, 3, 3]] * 2, form=cwb.SWAPPED_RUN)]),
        "SHAPE",
    ),
    # exponents
    "exponents in version 1": (build([cwb.stepped(STEPPED, [1, 2])], version=1), "VERSION"),
    "exponents of a raw tensor": (build([replace(R, before=b"\x3e")], named=False), "DIRECTORY"),
    "exponents of a section": (build([ONE, replace(META, before=b"\x3e")]), "DIRECTORY"),
    "exponents of form 0": (build([cwb.stepped(ans("a", (3,), ABC, T), [0])]), "DIRECTORY"),
    "exponents of form 1": (
        build([cwb.stepped(ans("a", (3, 1, 1), ABC, T, form=cwb.AXIS1_LAST), [0, 0, 0])]),
        "DIRECTORY",
    ),
    "exponents twice": (build([replace(cwb.stepped(STEPPED, [1, 2]), before=b"\x3e\x3e")]), "DIRECTORY"),
    "exponents and no more": (build([], count=1, directory=b"\x3e"), "DIRECTORY"),
    "exponents, step too small": (
        build([cwb.stepped(ans("a", (3, 1), ABC, T, form=cwb.AXIS0_LAST, step=2.0**-96), [0, 0, 0])]),
        "GRID",
    ),
    "exponents cut short": (build([replace(cwb.stepped(STEPPED, [1, 2]), payload=b"\xe2")]), "GRID"),
    "exponent of -1": (build([cwb.stepped(STEPPED, [0, -1])]), "GRID"),
    "exponent of 32": (build([cwb.stepped(STEPPED, [32, 30], 31)]), "GRID"),
    "exponent of ones": (build([cwb.stepped(STEPPED, [0, 0], code=b"\xff" * 300)]), "GRID"),
    "exponents' last byte not filled with zeros": (
        build([cwb.stepped(STEPPED, [1, 2], code=cwb.exponent_bytes([1, 1], 1, "1"))]),
        "GRID",
    ),
    "exponents of form 2, one missing": (
        build([replace(cwb.stepped(THREES, [0, 0, 0]), payload=cwb.exponent_bytes([0, 9], 0)[:1])]),
        "GRID",
    ),
    # payloads
    "one table of two": (
        build([on_trellis(cwb.ANS, (2,), [0, 1], 2, payload=cwb.table_bytes([1, 3, 3], 1))]),
        "TABLE",
    ),
    "trellis, index too large": (
        build(
            [
                on_trellis(
                    cwb.ADAPTIVE,
                    (2,),
                    [0, 13],
                    2,
                    payload=cwb.encode_plain(np.array([0, 20]), 20, 1, np.zeros(2, int), 2),
                )
            ]
        ),
        "STREAM",
    ),
    "section CRC": (build([ONE, bad(Record(cwb.GRAPH, b"g"), crc=1)]), "PAYLOAD_CRC"),
    "metadata CRC": (build([ONE, bad(Record(cwb.METADATA, b""), crc=1)]), "PAYLOAD_CRC"),
    "raw CRC": (build([bad(raw("r", 10, (1,), b"\0\0"), crc=1)]), "PAYLOAD_CRC"),
    "ANS CRC": (build([bad(ans("a", (3,), ABC, T), crc=1)]), "PAYLOAD_CRC"),
    "level below 0": (build([ans("a", (1,), [0], [3, -1, 3], words=b"")]), "TABLE"),
    "level above the highest": (build([ans("a", (1,), [0], [3, 25, 3], words=b"")]), "TABLE"),
    "first and last level 0": (build([ans("a", (1,), [0], [0, 3, 0], words=b"")]), "TABLE"),
    "resolution 3": (build([ans("a", (1,), [0], T, table=cwb.table_bytes(T, 3), words=b"")]), "TABLE"),
    "ones without end": (build([ans("a", (1,), [0], T, table=b"\xf0" + b"\xff" * 300, words=b"")]), "TABLE"),
    "no payload": (build([ans("a", (1,), [0], T, table=b"", words=b"")]), "TABLE"),
    "table cut": (build([ans("a", (1,), [0], T, table=cwb.table_bytes(T, 1)[:-1], words=b"")]), "TABLE"),
    "table's last byte not filled with zeros": (
        build([ans("a", (3,), ABC, T, table=cwb.table_bytes(T, 1)[:-1] + b"\x80", words=b"")]),
        "TABLE",
    ),
    "K 1 with a word": (build([ans("a", (3,), [0, 0, 0], [1], words=words(259))]), "STREAM"),
    "K 1 with a byte": (build([ans("a", (3,), [0, 0, 0], [1], words=b"\1")]), "STREAM"),
    "K 1 with a zero word": (build([ans("a", (3,), [0, 0, 0], [1], words=words(0))]), "STREAM"),
    "first word 0": (build([ans("a", (3,), ABC, T, words=words(0) + cwb.encode([0, 1, 2], F))]), "STREAM"),
    "first byte 0": (build([ans("a", (3,), ABC, T, words=b"\0" + words(1))]), "STREAM"),
    "a word too many": (build([ans("a", (3,), ABC, T, words=cwb.encode([0, 1, 2], F) + words(0))]), "STREAM"),
    "no words": (build([bad(ans("a", (3,), ABC, T, words=b""))]), "PAYLOAD_CRC"),
    "stream of other symbols": (
        build([ans("a", (3,), ABC, T, words=words(0x1234, 0x5678, 0x9ABC, 0xDEF0))]),
        "STREAM",
    ),
    "adaptive, nothing": (build([adaptive("d", [0], payload=b"")]), "STREAM"),
    "adaptive, last byte 0": (build([adaptive("d", [0], payload=b"\x33\x0c\0")]), "STREAM"),
    "adaptive, half a header": (build([adaptive("d", [0], payload=b"\x30")]), "STREAM"),
    "adaptive, rows of nothing": (build([adaptive("d", [0], payload=b"\x30\x40\x50\1")]), "STREAM"),
    "adaptive, symbol too large": (
        build([adaptive("d", [0, 13], payload=cwb.encode_plain(np.array([0, 20]), 20, 1))]),
        "STREAM",
    ),
    "adaptive, symbol too small": (
        build([adaptive("d", [0, 13], payload=cwb.encode_plain(np.array([-20, 0]), 20, 1))]),
        "STREAM",
    ),
    "adaptive, low bits too large": (
        build([adaptive("d", [5], payload=cwb.encode_plain(np.array([7]), 7, 0x0021))]),
        "STREAM",
    ),
    "adaptive, longest escape": (build([adaptive("d", [2000], payload=b"\x3c\x0c" + bytes(40) + b"\1")]), "STREAM"),
    "adaptive, bytes left": (build([adaptive("d", [0], payload=b"\7\x38" + b"\xff" * 10)]), "STREAM"),
    "adaptive, other symbols": (
        build([adaptive("d", [0, 1], payload=cwb.encode_plain(np.array([1, 0]), 1, 1))]),
        "PAYLOAD_CRC",
    ),
    "CRC of payload and symbols": (build([bad(ans("a", (3,), ABC, T), crc=0)]), "PAYLOAD_CRC"),
}
HOSTILE |= {
    f"{what} record cut to {size} bytes": (build([], count=1, directory=record.to_bytes()[:size]), "DIRECTORY")
    for what, record in {
        "raw": R,
        "ANS": ONE,
        "trellis": TWO,
        "graph": GRAPH,
        "stepped": cwb.stepped(STEPPED, [1, 2]),
    }.items()
    for size in range(len(record.to_bytes()))
}


def test_each_broken_rule_has_its_error(harness: Run, tmp_path: Path) -> None:
    paths = []
    for i, (data, _) in enumerate(HOSTILE.values()):
        paths.append(tmp_path / f"{i}.cwb")
        paths[-1].write_bytes(data)
    codes = [int(line) for line in harness("status", *paths).stdout.split()]
    names = {value: name for name, value in ERRORS.items()}
    found = {rule: names[code] for rule, code in zip(HOSTILE, codes, strict=True)}
    expected = {rule: f"CWB_ERR_{error}" for rule, (_, error) in HOSTILE.items()}
    assert found == expected


def test_hostile_files_cover_every_file_error() -> None:
    provoked = {f"CWB_ERR_{error}" for _, error in HOSTILE.values()}
    assert provoked == {name for name, code in ERRORS.items() if -13 <= code < 0}


OPTIONS = {
    "NO_ANS": "a",
    "NO_ADAPTIVE": "d",
    "NO_TRELLIS": "",
    "NO_EXPONENTS": "",
    "NO_V1": "",
    "NO_NAMES": "",
    "NO_CRC": "",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_what_a_build_option_leaves_in_is_the_same(build_harness: BuildHarness, tmp_path: Path, option: str) -> None:
    """The coder that is left out gives CWB_ERR_KIND, in every function; all else decodes as ever."""
    harness = build_harness(f"-DCWB_{option}")
    names = "abcd" if option != "NO_NAMES" else ["", "", "", ""]
    records = [ans(names[0], (3,), ABC, T), raw(names[1], 10, (2,), b"ab\0c"), R, adaptive(names[3], [0, 3, -1, 0, 20])]
    records[2] = raw(names[2], 1, (1,), bytes(4))
    missing = records["abcd".index(OPTIONS[option])] if OPTIONS[option] else None
    (tmp_path / "f").write_bytes(build(records, named=option != "NO_NAMES"))
    lines = harness("dump", tmp_path / "f", tmp_path / "out").stdout.decode().splitlines()
    assert [line.split()[2] for line in lines] == ["3", "2", "1", "5"]
    expected = b""
    for record in records:
        if record is not missing:
            expected += b"" if record.symbols is None else record.symbols.astype("<i2").tobytes()
            expected += record.decoded
    assert (tmp_path / "out").read_bytes() == expected
    code = ERRORS["CWB_ERR_KIND" if missing else "CWB_OK"]
    assert harness("status", tmp_path / "f").stdout.split() == [str(code).encode()]


def test_names_that_only_python_refuses(harness: Run, tmp_path: Path) -> None:
    """The decoder takes names as bytes, and the first of two that are the same."""
    for i, entries in enumerate([(b"\xc0\x80",), (b"a\0b",), (b"\xed\xa0\x80", b"\xff")]):
        (tmp_path / f"{i}").write_bytes(named(*entries))
        assert harness("status", tmp_path / f"{i}").stdout.split() == [b"0"]
    twice = build([raw("", 10, (1,), b"ab"), R], named=cwb.names(b"same", b"same"))
    (tmp_path / "twice").write_bytes(twice)
    assert harness("status", tmp_path / "twice").stdout.split() == [b"0"]


def test_a_trellis_that_was_left_out(build_harness: BuildHarness, tmp_path: Path) -> None:
    harness = build_harness("-DCWB_NO_TRELLIS")
    (tmp_path / "f").write_bytes(build([TWO, ONE]))
    harness("dump", tmp_path / "f", tmp_path / "out")
    assert ONE.symbols is not None
    assert (tmp_path / "out").read_bytes() == ONE.symbols.astype("<i2").tobytes() + ONE.decoded
    assert harness("status", tmp_path / "f").stdout.split() == [str(ERRORS["CWB_ERR_KIND"]).encode()]


def test_exponents_that_were_left_out(build_harness: BuildHarness, tmp_path: Path) -> None:
    harness = build_harness("-DCWB_NO_EXPONENTS")
    (tmp_path / "f").write_bytes(build([cwb.stepped(STEPPED, [1, 2]), TWO]))
    harness("dump", tmp_path / "f", tmp_path / "out")
    assert TWO.symbols is not None
    assert (tmp_path / "out").read_bytes() == TWO.symbols.astype("<i2").tobytes() + TWO.decoded
    assert harness("status", tmp_path / "f").stdout.split() == [str(ERRORS["CWB_ERR_KIND"]).encode()]


@pytest.mark.parametrize("form", [cwb.AXIS0_LAST, *range(cwb.RUN_LAST, 8)])
def test_rows_with_steps_of_their_own(build_harness: BuildHarness, tmp_path: Path, form: int) -> None:
    """In every form, of rows longer than a tile and of one element."""
    harness = build_harness()
    records = []
    for index, dims in enumerate([(3, 5, 7), (2, 1, 70), (70, 2, 1), (1, 1, 1), (40, 1, 2)]):
        stored = list(dims)
        if form in (cwb.AXIS0_LAST, cwb.AXIS0_RUN):
            stored.append(stored.pop(0))
        elif form == cwb.AXIS1_REST:
            stored.append(stored.pop(1))
        elif form == cwb.SWAPPED_RUN:
            stored[1:] = stored[:0:-1]
        count = math.prod(dims)
        rows = count // stored[-1] if form in (cwb.RUN_LAST, cwb.AXIS0_RUN, cwb.SWAPPED_RUN) else stored[0]
        indices = [(7 * i + i // 3) % 3 - 1 for i in range(count)]
        if form == cwb.AXIS0_LAST:
            rows = dims[0]
            record = ans("", dims, indices, T, form=form)
        else:
            record = on_trellis(cwb.ANS, dims, indices, count // rows, levels=[[1, 3, 3], [1, 3, 5]], form=form)
        record.name = f"{index}"
        records.append(cwb.stepped(record, [(5 * row) % 32 for row in range(rows)]))
    (tmp_path / "f").write_bytes(build(records))
    harness("dump", tmp_path / "f", tmp_path / "out")
    expected = [
        record.symbols.astype("<i2").tobytes() + record.decoded for record in records if record.symbols is not None
    ]
    assert (tmp_path / "out").read_bytes() == b"".join(expected)
    assert harness("status", tmp_path / "f").stdout.split() == [b"0"]


def test_version_1_was_left_out(build_harness: BuildHarness, tmp_path: Path) -> None:
    harness = build_harness("-DCWB_NO_V1")
    for version, error in ((0, "VERSION"), (1, "VERSION"), (2, None)):
        (tmp_path / "f").write_bytes(build([TWO], version=version))
        code = ERRORS["CWB_OK" if error is None else f"CWB_ERR_{error}"]
        assert harness("status", tmp_path / "f").stdout.split() == [str(code).encode()]


@pytest.mark.parametrize("option", ["CRC32=other_crc", "CRC_SLICES=1", "CRC_SLICES=4"])
def test_other_crcs_find_damage(build_harness: BuildHarness, tmp_path: Path, option: str) -> None:
    harness = build_harness(f"-DCWB_{option}")
    (tmp_path / "f").write_bytes(small_file())
    assert int(harness("flips", tmp_path / "f").stdout) == 8 * len(small_file())


def test_without_crcs_damage_is_not_noticed_but_stays_in_bounds(build_harness: BuildHarness, tmp_path: Path) -> None:
    harness = build_harness("-DCWB_NO_CRC")
    unnoticed = [rule for rule, (_, error) in HOSTILE.items() if error.endswith("_CRC") and "no words" not in rule]
    paths = []
    for i, rule in enumerate(unnoticed):
        paths.append(tmp_path / str(i))
        paths[-1].write_bytes(HOSTILE[rule][0])
    assert harness("status", *paths).stdout.split() == [b"0"] * len(unnoticed)
    (tmp_path / "f").write_bytes(small_file())
    assert int(harness("fuzz", tmp_path / "f", 7, 20000).stdout) > 100


def test_without_names_their_section_is_not_looked_at(build_harness: BuildHarness, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(build([R, bad(Record(cwb.NAMES, b"\xff"), crc=1)], named=False))
    assert build_harness("-DCWB_NO_NAMES")("status", tmp_path / "f").stdout.split() == [b"0"]


@pytest.fixture(scope="session")
def rebuild(compile_c: Compile) -> Path:
    return compile_c("cwb-rebuild", DECODER / "examples/rebuild.c", DECODER / "cwb.c")


def run_rebuild(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


def test_rebuild(rebuild: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = cwb.random_table(rng, 101)
    records = [
        ans("conv.weight", (4, 3, 10, 11), cwb.random_symbols(rng, table, 1320), table),
        raw("bias\n 1", 1, (2,), bytes(8)),
        raw("scale", 16, (), bytes(2)),
        raw("none", 11, (0, 3), b""),
        Record(cwb.GRAPH, b"g"),
    ]
    (tmp_path / "in.cwb").write_bytes(build(records))
    done = run_rebuild(rebuild, tmp_path / "in.cwb", tmp_path / "out.bin")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.bin").read_bytes() == b"".join(record.decoded for record in records)
    assert done.stdout.splitlines() == [
        f"conv.weight float32 4x3x10x11 1320 {records[0].right_crc:08x}",
        f"bias\\x0A\\x201 float32 2 2 {zlib.crc32(bytes(8)):08x}",
        f"scale bfloat16 scalar 1 {zlib.crc32(bytes(2)):08x}",
        "none float64 0x3 0 00000000",
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is shorter than its header says"),
        (build([R, bad(ans("w", (3,), ABC, T), crc=1)]), "tensor w: the payload is damaged (CRC)"),
        (build([R, bad(raw("x", 10, (1,), b"ab"), crc=1)]), "tensor x: the payload is damaged (CRC)"),
        (build([bad(Record(cwb.GRAPH, b""), crc=1)]), "the payload is damaged (CRC)"),
    ],
)
def test_rebuild_refuses_damage(rebuild: Path, tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "in.cwb"
    path.write_bytes(data)
    done = run_rebuild(rebuild, path, tmp_path / "out.bin")
    assert done.returncode == 4
    assert done.stderr == f"cwb-rebuild: {path}: {message}\n"
    assert not (tmp_path / "out.bin").exists()


def test_rebuild_usage(rebuild: Path, tmp_path: Path) -> None:
    (tmp_path / "in.cwb").write_bytes(small_file())
    assert run_rebuild(rebuild).returncode == 2
    assert run_rebuild(rebuild, tmp_path / "absent", tmp_path / "out.bin").returncode == 2
    done = run_rebuild(rebuild, tmp_path / "in.cwb", tmp_path / "absent" / "out.bin")
    assert (done.returncode, done.stderr.endswith(": cannot write\n")) == (1, True)


def test_strict_warnings(cc: str) -> None:
    done = subprocess.run(["make", "-s", "-C", DECODER, "check", f"CC={cc}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_needs_no_other_header() -> None:
    included = {
        match for path in ("cwb.h", "cwb.c") for match in re.findall(r"#include (\S+)", (DECODER / path).read_text())
    }
    assert included == {"<limits.h>", "<stddef.h>", "<stdint.h>", '"cwb.h"'}


def test_calls_no_libc(cc: str, tmp_path: Path) -> None:
    """Nothing undefined is left in the object file but what the compiler itself may call."""
    source = DECODER / "cwb.c"
    command = [
        cc,
        "-std=c99",
        "-Os",
        "-ffreestanding",
        f"-I{DECODER}",
        "-c",
        source,
        "-o",
        tmp_path / "o",
    ]
    subprocess.run(command, check=True)
    try:
        listed = subprocess.run(["nm", "-u", tmp_path / "o"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no nm: binutils are not installed")
    compilers = {"memset", "memcpy", "_GLOBAL_OFFSET_TABLE_"}
    assert {name.lstrip("_") for name in listed.split() if len(name) > 1} <= {name.lstrip("_") for name in compilers}


def test_readme_example_compiles(cc: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```c\n(.*?)^```", (DECODER / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for i, block in enumerate(blocks):
        source = tmp_path / f"example{i}.c"
        source.write_text(block)
        command = [cc, *STRICT, f"-I{DECODER}", "-c", source, "-o", tmp_path / "o"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_readme_lists_every_error() -> None:
    listed = re.findall(r"^\| `(CWB_\w+)` \| (-?\d+) \|", (DECODER / "README.md").read_text(), re.MULTILINE)
    assert {name: int(code) for name, code in listed} == ERRORS | {"CWB_OK": 0}
