"""``docs/compatibility.md`` and ``docs/benchmarks/compat.json`` from the rows of the bench."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from . import onnx_nodes
from .check import BLIND_PRICE, LARGEST_SHARE, PRICE, Row

PACKAGES = ("onnx", "onnxruntime", "torch", "onnxscript", "skl2onnx", "scikit-learn")

TEXT = """# Compatibility

Every graph below went through the whole tool three times: without calibration data at lambda {blind:g}, with data at
lambda {price:g}, and with data at the default lambda. `make bench-compat` repeats this, writes this page and
`benchmarks/compat.json`, and fails if a graph fails.

    python -m tests.compat --list                 # the names of all graphs
    python -m tests.compat --only "Conv 2-D"      # graphs whose names contain this text; prints a table, writes nothing

Each time

* `compress` accepts the model, `verify` passes, and the decoders in C and in Python give the same bits for every
  tensor;
* onnx.checker accepts the rebuilt model, with full type inference where it does so for the original;
* operators, attributes, wiring, bodies, functions, opsets, inputs and outputs are those of the original, or of the
  original with BatchNormalization folded, where the status says so;
* every tensor that is not reported as quantised, wherever it is, comes back bit for bit. At the first of the three
  rates that includes all biases; at the others, biases and normalisation parameters of quantised layers may move.

**Errors** are those of the worst output: root of squared error over energy, summed over all feeds; NaN and infinity
must stay where they are. For labels, flags and text the error is the share of entries that differ; it counts if there
is no other output, and may not exceed {share:g}. At both high rates errors must stay below 0.001. Where onnxruntime's
tools have put a rounding of activations to 8 bits into the graph, they must stay below 0.01, because the smallest
difference can become a whole step there. At the default lambda errors are shown for orientation only. All models but
the last ones have random weights, which are not as robust as trained ones, and logits near zero make relative errors
look large.

The size of the errors is not what counts here, for a weight that the format cannot hold as finely as lambda asks stays
exact ([method.md](method.md#the-step)); what counts is that nothing is lost. **Coded** is the share of the elements of
float tensors that are on a grid at the default lambda. Integer tensors of models that are quantised already are not
counted.

{versions}.

## Summary

{summary}
"""


def write(rows: Sequence[Row], skipped: dict[str, str], folder: Path) -> None:
    """Write both files below ``docs``."""
    lines = [json.dumps(_plain(row)) for row in rows]
    (folder / "benchmarks" / "compat.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    (folder / "compatibility.md").write_text(markdown(rows, skipped), encoding="utf-8")


def _plain(row: Row) -> dict[str, Any]:
    """A row for JSON: what another run gives again; errors to two digits, nothing that is empty."""
    fields = {name: value for name, value in asdict(row).items() if value not in ("", []) and name != "seconds"}
    return fields | {"errors": [None if error is None else float(f"{error:.1e}") for error in row.errors]}


def markdown(rows: Sequence[Row], skipped: dict[str, str]) -> str:
    """The page."""
    sources: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        sources[row.source].append(row)
    summary = [["source", "graphs", "ok", "with coded weights", "float weights", "coded", "largest error"]]
    for source, group in [*sources.items(), ("all", list(rows))]:
        summary.append(
            [
                source,
                f"{len(group):,}",
                f"{sum(row.status == 'ok' for row in group):,}",
                f"{sum(row.coded > 0 for row in group):,}",
                f"{sum(row.weights for row in group):,}",
                _share(group),
                _errors([max((e for row in group for e in row.errors[:2] if e is not None), default=None)]),
            ]
        )
    page = TEXT.format(
        blind=BLIND_PRICE, price=PRICE, share=LARGEST_SHARE, versions=_versions(), summary=_table(summary)
    )
    for source, reason in skipped.items():
        page += f"\nNot measured: {source}: {reason}.\n"
    for source, group in sources.items():
        page += f"\n## {source}\n\n"
        page += _by_operator(group) if source == onnx_nodes.SOURCE else _by_graph(group)
    return page


def _by_graph(rows: Iterable[Row]) -> str:
    table = [["graph", "operators with weights", "weights", "coded", "errors: high rate, with data, default", "status"]]
    for row in rows:
        operators = ", ".join(row.operators)
        status = f"{row.status} ({row.note})" if row.note else row.status
        table.append([row.graph, operators, f"{row.weights:,}", _share([row]), _errors(row.errors), status])
    return _table(table)


def _by_operator(rows: Iterable[Row]) -> str:
    """Graphs by the name of their test, without what follows the operator: too many for a line each."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.operator].append(row)
    table = [["operator", "graphs", "weights", "coded", "errors: high rate, with data, default", "status"]]
    for name, group in sorted(groups.items()):
        wrong = [f"{row.graph}: {row.status}" for row in group if row.status != "ok"]
        columns = zip(*((row.errors + [None] * 3)[:3] for row in group), strict=True)
        errors = [max((e for e in column if e is not None), default=None) for column in columns]
        weights = sum(row.weights for row in group)
        table.append([name, str(len(group)), f"{weights:,}", _share(group), _errors(errors), "; ".join(wrong) or "ok"])
    text = "One line per operator; `benchmarks/compat.json` has a line for each graph. Brackets hold the inputs that\n"
    return f"{text}were turned into initializers.\n\n{_table(table)}"


def _share(rows: Iterable[Row]) -> str:
    weights, coded = (sum(values) for values in zip(*((row.weights, row.coded) for row in rows), strict=True))
    return f"{100 * coded / weights:.0f} %" if weights else "-"


def _errors(errors: Iterable[float | None]) -> str:
    return ", ".join("-" if error is None else "0" if not error else f"{error:.1e}" for error in errors)


def _versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return f"Measured with {', '.join(found)}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    cells = [[re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"
