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


def edges(table: Sequence[int]) -> list[int]:
    """L_0 .. L_K of the frequencies."""
    total, out = 0, [0]
    for i, frequency in enumerate(table, 1):
        total += frequency
        out.append(total * (2**24 - len(table)) // 4096 + i)
    return out


def encode(indices: Sequence[int], table: Sequence[int]) -> bytes:
    """The words of symbols given by their index in the table."""
    left, state, words = edges(table), 0, []
    for i in reversed(indices):
        width = left[i + 1] - left[i]
        if state >= width << 40:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // width << 24) | (state % width + left[i])
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return struct.pack(f"<{len(words)}I", *reversed(words))


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
    table: Sequence[int],
    *,
    step: float | bytes = 0.125,
    lo: int = 0,
    k: int | None = None,
    type_: int = 1,
    table_bytes: bytes | None = None,
    words: bytes | None = None,
    decoded_crc: int | None = None,
) -> Record:
    """An ANS tensor. Pass ``words`` to skip the encoding (for tables that cannot encode)."""
    packed = step if isinstance(step, bytes) else struct.pack("<f", step)
    symbols = np.asarray(indices, np.int64) + lo
    with np.errstate(over="ignore", invalid="ignore"):
        decoded = (np.frombuffer(packed, "<f4")[0] * symbols.astype(np.float32)).astype("<f4").tobytes()
    crc = zlib.crc32(decoded) if decoded_crc is None else decoded_crc
    fields = form(type_, dims) + grid(packed, lo, len(table) if k is None else k, crc)
    payload = b"".join(map(leb128, table)) if table_bytes is None else table_bytes
    payload += encode(indices, table) if words is None else words
    return Record(ANS, payload, fields, name, type_, dims, decoded, symbols, lo, table)


def adaptive(
    name: str, symbols: Sequence[int], *, header: int = 0xB9, step: float = 0.125, payload: bytes | None = None
) -> Record:
    """A flat adaptive tensor, by the readable form of the specification in cerwu_onnx/entropy/adaptive.py."""
    values = np.asarray(symbols, np.int64)
    lo, k = int(values.min()), int(np.ptp(values)) + 1
    decoded = (np.float32(step) * values.astype(np.float32)).astype("<f4").tobytes()
    fields = form(1, (len(values),)) + grid(struct.pack("<f", step), lo, k, zlib.crc32(decoded))
    if payload is None:
        payload = encode_plain(values, header)
    return Record(ADAPTIVE, payload, fields, name, 1, (len(values),), decoded, values, lo, range(k))


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
        records = [*records, Record(NAMES, content)]
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


def random_table(rng: np.random.Generator, k: int) -> list[int]:
    """K frequencies with sum 4096, zeros among them (when K > 2), the first and the last not zero."""
    if k == 4096:
        return [1] * k
    weights = rng.gamma(rng.choice([0.05, 0.3, 2.0]), size=k)
    weights[rng.random(k) < 0.2] = 0
    spare = 4096 - min(k, 2)
    total = weights.sum()
    table = np.floor(weights / total * spare).astype(int) if total > 0 else np.zeros(k, int)
    table[[0, -1]] += 1
    if k == 1:
        return [4096]
    table[rng.integers(k)] += 4096 - table.sum()
    return [int(f) for f in table]


def random_indices(rng: np.random.Generator, table: Sequence[int], n: int) -> list[int]:
    """Symbols drawn from the table, some of them of frequency zero."""
    drawn = rng.choice(len(table), size=n, p=np.asarray(table) / 4096)
    wild = rng.random(n) < 0.05
    drawn[wild] = rng.integers(len(table), size=wild.sum())
    return [int(i) for i in drawn]
