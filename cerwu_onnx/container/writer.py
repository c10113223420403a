"""Write a .cwb file: encode its tensors and sections, and assemble them to bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cerwu_onnx.container import format as f
from cerwu_onnx.container.packed import STORED, pack
from cerwu_onnx.container.payload import encode as encode_payload
from cerwu_onnx.entropy import adaptive, exponents, step, trellis
from cerwu_onnx.errors import ModelError
from cerwu_onnx.types import IntArray, QuantizedTensor


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor stored exactly: ``values`` in the dtype of :data:`container.format.STORAGE`."""

    name: str
    element: f.ElementType
    values: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CodedTensor:
    """A tensor stored as entropy-coded symbols, by the given coder, or with "auto" by the one that needs fewer bytes.

    ``order`` is the order of symbols in the payload; the tensor keeps its shape. If no form has that order (the rank is
    too low), it stays row-major. The runs of a trellis are runs in this order (:func:`container.format.row_order`).
    ``max_decode_cost`` bounds what decoding takes (:func:`container.payload.encode`).
    """

    name: str
    quantized: QuantizedTensor
    coder: str = "auto"
    order: f.Order = f.Order.ROW_MAJOR
    max_decode_cost: float | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record and its payload; ``record.offset`` is 0 until the file is laid out."""

    record: f.Record
    payload: bytes

    @property
    def cost(self) -> int:
        """Bytes that it adds to the file: record and payload."""
        return len(self.record.to_bytes()) + len(self.payload)


def encode_tensor(tensor: RawTensor | CodedTensor) -> Encoded:
    """Code one tensor.

    Raises:
        ModelError: it exceeds a limit of the format.
        ValueError: its trellis does not make its values in the order given, no form has its runs, or its exponents are
            not those of rows.
    """
    name = tensor.name
    if not 1 <= len(name.encode()) <= f.MAX_NAME or "\0" in name:
        raise ModelError(f"tensor name {name[:80]!r} is empty, has a NUL or over {f.MAX_NAME} bytes: rename the tensor")
    if isinstance(tensor, RawTensor):
        payload = np.ascontiguousarray(tensor.values, dtype=f.STORAGE[tensor.element]).tobytes()
        record = f.Record(f.Kind.RAW, 0, len(payload), f.crc32(payload), tensor.element, tensor.values.shape, name)
    else:
        record, payload = _coded(tensor)
    if len(record.shape) > f.MAX_RANK or record.count > f.MAX_ELEMENTS:
        raise ModelError(f"tensor {name!r} of shape {record.shape} exceeds the format: rank 7, 2^31 - 1 elements")
    return Encoded(record, payload)


def _coded(tensor: CodedTensor) -> tuple[f.Record, bytes]:
    """Record and payload of a coded tensor."""
    quantized, name = tensor.quantized, tensor.name
    order = tensor.order
    if f.form_number(order, quantized.run, quantized.symbols.shape) is None:
        if quantized.run:
            raise ValueError(
                f"{name!r}: no form stores runs of {quantized.run} of {quantized.symbols.shape} in this order"
            )
        order = f.Order.ROW_MAJOR
    stored: IntArray = np.ascontiguousarray(order.store(quantized.symbols))
    symbols, grids = stored, None
    if quantized.run:
        indices, grids = trellis.to_indices(stored, quantized.run)
        symbols = indices.reshape(stored.shape)
    stepped = quantized.exponents is not None
    reach = adaptive.reach_of(symbols)
    if reach > (f.MAX_INDEX if quantized.run else f.MAX_SYMBOL):
        raise ModelError(f"tensor {name!r}: symbols of up to {reach} exceed the format: use a coarser grid")
    if not step.storable(quantized.step) or (stepped and quantized.step < exponents.LEAST_STEP):
        raise ModelError(f"tensor {name!r}: a step of {quantized.step} exceeds the format")
    kind, payload = encode_payload(symbols, tensor.coder, grids, quantized.run, tensor.max_decode_cost)
    shape = quantized.symbols.shape
    record = f.Record(
        kind, 0, 0, 0, f.ElementType.FLOAT32, shape, name, quantized.step, reach, order, quantized.run, stepped=stepped
    )
    if quantized.exponents is not None:
        if record.form in f.FORMS[: f.FIRST_STEPPED]:
            raise ValueError(f"{name!r}: a tensor stored in the order {order} without a trellis has no exponents")
        rows = order.store(np.broadcast_to(quantized.exponents, record.row_shape))
        payload = exponents.encode(rows.ravel()) + payload
    crc = f.crc32(np.ascontiguousarray(stored, dtype="<i2"), f.crc32(payload))
    return replace(record, size=len(payload), crc=crc), payload


def section(kind: f.Kind, payload: bytes) -> Encoded:
    """A section with this payload."""
    return Encoded(f.Record(kind, 0, len(payload), f.crc32(payload)), payload)


def packed_section(kind: f.Kind, content: bytes, *, compress: bool = True) -> Encoded:
    """A section whose content is packed here, or stored as it is."""
    return section(kind, pack(content) if compress else STORED + content)


def names_section(names: Sequence[str]) -> Encoded:
    """The section with the names of the tensors, in order; the C decoder can search it."""
    return section(f.Kind.NAMES, _names(names))


def graph_section(names: Sequence[str], skeleton: bytes, *, compress: bool = True) -> Encoded:
    """The section with the graph and the names of the tensors, in order; it replaces :func:`names_section`."""
    return packed_section(f.Kind.GRAPH, _names(names) + skeleton, compress=compress)


def _names(names: Sequence[str]) -> bytes:
    return b"".join(f.varint(len(name.encode())) + name.encode() for name in names)


def metadata_section(metadata: Mapping[str, Any]) -> Encoded:
    """The metadata section for a JSON-ready mapping.

    Raises:
        ModelError: it exceeds the format.
    """
    text = json.dumps(metadata, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    if len(text) > f.MAX_METADATA:
        raise ModelError(f"the metadata take {len(text)} bytes, the format holds {f.MAX_METADATA}")
    return packed_section(f.Kind.METADATA, text)


def margins_section(margins: Sequence[int]) -> Encoded:
    """The section with the margins for decoding in place, of the coded tensors in order."""
    return section(f.Kind.MARGINS, b"".join(map(f.varint, margins)))


def assemble(parts: Sequence[Encoded], version: int = f.VERSION) -> bytes:
    """Assemble a file from tensors, in the given order, and sections (one of them with the tensors' names).

    Raises:
        ModelError: the file would exceed 4 GiB, 16384 records or the format's limit of elements, or two tensors share a
            name.
    """
    parts = sorted(parts, key=lambda part: 0 if part.record.is_tensor else part.record.kind)
    names = [part.record.name for part in parts if part.record.is_tensor]
    if len(set(names)) != len(names):
        raise ModelError("two tensors share a name: rename one of them")
    if len(parts) > f.MAX_RECORDS:
        raise ModelError(f"the model has {len(parts)} tensors and sections, the format holds {f.MAX_RECORDS}")
    directory = b"".join(part.record.to_bytes() for part in parts)
    size = f.HEADER.size + len(directory) + sum(len(part.payload) for part in parts)
    if size > f.MAX_FILE:
        raise ModelError(f"the file would have {size} bytes, the format holds {f.MAX_FILE}")
    elements, most = f.coded_elements(part.record for part in parts), f.most_elements(size)
    if elements > most:
        raise ModelError(f"the coded tensors have {elements} elements, a file of {size} bytes holds {most}")
    header = f.HEADER.pack(f.MAGIC, version, len(parts), len(directory), size, 0)[: -f.CRC_SIZE]
    header += f.crc32(directory, f.crc32(header)).to_bytes(f.CRC_SIZE, "little")
    return b"".join([header, directory, *(part.payload for part in parts)])
