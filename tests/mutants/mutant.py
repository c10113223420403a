"""What a mutant is, and where its text stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug of one line.

    Attributes:
        where: the file that has the line, relative to the repository; or a folder of C sources, one of which has it.
        text: a part of that line that stands there exactly once.
        change: what takes its place.
        tests: files of tests, or single tests, one of which must fail.
        reason: why no test can fail: the mutant does what the code does. Empty for all others.
    """

    where: str
    text: str
    change: str
    tests: tuple[str, ...]
    reason: str = ""

    @property
    def room(self) -> str:
        """What the closing table counts it under."""
        parts = Path(self.where).parts
        if parts[0] == "cerwu_onnx" and len(parts) == 2:
            return "cerwu_onnx"
        return parts[1] if parts[0] == "cerwu_onnx" else "/".join(parts[:2]) if parts[0] == "decoder_c" else parts[0]

    @property
    def is_c(self) -> bool:
        """Whether the native library must be built again."""
        return self.where.startswith("decoder_c")

    def place(self, root: Path = ROOT) -> Path:
        """The file to be changed.

        Args:
            root: of a copy of the repository.

        Raises:
            ValueError: the text does not stand there exactly once.
        """
        path = root / self.where
        files = [path] if path.is_file() else sorted(path.glob("*.[ch]"))
        found = [file for file in files for _ in range(file.read_text(encoding="utf-8").count(self.text))]
        if len(found) != 1:
            raise ValueError(
                f"{self.where}: {self.text!r} stands there {len(found)} times, not once: correct the table"
            )
        return found[0]

    def plant(self, root: Path) -> tuple[Path, str]:
        """Put the bug into a copy of the repository; the file, and what it held before."""
        path = self.place(root)
        before = path.read_text(encoding="utf-8")
        path.write_text(before.replace(self.text, self.change), encoding="utf-8")
        return path, before


def bugs(where: str, tests: str, *changes: tuple[str, str] | tuple[str, str, str]) -> list[Mutant]:
    """Mutants of one file.

    Args:
        where: as of :class:`Mutant`.
        tests: likewise, separated by spaces.
        changes: text and change of each, and the reason of one that no test can tell.
    """
    return [Mutant(where, text, change, tuple(tests.split()), *reason) for text, change, *reason in changes]
