"""Checks the links of README.md, docs/*.md and decoder_c/README.md into this repository, and options: ``make docs``.

Relative links, and those to the project's address, which README.md has because PyPI shows it, too. The file must exist,
and for ``file.md#heading`` or ``#heading`` the heading too, named as GitHub names it. Commands and options of ``cerwu-
onnx`` in code must exist, and so must options that stand alone in code.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

from cerwu_onnx.cli import app as program

from .release.urls import current

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
REFERENCE = re.compile(r"\]\[([^\]]+)\]")
INSIDE = re.compile(rf"{re.escape(current())}/(?:blob|raw)/main/(.+)")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*\s*?$", re.MULTILINE | re.DOTALL)

CODE = re.compile(r"^```\w*[^\n]*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"\bcerwu-onnx +([a-z][a-z-]*)([^|;&()`\n]*)")
OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
FOREIGN = {"--save", "--gc-sections"}
"""Options of other programs that stand alone in code."""


def pages() -> list[Path]:
    """The documents, in a fixed order."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")), ROOT / "decoder_c/README.md"]
    return [path for path in found if path.is_file()]


def anchors(text: str) -> set[str]:
    """The names of a page's headings."""
    names: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*\s*$", FENCE.sub("", text), re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = base = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        repeat = 0
        while name in names:
            repeat += 1
            name = f"{base}-{repeat}"
        names.add(name)
    return names


@cache
def options() -> dict[str, frozenset[str]]:
    """The options of each command."""
    group: Any = typer.main.get_command(program.app)
    own = {"--help", "-h"}
    found = {
        name: frozenset(own.union(*(p.opts + p.secondary_opts for p in command.params)))
        for name, command in group.commands.items()
    }
    return found | {"": frozenset(own.union(*(p.opts for p in group.params)))}


def promises(page: Path) -> list[str]:
    """One line for each command or option in the page's code that the program does not have."""
    found = []
    known = options()
    for match in CODE.finditer(page.read_text(encoding="utf-8")):
        code, where = match[1] or match[2], page.relative_to(ROOT)
        for name, rest in CALL.findall(code):
            if name not in known:
                found.append(f"{where}: there is no command {name}")
            for option in OPTION.findall(rest) if name in known else ():
                if option not in known[name]:
                    found.append(f"{where}: {name} has no option {option}")
        if match[2] and match[2].startswith("--"):
            option = OPTION.findall(match[2])[0]
            if option not in FOREIGN.union(*known.values()):
                found.append(f"{where}: no command has an option {option}")
    return found


def problems(page: Path) -> list[str]:
    """One line for each link of the page that leads nowhere, and for each option that does not exist."""
    found = promises(page)
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    defined = set(re.findall(r"^\[([^\]]+)\]: ", prose, re.MULTILINE))
    found += [
        f"{page.relative_to(ROOT)}: [{name}] leads nowhere"
        for name in REFERENCE.findall(prose)
        if defined and name not in defined
    ]
    for given in map("".join, LINK.findall(prose)):
        link = os.path.relpath(ROOT / inside[1], page.parent) if (inside := INSIDE.match(given)) else given
        if SCHEME.match(link) or link.startswith("//"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        where = f"{page.relative_to(ROOT)}: {link}"
        if not target.is_relative_to(ROOT):
            found.append(f"{where}: leaves the repository")
        elif not target.exists():
            found.append(f"{where}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            found.append(f"{where}: no such heading")
    return found


def main() -> int:
    """Print every problem; the exit code is 1 if there are any."""
    checked = pages()
    found = [problem for page in checked for problem in problems(page)]
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print(f"{len(checked)} pages, all links lead somewhere, all options exist")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
