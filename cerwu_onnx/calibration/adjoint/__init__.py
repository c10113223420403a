"""Reverse-mode differentiation of an ONNX model: the gradients are computed by another ONNX model.

onnxruntime has no gradients for inference. Behind the nodes of the model stand those of its adjoint, which
:mod:`rules <cerwu_onnx.calibration.adjoint.rules>` append, from the outputs back to the activations asked for.
"""

from __future__ import annotations

from cerwu_onnx.calibration.adjoint.backward import Adjoint, adjoint
from cerwu_onnx.calibration.adjoint.halves import halves

__all__ = ["Adjoint", "adjoint", "halves"]
