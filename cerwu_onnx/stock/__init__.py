"""Plain ONNX files with integer weights, for any runtime (docs/stock_onnx.md)."""

from __future__ import annotations

from cerwu_onnx.stock.weights import WIDTHS, IntegerModel, integer_weights

__all__ = ["WIDTHS", "IntegerModel", "integer_weights"]
