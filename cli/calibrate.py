"""The command ``cerwu-onnx calibrate``: find the scales of a file's int8 layers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console
from .options import AsJson, CwbFile, Force, Layout, Mean, Quiet, Std, Verbose, image_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from cerwu_onnx.firmware.kernels import KernelScales

EXAMPLE = "cerwu-onnx calibrate model.cwb scales.json --calib calib.npz"


def calibrate(
    file: CwbFile,
    output: Annotated[
        Path,
        typer.Argument(metavar="SCALES.json", show_default=False, help="What export-c --scales reads."),
    ],
    calib: Annotated[
        str, typer.Option(metavar="SPEC", show_default=False, help="Calibration data (as compress --calib).")
    ],
    mean: Mean = None,
    std: Std = None,
    layout: Layout = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find the scales of int8 layers, for export-c --scales.

    Runs the model on the data. The least and the greatest value of each activation become the ends of its int8 range.
    """
    images = image_options(mean, std, layout)

    from cerwu_onnx import opened
    from cerwu_onnx.calibration import open_data
    from cerwu_onnx.firmware.kernels import scales_text
    from cerwu_onnx.inference.ranges import kernel_scales
    from cerwu_onnx.jobs.files import check_target, write_atomic
    from cerwu_onnx.jobs.inputs import unchanged_inputs

    check_target(output, overwrite=force, source=file)
    with unchanged_inputs() as check_inputs:
        compressed = opened.open(file)
        source = open_data(calib, compressed.to_onnx(), images=images)
        with console.status("running the model", enabled=not quiet):
            scales, left = kernel_scales(compressed, source)
        check_inputs()
    write_atomic(output, scales_text(scales).encode(), overwrite=force)
    for name, reason in left.items():
        console.note("note", f"{name} has no scales: {reason}")
    if as_json:
        console.show_json({"scales": {name: asdict(entry) for name, entry in scales.items()}, "left_out": left})
    elif not quiet:
        console.show(lambda width: _draw(scales, width))


def _draw(scales: Mapping[str, KernelScales], width: int) -> RenderableType:
    """One row per layer."""
    from .tables import Column, grid

    columns = [
        Column("weight", flexible=True),
        Column("input\nscale", right=True),
        Column("input\nzero", right=True),
        Column("output\nscale", right=True),
        Column("output\nzero", right=True),
    ]
    rows = [
        [name, f"{entry.input:.3g}", str(entry.input_zero), f"{entry.output:.3g}", str(entry.output_zero)]
        for name, entry in scales.items()
    ]
    return grid(columns, {"": rows}, width)
