"""Format numbers and names for all reports."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from cerwu_onnx.report import LayerReport, Report
from cerwu_onnx.types import Kept

NOTHING = "–"
"""Stands for a number that is not known."""


def printable(text: str) -> str:
    """``text`` with control and invisible characters escaped: names in files may be hostile."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shorten(text: str, most: int = 44) -> str:
    """``text`` without its middle if it is longer: the end of a path, or of a function's name, tells most."""
    return text if len(text) <= most else f"{text[: most // 3]}…{text[len(text) - most + most // 3 + 1 :]}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; a dash for None, NaN and infinity."""
    return f"{value:.{digits}g}" if value is not None and math.isfinite(value) else NOTHING


def rate(value: float | None) -> str:
    """Bits per weight."""
    return f"{value:.2f}" if value is not None and math.isfinite(value) else NOTHING


def error(relative: float) -> str:
    """The root of a relative squared error, in percent."""
    return f"{100 * math.sqrt(max(relative, 0.0)):.3g} %" if math.isfinite(relative) else NOTHING


def dims(shape: Sequence[int]) -> str:
    """``12x2x3x3``; ``scalar`` for rank 0."""
    return "×".join(map(str, shape)) or "scalar"


def counted(count: int, noun: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def change(report: Report) -> str:
    """The file's size compared with the model's."""
    if not report.model_bytes:
        return NOTHING
    times = report.model_bytes / report.file_bytes
    return f"{times:.2f} times smaller" if times >= 1 else f"{1 / times:.2f} times LARGER"


def parts(report: Report) -> dict[str, int]:
    """Bytes of the file by content."""
    return {"weights": report.weight_bytes} | {name: size for name, size in report.other_bytes.items() if size}


def expected(report: Report) -> str:
    """What the compressed model keeps of the float model, in a sentence; empty where it was not judged."""
    return "" if report.fidelity is None else f"{report.fidelity.title}: {report.fidelity.headline}"


def facts(report: Report) -> list[tuple[str, str]]:
    """Facts about the whole compression: name and text of each."""
    levels = "" if report.levels is None else f", {report.levels} levels"
    lines = [
        ("method", f"{report.method or 'unknown'}, lambda {number(report.lambda_)}{levels}"),
        ("calibration", _calibration(report)),
        (
            "weights",
            f"{report.weights:,} in {counted(len(report.layers), 'tensor')}, {rate(report.bits_per_weight)} bits each",
        ),
    ]
    if report.delta is not None:
        lines.insert(0, ("delta of", report.delta.headline))
    if report.output_loss is not None:
        lines.append(("loss at the outputs", f"{number(report.output_loss)} on calibration data"))
    if report.scores is not None:
        before, after = report.scores.float_score, report.scores.score
        sure = report.scores.surely()
        about = f"{number(before, 4)} before, {number(after, 4)} after{sure and f'; it falls {sure}'}"
        lines.append((report.scores.metric, about))
    if apart := sum(layer.blocks > 1 for layer in report.layers):
        lines.append(("Hessians in blocks", f"{counted(apart, 'layer')}, for want of memory"))
    if report.folded:
        lines.append(("folded", f"{len(report.folded)} BatchNormalization"))
    if report.parameters:
        size = sum(parameter.coded_bytes for parameter in report.parameters)
        lines.append(("float parameters", f"{counted(len(report.parameters), 'tensor')} coded, {size:,} bytes"))
    if report.kept:
        size = sum(tensor.nbytes for tensor in report.kept)
        lines.append(("left exact", f"{counted(len(report.kept), 'tensor')}, {size:,} bytes"))
    if report.seconds:
        lines.append(("time", f"{sum(report.seconds.values()):.1f} s"))
    return lines


def _calibration(report: Report) -> str:
    if report.calibration == "data":
        return counted(report.calibration_samples, "sample") if report.calibration_samples else "data"
    return report.calibration or "unknown"


def has_errors(layers: Iterable[LayerReport]) -> bool:
    """Whether the errors of layers are known."""
    return any(math.isfinite(layer.relative_error) for layer in layers)


def has_bounds(layers: Iterable[LayerReport]) -> bool:
    """Whether the distances from the rate-distortion bound are known."""
    return any(layer.above_bound is not None for layer in layers)


def has_losses(layers: Iterable[LayerReport]) -> bool:
    """Whether the losses of layers at the outputs are known."""
    return any(layer.loss_share is not None for layer in layers)


def share(value: float | None) -> str:
    """A share (0 to 1) in percent."""
    return f"{100 * value:.3g} %" if value is not None and math.isfinite(value) else NOTHING


def by_reason(kept: Iterable[Kept]) -> dict[str, list[Kept]]:
    """Exact tensors by reason, the one with most bytes first; names of nodes are left out of reasons."""
    found: dict[str, list[Kept]] = {}
    for tensor in kept:
        reason = re.sub(r"\b([A-Z]\w*) (['\"]).*?\2", r"\1", tensor.reason)
        found.setdefault(reason or "stored exactly", []).append(tensor)
    return dict(sorted(found.items(), key=lambda item: -sum(tensor.nbytes for tensor in item[1])))
