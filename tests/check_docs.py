"""Checks the relative links of README.md, docs/*.md and decoder_c/README.md: ``make docs``.

The file must exist, and for ``file.md#heading`` or ``#heading`` the heading too, named as GitHub names it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*\s*?$", re.MULTILINE | re.DOTALL)


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


def problems(page: Path) -> list[str]:
    """One line for each link of the page that leads nowhere."""
    found = []
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    for link in LINK.findall(prose):
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
    """Print every broken link; the exit code is 1 if there are any."""
    checked = pages()
    found = [problem for page in checked for problem in problems(page)]
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print(f"{len(checked)} pages, all links lead somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
