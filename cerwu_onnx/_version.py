"""The version of the installed package."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

__version__ = "0+source"
"""Of a source tree that was never installed, unless one of the distributions is found."""

for _distribution in ("cerwu-onnx-reader", "cerwu-onnx"):
    with suppress(PackageNotFoundError):
        __version__ = version(_distribution)
