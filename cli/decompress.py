"""The command ``cerwu-onnx decompress``: rebuild the ONNX model of a .cwb file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console
from .options import BaseFile, CwbFile, Force, Quiet, Verbose
from .text import printable

if TYPE_CHECKING:
    import onnx

EXAMPLE = "cerwu-onnx decompress model.cwb model.onnx"


def decompress(
    file: CwbFile,
    output: Annotated[Path, typer.Argument(metavar="OUT.onnx", show_default=False, help="The float model to write.")],
    base: BaseFile = None,
    external_data: Annotated[
        bool,
        typer.Option(
            "--external-data", help="Write large tensors to OUT.onnx.data; models of 2 GB and more always need that."
        ),
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Rebuild the float ONNX model of a .cwb file.

    Any ONNX runtime can run this model.
    """
    from cerwu_onnx.runtime import decompress as run

    model = run(file, output, base=base, force=force, external_data=external_data)
    if not quiet:
        size = sum(path.stat().st_size for path in _written(output, model))
        console.write(f"{printable(str(output))}: {size:,} bytes, {len(model.graph.node)} nodes\n")


def _written(output: Path, model: onnx.ModelProto) -> list[Path]:
    """The files that were written for a model."""
    outside = any(tensor.external_data for tensor in model.graph.initializer)
    return [output, Path(f"{output}.data")] if outside else [output]
