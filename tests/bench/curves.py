"""Rate-accuracy curves as SVG, one file per model, legible on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from .fronts import Point, pareto
from .models import BenchModel
from .rows import Results
from .sweeps import FULL

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 40, 52
LOWEST = 85
"""Percent of the float score at which the vertical axis begins."""

HIGHEST = 101
TEXT = "#7d8590"
COLOURS = {FULL: "#e5484d", "cerwu": "#2f9e77", "optq": "#4c82d8", "nncodec": "#a06cd5"}
PEERS = {"cerwu": "CERWU, reference", "optq": "OPTQ, reference", "nncodec": "NNCodec"}


@dataclass(frozen=True)
class Curve:
    """A Pareto front with its name; ``peer`` ones are thin, dashed and hollow."""

    label: str
    colour: str
    points: list[Point]
    peer: bool = False


def write(results: Results, models: Sequence[BenchModel], folder: Path) -> None:
    """Draw ``rate_MODEL.svg`` for every model that has rows."""
    for model in models:
        if model.name in results.models:
            (folder / f"rate_{model.name}.svg").write_text(draw(model.name, results, model))


def curves_of(results: Results, model: BenchModel) -> list[Curve]:
    """The peers' fronts, then ours on top of them."""
    found = [
        Curve(label, COLOURS[name], pareto(Point(*pair) for pair in model.anchors[name]["points"]), peer=True)
        for name, label in PEERS.items()
        if name in model.anchors
    ]
    labels = {FULL: "cerwu-onnx, default", "cerwu": "CERWU, ours", "optq": "OPTQ, ours"}
    for name in reversed(labels):
        points = pareto(results.points(model.name, name, "matrix_bits_per_weight"))
        if points:
            found.append(Curve(labels[name], COLOURS[name], points))
    return found


def draw(title: str, results: Results, model: BenchModel) -> str:
    """The picture: bits per weight to the right, score upwards, what lies outside is cut off."""
    curves = curves_of(results, model)
    low, high = results.target(model.name, LOWEST), results.target(model.name, HIGHEST)
    seen = [point for curve in curves for point in curve.points if low <= point.score]
    top = max([high, *(point.score for point in seen)])
    right = max((point.cost for point in seen), default=1.0)
    axes = Axes(1.03 * right, low, top + 0.03 * (top - low))
    parts = [*_frame(title, axes)]
    for percent in (100, 99, 95):
        y = axes.y(results.target(model.name, percent))
        label = f"float {results.models[model.name]['float']:.4f}" if percent == 100 else f"{percent} %"
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{TEXT}" stroke-dasharray="2 4"/>')
        parts.append(_text(LEFT + 6, y - 4, label, size=11))
    parts.append(f'<clipPath id="plot"><path d="M{LEFT} {TOP}H{WIDTH - RIGHT}V{HEIGHT - BOTTOM}H{LEFT}Z"/></clipPath>')
    parts.append('<g clip-path="url(#plot)">')
    parts += [part for curve in curves for part in _curve(curve, axes)]
    parts.append("</g>")
    parts += _legend(curves[::-1])
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui, sans-serif" fill="none">\n{body}\n</svg>\n'
    )


@dataclass(frozen=True)
class Axes:
    """From data to pixels; costs begin at 0."""

    right: float
    bottom: float
    top: float

    def x(self, cost: float) -> float:
        """Pixels from the left."""
        return LEFT + cost / self.right * (WIDTH - LEFT - RIGHT)

    def y(self, score: float) -> float:
        """Pixels from the top."""
        return HEIGHT - BOTTOM - (score - self.bottom) / (self.top - self.bottom) * (HEIGHT - TOP - BOTTOM)


def ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers, 1, 2 or 5 times a power of ten apart, the first <= low, the last >= high."""
    raw = (high - low) / 7
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    return [index * step for index in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _frame(title: str, axes: Axes) -> Iterable[str]:
    yield _text(LEFT, 24, title, size=15)
    yield f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="{TEXT}"/>'
    for tick in ticks(0, axes.right)[:-1]:
        yield f'<path d="M{axes.x(tick):.1f} {HEIGHT - BOTTOM}V{TOP}" stroke="{TEXT}" stroke-opacity="0.25"/>'
        yield _text(axes.x(tick), HEIGHT - BOTTOM + 18, f"{tick:g}", anchor="middle")
    for tick in ticks(axes.bottom, axes.top)[1:-1]:
        yield f'<path d="M{LEFT - 4} {axes.y(tick):.1f}H{LEFT}" stroke="{TEXT}"/>'
        yield _text(LEFT - 8, axes.y(tick) + 4, f"{tick:.4g}", anchor="end")
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "bits per weight, all weight matrices", anchor="middle")
    yield f'<g transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">'
    yield _text(0, 0, "score on test data", anchor="middle") + "</g>"


def _curve(curve: Curve, axes: Axes) -> Iterable[str]:
    places = [(axes.x(point.cost), axes.y(point.score)) for point in curve.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield f'<path d="{path}" stroke="{curve.colour}" {_stroke(curve)}/>'
    fill = "" if curve.peer else f' fill="{curve.colour}"'
    for x, y in places:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" stroke="{curve.colour}"{fill}/>'


def _legend(curves: Sequence[Curve]) -> Iterable[str]:
    """In the lower right, where a good method leaves room."""
    for index, curve in enumerate(curves):
        y = HEIGHT - BOTTOM - 18 * (len(curves) - index) + 2
        x = WIDTH - RIGHT - 170
        fill = "" if curve.peer else f' fill="{curve.colour}"'
        yield f'<path d="M{x} {y}h28" stroke="{curve.colour}" {_stroke(curve)}/>'
        yield f'<circle cx="{x + 14}" cy="{y}" r="3" stroke="{curve.colour}"{fill}/>'
        yield _text(x + 36, y + 4, curve.label)


def _stroke(curve: Curve) -> str:
    return 'stroke-width="1" stroke-dasharray="5 3"' if curve.peer else 'stroke-width="2"'


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{TEXT}" text-anchor="{anchor}">{escape(text)}</text>'
    )
