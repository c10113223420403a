"""Write C text from values that may be hostile: identifiers, comments, numbers, arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

MAX_IDENTIFIER = 48
"""The most characters of a tensor's identifier before the suffix that makes it unique; C99 allows 63 in all."""


def identifiers(names: Iterable[str]) -> tuple[str, ...]:
    """An identifier for each name: upper case, all different. Use them with a prefix: some begin with a digit."""
    taken: set[str] = set()
    repeats: dict[str, int] = {}
    out = []
    for name in names:
        base = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_").upper()[:MAX_IDENTIFIER] or "UNNAMED"
        unique = base
        while unique in taken:
            repeats[base] = repeats.get(base, 1) + 1
            unique = f"{base}_{repeats[base]}"
        taken.add(unique)
        out.append(unique)
    return tuple(out)


def comment_text(text: str) -> str:
    r"""Make ``text`` fit for a comment or string: all but harmless ASCII becomes ``\u{...}`` without its backslash.

    The result has no comment mark, trigraph, quote, backslash or line break.
    """
    return re.sub(r"[^0-9A-Za-z_.:/#@()\[\], +=-]", lambda match: f"u{{{ord(match[0]):X}}}", text)


def float_literal(value: float) -> str:
    """A float32 as the shortest literal of type float that reads back as the same bits."""
    return f"{np.float32(value)}f"


def byte_array(data: bytes, per_line: int = 20) -> str:
    """The initialiser of an array of bytes."""
    lines = (data[start : start + per_line] for start in range(0, len(data), per_line))
    return "{\n" + ",\n".join("    " + ", ".join(f"0x{byte:02x}" for byte in line) for line in lines) + "}"


def int_array(values: Sequence[int], per_line: int = 8) -> str:
    """The initialiser of an array of int32; C has no literal for the smallest of them."""
    texts = [str(value) if value != -(2**31) else "INT32_MIN" for value in values]
    lines = (texts[start : start + per_line] for start in range(0, len(texts), per_line))
    return "{\n" + ",\n".join("    " + ", ".join(line) for line in lines) + "}"
