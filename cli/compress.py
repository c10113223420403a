"""The command ``cerwu-onnx compress``: its options, and the settings and targets made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cerwu_onnx.config import ABOUT, EFFORTS, FIDELITY, METHODS, METRICS, WEIGHT_LAYOUTS, LayerRule, Settings, Target
from cerwu_onnx.errors import CheckFailed, UsageError
from cerwu_onnx.jobs.files import output_folder

from . import console
from .config_file import aims, read_config, refuse_unnamed, rules
from .inspect import show_plans
from .options import (
    AIMLESS,
    AsJson,
    Force,
    Layout,
    Mean,
    MetricLabels,
    Quiet,
    Std,
    Verbose,
    image_options,
    parse_pair,
    parse_share,
    parse_size,
)
from .paged import HelpAll

EXAMPLE = "cerwu-onnx compress model.onnx model.cwb --calib calib.npz"

_DEFAULT = Settings()

_PLAIN = (
    "method",
    "effort",
    "output_loss",
    "levels",
    "damping",
    "passes",
    "coder",
    "max_decode_cost",
    "weights_only",
    "weight_layout",
    "in_place",
    "fold_bn",
    "requantize",
    "float_params",
    "batch_size",
    "strict",
)
"""Options that are fields of the settings, under the same names."""


def compress(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN.onnx OUT.cwb",
            show_default=False,
            help="The trained model, or arrays (.npz, .safetensors), and the file to write; with --out-dir, any number "
            "of models.",
        ),
    ],
    calib: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Calibration data: a .npz with one array per input, a folder of .npz, .npy or images, "
            "module:function or file.py:function that yields feeds. Without data, accuracy suffers. {stem} stands for "
            "the model's name without suffix.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="BASE.cwb",
            show_default=False,
            help="Write a delta, which needs this .cwb of an earlier state of the model: docs/deltas.md. {stem} as "
            "above.",
        ),
    ] = None,
    lambda_: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            metavar="NUMBER",
            show_default=f"found by --fidelity; {_DEFAULT.price:g} without --calib, "
            f"{Settings(method='cerwu').price:g} for the papers' methods",
            help="Instead of --fidelity, the price of rate: a larger one makes the file smaller and the model less "
            "accurate.",
        ),
    ] = _DEFAULT.lambda_,
    fidelity: Annotated[
        str | None,
        typer.Option(
            metavar="P%",
            show_default=f"{FIDELITY:.0%}",
            help="The smallest file that is expected to keep this much of the float model's score on fresh data, or "
            "of the variance of outputs that are numbers; judged on calibration samples that quantising did not see. "
            "For arrays, the share of its energy that each keeps (99.9%).",
        ),
    ] = None,
    target_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Instead of --fidelity: the largest file found of at most this size (for example 64KiB).",
        ),
    ] = None,
    target_bpw: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Instead of --fidelity: the most bits per weight, on average over all quantised weights.",
        ),
    ] = AIMLESS.bits_per_weight,
    max_drop: Annotated[
        str | None,
        typer.Option(
            metavar="P%",
            help="Instead of --fidelity: the smallest file found that loses at most this much of the float --metric.",
        ),
    ] = None,
    confidence: Annotated[
        str,
        typer.Option(
            metavar="P%",
            help="Confidence that --max-drop holds on other samples, for top1 and agreement; 50% leaves no margin.",
        ),
    ] = f"{AIMLESS.confidence:.0%}",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help=f"How to measure accuracy (higher is better): {', '.join(METRICS)}, or file.py:function or "
            "module:function, which gets the path of an ONNX file.",
        ),
    ] = None,
    metric_data: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Data for the built-in metrics: a .npz with the model's inputs and labels; for agreement and error, "
            "anything that --calib takes.",
        ),
    ] = None,
    metric_labels: MetricLabels = AIMLESS.metric_labels,
    fail_above: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Exit with 1 and write nothing if the file would be larger than this."),
    ] = None,
    fail_drop: Annotated[
        str | None,
        typer.Option(metavar="P%", help="Write the file, but exit with 1 if it loses more than this of --metric."),
    ] = None,
    effort: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"For trellis: {', '.join(EFFORTS)}; more time makes smaller files. fast takes "
            f"{EFFORTS['fast'].samples} calibration samples and measures less; max measures sensitivities once more, "
            "and moves what layers aim at by gradients of the loss at the outputs.",
        ),
    ] = _DEFAULT.effort,
    output_loss: Annotated[
        str,
        typer.Option(
            metavar="KIND|NAME=KIND,...",
            help="For trellis, what the model's outputs are: auto (told by their values), kl (classes), binary "
            "(independent probabilities), mse (numbers), cosine (directions); NAME=KIND for single outputs.",
        ),
    ] = _DEFAULT.output_loss,
    levels: Annotated[
        int,
        typer.Option(metavar="N", help="For the papers' methods: the step of a layer is its largest weight / (N/2)."),
    ] = _DEFAULT.levels,
    method: Annotated[
        str, typer.Option(metavar="NAME", help=f"How to quantise: {', '.join(METHODS)}.")
    ] = _DEFAULT.method,
    damping: Annotated[
        float, typer.Option(metavar="NUMBER", help="Damping of the Hessian, where trellis cannot cross-validate it.")
    ] = _DEFAULT.damping,
    passes: Annotated[
        int, typer.Option(metavar="N", help="How often to estimate the code lengths again.")
    ] = _DEFAULT.passes,
    coder: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Entropy coder: ans decodes faster, adaptive is smaller, auto takes the smaller of both.",
        ),
    ] = _DEFAULT.coder,
    max_decode_cost: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            show_default=False,
            help="For firmware: code each tensor as small as decoding it with at most N instructions per weight on a "
            "Cortex-M4 allows.",
        ),
    ] = _DEFAULT.max_decode_cost,
    weights_only: Annotated[
        bool,
        typer.Option(
            "--weights-only", help="For firmware: leave out the graph, and keep names that the C decoder can search."
        ),
    ] = _DEFAULT.weights_only,
    weight_layout: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"Order of the stored weights, {' or '.join(WEIGHT_LAYOUTS)}: cmsis is the order that the kernels of "
            "CMSIS-NN read, channels last.",
        ),
    ] = _DEFAULT.weight_layout,
    about: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=TEXT",
            help=f"What the file says about its model: {', '.join(ABOUT)}, or a key of your own with a dot; may be "
            "given several times.",
        ),
    ] = None,
    in_place: Annotated[
        bool,
        typer.Option("--in-place", help="Store how much memory it takes to decode each tensor over its own payload."),
    ] = _DEFAULT.in_place,
    fold_bn: Annotated[
        bool | None,
        typer.Option(
            "--fold-bn/--no-fold-bn",
            show_default="if the method is trellis",
            help="First fold each BatchNormalization into the layer before it.",
        ),
    ] = _DEFAULT.fold_bn,
    requantize: Annotated[
        bool,
        typer.Option(
            "--requantize",
            help="Quantise integer weights behind DequantizeLinear again; else they are kept without loss.",
        ),
    ] = _DEFAULT.requantize,
    float_params: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Biases and BatchNormalization: auto codes them where the error is negligible; exact keeps them.",
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
            help="Bound on the memory for calibration. Hessians that are too large are kept in blocks of columns.",
        ),
    ] = f"{_DEFAULT.memory >> 30}GiB",
    skip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            show_default=False,
            help="Tensors with such names stay exactly as they are; may be given several times.",
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
            help="Keep measurements in this folder, for other runs with the same model and data.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where an earlier run stopped: layers are kept in OUT.cwb.resume until the file is written.",
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
            help="Compress any number of models into this folder, each with a process and a thread of its own.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            show_default="OMP_NUM_THREADS or all cores",
            help="How many models at a time (with --out-dir), layers that do not depend on each other, or shares of "
            "the samples and files of a search: the same bytes for any number.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="dask://HOST:PORT|ray://HOST:PORT",
            show_default=False,
            help="Let the workers of a cluster do this work instead: docs/scaling.md.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 and write nothing if there is a warning.")
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
            help="Write a report in the format of the suffix; may be given several times.",
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    help_all: HelpAll = False,
) -> None:
    """Compress an ONNX model into a .cwb file.

    Prints the result for each layer. Long names are cut in the middle; --json has them whole.
    """
    aim = aims(
        context,
        {
            "lambda_": lambda_,
            "fidelity": fidelity,
            "target_size": target_size,
            "target_bpw": target_bpw,
            "max_drop": max_drop,
        },
    )
    lambda_, fidelity, target_size, target_bpw, max_drop = aim.values()
    settings = replace(settings_of(context), lambda_=lambda_)
    target = replace(
        target_of(context),
        fidelity=None if fidelity is None else parse_share(fidelity, "--fidelity"),
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
        with output_folder(out_dir):
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
            base=of_model(model, base),
            cache=cache,
            jobs=jobs,
            cluster=cluster,
            resume=resume,
            force=force,
            progress=progress,
        )
    if report_paths:
        page = report_files.page_of(report, model, output, of_model(model, base))
        report_files.write(page, report_paths, overwrite=force)
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
        about=dict(parse_pair(text, "--about") for text in chosen["about"] or ()),
    )


def target_of(context: typer.Context) -> Target:
    """The metric of a command line, without targets and limits."""
    return Target(**{name: context.params[name] for name in ("metric", "metric_data", "metric_labels")})


def _files(paths: list[Path], out_dir: Path | None, *, dry_run: bool) -> tuple[list[Path], list[Path]]:
    """The models and the files to write; a dry run needs no files.

    Raises:
        UsageError: the arguments do not tell which are models and which is the file.
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
    """The data of a model: ``{stem}`` is replaced by its name without suffix."""
    return None if spec is None else spec.replace("{stem}", model.stem)
