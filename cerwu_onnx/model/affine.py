"""Find the bias of a layer, the BatchNormalization of its outputs, and what is added to them.

A constant counts only if a single node reads it, once: then its changes show at the outputs of that layer only.
The two biases that a recurrent operator keeps in one tensor count as the bias of its input weight. Transposed
convolutions, whose rows are not output channels, have none.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import onnx

from cerwu_onnx.model.elements import FLOATS, floats_of
from cerwu_onnx.model.sites import MICROSOFT, PLAIN
from cerwu_onnx.model.tensors import attributes_of, constant_tensors, subgraph_reads
from cerwu_onnx.model.uses import MOVERS
from cerwu_onnx.types import Bias, ConvPatch, Layer, MatMulPatch, Norm, Residual

_STANDARD = ("", "ai.onnx")
_Reader: TypeAlias = "tuple[onnx.NodeProto, int]"


def with_parameters(model: onnx.ModelProto, layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Give each layer the bias, the normalisation and the residual that belong to it."""
    search = _Search(model)
    return tuple(search.complete(layer) for layer in layers)


class _Search:
    """Searches a model for the parameters of layers, by its constants and the readers of each value."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.tensors = constant_tensors(model)
        self.opset = max((o.version for o in model.opset_import if o.domain in _STANDARD), default=1)
        self.readers: dict[str, list[_Reader]] = defaultdict(list)
        self.pinned = {value.name for value in model.graph.output}
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                self.readers[name].append((node, index))
            self.pinned |= subgraph_reads(node)

    def complete(self, layer: Layer) -> Layer:
        use = self.only_reader(layer.weight)
        while use is not None and use[0].op_type in MOVERS and use[1] == 0:
            use = self.only_reader(use[0].output[0])
        if use is None:
            return layer
        node, index = use
        if node.op_type in ("LSTM", "GRU", "RNN"):
            return replace(layer, bias=self.recurrent_bias(node) if index == 1 else None)
        fused = node.domain == MICROSOFT
        op = PLAIN.get(node.op_type, "") if fused else node.op_type
        if op not in ("Conv", "Gemm", "MatMul"):
            return layer
        attributes = attributes_of(node)
        bias = norm = None
        if op == "Conv":
            channels = layer.layout.groups * layer.layout.rows
            axis = 1 - len(layer.layout.shape)
            norm = self.norm(node, channels) if not fused else None
        else:
            channels, axis = layer.layout.rows, -1 if index == 1 else -2
        alpha = float(attributes.get("alpha", 1.0)) if op != "Conv" else 1.0
        if len(node.input) > 2 and node.input[2]:
            beta = float(attributes.get("beta", 1.0)) if op == "Gemm" else 1.0
            bias = self.bias(node.input[2], channels, -1 if op == "Conv" else axis, beta, alpha)
        elif fused and op != "MatMul":
            pass  # an activation stands between the product and what follows
        elif (after := self.only_reader(node.output[0])) is not None and _is(after[0], "Add"):
            bias = self.bias(after[0].input[1 - after[1]], channels, axis, 1.0, alpha)
        plain = not fused and alpha == 1 and norm is None
        residual = self.residual(node, layer.sites[0].patch, axis) if plain else None
        return replace(layer, bias=bias, norm=norm, residual=residual)

    def recurrent_bias(self, node: onnx.NodeProto) -> Bias | None:
        """The bias B of a recurrent node: its halves add up, so the error of their sum has twice the variance."""
        name = node.input[3] if len(node.input) > 3 else ""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.data_type not in FLOATS or self.only_reader(name) is None:
            return None
        return Bias(name, math.sqrt(2))

    def only_reader(self, name: str) -> _Reader | None:
        """The node that reads a tensor and the index of that input, if there is no other reader."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.pinned else None

    def bias(self, name: str, channels: int, axis: int, beta: float, alpha: float) -> Bias | None:
        """``name`` as the bias of ``alpha * product + beta * bias``, relative to the product."""
        factor = abs(beta / alpha) if alpha else 0.0
        if not (0 < factor < math.inf) or not self.is_vector(name, channels, axis):
            return None
        return Bias(name, factor)

    def residual(self, node: onnx.NodeProto, patch: ConvPatch | MatMulPatch, axis: int) -> Residual | None:
        """What is added to the outputs of a product, behind a bias, if it is no constant.

        Args:
            node: the product.
            patch: how it reads its input.
            axis: of its outputs' rows, counted from the end, if it is no convolution.
        """
        after = self.only_reader(node.output[0])
        if after is not None and self.adds_constant(after):
            after = self.only_reader(after[0].output[0])
        if after is None or not _is(after[0], "Add") or self.adds_constant(after):
            return None
        stream = after[0].input[1 - after[1]]
        if isinstance(patch, ConvPatch):
            ones = (1,) * len(patch.kernel)
            return Residual(stream, ConvPatch(patch.groups, ones, ones, ones, (0, 0) * len(ones)))
        return Residual(stream, MatMulPatch(-1 if axis == -1 else -2, patch.batch))

    def adds_constant(self, reader: _Reader) -> bool:
        """Whether a reader of a value adds a constant to it."""
        node, index = reader
        return _is(node, "Add") and node.input[1 - index] in self.tensors

    def norm(self, node: onnx.NodeProto, channels: int) -> Norm | None:
        """The BatchNormalization (inference form) that reads a node's output, if all its parameters qualify."""
        after = self.only_reader(node.output[0])
        if after is None or not _is(after[0], "BatchNormalization") or after[1] != 0 or self.opset < 7:
            return None
        attributes = attributes_of(after[0])
        if attributes.get("training_mode", 0) or attributes.get("spatial", 1) != 1 or any(after[0].output[1:]):
            return None
        names = after[0].input[1:5]
        if len(names) != 4 or not all(self.is_vector(name, channels, -1) for name in names):
            return None
        scale, shift, mean, variance = names
        return Norm(scale, shift, mean, variance, float(attributes.get("epsilon", 1e-5)))

    def is_vector(self, name: str, channels: int, axis: int) -> bool:
        """Whether a float constant with a single reader has one entry per output channel, and no other axis.

        Args:
            name: name of the tensor, constant or not.
            channels: number of outputs, more than one.
            axis: the axis of the channels, counted from the end.
        """
        tensor = self.tensors.get(name)
        if tensor is None or tensor.data_type not in FLOATS or self.only_reader(name) is None:
            return False
        shape = tuple(tensor.dims)
        if len(shape) < -axis or shape[axis] != channels or math.prod(shape) != channels or channels < 2:
            return False
        return bool(np.isfinite(floats_of(tensor)).all())


def _is(node: onnx.NodeProto, op: str) -> bool:
    return node.op_type == op and node.domain in _STANDARD
