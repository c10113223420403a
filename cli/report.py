"""The command ``cerwu-onnx report``: write a report on a .cwb file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console
from .options import BaseFile, CwbFile, Force, Quiet, Verbose

EXAMPLE = "cerwu-onnx report model.cwb model.html"


def report(
    file: CwbFile,
    outputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="OUT.html|.md|.json",
            show_default=False,
            help="Reports to write, each in the format of its suffix; none prints Markdown.",
        ),
    ] = None,
    base: BaseFile = None,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Report what a .cwb file holds, as HTML, Markdown or JSON.

    The report shows its size, its layers, the weights on their grids, and which tensors are exact and why.
    What only the compression knows is missing (errors, search, time): compress --report shows it.
    """
    from cerwu_onnx import report_files

    report_files.check_paths(outputs or (), overwrite=force, sources=[file] if base is None else [file, base])
    with console.status("decoding", enabled=not quiet):
        page = report_files.describe(file, base)
    if outputs:
        report_files.write(page, outputs, overwrite=force)
    else:
        console.write(report_files.to_markdown(page))
