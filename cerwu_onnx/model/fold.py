"""Fold BatchNormalization into the layer before it, and check in onnxruntime that nothing changed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from cerwu_onnx.errors import ModelError, first_line, raise_if_out_of_memory
from cerwu_onnx.model.elements import floats_of
from cerwu_onnx.model.sessions import new_session
from cerwu_onnx.model.tensors import (
    Array,
    InputInfo,
    attributes_of,
    constant_tensors,
    keep,
    model_inputs,
    set_tensor,
    subgraph_reads,
    value_of,
)

log = logging.getLogger(__name__)

Feed: TypeAlias = Mapping[str, npt.NDArray[Any]]

TOLERANCE = 1e-3
"""Largest difference between outputs, relative to the output's largest value, that folding may cause."""


def fold_batch_norm(model: onnx.ModelProto, exact: Collection[str] = ()) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Fold every BatchNormalization (inference form) that directly follows a Conv or Gemm.

    The layer's weight and bias must be float32 constants that nothing else reads, and only the BatchNormalization may
    read its output. The arithmetic is float64. Other nodes stay as they are.

    Args:
        model: it is not changed.
        exact: names of tensors that must not change or disappear.

    Returns:
        A folded copy (the model itself if there is nothing to fold), and the names of the removed nodes (their
        first outputs where they have no name).
    """
    if not any(node.op_type == "BatchNormalization" for node in model.graph.node):
        return model, ()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    folding = _Folding(copy, exact)
    folded = []
    for node in list(copy.graph.node):
        if node.op_type == "BatchNormalization" and folding.fold(node):
            folded.append(node.name or node.output[0])
    folding.clean_up()
    return copy, tuple(folded)


class _Folding:
    """Folds the nodes of a model, which it changes in place."""

    def __init__(self, model: onnx.ModelProto, exact: Collection[str]) -> None:
        self.model, self.exact = model, exact
        self.tensors = constant_tensors(model)
        self.uses = Counter(name for node in model.graph.node for name in node.input if name)
        self.uses.update(value.name for value in model.graph.output)
        self.uses.update(name for node in model.graph.node for name in subgraph_reads(node))
        self.producers = {name: node for node in model.graph.node for name in node.output if name}
        inputs = {value.name for value in model.graph.input}
        # Before IR version 4 every initializer is listed as an input; later that means a caller may replace
        # it.
        self.replaceable = inputs if model.ir_version >= 4 else set()
        self.orphans: set[str] = set()

    def fold(self, norm: onnx.NodeProto) -> bool:
        """Fold one BatchNormalization if all conditions hold; True if it was folded."""
        layer = self.producers.get(norm.input[0])
        if layer is None or self.uses[norm.input[0]] != 1 or norm.input[0] in self.replaceable:
            return False
        if any(name in self.exact for name in (*layer.input, *norm.input)):
            return False
        attributes = attributes_of(norm)
        if norm.domain not in ("", "ai.onnx") or attributes.get("training_mode", 0):
            return False
        if len([name for name in norm.output if name]) != 1 or attributes.get("spatial", 1) != 1 or self._opset() < 7:
            return False
        parameters = [self._floats(name) for name in norm.input[1:5]]
        if len(parameters) != 4 or any(p is None for p in parameters):
            return False
        gamma, beta, mean, variance = (np.asarray(p) for p in parameters)
        with np.errstate(all="ignore"):
            scale = gamma / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        folded = self._folded(layer, scale, beta, mean)
        if folded is None:
            return False
        weight, bias = folded
        self._apply(layer, weight, bias)
        layer.output[0] = norm.output[0]
        self.producers[norm.output[0]] = layer
        self.orphans.update(norm.input)
        for name in norm.input:
            self.uses[name] -= 1
        self.model.graph.node.remove(norm)
        return True

    def _folded(self, layer: onnx.NodeProto, scale: Array, beta: Array, mean: Array) -> tuple[Array, Array] | None:
        """New weight and bias in float32; None if the layer's form or the values do not allow it."""
        attributes = attributes_of(layer)
        if layer.domain not in ("", "ai.onnx") or layer.op_type not in ("Conv", "Gemm"):
            return None
        weight = self._own(layer.input[1])
        bias_name = layer.input[2] if len(layer.input) > 2 else ""
        bias = self._own(bias_name) if bias_name else np.zeros(1)
        if weight is None or bias is None:
            return None
        if layer.op_type == "Conv":
            per_output = scale.reshape(-1, *[1] * (weight.ndim - 1))
            channels = weight.shape[0]
        else:
            bias = bias * attributes.get("beta", 1.0)
            transposed = bool(attributes.get("transB", 0))
            per_output = scale[:, None] if transposed else scale
            channels = weight.shape[0 if transposed else 1]
        fits = bias.size == 1 or bias.shape[-1] == bias.size == channels
        if scale.shape != (channels,) or not fits:
            return None
        with np.errstate(all="ignore"):
            new_weight = (weight * per_output).astype(np.float32)
            new_bias = ((bias.reshape(-1) - mean) * scale + beta).astype(np.float32)
        if not (np.isfinite(new_weight).all() and np.isfinite(new_bias).all()):
            return None
        return new_weight, new_bias

    def _apply(self, layer: onnx.NodeProto, weight: Array, bias: Array) -> None:
        set_tensor(self.tensors[layer.input[1]], weight)
        if layer.op_type == "Gemm":
            kept = [a for a in layer.attribute if a.name != "beta"]
            del layer.attribute[:]
            layer.attribute.extend(kept)
        if len(layer.input) > 2 and layer.input[2]:
            name = layer.input[2]
            set_tensor(self.tensors[name], bias)
            for value in self.model.graph.input:  # the shape may have been broadcast
                if value.name == name:
                    value.CopyFrom(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, bias.shape))
            return
        name = self._fresh_name(f"{layer.input[1]}_bias")
        self.model.graph.initializer.append(numpy_helper.from_array(bias, name))
        self.tensors[name] = self.model.graph.initializer[-1]
        if self.model.ir_version < 4:
            self.model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, bias.shape))
        del layer.input[2:]
        layer.input.append(name)
        self.uses[name] = 1

    def clean_up(self) -> None:
        """Remove constants that only folded nodes read, and types of names that no longer exist."""
        graph = self.model.graph
        gone = {name for name in self.orphans if self.uses[name] <= 0}
        keep(graph.initializer, lambda tensor: tensor.name not in gone)
        keep(graph.value_info, lambda value: value.name not in gone)
        keep(graph.node, lambda node: value_of(node) is None or node.output[0] not in gone)
        if self.model.ir_version < 4:
            keep(graph.input, lambda value: value.name not in gone)

    def _floats(self, name: str) -> Array | None:
        """A float32 constant that no caller can replace, as float64."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or name in self.replaceable:
            return None
        return np.asarray(floats_of(tensor), np.float64)

    def _own(self, name: str) -> Array | None:
        """Such a constant, if only a single node reads it, once."""
        return self._floats(name) if self.uses[name] == 1 else None

    def _fresh_name(self, wanted: str) -> str:
        taken = set(self.tensors) | set(self.producers) | {value.name for value in self.model.graph.input}
        name, number = wanted, 1
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        return name

    def _opset(self) -> int:
        return max((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def check_folding(
    original: onnx.ModelProto, folded: onnx.ModelProto, feeds: Feed | Iterable[Feed] | None = None
) -> float:
    """Run both models and compare their float outputs.

    Args:
        original: the model before folding.
        folded: the model after it.
        feeds: one feed or several; a random one if None.

    Returns:
        The largest difference relative to the largest value of the same output.

    Raises:
        ModelError: the difference exceeds :data:`TOLERANCE`, or a model cannot be run.
    """
    if feeds is None:
        feeds = [_random_feed(model_inputs(original))]
    elif isinstance(feeds, Mapping):
        feeds = [feeds]
    sessions = [_session(original), _session(folded)]
    worst = 0.0
    for feed in feeds:
        before, after = (_run(session, feed) for session in sessions)
        for name, reference, value in zip(before.keys(), before.values(), after.values(), strict=True):
            error = _relative_error(reference, value)
            worst = max(worst, error)
            if not error <= TOLERANCE:
                raise ModelError(
                    f"folding BatchNormalization changes the output {name!r} by {error:.1e} of its largest "
                    "value: do without --fold-bn"
                )
    log.debug("folding changes outputs by at most %.1e of their largest value", worst)
    return worst


def _relative_error(reference: Array, value: Array) -> float:
    """Largest difference relative to the largest value; 0 for outputs that are not floats (argmax may flip at ties)."""
    if reference.dtype.kind != "f":
        return 0.0
    if reference.shape != value.shape or not np.array_equal(np.isfinite(reference), np.isfinite(value)):
        return float("inf")
    finite = np.isfinite(reference)
    first, second = reference[finite].astype(np.float64), value[finite].astype(np.float64)
    largest = float(np.abs(first).max(initial=0.0))
    difference = float(np.abs(first - second).max(initial=0.0))
    return difference / largest if largest else difference


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised, not printed
    return new_session(model, options)


def _run(session: ort.InferenceSession, feed: Feed) -> dict[str, Array]:
    names = [output.name for output in session.get_outputs()]
    try:
        results = session.run(names, dict(feed))
    except Exception as error:  # onnxruntime's exceptions have no common base but this
        raise_if_out_of_memory(error)
        raise ModelError(
            f"cannot run the model to check folding: {first_line(error)} (give calibration data that fits it)"
        ) from error
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}


def _random_feed(inputs: Iterable[InputInfo]) -> Feed:
    """A feed of normal floats, of zeros and ones for integers; free axes have length 1."""
    rng = np.random.default_rng(0)
    feed = {}
    for info in inputs:
        shape = tuple(dim if isinstance(dim, int) else 1 for dim in info.shape or ())
        floats = rng.standard_normal(shape)
        feed[info.name] = np.asarray(floats if info.dtype.kind == "f" else floats > 0).astype(info.dtype)
    return feed
