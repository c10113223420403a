"""Prepare the model of a .cwb file for the generator: fixed shapes, and names that are safe in C text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from cerwu_onnx.container.reader import Container
from cerwu_onnx.errors import ModelError, UsageError
from cerwu_onnx.firmware import c_source
from cerwu_onnx.model.tensors import bodies, constant_tensors
from cerwu_onnx.opened import CompressedModel

CODED = "coded"
"""Prefix of the new names of tensors that the firmware decodes; the tensor's place among them follows."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that the generator may read.

    Attributes:
        model: the model with all its weights; batch 1, every value and node renamed.
        coded: what the firmware decodes: original name and float32 values, in the order of the file.
        names: original names by new ones.
    """

    model: onnx.ModelProto
    coded: tuple[tuple[str, npt.NDArray[np.float32]], ...]
    names: Mapping[str, str]


def prepare(container: Container) -> Prepared:
    """Rebuild the model of a file, fix its shapes and rename what it names.

    Raises:
        UsageError: the file has no graph, or no float32 weight that is coded.
        ModelError: the model has bodies or local functions, or an input whose size it leaves open.
        CorruptFileError: the file is damaged.
    """
    opened = CompressedModel(container)
    if not opened.has_graph:
        raise UsageError("the file holds weights only, no graph to run: compress without --weights-only")
    model = opened.to_onnx()
    for node in model.graph.node:
        if any(True for _ in bodies(node)):
            raise ModelError(f"the model has a node {node.op_type} with a body: C is written of flat graphs only")
    if model.functions:
        raise ModelError("the model has local functions: inline them first (onnx.inliner)")
    for value in model.graph.output:
        if not value.type.HasField("tensor_type"):
            raise ModelError(
                f"output {value.name!r} is no tensor: export the model without it (ZipMap of skl2onnx: "
                "options={'zipmap': False})"
            )
    tensors = constant_tensors(model)
    coded = tuple(
        record.name
        for record in container.tensors
        if record.is_coded and tensors[record.name].data_type == onnx.TensorProto.FLOAT
    )
    if not coded:
        raise UsageError("no float32 weight of this file is coded: give the ONNX model to emx-onnx-cgen itself")
    fix_shapes(model.graph)
    values = tuple((name, np.asarray(numpy_helper.to_array(tensors[name]), np.float32)) for name in coded)
    return Prepared(model, values, _rename(model, coded))


def fix_shapes(graph: onnx.GraphProto) -> None:
    """Set open batch sizes to 1, in place; drop what the model says of other values.

    Raises:
        ModelError: another dimension of an input is open.
    """
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    del graph.value_info[:]
    for value in graph.input:
        if not value.type.tensor_type.HasField("shape"):
            raise ModelError(f"input {value.name!r} has no shape: export the model with one")
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            if axis:
                raise ModelError(
                    f"input {value.name!r} leaves axis {axis} ({dim.dim_param or '?'}) open: fix it first "
                    "(python -m onnxruntime.tools.make_dynamic_shape_fixed), then compress again"
                )
            dim.dim_value = 1
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def _rename(model: onnx.ModelProto, coded: tuple[str, ...]) -> dict[str, str]:
    """Rename values and nodes in place, and drop all other text of the model; original names by new ones."""
    graph = model.graph
    new: dict[str, str] = {"": ""}
    new |= {name: f"{CODED}{index}" for index, name in enumerate(coded)}
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for index, value in enumerate(values):
            new.setdefault(value.name, f"{kind}{index}")
    for tensor in graph.initializer:
        new.setdefault(tensor.name, f"constant{len(new)}")
    for node in graph.node:
        for name in node.output:
            new.setdefault(name, f"value{len(new)}")
    weights = [next((name for name in node.input if name in coded), node.op_type) for node in graph.node]
    labels = c_source.identifiers(weights)
    for node, label in zip(graph.node, labels, strict=True):
        node.name, node.doc_string = label.lower(), ""
        for names in (node.input, node.output):
            names[:] = [new[name] for name in names]
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.name, item.doc_string = new[item.name], ""
    graph.name, graph.doc_string, model.doc_string = "model", "", ""
    for text in ("producer_name", "producer_version", "domain"):
        model.ClearField(text)
    for items in (graph.quantization_annotation, model.metadata_props, graph.metadata_props):
        del items[:]
    return {name: old for old, name in new.items() if name}
