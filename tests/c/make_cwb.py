"""Builds .cwb files straight from docs/format.md. The product has its own writer: each checks the other.

Every field can be overridden, so that tests can write files that break one rule and no other.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cerwu_onnx.entropy.adaptive import encode_plain

MAGIC = bytes([0x89, 0x43, 0x57, 0x42, 0x0D, 0x0A, 0x1A, 0x0A])
RAW, ANS, ADAPTIVE, GRAPH, METADATA, NAMES = 0, 1, 2, 16, 17, 18
SIZES = {1: 4, 10: 2, 11: 8, 16: 2}
CODES = {1: 0, 10: 1, 11: 2, 16: 3}


@dataclass
class Record:
    """One record: ``fields`` is what follows the payload's CRC in the directory."""

    kind: int
    payload: bytes
    fields: bytes = b""
    name: str = ""
    type: int = 1
    dims: tuple[int, ...] = ()
    decoded: bytes = b""
    symbols: np.ndarray | None = None
    lo: int = 0
    table: Sequence[int] = ()
    size: int | None = None
    crc: int | None = None

    def to_bytes(self) -> bytes:
        size = len(self.payload) if self.size is None else self.size
        crc = zlib.crc32(self.payload) if self.crc is None else self.crc
        return bytes([self.kind]) + leb128(size) + struct.pack("<I", crc) + self.fields


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


def table_bytes(levels: Sequence[int], lo: int, resolution: int, rice: int = 1) -> bytes:
    """The table; levels may break the rules."""
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


def form(type_: int, dims: Sequence[int], *, rank: int | None = None) -> bytes:
    """Element type, rank and dimensions; unknown types become numbers that mean nothing."""
    head = CODES.get(type_, 4 + type_ % 12) << 4 | (len(dims) if rank is None else rank)
    return bytes([head]) + b"".join(map(leb128, dims))


def grid(step: bytes, lo: int, k: int, decoded_crc: int) -> bytes:
    """Step, smallest symbol, number of symbols, CRC."""
    zigzag = 2 * lo if lo >= 0 else -2 * lo - 1
    return step + leb128(zigzag) + leb128(k - 1) + struct.pack("<I", decoded_crc)


def names(*entries: bytes) -> bytes:
    """The content of a section of names."""
    return b"".join(leb128(len(entry)) + entry for entry in entries)


def raw(name: str, type_: int, dims: tuple[int, ...], payload: bytes) -> Record:
    return Record(RAW, payload, form(type_, dims), name, type_, dims, payload)


def ans(
    name: str,
    dims: tuple[int, ...],
    indices: Sequence[int],
    levels: Sequence[int],
    *,
    resolution: int = 1,
    step: float | bytes = 0.125,
    lo: int = 0,
    k: int | None = None,
    type_: int = 1,
    table: bytes | None = None,
    words: bytes | None = None,
    decoded_crc: int | None = None,
) -> Record:
    """An ANS tensor. Pass ``words`` to skip the encoding (for tables that cannot encode)."""
    packed = step if isinstance(step, bytes) else struct.pack("<f", step)
    symbols = np.asarray(indices, np.int64) + lo
    with np.errstate(over="ignore", invalid="ignore"):
        decoded = (np.frombuffer(packed, "<f4")[0] * symbols.astype(np.float32)).astype("<f4").tobytes()
    crc = zlib.crc32(decoded) if decoded_crc is None else decoded_crc
    fields = form(type_, dims) + grid(packed, lo, len(levels) if k is None else k, crc)
    if table is None:
        table = table_bytes(levels, lo, resolution) if len(levels) > 1 else b""
    payload = table + (encode(indices, frequencies(levels, resolution)) if words is None else words)
    return Record(ANS, payload, fields, name, type_, dims, decoded, symbols, lo, levels)


def adaptive(
    name: str, symbols: Sequence[int], *, header: int = 0xC9B9, step: float = 0.125, payload: bytes | None = None
) -> Record:
    """A flat adaptive tensor, by the readable form of the specification in cerwu_onnx/entropy/adaptive.py."""
    values = np.asarray(symbols, np.int64)
    lo, k = int(values.min()), int(np.ptp(values)) + 1
    decoded = (np.float32(step) * values.astype(np.float32)).astype("<f4").tobytes()
    fields = form(1, (len(values),)) + grid(struct.pack("<f", step), lo, k, zlib.crc32(decoded))
    if payload is None:
        payload = encode_plain(values, header)
    return Record(ADAPTIVE, payload, fields, name, 1, (len(values),), decoded, values, lo, range(k))


def walk(indices: Sequence[int], run: int) -> tuple[list[int], list[int]]:
    """Values of indices on a trellis, and the grids they are on."""
    values, grids, state = [], [], 0
    for position, k in enumerate(indices):
        if position % run == 0:
            state = 0
        odd_grid = state % 2
        grids.append(odd_grid)
        values.append(2 * k if not odd_grid or k == 0 else 2 * k - 1 if k > 0 else 2 * k + 1)
        state //= 2
        if k % 2:
            state ^= 0b0101
        if odd_grid:
            state ^= 0b1001
    return values, grids


def on_trellis(
    kind: int,
    dims: tuple[int, ...],
    indices: Sequence[int],
    run: int,
    *,
    levels: Sequence[Sequence[int]] = (),
    name: str = "t",
    order: int = 0,
    header: int = 0xC9B9,
    lo: int | None = None,
    k: int | None = None,
    declared: int | None = None,
    payload: bytes | None = None,
) -> Record:
    """A trellis coded tensor. ``levels`` are those of the two tables; ``declared`` is the run the record tells."""
    values, grids = walk(indices, run)
    least = min(indices) if lo is None else lo
    count = max(indices) - least + 1 if k is None else k
    symbols = np.array(values, np.int64)
    decoded = (np.float32(0.125) * symbols.astype(np.float32)).astype("<f4").tobytes()
    if payload is None and kind == ADAPTIVE:
        payload = encode_plain(np.asarray(indices), header, np.array(grids, np.uint8))
    elif payload is None:
        tables = [frequencies(each, 1) for each in levels]
        payload = b"".join(table_bytes(each, least, 1) for each in levels if len(each) > 1)
        payload += encode([index - least for index in indices], *tables, grids=grids)
    fields = bytes([(4 | order) << 4 | len(dims)]) + b"".join(map(leb128, dims))
    told = grid(struct.pack("<f", 0.125), least, count, zlib.crc32(decoded))
    fields += told[:-4] + leb128(run if declared is None else declared) + told[-4:]
    return Record(kind, payload, fields, name, 1, dims, decoded, symbols, least, range(count))


def build(
    records: Sequence[Record],
    *,
    magic: bytes = MAGIC,
    version: int = 0,
    flags: int = 0,
    count: int | None = None,
    directory: bytes | None = None,
    directory_size: int | None = None,
    directory_crc: int | None = None,
    file_size: int | None = None,
    header_crc: int | None = None,
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
        "<HHIIII",
        version,
        flags,
        len(records) if count is None else count,
        len(directory) if directory_size is None else directory_size,
        32 + len(body) if file_size is None else file_size,
        zlib.crc32(directory) if directory_crc is None else directory_crc,
    )
    return header + struct.pack("<I", zlib.crc32(header) if header_crc is None else header_crc) + body


def random_table(rng: np.random.Generator, k: int, resolution: int = 1) -> list[int]:
    """K levels, zeros among them, the first and the last not zero."""
    levels = rng.integers(0, 1 + rng.integers(1, 12 << resolution), size=k, endpoint=True)
    levels[rng.random(k) < rng.choice([0, 0.2, 0.9])] = 0
    levels[[0, -1]] = np.maximum(levels[[0, -1]], 1)
    return [int(level) for level in np.minimum(levels, 12 << resolution)] if k > 1 else [1]


def random_indices(rng: np.random.Generator, levels: Sequence[int], n: int, resolution: int = 1) -> list[int]:
    """Symbols drawn from the table."""
    drawn = rng.choice(len(levels), size=n, p=np.asarray(frequencies(levels, resolution)) / 4096)
    return [int(i) for i in drawn]
