"""The command ``cerwu-onnx export-c``: write C sources for firmware."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cerwu_onnx.errors import BaseError, UsageError

from . import console
from .options import AsJson, CwbFile, Force, Quiet, Verbose
from .text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cerwu_onnx.firmware.export import Firmware
    from cerwu_onnx.inference.cost import Costs

EXAMPLE = "cerwu-onnx export-c model.cwb firmware/model"


def export_c(
    file: CwbFile,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", show_default=False, help="Folder for the files; made if it does not exist."),
    ],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default=False, help="Name of the model in C; else the file's name."),
    ] = None,
    scales: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            show_default=False,
            help="Input and output scales of int8 layers, from which to write multipliers and shifts for CMSIS-NN.",
        ),
    ] = None,
    without_decoder: Annotated[
        bool,
        typer.Option("--without-decoder", help="Leave out cwb.h and cwb.c, if the decoder is linked as a library."),
    ] = False,
    inference: Annotated[
        bool,
        typer.Option("--inference", help="Also write a C function that runs the model. Needs cerwu-onnx[inference]."),
    ] = False,
    decode_once: Annotated[
        bool,
        typer.Option(
            "--decode-once",
            help="With --inference: decode all weights at the start, not those of each layer before it runs.",
        ),
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a .cwb file as C sources for firmware.

    These are the file as a const array, an index of its tensors, the two files of the decoder, and a table of flash and
    RAM. The array leaves out what C cannot use: graph, metadata, packed names. --inference adds a function that
    runs the model.
    """
    from cerwu_onnx.container import reader
    from cerwu_onnx.firmware.export import default_name, export, write_folder
    from cerwu_onnx.firmware.kernels import read_scales
    from cerwu_onnx.inference.export import export_program
    from cerwu_onnx.inference.layers import layers_of

    if decode_once and not inference:
        raise UsageError("--decode-once says how --inference decodes weights: give both")
    try:
        container = reader.read(file)
    except BaseError:
        raise UsageError(
            f"{file} is a delta, which the device reads as it is, beside its base (cwb_delta_open): export the base"
        ) from None
    container.check_sections()
    name = default_name(file) if name is None else name
    factors = read_scales(scales) if scales else None
    costs = None
    if inference:
        firmware, costs = export_program(container, name, factors, decoder=not without_decoder, once=decode_once)
    else:
        firmware = export(container, name, factors, decoder=not without_decoder, layers=layers_of(container))
    write_folder(firmware, folder, force=force)
    if as_json:
        body = {
            "folder": str(folder),
            "name": firmware.name,
            "files": {name: len(content) for name, content in firmware.files.items()},
            "flash": firmware.flash,
            "scratch": firmware.scratch,
            **({"inference": asdict(costs)} if costs else {}),
            "tensors": [asdict(tensor) | {"order": tensor.order.name.lower()} for tensor in firmware.tensors],
        }
        console.show_json(body)
    elif not quiet:
        console.show(lambda width: _draw(firmware, costs, folder, width))


def _draw(firmware: Firmware, costs: Costs | None, folder: Path, width: int) -> RenderableType:
    """The memory table, and the files that were written."""
    from rich.console import Group
    from rich.text import Text

    from .tables import Column, grid
    from .text import dims

    columns = [
        Column("tensor", flexible=True),
        Column("shape"),
        Column("coding"),
        Column("flash", right=True),
        Column("scratch", right=True),
        Column("elements", right=True),
    ]
    rows = [
        [t.name, dims(t.shape), t.coding, f"{t.flash:,}", f"{t.scratch:,}", f"{t.elements:,}"] for t in firmware.tensors
    ]
    total = ["array, most scratch", "", "", f"{firmware.flash:,}", f"{firmware.scratch:,}", ""]
    written = f"{printable(str(folder))}: {', '.join(firmware.files)}"
    lines = [Text(""), *([] if costs is None else [Text(_summary(costs))]), Text(written)]
    return Group(grid(columns, {"": rows}, width, total=total), *lines)


def _summary(costs: Costs) -> str:
    """What a program takes, and the same model without compression."""
    data, plain = costs.coded + costs.constants, costs.plain
    if costs.code is not None and costs.plain_code is not None:
        data, plain = data + costs.code, plain + costs.plain_code
    what = "flash" if costs.code is not None else "flash without code"
    return (
        f"runs with {data:,} bytes of {what} and {costs.arena:,} of RAM ({costs.arena_once:,} if decoded once); "
        f"uncompressed: {plain:,} and {costs.plain_ram:,}"
    )
