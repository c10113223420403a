"""Says where the project lives: ``make urls URL=https://github.com/YOU/cerwu-onnx`` sets the address everywhere.

The address is that of ``[project.urls]`` in pyproject.toml. Until somebody owns a repository it is the placeholder
``https://example.com/OWNER/cerwu-onnx``, which leads nowhere. Files also name the repository without its host, as
``uses: OWNER/cerwu-onnx@v1`` does; these names change with it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def current(root: Path = ROOT) -> str:
    """The address that pyproject.toml gives."""
    match = re.search(r'^Repository = "(.+)"$', (root / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise SystemExit("pyproject.toml has no Repository in [project.urls]")
    return match[1]


def texts(root: Path = ROOT) -> dict[Path, str]:
    """The text files that git knows, this one and tests apart."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout.decode()
    found = {}
    for name in filter(None, listed.split("\0")):
        path = root / name
        if path.is_file() and not path.is_symlink() and not name.startswith("tests/"):
            try:
                found[path] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # no text
    return found


def slug(address: str) -> str:
    """``OWNER/NAME`` of an address."""
    return "/".join(address.split("/")[-2:])


def moved(text: str, old: str, new: str) -> str:
    """A text with the new address in the place of the old one, with and without the host."""
    text = text.replace(old, new)
    return re.sub(rf"(?<![\w/.-]){re.escape(slug(old))}(?![\w-])", slug(new), text)


def main(address: str) -> None:
    """Set the address, and print the files that changed."""
    address = address.removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)*/[\w.-]+/[\w.-]+", address):
        raise SystemExit(f"{address!r} is no address of a repository: https://github.com/YOU/cerwu-onnx")
    old = current()
    for path, text in texts().items():
        new = moved(text, old, address)
        if new != text:
            path.write_bytes(new.encode())  # line ends stay
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tests.release.urls https://github.com/YOU/cerwu-onnx")
    main(sys.argv[1])
