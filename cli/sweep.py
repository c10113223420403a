"""The command ``cerwu-onnx sweep``: compress one model at many lambdas."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import compress, console
from .options import image_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cerwu_onnx.compression.sweep import Swept

EXAMPLE = "cerwu-onnx sweep model.onnx --out-dir curve --calib calib.npz --lambda 0.02 --lambda 0.1 --lambda 0.5"

SCHEMA = 1
"""Version of the JSON layout; it grows when a key changes its meaning."""

SINGLE = (
    "paths",
    "lambda_",
    "target_size",
    "target_bpw",
    "fidelity",
    "max_drop",
    "confidence",
    "fail_above",
    "fail_drop",
    "dry_run",
    "out_dir",
    "report_paths",
    "resume",
)
"""Parameters of ``compress`` that a sweep lacks, or has in another form."""


def sweep(context: typer.Context, **_: Any) -> None:
    """Compress an ONNX model at several lambdas.

    Writes NAME-LAMBDA.cwb files into a folder. What does not depend on lambda is measured once. Each file is the one
    that compress writes at that lambda with one thread (OMP_NUM_THREADS=1). The other options are those of compress,
    without targets, limits, --report, --resume and --dry-run.
    """
    from cerwu_onnx.compression.sweep import sweep as run

    chosen = context.params
    model, target = Path(chosen["model"]), compress.target_of(context)
    with console.progress(enabled=not chosen["quiet"]) as progress:
        done = run(
            model,
            chosen["out_dir"],
            chosen["lambdas"],
            calib=compress.of_model(model, chosen["calib"]),
            settings=compress.settings_of(context),
            target=replace(target, metric_data=compress.of_model(model, chosen["metric_data"])),
            images=image_options(chosen["mean"], chosen["std"], chosen["layout"]),
            cache=chosen["cache"],
            jobs=chosen["jobs"],
            cluster=chosen["cluster"],
            force=chosen["force"],
            progress=progress,
        )
    if chosen["as_json"]:
        files = [file.report.to_dict() | {"output": str(file.path)} for file in done]
        console.show_json({"schema": SCHEMA, "files": files})
    elif not chosen["quiet"]:
        console.show(lambda width: _table(done, width))


def _table(done: list[Swept], width: int) -> RenderableType:
    from .tables import Column, grid

    columns = [
        Column("file", flexible=True),
        Column("lambda", right=True),
        Column("bytes", right=True),
        Column("bits/\nweight", right=True),
        Column("output\nloss", right=True),
        Column("score", right=True),
    ]
    rows = []
    for file in done:
        report = file.report
        loss = "" if report.output_loss is None else f"{report.output_loss:.3g}"
        score = "" if report.scores is None else f"{report.scores.score:.6g}"
        numbers = (f"{report.lambda_:g}", f"{report.file_bytes:,}", f"{report.bits_per_weight:.3f}")
        rows.append((file.path.name, *numbers, loss, score))
    first = done[0].report
    score = "" if first.scores is None else f"{first.scores.float_score:.6g}"
    total = ("float model", "", f"{first.model_bytes:,}", "", "", score)
    return grid(columns, {"": rows}, width, total=total)


def _parameters() -> Iterator[inspect.Parameter]:
    """A sweep's own parameters, then those of ``compress`` but :data:`SINGLE`, with another help for ``jobs``."""
    shared = inspect.signature(compress.compress, eval_str=True).parameters
    own = {
        "model": Annotated[Path, typer.Argument(metavar="IN.onnx", show_default=False, help="The trained model.")],
        "out_dir": Annotated[
            Path,
            typer.Option(metavar="FOLDER", show_default=False, help="Folder for the files; made if it does not exist."),
        ],
        "lambdas": Annotated[
            list[float],
            typer.Option(
                "--lambda",
                metavar="NUMBER",
                show_default=False,
                help="Price of rate, once for each file: a larger one makes it smaller and less accurate.",
            ),
        ],
    }
    jobs = copy(shared["jobs"].annotation.__metadata__[0])
    jobs.help = "How many lambdas at a time, each with a process and a thread of its own."
    reworded: dict[str, Any] = {"jobs": Annotated[int | None, jobs]}
    kind = inspect.Parameter.KEYWORD_ONLY
    yield shared["context"]
    for name, annotation in own.items():
        yield inspect.Parameter(name, kind, annotation=annotation)
    for name, parameter in shared.items():
        if name not in (*SINGLE, "context"):
            yield parameter.replace(kind=kind, annotation=reworded.get(name, parameter.annotation))


sweep.__signature__ = inspect.Signature(list(_parameters()))  # type: ignore[attr-defined]
