"""Models of the sizes of well-known ones, of random weights, and what it takes to compress them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from .speed import show


class Net:
    """Nodes and weights of a model while it is built."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, np.ndarray] = {}

    def constant(self, name: str, *shape: int, scale: float = 0.02, mean: float = 0.0) -> str:
        """A weight, normally distributed."""
        self.tensors[name] = (mean + scale * self.rng.standard_normal(shape)).astype(np.float32)
        return name

    def integers(self, name: str, *values: int) -> str:
        """A constant of axes or dimensions."""
        self.tensors[name] = np.array(values, np.int64)
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """A node; the name of its output."""
        output = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def model(self, fed: onnx.ValueInfoProto, output: str, width: int) -> onnx.ModelProto:
        """All nodes, from one input to one output of ``width`` floats per sample."""
        given = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", width])]
        tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in self.tensors.items()]
        graph = helper.make_graph(self.nodes, "net", [fed], given, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def report(console: Console, name: str, model: onnx.ModelProto, calibration: np.ndarray) -> None:
    """Compress a model; print what :func:`~tests.bench.speed.show` does.

    Args:
        console: where to.
        name: of the model.
        model: of one input.
        calibration: values of that, the first axis is that of samples.
    """
    with tempfile.TemporaryDirectory(prefix="cerwu-net-") as folder:
        path, calib = Path(folder) / "model.onnx", Path(folder) / "calib.npz"
        onnx.save(model, path)
        np.savez(calib, **{model.graph.input[0].name: calibration})
        show(console, [(name, path, calib)])
