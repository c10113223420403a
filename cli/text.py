"""Format numbers and names for the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_COMMAND = re.compile(
    r"^(?P<before>[^\S\n]*)(?P<begin>:(?=:)|-(?=-- )|\+(?=\+\+ )|~(?=~~ )|\^(?=\^\^ ))|#(?=#\w*\[)", re.MULTILINE
)
"""What systems that run builds take for commands in a log: ``::name`` (GitHub), ``--- `` and its like (Buildkite) at
the beginning of a line, ``##[name]`` (GitHub, Azure), ``##vso[name]``, ``##teamcity[name`` anywhere in it."""


def printable(text: str) -> str:
    """``text`` as it may stand anywhere in a line: names come from files nobody vouches for.

    Escaped are control characters, what turns the direction of text or is not seen, and what begins a command of a
    system that runs builds.
    """
    return inert("".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text))


def inert(lines: str) -> str:
    """Lines without commands to systems that run builds: the first character of each is escaped."""
    return _COMMAND.sub(_escaped, lines)


def _escaped(match: re.Match[str]) -> str:
    first = match["begin"] or "#"
    return f"{match['before'] or ''}\\x{ord(first):02x}"


def shorten(text: str, width: int, head: int | None = None) -> str:
    """Cut ``text`` to ``width`` characters: its first ``head`` (default: half), an ellipsis, and its last ones."""
    text = printable(text)
    if len(text) <= width:
        return text
    head = (width - 1) // 2 if head is None else head
    tail = width - 1 - head
    return f"{text[:head]}…{text[len(text) - tail :]}"


def shorten_all(texts: Sequence[str], width: int) -> list[str]:
    """Cut each text to ``width`` characters, at a place where most of them stay different, else in the middle."""
    middle = (width - 1) // 2
    heads = sorted(range(width), key=lambda head: abs(head - middle))
    head = max(heads, key=lambda head: len({shorten(text, width, head) for text in texts}))
    return [shorten(text, width, head) for text in texts]


def size(count: int) -> str:
    """Bytes exactly and, from 1 KiB, also in a larger unit: ``1,103,541 bytes (1.05 MiB)``."""
    value, unit = float(count), ""
    for bigger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    about = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    return f"{count:,} bytes ({about} {unit})" if unit else f"{count} bytes"


def counted(count: int, noun: str) -> str:
    """``1 tensor``, ``2 tensors``, ``0 tensors``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    """A share in percent with three significant digits: ``1.23%``; a tiny one is not shown as zero."""
    if math.isnan(share):
        return "NaN"
    value = 100 * share
    if value == 0 or value >= 100:
        return f"{value:.0f}%"
    return f"{value:#.3g}%".replace(".%", "%") if value >= 0.01 else "<0.01%"


def dims(shape: Sequence[int]) -> str:
    """``16x3x3x3``."""
    return "x".join(map(str, shape)) or "scalar"
