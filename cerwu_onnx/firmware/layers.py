"""What a header says of a model's layers, for those who call kernels themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cerwu_onnx.firmware import c_source


@dataclass(frozen=True, slots=True)
class Layer:
    """A node that has constants.

    Attributes:
        op: operator.
        tensors: names of its constants, the weight first.
        shape: ONNX dimensions of the weight.
        numbers: ``strides``, ``pads``, ``dilations`` and such, each with one value or more.
        input, output: dimensions of the values that it reads and writes, 0 where they are open; None if unknown.
    """

    op: str
    tensors: tuple[str, ...]
    shape: tuple[int, ...]
    numbers: Mapping[str, tuple[int, ...]]
    input: tuple[int, ...] | None
    output: tuple[int, ...] | None


def layer_text(name: str, layers: Sequence[Layer], identifiers: Mapping[str, str]) -> str:
    """Macros of the layers whose weight has an identifier, in the order in which they run.

    They are lists for initialisers, as in ``int strides[] = {MODEL_STRIDES_CONV1_WEIGHT};``.
    """
    upper = name.upper()
    known = [layer for layer in layers if layer.tensors and layer.tensors[0] in identifiers]
    if not known:
        return ""
    lines = ["/* The layers, in the order in which the graph runs; lists of numbers fit between braces. */", "enum {"]
    counts: dict[str, int] = {}
    labels = []
    for layer in known:
        label = identifiers[layer.tensors[0]]
        counts[label] = counts.get(label, 0) + 1
        labels.append(label if counts[label] == 1 else f"{label}_USE{counts[label]}")
    lines += [f"    {upper}_LAYER_{label} = {index}," for index, label in enumerate(labels)]
    lines += [f"    {upper}_LAYERS = {len(known)}", "};", ""]
    for layer, label in zip(known, labels, strict=True):
        about = f"{layer.op} {_dims(layer.input)} to {_dims(layer.output)}: {', '.join(layer.tensors)}"
        lines.append(f"/* {c_source.comment_text(about)} */")
        for kind, values in {"shape": layer.shape, **layer.numbers}.items():
            lines.append(f"#define {upper}_{kind.upper()}_{label} {', '.join(map(str, values))}")
    return "\n".join(lines) + "\n\n"


def _dims(dims: tuple[int, ...] | None) -> str:
    return "?" if dims is None else "x".join(str(dim or "N") for dim in dims) or "scalar"
