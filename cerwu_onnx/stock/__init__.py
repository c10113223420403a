"""Plain ONNX files with integer weights, for any runtime (docs/stock_onnx.md)."""

from __future__ import annotations

from cerwu_onnx.stock.export import Exported, export
from cerwu_onnx.stock.weights import WIDTHS

__all__ = ["WIDTHS", "Exported", "export"]
