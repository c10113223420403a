"""What ``peers.json`` says, as the table and the picture of the README, as ``peers.md``, and for ``how_small.md``."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

from .models import ROOT

PAGES = ROOT / "docs" / "benchmarks"
Row = dict[str, Any]


@dataclass(frozen=True)
class Tool:
    """A tool in the tables: its rows' key, how it is called, and what loading its files takes beside onnxruntime."""

    key: str
    name: str
    needs: str


TOOLS = (
    Tool("gzip", "gzip -9", "unpacking"),
    Tool("xz", "xz -9", "unpacking"),
    Tool("zstd", "zstd -19", "unpacking"),
    Tool("onnxslim", "onnxslim", "nothing"),
    Tool("float16", "float16", "nothing; slower where the processor has no float16"),
    Tool("dynamic", "onnxruntime int8, dynamic", "nothing; runs integer kernels"),
    Tool("static", "onnxruntime int8, static", "nothing; runs integer kernels"),
    Tool("nncodec", "NNCodec 2, as it comes", "its Python package, PyTorch and the graph"),
    Tool("nncodec-99", "NNCodec 2, step chosen on test data", "its Python package, PyTorch and the graph"),
    Tool("ours", "**cerwu-onnx**, as it comes", "`cerwu_onnx` (Python, C, C++, JavaScript) or two C files"),
)
SIZED = (Tool("ours-64", "cerwu-onnx, at most 64 KiB", ""), Tool("ours-8", "cerwu-onnx, at most 8 KiB", ""))

FAMILIES = {
    "fashion_cnn": ("convolutions and a large dense layer", "CNN, Fashion-MNIST"),
    "cifar10_resnet20": ("residual convolutions", "ResNet-20, CIFAR-10"),
    "mlperf_ic01_resnet8": ("residual convolutions", "MLPerf Tiny ResNet-8, CIFAR-10"),
    "fashion_dscnn": ("depthwise-separable convolutions", "DS-CNN, Fashion-MNIST"),
    "mlperf_kws01_dscnn": ("depthwise-separable convolutions", "MLPerf Tiny DS-CNN, keyword spotting"),
    "kws_arm_dnn_s": ("dense layers", "dense network, keyword spotting"),
    "kws_arm_lstm_m": ("recurrent layers", "LSTM, keyword spotting"),
    "sequence_gru": ("recurrent layers", "GRU, sequences"),
    "magika_v3_3": ("embedding, convolution, dense", "Magika, file types"),
}
"""Kind of layers that hold most weights, and what the model is."""


def kept(row: Row, model: Row) -> float:
    """Share of the float score that is left, from the score of guessing on."""
    return float((row["score"] - model["chance"]) / (model["float"] - model["chance"]))


@dataclass(frozen=True)
class Summary:
    """One tool over all models: geometric mean of the shrinkage, mean and least share kept, typical cost."""

    tool: Tool
    models: int
    times: float
    mean: float
    worst: float
    seconds: float
    megabytes: float


def summaries(models: dict[str, Row]) -> list[Summary]:
    """Tools that have rows; those that fail on a model count for the others."""
    found = []
    for tool in TOOLS:
        rows = [(m["rows"][tool.key], m) for m in models.values() if "score" in m["rows"].get(tool.key, {})]
        if not rows:
            continue
        logs = [math.log(model["bytes"] / row["bytes"]) for row, model in rows]
        shares = [kept(row, model) for row, model in rows]
        found.append(
            Summary(
                tool,
                len(rows),
                math.exp(sum(logs) / len(logs)),
                sum(shares) / len(shares),
                min(shares),
                median(row["seconds"] for row, _ in rows),
                median(row["memory"] for row, _ in rows) / 1e6,
            )
        )
    return found


def write(results: Row) -> None:
    """Write the page and the picture, and put the tables between their marks in README.md and how_small.md."""
    models = {name: m for name, m in results["models"].items() if "score" in m.get("rows", {}).get("ours", {})}
    if not models:
        return
    found = summaries(models)
    (PAGES / "peers.md").write_text(page(results, models))
    (PAGES / "peers.svg").write_text(picture(found))
    between(ROOT / "README.md", f"{named(models)}\n\n{table(found, len(models))}")
    between(ROOT / "docs" / "how_small.md", ranges(models))


def between(page: Any, content: str) -> None:
    """Put content between the marks of a page."""
    begin, end = "<!-- make bench-peers: begin -->", "<!-- make bench-peers: end -->"
    head, _, rest = page.read_text().partition(begin)
    page.write_text(f"{head}{begin}\n\n{content}\n\n{end}{rest.partition(end)[2]}")


def named(models: dict[str, Row]) -> str:
    """Which models they are."""
    names = "; ".join(name for key, (_, name) in FAMILIES.items() if key in models)
    return textwrap.fill(f"{len(models)} models: {names}.", 120, break_on_hyphens=False)


def table(found: Sequence[Summary], models: int) -> str:
    """The README's: one line for each tool."""
    head = "| whole file | times smaller | score kept: mean, worst | processor time | peak memory | to load it |"
    lines = [head, "|---|---|---|---|---|---|"]
    for one in found:
        some = "" if one.models == models else f" ({one.models} of {models} models)"
        figures = f"{one.times:.2f} | {percent(one.mean)}, {percent(one.worst)} | {time_of(one.seconds)}"
        lines.append(f"| {one.tool.name}{some} | {figures} | {one.megabytes:.0f} MB | {one.tool.needs} |")
    return "\n".join(lines)


def percent(share: float) -> str:
    """``99.5 %``."""
    return f"{100 * share:.1f} %"


def time_of(seconds: float) -> str:
    """Two digits, where there are."""
    if seconds < 0.01:
        return "< 0.01 s"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def ranges(models: dict[str, Row]) -> str:
    """By kind of layers: from which size to which, and how many times smaller at the default."""
    families: dict[str, list[tuple[str, Row]]] = {}
    for name, model in models.items():
        families.setdefault(FAMILIES[name][0], []).append((FAMILIES[name][1], model))
    lines = ["| most weights are in | times smaller | score kept | measured on |", "|---|---|---|---|"]
    for family, members in sorted(families.items(), key=lambda item: -max(map(shrinkage, item[1]))):
        times, shares = sorted(map(shrinkage, members)), sorted(kept(m["rows"]["ours"], m) for _, m in members)
        what = "; ".join(f"{name}: {m['bytes']:,} to {m['rows']['ours']['bytes']:,} bytes" for name, m in members)
        lines.append(f"| {family} | {span(times, '{:.0f}')} | {span([100 * s for s in shares], '{:.1f}')} % | {what} |")
    return "\n".join(lines)


def shrinkage(member: tuple[str, Row]) -> float:
    """How many times smaller the default makes a model."""
    return float(member[1]["bytes"] / member[1]["rows"]["ours"]["bytes"])


def span(values: Sequence[float], form: str) -> str:
    """``12 to 14``, or one number."""
    low, high = form.format(values[0]), form.format(values[-1])
    return low if low == high else f"{low} to {high}"


def page(results: Row, models: dict[str, Row]) -> str:
    """Every row of every model."""
    tools = {tool.key: tool.name for tool in (*TOOLS, *SIZED)}
    versions = ", ".join(f"{name} {version}" for name, version in sorted(results["versions"].items()))
    parts = [
        "# Whole files beside those of other tools",
        "`make bench-peers` measures this and writes the page; [README.md](README.md#whole-files) says how. "
        f"{versions}.",
    ]
    for name, model in models.items():
        parts.append(f"## {FAMILIES[name][1]}")
        parts.append(f"`{name}`: {model['bytes']:,} bytes, float score {model['float']:.4f}")
        lines = [
            "| tool | bytes | times smaller | score | kept | processor | memory |",
            "|---|---|---|---|---|---|---|",
        ]
        for key, title in tools.items():
            row = model["rows"].get(key, {})
            if "score" in row:
                step = f" ({row['qp']})" if "qp" in row else ""
                lines.append(
                    f"| {title}{step} | {row['bytes']:,} | {model['bytes'] / row['bytes']:.2f} | {row['score']:.4f} "
                    f"| {percent(kept(row, model))} | {time_of(row['seconds'])} | {row['memory'] / 1e6:.0f} MB |"
                )
            elif "failed" in row:
                lines.append(f"| {title} | {escape(row['failed']).replace('|', ' ')} | | | | | |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


WIDTH, LABELS, BAR, STEP, TOP = 800, 252, 282, 30, 66
COLUMNS = (("times smaller", 636), ("score kept", 716), ("worst", 788))
"""Headings of the figures, and where they end."""

TEXT, OURS, THEIRS = "#74808c", "#d1433f", "#6b8fc9"
"""Legible on white and on black."""


def picture(found: Sequence[Summary]) -> str:
    """A bar for each tool, bytes of the file in percent of the float model's, and what it keeps."""
    height = TOP + STEP * len(found) + 30
    parts = [text(0, 18, "Size of the whole file, in percent of the float ONNX file", size=15, weight=600)]
    most = max(one.models for one in found)
    fewer = "; *: fewer of them" if any(one.models < most for one in found) else ""
    parts.append(text(0, 38, f"geometric mean over {most} models{fewer}"))
    parts += [text(x, TOP - 12, title, anchor="end") for title, x in COLUMNS]
    for tick in (0, 25, 50, 75, 100):
        x = LABELS + BAR * tick / 100
        parts.append(f'<path d="M{x:.1f} {TOP - 6}V{height - 26}" stroke="{TEXT}" stroke-opacity="0.3"/>')
        parts.append(text(x, height - 10, f"{tick} %", anchor="middle"))
    for index, one in enumerate(found):
        y, ours = TOP + STEP * index, one.tool.key == "ours"
        weight, colour = (700, OURS) if ours else (400, THEIRS)
        name = one.tool.name.replace("*", "") + ("*" if one.models < most else "")
        parts.append(text(LABELS - 10, y + 15, name, anchor="end", weight=weight))
        width = max(BAR / one.times, 1.5)
        parts.append(f'<rect x="{LABELS}" y="{y + 2}" width="{width:.1f}" height="18" rx="2" fill="{colour}"/>')
        for words, (_, x) in zip((f"{one.times:.1f}", percent(one.mean), percent(one.worst)), COLUMNS, strict=True):
            parts.append(text(x, y + 15, words, anchor="end", weight=weight))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif">\n<title>{escape(summary(found))}</title>\n{body}\n</svg>\n'
    )


def summary(found: Iterable[Summary]) -> str:
    """The picture for who does not see it."""
    return "; ".join(f"{one.tool.name.replace('*', '')}: {one.times:.1f} times smaller" for one in found)


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, weight: int = 400) -> str:
    """A line of text."""
    style = f'font-size="{size}" font-weight="{weight}" fill="{TEXT}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
