"""The report as Markdown, for pull requests and the summary of a CI job."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cerwu_onnx.report import LayerReport, Report
from cerwu_onnx.report_files import text
from cerwu_onnx.report_files.page import Page

ROWS = 100
"""The most layers that are shown, the largest first: CI systems limit the size of a summary."""


def to_markdown(page: Page) -> str:
    """The text: size, layers, and tensors that stay exact."""
    report = page.report
    before, expected = "decompressed" if page.from_file else "before", text.expected(report)
    parts = [
        f"## {code(page.name)}",
        *([f"**{plain(expected)}**"] if expected else []),
        plain(page.origin),
        f"{report.model_bytes:,} → **{report.file_bytes:,}** bytes, {text.change(report)}",
        _table(
            ["", ""],
            "lr",
            [
                (before, f"{report.model_bytes:,} bytes"),
                ("after", f"{report.file_bytes:,} bytes"),
                *((name, f"{size:,} bytes") for name, size in text.parts(report).items()),
            ],
        ),
        "\n".join(f"- {plain(name)}: {plain(value)}" for name, value in text.facts(report)),
        *_layers(report),
        *_exact(report),
    ]
    warnings = dict.fromkeys((*report.missed, *report.warnings))
    if warnings:
        parts += ["### Warnings", "\n".join(f"- {plain(warning)}" for warning in warnings)]
    return "\n\n".join(parts) + "\n"


def _layers(report: Report) -> list[str]:
    if not report.layers:
        return ["No weight was quantised."]
    errors, losses = text.has_errors(report.layers), text.has_losses(report.layers)
    shown = sorted(report.layers, key=lambda layer: -layer.coded_bytes)[:ROWS]
    heads = ["layer", "op", "shape", "weights", "bits/weight", "bytes", *(["error"] if errors else [])]
    heads += ["share of loss"] if losses else []

    def row(layer: LayerReport) -> tuple[str, ...]:
        cells = (
            code(layer.called()),
            plain(layer.op or text.NOTHING),
            text.dims(layer.shape),
            f"{layer.weights:,}",
            text.rate(layer.bits_per_weight),
            f"{layer.coded_bytes:,}",
        )
        known = (text.error(layer.relative_error),) if errors else ()
        return (*cells, *known, text.share(layer.loss_share)) if losses else (*cells, *known)

    rest = len(report.layers) - len(shown)
    parts = ["### Layers", _table(heads, "lll" + "r" * (len(heads) - 3), [row(layer) for layer in shown])]
    return [*parts, f"… and {text.counted(rest, 'smaller layer')}."] if rest else parts


def _exact(report: Report) -> list[str]:
    if not report.kept:
        return []
    rows = [
        (plain(reason), f"{len(tensors):,}", f"{sum(tensor.nbytes for tensor in tensors):,}")
        for reason, tensors in text.by_reason(report.kept).items()
    ]
    return ["### Left exact, and why", _table(["reason", "tensors", "bytes"], "lrr", rows)]


def _table(heads: Sequence[str], align: str, rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if side == "r" else "---" for side in align]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def plain(value: str) -> str:
    """Escape text of unknown origin so that Markdown shows it unchanged."""
    return re.sub(r"([\\`*_{}\[\]<>#+!|~&$@^]|(?<=:)/|(?<=www)\.)", r"\\\1", text.printable(value))


def code(value: str) -> str:
    """A name of unknown origin as a code span, in tables too."""
    shown = text.printable(value).replace("|", r"\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}"
