"""The report as one HTML page: without network or dependencies, light and dark, one column on a telephone."""

from __future__ import annotations

import base64
import hashlib
import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cerwu_onnx.report import LayerReport, Report
from cerwu_onnx.report_files import svg, text
from cerwu_onnx.report_files.grids import Histogram
from cerwu_onnx.report_files.page import Page
from cerwu_onnx.types import Kept

COLOURS = 6
"""Number of the classes p0 ... p5 of the style sheet, for the parts of a file."""


def to_html(page: Page) -> str:
    """The whole page.

    Names are escaped, and the content security policy allows only the page's own style and script.
    """
    style, script = (Path(__file__).with_name(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    policy = f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}"
    sections = [
        _head(page),
        _size(page),
        _search(page.report),
        _layers(page.report),
        _tiles(page),
        _exact(page.report.kept),
    ]
    sections.append(_warnings(page.report))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(page.name)} – cerwu-onnx</title>\n<style>{style}</style></head>\n<body><main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<script>{script}</script></body></html>\n"
    )


def _digest(content: str) -> str:
    """The source expression of some content for the content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _text(value: str) -> str:
    """Text of unknown origin as HTML."""
    return html.escape(text.printable(value))


def _head(page: Page) -> str:
    report = page.report
    facts = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in text.facts(report))
    note = (
        '<p class="dim">Read from the file, which does not say how large the errors are.</p>' if page.from_file else ""
    )
    return (
        f'<h1>{_text(page.name)}</h1>\n<p class="dim origin">{_text(page.origin)}</p>\n{_expected(report)}'
        f'<p class="lead">{report.model_bytes:,} → <b>{report.file_bytes:,}</b> bytes, {text.change(report)}</p>'
        f"{note}<dl>{facts}</dl>"
    )


def _expected(report: Report) -> str:
    """What the compressed model keeps, and how that was judged; empty where it was not."""
    if report.fidelity is None:
        return ""
    figure, meaning, judged = map(_text, report.fidelity.told())
    lead = f"{_text(report.fidelity.title.capitalize())}: <b>{figure}</b> {meaning}"
    return f'<p class="lead">{lead}</p>\n<p class="dim">{judged}</p>\n'


def _size(page: Page) -> str:
    """The bars of the model and of the file, to the same scale, and the parts of the file."""
    report, parts = page.report, text.parts(page.report)
    whole = max(report.model_bytes, report.file_bytes)
    shares = [(f"p{index % COLOURS}", float(size)) for index, size in enumerate(parts.values())]
    legend = "".join(
        f'<li><i class="{name}"></i>{_text(part)} {size:,}</li>'
        for (part, size), (name, _) in zip(parts.items(), shares, strict=True)
    )
    before = "decompressed" if page.from_file else "before"
    return (
        f'<h2>Size</h2>\n<div class="dim">{before}, {report.model_bytes:,} bytes</div>'
        f"{svg.bar([('p5', report.model_bytes)], whole, 'before')}"
        f'<div class="dim">after, {report.file_bytes:,} bytes</div>'
        f"{svg.bar([('p0', report.file_bytes)], whole, 'after')}"
        f'<div class="dim">what the file holds</div>{svg.bar(shares, report.file_bytes, "parts of the file")}'
        f'<ul class="legend">{legend}</ul>'
    )


def _search(report: Report) -> str:
    """The curve of what was tried to meet a target: accuracy, or else lambda, against size."""
    if not report.search:
        return ""
    scored = [(point.file_bytes, point.score) for point in report.search if point.score is not None]
    if scored and report.scores:
        label, points = report.scores.metric, [(float(size), score) for size, score in scored if math.isfinite(score)]
    else:
        label, points = "lambda", [(float(point.file_bytes), point.lambda_) for point in report.search]
    chosen = next((point for point in points if point[0] == report.file_bytes), (math.nan, math.nan))
    picture = svg.curve(points, chosen, "bytes", label) if points else ""
    return (
        f'<h2>Search</h2>\n<p class="dim">{text.counted(len(report.search), "file")} tried: {_text(label)} by size; '
        f"the one kept is filled.</p>{picture}"
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """A sortable column: its heading, the text of a cell, and the number to sort by (None: the text)."""

    head: str
    show: Callable[[LayerReport], str]
    value: Callable[[LayerReport], float | None] | None = None
    name: str = ""


def _layers(report: Report) -> str:
    if not report.layers:
        return '<h2>Layers</h2>\n<p class="dim">No weight was quantised.</p>'
    largest = max(layer.coded_bytes for layer in report.layers)

    def size(layer: LayerReport) -> str:
        return f"{layer.coded_bytes:,}{svg.bar([('p0', layer.coded_bytes)], largest, 'share')}"

    columns = [
        _Column("layer", lambda layer: _text(layer.called()), name="name"),
        _Column("op", lambda layer: _text(layer.op or text.NOTHING)),
        _Column("shape", lambda layer: text.dims(layer.shape), lambda layer: layer.weights),
        _Column("bytes", size, lambda layer: layer.coded_bytes),
        _Column("bits/weight", lambda layer: text.rate(layer.bits_per_weight), lambda layer: layer.bits_per_weight),
    ]
    if text.has_bounds(report.layers):
        columns.append(
            _Column("above bound", lambda layer: text.rate(layer.above_bound), lambda layer: layer.above_bound)
        )
    if text.has_errors(report.layers):
        where = "output error" if report.calibration == "data" else "weight error"
        columns.append(
            _Column(where, lambda layer: text.error(layer.relative_error), lambda layer: layer.relative_error)
        )
    if text.has_losses(report.layers):
        columns.append(
            _Column("share of loss", lambda layer: text.share(layer.loss_share), lambda layer: layer.loss_share)
        )
    columns += [
        _Column("step", lambda layer: text.number(layer.step), lambda layer: layer.step),
        _Column("symbols", lambda layer: f"{layer.symbols:,}", lambda layer: layer.symbols),
        _Column("coder", lambda layer: _text(layer.coder)),
    ]
    heads = "".join(
        f'<th scope="col"{"" if column.value else " class=t"}><button type="button">{column.head}</button></th>'
        for column in columns
    )
    rows = "\n".join(f"<tr>{''.join(_cell(column, layer) for column in columns)}</tr>" for layer in report.layers)
    return (
        '<h2>Layers</h2>\n<p class="dim" hidden>The table goes on to the right: scroll it sideways.</p>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Layers"><table class="sortable">'
        f"<thead><tr>{heads}</tr></thead><tbody>\n{rows}</tbody></table></div>{_legend_of_layers(report)}"
    )


def _cell(column: _Column, layer: LayerReport) -> str:
    if column.value is None:
        return f'<td class="t {column.name}">{column.show(layer)}</td>'
    value = column.value(layer)
    data = f' data-v="{value!r}"' if value is not None and math.isfinite(value) else ""
    return f"<td{data}>{column.show(layer)}</td>"


def _legend_of_layers(report: Report) -> str:
    notes = []
    if text.has_errors(report.layers):
        data = "output on calibration data" if report.calibration == "data" else "weights"
        notes.append(f"Errors are root mean square, relative to the layer's {data}.")
    if text.has_bounds(report.layers):
        notes.append("Above bound: bits/weight over the Gaussian rate-distortion function.")
    if text.has_losses(report.layers):
        notes.append("Share of loss: of what each layer's error alone would cost at the model's outputs.")
    return f'<p class="dim">{" ".join(notes)}</p>' if notes else ""


def _tiles(page: Page) -> str:
    """A histogram of each layer."""
    tiles = []
    for layer in page.report.layers:
        counted = page.histograms[layer.name]
        points = counted.highest - counted.lowest + 1
        each = f", {counted.points} to a bar" if counted.points > 1 else ""
        low, high = (text.number(counted.step * end) for end in (counted.lowest, counted.highest))
        grid = f"{low} … {high}, {points:,} points of a grid of {text.number(layer.step)}{each}"
        about = f"{grid}; {_zeros(counted, layer)}; tallest bar {_weights(max(counted.counts))}"
        tiles.append(
            f"<figure>{svg.tile(counted, f'histogram, {about}')}<figcaption>{_text(layer.called())}"
            f'<br><span class="dim">{about}</span></figcaption></figure>'
        )
    note = (
        "Upwards: how many weights. To the right: their values, a bar for each point of the grid or for several; below "
        "the bars the grid, longest at zero."
    )
    return (
        f'<h2>Weights on their grids</h2>\n<p class="dim">{note}</p><div class="tiles">{"".join(tiles)}</div>'
        if tiles
        else ""
    )


def _zeros(counted: Histogram, layer: LayerReport) -> str:
    """The share of zeros, which can be told only if bars are single points."""
    place = -counted.lowest
    if counted.points > 1 or not 0 <= place < len(counted.counts):
        return _weights(layer.weights)
    return f"{_weights(layer.weights)}, {100 * counted.counts[place] / layer.weights:.0f} % zero"


def _weights(weights: int) -> str:
    """``1 weight``, ``2,000 weights``."""
    return text.counted(weights, "weight")


def _exact(kept: Sequence[Kept]) -> str:
    if not kept:
        return ""
    groups = []
    for reason, tensors in text.by_reason(kept).items():
        size = sum(tensor.nbytes for tensor in tensors)
        items = "".join(
            f"<li>{_text(t.name)} <span class=dim>{_text(t.dtype)} {text.dims(t.shape)}, {t.nbytes:,} bytes</span></li>"
            for t in tensors
        )
        groups.append(
            f"<details><summary>{_text(reason)}: {text.counted(len(tensors), 'tensor')}, {size:,} bytes</summary>"
            f'<ul class="names">{items}</ul></details>'
        )
    return f"<h2>Left exact, and why</h2>\n{''.join(groups)}"


def _warnings(report: Report) -> str:
    items = "".join(f"<li>{_text(warning)}</li>" for warning in dict.fromkeys((*report.missed, *report.warnings)))
    return f"<h2>Warnings</h2>\n<ul>{items}</ul>" if items else ""
