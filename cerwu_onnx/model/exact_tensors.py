"""Decide where a tensor that must come back bit for bit takes the fewest bytes: directory, graph section or coded.

Floats are raw tensors of the directory, unless the deflated graph section holds them in fewer bytes (masks, constant
tables). Integers are part of the graph section, unless the entropy coders need fewer bytes than deflate: the weights of
models that are quantised already, large tables.
"""

from __future__ import annotations

import zlib

import onnx

from cerwu_onnx.container import writer
from cerwu_onnx.model.elements import raw_bytes
from cerwu_onnx.model.placeholders import MAX_SYMBOL, placeholder, tables
from cerwu_onnx.types import QuantizedTensor

LEAST = 64
"""A tensor of fewer bytes is not worth a record of its own."""

GAIN = 0.9
"""Floats leave the directory if deflate brings them to at most this share of their size."""

SAMPLE = 1 << 20
"""Bytes of a tensor from which its deflated size is estimated."""

ENTRY = 12
"""About how many bytes a tensor's name and frame take in the graph section."""


def deflated_size(raw: bytes) -> int:
    """About how many bytes a tensor's raw bytes take after deflate."""
    if len(raw) <= SAMPLE:
        return len(zlib.compress(raw, 9))
    middle = (len(raw) - SAMPLE) // 2
    return len(zlib.compress(raw[middle : middle + SAMPLE], 9)) * len(raw) // SAMPLE


def is_redundant(tensor: onnx.TensorProto) -> bool:
    """Whether deflate makes a tensor of floats so small that it should stay in the graph section."""
    raw = raw_bytes(tensor)
    return len(raw) >= LEAST and deflated_size(raw) + ENTRY < GAIN * len(raw)


def coded_table(
    name: str, tensor: onnx.TensorProto, coder: str, *, weights_only: bool
) -> tuple[writer.Encoded, onnx.TensorProto] | None:
    """Code a tensor of integers, with its placeholder; None if deflate does as well.

    Args:
        name: name of the tensor.
        tensor: the tensor, of any type, not empty.
        coder: one of :data:`cerwu_onnx.config.CODERS`.
        weights_only: the file has no graph section that could hold the tensor, or say that symbols are not the
            integers.
    """
    if tensor.data_type == onnx.TensorProto.STRING:
        return None
    raw = raw_bytes(tensor)
    if len(raw) < LEAST:
        return None
    found = []
    for table in tables(tensor):
        if weights_only and table.nibbles:
            continue
        symbols = table.symbols + table.offset if weights_only else table.symbols
        if weights_only and abs(symbols).max() > MAX_SYMBOL:
            continue
        quantized = QuantizedTensor(symbols, 1.0, 0.0, 0.0, 0.0)
        found.append((writer.encode_tensor(writer.CodedTensor(name, quantized, coder)), placeholder(tensor, table)))
    best = min(found, key=lambda pair: pair[0].cost, default=None)
    if best is None or (not weights_only and best[0].cost >= deflated_size(raw) + ENTRY):
        return None
    return best
