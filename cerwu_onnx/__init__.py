"""Compress trained ONNX models by rate-constrained quantisation and entropy coding.

>>> import cerwu_onnx
>>> report = cerwu_onnx.compress("model.onnx", "model.cwb", calib="calib.npz")  # doctest: +SKIP
>>> session = cerwu_onnx.load_session("model.cwb")  # doctest: +SKIP

Names load at first use, so importing the package is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cerwu_onnx.errors import (
    BaseError,
    CalibrationError,
    CerwuError,
    CheckFailed,
    CorruptFileError,
    InputChangedError,
    MissingPackageError,
    ModelError,
    UsageError,
    WorkerError,
    packages_for,
)

if TYPE_CHECKING:
    from cerwu_onnx._version import __version__ as __version__
    from cerwu_onnx.calibration import ImageOptions
    from cerwu_onnx.calibration.output_errors import OutputError
    from cerwu_onnx.compression.pipeline import compress
    from cerwu_onnx.compression.sweep import Swept, sweep
    from cerwu_onnx.config import METHODS, LayerRule, Settings, Target
    from cerwu_onnx.report import LayerReport, Report
    from cerwu_onnx.runtime import CompressedModel, compare, decompress, load_session, open

_LAZY = {
    "__version__": "_version",
    "METHODS": "config",
    "LayerRule": "config",
    "Settings": "config",
    "Target": "config",
    "compress": "compression.pipeline",
    "sweep": "compression.sweep",
    "Swept": "compression.sweep",
    "decompress": "runtime",
    "open": "runtime",
    "load_session": "runtime",
    "compare": "runtime",
    "CompressedModel": "runtime",
    "OutputError": "calibration.output_errors",
    "Report": "report",
    "LayerReport": "report",
    "ImageOptions": "calibration",
}

__all__ = [
    "METHODS",
    "BaseError",
    "CalibrationError",
    "CerwuError",
    "CheckFailed",
    "CompressedModel",
    "CorruptFileError",
    "ImageOptions",
    "InputChangedError",
    "LayerReport",
    "LayerRule",
    "MissingPackageError",
    "ModelError",
    "OutputError",
    "Report",
    "Settings",
    "Swept",
    "Target",
    "UsageError",
    "WorkerError",
    "compare",
    "compress",
    "decompress",
    "load_session",
    "open",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with packages_for(name):
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted(__all__)
