"""``python -m tests.compat``: compress, verify, decompress and compare graphs of every kind; exit 1 if one fails."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator

from rich.console import Console

from ..bench.models import ROOT
from . import forms, layers, onnx_nodes, quantised, real, sklearn_models, table, torch_models, values
from .case import Case, Skipped
from .check import Row, check

PARTS = {
    "nodes": onnx_nodes,
    "layers": layers,
    "forms": forms,
    "values": values,
    "quantised": quantised,
    "sklearn": sklearn_models,
    "torch": torch_models,
    "real": real,
}


def main() -> int:
    """Run the parts asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--only", metavar="TEXT", help="graphs whose names contain this")
    parser.add_argument("--list", action="store_true", help="print the names of the graphs and do nothing else")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: choose of {', '.join(PARTS)}")
    logging.disable(logging.WARNING)  # of the library, about what the bench does on purpose
    console, skipped = Console(soft_wrap=True, highlight=False), dict[str, str]()
    rows: list[Row] = []
    absent = 0
    for case in _cases(arguments.parts or list(PARTS), skipped):
        if arguments.only is not None and arguments.only not in case.name:
            continue
        if arguments.list:
            print(case.name)
            continue
        try:
            row = check(case)
        except Skipped as reason:
            absent += 1
            if arguments.only is not None:
                print(f"{case.name}: {reason}")
            continue
        rows.append(row)
        if row.status != "ok" or arguments.only is not None:
            errors = ", ".join("-" if error is None else f"{error:.1e}" for error in row.errors)
            print(f"{row.graph}: {row.status}; coded {row.coded} of {row.weights}, errors {errors}", flush=True)
        elif sys.stdout.isatty():
            console.print(f"{len(rows)} {row.graph}", end="\r")
    for source, reason in skipped.items():
        print(f"not measured: {source}: {reason}")
    if arguments.list:
        return 0
    failed = sum(row.status != "ok" for row in rows)
    seconds = sum(row.seconds for row in rows)
    print(f"{len(rows)} graphs, {failed} failed, {absent} could not be made here, {seconds:.0f} s")
    if not arguments.parts and arguments.only is None:
        table.write(rows, skipped, ROOT / "docs")
    return int(failed > 0 or not rows)


def _cases(parts: list[str], skipped: dict[str, str]) -> Iterator[Case]:
    for part in parts:
        try:
            yield from PARTS[part].cases()
        except Skipped as reason:
            skipped[part] = str(reason)


if __name__ == "__main__":
    sys.exit(main())
