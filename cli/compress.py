"""``cerwu-onnx compress``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cerwu_onnx.config import EFFORTS, METHODS, METRICS, WEIGHT_LAYOUTS, LayerRule, Settings, Target
from cerwu_onnx.errors import CheckFailed, UsageError

from . import console
from .config_file import aims, read_config, refuse_unnamed, rules
from .inspect import show_plans
from .options import AsJson, Force, Layout, Mean, Quiet, Std, Verbose, image_options, parse_share, parse_size

EXAMPLE = "cerwu-onnx compress model.onnx model.cwb --calib calib.npz --lambda 0.3"

_DEFAULT = Settings()
_AIMLESS = Target()

_PLAIN = (
    "method",
    "effort",
    "output_loss",
    "levels",
    "damping",
    "passes",
    "coder",
    "weights_only",
    "weight_layout",
    "in_place",
    "fold_bn",
    "requantize",
    "float_params",
    "batch_size",
    "strict",
)
"""Options that are fields of the settings as they are."""


def compress(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN.onnx OUT.cwb",
            show_default=False,
            help="The trained model and the file to write; with --out-dir, any number of models.",
        ),
    ],
    calib: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Calibration data: a .npz with one array per input, a folder of .npz, .npy or images, "
            "module:function or file.py:function that yields feeds. Without it accuracy suffers. {stem} stands for the "
            "model's name without suffix.",
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
    confidence: Annotated[
        str,
        typer.Option(
            metavar="P%",
            help="With which --max-drop holds on other samples, of top1 and agreement; 50% leaves no margin.",
        ),
    ] = f"{_AIMLESS.confidence:.0%}",
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
        str,
        typer.Option(
            metavar="NAME",
            help=f"Of trellis, time against bytes: {', '.join(EFFORTS)}. fast takes "
            f"{EFFORTS['fast'].samples} calibration samples and measures less, max measures sensitivities once more.",
        ),
    ] = _DEFAULT.effort,
    output_loss: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of trellis, what an error at the model's outputs is: auto (by their values), kl (of classes on the "
            "last axis) or mse (relative squared error).",
        ),
    ] = _DEFAULT.output_loss,
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
    requantize: Annotated[
        bool,
        typer.Option(
            "--requantize",
            help="Quantise integer weights behind DequantizeLinear anew, as floats; else they are kept without loss.",
        ),
    ] = _DEFAULT.requantize,
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
        str,
        typer.Option(
            metavar="SIZE",
            help="Bound on what calibration holds. Hessians that are too large for it are kept in blocks of columns.",
        ),
    ] = f"{_DEFAULT.memory >> 30}GiB",
    skip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            show_default=False,
            help="Tensors of such names stay exactly as they are; any number of times.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            callback=read_config,
            is_eager=True,
            show_default="cerwu.toml, or [tool.cerwu-onnx] of pyproject.toml",
            help="Defaults of these options, and [layers]: docs/cli.md.",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            show_default=False,
            help="Keep there what was measured, and find it again in runs with the same model and data.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where an earlier run was interrupted: keep layers in OUT.cwb.resume until the file is written.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be quantised, as inspect does, and write nothing.")
    ] = False,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            show_default=False,
            help="Compress any number of models, each by a process and thread of its own, into files there.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            show_default="OMP_NUM_THREADS or all cores",
            help="So much at a time: with --out-dir models, without it layers that do not depend on each other.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="dask://HOST:PORT|ray://HOST:PORT",
            show_default=False,
            help="Let the workers of a cluster do that instead: docs/scaling.md.",
        ),
    ] = None,
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
    aim = aims(
        context, {"lambda_": lambda_, "target_size": target_size, "target_bpw": target_bpw, "max_drop": max_drop}
    )
    lambda_, target_size, target_bpw, max_drop = aim.values()
    settings = replace(settings_of(context), lambda_=lambda_)
    target = replace(
        target_of(context),
        size=None if target_size is None else parse_size(target_size),
        bits_per_weight=target_bpw,
        max_drop=None if max_drop is None else parse_share(max_drop, "--max-drop"),
        confidence=parse_share(confidence, "--confidence"),
        fail_above=None if fail_above is None else parse_size(fail_above),
        fail_drop=None if fail_drop is None else parse_share(fail_drop, "--fail-drop"),
    )
    images = image_options(mean, std, layout)
    models, outputs = _files(paths, out_dir, dry_run=dry_run)
    if dry_run:
        show_plans(models, settings, as_json=as_json)
        return
    if out_dir is not None:
        from . import batch

        if report_paths:
            raise UsageError("--report is for a single model: with --out-dir use cerwu-onnx report")
        outcomes = batch.compress_all(
            models, outputs, batch.forwarded(context), force=force, jobs=jobs, cluster=cluster
        )
        batch.show(outcomes, as_json=as_json, quiet=quiet)
        raise typer.Exit(max(outcome.exit_code for outcome in outcomes))
    model, output = models[0], outputs[0]
    if report_paths:
        from cerwu_onnx import report_files

        report_files.check_paths(report_paths, overwrite=force, sources=[model, output])
    with console.progress(enabled=not quiet) as progress:
        from cerwu_onnx.compression.pipeline import compress as run

        report = run(
            model,
            output,
            calib=of_model(model, calib),
            settings=settings,
            target=replace(target, metric_data=of_model(model, metric_data)),
            images=images,
            cache=cache,
            jobs=jobs,
            cluster=cluster,
            resume=resume,
            force=force,
            progress=progress,
        )
    if report_paths:
        report_files.write(report_files.page_of(report, output), report_paths, overwrite=force)
    if as_json:
        console.show_json(report.to_dict() | {"output": str(output)})
    elif not quiet:
        from .render import draw_report

        console.show(lambda width: draw_report(report, model, output, width))
    if report.missed:
        raise CheckFailed("; ".join(report.missed))


def settings_of(context: typer.Context) -> Settings:
    """The settings of a command line, all but lambda.

    Raises:
        UsageError: a value is out of range, or stands in a file that may not say it.
    """
    refuse_unnamed(context)
    chosen = context.params
    return Settings(
        **{name: chosen[name] for name in _PLAIN},
        memory=parse_size(chosen["memory"]),
        rules=(*rules(context), *(LayerRule(glob, skip=True, where="--skip") for glob in chosen["skip"] or ())),
    )


def target_of(context: typer.Context) -> Target:
    """The metric of a command line, without anything that it is to reach."""
    return Target(**{name: context.params[name] for name in ("metric", "metric_data", "metric_labels")})


def _files(paths: list[Path], out_dir: Path | None, *, dry_run: bool) -> tuple[list[Path], list[Path]]:
    """The models and the files to write, which a dry run need not name.

    Raises:
        UsageError: the arguments do not say which is which.
    """
    if out_dir is not None:
        from . import batch

        return paths, [] if dry_run else batch.outputs(paths, out_dir)
    if len(paths) != 2 and not (dry_run and len(paths) == 1):
        from .text import counted

        raise UsageError(
            f"{counted(len(paths), 'path')} given, where two belong: IN.onnx OUT.cwb (or models and --out-dir FOLDER)"
        )
    return paths[:1], paths[1:]


def of_model(model: Path, spec: str | None) -> str | None:
    """Where the data of a model is."""
    return None if spec is None else spec.replace("{stem}", model.stem)
