"""The version of a release: ``python -m tests.release.version`` compares it with the tag in the variable TAG.

``--notes`` prints the changelog of this version instead, for the page of the release.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def version() -> str:
    """What cerwu_onnx/_version.py says; the package need not be installed."""
    match = re.search(r'^__version__ = "(.+)"$', (ROOT / "cerwu_onnx/_version.py").read_text("utf-8"), re.MULTILINE)
    if match is None:
        raise SystemExit("cerwu_onnx/_version.py has no version")
    return match[1]


def notes(changelog: str, wanted: str) -> str:
    """The section of a version.

    Raises:
        SystemExit: there is none.
    """
    match = re.search(rf"^## {re.escape(wanted)}\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if match is None:
        raise SystemExit(f"CHANGELOG.md has no section {wanted}")
    return match[1].strip() + "\n"


def main() -> None:
    """Compare, or print."""
    found = version()
    text = notes((ROOT / "CHANGELOG.md").read_text("utf-8"), found)
    if "--notes" in sys.argv[1:]:
        sys.stdout.write(text)
        return
    tag = os.environ.get("TAG", "")
    if tag not in ("", f"v{found}"):
        raise SystemExit(f"the tag is {tag}, the version {found}: cerwu_onnx/_version.py has to say the same")
    print(f"version {found}")


if __name__ == "__main__":
    main()
