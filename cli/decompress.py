"""The command ``cerwu-onnx decompress``: rebuild the model of a .cwb file, of floats or integers, or its arrays."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cerwu_onnx.config import METRICS, Target
from cerwu_onnx.errors import UsageError

from . import console
from .options import (
    AIMLESS,
    AsJson,
    BaseFile,
    CwbFile,
    Force,
    Layout,
    Mean,
    MetricLabels,
    Quiet,
    Std,
    Verbose,
    image_options,
)
from .text import counted, printable

if TYPE_CHECKING:
    import onnx

EXAMPLE = "cerwu-onnx decompress model.cwb model.onnx"


def decompress(
    file: CwbFile,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.onnx",
            show_default=False,
            help="The model to write; for a file of arrays, .npz or .safetensors.",
        ),
    ],
    base: BaseFile = None,
    external_data: Annotated[
        bool,
        typer.Option(
            "--external-data", help="Write large tensors to OUT.onnx.data; models of 2 GB and more always need that."
        ),
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="auto|int8|int4",
            show_default="floats",
            help="Write weights as integers behind DequantizeLinear, which are the same numbers in a quarter of the "
            "bytes: of 8 bits, or of 4 where they fit and the operator set (21) has them.",
        ),
    ] = None,
    qdq: Annotated[
        bool,
        typer.Option(
            "--qdq", help="Quantise activations to 8 bits, too, so that integer kernels run; needs --calib for ranges."
        ),
    ] = False,
    calib: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Data (as compress --calib) for --qdq, and to measure error and speed of integers beside floats.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help=f"Measure a score, too: {', '.join(METRICS)}, or a function (as compress --metric).",
        ),
    ] = None,
    metric_data: Annotated[
        str | None,
        typer.Option(metavar="SPEC", show_default="--calib", help="Data for a built-in metric."),
    ] = None,
    metric_labels: MetricLabels = AIMLESS.metric_labels,
    mean: Mean = None,
    std: Std = None,
    layout: Layout = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Rebuild the ONNX model of a .cwb file.

    Any ONNX runtime can run this model. A file of arrays gives them back instead.
    """
    from cerwu_onnx.array_files.files import is_array_file

    integers = weights is not None or qdq
    if not integers and (calib is not None or metric is not None or as_json):
        raise UsageError("--calib, --metric and --json are for models of integers: give --weights or --qdq")
    if integers and (external_data or is_array_file(output)):
        raise UsageError("--weights and --qdq write one .onnx file: leave out --external-data")
    if integers:
        if metric in METRICS and metric_data is None:
            metric_data = calib
        target = Target(metric=metric, metric_data=metric_data, metric_labels=metric_labels)
        _integers(file, output, base, weights or "auto", qdq, calib, target, (mean, std, layout), force, as_json, quiet)
        return
    if is_array_file(output):
        from cerwu_onnx.jobs.files import check_target
        from cerwu_onnx.opened import open as open_file

        check_target(output, overwrite=force, source=file)
        count = open_file(file, base=base).save_arrays(output, force=force)
        if not quiet:
            console.write(f"{printable(str(output))}: {output.stat().st_size:,} bytes, {counted(count, 'array')}\n")
        return
    from cerwu_onnx.runtime import decompress as run

    model = run(file, output, base=base, force=force, external_data=external_data)
    if not quiet:
        size = sum(path.stat().st_size for path in _written(output, model))
        console.write(f"{printable(str(output))}: {size:,} bytes, {len(model.graph.node)} nodes\n")


def _integers(
    file: Path,
    output: Path,
    base: Path | None,
    weights: str,
    qdq: bool,
    calib: str | None,
    target: Target,
    images: tuple[str | None, str | None, str | None],
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a model of integers."""
    from cerwu_onnx.stock import export

    with console.progress(enabled=not quiet) as progress:
        done = export(
            file,
            output,
            weights=weights,
            qdq=qdq,
            data=calib,
            target=target,
            images=image_options(*images),
            base=base,
            force=force,
            progress=progress,
        )
    if as_json:
        console.show_json(asdict(done) | {"output": str(output)})
    elif not quiet:
        kinds = ", ".join(f"{count} {dtype}" for dtype, count in done.weights.items())
        console.write(
            f"{printable(str(output))}: {done.file_bytes:,} bytes, {done.nodes} nodes; coded weights: {kinds}\n"
        )
        if done.forms:
            from .render import draw_forms

            console.write("\n")
            console.show(lambda width: draw_forms(done.forms, width))


def _written(output: Path, model: onnx.ModelProto) -> list[Path]:
    """The files that were written for a model."""
    outside = any(tensor.external_data for tensor in model.graph.initializer)
    return [output, Path(f"{output}.data")] if outside else [output]
