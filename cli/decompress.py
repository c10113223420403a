"""``cerwu-onnx decompress``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console
from .options import CwbFile, Force, Quiet, Verbose

EXAMPLE = "cerwu-onnx decompress model.cwb model.onnx"


def decompress(
    file: CwbFile,
    output: Annotated[Path, typer.Argument(metavar="OUT.onnx", show_default=False, help="The float model to write.")],
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Rebuild the float ONNX model of a .cwb file.

    Any ONNX runtime runs it.
    """
    from cerwu_onnx.runtime import decompress as run

    model = run(file, output, force=force)
    if not quiet:
        size = output.stat().st_size
        console.write(f"{console.printable(str(output))}: {size:,} bytes, {len(model.graph.node)} nodes\n")
