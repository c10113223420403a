"""Write docs/cli.md from the options of the command line: ``python -m tests.gen_cli_docs``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import typer.main

from cerwu_onnx.cli import app as program
from cerwu_onnx.report import LayerReport, ParameterReport, Point, Scores
from cerwu_onnx.types import Kept

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"

_HEAD = """# Command line

<!-- Written by `python -m tests.gen_cli_docs`; edit the help texts in cli/ instead. -->

"""

_TAIL = """## Targets and limits

`--target-size`, `--target-bpw` and `--max-drop` search for lambda: statistics are collected once, then whole files
are made at one lambda after the other. One target at most, in place of `--lambda`; `rtn` and `optq` have no lambda.
The other settings stay as they are, of the papers' methods `--levels` too.

* **Size.** The largest file found that is not above the target, within 1 % below it if lambda can tell that finely.
  If all are larger, nothing is written, the smallest size found is named, and the exit code is 1. Where there is more
  room than the model needs, the search ends at a loss of less than 1e-5 at the outputs, with a warning.
* **Accuracy.** `--max-drop 1%` allows 1 % of the float model's score to be lost. lambda is doubled, halved and
  bisected until a file that is 3 % smaller loses too much; then smaller ones are tried, at lambdas that grow by a
  fifth, until three in a row lose too much, because scores scatter. The smallest file found that holds is written; the
  table and `search` show every one that was tried. If none holds, the one with the best score is written, and the exit
  code is 1.
* **Margin.** What a few samples show may be luck. Of `top1` and `agreement`, which know what is right of each sample, a
  file holds if no more is lost with `--confidence` (90 %, one-sided: a paired normal bound from the samples on which
  the two models differ); `low` is the score that is sure. Too few samples to show it of any file are an error.
  `auc`, `error` and functions of your own are one number: they have no margin, nor has `--fail-drop`.
* **Limits** apply whether there is a search or not. Above `--fail-above` nothing is written. With `--fail-drop` the
  file is written, so that it can be looked at. In both cases the exit code is 1.

The smallest of several files that hold is also the luckiest, which the margin does not cover: give as many samples as
there are, not those of `--calib`, and confirm the result on others.

| `--metric` | labels | what |
|---|---|---|
| `top1` | classes | share of rows whose largest output is the labelled class |
| `agreement` | none | share of rows whose largest output is that of the float model |
| `auc` | 0 and 1 | area under the ROC curve, of a single output or the last of two |
| `error` | none | 1 - relative root-mean-square error against the float model, over all floating-point outputs |
| `file.py:function`, `module:function` | | of the path of an ONNX file; returns a number, higher is better |

The first three read the last axis of the first output of floating-point numbers. `--metric-data` is a `.npz` with one
array per input and one of labels (`labels`, or `--metric-labels`), samples along the first axis. A function brings
its own data. A label that is no class of the model is an error, but for negative ones: such rows are never right. An
exception in a function, or NaN, ends the run with exit code 3. Of files without a graph (`--weights-only`),
the model with the same weights is scored.

## Configuration files and single layers

Options of `compress` may stand in a file: `cerwu.toml`, or the table `[tool.cerwu-onnx]` of `pyproject.toml`, in the
working directory, or what `--config` names instead. Keys are the long options without dashes (not those that say what
one run does: `config`, `skip`, `report`, `dry-run`, `out-dir`, `jobs`, `cluster`, `force`, `json`, `quiet`, `verbose`),
sizes and percentages strings or numbers. `sweep` reads the same files, and passes over lambda, targets and limits. The
command line counts more; paths are relative to the working directory. An unknown key, a wrong type or a glob that
matches nothing is an error.

A file of the working directory may have come with a clone. So it may say data: numbers, names of methods, globs, and
calibration or metric data below this folder. Functions (`calib`, `metric`, `metric-data`), data elsewhere and a `cache`
count only in a file that you name with `--config`, or on the command line; else one line says so (exit code 2).

```toml
lambda = 0.1
calib = "data/calib.npz"
weights-only = true

[layers]                                # globs over the names that inspect shows; the last that matches counts
"embed*" = { skip = true }              # stays exactly as it is
"head.weight" = { price = 0.5 }         # its bits cost half as much: its errors count twice
"conv*.weight" = { bits = 8 }           # symbols of -127 to 127: what an int8 kernel reads
```

`skip` (on the command line `--skip GLOB`) keeps weights, biases and normalisation parameters bit for bit;
BatchNormalization is not folded into them, and of a weight's BatchNormalization all parameters stay exact if one is
skipped. A price is a factor on lambda for one weight. `bits`, 2 to 12, bound its symbols, sign included: 4 leave -7 to
7. Where lambda asks for more of them, the step grows, and one uniform grid takes the trellis' place; the default, 12,
is what the format holds. In the file symbols are entropy-coded in any case: to make a layer smaller, raise its price.
`price` and `bits` may stand together. `--dry-run` shows the plan.

## The cache

`--cache FOLDER` keeps what takes long: statistics, sensitivities, and the quantised model of each lambda tried. A run
with the same model, data and settings that matter finds them again and writes the same file; another lambda or target
saves the first measurements. Entries are named by all that they depend on (contents, not paths; the package's code,
versions and number of threads as well), so an old one is never wrong, and runs may share a folder. What is damaged is
computed again, with a warning. There is no cache unless one is asked for (`cache = "..."` in a file that
`--config` names asks always): it takes some bytes for each weight and lambda tried, and nothing but you deletes it.

Layers quantised by `trellis` are entries of their own, kept as they are done, so a run that was killed goes on where
it was: what is missing is quantised, on the activations of the layers before it, and the file is the same. `--resume`
does that without a cache that stays: entries stand in the folder `OUT.cwb.resume`, which is removed once the file is
written. Give it to the first run and to the one that goes on; `-v` says how many layers were found. With `--cache` it
changes nothing. Of the papers' methods it keeps the statistics, without calibration data nothing.

Entries are believed, so only you may write there: a folder that belongs to another user, or that others may write to,
is refused (`chmod go-w FOLDER`). A folder that the tool makes is yours alone.

## Many models

```sh
cerwu-onnx compress models/*.onnx --out-dir small -j 4 --calib 'data/{stem}.npz'
```

Each model becomes `small/NAME.cwb` by a run of its own: same options, one process, one thread, so that the files
depend neither on `-j` nor on each other; the largest model begins. `{stem}` in `--calib` and `--metric-data` stands for
the model's name without suffix. The failure of one stops no other; the exit code is the largest, and a table shows all.
`--json` is one object: `schema`, and `models` with `model`, `output`, `exit_code`, `messages` (its lines on stderr) and
`report` (as below, or `null`).

## Many lambdas

```sh
cerwu-onnx sweep model.onnx --out-dir curve --lambda 0.02 --lambda 0.1 --lambda 0.5 --calib calib.npz
```

One file for each lambda, `curve/model-0.1.cwb` and so on, and a table of their sizes, losses and, with `--metric`,
scores. What no lambda changes is measured once; the rest runs side by side, `-j` at a time. `--json` is one object:
`schema`, and `files`, each as `compress --json` below.

## Threads and clusters

Of a single model, `-j` says how many layers are quantised at a time, where they do not depend on each other: without
data, and by the papers' methods. Each takes one thread; as many run side by side as `--memory` has room for. `--cluster
dask://HOST:PORT` or `ray://HOST:PORT` gives layers, models or lambdas to the workers of a cluster, and the files are
the same to the byte: [scaling.md](scaling.md). Everywhere else onnxruntime and the products of matrices of 1024 columns
or more take all cores; `OMP_NUM_THREADS` says otherwise.

## What goes where

Tables and JSON go to stdout, everything else to stderr. Warnings are single lines that begin with `warning:`. A run
that fails says why in one line, `error: ...`, and leaves no output file (but see `--max-drop` and `--fail-drop`); an
existing file is replaced only with `-f`, and only when the new one is complete. Progress is drawn only when stderr is a
terminal. Tables fit into the terminal, or into 80 columns where there is none (set `COLUMNS` for another width):
names too long for that are cut in the middle, and where more than that is missing, columns at the right are left out.
`NO_COLOR` is honoured.

Names, numbers and reasons are complete in `--json`, which prints exactly one object. NaN and infinity become `null`.

| `compress --json` | |
|---|---|
| `schema` | version of this layout; grows when a key changes its meaning |
| `output` | path of the .cwb file |
| `model_bytes`, `file_bytes` | sizes of the ONNX file and of the .cwb file |
| `weights`, `weight_bytes`, `bits_per_weight` | of all quantised weights; bytes include tables and steps |
| `other_bytes` | the rest: exact tensors, float parameters, graph (with names), metadata, directory (with header) |
| `layers` | the quantised weights: LAYER_KEYS |
| `parameters` | the biases and BatchNormalization parameters that are coded: PARAMETER_KEYS |
| `kept` | the exact tensors: KEPT_KEYS |
| `method`, `lambda`, `levels` | the settings; `levels` is `null` for trellis, whose steps follow from lambda |
| `calibration`, `calibration_samples` | `"data"` or `"none"`, and how many samples |
| `output_loss` | trellis: KL divergence (nats) or relative squared error at the model's outputs; else `null` |
| `folded` | the BatchNormalization nodes folded |
| `search` | with a target, the files tried in that order: POINT_KEYS; scores that are not known are `null` |
| `scores` | with a metric: SCORE_KEYS; `drop`, the share that is lost, and with a margin `largest_drop`; or `null` |
| `missed` | a sentence about each `--max-drop` or `--fail-drop` that does not hold |
| `warnings`, `seconds` | every warning; wall time by stage |

`relative_error` of a layer is squared error over energy; the table shows its root, which is how `verify` measures the
error of an output. `output_loss` of a layer is what its error alone would cost at the model's outputs, its sensitivity
times its distortion, and `loss_share` its part of the sum: `null` where it was not measured. `above_bound` is
`bits_per_weight` minus the Gaussian rate-distortion function of the weights at that error; `null` for weights
reproduced without error.
"""


def _keys(kind: type) -> str:
    """The fields of a dataclass, as code."""
    return ", ".join(f"`{field.name.rstrip('_')}`" for field in fields(kind))


def page() -> str:
    """The whole page."""
    group: Any = typer.main.get_command(program.app)
    parts = [_HEAD, _text(group.help), "\n", _options(group)]
    for name, command in group.commands.items():
        arguments = "".join(
            f" [{p.metavar}]..." if p.nargs < 0 else f" {p.metavar}"
            for p in command.params
            if p.param_type_name == "argument"
        )
        parts += [
            f"## {program.NAME} {name}\n\n{_text(command.help)}\n",
            f"```sh\n{program.NAME} {name}{arguments} [options]\n",
            f"{command.epilog.split('Example:')[1].strip().replace(program.CONTINUED, ' ')}   # for example\n```\n\n",
            _options(command, group.commands["compress"] if name == "sweep" else None),
        ]
    parts += ["## Exit codes\n\n| code | meaning |\n|---|---|\n"]
    parts += [
        f"| {code} | {meaning.replace('|', '&#124;')} |\n" for code, meaning in sorted(program.EXIT_CODES.items())
    ]
    tail = _TAIL
    for word, kind in (
        ("LAYER_KEYS", LayerReport),
        ("PARAMETER_KEYS", ParameterReport),
        ("KEPT_KEYS", Kept),
        ("POINT_KEYS", Point),
        ("SCORE_KEYS", Scores),
    ):
        tail = tail.replace(word, _keys(kind))
    return "".join([*parts, "\n", tail])


def _text(help_text: str) -> str:
    """Paragraphs, each on one line."""
    return "\n\n".join(" ".join(part.split()) for part in help_text.split("\n\n")) + "\n"


def _options(command: Any, other: Any = None) -> str:
    """The table of a command's options but those of another one; ``--help`` goes without saying."""
    known = set() if other is None else {(option.name, option.help) for option in other.params}
    rows = []
    for option in command.params:
        if option.param_type_name == "argument" or "--help" in option.opts or (option.name, option.help) in known:
            continue
        names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len, reverse=True) + option.secondary_opts)
        value = f" {option.metavar}".replace("|", "\\|") if option.metavar else ""
        rows.append(f"| {names}{value} | {_default(option)} | {option.help} |\n")
    return "".join(["| option | default | |\n|---|---|---|\n", *rows, "\n"]) if rows else ""


def _default(option: Any) -> str:
    """The default as one would type it, or as ``--help`` words it; nothing for switches and options that are off."""
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag or option.default is None:
        return ""
    return f"`{option.default:g}`" if isinstance(option.default, float) else f"`{option.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
