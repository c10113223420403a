"""Stands for your training: writes model.onnx, calib.npz and test.npz, the same bytes every time.

Points of five classes in 16 dimensions; a hidden layer of random features, and an output layer fitted to them.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES, INPUTS, HIDDEN = 5, 16, 96
random = np.random.default_rng(1)
centres = random.normal(size=(CLASSES, INPUTS)) * 1.5


def points(count):
    """Inputs ``(count, INPUTS)`` and their classes."""
    labels = random.integers(CLASSES, size=count)
    return (centres[labels] + random.normal(size=(count, INPUTS))).astype(np.float32), labels


x, labels = points(2000)
hidden = random.normal(size=(HIDDEN, INPUTS)).astype(np.float32) / 4
shift = random.normal(size=HIDDEN).astype(np.float32)
features = np.maximum(x @ hidden.T + shift, 0)
wanted = np.eye(CLASSES)[labels] * 8 - 4  # logits
out = np.linalg.solve(features.T @ features + np.eye(HIDDEN), features.T @ wanted).T.astype(np.float32)

graph = helper.make_graph(
    [
        helper.make_node("Gemm", ["x", "hidden.weight", "hidden.bias"], ["h"], name="hidden", transB=1),
        helper.make_node("Relu", ["h"], ["features"], name="relu"),
        helper.make_node("Gemm", ["features", "out.weight"], ["logits"], name="out", transB=1),
    ],
    "points",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", INPUTS])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
    [
        numpy_helper.from_array(array, name)
        for name, array in (("hidden.weight", hidden), ("hidden.bias", shift), ("out.weight", out))
    ],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
np.savez("calib.npz", x=points(256)[0])
x, labels = points(1000)
np.savez("test.npz", x=x, labels=labels)
