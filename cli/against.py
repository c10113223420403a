"""``verify --against``: compare the tensors of a .cwb file with those of the model that it was made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from cerwu_onnx.opened import CompressedModel


@dataclass(frozen=True, slots=True)
class Exactness:
    """The result of the comparison.

    Attributes:
        same_file: whether the model is, byte by byte, the file that the .cwb file records; None if it records none.
        quantised: weights stored as symbols: of the original's type and shape.
        parameters: biases and BatchNormalization parameters stored as symbols: of the original's type and shape.
        moved: parameters stored as floats, but moved to make up for the errors of their layer's weights.
        identical: tensors that have the same bits as the original's, under any name.
        folded: tensors that folding BatchNormalization changes, adds or removes. The comparison folds the original in
            the same way first.
        differing: tensors that differ or are missing for no such reason.
        problems: one sentence for each of the differing tensors, for the graph, and for the file as a whole.
    """

    same_file: bool | None
    quantised: int
    parameters: int
    moved: int
    identical: int
    folded: tuple[str, ...]
    differing: tuple[str, ...]
    problems: tuple[str, ...]


def compare_tensors(compressed: CompressedModel, original: Path) -> Exactness:
    """Compare a file with its model: the file's record of it, the operators, and each tensor by its value.

    Raises:
        UsageError: ``original`` cannot be read.
        ModelError: it is not a valid ONNX model.
        CheckFailed: a coded tensor does not fit the original's.
    """
    from cerwu_onnx.compression.dequantize import with_float_weights
    from cerwu_onnx.model.elements import FLOATS
    from cerwu_onnx.model.graph import load_model
    from cerwu_onnx.model.loading import file_digest
    from cerwu_onnx.model.rebuilt import by_value, content, directory_tensors, fold_again
    from cerwu_onnx.model.skeleton import fits_directory
    from cerwu_onnx.model.tensors import constant_tensors

    loaded, container = load_model(original), compressed.container
    recorded = compressed.metadata.get("model")
    same_file = None if recorded is None else recorded == file_digest(original)
    coded = {record.name for record in container.tensors if record.is_coded} - compressed.tables
    if coded - constant_tensors(loaded).keys():  # with --requantize; or folding has added them
        anew, names = with_float_weights(loaded)
        loaded = loaded if coded.isdisjoint(names) else anew
    model = fold_again(loaded, container)
    tensors = constant_tensors(model)
    problems: dict[str, str] = {}
    if compressed.has_graph:
        whole = compressed.to_onnx()
        rebuilt = constant_tensors(whole)
        unlike = _first_difference(whole.graph.node, model.graph.node)
    else:
        rebuilt, unlike = directory_tensors(container, model), ""
    renamed = by_value(rebuilt, tensors)
    counts = dict.fromkeys(("quantised", "parameters", "moved", "identical"), 0)
    differ: list[str] = []
    known = tensors.keys() | set(renamed.values())
    problems |= {name: f"tensor {name!r} is not in {original}" for name in rebuilt if name not in known}
    for name, tensor in tensors.items():
        ours = rebuilt.get(renamed.get(name, name))
        if ours is None:
            if compressed.has_graph or (tensor.data_type in FLOATS and fits_directory(name, tensor)):
                problems[name] = f"tensor {name!r} of {original} is missing"
        elif (ours.data_type, ours.dims) != (tensor.data_type, tensor.dims):
            problems[name] = f"tensor {name!r} has another shape or type than in {original}: {tuple(ours.dims)}"
        elif name in coded:
            counts["parameters" if name in compressed.parameters else "quantised"] += 1
        elif content(ours) == content(tensor):
            counts["identical"] += 1
        else:
            differ.append(name)
    movable = _movable(model, coded) if differ and same_file is not False else set()
    counts["moved"] = len(movable.intersection(differ))
    problems |= {
        name: f"tensor {name!r} is stored exactly and differs from the one in {original}"
        for name in differ
        if name not in movable
    }
    changed: set[str] = set()
    if model is not loaded:
        before = constant_tensors(loaded)
        changed = before.keys() ^ tensors.keys()
        changed |= {name for name in before.keys() & tensors.keys() if content(before[name]) != content(tensors[name])}
    whole_file = [f"the graph differs from that of {original}: {unlike}"] if unlike else []
    if same_file is False:
        whole_file.append(
            f"{original} is not the file that this one was made from: the SHA-256 of that one begins with {recorded}"
        )
    sentences = (*problems.values(), *whole_file)
    return Exactness(same_file, **counts, folded=tuple(sorted(changed)), differing=tuple(problems), problems=sentences)


def _movable(model: onnx.ModelProto, coded: set[str]) -> set[str]:
    """The parameters that may move with a quantised weight: its bias, or the mean of its normalisation."""
    from cerwu_onnx.model.graph import analyse

    layers = [layer for layer in analyse(model).layers if layer.weight in coded]
    found = {layer.norm.mean for layer in layers if layer.norm is not None and layer.bias is None}
    return found | {layer.bias.name for layer in layers if layer.bias is not None}


def _first_difference(ours: Iterable[onnx.NodeProto], theirs: Iterable[onnx.NodeProto]) -> str:
    """The first node whose operator or attributes differ, in words; empty if there is none."""
    from itertools import zip_longest

    for number, (node, other) in enumerate(zip_longest(ours, theirs)):
        if node is None or other is None:
            return f"it has {'fewer' if node is None else 'more'} nodes"
        if _signature(node) != _signature(other):
            return f"node {number} is {node.op_type}, not {other.op_type}, or has other attributes"
    return ""


def _signature(node: onnx.NodeProto) -> object:
    """A node's operator and attributes, without names, tensors and bodies."""
    plain = [a for a in node.attribute if not (a.HasField("t") or a.tensors or a.HasField("g") or a.graphs)]
    attributes = sorted((a.name, a.i, a.f, a.s, (*a.ints,), (*a.floats,), (*a.strings,)) for a in plain)
    return node.op_type, node.domain, len(node.input), len(node.output), attributes
