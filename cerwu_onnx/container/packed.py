"""Packed sections (docs/format.md): graphs and metadata in few bytes, by a model that has read others before.

``encode_plain`` and ``decode_plain`` are the specification in readable form; the C library, if it was built, does the
same a hundred times faster.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from cerwu_onnx import native
from cerwu_onnx.container.format import varint
from cerwu_onnx.container.primer import PRIMER
from cerwu_onnx.errors import CorruptFileError

if TYPE_CHECKING:
    from cerwu_onnx.container.prediction import Model

FREE, EXPANSION = 2**16, 1024
"""A payload of s bytes stands for no more than ``FREE + EXPANSION * s``: what a reader can be made to do is bounded."""

STORED = b"\0"
"""In front of a content that is no code."""

FULL = 0xFFFFFFFF


def pack(content: bytes) -> bytes:
    """The payload of a section with this content."""
    code = (native.pack if native.available() else encode_plain)(content, PRIMER)
    payload = varint(len(content)) + code
    if len(payload) > len(content) or len(content) > most_content(len(payload)):
        return STORED + content
    return payload


def unpack(payload: bytes, most: int) -> bytes:
    """The content of a section with this payload.

    Raises:
        CorruptFileError: the payload is damaged, or it holds more than ``most`` bytes or than the format allows.
    """
    size, start = _size(payload)
    stored = size == 0
    size = len(payload) - start if stored else size
    limit = most if stored else min(most, most_content(len(payload)))
    if size > limit:
        raise CorruptFileError(f"the section holds {size} bytes, more than {limit}: do not trust it")
    code = payload[start:]
    if stored:
        return code
    content = (native.unpack if native.available() else decode_plain)(code, size, PRIMER)
    if content is None:
        raise CorruptFileError("the packed section is damaged")
    return content


def most_content(size: int) -> int:
    """The bytes that a payload of so many may stand for."""
    return FREE + EXPANSION * size


def _size(payload: bytes) -> tuple[int, int]:
    """The varint at the beginning, and where it ends."""
    size = 0
    for i, byte in enumerate(payload[:5]):
        size |= (byte & 127) << 7 * i
        if byte < 128:
            if size >> 32 or (i and not byte):
                break
            return size, i + 1
    raise CorruptFileError("the packed section does not begin with its size")


def encode_plain(content: bytes, primer: bytes) -> bytes:
    """What :func:`native.pack` returns, in Python."""
    model, low, high, out = _primed(primer).copy(), 0, FULL, bytearray()
    model.begin_text(len(content))
    for byte in content:
        for shift in range(7, -1, -1):
            bit = byte >> shift & 1
            middle = low + ((high - low) * model.predict() >> 16)
            low, high = (low, middle) if bit else (middle + 1, high)
            model.update(bit)
            while low >> 24 == high >> 24:
                out.append(low >> 24)
                low, high = low << 8 & FULL, high << 8 & FULL | 255
    if low:
        out.append((low >> 24) + 1)
    return bytes(out).rstrip(b"\0")


def decode_plain(code: bytes, size: int, primer: bytes) -> bytes | None:
    """What :func:`native.unpack` returns, in Python."""
    model, low, high, following = _primed(primer).copy(), 0, FULL, 4
    number = int.from_bytes(code[:4].ljust(4, b"\0"), "big")
    start = len(model.text)
    model.begin_text(size)
    while len(model.text) < start + size:
        middle = low + ((high - low) * model.predict() >> 16)
        bit = int(number <= middle)
        low, high = (low, middle) if bit else (middle + 1, high)
        model.update(bit)
        while low >> 24 == high >> 24:
            low, high = low << 8 & FULL, high << 8 & FULL | 255
            number = number << 8 & FULL | (code[following] if following < len(code) else 0)
            following += 1
    tail = ((low >> 24) + 1) << 24 if low else 0
    if following < len(code) or code.endswith(b"\0") or number != tail:
        return None
    return bytes(model.text[start:])


@lru_cache(maxsize=1)
def _primed(primer: bytes) -> Model:
    """A model that has read the primer."""
    from cerwu_onnx.container.prediction import Model  # its tables take a while, and the C library has its own

    model, start = Model(), 0
    while start < len(primer):
        end = start + 2 + int.from_bytes(primer[start : start + 2], "little")
        model.text += primer[start : start + 2]
        model.read(primer[start + 2 : end])
        start = end
    return model


__all__ = ["most_content", "pack", "unpack"]
