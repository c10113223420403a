"""``cerwu-onnx compress``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cerwu_onnx.config import EFFORTS, METHODS, METRICS, WEIGHT_LAYOUTS, Settings, Target
from cerwu_onnx.errors import CheckFailed

from . import console
from .options import AsJson, Force, Layout, Mean, Quiet, Std, Verbose, image_options, parse_share, parse_size

EXAMPLE = "cerwu-onnx compress model.onnx model.cwb --calib calib.npz --lambda 0.3"

_DEFAULT = Settings()
_AIMLESS = Target()


def compress(
    model: Annotated[Path, typer.Argument(metavar="IN.onnx", show_default=False, help="The trained model, float32.")],
    output: Annotated[Path, typer.Argument(metavar="OUT.cwb", show_default=False, help="The file to write.")],
    calib: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Calibration data: a .npz with one array per input, a folder of .npz, .npy or images, "
            "module:function or file.py:function that yields feeds. Without it accuracy suffers.",
        ),
    ] = None,
    lambda_: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            metavar="NUMBER",
            show_default=f"{_DEFAULT.price:g}, of the papers' methods {Settings(method='cerwu').price:g}",
            help="Price of rate: more means smaller and less accurate.",
        ),
    ] = _DEFAULT.lambda_,
    target_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Instead of --lambda: the largest file found that fits into 64KiB, say."),
    ] = None,
    target_bpw: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Instead of --lambda: bits per weight, of all quantised weights."),
    ] = _AIMLESS.bits_per_weight,
    max_drop: Annotated[
        str | None,
        typer.Option(
            metavar="P%",
            help="Instead of --lambda: the smallest file found that loses no more of the float model's --metric.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help=f"What accuracy means, higher is better: {', '.join(METRICS)}, or file.py:function or "
            "module:function, called with the path of an ONNX file.",
        ),
    ] = None,
    metric_data: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Data for metrics that are no function: a .npz with the model's inputs and labels; of agreement and "
            "error anything --calib takes.",
        ),
    ] = None,
    metric_labels: Annotated[
        str, typer.Option(metavar="KEY", help="Array of the labels in --metric-data.")
    ] = _AIMLESS.metric_labels,
    fail_above: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Exit with 1 and write nothing if the file would be larger.")
    ] = None,
    fail_drop: Annotated[
        str | None, typer.Option(metavar="P%", help="Exit with 1 if it loses more of --metric; the file is written.")
    ] = None,
    effort: Annotated[
        str, typer.Option(metavar="NAME", help=f"Of trellis, time against bytes: {', '.join(EFFORTS)}.")
    ] = _DEFAULT.effort,
    levels: Annotated[
        int, typer.Option(metavar="N", help="The papers' methods: a layer's step is its largest weight / (N/2).")
    ] = _DEFAULT.levels,
    method: Annotated[
        str, typer.Option(metavar="NAME", help=f"How to quantise: {', '.join(METHODS)}.")
    ] = _DEFAULT.method,
    damping: Annotated[
        float, typer.Option(metavar="NUMBER", help="Damping of the Hessian, where trellis cannot cross-validate it.")
    ] = _DEFAULT.damping,
    passes: Annotated[
        int, typer.Option(metavar="N", help="How often the code lengths are estimated anew.")
    ] = _DEFAULT.passes,
    coder: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Entropy coder: ans decodes faster, adaptive is smaller, auto takes the smaller."
        ),
    ] = _DEFAULT.coder,
    weights_only: Annotated[
        bool, typer.Option("--weights-only", help="For firmware: no graph, names that the C decoder can search.")
    ] = _DEFAULT.weights_only,
    weight_layout: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"Order of the stored weights, {' or '.join(WEIGHT_LAYOUTS)}: cmsis is what the kernels of CMSIS-NN "
            "read, channels last.",
        ),
    ] = _DEFAULT.weight_layout,
    in_place: Annotated[
        bool,
        typer.Option("--in-place", help="Store how much room it takes to decode each tensor over its own payload."),
    ] = _DEFAULT.in_place,
    fold_bn: Annotated[
        bool | None,
        typer.Option(
            "--fold-bn/--no-fold-bn",
            show_default="if the method is trellis",
            help="Fold BatchNormalization into the layer before it first.",
        ),
    ] = _DEFAULT.fold_bn,
    float_params: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Biases and BatchNormalization: auto codes them where the error is negligible, exact keeps them.",
        ),
    ] = _DEFAULT.float_params,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", show_default=False, help="Samples per calibration batch; else --memory decides."),
    ] = _DEFAULT.batch_size,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Bound on the activations held during calibration.")
    ] = f"{_DEFAULT.memory >> 20}MiB",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 and write nothing where there would be a warning.")
    ] = _DEFAULT.strict,
    mean: Mean = None,
    std: Std = None,
    layout: Layout = None,
    report_paths: Annotated[
        list[Path] | None,
        typer.Option(
            "--report",
            metavar="OUT.html|.md|.json",
            show_default=False,
            help="Write a report in the format of the suffix; any number of times.",
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compress an ONNX model into a .cwb file.

    Prints what that did to each layer. Long names are cut in the middle; --json has them whole.
    """
    settings = Settings(
        method=method,
        effort=effort,
        lambda_=lambda_,
        levels=levels,
        damping=damping,
        passes=passes,
        coder=coder,
        weights_only=weights_only,
        weight_layout=weight_layout,
        in_place=in_place,
        fold_bn=fold_bn,
        float_params=float_params,
        batch_size=batch_size,
        memory=parse_size(memory),
        strict=strict,
    )
    target = Target(
        size=None if target_size is None else parse_size(target_size),
        bits_per_weight=target_bpw,
        max_drop=None if max_drop is None else parse_share(max_drop, "--max-drop"),
        metric=metric,
        metric_data=metric_data,
        metric_labels=metric_labels,
        fail_above=None if fail_above is None else parse_size(fail_above),
        fail_drop=None if fail_drop is None else parse_share(fail_drop, "--fail-drop"),
    )
    images = image_options(mean, std, layout)
    if report_paths:
        from cerwu_onnx import reports

        reports.check_paths(report_paths, overwrite=force, sources=[model, output])
    with console.progress(enabled=not quiet) as progress:
        from cerwu_onnx.pipeline import compress as run

        report = run(
            model,
            output,
            calib=calib,
            settings=settings,
            target=target,
            images=images,
            force=force,
            progress=progress,
        )
    if report_paths:
        reports.write(reports.page_of(report, output), report_paths, overwrite=force)
    if as_json:
        console.show_json(report.to_dict() | {"output": str(output)})
    elif not quiet:
        from .render import draw_report

        console.show(lambda width: draw_report(report, model, output, width))
    if report.missed:
        raise CheckFailed("; ".join(report.missed))
