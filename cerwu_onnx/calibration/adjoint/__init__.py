"""Reverse-mode differentiation of an ONNX model: another ONNX model, its adjoint, computes the gradients.

onnxruntime computes no gradients for inference. The adjoint therefore has the nodes of the model, and then nodes that
:mod:`rules <cerwu_onnx.calibration.adjoint.rules>` append, from the outputs back to the wanted activations.
"""

from __future__ import annotations

from cerwu_onnx.calibration.adjoint.backward import Adjoint, adjoint
from cerwu_onnx.calibration.adjoint.halves import halves

__all__ = ["Adjoint", "adjoint", "halves"]
