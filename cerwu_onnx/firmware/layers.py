"""What a header says of a model's layers, for those who call kernels themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from cerwu_onnx.firmware import c_source
from cerwu_onnx.firmware.kernels import KernelScales


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
        dims = {"input_dims": layer.input, "output_dims": layer.output}
        known_dims = {kind: tuple(dim or 1 for dim in found) for kind, found in dims.items() if found}
        for kind, values in {"shape": layer.shape, **known_dims, **layer.numbers}.items():
            lines.append(f"#define {upper}_{kind.upper()}_{label} {', '.join(map(str, values))}")
    return "\n".join(lines) + "\n\n"


def kernel_kinds(layers: Sequence[Layer]) -> dict[str, str]:
    """Which kernel of CMSIS-NN computes a layer, by weight, for those that have one."""
    kinds: dict[str, str] = {}
    for layer in layers:
        if layer.op == "Conv" and len(layer.shape) == 4:
            groups = layer.numbers["group"][0]
            if groups == 1 or layer.shape[1] == 1:
                kinds[layer.tensors[0]] = "conv" if groups == 1 else "depthwise"
        elif layer.op in ("Gemm", "MatMul"):
            kinds[layer.tensors[0]] = "fully_connected"
    return kinds


def grid_text(
    name: str, scales: Mapping[str, KernelScales], kinds: Mapping[str, str], labels: Mapping[str, str]
) -> str:
    """Macros of the grids of int8 layers, and a list of these layers.

    Args:
        name: the model's name in C.
        scales: the grids by weight.
        kinds: ``conv``, ``depthwise`` or ``fully_connected``, by weight, in the order in which the graph runs.
        labels: identifiers by tensor.
    """
    upper = name.upper()
    lines = []
    for weight, entry in scales.items():
        for kind, value in asdict(entry).items():
            if kind in ("input", "output"):
                lines.append(f"#define {upper}_{kind.upper()}_SCALE_{labels[weight]} {c_source.float_literal(value)}")
            elif kind not in ("bias", "axis"):
                literal = f"({value})" if value < 0 else value
                lines.append(f"#define {upper}_{kind.upper()}_{labels[weight]} {literal}")
    listed = [
        f"    LAYER({kind}, {labels[weight]}, {labels[weight].lower()}, "
        f"{f'{name}_bias_{labels[weight].lower()}' if scales[weight].bias else '0'})"
        for weight, kind in kinds.items()
        if weight in scales
    ]
    if listed:
        lines += [
            "",
            "/* LAYER(kind, IDENTIFIER, identifier, bias) of each int8 layer, in the order in which the graph runs. */",
            f"#define {upper}_INT8_LAYERS(LAYER) \\",
            " \\\n".join(listed),
        ]
    return "\n".join([*lines, "", ""]) if lines else ""


def _dims(dims: tuple[int, ...] | None) -> str:
    return "?" if dims is None else "x".join(str(dim or "N") for dim in dims) or "scalar"
