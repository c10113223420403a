"""Builds .cwb files straight from docs/format.md. The product has its own writer: each checks the other.

Every field can be overridden, so that tests can write files that break one rule and no other.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cerwu_onnx.entropy.adaptive import encode_plain

MAGIC = bytes([0x89, 0x43, 0x57, 0x42])
RAW, ANS, ADAPTIVE, GRAPH, METADATA, NAMES = 0, 1, 2, 32, 33, 34
SIZES = {1: 4, 10: 2, 11: 8, 16: 2}
CODES = {1: 0, 10: 1, 11: 2, 16: 3}
PLAIN, AXIS1_LAST, AXIS0_LAST, RUN_LAST, RUN_REST, AXIS1_REST, AXIS0_RUN, SWAPPED_RUN = range(8)


@dataclass
class Record:
    """One record: ``head`` is its first byte, that of the kind if None; ``fields`` is what follows the CRC, and
    ``before`` what stands in front."""

    kind: int
    payload: bytes
    fields: bytes = b""
    name: str = ""
    type: int = 1
    dims: tuple[int, ...] = ()
    decoded: bytes = b""
    symbols: np.ndarray | None = None
    largest: int = 0
    head: int | None = None
    size: int | None = None
    crc: int | None = None
    before: bytes = b""

    @property
    def right_crc(self) -> int:
        values = b"" if self.symbols is None else self.symbols.astype("<i2").tobytes()
        return zlib.crc32(self.payload + values)

    def to_bytes(self) -> bytes:
        size = len(self.payload) if self.size is None else self.size
        crc = self.right_crc if self.crc is None else self.crc
        head = self.kind if self.head is None else self.head
        return self.before + bytes([head]) + leb128(size) + struct.pack("<I", crc) + self.fields


def frequencies(levels: Sequence[int], resolution: int) -> list[int]:
    """f_0 .. f_(K-1) of the levels, 2^resolution of them to an octave."""
    quarters = [4 * (level - 1) >> resolution for level in levels]
    weights = [
        (16, 19, 23, 27)[quarter % 4] << quarter // 4 if level else 0
        for level, quarter in zip(levels, quarters, strict=True)
    ]
    spare = 4096 - sum(level > 0 for level in levels)
    made = [weight and 1 + weight * spare // sum(weights) for weight in weights]
    made[made.index(max(made))] += 4096 - sum(made)
    return made


def table_bytes(levels: Sequence[int], resolution: int, rice: int = 1) -> bytes:
    """The table; levels may break the rules."""
    lo = -(len(levels) // 2)
    bits = f"{resolution:02b}"[::-1] + f"{rice:02b}"[::-1]
    for i, level in enumerate(levels):
        before = levels[i - 1] if i else 1
        likely = 0 if before == 0 else before + 1 if lo + i <= 0 else before - 1
        if lo + i > 0 and -2 * lo >= i:
            likely = levels[-2 * lo - i]
        difference = level - likely
        value = 2 * difference - 1 if difference > 0 else -2 * difference
        bits += "1" * (value >> rice) + "0" + "".join(str(value >> shift & 1) for shift in range(rice))
    return int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")


def encode(indices: Sequence[int], *tables: Sequence[int], grids: Sequence[int] = ()) -> bytes:
    """The words of symbols given by their index in the table of frequencies, or in that of their grid."""
    state, words = 0, []
    for position in reversed(range(len(indices))):
        i, table = indices[position], tables[grids[position] if grids else 0]
        if state >= table[i] << 20:
            words.append(state & 0xFFFF)
            state >>= 16
        state = (state // table[i] << 12) + state % table[i] + sum(table[:i])
    while state > 0xFFFF:
        words.append(state & 0xFFFF)
        state >>= 16
    first = bytes([state & 255, state >> 8]) if state > 255 else bytes([state]) if state else b""
    return first + struct.pack(f"<{len(words)}H", *reversed(words))


def leb128(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def shape(dims: Sequence[int]) -> bytes:
    """Dimensions."""
    return b"".join(map(leb128, dims))


def coded_head(kind: int, form: int, rank: int) -> int:
    """The first byte of a coded tensor."""
    return 128 + 64 * (kind == ADAPTIVE) + 8 * form + rank


def step_bytes(step: float | bytes) -> bytes:
    """The long form of a step, or the bytes given."""
    return step if isinstance(step, bytes) else b"\0" + struct.pack("<f", step)


def step_value(packed: bytes) -> np.float32:
    """What :func:`step_bytes` stands for."""
    if packed[0]:
        return np.float32((1 + packed[0] % 8 / 8) * 2.0 ** (packed[0] // 8 - 25))
    return np.frombuffer(packed[1:], "<f4")[0]


def names(*entries: bytes) -> bytes:
    """The content of a section of names."""
    return b"".join(leb128(len(entry)) + entry for entry in entries)


def raw(name: str, type_: int, dims: tuple[int, ...], payload: bytes) -> Record:
    return Record(RAW, payload, shape(dims), name, type_, dims, payload, head=8 * CODES[type_] + len(dims))


def coded(
    kind: int,
    name: str,
    dims: tuple[int, ...],
    values: np.ndarray,
    payload: bytes,
    form: int,
    step: float | bytes,
    reach: int,
) -> Record:
    """A coded tensor: ``values`` are what its symbols stand for."""
    packed = step_bytes(step)
    with np.errstate(over="ignore", invalid="ignore"):
        decoded = (step_value(packed) * values.astype(np.float32)).astype("<f4").tobytes()
    fields = shape(dims) + packed + leb128(reach)
    largest = reach * (2 if form >= RUN_LAST else 1)
    return Record(kind, payload, fields, name, 1, dims, decoded, values, largest, coded_head(kind, form, len(dims)))


def ans(
    name: str,
    dims: tuple[int, ...],
    symbols: Sequence[int],
    levels: Sequence[int],
    *,
    resolution: int = 1,
    step: float | bytes = 0.125,
    reach: int | None = None,
    form: int = PLAIN,
    table: bytes | None = None,
    words: bytes | None = None,
) -> Record:
    """An ANS tensor. Pass ``words`` to skip the encoding (for tables that cannot encode)."""
    values, middle = np.asarray(symbols, np.int64), len(levels) // 2
    if table is None:
        table = table_bytes(levels, resolution) if len(levels) > 1 else b""
    if words is None:
        words = encode((values + middle).tolist(), frequencies(levels, resolution))
    return coded(ANS, name, dims, values, table + words, form, step, middle if reach is None else reach)


def adaptive(
    name: str,
    symbols: Sequence[int],
    *,
    header: int = 0xB30C,
    step: float | bytes = 0.125,
    reach: int | None = None,
    payload: bytes | None = None,
) -> Record:
    """A flat adaptive tensor, by the readable form of the specification in cerwu_onnx/entropy/adaptive.py."""
    values = np.asarray(symbols, np.int64)
    reach = int(np.abs(values).max()) if reach is None else reach
    if payload is None:
        payload = encode_plain(values, reach, header)
    return coded(ADAPTIVE, name, (len(values),), values, payload, PLAIN, step, reach)


def exponent_bytes(exponents: Sequence[int], centre: int, behind: str = "") -> bytes:
    """The code of exponents, which may break the rules, and bits behind it."""
    codes = [2 * (e - centre) - 1 if e > centre else 2 * (centre - e) for e in exponents]
    bits = f"{centre:05b}"[::-1] + "".join("1" * code + "0" for code in codes) + behind
    return int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")


def stepped(record: Record, exponents: Sequence[int], centre: int = 2, code: bytes | None = None) -> Record:
    """The tensor with exponents of its rows, which are those of its stored order, or of axis 0 in form 2."""
    form = (record.head or 0) >> 3 & 7
    code = exponent_bytes(exponents, centre) if code is None else code
    count = len(record.decoded) // 4
    rows = np.resize(exponents, count) if form == AXIS0_LAST else np.repeat(exponents, count // len(exponents))
    decoded = np.ldexp(np.frombuffer(record.decoded, "<f4"), -rows).astype("<f4").tobytes()
    return replace(record, payload=code + record.payload, decoded=decoded, before=b"\x3e")


def walk(indices: Sequence[int], run: int, version: int = 2) -> tuple[list[int], list[int]]:
    """Values of indices on the trellis of a version, and the grids they are on."""
    odd_index_term, odd_grid_term = (0b1010, 0b100001) if version == 2 else (0b0101, 0b1001)
    values, grids, state = [], [], 0
    for position, k in enumerate(indices):
        if position % run == 0:
            state = 0
        odd_grid = state % 2
        grids.append(odd_grid)
        values.append(2 * k if not odd_grid or k == 0 else 2 * k - 1 if k > 0 else 2 * k + 1)
        state //= 2
        if k % 2:
            state ^= odd_index_term
        if odd_grid:
            state ^= odd_grid_term
    return values, grids


def on_trellis(
    kind: int,
    dims: tuple[int, ...],
    indices: Sequence[int],
    run: int,
    *,
    levels: Sequence[Sequence[int]] = (),
    name: str = "t",
    form: int = RUN_LAST,
    header: int = 0xB30C,
    reach: int | None = None,
    payload: bytes | None = None,
    version: int = 2,
) -> Record:
    """A trellis coded tensor. ``levels`` are those of the two tables."""
    values, grids = walk(indices, run, version)
    reach = max(map(abs, indices)) if reach is None else reach
    if payload is None and kind == ADAPTIVE:
        payload = encode_plain(np.asarray(indices), reach, header, np.array(grids, np.uint8), run)
    elif payload is None:
        tables = [frequencies(each, 1) for each in levels]
        payload = b"".join(table_bytes(each, 1) for each in levels if len(each) > 1)
        payload += encode([index + reach for index in indices], *tables, grids=grids)
    return coded(kind, name, dims, np.array(values, np.int64), payload, form, 0.125, reach)


def build(
    records: Sequence[Record],
    *,
    magic: bytes = MAGIC,
    version: int = 2,
    count: int | None = None,
    directory: bytes | None = None,
    directory_size: int | None = None,
    file_size: int | None = None,
    crc: int | None = None,
    tail: bytes = b"",
    named: bytes | bool = True,
) -> bytes:
    """The file. Tensors are named, or ``named`` is the section of names; none where the number of records is forged."""
    tensors = [record.name.encode() for record in records if record.kind < GRAPH]
    if named and tensors and count is None:
        content = names(*tensors) if named is True else named
        place = sum(record.kind < NAMES for record in records)
        records = [*records[:place], Record(NAMES, content), *records[place:]]
    if directory is None:
        directory = b"".join(record.to_bytes() for record in records)
    body = directory + b"".join(record.payload for record in records) + tail
    header = magic + struct.pack(
        "<HHII",
        version,
        len(records) if count is None else count,
        len(directory) if directory_size is None else directory_size,
        20 + len(body) if file_size is None else file_size,
    )
    return header + struct.pack("<I", zlib.crc32(header + directory) if crc is None else crc) + body


def random_table(rng: np.random.Generator, k: int, resolution: int = 1) -> list[int]:
    """K levels, an odd number, zeros among them, the first or the last not zero."""
    levels = rng.integers(0, 1 + rng.integers(1, 12 << resolution), size=k, endpoint=True)
    levels[rng.random(k) < rng.choice([0, 0.2, 0.9])] = 0
    end = rng.choice([0, -1])
    levels[end] = max(levels[end], 1)
    return [int(level) for level in np.minimum(levels, 12 << resolution)] if k > 1 else [1]


def random_symbols(rng: np.random.Generator, levels: Sequence[int], n: int, resolution: int = 1) -> list[int]:
    """Symbols drawn from the table."""
    drawn = rng.choice(len(levels), size=n, p=np.asarray(frequencies(levels, resolution)) / 4096)
    return [int(i) - len(levels) // 2 for i in drawn]
