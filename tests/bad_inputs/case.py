"""What a bad input is, and where it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

from ..cli.conftest import small_model


@dataclass(frozen=True)
class Place:
    """A folder with a good model, its calibration data and the file made of both.

    Attributes:
        folder: everything lies in it; a secret lies beside it.
    """

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def calib(self) -> Path:
        return self.folder / "calib.npz"

    @property
    def cwb(self) -> Path:
        return self.folder / "model.cwb"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def compress(self, model: Path | None = None, *options: object, calib: object = None) -> list[object]:
        """The command line that compresses a model, the good one if None, with the good data if None."""
        data = self.calib if calib is None else calib
        return ["compress", model or self.model, f"{self.out}.cwb", "--calib", data, *options]

    def changed(self, change: Callable[[onnx.ModelProto], object]) -> list[object]:
        """Compress the good model after a change."""
        model = small_model()
        change(model)
        return self.compress(self.write("bad.onnx", model.SerializeToString()))


@dataclass(frozen=True)
class Case:
    """A bad input and the answer to it.

    Attributes:
        title: what is bad.
        code: the exit code.
        says: regular expression of the error line: what, where, what to do.
        arguments: makes the input in a place; returns the command line.
        warned: whether warnings may come before the error.
    """

    title: str
    code: int
    says: str
    arguments: Callable[[Place], list[object]]
    warned: bool = False
