"""The tables of the benchmark of rate against accuracy: peers, targets, ablation, sections of the file, spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from .fronts import Cost, geometric_mean, least, ratio
from .models import BenchModel
from .rows import CostName, Results
from .sweeps import FULL, LAMBDAS, VARIANTS

PAPERS = ("rtn", "optq", "cerwu")
"""Anchors of which the best at each model and score is the reference."""

PEERS = ("best", "nncodec", "optq_global_step")
_TITLES = {"best": "best of RTN,\nOPTQ, CERWU", "nncodec": "NNCodec", "optq_global_step": "OPTQ,\nglobal step"}


@dataclass(frozen=True)
class Target:
    """A geometric mean over the real models that must not be exceeded, on one peer's cost."""

    peer: str
    percent: float
    most: float


TARGETS = (
    Target("best", 99, 0.70),
    Target("best", 95, 0.62),
    Target("nncodec", 99, 0.55),
    Target("nncodec", 95, 0.45),
    Target("optq_global_step", 99, 0.85),
    Target("optq_global_step", 95, 0.85),
)
FILE_PERCENT = 99
FILE_TARGETS = {"mlperf_ic01_resnet8": 1 / 12, "cifar10_resnet20": 1 / 12}
OTHER_FILE_TARGET = 1 / 8
"""Bytes of the .cwb over those of the ONNX file."""


def show(results: Results, models: Sequence[BenchModel], percents: Sequence[float], console: Console) -> None:
    """Print every table for which there are rows."""
    measured = [model for model in models if model.name in results.models]
    if not measured:
        console.print("nothing was measured")
        return
    for percent in percents:
        console.print(beside_peers(results, measured, percent))
    if any(row.method == FULL for row in results.rows):
        console.print(targets(results, measured))
        console.print(ablation(results, percents))
        console.print(sections(results, measured, FILE_PERCENT))
    if any(VARIANTS[row.method].half is not None for row in results.rows if row.method in VARIANTS):
        console.print(spread(results, percents))


def anchor(model: BenchModel, peer: str, percent: float) -> float | None:
    """A peer's bits per weight at a share of the float score; None where it does not reach so far or is not known."""
    if peer == "best":
        return least(anchor(model, name, percent) for name in PAPERS)
    value: Any = model.anchors.get(peer, {}).get(f"bpw{percent:g}")
    return None if value is None else float(value)


def peer_ratio(results: Results, model: BenchModel, method: str, peer: str, percent: float) -> float | None:
    """Our bits per weight over a peer's. NNCodec codes every matrix, so against it every matrix counts."""
    cost: CostName = "matrix_bits_per_weight" if peer == "nncodec" else "bits_per_weight"
    ours = results.cost_at(model.name, method, cost, percent)
    return ratio(None if ours is None else ours.value, anchor(model, peer, percent))


def beside_peers(results: Results, models: Sequence[BenchModel], percent: float) -> Table:
    """Costs at a share of the float score, and ratios to the peers' bits per weight."""
    title = f"At {percent:g} % of the float score (<: even the cheapest point scores more)"
    head = ["model", "method", "bits/weight", "all\nmatrices", "above\nbound", "file bytes", "of the\nONNX file"]
    table = Table(*head, *(_TITLES[peer] for peer in PEERS), title=title)
    for method in methods(results):
        ratios: dict[str, list[float | None]] = {peer: [] for peer in PEERS}
        sizes: list[float | None] = []
        for model in models:
            if not results.points(model.name, method, "bits_per_weight"):
                continue
            costs = [
                results.cost_at(model.name, method, cost, percent)
                for cost in ("bits_per_weight", "matrix_bits_per_weight", "file_bytes")
            ]
            point = results.cheapest(model.name, method, percent)
            size = ratio(None if costs[2] is None else costs[2].value, results.models[model.name]["onnx_bytes"])
            row = {peer: peer_ratio(results, model, method, peer, percent) for peer in PEERS}
            table.add_row(
                model.name,
                method,
                *(_cost(cost) for cost in costs[:2]),
                _number(point.above_bound.get("mean") if point else None),
                _cost(costs[2], 0),
                _number(size),
                *(_number(value) for value in row.values()),
            )
            if model.shared:
                sizes.append(size)
                for peer in PEERS:
                    ratios[peer].append(row[peer])
        means = (_number(geometric_mean(ratios[peer])) for peer in PEERS)
        mean = _number(geometric_mean(sizes))
        what = f"geometric mean of {len(sizes)}"
        table.add_row(what, method, "", "", "", "", mean, *means, style="bold", end_section=True)
    return table


def targets(results: Results, models: Sequence[BenchModel]) -> Table:
    """What the default method is to reach, and what it does."""
    shared = [model for model in models if model.shared]
    head = ("target", "at most", "measured", "models", "reached")
    table = Table(*head, title=f"Targets, variant {FULL!r}, geometric means over the real models")
    for target in TARGETS:
        values = [peer_ratio(results, model, FULL, target.peer, target.percent) for model in shared]
        peer = _TITLES[target.peer].replace("\n", " ")
        table.add_row(f"bits/weight over {peer}, {target.percent:g} %", *_verdict(values, target.most))
    for model in shared:
        size = results.cost_at(model.name, FULL, "file_bytes", FILE_PERCENT)
        share = ratio(None if size is None else size.value, results.models[model.name]["onnx_bytes"])
        what = f"{model.name}: .cwb over ONNX bytes, {FILE_PERCENT} %"
        table.add_row(what, *_verdict([share], FILE_TARGETS.get(model.name, OTHER_FILE_TARGET)))
    return table


def _verdict(values: Sequence[float | None], most: float) -> tuple[str, str, str, str]:
    mean = geometric_mean(values)
    known = sum(value is not None for value in values)
    return f"{most:.3f}", _number(mean), f"{known} of {len(values)}", "-" if mean is None else _yes(mean <= most)


def ablation(results: Results, percents: Sequence[float]) -> Table:
    """Bits per weight of every variant over the full method's: geometric mean over models whose curves bracket both.

    A variant swept over fewer lambdas meets the full method at those."""
    table = Table("variant", title=f"Ablation: bits/weight relative to {FULL!r}")
    for percent in percents:
        table.add_column(f"{percent:g} %", justify="right")
        table.add_column("models", justify="right")
    for method in methods(results):
        cells = []
        among = results.sharing(FULL, method) if VARIANTS[method].sweep is LAMBDAS else results
        for percent in percents:
            ratios = [
                ratio(_value(among, model, method, percent), _value(among, model, FULL, percent))
                for model in results.models
            ]
            cells += [_number(geometric_mean(ratios)), str(sum(value is not None for value in ratios))]
        table.add_row(method, *cells)
    return table


def sections(results: Results, models: Sequence[BenchModel], percent: float) -> Table:
    """Where the bytes of the smallest measured file go that keeps a share of the float score."""
    chosen = {model.name: results.cheapest(model.name, FULL, percent) for model in models}
    kinds = list(dict.fromkeys(kind for row in chosen.values() if row for kind in row.other_bytes))
    title = f"Bytes of the smallest measured file with at least {percent:g} % of the float score, variant {FULL!r}"
    table = Table("model", "lambda", "weights", *kinds, "file", "overhead", "ONNX / file", title=title)
    for name, row in chosen.items():
        if row is None:
            table.add_row(name, *"-" * (len(kinds) + 5))
            continue
        others = [row.other_bytes.get(kind, 0) for kind in kinds]
        overhead = 1 - row.weight_bytes / row.file_bytes
        times = results.models[name]["onnx_bytes"] / row.file_bytes
        sizes = (f"{count:,}" for count in (row.weight_bytes, *others, row.file_bytes))
        price = row.settings.get("lambda_")
        table.add_row(name, "-" if price is None else f"{price:g}", *sizes, f"{100 * overhead:.1f} %", f"{times:.2f}")
    return table


def spread(results: Results, percents: Sequence[float]) -> Table:
    """How far bits per weight depend on which half of the calibration samples is used."""
    halves = [name for name, variant in VARIANTS.items() if variant.half is not None]
    head = ("model", "at", *halves, "largest / smallest", "all samples")
    table = Table(*head, title="Bits/weight by random halves of the calibration samples")
    for model in dict.fromkeys(row.model for row in results.rows if row.method in halves):
        for percent in percents:
            costs = [results.cost_at(model, name, "bits_per_weight", percent) for name in (*halves, FULL)]
            known = [cost.value for cost in costs[:-1] if cost is not None]
            width = max(known) / min(known) if len(known) > 1 else None
            table.add_row(model, f"{percent:g} %", *map(_cost, costs[:-1]), _number(width), _cost(costs[-1]))
    return table


def methods(results: Results) -> Iterable[str]:
    """Variants that have rows and use all calibration samples, in the order of ``VARIANTS``."""
    found = {row.method for row in results.rows}
    return [name for name, variant in VARIANTS.items() if name in found and variant.half is None]


def _value(results: Results, model: str, method: str, percent: float) -> float | None:
    cost = results.cost_at(model, method, "bits_per_weight", percent)
    return cost.value if cost is not None and cost.bracketed else None


def _cost(cost: Cost | None, digits: int = 3) -> str:
    return "-" if cost is None else f"{'' if cost.bracketed else '<'}{cost.value:,.{digits}f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"
