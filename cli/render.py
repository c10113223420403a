"""Draw what the commands show: values in, rich renderables out. Every ``width`` is in terminal columns."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from cerwu_onnx.array_files.files import is_array_file
from cerwu_onnx.config import MAX_BITS

from .tables import Column, facts, fits, grid
from .text import counted, dims, percent, printable, size

if TYPE_CHECKING:
    from cerwu_onnx.calibration.output_errors import OutputError
    from cerwu_onnx.model.graph import Graph
    from cerwu_onnx.report import Report
    from cerwu_onnx.stock.side_by_side import Form
    from cerwu_onnx.types import Kept, Layer

    from .tensor_rows import TensorRow


_SHAPE = Column("shape")
_BOUND = Column("above\nbound", right=True)
_SHARE = Column("share\nof loss", right=True)


def draw_report(report: Report, model: Path, output: Path, width: int) -> RenderableType:
    """The result of ``compress``: the layers, then the bytes of the file by content."""
    data, layers = report.calibration == "data", report.layers
    bounded = any(layer.above_bound is not None for layer in layers)
    shared = any(layer.loss_share is not None for layer in layers)
    errors = [percent(math.sqrt(max(layer.relative_error, 0.0))) for layer in layers]
    shares = ["" if layer.loss_share is None else percent(layer.loss_share) for layer in layers]
    rates = [f"{layer.bits_per_weight:.2f}" for layer in layers]
    table = [
        (Column("layer", flexible=True), [layer.called() for layer in layers], counted(len(layers), "layer")),
        (Column("op"), [layer.op for layer in layers], ""),
        (_SHAPE, [dims(layer.shape) for layer in layers], ""),
        (Column("weights", right=True), [f"{layer.weights:,}" for layer in layers], f"{report.weights:,}"),
        (Column("bits/\nweight", right=True), rates, f"{report.bits_per_weight:.2f}"),
        *([(_BOUND, [_signed(layer.above_bound) for layer in layers], "")] if bounded else []),
        (Column("bytes", right=True), [f"{layer.coded_bytes:,}" for layer in layers], f"{report.weight_bytes:,}"),
        (Column("output\nerror" if data else "weight\nerror", right=True), errors, ""),
        *([(_SHARE, shares, "")] if shared else []),
    ]
    left_out = []
    columns, rows, total = _laid(table)
    for least in (_BOUND, _SHAPE, _SHARE):
        if least in columns and not fits(columns, [*rows, total], width):
            table.pop(columns.index(least))
            left_out.append(" ".join(least.head.split()))
            columns, rows, total = _laid(table)
    parts: list[RenderableType] = [
        grid(columns, {"": rows}, width, total=total) if rows else Text("no weight was quantised"),
        Text(),
        facts(_totals(report, model, output)),
    ]
    if report.search:
        parts += [Text(), _search(report, width)]
    if rows:
        where = "output (calibration data)" if data else "weights (no calibration data)"
        parts += [Text(), Text(f"Errors: root mean square, relative to the layer's {where}.", style="dim")]
    if left_out:
        parts.append(Text(f"Left out in {width} columns: {', '.join(left_out)} (COLUMNS=120 shows more).", style="dim"))
    if _BOUND in columns:
        parts.append(Text("Above bound: bits/weight over the Gaussian rate-distortion function.", style="dim"))
    if _SHARE in columns:
        parts.append(Text("Share of loss: of what each layer's error alone would cost at the outputs.", style="dim"))
    if report.kept and not is_array_file(model):
        parts.append(Text(f"Why tensors stay exact: cerwu-onnx inspect {printable(model.name)}", style="dim"))
    return Group(*parts)


def _laid(table: Sequence[tuple[Column, list[str], str]]) -> tuple[list[Column], list[tuple[str, ...]], list[str]]:
    """Columns with their cells and their total, as columns, rows and a row of totals."""
    columns, cells, total = (list(part) for part in zip(*table, strict=True))
    return columns, list(zip(*cells, strict=True)), total


def _search(report: Report, width: int) -> RenderableType:
    """The files that were tried to meet a target, the largest first; the one that was kept is marked."""
    scored = any(point.score is not None for point in report.search)
    sure = any(point.low is not None for point in report.search)
    columns = [
        Column("tried: lambda", right=True),
        Column("bytes", right=True),
        Column("bits/\nweight", right=True),
        *((Column("score", right=True),) if scored else ()),
        *((Column("surely\nabove", right=True),) if sure else ()),
        Column(""),
    ]
    rows = [
        (
            f"{point.lambda_:g}",
            f"{point.file_bytes:,}",
            f"{point.bits_per_weight:.2f}",
            *(("" if point.score is None else f"{point.score:.6g}",) if scored else ()),
            *(("" if point.low is None else f"{point.low:.4g}",) if sure else ()),
            "kept" if (point.lambda_, point.file_bytes) == (report.lambda_, report.file_bytes) else "",
        )
        for point in sorted(report.search, key=lambda point: -point.file_bytes)
    ]
    return grid(columns, {"": rows}, width)


def _signed(bits: float | None) -> str:
    """A difference of rates; empty if it is negligible or unknown."""
    return f"{bits:+.2f}" if bits is not None and math.isfinite(bits) else ""


def _totals(report: Report, model: Path, output: Path) -> list[tuple[str, str]]:
    """The lines below the table of ``compress``."""
    ratio = report.model_bytes / report.file_bytes
    change = f"{ratio:.2f} times smaller" if ratio >= 1 else f"{1 / ratio:.2f} times LARGER than the model"
    kept = sum(tensor.nbytes for tensor in report.kept)
    other = ", ".join(f"{name} {count:,}" for name, count in report.other_bytes.items() if count)
    calibration = counted(report.calibration_samples, "sample") if report.calibration == "data" else "none"
    levels = "" if report.levels is None else f" {report.levels} levels,"
    settings = f"{report.method}, lambda {report.lambda_:g},{levels} calibration {calibration}"
    lines = [
        (model.name, f"{report.model_bytes:,} bytes"),
        (output.name, f"{report.file_bytes:,} bytes, {change}"),
        ("of which", f"weights {report.weight_bytes:,}, {other}"),
        ("settings", settings),
    ]
    if report.array_error is not None:
        lines.insert(0, ("error of each array", f"at most {percent(report.array_error)} (root mean square, relative)"))
    if report.delta is not None:
        lines.insert(2, ("delta of", report.delta.headline))
    if report.fidelity is not None:
        lines.insert(0, (report.fidelity.title, report.fidelity.headline))
    if report.output_loss is not None:
        lines.append(("output loss", f"{report.output_loss:.3g} on calibration data"))
    if report.scores is not None:
        scores = report.scores
        change = f"{percent(abs(scores.drop))} {'less' if scores.drop >= 0 else 'more'}"
        lines.append((scores.metric, f"{scores.score:.6g}, float model {scores.float_score:.6g}: {change}"))
        if scores.surely():
            lines.append(("", f"falls {scores.surely()}"))
    if apart := sum(layer.blocks > 1 for layer in report.layers):
        lines.append(("Hessians in blocks", counted(apart, "layer")))
    if report.folded:
        lines.append(("folded", f"{len(report.folded)} BatchNormalization"))
    if report.parameters:
        values = sum(math.prod(parameter.shape) for parameter in report.parameters)
        coded = report.other_bytes["float parameters"]
        about = f"{counted(len(report.parameters), 'tensor')}, {values:,} values, {8 * coded / values:.2f} bits each"
        lines.append(("float parameters", about))
    if report.kept:
        lines.append(("kept exact", f"{counted(len(report.kept), 'tensor')}, {kept:,} bytes"))
    lines.append(("time", f"{sum(report.seconds.values()):.1f} s"))
    return lines


def draw_plan(graph: Graph, model_bytes: int, path: Path, width: int) -> RenderableType:
    """What ``compress`` would do with a model: the weights it quantises, and why the rest stays exact."""
    from cerwu_onnx.container.format import item_size

    weights = sum(layer.layout.size for layer in graph.layers)
    floats = [tensor for tensor in graph.kept if tensor.name in graph.parameters]
    rest = [tensor for tensor in graph.kept if tensor.name not in graph.parameters]
    kept = sum(tensor.nbytes for tensor in rest)
    coded = counted(len(graph.layers), "tensor")
    floats_bytes = sum(layer.layout.size * item_size(graph.element(layer.weight)) for layer in graph.layers)
    head = [
        ("model", path.name),
        ("size", size(model_bytes)),
        ("to quantise", f"{coded}, {weights:,} weights, {floats_bytes:,} bytes as floats"),
        (
            "coded if harmless",
            f"{counted(len(floats), 'float parameter')}, {sum(tensor.nbytes for tensor in floats):,} bytes",
        ),
        ("kept exact", f"{counted(len(rest), 'tensor')}, {kept:,} bytes"),
    ]
    parts: list[RenderableType] = [facts(head)]
    if graph.layers:
        typed = any(graph.element(layer.weight).name != "FLOAT32" for layer in graph.layers)
        columns = [
            Column("to quantise", flexible=True),
            Column("op"),
            Column("shape"),
            *((Column("type"),) if typed else ()),
            Column("weights", right=True),
            Column("how"),
            Column("node", flexible=True),
        ]
        rows = [
            (
                layer.weight,
                layer.op,
                dims(layer.layout.shape),
                *((graph.element(layer.weight).name.lower(),) if typed else ()),
                f"{layer.layout.size:,}",
                _how(layer),
                _nodes(layer),
            )
            for layer in graph.layers
        ]
        parts += [Text(), grid(columns, {"": rows}, width)]
        if not all(layer.sites for layer in graph.layers):
            parts.append(Text("noise: no statistics of its inputs, only what noise on it does to outputs", style="dim"))
    for title, tensors in (("coded if harmless", floats), ("kept exact", rest)):
        columns = [
            Column(title, flexible=True),
            Column("shape"),
            Column("type"),
            Column("bytes", right=True),
        ]
        if tensors:
            parts += [Text(), grid(columns, _by_reason(tensors), width)]
    return Group(*parts)


def _how(layer: Layer) -> str:
    """How a weight is quantised: along a trellis or on a uniform grid, by noise alone, and by which rules."""
    from cerwu_onnx.compression.storage_order import storage

    path = "grid" if storage(layer, "onnx").columns is None else "trellis"
    price = "" if layer.price == 1 else f", price {layer.price:g}"
    bits = "" if layer.bits == MAX_BITS else f", {layer.bits} bits"
    return f"{path}{'' if layer.sites else ', noise'}{price}{bits}"


def _nodes(layer: Layer) -> str:
    """The first node that reads a weight, and the number of others."""
    first, *others = layer.nodes
    return f"{first} +{len(others)}" if others else first


def _by_reason(tensors: Sequence[Kept]) -> dict[str, list[tuple[str, ...]]]:
    """Rows by reason, the one with most bytes first; names of nodes are left out of reasons."""
    found: dict[str, list[Kept]] = {}
    for tensor in tensors:
        found.setdefault(re.sub(r"\b([A-Z]\w*) (['\"]).*?\2", r"\1", tensor.reason), []).append(tensor)
    largest_first = sorted(found.items(), key=lambda item: -sum(tensor.nbytes for tensor in item[1]))
    return {
        f"{reason}:": [(f"  {t.name}", dims(t.shape), t.dtype, f"{t.nbytes:,}") for t in group]
        for reason, group in largest_first
    }


def draw_container(head: Sequence[tuple[str, str]], tensors: Sequence[TensorRow], width: int) -> RenderableType:
    """The facts about a .cwb file, and its tensors."""
    columns = [
        Column("tensor", flexible=True),
        Column("coding"),
        Column("shape"),
        Column("bits/\nweight", right=True),
        Column("bytes", right=True),
        Column("step", right=True),
        Column("symbols", right=True),
    ]
    rows = [
        (
            row.name,
            _coding(row),
            dims(row.shape),
            f"{row.bits_per_weight:.2f}",
            f"{row.bytes:,}",
            _steps(row),
            f"±{row.largest}" if row.step is not None else "",
        )
        for row in tensors
    ]
    parts: list[RenderableType] = [facts(head)]
    if rows:
        parts += [Text(), grid(columns, {"": rows}, width)]
    return Group(*parts)


def _steps(row: TensorRow) -> str:
    """The step of a tensor, or the smallest and the largest of its rows."""
    if row.step is None or row.least_step is None:
        return ""
    return f"{row.step:.3g}" if row.step == row.least_step else f"{row.least_step:.2g}…{row.step:.2g}"


def _coding(row: TensorRow) -> str:
    """How a tensor is stored, in a few words; T: its values follow a trellis."""
    if row.table:
        return "lossless"
    if row.step is not None:
        return f"{row.coding} T" if row.trellis else row.coding
    return row.coding if row.type == "float32" else f"{row.coding} {row.type}"


def draw_outputs(outputs: Sequence[OutputError], width: int) -> RenderableType:
    """The error of each output against the original."""
    columns = [
        Column("output", flexible=True),
        Column("relative\nerror", right=True),
        Column("largest\ndifference", right=True),
        Column("same\nargmax", right=True),
    ]
    rows = [
        (
            output.name,
            percent(output.relative),
            f"{output.largest:.3g}",
            "" if output.agreement is None else f"{100 * output.agreement:.2f}%",
        )
        for output in outputs
    ]
    return grid(columns, {"": rows}, width)


def draw_forms(forms: Sequence[Form], width: int) -> RenderableType:
    """Forms of a model side by side, the float model first."""
    scored = any(form.score is not None for form in forms)
    same = any(form.error.agreement is not None for form in forms)
    columns = [
        Column("weights", flexible=True),
        Column("bytes", right=True),
        Column("output\nerror", right=True),
        *((Column("same\nargmax", right=True),) if same else ()),
        *((Column("score", right=True),) if scored else ()),
        Column("speed", right=True),
    ]
    rows = [
        (
            form.name,
            f"{form.file_bytes:,}",
            percent(form.error.relative),
            *(("" if form.error.agreement is None else percent(form.error.agreement),) if same else ()),
            *((f"{form.score:.6g}",) if scored else ()),
            f"{form.speed:.2f}",
        )
        for form in forms
    ]
    note = "Error and speed: relative to the float model of the file, on the given data and on this machine."
    return Group(grid(columns, {"": rows}, width), Text(), Text(note, style="dim"))
