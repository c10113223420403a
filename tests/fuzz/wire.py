"""Protobuf messages as trees of fields that can be changed one by one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

REFERENCES = (b"0", b"1", b"2", b"7", b"+", b"-", b"+2", b"-3", b"+0", b"00", b"01", b"'x", b"'", b"", b"x", b"9" * 10)
NUMBERS = (0, 1, 2, 3, 7, 10, 11, 16, 17, 21, 22, 25, 100, 2**31, 2**63 - 1, 2**63, 2**64 - 1)
PLACEHOLDER = {1: (0, 2), 2: (0, 3), 7: (0, 5), 14: (0, 1), 8: (2, b"n"), 9: (2, b"\1\2")}
"""Fields of a TensorProto, their wire types and a value: dims, data_type, int64_data, data_location, name, raw_data."""


@dataclass
class Message:
    """The fields of a message, in their order: number, wire type, and a number, bytes or message."""

    kind: Any
    fields: list[tuple[int, int, Any]] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        out = []
        for number, wire, value in self.fields:
            out.append(varint(number << 3 | wire))
            if wire == 0:
                out.append(varint(value))
            elif wire == 2:
                content = value.to_bytes() if isinstance(value, Message) else value
                out += [varint(len(content)), content]
            else:
                out.append(value)
        return b"".join(out)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def parsed(content: bytes, kind: Any) -> Message:
    """A message of a sound model."""
    message, at = Message(kind), 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(content):
        tag = number()
        wire = tag & 7
        if wire == 0:
            message.fields.append((tag >> 3, 0, number()))
            continue
        size = number() if wire == 2 else 8 if wire == 1 else 4
        value: Any = content[at : at + size]
        at += size
        inside = kind.fields_by_number.get(tag >> 3)
        if wire == 2 and inside is not None and inside.message_type is not None:
            value = parsed(value, inside.message_type)
        message.fields.append((tag >> 3, wire, value))
    return message


def copied(of: tuple[int, int, Any]) -> tuple[int, int, Any]:
    """A field with messages of its own."""
    number, wire, value = of
    return number, wire, Message(value.kind, list(map(copied, value.fields))) if isinstance(value, Message) else value


def messages(message: Message) -> Iterator[Message]:
    """The message and those inside."""
    yield message
    for _, _, value in message.fields:
        if isinstance(value, Message):
            yield from messages(value)


def change(root: Message, rng: random.Random) -> None:
    """One field changed, or left out, doubled, moved, or a new one."""
    every = list(messages(root))
    message = rng.choice(every)
    if message.kind.name == "TensorProto" and rng.random() < 0.5:
        number = rng.choice(list(PLACEHOLDER))
        wire, value = PLACEHOLDER[number]
        if wire == 0 and number != 14:
            value = rng.choice((value, rng.choice(NUMBERS)))
        message.fields.insert(rng.randrange(len(message.fields) + 1), (number, wire, value))
        return
    if not message.fields:
        return
    i, j = rng.randrange(len(message.fields)), rng.randrange(len(message.fields))
    number, wire, value = message.fields[i]
    choice = rng.randrange(8)
    if choice == 0:
        del message.fields[i]
    elif choice == 1:
        message.fields.insert(j, copied(message.fields[i]))
    elif choice == 2:
        message.fields[i], message.fields[j] = message.fields[j], message.fields[i]
    elif choice == 3:
        rng.choice(every).fields.append(copied((number, wire, value)))
    elif choice == 4:
        message.fields[i] = rng.choice((number + 1, max(1, number - 1), rng.randrange(1, 40), 5000)), wire, value
    elif wire == 0:
        message.fields[i] = (
            number,
            0,
            rng.choice((value + 1, value ^ 1 << rng.randrange(8), rng.choice(NUMBERS))) % 2**64,
        )
    elif isinstance(value, bytes) and wire == 2:
        message.fields[i] = number, 2, rng.choice((rng.choice(REFERENCES), value[:-1], value + b"x", b"\xff\xfe"))
