"""The table of all differentiation rules, one for each ONNX operator: gradient of the output in, of an input out.

A rule is a formula in :class:`~cerwu_onnx.calibration.adjoint.values.Value`: ``g`` is the gradient with respect to the
output ``y``, ``x`` the first input, all of them tensors of the graph under construction.
"""

from __future__ import annotations

from cerwu_onnx.calibration.adjoint import elementwise, moves, products, reductions
from cerwu_onnx.calibration.adjoint.calls import Rule

RULES: dict[str, Rule] = {**elementwise.RULES, **products.RULES, **reductions.RULES, **moves.RULES}
"""Rules by operator of the standard domain, opset 16 or later."""
