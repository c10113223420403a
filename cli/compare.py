"""The command ``cerwu-onnx compare``: the layers of a .cwb file that cost most."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cerwu_onnx.config import METRICS, Target

from . import console
from .options import AIMLESS, AsJson, BaseFile, CwbFile, Layout, Mean, MetricLabels, Quiet, Std, Verbose, image_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cerwu_onnx.evaluate.culprits import Comparison

EXAMPLE = "cerwu-onnx compare model.onnx model.cwb --data test.npz --metric agreement"

SCHEMA = 1
"""Version of the JSON layout; it grows when a key changes its meaning."""


def compare(
    model: Annotated[Path, typer.Argument(metavar="IN.onnx", show_default=False, help="The original model.")],
    file: CwbFile,
    data: Annotated[
        str, typer.Option(metavar="SPEC", show_default=False, help="Data to run both models on (as compress --calib).")
    ],
    base: BaseFile = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="loss at the outputs",
            help=f"How to measure what a layer costs: {', '.join(METRICS)}, or a function (as compress --metric).",
        ),
    ] = None,
    metric_data: Annotated[
        str | None,
        typer.Option(metavar="SPEC", show_default="--data", help="Data for a built-in metric."),
    ] = None,
    metric_labels: MetricLabels = AIMLESS.metric_labels,
    mean: Mean = None,
    std: Std = None,
    layout: Layout = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare a .cwb file with its model, and find the layers that cost most.

    Shows the error of each output and each layer. The ranking of layers is by what is lost if only that layer is
    compressed.
    """
    images = image_options(mean, std, layout)
    if metric in METRICS and metric_data is None:
        metric_data = data
    target = Target(metric=metric, metric_data=metric_data, metric_labels=metric_labels)

    from cerwu_onnx.evaluate.culprits import find_culprits

    with console.progress(enabled=not quiet) as progress:
        found = find_culprits(
            model,
            file,
            data,
            base=base,
            target=target,
            images=images,
            progress=progress and (lambda done, total: progress("compare", done, total, "layers")),
        )
    if as_json:
        console.show_json({"schema": SCHEMA, "model": str(model), "file": str(file), **asdict(found)})
    elif not quiet:
        console.show(lambda width: _draw(found, width))


def _draw(found: Comparison, width: int) -> RenderableType:
    """The outputs, then the layers, the worst first."""
    from rich.console import Group
    from rich.text import Text

    from .render import draw_outputs
    from .tables import Column, grid
    from .text import percent

    columns = [
        Column("layer", flexible=True),
        Column("op"),
        Column("weights", right=True),
        Column("output\nerror", right=True),
        Column(f"{found.metric}\nalone", right=True),
    ]
    rows = [
        (layer.name, layer.op, f"{layer.weights:,}", percent(layer.error), f"{layer.alone:.3g}")
        for layer in found.layers
    ]
    total = ("all layers", "", f"{sum(layer.weights for layer in found.layers):,}", "", f"{found.lost:.3g}")
    lost = "loss at the outputs" if found.metric == "loss" else f"{found.metric} lost"
    return Group(
        draw_outputs(found.outputs, width),
        Text(),
        grid(columns, {"": rows}, width, total=total),
        Text(),
        Text(f"Output error: of the layer, all being compressed. Alone: {lost}, only this one being so.", style="dim"),
    )
