"""The command ``cwb-verify FILE ...`` checks .cwb files with no package but numpy; the pre-commit hook runs it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cerwu_onnx.container import reader
from cerwu_onnx.errors import BaseError, CerwuError

_UNUSUAL = re.compile(r"[^\w ./:,;()'\"=+@%&~!\[\]-]")
"""Characters that a name from a file nobody vouches for may not bring into a terminal or a build's log."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check every file, and print one line on stderr for each that is damaged.

    A delta is checked with its base, which is looked for among the other files and those beside it. Without it, only
    header and directory are checked, and a line says so.

    Returns:
        The largest exit code of an error: 4 for damage, 2 for a file that cannot be read; 0 if all is well.
    """
    paths = [Path(name) for name in (sys.argv[1:] if arguments is None else arguments)]
    if not paths:
        _say("usage: cwb-verify FILE.cwb ...")
        return 2
    code = 0
    for path in paths:
        try:
            found = _opened(path, paths)
            if found is not None:
                for _ in found.decode_all():
                    pass
                found.check_sections()
        except CerwuError as error:
            text = str(error) if str(path) in str(error) else f"{path}: {error}"
            _say(f"error: {text}")
            code = max(code, error.exit_code)
    return code


def _opened(path: Path, others: Sequence[Path]) -> reader.Container | None:
    """The file, with its base if it is a delta; None for a delta whose base is not found."""
    try:
        return reader.read(path)
    except BaseError as error:
        for base in _bases(path, others):
            try:
                return reader.read(path, base)
            except BaseError:
                continue
        _say(f"warning: {error}; without it, header and directory were checked alone")
        return None


def _bases(path: Path, others: Sequence[Path]) -> Iterator[reader.Container]:
    """Sound files that may be the base of a delta."""
    for other in dict.fromkeys((*others, *sorted(path.parent.glob("*.cwb")))):
        if other != path:
            try:
                yield reader.read(other)
            except CerwuError:
                continue  # a delta, or damaged


def _say(line: str) -> None:
    sys.stderr.write(_UNUSUAL.sub(lambda match: f"\\u{ord(match[0]):04x}", line) + "\n")
