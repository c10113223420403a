"""Turn the weights of an already quantised model back into floats, so that ``compress`` can quantise them anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from cerwu_onnx.calibration.collect import open_session, run_session
from cerwu_onnx.errors import CalibrationError, ModelError
from cerwu_onnx.model.tensors import Array, constant_tensors, keep, set_tensor, subgraph_reads, value_of


def with_float_weights(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Replace each DequantizeLinear that reads only constants by the floats it computes.

    onnxruntime computes these floats, so that every axis, block size and integer type means what it means there.
    DequantizeLinear nodes on activations stay, and so do weights inside operators that multiply integers themselves
    (QLinearConv, MatMulNBits).

    Args:
        model: it is not changed.

    Returns:
        A changed copy (the model itself if there is nothing to replace), and the names of the new initializers: those
        of the replaced nodes' outputs.

    Raises:
        ModelError: onnxruntime cannot compute the floats.
    """
    constants = constant_tensors(model)
    shown = {value.name for value in model.graph.output}
    nodes = [node for node in model.graph.node if _is_weight(node, constants.keys()) and node.output[0] not in shown]
    if not nodes:
        return model, ()
    names = [node.output[0] for node in nodes]
    values = _computed(model, nodes, constants)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    keep(copy.graph.node, lambda node: not node.output or node.output[0] not in values)
    read = {name for node in copy.graph.node for name in (*node.input, *subgraph_reads(node))}
    dead = {name for node in nodes for name in node.input} - read - shown - {value.name for value in model.graph.input}
    keep(copy.graph.node, lambda node: not _makes(node, dead))
    keep(copy.graph.initializer, lambda tensor: tensor.name not in dead)
    for name in names:
        set_tensor(copy.graph.initializer.add(name=name), values[name])
    return copy, tuple(names)


def _is_weight(node: onnx.NodeProto, constants: Collection[str]) -> bool:
    named = node.op_type == "DequantizeLinear" and node.domain in ("", "ai.onnx")
    return named and all(name in constants for name in node.input if name)


def _makes(node: onnx.NodeProto, names: set[str]) -> bool:
    return value_of(node) is not None and node.output[0] in names


def _computed(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> dict[str, Array]:
    """Compute the outputs of nodes that read only constants."""
    small = onnx.ModelProto(ir_version=model.ir_version)
    small.opset_import.extend(model.opset_import)
    small.graph.name = "weights"
    small.graph.node.extend(nodes)
    for name in dict.fromkeys(name for node in nodes for name in node.input if name):
        small.graph.initializer.add().CopyFrom(constants[name])
        small.graph.initializer[-1].name = name
    small.graph.output.extend(onnx.ValueInfoProto(name=node.output[0]) for node in nodes)
    try:
        return run_session(open_session(small), [node.output[0] for node in nodes], {})
    except (ModelError, CalibrationError) as error:
        raise ModelError(f"quantised weights cannot be read: {error}") from error
