"""The pictures of the HTML report as SVG text; their colours come from the classes of the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from cerwu_onnx.report_files.grids import Histogram
from cerwu_onnx.report_files.text import shorten

CURVE_WIDTH, CURVE_HEIGHT = 420, 268
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 30, 40
_FLOOR = CURVE_HEIGHT - _BOTTOM
TILE_WIDTH, TILE_HEIGHT = 240, 72


def bar(shares: Sequence[tuple[str, float]], whole: float, label: str) -> str:
    """A bar ``whole`` wide, with parts side by side.

    Args:
        shares: CSS class and size of each part, not negative.
        whole: size of the full width, at least the sum of the parts.
        label: text for screen readers.
    """
    out, x = [], 0.0
    for name, size in shares:
        width = 1000 * size / whole if whole else 0.0
        if width > 0:
            out.append(f'<rect class="{name}" x="{x:.2f}" width="{width:.2f}" height="1"/>')
        x += width
    return (
        f'<svg class="bar" viewBox="0 0 1000 1" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f"{''.join(out)}</svg>"
    )


def tile(counted: Histogram, label: str) -> str:
    """A histogram: one bar for each grid point or group of points, and ticks for the grid; the longest marks zero."""
    width, base = TILE_WIDTH / len(counted.counts), TILE_HEIGHT - 8
    top = max(counted.counts)
    gap = 1 if width >= 3 else 0
    bars, marks = [], []
    for index, count in enumerate(counted.counts):
        x = index * width
        if count:
            height = max(0.75, base * count / top)
            bars.append(f"M{x + gap / 2:.1f} {base}v-{height:.1f}h{width - gap:.1f}v{height:.1f}z")
        zero = counted.lowest + index * counted.points == 0
        marks.append(f"M{x + width / 2:.1f} {base + 1}v{7 if zero else 3}")
    box = f'viewBox="0 0 {TILE_WIDTH} {TILE_HEIGHT}" preserveAspectRatio="none"'
    return (
        f'<svg class="tile" {box} role="img" aria-label="{escape(label)}">'
        f'<path class="ink" d="{"".join(bars)}"/><path class="grid" d="{"".join(marks)}"/></svg>'
    )


def curve(points: Sequence[tuple[float, float]], chosen: tuple[float, float], x_label: str, y_label: str) -> str:
    """A curve of finite points ``(x, y)``, joined in order of x, with the chosen point marked."""
    seen = sorted(points)
    x_ticks, y_ticks = (ticks(axis) for axis in zip(*seen, strict=True))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return _LEFT + (CURVE_WIDTH - _LEFT - _RIGHT) * across, _FLOOR - (_FLOOR - _TOP) * up

    out = []
    for value in y_ticks:
        _, y = place(x_ticks[0], value)
        out.append(f'<path class="rule" d="M{_LEFT} {y:.1f}H{CURVE_WIDTH - _RIGHT}"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    for value in x_ticks:
        x, _ = place(value, y_ticks[0])
        out.append(f'<text x="{x:.1f}" y="{_FLOOR + 16}" text-anchor="middle">{_short(value)}</text>')
    out.append(f'<text x="4" y="14">↑ {escape(shorten(y_label))}</text>')
    middle = (_LEFT + CURVE_WIDTH - _RIGHT) / 2
    out.append(f'<text x="{middle:.1f}" y="{CURVE_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    placed = [place(x, y) for x, y in seen]
    out.append(f'<path class="line" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in placed)}"/>')
    for point, (left, top) in zip(seen, placed, strict=True):
        tip = escape(f"{point[0]:,.6g} {x_label}, {y_label} {point[1]:.4g}")
        name, radius = ("dot chosen", 6) if point == chosen else ("dot", 4)
        out.append(f'<circle class="{name}" cx="{left:.1f}" cy="{top:.1f}" r="{radius}"><title>{tip}</title></circle>')
    label = escape(f"{y_label} against {x_label}")
    return (
        f'<svg class="curve" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(out)}</svg>"
    )


def ticks(values: Sequence[float], most: int = 5) -> list[float]:
    """Round numbers that cover finite ``values``, at most ``most`` + 2, in steps of 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values)
    spread = (high - low) or abs(high)
    spread = spread if spread > 1e-300 else 1.0  # a tenth of a smaller one may be zero
    power = 10.0 ** math.floor(math.log10(spread / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor * most >= spread)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _short(value: float) -> str:
    """A tick's number in few characters: ``20k``, ``1.5M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
